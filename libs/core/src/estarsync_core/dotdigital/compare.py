"""Whether what Dotdigital holds says the same as what it was sent.

Differences that Dotdigital makes by itself don't count: the case of names, null against absent or empty, forms
of numbers, dates and Booleans.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def differing_fields(expected: Mapping[str, Any], actual: Mapping[str, Any], at: str = "") -> list[str]:
    """The paths of the fields in which two documents differ, in the order of `expected`.

    A field that only `actual` has counts too, unless it is empty.
    """
    theirs = {name.lower(): value for name, value in actual.items()}
    ours = {name.lower() for name in expected}
    found = []
    for name, value in expected.items():
        found += _differs(value, theirs.get(name.lower()), f"{at}{name}")
    found += [
        f"{at}{name}" for name, value in actual.items() if name.lower() not in ours and not _empty(value)
    ]
    return found


def _differs(expected: Any, actual: Any, path: str) -> list[str]:  # noqa: ANN401 - any JSON
    if _empty(expected) and _empty(actual):
        return []
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return differing_fields(expected, actual, f"{path}.")
    if _is_list(expected) and _is_list(actual):
        if len(expected) != len(actual):
            return [path]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [
            field for number, (ours, theirs) in pairs for field in _differs(ours, theirs, f"{path}[{number}]")
        ]
    return [] if _scalar(expected) == _scalar(actual) else [path]


def _empty(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return value is None or value in ("", [], {})


def _is_list(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(value, Sequence) and not isinstance(value, str)


def _scalar(value: Any) -> object:  # noqa: ANN401 - any JSON
    """A value in one form, however it is written."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | float):
        return ("number", Decimal(repr(value)).normalize())
    if not isinstance(value, str):
        return value
    moment = _moment(value)
    return ("moment", moment) if moment is not None else ("text", value)


def _moment(text: str) -> datetime | None:
    if len(text) < len("2026-01-01T00:00") or text[4] != "-":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def same_value(expected: Any, actual: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether a data field holds what was sent; a Boolean may come back as a word, a number as text."""
    if type(expected) is type(actual) and expected == actual:
        return True  # nearly always so
    if isinstance(expected, bool) and isinstance(actual, str):
        return _BOOLEANS.get(actual.lower()) is expected
    if isinstance(expected, int | float) and isinstance(actual, str):
        try:
            return Decimal(repr(expected)) == Decimal(actual)
        except InvalidOperation:
            return False
    return not _differs(expected, actual, "")


def differing_data_fields(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """The data fields of a contact that don't hold what was sent; fields that are not ours don't count."""
    theirs = {name.lower(): value for name, value in actual.items()}
    return [name for name, value in expected.items() if not same_value(value, theirs.get(name.lower()))]


def value_at(document: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - any JSON
    """What stands at a path as `differing_fields` gives it; None where nothing does. Names match in any case."""
    found: Any = document
    for name, number in _STEP.findall(path):
        if number:
            at = int(number)
            found = found[at] if _is_list(found) and at < len(found) else None
        elif isinstance(found, Mapping):
            found = {each.lower(): value for each, value in found.items()}.get(name.lower())
        else:
            return None
    return found
