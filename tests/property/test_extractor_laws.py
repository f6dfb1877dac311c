"""Laws of pages: however the shop changes and in whatever pages it is read, the latest events are a true copy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from estarsync_core.control import Blocked
from estarsync_core.estar.content import RawValue, Record, text_of
from estarsync_core.profile import load_profile
from estarsync_runtime.estar.source import EstarSource
from extractor.contacts import contacts
from extractor.orders import orders
from extractor.pages import PageReader
from extractor.products import products
from extractor.state import SourceState
from sandbox.estar import profile_path

PROFILE = load_profile(profile_path().read_text(encoding="utf-8"), "sandbox")
IDS = [str(number) for number in range(1, 7)]


class Shop(EstarSource):
    """Records in a dictionary."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def retrieve(self, ids: Sequence[str]) -> Mapping[str, Record]:
        return {identity: self.records[identity] for identity in ids if identity in self.records}

    retrieve_customers = retrieve_products = retrieve_orders = retrieve

    @override
    def retrieve_related_orders(self, order_id: str) -> Mapping[str, Record]:
        root = self.root(order_id)
        return {identity: order for identity, order in self.records.items() if self.root(identity) == root}

    def root(self, order_id: str) -> str:
        parent = text_of(self.records[order_id], "ParentOrderID")
        return self.root(parent) if parent in self.records else order_id


class Copy:
    """What somebody who reads the raw topic knows."""

    def __init__(self, reader: PageReader, state: SourceState) -> None:
        self._reader = reader
        self._state = state
        self.values: dict[str, Record] = {}
        self.events = 0

    def read(self, ids: Sequence[str]) -> None:
        page = self._reader.read(ids)
        self._state.apply(self._reader.kind.entity, page.changes.rows)
        for event in page.changes.events:
            self.events += 1
            if event.value is None:
                del self.values[event.key]  # a tombstone for what is not there would be an error here
                continue
            value: Record = msgspec.json.decode(event.value)
            value.pop("renamed_from", None)
            assert self.values.get(event.key) != value
            self.values[event.key] = value


# Each chapter changes some records and then reads the changed ones, in pages of so many.
emails = st.sampled_from(["a@x.nz", "A@X.nz", "b@x.nz", "c@x.nz", "nobody", ""])
chapters = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(IDS), emails, min_size=1), st.integers(1, 4)), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(chapters)
def test_contacts(story: list[tuple[dict[str, str], int]]) -> None:
    shop = Shop()
    with TemporaryDirectory() as folder:
        state = SourceState(Path(folder) / "state")
        copy = Copy(contacts(shop, state, PROFILE, Blocked()), state)
        for changed, size in story:
            shop.records.update({i: {"ID": i, "Email": email} for i, email in changed.items()})
            read_in_pages(copy, list(changed), size)
            groups: dict[str, list[RawValue]] = {}
            for identity in sorted(shop.records):
                email = text_of(shop.records[identity], "Email").lower()
                if "@" in email:
                    groups.setdefault(email, []).append(shop.records[identity])
            assert copy.values == {email: {"customers": group} for email, group in groups.items()}
            assert_quiet(copy, list(shop.records), size)
        state.close()


codes = st.lists(st.sampled_from(["S1", "S2", "S3"]), unique=True, max_size=2)
catalogues = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(IDS), st.tuples(st.booleans(), codes), min_size=1), st.integers(1, 4)
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(catalogues)
def test_products(story: list[tuple[dict[str, tuple[bool, list[str]]], int]]) -> None:
    shop = Shop()
    with TemporaryDirectory() as folder:
        state = SourceState(Path(folder) / "state")
        copy = Copy(products(shop, state, PROFILE, Blocked()), state)
        for changed, size in story:
            for identity, (active, barcodes) in changed.items():
                items: list[RawValue] = [{"Barcode": code} for code in barcodes]
                shop.records[identity] = {"ID": identity, "Status": str(int(active)), "Items": items}
            read_in_pages(copy, list(shop.records), size)  # products are always read whole
            for code in ("S1", "S2", "S3"):
                sellers = [p for p in shop.records.values() if {"Barcode": code} in listed(p)]
                if sellers:
                    best = max(sellers, key=lambda p: (text_of(p, "Status"), text_of(p, "ID")))
                    told = copy.values[code]["product"]
                    assert isinstance(told, dict)
                    assert text_of(told, "ID") == text_of(best, "ID")
            assert_quiet(copy, list(shop.records), size)
        state.close()


def listed(product: Record) -> list[RawValue]:
    items = product["Items"]
    return items if isinstance(items, list) else []


parents = st.dictionaries(st.sampled_from(IDS[1:]), st.integers(0, 5), min_size=1)
forests = st.lists(st.tuples(parents, st.integers(1, 4)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(forests)
def test_orders(story: list[tuple[dict[str, int], int]]) -> None:
    shop = Shop()
    shop.records["1"] = {"ID": "1"}
    with TemporaryDirectory() as folder:
        state = SourceState(Path(folder) / "state")
        copy = Copy(orders(shop, state, PROFILE, Blocked()), state)
        copy.read(["1"])
        for changed, size in story:
            for identity, parent in changed.items():  # a parent is older than its children
                above = str(parent) if parent < int(identity) and str(parent) in shop.records else "0"
                shop.records[identity] = {"ID": identity, "ParentOrderID": above}
            read_in_pages(copy, list(changed), size)
            assert_quiet(copy, list(shop.records), size)
        trees: dict[str, set[str]] = {}
        for identity in shop.records:
            trees.setdefault(shop.root(identity), set()).add(identity)
        assert {key: members(value) for key, value in copy.values.items()} == trees
        state.close()


def members(tree: Record) -> set[str]:
    found = tree["orders"]
    assert isinstance(found, list)
    return {text_of(order, "ID") for order in found if isinstance(order, dict)}


def read_in_pages(copy: Copy, ids: list[str], size: int) -> None:
    for at in range(0, len(ids), size):
        copy.read(ids[at : at + size])


def assert_quiet(copy: Copy, ids: list[str], size: int) -> None:
    """To read the same again publishes nothing."""
    before = copy.events
    read_in_pages(copy, ids, size)
    assert copy.events == before
