"""Finding the account's region and connecting to it."""

from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.clock import Clock
from estarsync_core.dotdigital.outcomes import NO_ANSWER
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.dotdigital.client import TIMEOUT_SECONDS, Answer, DotdigitalClient
from estarsync_runtime.metrics import Metrics

_DOTDIGITAL = (".dotdigital.com", ".dotmailer.com")


class DotdigitalSettings(BaseSettings):
    """How to reach the retailer's Dotdigital account, and what to use there."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    dotdigital_url: str = "https://r1-api.dotdigital.com"
    dotdigital_endpoint: str | None = None
    dotdigital_username: str
    dotdigital_password: SecretStr
    dotdigital_list: str = Field("eStar Contacts", min_length=1, max_length=128)
    dotdigital_orders_collection: str = "orders"
    dotdigital_catalog_collection: str = Field("catalog_estar", pattern=r"(?i)^catalog_")
    dotdigital_quota_share: float = Field(0.9, gt=0, le=1)


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

    def client(base: str) -> DotdigitalClient:
        if urlsplit(base).scheme not in {"http", "https"} or not urlsplit(base).hostname:
            raise ConfigurationError(
                [f"DOTDIGITAL_URL: {base!r} is not a URL such as https://r1-api.dotdigital.com"]
            )
        http = httpx.Client(
            base_url=base, auth=auth, timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=10), transport=transport
        )
        return DotdigitalClient(http, clock, metrics, settings.dotdigital_quota_share)

    if settings.dotdigital_endpoint:
        return client(settings.dotdigital_endpoint)
    first = client(settings.dotdigital_url)
    answer = first.call_when_allowed("account_info", "GET", "/v2/account-info")
    problem = access_problem(answer, settings.dotdigital_url)
    if problem:
        raise ConfigurationError([problem])
    endpoint = _endpoint(answer)
    if endpoint is None:
        raise ConfigurationError(
            [
                f"{settings.dotdigital_url} answers, but not as Dotdigital's account-info does: check DOTDIGITAL_URL"
            ]
        )
    host = urlsplit(endpoint).hostname or ""
    if not host.endswith(_DOTDIGITAL) and host != urlsplit(settings.dotdigital_url).hostname:
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
        return f"Dotdigital does not answer at {where} ({answer.code}): check DOTDIGITAL_URL and the network"
    if answer.status == httpx.codes.UNAUTHORIZED:
        return (
            "Dotdigital refuses the credentials: check DOTDIGITAL_USERNAME and DOTDIGITAL_PASSWORD against an"
            " enabled API user (in Dotdigital: Settings, Access, API users)"
        )
    if answer.status == httpx.codes.FORBIDDEN:
        return f"Dotdigital denies access at {where}: wrong region, or the API user lacks the right"
    if answer.status >= httpx.codes.BAD_REQUEST:
        return f"Dotdigital answers {answer.status} {answer.code} at {where}: try again later, or ask its support"
    return None


def _endpoint(answer: Answer) -> str | None:
    if not isinstance(answer.body, dict) or not isinstance(answer.body.get("properties"), list):
        return None
    for row in answer.body["properties"]:
        if isinstance(row, dict) and row.get("name") == "ApiEndpoint" and isinstance(row.get("value"), str):
            return str(row["value"]).rstrip("/")
    return None
