"""A reader made for one Avro schema: Python source generated from it at start, as `avro_writer` does for writing.

The documents are those of `fastavro.schemaless_reader`. The generated code knows the types that our schemas use, in
the form in which they are written; it raises for everything else, and the caller then lets fastavro decide.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from struct import Struct
from typing import Any

from estarsync_core.mapping.result import Document

Reader = Callable[[bytes, int], Document]
"""The document in a value whose body begins at an offset and ends with the value. Raises anything at all for a
value that it can't read, never for one half read: then there would be no document."""

_BITS = 64


class _Unsupported(Exception):  # noqa: N818 - named for what it is
    """The schema uses something that the generator does not know."""


def compile_reader(schema: Any) -> Reader | None:  # noqa: ANN401 - a schema is any JSON
    """A reader for a record schema as plain JSON; None where the generator does not know a part of it."""
    source = _Source()
    try:
        found = source.value(schema, 1)
    except _Unsupported:
        return None
    lines = [
        "def read(data, at):",
        *source.lines,
        "    if at != len(data): raise ValueError",
        f"    return {found}",
    ]
    namespace = dict(_TOOLS) | source.unpackers
    # The source holds nothing but our own code and the schema's field names, quoted.
    exec(compile("\n".join(lines), "<avro reader>", "exec"), namespace)  # noqa: S102 - as above
    reader: Reader = namespace["read"]
    return reader


def _long(data: bytes, at: int) -> tuple[int, int]:
    """Avro's zig-zag variable-length integer at an offset, not yet unfolded, and where it ends."""
    number = shift = 0
    while shift < _BITS:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte's mark
            if number >> _BITS:
                break
            return number, at
        shift += 7
    raise OverflowError


_TOOLS: dict[str, Any] = {
    "DAY": date(1970, 1, 1).toordinal(),
    "EPOCH": datetime(1970, 1, 1, tzinfo=UTC),
    "day": date.fromordinal,
    "long": _long,
    "milliseconds": timedelta(milliseconds=1),
}


class _Source:
    """The body of a reader: lines that move `at` through `data`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.unpackers: dict[str, Any] = {}
        self._names: Iterator[str] = (f"v{number}" for number in count())

    def value(self, schema: Any, depth: int) -> str:  # noqa: ANN401, PLR0911 - any JSON; one return a type
        """Lines for one value; the expression that it is in the end."""
        match schema:
            case ["null", other]:
                return self._nullable(other, depth)
            case {"type": "record", "fields": fields}:
                return self._record(fields, depth)
            case {"type": "array", "items": items}:
                return self._array(items, depth)
            case {"type": "int", "logicalType": "date"}:
                return self._assign(f"day({self._number(depth)} + DAY)", depth)
            case {"type": "long", "logicalType": "timestamp-millis"}:
                return self._assign(f"EPOCH + {self._number(depth)} * milliseconds", depth)
            case "string":
                return self._text(depth)
            case "double":
                return self._doubles(1, depth)[0]
            case "boolean":
                name = self._assign("data[at]", depth)
                self._line(f"if {name} > 1: raise ValueError", depth)
                self._line("at += 1", depth)
                return f"{name} == 1"
            case "int" | "long":
                return self._number(depth)
            case _:
                raise _Unsupported

    def _record(self, fields: list[Any], depth: int) -> str:
        parts: list[str] = []
        doubles: list[str] = []
        for field in fields:
            name = repr(field["name"])
            if field["type"] == "double":
                doubles.append(name)
                continue
            parts += self._named(doubles, depth)
            doubles = []
            parts.append(f"{name}: {self.value(field['type'], depth)}")
        parts += self._named(doubles, depth)
        return self._assign(f"{{{', '.join(parts)}}}", depth)

    def _named(self, names: list[str], depth: int) -> list[str]:
        values = self._doubles(len(names), depth)
        return [f"{name}: {value}" for name, value in zip(names, values, strict=True)]

    def _doubles(self, count: int, depth: int) -> list[str]:
        """Doubles beside each other are unpacked at once."""
        if not count:
            return []
        unpacker, names = f"unpack{count}", [next(self._names) for _ in range(count)]
        self.unpackers[unpacker] = Struct(f"<{count}d").unpack_from
        self._line(f"{', '.join(names)}, = {unpacker}(data, at)", depth)
        self._line(f"at += {8 * count}", depth)
        return names

    def _text(self, depth: int) -> str:
        length, name = self._folded(depth), next(self._names)
        self._line(f"if {length} & 1: raise ValueError", depth)
        self._line(f"{length} = at + ({length} >> 1)", depth)
        # A text that ends too early moves `at` beyond the end, which is noticed there.
        self._line(f"{name} = data[at:{length}].decode()", depth)
        self._line(f"at = {length}", depth)
        return name

    def _number(self, depth: int) -> str:
        name = self._folded(depth)
        self._line(f"{name} = ({name} >> 1) ^ -({name} & 1)", depth)
        return name

    def _folded(self, depth: int) -> str:
        name = self._assign("data[at]", depth)
        self._line(f"if {name} < 128: at += 1", depth)
        self._line(f"else: {name}, at = long(data, at)", depth)
        return name

    def _nullable(self, schema: Any, depth: int) -> str:  # noqa: ANN401 - as above
        out = self._assign("data[at]", depth)
        self._line("at += 1", depth)
        self._line(f"if {out} == 0: {out} = None", depth)
        self._line(f"elif {out} != 2: raise ValueError", depth)
        self._line("else:", depth)
        self._line(f"{out} = {self.value(schema, depth + 1)}", depth + 1)
        return out

    def _array(self, items: Any, depth: int) -> str:  # noqa: ANN401 - as above
        out = self._assign("[]", depth)
        left = self._number(depth)
        self._line(f"while {left}:", depth)
        self._line(f"if {left} < 0: raise ValueError", depth + 1)
        self._line(f"for {left} in range({left}):", depth + 1)
        self._line(f"{out}.append({self.value(items, depth + 2)})", depth + 2)
        again = self._number(depth + 1)
        self._line(f"{left} = {again}", depth + 1)
        return out

    def _assign(self, expression: str, depth: int) -> str:
        name = next(self._names)
        self._line(f"{name} = {expression}", depth)
        return name

    def _line(self, text: str, depth: int) -> None:
        self.lines.append(f"{'    ' * depth}{text}")
