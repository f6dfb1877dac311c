"""A writer made for one Avro schema: Python source generated from it at start, a third of fastavro's cost.

The bytes are those of `fastavro.schemaless_writer`. The generated code knows the types that our schemas use, and
only the plain form of each value; it raises for everything else, and the caller then lets fastavro decide. What it
has made of a `Shared` part of a document is kept with that part.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import count
from struct import Struct
from typing import Any

from estarsync_core.mapping.result import Document, Shared

Writer = Callable[[Document], bytes]
"""A document to its Avro body. Raises anything at all for a document that it can't write."""

_INT = 2**31
_LONG = 2**63
_SIX, _SEVEN = 2**35, 2**42  # from here on it takes six bytes, and seven
_LENGTHS = 4096  # encoded lengths of texts that are looked up; a longer text is fastavro's
_SMALL = 1024  # numbers whose encoding is looked up


class _Unsupported(Exception):  # noqa: N818 - named for what it is
    """The schema uses something that the generator does not know."""


def compile_writer(schema: Any) -> Writer | None:  # noqa: ANN401 - a schema is any JSON
    """A writer for a record schema as plain JSON; None where the generator does not know a part of it."""
    source = _Source()
    try:
        parts = source.record(schema, "document", 1)
    except _Unsupported:
        return None
    lines = ["def write(document):", *source.lines, f"    return {_joined(parts)}"]
    namespace = dict(_TOOLS) | source.packers | {"SCHEMA": object()}
    # The source holds nothing but our own code and the schema's field names, quoted.
    exec(compile("\n".join(lines), "<avro writer>", "exec"), namespace)  # noqa: S102 - as above
    writer: Writer = namespace["write"]
    return writer


def _varint(number: int) -> bytes:
    """Avro's zig-zag variable-length integer."""
    if not -_LONG <= number < _LONG:
        raise OverflowError(number)
    rest = (number << 1) ^ (number >> 63)
    if _SIX <= rest < _SEVEN:  # a moment of our times, in milliseconds
        return bytes(
            (
                rest & 0x7F | 0x80,
                rest >> 7 & 0x7F | 0x80,
                rest >> 14 & 0x7F | 0x80,
                rest >> 21 & 0x7F | 0x80,
                rest >> 28 & 0x7F | 0x80,
                rest >> 35,
            )
        )
    out = bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TOOLS: dict[str, Any] = {
    "DAY": _EPOCH_DAY,
    "EPOCH": _EPOCH,
    "LENGTHS": [_varint(length) for length in range(_LENGTHS)],
    "PRESENT": [_varint(1) + _varint(length) for length in range(_LENGTHS)],
    "SMALL": {number: _varint(number) for number in range(-_SMALL, _SMALL)},
    "Shared": Shared,
    "date": date,
    "datetime": datetime,
    "join": b"".join,
    "varint": _varint,
}


class _Source:
    """The body of a writer: lines that take the document apart, and the parts to join in the end."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.packers: dict[str, Any] = {}
        self._names: Iterator[str] = (f"v{number}" for number in count())

    def record(self, schema: Any, name: str, depth: int) -> list[str]:  # noqa: ANN401 - as above
        """The parts of a record that is in a variable; doubles beside each other are packed at once."""
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise _Unsupported
        parts: list[str] = []
        doubles: list[str] = []
        for field in schema["fields"]:
            value = self._assign(f"{name}[{field['name']!r}]", depth)
            if field["type"] == "double":
                self._check(f"type({value}) is float", depth)
                doubles.append(value)
                continue
            parts += self._packed(doubles)
            doubles = []
            parts += self._value(field["type"], value, depth)
        return parts + self._packed(doubles)

    def _value(self, schema: Any, name: str, depth: int) -> list[str]:  # noqa: ANN401, PLR0911 - as above; one return a type
        match schema:
            case ["null", other]:
                return self._nullable(other, name, depth)
            case {"type": "record"}:
                return self.record(schema, name, depth)
            case {"type": "array", "items": items}:
                return self._array(items, name, depth)
            case {"type": "int", "logicalType": "date"}:
                self._check(f"type({name}) is date", depth)
                return [self._assign(f"varint({name}.toordinal() - DAY)", depth)]
            case {"type": "long", "logicalType": "timestamp-millis"}:
                self._check(f"type({name}) is datetime and {name}.tzinfo is not None", depth)
                self._line(f"{name} -= EPOCH", depth)
                millis = f"{name}.days * 86_400_000 + {name}.seconds * 1000 + {name}.microseconds // 1000"
                return [self._assign(f"varint({millis})", depth)]
            case "string":
                self._line(f"{name} = {name}.encode()", depth)
                return [f"LENGTHS[len({name})]", name]
            case "double":
                self._check(f"type({name}) is float", depth)
                return self._packed([name])
            case "boolean":
                self._check(f"type({name}) is bool", depth)
                return [f"(b'\\1' if {name} else b'\\0')"]
            case "int" | "long":
                limit = _INT if schema == "int" else _LONG
                self._check(f"type({name}) is int and {-limit} <= {name} < {limit}", depth)
                return [f"(SMALL.get({name}) or varint({name}))"]
            case _:
                raise _Unsupported

    def _nullable(self, schema: Any, name: str, depth: int) -> list[str]:  # noqa: ANN401 - as above
        out = next(self._names)
        self._line(f"if {name} is None:", depth)
        self._line(f"{out} = b'\\0'", depth + 1)
        self._line("else:", depth)
        if schema == "string":
            self._line(f"{name} = {name}.encode()", depth + 1)
            self._line(f"{out} = PRESENT[len({name})] + {name}", depth + 1)
            return [out]
        parts = self._value(schema, name, depth + 1)
        self._line(f"{out} = {_joined([repr(_varint(1)), *parts])}", depth + 1)
        return [out]

    def _array(self, items: Any, name: str, depth: int) -> list[str]:  # noqa: ANN401 - as above
        out, item = next(self._names), next(self._names)
        self._check(f"type({name}) is list", depth)
        self._line(f"{out} = b'\\0'", depth)
        self._line(f"if {name}:", depth)
        self._line(f"{out} = [SMALL.get(len({name})) or varint(len({name}))]", depth + 1)
        self._line(f"for {item} in {name}:", depth + 1)
        self._line(f"if type({item}) is Shared:", depth + 2)
        self._line(f"if {item}.encoder is not SCHEMA:", depth + 3)
        shared = self._assign(item, depth + 4)
        parts = self._value(items, shared, depth + 4)
        self._line(f"{item}.encoded, {item}.encoder = {_joined(parts)}, SCHEMA", depth + 4)
        self._line(f"{out}.append({item}.encoded)", depth + 3)
        self._line("else:", depth + 2)
        parts = self._value(items, item, depth + 3)
        self._line(f"{out}.append({_joined(parts)})", depth + 3)
        self._line(f"{out}.append(b'\\0')", depth + 1)
        self._line(f"{out} = join({out})", depth + 1)
        return [out]

    def _packed(self, doubles: Sequence[str]) -> list[str]:
        if not doubles:
            return []
        packer = f"pack{len(doubles)}"
        self.packers[packer] = Struct(f"<{len(doubles)}d").pack
        return [f"{packer}({', '.join(doubles)})"]

    def _assign(self, expression: str, depth: int) -> str:
        name = next(self._names)
        self._line(f"{name} = {expression}", depth)
        return name

    def _check(self, condition: str, depth: int) -> None:
        self._line(f"if not ({condition}): raise TypeError", depth)

    def _line(self, text: str, depth: int) -> None:
        self.lines.append(f"{'    ' * depth}{text}")


def _joined(parts: Sequence[str]) -> str:
    return f"join(({', '.join(parts)},))"
