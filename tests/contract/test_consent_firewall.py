"""The consent firewall: whatever comes in, and whatever Dotdigital answers, no request says a word on consent.

A channel status, an opt-in type or a resubscribe option could make Dotdigital mail somebody who left, or silence
somebody who did not. The shop's own word travels in the data field NEWSLETTER_SUBSCRIBE, and there it must arrive.
"""

import ast
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estarsync_core.dotdigital.fields import DATA_FIELDS, DataFieldType
from estarsync_core.entities import Entity, Lane, Reason
from sandbox.dotdigital.faults import FaultRequest

EXAMPLES = int(os.environ.get("FIREWALL_EXAMPLES", "12"))
ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "channelProperties", "status", "optInType", "resubscribeOptions", "resubscribeWithNoChallenge",
    "preferences", "consentRecords", "preferredLocale", "redirectUrlAfterChallenge",
}  # fmt: skip
CONTACT_WORDS = {
    "mergeOption", "contacts", "matchIdentifier", "identifiers", "email", "lists", "dataFields", *DATA_FIELDS,
}  # fmt: skip
SETTING_UP = {"name", "type", "visibility", "defaultValue"}
EMAILS = [f"{name}@shop.example" for name in ("aroha", "tama", "rua", "kiri")]
WORDS = st.sampled_from(
    [*sorted(FORBIDDEN), "subscribed", "unsubscribed", "verifiedDouble", '{"status":"x"}']
)
TEXTS = st.none() | WORDS | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
WANTS = st.sampled_from([True, False, None])
STRINGS = [
    name for name, kind in DATA_FIELDS.items() if kind is DataFieldType.STRING and name != "CUSTOMER_ID"
]

CONTACTS = st.fixed_dictionaries(
    {
        "email": st.sampled_from(EMAILS),
        "NEWSLETTER_SUBSCRIBE": WANTS,
        "CUSTOMER_ID": st.sampled_from(["7", "8", None]),
        "lane": st.sampled_from(Lane),
        "texts": st.dictionaries(st.sampled_from(STRINGS), TEXTS, max_size=3),
        "renamed_from": st.none() | st.sampled_from(EMAILS),
    }
)
ORDERS = st.tuples(st.sampled_from("ABC"), st.sampled_from([*EMAILS, "guest@shop.example"]), TEXTS)
TOMBSTONES = st.tuples(st.sampled_from(EMAILS), st.sampled_from(Reason))
FAULTS = st.sampled_from(
    [
        "http_500",
        "http_503",
        "drop_before",
        "drop_after",
        "import_failed",
        "import_vanishes",
        "import_report_omits",
    ]
)
STATUSES = st.tuples(st.sampled_from(EMAILS), st.sampled_from(["unsubscribed", "suppressed", "pendingOptIn"]))
EVENTS = st.one_of(
    st.tuples(st.just("contact"), CONTACTS),
    st.tuples(st.just("contact"), CONTACTS),
    st.tuples(st.just("order"), ORDERS),
    st.tuples(st.just("tombstone"), TOMBSTONES),
    st.tuples(st.just("fault"), FAULTS),
    st.tuples(st.just("status"), STATUSES),
    st.tuples(st.just("turn"), st.sampled_from([0.1, 2.0])),
    st.tuples(st.just("kill"), st.none()),
)


def keys_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from keys_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from keys_in(part)


def says_nothing_on_consent(rig) -> None:
    """Every request that was made, provisioning included."""
    for request in rig.requests:
        path = request.url.path
        assert set(request.url.params) <= {"select", "skip", "collectionScope", "collectionType"}, path
        keys = set(keys_in(msgspec.json.decode(request.content))) if request.content else set()
        if path.startswith("/contacts/"):
            assert keys <= CONTACT_WORDS, path
        elif path.startswith("/v2/"):
            assert keys <= SETTING_UP, path
        else:
            assert path.startswith("/insightData/"), path
            assert not keys & (FORBIDDEN - {"status"}), path  # a product's status is its own
    assert not rig.violations.keys() & {"consent_fields", "resubscribe_attempted"}


def play(rig, events: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """Let it happen; gives the channel statuses that somebody set at Dotdigital."""
    statuses: dict[str, str] = {}
    for kind, what in events:
        if kind == "contact":
            more = {name: value for name, value in what.items() if name not in {"email", "texts"}}
            rig.contact(what["email"], **more, **what["texts"])
        elif kind == "order":
            key, email, text = what
            rig.order(key, email, document={"order_status": text or "x", "delivery_method": text})
        elif kind == "tombstone":
            rig.tombstone(Entity.CONTACTS, *what)
        elif kind == "fault":
            rig.fault(what)
        elif kind == "status" and rig.held(what[0]) is not None:
            rig.held(what[0]).email_status = what[1]
            statuses[what[0]] = what[1]
        elif kind == "turn":
            rig.turn_for(what)
        elif kind == "kill":
            rig.box.account.faults.ask(FaultRequest(clear=True))
            rig.kill()
    return statuses


@pytest.mark.parametrize("scope", ["all", "subscribed"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=14))
def test_no_request_says_a_word_on_consent(rigs, scope, events):
    rig = rigs({"resubscribe": "challenge"}, contact_scope=scope)
    statuses = play(rig, events)
    rig.run(3 * 3600, pace=0.5)
    says_nothing_on_consent(rig)
    renamed = {what["renamed_from"] for kind, what in events if kind == "contact"}
    gone = {what[0] for kind, what in events if kind == "tombstone" and what[1] is Reason.ERASED}
    for email, status in statuses.items():
        if email not in renamed | gone and rig.held(email) is not None:
            assert rig.held(email).email_status == status


@pytest.mark.parametrize("scope", ["all", "subscribed"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wants=st.lists(st.booleans(), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    pauses=st.lists(st.sampled_from(["", "turn", "kill", "drop_after", "http_503"]), min_size=6, max_size=6),
    seconds=st.sampled_from([0.2, 8.0]),
)
def test_the_last_word_on_the_newsletter_arrives_in_whatever_order_the_versions_come(
    rigs, scope, wants, order, pauses, seconds
):
    rig = rigs({"import_seconds": seconds}, contact_scope=scope)
    versions = list(enumerate(wants, start=1))
    order.shuffle(versions)
    for (sequence, wish), pause in zip(versions, pauses, strict=False):
        lane = Lane.LIVE if sequence % 2 else Lane.BULK
        rig.contact(EMAILS[0], NEWSLETTER_SUBSCRIBE=wish, sequence=sequence, lane=lane)
        if pause == "turn":
            rig.turn_for(1.0)
        elif pause == "kill":
            rig.turn_for(0.3)
            rig.kill()
        elif pause:
            rig.fault(pause, path="/contacts/v3/import")
    rig.run(3 * 3600, pace=0.5)
    contact = rig.held(EMAILS[0])
    if contact is None:
        assert scope == "subscribed"  # nobody was created
        assert wants[-1] is False
    else:
        assert contact.fields["NEWSLETTER_SUBSCRIBE"] is wants[-1]
    says_nothing_on_consent(rig)


def test_no_code_that_ships_knows_the_words():
    """What is not in the code can't be sent by a path that no test goes."""
    words = FORBIDDEN - {"status", "preferences"}
    paths = [path for folder in ("libs", "services", "cli") for path in (ROOT / folder).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, text in texts.items()
        if any(word in text for word in words)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in words
    ]
    assert len(paths) > 100
    assert found == []
