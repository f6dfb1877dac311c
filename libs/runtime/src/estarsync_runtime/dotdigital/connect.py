"""Finding the account's region and connecting to it."""

import httpx
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import NO_ANSWER
from estarsync_core.dotdigital.scope import ContactScope
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.dotdigital.client import TIMEOUT_SECONDS, Answer, DotdigitalClient
from estarsync_runtime.metrics import Metrics

_DOTDIGITAL = (".dotdigital.com", ".dotmailer.com")
_CONNECT_SECONDS = 10
_COLLECTION = r"^[-A-Za-z_][-A-Za-z0-9_]{1,254}$"
_RESERVED_LISTS = frozenset({"test", "all contacts"})


class DotdigitalSettings(BaseSettings):
    """How to reach the retailer's Dotdigital account, and what to use there."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    dotdigital_url: str = "https://r1-api.dotdigital.com"
    dotdigital_endpoint: str | None = None
    dotdigital_username: str
    dotdigital_password: SecretStr
    dotdigital_list: str = Field("eStar Contacts", min_length=1, max_length=128)
    dotdigital_orders_collection: str = Field("orders", pattern=_COLLECTION)
    dotdigital_catalog_collection: str = Field("catalog_estar", pattern=_COLLECTION)
    contact_scope: ContactScope = ContactScope.ALL
    dotdigital_quota_share: float = Field(0.9, gt=0, le=1)

    @field_validator("dotdigital_url", "dotdigital_endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not _host(value):
            raise ValueError(f"{value!r} is not a URL such as https://r1-api.dotdigital.com")
        return value

    @field_validator("dotdigital_list")
    @classmethod
    def _may_be_used(cls, value: str) -> str:
        if value.strip().lower() in _RESERVED_LISTS:
            raise ValueError(f"{value!r} is Dotdigital's own list: choose another name")
        return value

    @field_validator("dotdigital_catalog_collection")
    @classmethod
    def _is_catalogue(cls, value: str) -> str:
        if not value.lower().startswith("catalog_"):
            raise ValueError(f"{value!r} does not begin with catalog_, by which Dotdigital knows a catalogue")
        return value


def connect(
    settings: DotdigitalSettings,
    clock: Clock,
    metrics: Metrics,
    transport: httpx.BaseTransport | None = None,
) -> DotdigitalClient:
    """A client for the account's own region; blocks for one call to account-info unless the endpoint is given.

    Raises:
        ConfigurationError: wrong credentials, an unreachable or an unexpected host.
    """
    auth = httpx.BasicAuth(settings.dotdigital_username, settings.dotdigital_password.get_secret_value())
    timeout = httpx.Timeout(TIMEOUT_SECONDS, connect=_CONNECT_SECONDS)

    def client(base: str) -> DotdigitalClient:
        http = httpx.Client(base_url=base, auth=auth, timeout=timeout, transport=transport)
        return DotdigitalClient(http, clock, metrics, settings.dotdigital_quota_share)

    if settings.dotdigital_endpoint:
        return client(settings.dotdigital_endpoint)
    start = settings.dotdigital_url
    with client(start) as first:
        answer = first.call_when_allowed("account_info", "GET", "/v2/account-info")
    problem = access_problem(answer, start)
    if problem:
        raise ConfigurationError([problem])
    endpoint = _endpoint(answer)
    host = _host(endpoint)
    if not host:
        raise ConfigurationError(
            [f"{start} answers, but not as Dotdigital's account-info does: check DOTDIGITAL_URL"]
        )
    ours = host.endswith(_DOTDIGITAL) and endpoint.startswith("https:")
    if not ours and host != _host(start):
        # Credentials go to that host with every call: an answer must not be able to send them anywhere.
        raise ConfigurationError(
            [
                f"account-info names {host!r} as the endpoint, which is no Dotdigital host: check DOTDIGITAL_URL"
            ]
        )
    return client(endpoint)


def access_problem(answer: Answer, where: str) -> str | None:
    """What keeps us from the account, in words that say who can mend it; None where nothing does."""
    if answer.status == NO_ANSWER:
        return f"Dotdigital does not answer at {where} ({answer.code}): check the address and the network"
    if answer.status == httpx.codes.UNAUTHORIZED:
        return (
            "Dotdigital refuses the credentials: check DOTDIGITAL_USERNAME and DOTDIGITAL_PASSWORD against an"
            " enabled API user (in Dotdigital: Settings, Access, API users)"
        )
    if answer.status == httpx.codes.FORBIDDEN:
        return (
            f"Dotdigital denies access at {where}: wrong region (check DOTDIGITAL_ENDPOINT, or leave it out), or the"
            " API user lacks the right"
        )
    if answer.status >= httpx.codes.BAD_REQUEST:
        return f"Dotdigital answers {answer.status} {answer.code} at {where}: try again later, or ask its support"
    return None


def _endpoint(answer: Answer) -> str:
    rows = answer.body.get("properties") if isinstance(answer.body, dict) else None
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("name") == "ApiEndpoint":
            return str(row.get("value")).rstrip("/")
    return ""


def _host(url: str) -> str:
    """The host of a URL, or an empty string where it is none."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return ""
    return parsed.host if parsed.scheme in {"http", "https"} else ""
