from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from estarsync_core.mapping.fields import (
    BadValue,
    Notes,
    Times,
    absolute_url,
    amount,
    boolean,
    identity,
    quantity,
)
from estarsync_core.mapping.text import clean, clean_title, cut

Parse = Callable[[str | None], object]

AUCKLAND = Times(ZoneInfo("Pacific/Auckland"), frozenset({date(1, 1, 1), date(1900, 1, 1)}))


@pytest.mark.parametrize("nothing", [None, "", "  ", "\t\r\n", "\u200b\ufeff", "\x1f"])
@pytest.mark.parametrize(
    "parse",
    [clean, clean_title, boolean, amount, quantity, AUCKLAND.instant, AUCKLAND.day],
    ids=["clean", "clean_title", "boolean", "amount", "quantity", "instant", "day"],
)
def test_four_kinds_of_nothing_are_none(parse: Parse, nothing: str | None) -> None:
    assert parse(nothing) is None


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        ("  WHITE METAL LANTERN ", "WHITE METAL LANTERN"),
        ("EUCALYPTUS & PINECONE  WREATH", "EUCALYPTUS & PINECONE  WREATH"),
        ("Ng\u0061\u0304ta", "Ngāta"),
        ("Line\r\nbreak", "Line  break"),
        ("be\x00ll\x1f", "bell"),
        ("\u200eRight\u202eto left\ufeff", "Rightto left"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("soft\u00adhyphen", "softhyphen"),
        ("\u00a0£40.00\u00a0", "£40.00"),
    ],
)
def test_text_is_trimmed_composed_and_free_of_what_nobody_sees(raw: str, sent: str) -> None:
    assert clean(raw) == sent


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        ("GIN & TONIC DIET GREETING CARD ", "GIN & TONIC DIET GREETING CARD"),
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("Salt &amp;amp; Pepper", "Salt & Pepper"),
        ("Caf&eacute; &#8211; set", "Café \N{EN DASH} set"),
        ("Notebook &notebook R&B", "Notebook &notebook R&B"),
        ("Merino<br/>Tee", "Merino Tee"),
        ("Merino <BR> Tee", "Merino Tee"),
        ("<p class='x'>Merino</p>", "Merino"),
        ("Merino <b>Tee</b>", "Merino Tee"),
        ("&lt;b&gt;Bold&lt;/b&gt;", "Bold"),
        ("Size <M> 3<4", "Size <M> 3<4"),
        ("&#x1F;bell", "bell"),
    ],
)
def test_titles_lose_html_and_nothing_else(raw: str, sent: str) -> None:
    assert clean_title(raw) == sent


def test_long_text_is_cut_at_a_thousand_utf16_units() -> None:
    assert cut("x" * 1000) == "x" * 1000
    assert cut("x" * 1001) == "x" * 1000
    assert cut("😀" * 501) == "😀" * 500
    assert cut("x" * 999 + "😀") == "x" * 999


def test_a_cut_parts_no_accent_and_no_joined_emoji() -> None:
    assert cut("x" * 999 + "e\u0323\u0301") == "x" * 999
    assert cut("x" * 996 + "👩\u200d🚀" + "y") == "x" * 996
    assert cut("x" * 998 + "👍🏽") == "x" * 998
    assert cut("x" * 999 + " y") == "x" * 999


def test_a_cut_of_nothing_but_accents_still_ends() -> None:
    assert len(cut("\u0301" * 2000)) == 1000


def test_notes_say_what_was_cut() -> None:
    notes = Notes()
    assert notes.text("FIRSTNAME", " x " * 500) == cut(("x  " * 500).strip())
    assert notes.text("LASTNAME", "y" * 600) == "y" * 600
    assert notes == [("FIRSTNAME", "cut")]


def test_an_id_is_trimmed_and_never_cut() -> None:
    assert identity(" BANK CHARGES ") == "BANK CHARGES"
    assert identity(" ") is None
    assert identity("x" * 1000) == "x" * 1000
    with pytest.raises(BadValue, match="too_long"):
        identity("x" * 1001)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("true", True),
        ("1", True),
        (" Yes ", True),
        ("Y", True),
        ("FALSE", False),
        ("0", False),
        ("no", False),
    ],
)
def test_booleans(raw: str, value: object) -> None:
    assert boolean(raw) is value


@pytest.mark.parametrize("raw", ["2", "-1", "maybe", "on"])
def test_no_boolean(raw: str) -> None:
    with pytest.raises(BadValue, match="not_a_boolean"):
        boolean(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("19.95", "19.95"),
        ("0.001", "0.001"),
        ("-3", "-3"),
        ("0", "0"),
        (".50", "0.5"),
        ("1,299.00", "1299"),
        ("1,234,567", "1234567"),
        ("$19.95", "19.95"),
        ("£ 5", "5"),
        ("-$5.00", "-5"),
        ("$-5.00", "-5"),
        ("19.950000000000000000", "19.95"),
        ("000000000000000000001.5", "1.5"),
    ],
)
def test_money_is_exact(raw: str, value: str) -> None:
    assert amount(raw) == Decimal(value)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("1,299", "ambiguous_number"),
        ("19,95", "ambiguous_number"),
        ("1.299,00", "ambiguous_number"),
        ("1.299.00", "not_a_number"),
        ("NaN", "not_a_number"),
        ("INF", "not_a_number"),
        ("1E5", "not_a_number"),
        ("--5", "not_a_number"),
        ("-$-5", "not_a_number"),
        ("5.", "not_a_number"),
        ("NZ$5", "not_a_number"),
        ("\N{ARABIC-INDIC DIGIT FIVE}", "not_a_number"),
        ("9" * 41, "not_a_number"),
        ("1234567890.123456", "too_precise"),
        ("0.30000000000000004", "too_precise"),
    ],
)
def test_money_is_never_guessed(raw: str, code: str) -> None:
    with pytest.raises(BadValue, match=code):
        amount(raw)


def test_quantities() -> None:
    assert quantity("6") == 6
    assert quantity(" -2 ") == -2
    assert quantity("3.000") == 3


@pytest.mark.parametrize(
    ("raw", "code"), [("1.5", "not_an_integer"), ("six", "not_an_integer"), ("2147483648", "out_of_range")]
)
def test_no_quantity(raw: str, code: str) -> None:
    with pytest.raises(BadValue, match=code):
        quantity(raw)


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("2024-01-02T03:04:05", datetime(2024, 1, 1, 14, 4, 5, tzinfo=UTC)),  # summer: +13
        ("2024-07-02T03:04:05", datetime(2024, 7, 1, 15, 4, 5, tzinfo=UTC)),  # winter: +12
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05.1239999+10:00", datetime(2024, 1, 1, 17, 4, 5, 123000, tzinfo=UTC)),
        ("2024-01-02 03:04:05", datetime(2024, 1, 1, 14, 4, 5, tzinfo=UTC)),
        ("2024-01-02", datetime(2024, 1, 1, 11, tzinfo=UTC)),
        ("2024-04-07T02:30:00", datetime(2024, 4, 6, 13, 30, tzinfo=UTC)),  # happens twice: the first
        ("2024-09-29T02:30:00", datetime(2024, 9, 28, 14, 30, tzinfo=UTC)),  # never happens
    ],
)
def test_times_without_an_offset_are_the_shops(raw: str, moment: datetime) -> None:
    assert AUCKLAND.instant(raw) == moment


def test_null_dates_are_nothing() -> None:
    assert AUCKLAND.instant("0001-01-01T00:00:00") is None
    assert AUCKLAND.day("1900-01-01") is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("31/12/1980", "not_a_time"),
        ("2024-W01-1", "not_a_time"),
        ("20240102", "not_a_time"),
        ("2024-02-30", "not_a_time"),
        ("2024-01-02x03:04", "not_a_time"),
        ("2024-01-02T25:00:00", "not_a_time"),
        ("1899-12-31", "out_of_range"),
        ("9999-12-31T23:59:59Z", "out_of_range"),
        ("0001-01-02", "out_of_range"),
    ],
)
def test_no_time(raw: str, code: str) -> None:
    with pytest.raises(BadValue, match=code):
        AUCKLAND.instant(raw)


def test_a_day_written_as_a_moment_is_the_shops_day() -> None:
    assert AUCKLAND.day("1980-05-01") == date(1980, 5, 1)
    assert AUCKLAND.day("1980-04-30T12:00:00Z") == date(1980, 5, 1)


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        ("/images/85123A.jpg", "https://shop.example/images/85123A.jpg"),
        ("images/BANK%20CHARGES.jpg", "https://shop.example/images/BANK%20CHARGES.jpg"),
        ("/images/a b.jpg", "https://shop.example/images/a%20b.jpg"),
        ("/images/50% off.jpg", "https://shop.example/images/50%25%20off.jpg"),
        ("/images/wētā.jpg?v=2", "https://shop.example/images/w%C4%93t%C4%81.jpg?v=2"),
        ("\\images\\a.jpg", "https://shop.example/images/a.jpg"),
        ("http://cdn.example/a.jpg", "http://cdn.example/a.jpg"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
    ],
)
def test_urls_are_absolute_and_encoded_once(raw: str, url: str) -> None:
    assert absolute_url(raw, "https://shop.example/") == url
    assert absolute_url(url, "https://elsewhere.example") == url


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("data:image/png;base64,AAAA", "not_a_url"),
        ("javascript:alert(1)", "not_a_url"),
        ("https://", "not_a_url"),
        ("https://[::1", "not_a_url"),
        ("https://wētā.example/a.jpg", "not_a_url"),
        ("https://a b.example/a.jpg", "not_a_url"),
        ("/" + "x" * 1000, "too_long"),
    ],
)
def test_no_url(raw: str, code: str) -> None:
    with pytest.raises(BadValue, match=code):
        absolute_url(raw, "https://shop.example")


def test_no_image_is_no_url() -> None:
    assert absolute_url(" ", "https://shop.example") is None
