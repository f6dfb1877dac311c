"""An import's status and report, read without ever holding much more of it than is asked for.

A report of a hundred thousand contacts names each of them, and one of failed orders carries every order again, so
it may be as large as the import itself.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

Pieces = Callable[[], Iterable[bytes]]
"""Gives a document from its beginning, piece by piece, each time that it is called."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|["{}\[\],:]', re.DOTALL)
_OPENING, _ENDS = frozenset((b"{", b"[")), frozenset((b",", b"}", b"]"))
_IN_OBJECT, _IN_ARRAY = 1, 2  # depths


class _Identifiers(msgspec.Struct, gc=False):
    email: str = ""


class _Code(msgspec.Struct, gc=False):
    failure_code: str = msgspec.field(default="", name="failureCode")


class _Entry(msgspec.Struct, gc=False):
    """A contact that was saved, or a contact or record that was not; what else stands there is skipped."""

    identifiers: _Identifiers | None = None
    failures: list[_Code] | None = None
    key: str = ""
    reason: str = msgspec.field(default="", name="failureReason")

    @property
    def email(self) -> str:
        return "" if self.identifiers is None else self.identifiers.email.strip().lower()

    @property
    def code(self) -> str:
        return self.failures[0].failure_code if self.failures else ""


class _Whole(msgspec.Struct, gc=False):
    status: str = ""
    summary: dict[str, Any] | None = None
    created: list[_Entry] | None = None
    updated: list[_Entry] | None = None
    failures: list[_Entry] | None = None


class Part(NamedTuple):
    """A value of a JSON object, or one element of a value that is an array."""

    name: str
    raw: bytes
    element: bool


class Report:
    """What stands in an import's status; without a report yet, only the status.

    Attributes:
        status: Dotdigital's word; empty where there is none.
        summary: the totals.
        close: gives its disk space back; nothing may be asked any more.
    """

    def __init__(
        self,
        status: str,
        summary: Mapping[str, Any],
        entries: Callable[..., Iterator[_Entry]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.status = status
        self.summary = summary
        self.close = close
        self._entries = entries

    def saved(self) -> Iterator[str]:
        """The e-mails of the contacts that were saved, in lower case."""
        return (entry.email for entry in self._entries("created", "updated"))

    def failed_contacts(self) -> Iterator[tuple[str, str]]:
        """E-mail and code of each contact in the failures; the code may be empty."""
        return ((entry.email, entry.code) for entry in self._entries("failures"))

    def failed_records(self) -> Iterator[tuple[str, str]]:
        """Key and reason of each Insight record in the failures; the reason may be empty."""
        return ((entry.key, entry.reason) for entry in self._entries("failures"))


EMPTY = Report("", {}, lambda *_: iter(()))
"""An answer that says nothing."""


def read_report(body: bytes) -> Report:
    """A report that is in memory.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        whole = msgspec.json.decode(body, type=_Whole)
    except msgspec.DecodeError:
        return scan_report(lambda: [body])  # entry by entry: the strange ones are left out

    def entries(*names: str) -> Iterator[_Entry]:
        for name in names:
            yield from getattr(whole, name) or ()

    return Report(whole.status, whole.summary or {}, entries)


def scan_report(pieces: Pieces, close: Callable[[], None] = lambda: None) -> Report:
    """A report that is too large for memory: gone through now, and again for each question.

    Raises:
        ValueError: it is no JSON object.
    """
    status, summary = "", {}
    for part in parts(pieces()):
        if part.name == "status" and not part.element:
            status = _text(part.raw)
        elif part.name == "summary" and not part.element:
            summary = _totals(part.raw)

    def entries(*names: str) -> Iterator[_Entry]:
        for part in parts(pieces()):
            if part.element and part.name in names:
                try:
                    yield msgspec.json.decode(part.raw, type=_Entry)
                except msgspec.DecodeError:
                    continue  # it names nobody: whoever is meant is not accounted for

    return Report(status, summary, entries, close)


def parts(pieces: Iterable[bytes]) -> Iterator[Part]:
    """The values of a JSON object, in order; of an array, each element by itself.

    Only one of them is in memory at a time.

    Raises:
        ValueError: it is no JSON object, or ends too early.
    """
    splitter = _Splitter()
    for piece in pieces:
        yield from splitter.feed(piece)
    if not splitter.over:
        raise ValueError("not a JSON object, or not all of it")


class _Splitter:
    """Finds where values begin and end, by the brackets, commas and colons that stand outside of strings."""

    def __init__(self) -> None:
        self.over = False
        self._text = b""
        self._at = 0  # looked at so far
        self._begun: int | None = None  # where the present value begins
        self._depth = 0
        self._name = ""
        self._in_array = False

    def feed(self, piece: bytes) -> Iterator[Part]:
        """The parts that end in this piece."""
        self._text += piece
        for token in _TOKEN.finditer(self._text, self._at):
            mark = token.group()
            if mark == b'"':
                break  # the string goes on in the next piece
            self._at = token.end()
            part = self._ended(mark, token.start())
            if part is not None:
                yield part
        begin = self._at if self._begun is None else self._begun
        self._text = self._text[begin:]
        self._at -= begin
        if self._begun is not None:
            self._begun = 0

    def _ended(self, mark: bytes, start: int) -> Part | None:
        """The value that ends at a mark, if one does."""
        level = _IN_ARRAY if self._in_array else _IN_OBJECT
        if self._depth == level and mark in _ENDS:
            part = self._part(start)
            self._begun = self._at if self._in_array and mark == b"," else None
            if mark != b",":
                self._depth -= 1
                self._in_array = False
                self.over = self._depth == 0
            return part
        if mark in _OPENING:
            if self._depth == 0 and (mark != b"{" or self.over or self._text[:start].strip()):
                raise ValueError("not a JSON object")
            self._depth += 1
            if self._depth == _IN_ARRAY and mark == b"[":
                self._in_array, self._begun = True, self._at
        elif mark in _ENDS:
            self._depth -= mark != b","
        elif self._depth == _IN_OBJECT and mark == b":":
            self._begun = self._at
        elif self._depth == _IN_OBJECT and self._begun is None:
            self._name = _text(mark)
        return None

    def _part(self, end: int) -> Part | None:
        raw = b"" if self._begun is None else self._text[self._begun : end].strip()
        return Part(self._name, raw, self._in_array) if raw else None


def _text(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return ""


def _totals(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
