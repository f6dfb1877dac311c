"""Connecting to the retailer's eStar site, the same for the poller and for people's commands."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import Reference, TenantProfile
from estarsync_runtime.estar.soap import Credentials, EstarClient
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics


class EstarSettings(BaseSettings):
    """Where the site is, who we are there, and how it differs from others.

    What is not set here is looked for where the profile's `site` says.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    estar_base_url: str = ""
    estar_username: str = ""
    estar_password: SecretStr = SecretStr("")
    tenant_profile: Path

    @field_validator("estar_base_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")


S = TypeVar("S", bound=EstarSettings)


def located(settings: S, profile: TenantProfile) -> S:
    """The settings with the site and the credentials filled in from where the profile says they are; reads files.

    Raises:
        ConfigurationError: with every one that is nowhere to be found.
    """
    site = profile.site
    problems: list[str] = []

    def secret(variable: str, own: str, reference: Reference) -> str:
        if own:
            return own
        try:
            value = read_secret(reference)
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{variable} is not set, and the profile's file can't be read: {error}")
            return ""
        if not value:
            place = reference.file or reference.env
            other = (
                "" if place == variable else f", nor is there anything in {place}, where the profile points"
            )
            problems.append(f"{variable} is not set{other}: set this environment variable")
        return value

    base_url = settings.estar_base_url or (site.base_url or "").rstrip("/")
    problem = _url_problem(base_url)
    if problem:
        problems.append(problem)
    username = secret("ESTAR_USERNAME", settings.estar_username, site.username)
    password = secret("ESTAR_PASSWORD", settings.estar_password.get_secret_value(), site.password)
    if problems:
        raise ConfigurationError(problems)
    found = {"estar_base_url": base_url, "estar_username": username, "estar_password": SecretStr(password)}
    return settings.model_copy(update=found)


def _url_problem(base_url: str) -> str:
    """What is wrong with the site's URL; empty where nothing is."""
    if not base_url:
        return "ESTAR_BASE_URL is not set: set this environment variable, or the profile's site.base_url"
    try:
        url = urlsplit(base_url)
    except ValueError:
        return "ESTAR_BASE_URL: is no URL"
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
        return "ESTAR_BASE_URL: give the URL of the shop's primary site, such as https://www.example.co.nz"
    if url.username is not None or url.password is not None:
        return "ESTAR_BASE_URL: the user belongs in ESTAR_USERNAME and the password in ESTAR_PASSWORD"
    return ""


def read_secret(reference: Reference) -> str:
    """The secret that a profile refers to; empty where the environment variable is not set.

    Raises:
        OSError, UnicodeDecodeError: the file can't be read.
    """
    if reference.file is not None:
        return Path(reference.file).read_text(encoding="utf-8").strip()
    return os.environ.get(reference.env or "", "")


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

    Raises:
        ConfigurationError: the site or the credentials are nowhere to be found.
    """
    settings = located(settings, profile)
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
