"""Products from a feed file: XML, JSON lines or CSV, from a folder or over HTTPS, by the path that SOAP takes."""

import csv
import gzip
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from typing_extensions import override

from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_core.estar.content import Record, rows_of
from estarsync_core.profile import load_profile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.testing import FakeClock, FakeProducer
from extractor.feed_products import FeedProducts, product_feed
from extractor.feeds import Surroundings
from extractor.products import products
from extractor.publisher import Publisher
from extractor.removals import Removals, nobody_spoke
from extractor.settings import Settings
from extractor.snapshot import SnapshotFeed
from extractor.state import SourceState
from sandbox.estar import profile_path
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox

WEBSITES = 'websites: {1: {currency: NZD, product_url: "https://x/{id}", image_base: "https://x"}}\n'
NOW = datetime(2026, 1, 2, tzinfo=UTC)
Open = Callable[..., FeedProducts]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def open_feed(tmp_path: Path, clock: FakeClock) -> Iterator[Open]:
    with ExitStack() as stack:

        def start(transport: httpx.BaseTransport | None = None, **feed: object) -> FeedProducts:
            text = WEBSITES + f"products: {{feed: {json.dumps(feed)}}}"
            profile = load_profile(text, "test")
            found = stack.enter_context(product_feed(profile, clock, lambda: None, tmp_path, transport))
            assert found is not None
            return found

        yield start


def put(path: Path, content: str | bytes, age: float = 3600.0) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    when = NOW.timestamp() - age
    os.utime(path, (when, when))
    return path


def read(feed: FeedProducts) -> tuple[dict[str, Record], dict[str, str]]:
    found = feed.fetch(feed.list_ids())
    return found.records, found.failed


XML = """<?xml version="1.0"?>
<catalogue xmlns="urn:shop"><made>today</made><Products>
  <Product><ID>5</ID><Title>Tee &amp; Cap</Title><Cost>3.98765</Cost>
    <Items><Item><Barcode>A</Barcode><Price>19.9500</Price><Cost>1</Cost></Item><Item><Barcode>B</Barcode></Item></Items>
  </Product>
  <Product><ID>6</ID><Title/></Product><Product><Title>no id</Title></Product>
  <Related><Product><ID>7</ID></Product></Related>
</Products></catalogue>"""
JSONL = """\
{"ID": 5, "Title": "Tee & Cap", "Cost": 3.98765, "Items": [{"Barcode": "A", "Price": 19.9500, "Cost": 1}, {"Barcode": "B"}]}

{"ID": "6", "Title": null, "Live": true}
{"Title": "no id"}
{"ID": "7",
[1]
{"ID": "8", "Title": NaN}"""
CSV = (
    "\ufeffno,sku,title,cost,price\r\n5,A,Tee & Cap,3.98765,19.9500\r\n6,C,,1,2\r\n,D,no id,1,2\r\n7,E\r\n"
    '8,F,"two\nlines",1,2\r\n5,B,Tee & Cap,1,\r\n'
)
COLUMNS = {"no": "ID", "sku": "Item.Barcode", "title": "Title", "cost": "Cost", "price": "Item.Price"}


def test_xml_is_read_by_path_without_secrets(tmp_path: Path, open_feed: Open) -> None:
    path = put(tmp_path / "products.xml", XML)
    found, failed = read(open_feed(location=str(path), format="xml", record="Products/Product"))
    assert found == {
        "5": {
            "ID": "5",
            "Title": "Tee & Cap",
            "Items": [{"Barcode": "A", "Price": "19.9500"}, {"Barcode": "B"}],
        },
        "6": {"ID": "6", "Title": ""},
    }
    assert failed == {"row/3": "no_id"}


def test_json_lines_keep_every_digit(tmp_path: Path, open_feed: Open) -> None:
    path = put(tmp_path / "products.jsonl", JSONL)
    found, failed = read(open_feed(location=str(path), format="jsonl"))
    assert found == {
        "5": {
            "ID": "5",
            "Title": "Tee & Cap",
            "Items": [{"Barcode": "A", "Price": "19.9500"}, {"Barcode": "B"}],
        },
        "6": {"ID": "6", "Title": None, "Live": "true"},
    }
    assert failed == {
        "row/4": "no_id",
        "row/5": "not_json",
        "row/6": "not_a_record",
        "row/7": "not_json",
    }


def test_csv_rows_of_one_product_are_its_items(tmp_path: Path, open_feed: Open) -> None:
    path = put(tmp_path / "products.csv.gz", gzip.compress(CSV.encode()))
    found, failed = read(open_feed(location=str(path), format="csv", fields=COLUMNS))
    assert found["5"] == {
        "ID": "5",
        "Title": "Tee & Cap",
        "Items": [{"Barcode": "A", "Price": "19.9500"}, {"Barcode": "B", "Price": ""}],
    }
    assert found["8"]["Title"] == "two\nlines"
    assert failed == {"row/3": "no_id", "7": "wrong_columns"}


def test_half_a_product_is_none(tmp_path: Path, open_feed: Open) -> None:
    for order in (["5,A", "5,B,x"], ["5,B,x", "5,A"]):
        path = put(tmp_path / "products.csv", "\n".join(["ID,Item.Barcode", *order]))
        assert read(open_feed(location=str(path), format="csv")) == ({}, {"5": "wrong_columns"})


def test_a_row_that_is_too_long_is_a_dead_letter(tmp_path: Path, open_feed: Open) -> None:
    lines = ['{"ID": "1"}', json.dumps({"ID": "2", "Title": "x" * 500}), '{"ID": "3"}']
    path = put(tmp_path / "p.jsonl", "\r\n".join(lines))
    found, failed = read(open_feed(location=str(path), format="jsonl", max_row_bytes=100))
    assert (list(found), failed) == (["1", "3"], {"row/2": "too_large"})
    path = put(tmp_path / "p.csv", f"ID,Title\n1,a\n2,{'x' * 200}\n")
    found, failed = read(open_feed(location=str(path), format="csv", max_row_bytes=100))
    assert (list(found), failed) == (["1"], {"2": "too_large"})


@pytest.mark.parametrize(
    ("content", "feed", "said"),
    [
        (XML[:-20], {"format": "xml"}, "is not XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><Product><ID>&a;</ID></Product>', {"format": "xml"}, "DOCTYPE"),
        (
            "<all>" + "<x>y</x>" * 20_000 + "</all>",
            {"format": "xml", "max_row_bytes": 70_000},
            "max_row_bytes",
        ),
        ("no,sku\n", {"format": "csv", "fields": {"number": "ID"}}, "lacks the columns number"),
        ("ID,ID\n", {"format": "csv"}, "has a column twice"),
        ('ID,Title\n1,"x', {"format": "csv"}, "is not CSV"),
        (b"ID\n\xff\n", {"format": "csv"}, "is not utf-8-sig"),
        (b"ID\n" * 50, {"format": "csv", "max_bytes": 100}, "max_bytes"),
        (gzip.compress(b"ID\n" * 5000), {"format": "csv", "location": "p.gz", "max_bytes": 9000}, "unpacked"),
        (gzip.compress(b"ID\n1\n")[:-9], {"format": "csv", "location": "p.gz"}, "can't be read: EOFError"),
        ("\n".join(["[]"] * 21), {"format": "jsonl"}, "21 of the product feed's 21 rows can't be read"),
    ],
)
def test_a_feed_that_is_broken_as_a_whole_says_nothing_of_any_product(
    tmp_path: Path, open_feed: Open, content: str | bytes, feed: dict[str, object], said: str
) -> None:
    path = put(tmp_path / str(feed.get("location", "products")), content)
    with pytest.raises(RetryLater, match=said):
        open_feed(**{**feed, "location": str(path)}).list_ids()


def test_memory_stays_small_whatever_the_feeds_size(tmp_path: Path, open_feed: Open) -> None:
    import tracemalloc  # noqa: PLC0415 - it slows what it watches

    row = "<Product><ID>{0}</ID><Title>" + "t" * 400 + "</Title></Product>"
    path = put(tmp_path / "p.xml", "<all>" + "".join(row.format(n) for n in range(4000)) + "</all>")
    feed = open_feed(location=str(path), format="xml")
    tracemalloc.start()
    try:
        assert len(feed.list_ids()) == 4000
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()


def test_the_newest_whole_file_is_taken(tmp_path: Path, clock: FakeClock, open_feed: Open) -> None:
    feed = open_feed(location=f"{tmp_path}/p-*.csv", format="csv")
    with pytest.raises(RetryLater, match="no whole file"):
        feed.list_ids()
    put(tmp_path / "p-1.csv", "ID\n1\n", age=7200)
    put(tmp_path / "p-2.csv", "ID\n2\n", age=3600)
    put(tmp_path / "p-3.csv", "ID\n3\n", age=10)  # the shop is still writing it
    assert feed.list_ids() == ["2"]
    clock.advance(60)
    assert feed.list_ids() == ["3"]


def test_a_marker_says_that_a_file_is_whole(tmp_path: Path, open_feed: Open) -> None:
    feed = open_feed(location=f"{tmp_path}/p*", format="csv", done=".done")
    put(tmp_path / "p1.csv", "ID\n1\n", age=7200)
    put(tmp_path / "p1.csv.done", "", age=7200)
    put(tmp_path / "p2.csv", "ID\n2\n", age=3600)
    assert feed.list_ids() == ["1"]
    put(tmp_path / "p2.csv.done", "", age=0)
    assert feed.list_ids() == ["2"]


class Site:
    """Answers with what it is told; keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


URL = "https://shop.example/feeds/products.csv"


def test_an_unchanged_feed_is_not_sent_again(open_feed: Open) -> None:
    site = Site(
        httpx.Response(200, headers={"etag": '"1"'}, text="ID\n1\n"),
        httpx.Response(304),
        httpx.Response(200, headers={"etag": '"2"'}, text="ID\n2\n"),
    )
    feed = open_feed(site.transport, location=URL, format="csv")
    assert [feed.list_ids() for _ in range(3)] == [["1"], ["1"], ["2"]]
    assert [request.headers.get("if-none-match") for request in site.requests] == [None, '"1"', '"1"']


def test_a_redirect_is_followed_within_the_host_and_carries_the_credentials(
    open_feed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEED_TOKEN", "Bearer a secret")
    site = Site(
        httpx.Response(302, headers={"location": "/feeds/today.csv.gz"}),
        httpx.Response(200, content=gzip.compress(b"ID\n1\n")),
    )
    feed = open_feed(site.transport, location=URL, format="csv", authorization={"env": "FEED_TOKEN"})
    assert feed.list_ids() == ["1"]
    assert [request.headers["authorization"] for request in site.requests] == ["Bearer a secret"] * 2


@pytest.mark.parametrize("there", ["https://other.example/x", "http://shop.example/x"])
def test_a_redirect_to_another_place_is_a_wrong_setting(open_feed: Open, there: str) -> None:
    site = Site(httpx.Response(302, headers={"location": there}))
    with pytest.raises(ConfigurationError, match=r"products\.feed\.location"):
        open_feed(site.transport, location=URL, format="csv").list_ids()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([httpx.Response(503)], "HTTP 503"),
        ([httpx.Response(304)], "HTTP 304"),
        ([httpx.Response(200, html="<html>Please wait</html>")], "a web page"),
        ([httpx.ReadTimeout("x")], "ReadTimeout"),
        ([httpx.Response(200, text="ID\n" * 100)], "max_bytes"),
        ([httpx.Response(302, headers={"location": "/x"})] * 4, "redirects for ever"),
    ],
)
def test_a_site_in_trouble_is_tried_later(
    open_feed: Open, answers: list[httpx.Response | Exception], said: str
) -> None:
    with pytest.raises(RetryLater, match=said):
        open_feed(Site(*answers).transport, location=URL, format="csv", max_bytes=200).list_ids()


def test_a_download_that_drips_is_cut_off(open_feed: Open, clock: FakeClock) -> None:
    class Dripping(httpx.SyncByteStream):
        @override
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(100):
                clock.advance(10)
                yield b"x" * 70_000

    site = Site(httpx.Response(200, stream=Dripping()))
    with pytest.raises(RetryLater, match="not here after 60 s"):
        open_feed(site.transport, location=URL, format="csv", timeout_seconds=60).list_ids()


def test_credentials_that_are_nowhere_are_told(open_feed: Open, tmp_path: Path) -> None:
    for reference in ({"env": "NO_SUCH_VARIABLE"}, {"file": str(tmp_path / "none")}):
        feed = open_feed(Site().transport, location=URL, format="csv", authorization=reference)
        with pytest.raises(ConfigurationError, match=r"products\.feed\.authorization"):
            feed.list_ids()


@pytest.mark.parametrize(
    "location", ["http://shop.example/p.csv", "ftp://x/p", "products.csv", "https://u:p@x/p"]
)
def test_a_place_that_is_not_safe_is_no_place(location: str) -> None:
    with pytest.raises(ConfigurationError, match=r"products\.feed\.location"):
        load_profile(WEBSITES + f"products: {{feed: {{location: '{location}', format: csv}}}}", "test")


def test_another_character_set_is_read(tmp_path: Path, open_feed: Open) -> None:
    path = put(tmp_path / "p.csv", "ID;Title\n1;Crème ½\n".encode("windows-1252"))
    found, _ = read(open_feed(location=str(path), format="csv", encoding="windows-1252", delimiter=";"))
    assert found["1"]["Title"] == "Crème ½"


def test_an_unknown_character_set_is_told() -> None:
    text = WEBSITES + "products: {feed: {location: /p.csv, format: csv, encoding: utf-99}}"
    with pytest.raises(ConfigurationError, match="'utf-99' is no character set"):
        load_profile(text, "test")


class World:
    """The sandbox shop's products, once as SOAP gives them and once as a file."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.sandbox = ShopSandbox(generate(100, 1, ZoneInfo("Europe/London")), clock)
        self.profile = load_profile(profile_path().read_text(encoding="utf-8"), "test")
        self.metrics = Metrics(CollectorRegistry())
        client = EstarClient(
            httpx.Client(transport=httpx.MockTransport(self.sandbox.handle)),
            self.profile,
            "https://shop",
            Credentials("sandbox", "sandbox"),
            clock=clock,
            rng=random.Random(1),  # noqa: S311 - spreads pauses
            metrics=self.metrics,
        )
        self.source = EstarSource(client, self.profile)
        self.folder = folder

    def published(self, feed: FeedProducts | None, state: SourceState, snapshots: int = 1) -> FakeProducer:
        kafka = FakeProducer()
        settings = Settings.model_construct(estar_base_url="https://shop", topic_prefix="")
        publisher = Publisher(settings, kafka, state, {}, self.clock, self.metrics)
        around = Surroundings(publisher, self.profile, self.clock, self.metrics)
        snapshot = SnapshotFeed(
            "products_snapshot",
            feed.list_ids if feed else self.source.list_products,
            products(self.source, state, self.profile, around.blocked, feed),
            around,
            60.0,
            Removals(Entity.PRODUCTS, state, publisher, nobody_spoke, self.metrics),
        )
        for _ in range(snapshots):
            self.clock.advance(60)
            while not snapshot.step():
                pass
        return kafka


def values(kafka: FakeProducer, topic: str = "estar.products.v1") -> dict[str, object]:
    latest = {(r.key or b"").decode(): r.value for r in kafka.records if r.topic == topic}
    return {key: msgspec.json.decode(value) for key, value in latest.items() if value is not None}


def test_a_shops_feed_and_its_operations_publish_the_same(
    tmp_path: Path, clock: FakeClock, open_feed: Open
) -> None:
    world = World(tmp_path, clock)
    by_soap = values(world.published(None, SourceState(tmp_path / "soap.sqlite")))
    records = world.source.retrieve_products(world.source.list_products())
    path = put(tmp_path / "p.jsonl", "\n".join(json.dumps(record) for record in records.values()))
    feed = open_feed(location=str(path), format="jsonl")
    state = SourceState(tmp_path / "feed.sqlite3")
    kafka = world.published(feed, state)
    assert values(kafka) == by_soap
    assert len(by_soap) > 50
    again = world.published(feed, state)
    assert not values(again)


def test_rows_that_can_not_be_used_are_dead_letters_and_remove_nothing(
    tmp_path: Path, clock: FakeClock, open_feed: Open
) -> None:
    world = World(tmp_path, clock)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["ID", "Title", "Price", "Item.Barcode"])
    for record in list(world.source.retrieve_products(world.source.list_products()).values())[:30]:
        for item in rows_of(record, "Items"):
            if item.get("Barcode"):
                writer.writerow([record["ID"], record["Title"], "1.00", item["Barcode"]])
    path = put(tmp_path / "p.csv", table.getvalue())
    feed = open_feed(location=str(path), format="csv")
    state = SourceState(tmp_path / "state.sqlite")
    before = values(world.published(feed, state))
    lines = table.getvalue().splitlines()
    lines[1] = lines[1].partition(",")[0]  # its id can still be read
    put(path, "\n".join([*lines, "x,y"]), age=1800)
    kafka = world.published(feed, state)
    assert [r for r in kafka.records if r.topic == "estar.products.v1" and r.value is None] == []
    letters = values(kafka, "estarsync.extract.dlq.v1")
    assert {letter["code"] for letter in letters.values()} == {"wrong_columns"}  # type: ignore[index]
    assert set(letters) == {f"products:{lines[1]}", "products:x"}
    del lines[2]
    put(path, "\n".join(lines), age=900)
    kafka = world.published(feed, state)
    gone = [r for r in kafka.records if r.topic == "estar.products.v1" and r.value is None]
    assert len(gone) <= 1
    assert len(before) >= 30
