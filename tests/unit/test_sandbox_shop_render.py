"""XML by string building is XML."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from sandbox.estar import render
from sandbox.estar.state import Line, TimeIndex, repeat, stamp

_XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
)


@given(_XML_TEXT | st.sampled_from(["a\rb", "a\r\nb", "\t", "]]>", "&amp;"]))
def test_any_text_comes_back_as_it_went_in(value: str) -> None:
    assert (etree.fromstring(render.element("T", value).encode()).text or "") == value


@pytest.mark.parametrize(
    ("value", "written"), [("\x1f", "&#x1F;"), ("\ufffe", "&#xFFFE;"), ("\ud800", "&#xD800;")]
)
def test_what_xml_cant_hold_is_written_as_dotnet_does(value: str, written: str) -> None:
    xml = render.element("T", value)
    assert xml == f"<T>{written}</T>"
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(xml.encode())


def test_children_repeat_and_nothing_has_three_kinds() -> None:
    assert render.element("A", {"B": None, "C": "", "D": repeat("E", ["1", {"F": "2"}])}) == (
        '<A><B xsi:nil="true" /><C /><D><E>1</E><E><F>2</F></E></D></A>'
    )


def test_a_line_is_an_order_item() -> None:
    line = Line(1, 2, 3, "a&b", "<T>", 4, "1.10", "0.05", "Deleted", None, "p")
    root = etree.fromstring(f'<r xmlns:xsi="urn:x">{render.element("Items", [line])}</r>'.encode())
    (item,) = root[0]
    found = {child.tag: child.text for child in item}
    assert item.tag == "OrderItem"
    assert found["Barcode"] == "a&b"
    assert found["Title"] == "<T>"
    assert (found["Quantity"], found["UnitPrice"], found["UnitDiscount"]) == ("4", "1.10", "0.05")
    assert (found["StatusCode"], found["ProductID"], found["OrderID"]) == ("Deleted", "3", "2")


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2011, 1, 2, 3, 4, 5), "2011-01-02T03:04:05"),  # noqa: DTZ001 - the shop's own time
        (datetime(2011, 1, 2, 3, 4, 10, 120_000), "2011-01-02T03:04:10.12"),  # noqa: DTZ001 - the shop's own time
    ],
)
def test_times_have_no_offset(when: datetime, text: str) -> None:
    assert stamp(when) == text


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20))), st.integers(0, 20), st.integers(0, 20))
def test_the_time_index_agrees_with_a_plain_search(moves: list[tuple[int, int]], low: int, high: int) -> None:
    index, plain = TimeIndex(), dict[int, datetime]()
    start, end = (datetime(2020, 1, 1, 0, minute) for minute in (low, high))  # noqa: DTZ001 - the shop's own time
    for record_id, minute in moves:
        when = datetime(2020, 1, 1, 0, minute)  # noqa: DTZ001 - the shop's own time
        index.put(record_id, when)
        plain[record_id] = when
        expected = sorted((when, i) for i, when in plain.items() if start <= when < end)
        assert index.between(start, end) == [i for _, i in expected]
