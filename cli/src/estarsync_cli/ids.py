"""Names for what people ask for."""

import secrets
from datetime import datetime


def new_id(kind: str, at: datetime) -> str:
    """An id that says what and when, and that nothing else has: `resync-orders-20260501T090000-1f2e`."""
    return f"{kind}-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
