"""From the bytes of a raw event to eStar's records."""

import re
from typing import Any, TypeVar

import msgspec

from estarsync_core.errors import InvalidRecord

T = TypeVar("T")

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_PATH = re.compile(r" - at `\$\.?(.+)`$")


def decode(decoder: msgspec.json.Decoder[T], value: bytes) -> T:
    """The record in the JSON text.

    XML can't tell an empty structure from empty text: `<Account/>` is `""` here. Where a structure is expected,
    such an empty value counts as absent.

    Raises:
        InvalidRecord: field `value` and code `not_json`; or the path of what is wrong, with code `wrong_type` or
            `missing`. Never with a value from the record.
    """
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        return _without_empty_structures(decoder, value, _problem(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not chained: a UnicodeDecodeError carries the whole text.
        raise InvalidRecord("value", "not_json") from None


def _problem(error: msgspec.ValidationError) -> InvalidRecord:
    text = str(error)
    path = _PATH.search(text)
    code = "missing" if text.startswith("Object missing") else "wrong_type"
    return InvalidRecord(path[1] if path else "value", code)


def _without_empty_structures(decoder: msgspec.json.Decoder[T], value: bytes, problem: InvalidRecord) -> T:
    """The record without the empty values that stand where structures are expected; rare, so it may be slow."""
    try:
        tree = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise problem from None
    while _drop_if_empty(tree, problem.field):
        try:
            return msgspec.convert(tree, decoder.type)
        except msgspec.ValidationError as error:
            problem = _problem(error)
    raise problem from None


def _drop_if_empty(tree: Any, path: str) -> bool:  # noqa: ANN401 - any JSON
    """Take the empty value at the path out of the tree; false where it is not empty, or is no such place."""
    steps = [int(number) if number else name for name, number in _STEP.findall(path)]
    try:
        for step in steps[:-1]:
            tree = tree[step]
        if tree[steps[-1]] not in ("", None):
            return False
    except (LookupError, TypeError):
        return False
    del tree[steps[-1]]
    return True
