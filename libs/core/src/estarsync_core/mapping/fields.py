"""Value parsers: a leaf's text to a typed value.

Each gives None for nothing (absent, nil, empty, blank) and raises `BadValue` with a code for text that it can't
read. None guesses: an ambiguous value is a bad one.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from estarsync_core.errors import InvalidRecord
from estarsync_core.mapping.text import LIMIT, clean, cut

T = TypeVar("T")

EXACT = Context(prec=80)
"""Arithmetic that never rounds: enough digits for every order that fits into a record."""

_REMEMBERED = 4096  # a shop's orders hold the same few prices and quantities again and again

_TRUE = frozenset({"true", "1", "yes", "y"})
_FALSE = frozenset({"false", "0", "no", "n"})

_PLAIN_TIME = len("2024-01-02T03:04:05")
_HOUR = len("2024-01-02T03")
_HOURS = 512  # that are remembered: records come in the order of their time, more or less
_WITHIN_AN_HOUR = re.compile(r":([0-5][0-9]):([0-5][0-9])")
_YEARS = range(1900, 2101)

_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_MONEY = re.compile(r"(-?)[$£€]? ?(-?)([0-9.,]+)")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(\.[0-9]+)?")
_UNGROUPED = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
_MAX_NUMBER = 40  # characters; SQL's widest decimal needs 40
_DOUBLE_DIGITS = 15  # as many as a double always keeps

_QUANTITY = re.compile(r"(-?[0-9]{1,10})(?:\.0{1,15})?")
_MAX_QUANTITY = 2**31 - 1

_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_URL_SAFE = "/:?#@!$&'()*+,;=~"


class Memory(dict[Any, T]):
    """What a pure function gave for the arguments that it met: `memory[argument]`.

    Quicker than `lru_cache`, which keeps them in order; this one forgets everything once it is full. What was made of
    long texts it does not keep at all.

    Args:
        function: of one argument; what it raises is not remembered.
        most: how many results are kept.
    """

    def __init__(self, function: Callable[[Any], T], most: int = _REMEMBERED) -> None:
        super().__init__()
        self._function = function
        self._most = most

    def __missing__(self, argument: Any) -> T:  # noqa: ANN401 - whatever the function takes
        """Ask the function."""
        result = self._function(argument)
        parts = argument if isinstance(argument, tuple) else (argument,)
        if all(len(part) <= LIMIT for part in parts if isinstance(part, str | bytes)):
            if len(self) >= self._most:
                self.clear()
            self[argument] = result
        return result


class BadValue(Exception):  # noqa: N818 - named for what it is
    """A value that can't be read.

    Args:
        code: the reason, from a closed set; never the value.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Notes(list[tuple[str, str]]):
    """The (field, code) pairs of one record, gathered while it is mapped."""

    def text(self, field: str, raw: str | None) -> str | None:
        """Clean text, cut to Dotdigital's limit; a cut is noted."""
        if raw is None:
            return None
        return self.fit(field, clean(raw))

    def fit(self, field: str, text: str | None) -> str | None:
        """Text that is clean already, cut to Dotdigital's limit; a cut is noted."""
        if text is None or len(text) <= LIMIT // 2:
            return text
        short = cut(text)
        if short != text:
            self.append((field, "cut"))
        return short

    def optional(self, field: str, parse: Callable[[str | None], T | None], raw: str | None) -> T | None:
        """What `parse` makes of the text, or None and a note where it can't read it."""
        try:
            return parse(raw)
        except BadValue as bad:
            self.append((field, bad.code))
            return None


def required(field: str, parse: Callable[[str | None], T | None], raw: str | None) -> T:
    """What `parse` makes of the text.

    Raises:
        InvalidRecord: code `missing`, or the parser's own.
    """
    try:
        value = parse(raw)
    except BadValue as bad:
        raise InvalidRecord(field, bad.code) from bad
    if value is None:
        raise InvalidRecord(field, "missing")
    return value


def identity(raw: str | None) -> str | None:
    """An id, a sku, a status: trimmed, else as the shop has it, never cut; code `too_long`."""
    text = (raw or "").strip()
    if len(text) > LIMIT // 2 and cut(text) != text:
        raise BadValue("too_long")
    return text or None


def boolean(raw: str | None) -> bool | None:
    """true/false, 1/0, yes/no, y/n in any case; code `not_a_boolean`."""
    text = clean(raw)
    if text is None:
        return None
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadValue("not_a_boolean")


def amount(raw: str | None) -> Decimal | None:
    """An exact amount: `19.95`, `-3`, `1,299.00`, `$19.95`.

    Codes: `not_a_number`; `ambiguous_number` where a comma could mean two things (`1,299`, `19,95`);
    `too_precise` for more than 15 significant digits, which no double holds.
    """
    text = clean(raw)
    if text is None:
        return None
    if len(text) <= _DOUBLE_DIGITS and _PLAIN_NUMBER.fullmatch(text):
        return Decimal(text)
    shape = _MONEY.fullmatch(text)
    if shape is None or len(text) > _MAX_NUMBER or (shape[1] and shape[2]):
        raise BadValue("not_a_number")
    digits = shape[3]
    grouped = _GROUPED.fullmatch(digits)
    if grouped and (grouped[1] or digits.count(",") > 1):
        digits = digits.replace(",", "")
    elif not _UNGROUPED.fullmatch(digits):
        raise BadValue("ambiguous_number" if "," in digits else "not_a_number")
    value = EXACT.normalize(Decimal(shape[1] + shape[2] + digits))
    if len(value.as_tuple().digits) > _DOUBLE_DIGITS:
        raise BadValue("too_precise")
    return value


def _quantity(raw: str | None) -> int | None:
    text = clean(raw)
    if text is None:
        return None
    shape = _QUANTITY.fullmatch(text)
    if shape is None:
        raise BadValue("not_an_integer")
    value = int(shape[1])
    if abs(value) > _MAX_QUANTITY:
        raise BadValue("out_of_range")
    return value


quantity = Memory(_quantity).__getitem__
"""A whole number, which may be written `2.000`; codes `not_an_integer`, `out_of_range`."""


def country_reader(countries: Mapping[str, str]) -> Callable[[str | None], str | None]:
    """What reads a country: `clean`, and what the profile sends in its place, in upper or lower case alike."""
    if not countries:
        return clean
    folded = {name.casefold(): sent for name, sent in countries.items()}

    def read(raw: str | None) -> str | None:
        text = clean(raw)
        return None if text is None else folded.get(text.casefold(), text)

    return read


class Times:
    """Reads the shop's times.

    Args:
        zone: where a time without an offset is. An hour that happens twice is its first one.
        null_dates: dates that stand for nothing.
    """

    def __init__(self, zone: ZoneInfo, null_dates: frozenset[date]) -> None:
        self._zone = zone
        self._null_dates = null_dates
        self._hours = Memory(self._hour, _HOURS)

    def instant(self, raw: str | None) -> datetime | None:
        """A moment, aware, UTC, in whole milliseconds; a date alone is its midnight.

        Codes: `not_a_time`; `out_of_range` outside the years 1900 to 2100.
        """
        if raw is not None and len(raw) == _PLAIN_TIME:
            hour, rest = self._hours[raw[:_HOUR]], _within_an_hour[raw[_HOUR:]]
            if hour is not None and rest is not None:
                return hour + rest
        local = self._local(raw)
        if local is None:
            return None
        if local.microsecond:
            local = local.replace(microsecond=local.microsecond // 1000 * 1000)
        return local.astimezone(UTC)

    def day(self, raw: str | None) -> date | None:
        """A date in the shop's zone; codes as of `instant`."""
        local = self._local(raw)
        return None if local is None else local.astimezone(self._zone).date()

    def _hour(self, text: str) -> datetime | None:
        """When an hour such as `2024-01-02T03` begins; None where it is none, or where the clocks change within it."""
        if text[10:11] != "T":
            return None
        try:
            first, last = self._local(f"{text}:00:00"), self._local(f"{text}:59:59")
        except BadValue:
            return None
        if first is None or last is None or first.utcoffset() != last.utcoffset():
            return None
        return first.astimezone(UTC)

    def _local(self, raw: str | None) -> datetime | None:
        text = clean(raw)
        if text is None:
            return None
        # The standard library also reads week dates and other forms that no shop means.
        if text[4:5] != "-" or text[7:8] != "-" or text[10:11] not in ("", "T", " "):
            raise BadValue("not_a_time")
        try:
            value = datetime.fromisoformat(text)
        except ValueError as error:
            raise BadValue("not_a_time") from error
        if value.date() in self._null_dates:
            return None
        if value.year not in _YEARS:
            raise BadValue("out_of_range")
        return value if value.tzinfo else value.replace(tzinfo=self._zone)


def _part_of_hour(text: str) -> timedelta | None:
    shape = _WITHIN_AN_HOUR.fullmatch(text)
    return shape and timedelta(minutes=int(shape[1]), seconds=int(shape[2]))


_within_an_hour = Memory(_part_of_hour)


def absolute_url(raw: str | None, base: str) -> str | None:
    """An absolute http(s) URL, percent-encoded exactly once.

    A value that already is percent-encoded stays so; one with a lone `%` is encoded. Anything without a scheme is
    a path below `base`, with either kind of slash. Codes: `not_a_url`, `too_long`.
    """
    text = clean(raw)
    if text is None:
        return None
    text = text.replace("\\", "/")
    if text.startswith("//"):
        text = "https:" + text
    elif not text.lower().startswith(("http://", "https://")):
        if ":" in text.partition("/")[0]:
            raise BadValue("not_a_url")
        text = base.rstrip("/") + "/" + text.lstrip("/")
    url = quote(text, safe=_URL_SAFE + "%" if _ESCAPED.fullmatch(text) else _URL_SAFE)
    try:
        host = urlsplit(text).hostname
    except ValueError as error:
        raise BadValue("not_a_url") from error
    if not host or not host.isascii() or " " in host:
        raise BadValue("not_a_url")
    if len(url) > LIMIT:
        raise BadValue("too_long")
    return url
