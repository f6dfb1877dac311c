"""Connecting to the retailer's eStar site, the same for the poller and for people's commands."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.clock import Clock
from estarsync_core.profile import TenantProfile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics


class EstarSettings(BaseSettings):
    """Where the site is, who we are there, and how it differs from others."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    estar_base_url: str
    estar_username: Annotated[str, Field(min_length=1)]
    estar_password: Annotated[SecretStr, Field(min_length=1)]
    tenant_profile: Path

    @field_validator("estar_base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
            raise ValueError("give the URL of the shop's primary site, such as https://www.example.co.nz")
        if url.username is not None or url.password is not None:
            raise ValueError("the user belongs in ESTAR_USERNAME and the password in ESTAR_PASSWORD")
        return value.rstrip("/")


@contextmanager
def connect(
    settings: EstarSettings,
    profile: TenantProfile,
    clock: Clock,
    metrics: Metrics,
    *,
    transport: httpx.BaseTransport | None = None,
    before_call: Callable[[], None] | None = None,
) -> Iterator[EstarSource]:
    """The site, for as long as the context is open; nothing is sent yet.

    Args:
        settings: the site and our credentials.
        profile: the site's names.
        clock: for pauses and time-outs.
        metrics: where calls are counted.
        transport: how the site is reached; None for the network.
        before_call: called before each request, such as a heartbeat.
    """
    with httpx.Client(transport=transport) as http:
        client = EstarClient(
            http,
            profile,
            settings.estar_base_url,
            Credentials(settings.estar_username, settings.estar_password.get_secret_value()),
            clock=clock,
            rng=random.Random(),  # noqa: S311 - it only spreads pauses
            metrics=metrics,
            before_call=before_call,
        )
        yield EstarSource(client, profile)
