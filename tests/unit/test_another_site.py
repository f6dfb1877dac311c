"""Another eStar server: every name that a profile may give differs, and nothing outside the profile does."""

import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from estarsync_core.entities import Entity
from estarsync_core.profile import Operations, load_profile
from estarsync_runtime.testing import FakeClock
from sandbox.estar import profile_path
from sandbox.estar.contract import Contract
from sandbox.estar.edits import Edit, Editor
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ZONE = "Europe/London"
NAMES = """
soap:
  path: /services/v2/{service}.svc
  version: "1.2"
  token_argument: SessionKey
  operations:
    authenticate:
      {service: Access, operation: OpenSession, namespace: "urn:other:access", result: Session/Key,
       arguments: {username: Login, password: Secret}}
    list_customers_modified:
      {service: Clients, operation: FindClients, namespace: "urn:other:clients", result: Found/Numbers/No,
       arguments: {start: Since, end: Until}}
    retrieve_customers:
      {service: Clients, operation: GetClients, namespace: "urn:other:clients", result: Found/Client,
       arguments: {ids: Query/Numbers/No}, batch: 7}
    list_orders_created:
      {service: Sales, operation: FindNewSales, namespace: "urn:other:sales", result: Found/No,
       arguments: {start: Since, end: Until}}
    list_orders_modified:
      {service: Sales, operation: FindSales, namespace: "urn:other:sales", result: Found/No,
       arguments: {start: Since, end: Until}}
    retrieve_orders:
      {service: Sales, operation: GetSale, namespace: "urn:other:sales", result: Found/Sale,
       arguments: {ids: Number}}
    retrieve_related_orders:
      {service: Sales, operation: GetFamily, namespace: "urn:other:sales", result: Found/Family/Sale,
       arguments: {id: Number}}
    list_products:
      {service: Goods, operation: FindGoods, namespace: "urn:other:goods", result: Found/No, arguments: {}}
    retrieve_products:
      {service: Goods, operation: GetGoods, namespace: "urn:other:goods", result: Found/Good,
       arguments: {ids: Numbers/No}, batch: 9}
    retrieve_events:
      {service: Notices, operation: GetNotices, namespace: "urn:other:notices", result: Found/Notice,
       arguments: {events: Wanted/Pair}}
records:
  rename:
    {Number: ID, Mail: Email, Given: FirstName, Family: LastName, Places: Addresses, Features: Attributes,
     Changed: DateModified, Placed: OrderDate, State2: Status, Lines: Items, Code: Barcode, Amount: Quantity,
     Each: UnitPrice, Above: ParentOrderID, Freight: FreightTotal, Reduction: DiscountTotal, Sum: Total, Name2: Title,
     Pictures: Images, Consent: LpmStatus, Kind: CustomerType, Kennwort: Password, Remarks: Notes, Purchase: Cost,
     Paid: Payments, Shop: Websites}
notifications: {subscriber: Reader, sequence: Turn, type: What, message: Body}
"""


def shop() -> ShopSandbox:
    return ShopSandbox(generate(60, 1, ZoneInfo(ZONE)), FakeClock(NOW))


@pytest.fixture
def sites() -> tuple[ShopSandbox, ShopSandbox]:
    """The same shop twice, by its published names and by others."""
    other = load_profile(profile_path().read_text("utf-8") + NAMES, "other")
    return shop(), ShopSandbox(generate(60, 1, ZoneInfo(ZONE)), FakeClock(NOW), profile=other)


def test_every_name_differs() -> None:
    published = load_profile(profile_path().read_text("utf-8"), "published").soap
    other = load_profile(profile_path().read_text("utf-8") + NAMES, "other").soap
    for word in Operations.model_fields:
        one, two = getattr(published.operations, word), getattr(other.operations, word)
        for part in ("service", "operation", "namespace", "result"):
            assert getattr(one, part) != getattr(two, part), (word, part)
        assert one.arguments.keys() == two.arguments.keys()
        assert not set(one.arguments.values()) & set(two.arguments.values())


def test_a_site_with_other_names_gives_the_same_events(
    sites: tuple[ShopSandbox, ShopSandbox], extraction: Any
) -> None:
    published, other = sites
    one = extraction(published, load_profile(profile_path().read_text("utf-8"), "one"), FakeClock(NOW)).run()
    profile = load_profile(profile_path().read_text("utf-8") + NAMES, "two")
    two = extraction(other, profile, FakeClock(NOW)).run()
    assert {name.partition(".")[0] for name in other.calls} == {"Access", "Clients", "Sales", "Goods"}
    for entity in Entity:
        assert len(one.raw(entity)) > 20
        assert two.raw(entity) == one.raw(entity)
    assert two.dead() == one.dead()
    assert any(len(tree["orders"]) > 1 for tree in two.raw(Entity.ORDERS).values())


def test_its_notifications_are_fetched_under_its_names(
    sites: tuple[ShopSandbox, ShopSandbox], extraction: Any
) -> None:
    _, other = sites
    profile = load_profile(profile_path().read_text("utf-8") + NAMES, "two")
    editor = Editor(other.shop, Contract(profile), random.Random(1))  # noqa: S311 - the same every time
    editor.apply(Edit(kind="void"), other.shop.local(NOW))
    event = other.shop.events[-1]
    place = (event.subscriber, event.sequence)
    found = extraction(other, profile, FakeClock(NOW)).source.retrieve_events([place, (9, 9999)])
    assert list(found) == [place]
    assert found[place].message["orderID"] == event.message["orderID"]
