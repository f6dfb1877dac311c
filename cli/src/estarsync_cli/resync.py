"""`estarsync resync`: replay what the topics hold."""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from estarsync_cli.asking import Yes, agree
from estarsync_cli.backfill import Wait
from estarsync_cli.ids import new_id
from estarsync_cli.moments import Since, Until, duration
from estarsync_cli.output import Json, console, masked, notice, print_json
from estarsync_cli.preview import Preview, Settings, preview
from estarsync_cli.requests import submit
from estarsync_core.control import Resync, Words
from estarsync_core.dotdigital.compare import value_at
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.keys import canonical_email
from estarsync_core.topics import raw_topic, typed_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words
from estarsync_runtime.kafka.extent import Extents
from estarsync_runtime.reconcile import Difference
from estarsync_runtime.settings import KafkaSettings, load

_MAPPED_A_SECOND = (2_000, 10_000)  # by one transformer: ADR 0009, and what is left of it on a small machine
_CALLS_A_MINUTE = 35  # Dotdigital's smallest package
_CALLS_AN_IMPORT = 3  # the PUT, its status, its report
Source = Literal["raw", "typed"]


def resync(
    *,
    entity: Annotated[Entity, typer.Option(help="What to replay.")],
    source: Annotated[
        Source,
        typer.Option("--from", help="raw: the shop's events, mapped again; typed: the payloads as they are."),
    ] = "typed",
    since: Since = None,
    until: Until = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Only this e-mail, sku or root order id; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the topic holds.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Send also what Dotdigital is known to hold already.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Read Dotdigital back, say what would change, and change nothing."),
    ] = False,
    show_values: Annotated[
        bool,
        typer.Option(
            "--show-values", help="With --dry-run: also e-mails and values, which are personal data."
        ),
    ] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Replay the latest events (--from raw) or payloads (--from typed) of an entity, by publish time or key.

    Nothing older ever replaces something newer. Ctrl-C leaves it running; `estarsync requests` stops and resumes it.
    Exit code 1 where it was stopped or refused.
    """
    now = SystemClock().now()
    keys = _keys(entity, key or [])
    _check(now, since, until, keys, everything=everything)
    request = Resync(new_id(f"resync-{entity}", now), entity, source, now, keys, since, until, force)
    settings = load(KafkaSettings)
    topic = raw_topic(entity) if source == "raw" else typed_topic(entity)
    if source == "raw":
        _refuse_a_late_clock(read_words(settings), request)
    with closing(Extents(settings, [topic])) as extents:
        _refuse_what_is_lost(topic, extents.lost_until(topic, now), request)
        records = extents.records(topic, since, until)
    if dry_run:
        _dry_run(request, show_values=show_values, as_json=as_json)
        return
    agree(_plan(request, records), yes=yes)
    submit(settings, [request], as_json=as_json, wait=wait)


def _check(
    now: datetime,
    since: datetime | None,
    until: datetime | None,
    keys: Sequence[str] | None,
    *,
    everything: bool,
) -> None:
    problems = []
    if everything == (since is not None or until is not None or keys is not None):
        problems.append("say which records: --since, --until or --key; or --all for everything, alone")
    if since is not None and since > now:
        problems.append(f"--since {since.isoformat()} is in the future")
    if since is not None and until is not None and until <= since:
        problems.append("--until must come after --since")
    if problems:
        raise ConfigurationError(problems)


def _keys(entity: Entity, keys: Sequence[str]) -> tuple[str, ...] | None:
    if not keys:
        return None
    if entity is not Entity.CONTACTS:
        return tuple(dict.fromkeys(keys))
    try:
        return tuple(dict.fromkeys(canonical_email(each) for each in keys))
    except InvalidRecord as error:
        raise ConfigurationError(["--key of a contact is its e-mail; one of them is none"]) from error


def _refuse_what_is_lost(topic: str, lost: datetime | None, request: Resync) -> None:
    if lost is None or request.keys is not None or (request.since is not None and request.since >= lost):
        return
    since = "" if request.since is None else f" --since {request.since.isoformat()}"
    problem = (
        f"{topic} does not hold everything from before {lost.isoformat(timespec='seconds')} any more: read it from"
        f" the shop with `estarsync backfill --entity {request.entity}{since or ' --all'}`, or give a later --since"
    )
    raise ConfigurationError([problem])


def _refuse_a_late_clock(words: Words, request: Resync) -> None:
    """What is mapped again counts as newer by the time at which that was asked for."""
    for each in words.all("resync/", Resync).values():
        if (each.source, each.entity) == ("raw", request.entity) and each.at >= request.at:
            problem = (
                f"{each.id} was asked for at {each.at.isoformat(timespec='seconds')}, which is later than now by this"
                " machine's clock: what this resync maps would count as older. Set the clock and ask again"
            )
            raise ConfigurationError([problem])


def _plan(request: Resync, records: int) -> list[str]:
    many = f"{len(request.keys):,} keys" if request.keys is not None else f"up to {records:,} records"
    if request.source == "typed":
        sent = (
            "all of them are sent"
            if request.force
            else "what Dotdigital is known to hold already is not sent"
        )
        return [
            f"The loader will take {many} of {request.entity} as waiting again, in the bulk lane; {sent}.",
            "Live records overtake them, and no older value replaces a newer one.",
        ]
    slow, fast = _MAPPED_A_SECOND
    waits = f"{duration(records / fast)} to {duration(records / slow)}"
    return [
        f"The transformer will read {many} of {request.entity} again and map them by its present profile.",
        "All of them are sent."
        if request.force
        else "What comes out as Dotdigital is known to hold it is not sent; --force sends that as well.",
        f"Meanwhile its live events of {request.entity} wait: about {waits} with one transformer.",
    ]


def _dry_run(request: Resync, *, show_values: bool, as_json: bool) -> None:
    notice(f"reading Dotdigital's {request.entity} back; nothing is changed …")
    found = preview(load(Settings), request)
    if as_json:
        samples = [_sample(each, show_values=show_values) for each in found.comparison.samples]
        print_json({"dry_run": True, **found.document(force=request.force), "samples": samples})
        return
    _show(found, request, show_values=show_values)


def _show(found: Preview, request: Resync, *, show_values: bool) -> None:
    out = console()
    same = found.comparison
    out.print(f"{found.selected:,} records of {request.entity} are selected. Dotdigital would see:")
    out.print(f"  created    {same.missing:>12,}")
    out.print(f"  changed    {same.different:>12,}")
    out.print(f"  unchanged  {same.agree:>12,}")
    out.print(f"  rejected   {found.rejected.total():>12,}")
    for reason, count in found.rejected.most_common():
        out.print(f"             {count:>12,}  {reason}", markup=False)
    for each in same.samples:
        sample = _sample(each, show_values=show_values)
        fields = sample.get("changes") or sample["fields"]
        out.print(f"  {sample['key']}: {sample['kind']} {fields or ''}", markup=False, soft_wrap=True)
    fewest, most = found.imports(force=request.force)
    minutes = most * _CALLS_AN_IMPORT / _CALLS_A_MINUTE
    out.print(
        f"{found.sent(force=request.force):,} records would be sent, in {fewest} to {most} imports: at"
        f" {_CALLS_A_MINUTE} calls a minute at most {duration(60 * minutes)}, and Dotdigital's own time for them.",
        soft_wrap=True,
    )


def _sample(each: Difference, *, show_values: bool) -> dict[str, Any]:
    kind = {"missing": "created", "different": "changed"}[each.kind]
    sample: dict[str, Any] = {
        "key": each.key if show_values else masked(each.key),
        "kind": kind,
        "fields": each.fields,
    }
    if show_values and each.fields:
        sample["changes"] = {
            name: {"is": value_at(each.actual, name), "would be": value_at(each.expected, name)}
            for name in each.fields
        }
    return sample
