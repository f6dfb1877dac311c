"""Keys: one canonical form per entity, shared by every hop, so that order per key survives the whole way."""

import hashlib
import re
import unicodedata

from estarsync_core.entities import ContactEmail
from estarsync_core.errors import InvalidRecord

_EMAIL = re.compile(r"[^@\s,;:<>()\[\]\\\"]+@[^@\s,;:<>()\[\]\\\"]+\.[^@\s,;:<>()\[\]\\\".]+")
_PLAIN_EMAIL = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@[a-z0-9-]+(?:\.[a-z0-9-]+)+"
)  # nearly all of them
_MAX_EMAIL = 254  # RFC 5321 4.5.3.1.3, less the angle brackets
_OUTSIDE_RECORD_KEY = re.compile(r"[^A-Za-z0-9._-]")


def canonical_email(text: str | None) -> ContactEmail:
    """The key of a contact: trimmed, NFC, lower case.

    Raises:
        InvalidRecord: field `email`, code `missing` or `not_an_email`.
    """
    plain = (text or "").strip().lower()
    if len(plain) <= _MAX_EMAIL and _PLAIN_EMAIL.fullmatch(plain):
        return ContactEmail(plain)
    canonical = unicodedata.normalize("NFC", (text or "").strip()).lower()
    if not canonical:
        raise InvalidRecord("email", "missing")
    local = canonical.rpartition("@")[0]
    dots = local.startswith(".") or local.endswith(".") or ".." in canonical
    if len(canonical) > _MAX_EMAIL or dots or not _EMAIL.fullmatch(canonical) or not canonical.isprintable():
        raise InvalidRecord("email", "not_an_email")
    return ContactEmail(canonical)


def record_key(key: str) -> str:
    """The Insight record key of a sku or an order id: `[A-Za-z0-9._-]`, distinct for distinct keys.

     Each character outside is written `_`, and then `-` and 8 hex digits of the key's SHA-256 follow
    . A key that fits stays as it is.
    """
    safe = _OUTSIDE_RECORD_KEY.sub("_", key)
    if safe == key:
        return key
    return f"{safe}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
