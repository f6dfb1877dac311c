"""One call, as its function sees it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from sandbox.dotdigital.account import Account


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was let in.

    Attributes:
        account: the state.
        url: the whole URL.
        template: the path's template, `/contacts/v3/{identifier}/{value}`.
        params: its decoded parts.
        body: as sent.
        now: epoch seconds.
    """

    account: "Account"
    url: httpx.URL
    template: str
    params: dict[str, str]
    body: bytes
    now: float

    @property
    def query(self) -> httpx.QueryParams:
        """The query, decoded."""
        return self.url.params
