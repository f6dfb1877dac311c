"""Reads invoice lines from a CSV file, and says exactly where one can't be read."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from estarsync_core.errors import ConfigurationError

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_GZIP = b"\x1f\x8b"
T = TypeVar("T")


@dataclass(slots=True)
class InvoiceLine:
    """One line of the file; the price is exact text."""

    invoice: str
    code: str
    description: str
    quantity: int
    when: datetime
    price: str
    priced: bool
    """Whether the price is above 0."""
    customer: int | None
    country: str


def read_lines(path: Path) -> Iterator[InvoiceLine]:
    """The lines of a .csv or .csv.gz file, in its order.

    Raises:
        ConfigurationError: while reading; one line that names the file, the line, the column and what to do.
    """
    try:
        with path.open("rb") as raw:
            yield from _parse(path, _unpacked(path, raw))
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _broken(path, error) from error
        raise ConfigurationError(
            [f"{path}: {error.strerror or error}: give the path of a .csv or .csv.gz file"]
        ) from error
    except (EOFError, zlib.error) as error:
        raise _broken(path, error) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path} is not UTF-8 text: save it as UTF-8 CSV"]) from error


def _broken(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError([f"{path} is damaged ({error}): fetch the .csv.gz file again"])


def _unpacked(path: Path, raw: BinaryIO) -> BinaryIO:
    packed = raw.read(2) == _GZIP
    raw.seek(0)
    if not packed and path.suffix == ".gz":
        raise ConfigurationError(
            [f"{path} is not a gzip file: compress it, or name it .csv if it is plain text"]
        )
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw


def _parse(path: Path, binary: BinaryIO) -> Iterator[InvoiceLine]:
    with TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            rows = _Rows(path, _header(path, next(reader, None)))
            for row in reader:
                if row:
                    yield rows.line(row, reader.line_num)
        except csv.Error as error:
            problem = f"{path} line {reader.line_num}: {error}: mend the CSV there"
            raise ConfigurationError([problem]) from error


def _header(path: Path, header: Sequence[str] | None) -> list[int]:
    if header is None:
        raise ConfigurationError([f"{path} is empty: it must start with the line {','.join(COLUMNS)}"])
    names = [name.strip() for name in header]
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ConfigurationError(
            [f"{path} line 1: no column {', '.join(missing)}: the first line must be {','.join(COLUMNS)}"]
        )
    return [names.index(column) for column in COLUMNS]


class _Rows:
    """Parses rows; equal texts are parsed once, since a file repeats its dates and prices."""

    def __init__(self, path: Path, order: list[int]) -> None:
        self._path = path
        self._order = order
        self._in_order = order == list(range(len(COLUMNS)))
        self._dates: dict[str, datetime] = {}
        self._prices: dict[str, tuple[str, bool]] = {}
        self._customers: dict[str, int | None] = {}
        self._codes: dict[str, str] = {}

    def line(self, row: list[str], number: int) -> InvoiceLine:
        """One row as a line.

        Raises:
            ConfigurationError: names the row's line and the column.
        """
        if len(row) <= max(self._order):
            raise self._problem(number, None, f"{len(row)} columns where {len(COLUMNS)} are needed")
        invoice, code, description, quantity, date, price, customer, country = (
            row if self._in_order and len(row) == len(COLUMNS) else [row[i] for i in self._order]
        )
        try:
            when, (price, priced) = self._dates[date], self._prices[price]
            return InvoiceLine(
                invoice.strip(),
                self._codes[code],
                description,
                int(quantity),
                when,
                price,
                priced,
                self._customers[customer],
                country.strip(),
            )
        except (KeyError, ValueError):
            self._learn(number, code, quantity, date, price, customer)
            if not invoice.strip():
                raise self._problem(number, "InvoiceNo", "is empty") from None
            return self.line(row, number)

    def _learn(self, number: int, code: str, quantity: str, date: str, price: str, customer: str) -> None:
        self._codes[code] = code.strip().upper()
        if not self._codes[code]:
            raise self._problem(number, "StockCode", "is empty")
        try:
            int(quantity)
        except ValueError as error:
            raise self._problem(number, "Quantity", f"{quantity!r} is not a whole number") from error
        try:
            self._dates[date] = datetime.strptime(date.strip(), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - local time
        except ValueError as error:
            raise self._problem(number, "InvoiceDate", f"{date!r} is not YYYY-MM-DD hh:mm:ss") from error
        try:
            amount = _finite(price)
        except ValueError as error:
            raise self._problem(number, "UnitPrice", f"{price!r} is not a number") from error
        # xs:decimal knows no exponent; any other text stays as it is.
        text = format(amount, "f") if "e" in price.lower() else price.strip()
        self._prices[price] = (text, amount > 0)
        try:
            self._customers[customer] = int(_finite(customer)) if customer.strip() else None
        except ValueError as error:
            raise self._problem(number, "CustomerID", f"{customer!r} is not a number") from error

    def _problem(self, number: int, column: str | None, what: str) -> ConfigurationError:
        place = f"{self._path} line {number}" + (f", column {column}" if column else "")
        return ConfigurationError([f"{place}: {what}: mend the line or remove it"])


def _finite(text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation as error:
        raise ValueError(text) from error
    if not number.is_finite():
        raise ValueError(text)
    return number
