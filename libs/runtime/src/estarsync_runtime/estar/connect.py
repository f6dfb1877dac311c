"""Connecting to the retailer's eStar site."""

import random
from pathlib import Path

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.clock import Clock
from estarsync_core.profile import TenantProfile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics


class EstarSettings(BaseSettings):
    """Where the site is, and who we are there."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    estar_base_url: str = Field(pattern=r"^https?://[^/\s]+")
    estar_username: str
    estar_password: SecretStr
    tenant_profile: Path


def connect(
    settings: EstarSettings,
    profile: TenantProfile,
    clock: Clock,
    metrics: Metrics,
    transport: httpx.BaseTransport | None = None,
) -> EstarSource:
    """The site, as the poller reads it; nothing is sent yet.

    Args:
        settings: the site and our credentials.
        profile: the site's names.
        clock: for pauses and time-outs.
        metrics: where calls are counted.
        transport: how the site is reached; None for the network.
    """
    client = EstarClient(
        httpx.Client(transport=transport),
        profile,
        settings.estar_base_url,
        Credentials(settings.estar_username, settings.estar_password.get_secret_value()),
        clock=clock,
        rng=random.Random(),  # noqa: S311 - it only spreads pauses
        metrics=metrics,
    )
    return EstarSource(client, profile)
