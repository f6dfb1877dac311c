"""From the bytes of a raw event to eStar's records."""

import re
from typing import TypeVar

import msgspec

from estarsync_core.errors import InvalidRecord

T = TypeVar("T")

_PATH = re.compile(r" - at `\$\.?(.+)`$")


def decode(decoder: msgspec.json.Decoder[T], value: bytes) -> T:
    """The record in the JSON text.

    Raises:
        InvalidRecord: field `value` and code `not_json`; or the path of what is wrong, with code `wrong_type` or
            `missing`. Never with a value from the record.
    """
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        text = str(error)
        path = _PATH.search(text)
        code = "missing" if text.startswith("Object missing") else "wrong_type"
        raise InvalidRecord(path[1] if path else "value", code) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not chained: a UnicodeDecodeError carries the whole text.
        raise InvalidRecord("value", "not_json") from None
