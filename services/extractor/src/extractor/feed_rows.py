"""The rows of a product feed, one at a time, as the records that the site's operations would give."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from lxml import etree
from typing_extensions import override

from estarsync_core.errors import RetryLater
from estarsync_core.estar.content import DropList, RawValue, Record
from estarsync_core.profile import ProductFeed, Records
from estarsync_runtime.estar.decoder import Decoder, declares_a_doctype

NOT_JSON = "not_json"
NOT_A_RECORD = "not_a_record"
TOO_LARGE = "too_large"
WRONG_COLUMNS = "wrong_columns"
_ITEM = "Item."
_START = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number from 1, and its record, or the code of what is wrong with it and its id if that is known."""

    number: int
    record: Record | None
    code: str = ""
    identity: str = ""


def rows(feed: ProductFeed, records: Records, path: Path, name: str) -> Iterator[Row]:
    """Every row of a file; memory holds one.

    Args:
        feed: what the file is.
        records: what is a list, and what is dropped, before anything else sees it.
        path: the file.
        name: what it is called; .gz is unpacked.

    Raises:
        RetryLater: the file as a whole can't be read; it is no feed, or it is broken.
    """
    reader: Callable[[ProductFeed, Records, _Limited], Iterator[Row]] = {
        "xml": _xml,
        "jsonl": _jsonl,
        "csv": _csv,
    }[feed.format]
    try:
        with path.open("rb") as raw, closing(_Limited(_unpacked(raw, name), feed.max_bytes)) as data:
            yield from reader(feed, records, data)
    except (OSError, EOFError, zlib.error) as error:
        raise RetryLater(f"the product feed can't be read: {type(error).__name__}") from error
    except UnicodeDecodeError as error:
        raise RetryLater(f"the product feed is not {feed.encoding}: see products.feed.encoding") from error
    except csv.Error as error:
        raise RetryLater(f"the product feed is not CSV: {error}") from error


def _unpacked(raw: BinaryIO, name: str) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if name.endswith(".gz") else raw


class _Limited(io.RawIOBase):
    """A file that ends in an error where it is too long, or where a row has no end in sight."""

    def __init__(self, data: BinaryIO, most: int) -> None:
        self._data = data
        self._left = most
        self.row_limit: int | None = None
        self._row = 0

    def row_ended(self) -> None:
        """A row ended: the next one may be as long again."""
        self._row = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        chunk = self._data.read(len(buffer))
        self._left -= len(chunk)
        self._row += len(chunk)
        if self._left < 0:
            raise RetryLater("the product feed, unpacked, is larger than products.feed.max_bytes")
        if self.row_limit is not None and self._row > self.row_limit:
            raise RetryLater(
                "the product feed has no row within products.feed.max_row_bytes: is products.feed.record right?"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _xml(feed: ProductFeed, records: Records, data: _Limited) -> Iterator[Row]:
    decoder = Decoder(records)
    buffered = io.BufferedReader(data, _START)
    if declares_a_doctype(buffered.peek(_START)):
        raise RetryLater("the product feed has a DOCTYPE, which is not read")
    data.row_limit = feed.max_row_bytes
    *above, tag = feed.record.split("/")
    number = 0
    try:
        for _, element in etree.iterparse(
            buffered,
            events=("end",),
            tag=f"{{*}}{tag}",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
            huge_tree=False,
            collect_ids=False,
        ):
            if not _is_below(element, above):
                continue
            number += 1
            value = decoder.value(element)
            yield _checked(number, _named(value, feed) if isinstance(value, dict) else None)
            data.row_ended()
            element.clear()
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:  # keeps memory at one row
                del parent[0]
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise RetryLater(f"the product feed is not XML (line {line}, column {column})") from None


def _is_below(element: etree._Element, above: list[str]) -> bool:
    here = element.getparent()
    for name in reversed(above):
        if here is None or etree.QName(here.tag).localname != name:
            return False
        here = here.getparent()
    return True


def _jsonl(feed: ProductFeed, records: Records, data: _Limited) -> Iterator[Row]:
    drop = DropList(records.drop)
    number = 0
    for line in _lines(io.BufferedReader(data, 65_536), feed.max_row_bytes):
        number += 1
        if line is None:
            yield Row(number, None, TOO_LARGE)
            continue
        text = line.decode(feed.encoding)
        if not text.strip():
            continue
        try:
            value = _as_text(json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse))
        except (ValueError, RecursionError):
            yield Row(number, None, NOT_JSON)
            continue
        named = _named(value, feed) if isinstance(value, dict) else None
        yield _checked(number, None if named is None else drop.strip_record(named))


def _lines(data: io.BufferedReader, most: int) -> Iterator[bytes | None]:
    """Lines without their end; None for one that is too long."""
    while line := data.readline(most + 2):
        if len(line.rstrip(b"\r\n")) <= most:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = data.readline(most)
        yield None


def _refuse(word: str) -> None:
    raise ValueError(word)  # NaN and Infinity are no JSON


def _as_text(value: Any) -> RawValue:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: _as_text(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_as_text(child) for child in value]
    return str(value).lower() if isinstance(value, bool) else cast("str | None", value)


def _csv(feed: ProductFeed, records: Records, data: _Limited) -> Iterator[Row]:
    drop = DropList(records.drop)
    text = io.TextIOWrapper(io.BufferedReader(data, 65_536), encoding=feed.encoding, newline="")
    lines = csv.reader(text, delimiter=feed.delimiter, strict=True)
    header = [name.strip() for name in next(lines, [])]
    missing = [name for name in feed.fields if name not in header]
    if missing or len(set(header)) < len(header):
        problem = f"lacks the columns {', '.join(missing)}" if missing else "has a column twice"
        raise RetryLater(f"the product feed {problem}: see products.feed.fields")
    number = 0
    for cells in lines:
        if not cells:
            continue
        number += 1
        if len(cells) != len(header):
            yield Row(number, None, WRONG_COLUMNS, _cell(header, cells, feed))
            continue
        if sum(map(len, cells)) > feed.max_row_bytes:
            yield Row(number, None, TOO_LARGE, _cell(header, cells, feed))
            continue
        row: Record = dict(zip(header, cells, strict=True))
        yield _checked(number, drop.strip_record(_named(row, feed)))


def _cell(header: list[str], cells: list[str], feed: ProductFeed) -> str:
    """The product's id in a row that can't be used otherwise, as far as can be told."""
    return next(
        (
            cell.strip()
            for name, cell in zip(header, cells, strict=False)
            if feed.fields.get(name, name) == "ID"
        ),
        "",
    )


def _named(row: Mapping[str, RawValue], feed: ProductFeed) -> Record:
    """A row under the published names; what belongs to an item makes one."""
    record: Record = {}
    item: Record = {}
    for theirs, value in row.items():
        name = feed.fields.get(theirs, theirs)
        if name.startswith(_ITEM):
            item[name.removeprefix(_ITEM)] = value
        else:
            record[name] = value
    if item:
        items = record.get("Items")
        record["Items"] = [*(items if isinstance(items, list) else []), item]
    return record


def _checked(number: int, record: Record | None) -> Row:
    if record is None:
        return Row(number, None, NOT_A_RECORD)
    return Row(number, record)
