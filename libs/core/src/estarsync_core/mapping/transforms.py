"""What a profile may do with a customer's text before it is read: a closed list of pure functions, by name."""

import re
from collections.abc import Callable, Mapping

from estarsync_core.mapping.fields import BadValue, boolean
from estarsync_core.profile import Transform

_NUMBERS = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})(?:[ T].*)?", re.DOTALL)


def _digits(text: str) -> str:
    return "".join(character for character in text if character in "0123456789")


def _invert(text: str) -> str:
    return "false" if boolean(text) else "true"


def _day_first(text: str) -> str:
    return _iso(text, day=1, month=2)


def _month_first(text: str) -> str:
    return _iso(text, day=2, month=1)


def _iso(text: str, *, day: int, month: int) -> str:
    """The date as ISO has it; a text that begins with its year is left to who reads it."""
    if text[:4].isdigit() and text[4:5] == "-":
        return text
    numbers = _NUMBERS.fullmatch(text)
    if numbers is None:
        raise BadValue("not_a_time")
    return f"{numbers[3]}-{numbers[month]:0>2}-{numbers[day]:0>2}"


TRANSFORMS: Mapping[Transform, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "digits": _digits,
    "invert": _invert,
    "day_first": _day_first,
    "month_first": _month_first,
}
"""Each takes a text with something in it, and raises `BadValue` where it can't do its work."""
