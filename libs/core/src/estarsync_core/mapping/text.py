"""Text as people typed it, made fit to send: trimmed, composed, without what nobody can see, not too long."""

import html
import re
import unicodedata

LIMIT = 1000
"""The longest text that Dotdigital takes, in UTF-16 units, as .NET counts."""

_ZERO_WIDTH_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)

# Characters that break lines become a blank; other controls and invisible marks go. The two joiners stay: scripts
# and emoji need them.
_UNSEEN: dict[int, str | None] = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_UNSEEN |= dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, 0xFEFF])
_UNSEEN |= dict.fromkeys(range(0x2066, 0x206A))
_UNSEEN |= dict.fromkeys([0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029], " ")

# Only entities with their semicolon and tags that HTML knows: `R&B` and `SIZE <M>` are ordinary text.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BLOCK_TAG = re.compile(r" ?</?(?:br|p|div|li|ul|ol|h[1-6])(?:\s[^<>]*)?/?> ?", re.IGNORECASE)
_INLINE_TAG = re.compile(
    r"</?(?:a|b|i|u|s|em|strong|small|big|span|font|sub|sup|img)(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_UNESCAPE_PASSES = 2  # feeds that escape twice exist; a third time would be somebody's text


def clean(raw: str | None) -> str | None:
    """The text trimmed, in NFC, without controls and invisible marks; None where nothing is left."""
    if raw is None:
        return None
    if not (raw.isascii() and raw.isprintable()):
        raw = unicodedata.normalize("NFC", raw.translate(_UNSEEN))
    return raw.strip() or None


def is_plain(json: bytes) -> bool:
    """Whether every text in the JSON is printable ASCII, so that `clean` does no more than trim it."""
    return json.isascii() and b"\\" not in json and b"\x7f" not in json


def clean_title(raw: str | None) -> str | None:
    """A title: `clean`, and without the HTML that shop editors leave in titles.

    Entities are unescaped, twice at most, then tags go: `<br>` and other breaks become a blank, `<b>` and other
    inline tags vanish. Blanks inside stay as they are.
    """
    if raw is None:
        return None
    if "&" in raw:
        for _ in range(_UNESCAPE_PASSES):
            raw = _ENTITY.sub(lambda entity: html.unescape(entity[0]), raw)
    if "<" in raw:
        raw = _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", raw))
    return clean(raw)


def cut(text: str) -> str:
    """The text itself where it fits into `LIMIT`, else its beginning, ending between two whole characters.

    A letter is not parted from its accents, nor an emoji from what is joined to it.
    """
    if 2 * len(text) <= LIMIT:
        return text
    units = end = 0
    while end < len(text) and units <= LIMIT:
        units += 2 if text[end] > "\uffff" else 1
        end += 1
    if units <= LIMIT:
        return text
    end -= 1
    start = end
    while start and _joined(text[start - 1], text[start]):
        start -= 1
    return text[: start or end].rstrip()


def _joined(left: str, right: str) -> bool:
    if _ZERO_WIDTH_JOINER in (left, right):
        return True
    return unicodedata.category(right).startswith("M") or ord(right) in _SKIN_TONES
