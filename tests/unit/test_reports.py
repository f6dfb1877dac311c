"""Reports are read whole or piece by piece, with the same result."""

import json
from collections.abc import Iterator
from errno import EIO
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.dotdigital.reports import EMPTY, Part, Report, parts, read_report, scan_report
from estarsync_runtime.dotdigital.reports import receive_report

CONTACTS = {
    "importId": "6f1d",
    "status": "Finished",
    "summary": {"newContacts": 1, "updatedContacts": 1},
    "created": [{"contactId": 1, "identifiers": {"email": "A@shop.example"}}],
    "updated": [{"contactId": 2, "identifiers": {"email": " b@shop.example ", "mobileNumber": "642"}}],
    "failures": [
        {
            "matchIdentifier": "email",
            "identifiers": {"email": "C@SHOP.example"},
            "failures": [
                {"failureCode": "InvalidEmail", "description": 'a "b" ] } \\'},
                {"failureCode": "x"},
            ],
        },
        {"identifiers": {"email": "d@shop.example"}},
    ],
}
RECORDS = {
    "status": "Complete",
    "collectionName": "Orders",
    "summary": {"totalImported": 2},
    "failures": [
        {"key": "1", "failureReason": "Unknown", "details": ["["], "json": {"products": [{"name": "],}"}]}},
        {"key": "2"},
    ],
}


def pieces(document: object, size: int) -> list[bytes]:
    body = json.dumps(document).encode()
    return [body[at : at + size] for at in range(0, len(body), size)]


def both(document: object) -> Iterator[Report]:
    yield read_report(json.dumps(document).encode())
    for size in (1, 2, 7, 10_000):
        yield scan_report(lambda size=size: pieces(document, size))  # type: ignore[misc]  # a default binds it


def test_contacts_are_named_by_their_e_mail_whatever_its_case():
    for report in both(CONTACTS):
        assert (report.status, report.summary) == ("Finished", CONTACTS["summary"])
        assert list(report.saved()) == ["a@shop.example", "b@shop.example"]
        assert list(report.failed_contacts()) == [("c@shop.example", "InvalidEmail"), ("d@shop.example", "")]


def test_records_are_named_by_their_key():
    for report in both(RECORDS):
        assert (report.status, report.summary) == ("Complete", {"totalImported": 2})
        assert list(report.failed_records()) == [("1", "Unknown"), ("2", "")]
        assert list(report.saved()) == []


@pytest.mark.parametrize(
    ("document", "saved"),
    [
        ({"status": 7, "summary": "none", "created": "none", "updated": [None, 3, []]}, []),
        ({"status": ["x"], "summary": [1], "created": [{"identifiers": 5}, {"identifiers": None}]}, [""]),
        (
            {"updated": [{"identifiers": {"email": "a@shop.example"}}, {"identifiers": {"email": 1}}]},
            ["a@shop.example"],
        ),
        ({"summary": None, "created": None}, []),
        ({}, []),
    ],
)
def test_what_is_not_as_documented_is_left_out(document, saved):
    for report in both(document):
        assert list(report.saved()) == saved
        assert (report.status, dict(report.summary)) == ("", {})


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"3", b'"x"', b"{", b'{"a":', b'{"a":[1', b'{"a":"x', b"x{}", b"{}{}"]
)
def test_what_is_no_object_or_not_all_of_one_is_an_error(body):
    with pytest.raises(ValueError, match="not a JSON object"):
        list(parts([body]))
    with pytest.raises(ValueError, match="not a JSON object"):
        read_report(body)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(['"', "\\", "}", "]", ","]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.text(max_size=4), JSON, max_size=5),
    size=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_any_object_is_split_into_its_values_whatever_the_pieces(document, size, indent, ascii_only):
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    found: dict[str, object] = {name: [] for name, value in document.items() if value == []}
    for part in parts(body[at : at + size] for at in range(0, len(body), size)):
        assert isinstance(part, Part)
        value = json.loads(part.raw)
        if part.element:
            many = found.setdefault(part.name, [])
            assert isinstance(many, list)
            many.append(value)
        else:
            found[part.name] = value
    assert found == document


def test_an_empty_answer_says_nothing():
    assert (EMPTY.status, list(EMPTY.saved()), list(EMPTY.failed_records())) == ("", [], [])


def test_a_large_report_goes_to_disk_and_leaves_nothing_there(tmp_path):
    document = {
        **CONTACTS,
        "created": [{"identifiers": {"email": f"c{n}@shop.example"}} for n in range(5000)],
    }
    small = receive_report(pieces(document, 1000), tmp_path, 10**9)
    large = receive_report(pieces(document, 1000), tmp_path, 2000)
    assert small is not None
    assert large is not None
    for _ in range(2):
        assert list(large.saved()) == list(small.saved())
        assert list(large.failed_contacts()) == list(small.failed_contacts())
    assert list(tmp_path.iterdir()) == []
    large.close()
    small.close()


@pytest.mark.parametrize("most", [0, 100])
def test_what_is_no_report_is_none(tmp_path, most):
    assert receive_report([b"<html>", b"</html>"], tmp_path, most) is None
    assert receive_report([b'{"status": "Finished", "created": ['], tmp_path, most) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("size", [200, 200_000])
def test_a_report_that_the_disk_has_no_room_for_is_none_to_be_asked_for_again(size):
    opened = []

    def full(_: Path | None) -> IO[bytes]:
        opened.append(Path("/dev/full").open("w+b"))  # noqa: SIM115 - the report closes it
        return opened[-1]

    document = [b'{"status": "Finished", "x": "', b"x" * size, b'"}']
    assert receive_report(document, None, 100, full) is None
    assert opened[0].closed


def test_another_error_of_the_disk_is_not_taken_for_an_answer():
    def broken(_: Path | None) -> IO[bytes]:
        raise OSError(EIO, "the disk is broken")

    with pytest.raises(OSError, match="broken"):
        receive_report([b"x" * 200], None, 100, broken)
