"""What may stand in an identifier or in a data field, and how it is kept."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from sandbox.dotdigital.times import parsed, to_seconds

FieldType = Literal["String", "Numeric", "Date", "Boolean"]

_EMAIL = re.compile(r"[^@\s,;:<>()\[\]\\\"]+@[^@\s,;:<>()\[\]\\\"]+\.[^@\s,;:<>()\[\]\\\".]+")
_MOBILE = re.compile(r"\+?[1-9]\d{6,14}")
_MAX_EMAIL = 254
_WHOLE_DIGITS = 18
_DECIMALS = 9


def is_email(text: str) -> bool:
    """Whether an e-mail address can be imported."""
    local = text.rpartition("@")[0]
    dots = local.startswith(".") or local.endswith(".") or ".." in text
    return len(text) <= _MAX_EMAIL and not dots and _EMAIL.fullmatch(text) is not None


def is_mobile(text: str) -> bool:
    """Whether it is an E.164 number, with or without its `+`."""
    return _MOBILE.fullmatch(text) is not None


class WrongValueError(ValueError):
    """A value that a data field of its type does not take; the text says why."""


def _text(value: Any, limit: int) -> str:  # noqa: ANN401 - any JSON
    if value.__class__ is not str:
        raise WrongValueError("expected a string")
    text: str = value
    if len(text) > limit:
        raise WrongValueError(f"longer than {limit} characters")
    return text


def _number(value: Any, _: int) -> float:  # noqa: ANN401 - any JSON
    if value.__class__ is not int and value.__class__ is not float:
        raise WrongValueError("expected a number")
    number: float = value
    if abs(number) >= 10**_WHOLE_DIGITS or round(number, _DECIMALS) != number:
        raise WrongValueError(f"more than {_WHOLE_DIGITS} digits, or {_DECIMALS} decimals")
    return number


def _date(value: Any, _: int) -> str:  # noqa: ANN401 - any JSON
    time = parsed(value) if value.__class__ is str else None
    if time is None:
        raise WrongValueError("expected a date as ISO 8601")
    return to_seconds(time)


def _boolean(value: Any, _: int) -> bool:  # noqa: ANN401 - any JSON
    if value is True or value is False:
        return bool(value)
    raise WrongValueError("expected true or false")


KEPT_AS: Mapping[FieldType, Callable[[Any, int], Any]] = MappingProxyType(
    {"String": _text, "Numeric": _number, "Date": _date, "Boolean": _boolean}
)
"""By type: a value and the text limit in, the value as it is kept out; `WrongValueError` where it can't be."""
