"""Which of the shop's contacts are to be created at Dotdigital."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

_SUBSCRIBED = "NEWSLETTER_SUBSCRIBE"


class ContactScope(StrEnum):
    """The setting CONTACT_SCOPE. One that was created keeps being updated, so that an unsubscribe always arrives."""

    ALL = "all"
    SUBSCRIBED = "subscribed"


def in_scope(scope: ContactScope, document: Mapping[str, Any]) -> bool:
    """Whether this contact may be created.

    Args:
        scope: the setting.
        document: a decoded `dotdigital.contact` record.
    """
    if scope is ContactScope.ALL:
        return True
    return document["data_fields"][_SUBSCRIBED] is True and _SUBSCRIBED not in document["omitted"]
