"""The sandbox's own calls under `/sandbox/`: no credentials, no quota, no line in the ledger."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import httpx
import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.contacts import CONTACT_STATUSES
from sandbox.dotdigital.errors import reply
from sandbox.dotdigital.faults import FaultRequest
from sandbox.dotdigital.options import Options

PREFIX = "/sandbox/"
_KINDS = frozenset({"calls", "writes", "violations"})


class ContactSeed(BaseModel):
    """A contact as somebody at Dotdigital, or its owner, left it: `POST /sandbox/contacts` takes a list of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str
    email_status: str = "subscribed"
    opt_in_type: str = "Unknown"
    data_fields: dict[str, str | float | bool | None] = {}
    lists: Annotated[tuple[int, ...], Field(max_length=100)] = ()


def answer_control(account: Account, request: httpx.Request, now: float) -> httpx.Response | Options:
    """Answer one of the sandbox's own calls; options mean: begin anew with them."""
    name = f"{request.method} {request.url.path.removeprefix(PREFIX)}"
    try:
        if name == "POST reset":
            return _merged(account.options, request.content)
        if name not in _CALLS:
            return reply(
                404, {"error": f"there is no {name}; there are: {', '.join(sorted(_CALLS))}, POST reset"}
            )
        return _CALLS[name](account, request, now)
    except (ValidationError, ValueError, msgspec.DecodeError) as error:
        return reply(400, {"error": str(error)})


def _json(options: Options) -> httpx.Response:
    return reply(200, options.model_dump(mode="json", exclude={"password"}))


def _merged(options: Options, content: bytes) -> Options:
    """Options with some of them changed; a change inside `limits` leaves the other limits as they are."""
    changes = msgspec.json.decode(content, type=dict[str, Any]) if content else {}
    known = options.model_dump()
    if isinstance(changes.get("limits"), dict):
        changes["limits"] = {**known["limits"], **changes["limits"]}
    return Options.model_validate({**known, **changes})


def _get_options(account: Account, _: httpx.Request, __: float) -> httpx.Response:
    return _json(account.options)


def _post_options(account: Account, request: httpx.Request, _: float) -> httpx.Response:
    account.options = _merged(account.options, request.content)
    return _json(account.options)


def _post_faults(account: Account, request: httpx.Request, _: float) -> httpx.Response:
    asked = FaultRequest.model_validate_json(request.content)
    account.faults.ask(asked)
    if asked.clear:
        account.limits.other_client = {}
    if asked.other_client is not None:
        account.limits.other_client = dict(asked.other_client)
    return reply(200, {"waiting": account.faults.waiting()})


def _get_ledger(account: Account, request: httpx.Request, _: float) -> httpx.Response:
    query = request.url.params
    kind = query.get("kind", "calls")
    if kind not in _KINDS:
        raise ValueError(f"kind is one of {', '.join(sorted(_KINDS))}")
    limit = query.get("limit")
    lines = account.ledger.lines(kind, int(query.get("offset", "0")), None if limit is None else int(limit))
    content = b"".join(line + b"\n" for line in lines)
    return httpx.Response(200, headers={"Content-Type": "application/x-ndjson"}, content=content)


def _post_contacts(account: Account, request: httpx.Request, now: float) -> httpx.Response:
    given = msgspec.json.decode(request.content, type=list[Any])
    seeds = [ContactSeed.model_validate(one) for one in given]
    for seed in seeds:
        contact = account.contacts.find("email", seed.email)
        if contact is None:
            contact = account.contacts.new(now)
            account.contacts.identify(contact, {"email": seed.email})
        contact.email_status, contact.opt_in_type = seed.email_status, seed.opt_in_type
        contact.fields = {**contact.fields, **{name.upper(): one for name, one in seed.data_fields.items()}}
        account.lists.join(contact, [one for one in seed.lists if account.lists.find(one) is not None])
        contact.updated = now
    return reply(200, {"contacts": len(account.contacts)})


def _get_summary(account: Account, _: httpx.Request, __: float) -> httpx.Response:
    account.ledger.flush()
    return reply(200, summary(account))


def _get_state(account: Account, _: httpx.Request, __: float) -> httpx.Response:
    return reply(200, state(account))


_CALLS: Mapping[str, Callable[[Account, httpx.Request, float], httpx.Response]] = MappingProxyType(
    {
        "GET ledger": _get_ledger,
        "GET options": _get_options,
        "GET state": _get_state,
        "GET summary": _get_summary,
        "POST contacts": _post_contacts,
        "POST faults": _post_faults,
        "POST options": _post_options,
    }
)


def summary(account: Account) -> dict[str, Any]:
    """What happened so far, in numbers."""
    ledger, jobs = account.ledger, account.jobs
    return {
        "calls": {
            "total": sum(ledger.by_status.values()),
            "by_status": dict(ledger.by_status),
            "by_tier": dict(ledger.by_tier),
            "by_call": dict(ledger.by_call),
            "rejected": dict(account.limits.rejected),
        },
        "windows": account.limits.summary(account.options.limits),
        "jobs": {
            "accepted": dict(jobs.accepted),
            "ended": dict(jobs.ended),
            "open": {kind: count for kind in jobs.accepted if (count := jobs.open_count(kind))},
            "most_open": dict(jobs.most_open),
            "identical_resends": jobs.identical_resends,
        },
        "writes": dict(ledger.by_write),
        "last_write": ledger.last_write,
        "failures": dict(ledger.by_failure),
        "violations": dict(ledger.by_violation),
        "mails_to_shoppers": dict(account.mails),
        "faults_waiting": account.faults.waiting(),
    }


def state(account: Account) -> dict[str, Any]:
    """What the account holds, in numbers."""
    statuses: dict[str, int] = dict.fromkeys(sorted(CONTACT_STATUSES), 0)
    for contact in account.contacts:
        statuses[contact.status] += 1
    return {
        "contacts": len(account.contacts),
        "contact_statuses": {name: count for name, count in statuses.items() if count},
        "binned": len(account.contacts.binned),
        "data_fields": len(account.fields),
        "lists": [one.shown() for one in account.lists],
        "collections": [one.summary() for one in account.collections.values()],
    }
