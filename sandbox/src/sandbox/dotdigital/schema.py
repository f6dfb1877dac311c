"""An Insight collection's schema: it grows with the records, and what it has fixed stays fixed."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from sandbox.dotdigital.times import parsed

Kind = Literal["STRING", "FLOAT", "TIMESTAMP", "BOOLEAN", "RECORD"]
Reason = Literal[
    "InvalidJson",
    "JsonContainsNestedArray",
    "JsonKeyTooLong",
    "JsonKeyInvalidCharacters",
    "JsonContainsDashUnderscoreClash",
    "JsonValueTooLong",
    "JsonNumberValueTooLarge",
    "JsonValueIncompatibleWithSchema",
]

_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST = 1e15  # not published
_DEEPEST = 50  # not published
_SHAPES_KEPT = 10_000
_ENVELOPE: tuple[tuple[str, str, str], ...] = (
    ("key", "NULLABLE", "STRING"),
    ("contactIdentifier", "REQUIRED", "INTEGER"),
    ("dateModified", "REQUIRED", "TIMESTAMP"),
    ("deleted", "NULLABLE", "BOOLEAN"),
    ("rowId", "NULLABLE", "STRING"),
)


class UnfitError(Exception):
    """A record that the schema does not take.

    Args:
        reason: Dotdigital's word for it.
        detail: for people, with the key.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason)


@dataclass(slots=True, eq=False)
class Column:
    """A key of the schema; without a kind until the first value that is not null."""

    name: str
    kind: Kind | None = None
    repeated: bool = False
    columns: dict[str, "Column"] = field(default_factory=dict)
    shapes: dict[tuple[str, ...], list["Column"]] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """As the schema call shows it."""
        mode = {"mode": "REPEATED"} if self.repeated else {}
        return {"name": self.name, **mode, "type": self.kind, "fields": self.fields_shown()}

    def fields_shown(self) -> list[dict[str, Any]]:
        """The columns inside, those that have a kind."""
        return [column.shown() for column in self.columns.values() if column.kind is not None]


class Schema:
    """A collection's schema."""

    def __init__(self) -> None:
        self._root = Column("json", "RECORD")

    def shown(self) -> list[dict[str, Any]]:
        """As the schema call shows it: the envelope, then the record."""
        envelope = [
            {"name": name, "mode": mode, "type": kind, "fields": []} for name, mode, kind in _ENVELOPE
        ]
        record = {"name": "json", "mode": "NULLABLE", "type": "RECORD", "fields": self._root.fields_shown()}
        return [*envelope, record]

    def fit(self, document: dict[str, Any], text_limit: int | None, key_limit: int) -> None:
        """Check a record, and learn from it if it fits.

        Raises:
            UnfitError: it doesn't, and nothing was learned.
        """
        learned: list[Column] = []
        try:
            _Walk(text_limit, key_limit, learned).record(self._root, document)
        except UnfitError:
            for column in learned:
                column.kind, column.repeated = None, False
            raise


class _Walk:
    """One record's way through the schema."""

    def __init__(self, text_limit: int | None, key_limit: int, learned: list[Column]) -> None:
        self._text_limit = text_limit
        self._key_limit = key_limit
        self._learned = learned
        self._depth = 0

    def record(self, column: Column, document: dict[str, Any]) -> None:
        """Check an object against a RECORD column. This is the hot path: most values end in a first `if`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnfitError("InvalidJson", f"Field '{column.name}' is nested too deep")
        shape = tuple(document)
        columns = column.shapes.get(shape)
        if columns is None:
            columns = self._columns(column, shape)
        limit = self._text_limit
        for inner, value in zip(columns, document.values(), strict=True):
            cls = value.__class__
            kind = inner.kind
            if cls is str:
                if kind == "STRING" and not inner.repeated and (limit is None or len(value) <= limit):
                    continue
            elif (cls is float or cls is int) and kind == "FLOAT" and not inner.repeated:
                if -_LARGEST <= value <= _LARGEST:
                    continue
            elif value is None:
                continue
            self._value(inner, value)
        self._depth -= 1

    def _columns(self, column: Column, shape: tuple[str, ...]) -> list[Column]:
        found: list[Column] = []
        names: dict[str, str] = {}
        for key in shape:
            if len(key) > self._key_limit:
                raise UnfitError("JsonKeyTooLong", f"Key '{key[:40]}…' is too long")
            if not _KEY.fullmatch(key):
                raise UnfitError(
                    "JsonKeyInvalidCharacters", f"Key '{key}' has characters that are not allowed"
                )
            name = key.lower().replace("-", "_")
            if name in names:
                raise UnfitError(
                    "JsonContainsDashUnderscoreClash", f"Keys '{names[name]}' and '{key}' are the same"
                )
            names[name] = key
            if name not in column.columns:
                column.columns[name] = Column(key.lower())
            found.append(column.columns[name])
        if len(column.shapes) < _SHAPES_KEPT:
            column.shapes[shape] = found
        return found

    def _value(self, column: Column, value: Any) -> None:  # noqa: ANN401 - any JSON
        if isinstance(value, list):
            self._list(column, value)
        elif column.repeated:
            raise _incompatible(column, "an array")
        else:
            self._one(column, value, repeated=False)

    def _list(self, column: Column, values: list[Any]) -> None:
        if column.kind is not None and not column.repeated:
            raise _incompatible(column, f"a {column.kind}, not an array")
        known = column.kind == "RECORD"
        for value in values:
            if known and value.__class__ is dict:
                self.record(column, value)
            elif isinstance(value, list):
                raise UnfitError("JsonContainsNestedArray", f"Field '{column.name}' has an array in an array")
            elif value is not None:
                self._one(column, value, repeated=True)

    def _one(self, column: Column, value: Any, *, repeated: bool) -> None:  # noqa: ANN401 - any JSON
        kind = self._kind(column, value)
        if column.kind is None:
            column.kind, column.repeated = kind, repeated
            self._learned.append(column)
        elif column.kind != kind:
            raise _incompatible(column, f"a {column.kind}")
        if kind == "RECORD":
            self.record(column, value)

    def _kind(self, column: Column, value: Any) -> Kind:  # noqa: ANN401 - any JSON
        if isinstance(value, str):
            if self._text_limit is not None and len(value) > self._text_limit:
                raise UnfitError("JsonValueTooLong", f"Field '{column.name}' is too long")
            if column.kind == "STRING":
                return "STRING"
            return "STRING" if parsed(value) is None else "TIMESTAMP"
        if isinstance(value, bool):
            return "BOOLEAN"
        if isinstance(value, int | float):
            if not -_LARGEST <= value <= _LARGEST:
                raise UnfitError("JsonNumberValueTooLarge", f"Field '{column.name}' is too large a number")
            return "FLOAT"
        return "RECORD"


def _incompatible(column: Column, wanted: str) -> UnfitError:
    return UnfitError("JsonValueIncompatibleWithSchema", f"Field '{column.name}' is expected to be {wanted}")
