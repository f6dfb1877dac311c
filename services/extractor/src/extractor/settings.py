"""The extractor's settings, from environment variables."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from estarsync_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the extractor needs to know beyond Kafka: the shop, who may read it, and how it differs from others."""

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
