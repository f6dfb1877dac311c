"""Nothing secret leaves the extractor: not in events, dead letters, logs or metrics, whatever the shop does.

Every secret of the published model is given a marked value, and the shop's failures quote people. The marks are then
looked for in all that comes out.
"""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from structlog.testing import capture_logs

from estarsync_core.entities import Entity
from estarsync_core.profile import load_profile
from estarsync_runtime.testing import FakeClock
from sandbox.estar import profile_path
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox
from sandbox.estar.state import Body, Node, repeat_bodies

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MARK = "mark-of-a-secret"
CARD = "4929000000006"


def marked(*names: str) -> Body:
    return {name: f"{MARK}-{name}" for name in names}


CUSTOMER: Body = {
    **marked("Password", "PreferencesToken"),
    "Notes": repeat_bodies("Note", [marked("Text", "Author")]),
    "Attributes": repeat_bodies(
        "NameValue", [{"Name": "password", "Value": MARK}, {"Name": " Cost", "Value": MARK}]
    ),
}
PRODUCT: Body = marked("Cost")
ORDER: Body = {
    **marked("AdminReference"),
    "Payments": repeat_bodies(
        "Payment",
        [
            {
                **marked("CardHolder", "CVV"),
                "CardNumber": CARD,
                "CardExpiryMonth": "09",
                "CardExpiryYear": f"{MARK}-2027",
                "TransactionType": "CreditCard",
            }
        ],
    ),
    "Transactions": repeat_bodies("Transaction", [{"CardNumber": CARD}]),
    "Vouchers": repeat_bodies(
        "Voucher", [marked("RecipientFirstName", "RecipientLastName", "RecipientEmail", "Sender", "Message")]
    ),
}


class Hostile:
    """A shop that fails now and then, with answers that quote its people and our token."""

    def __init__(self, sandbox: ShopSandbox) -> None:
        self.sandbox = sandbox
        self.requests: list[httpx.Request] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        body = request.content.decode()
        token = re.search(r"<authenticationToken>(\w+)<", body)
        quoted = f"{MARK} {CARD} jane@people.example {token[1] if token else ''}"
        result = f"<s:Envelope xmlns:s='x'><s:Body><R><RResult>{{}}<Message>{quoted}</Message></RResult></R></s:Body></s:Envelope>"
        match len(self.requests) % 9:
            case 2:
                answer = result.format("<Success>false</Success><Code>7</Code>")
            case 3:
                answer = f"<s:Envelope xmlns:s='x'><s:Body><s:Fault><faultcode>{quoted}</faultcode><faultstring>{quoted}</faultstring></s:Fault></s:Body></s:Envelope>"
            case 4:
                answer = f"<html>{quoted}</html>"
            case 5:
                answer = result[:-30]
            case 6:
                raise httpx.ReadError(quoted)
            case _:
                return self.sandbox.handle(request)
        return httpx.Response(200, headers={"content-type": "text/xml; charset=utf-8"}, text=answer)


@pytest.fixture
def sandbox() -> ShopSandbox:
    shop = generate(25, 1, ZoneInfo("Europe/London"))
    for table, secrets in ((shop.customers, CUSTOMER), (shop.products, PRODUCT), (shop.orders, ORDER)):
        for record in table.records.values():
            given: dict[str, Node] = dict(secrets)
            record.body.update(given)
    for product in shop.products.records.values():
        for item in product.rows("Items"):
            item.update(marked("Cost"))
    for order in shop.orders.records.values():
        for line in order.lines:
            line.packing = f"{MARK}-PackingInstructions"
    some = list(shop.customers.records.values())
    some[0].body["Email"] = "jane at people.example"  # a bad e-mail is still somebody's
    return ShopSandbox(shop, FakeClock(NOW))


def test_no_secret_of_the_published_model_leaves_the_extractor(
    sandbox: ShopSandbox, extraction: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    clock = FakeClock(NOW)
    profile = load_profile(profile_path().read_text("utf-8"), "test")
    shop = Hostile(sandbox)
    with capture_logs() as lines:
        found = extraction(shop, profile, clock).run()
    assert all(len(found.raw(entity)) > 10 for entity in Entity)
    tokens = set(
        re.findall(r"<authenticationToken>(\w+)<", "".join(r.content.decode() for r in shop.requests))
    )
    assert tokens
    written = found.everything()
    said = f"{lines}\n{caplog.text}"
    assert any(line["event"] == "dead_letters" for line in lines)
    for secret in (MARK, CARD, *tokens):
        assert secret not in written
        assert secret not in said
    assert "people.example" not in said
    letters = [r for r in found.kafka.records if r.topic == "estarsync.extract.dlq.v1"]
    assert letters
    assert not [r for r in letters if b"@" in (r.value or b"") or b"people" in (r.value or b"")]
    assert "people.example" not in str([r.url for r in shop.requests])
    assert not [r for r in shop.requests if r.url.query]


def test_the_marks_would_be_found_if_nothing_were_dropped(
    sandbox: ShopSandbox, extraction: Callable[..., Any]
) -> None:
    text = profile_path().read_text("utf-8")
    profile = load_profile(text, "test")
    nothing = profile.records.model_copy(update={"drop": frozenset[str]()})
    careless = profile.model_copy(update={"records": nothing})
    written = extraction(sandbox, careless, FakeClock(NOW)).run().everything()
    for name in (
        "Password",
        "PreferencesToken",
        "Author",
        "Cost",
        "CVV",
        "RecipientEmail",
        "PackingInstructions",
    ):
        assert f"{MARK}-{name}" in written, name
    assert CARD in written
