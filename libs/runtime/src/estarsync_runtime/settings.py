"""Settings from environment variables: one frozen object, validated at start, every problem at once."""

import socket
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import TenantProfile, load_profile

Port = Annotated[int, Field(ge=0, le=65535)]
S = TypeVar("S", bound=BaseSettings)


class KafkaSettings(BaseSettings):
    """How to reach Kafka, and under which names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    kafka_bootstrap_servers: Annotated[str, Field(min_length=1)]
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    schema_registry_url: str | None = None

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{server!r} is not host:port; give a comma-separated list of host:port")
        return value

    @field_validator("schema_registry_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
            raise ValueError("give the registry's URL, such as http://registry:8081, or unset it")
        return value

    def topic(self, name: str) -> str:
        """A declared topic's name on this cluster."""
        return f"{self.topic_prefix}{name}"


class ServiceSettings(KafkaSettings):
    """What every service needs to know."""

    instance_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        default_factory=socket.gethostname
    )
    http_port: Port | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    data_dir: Path | None = None


def load(settings: type[S]) -> S:
    """The settings from the environment.

    Raises:
        ConfigurationError: with one line per variable that is missing or wrong.
    """
    try:
        return settings()
    except ValidationError as error:
        raise ConfigurationError([_problem(e["loc"], e["type"], e["msg"]) for e in error.errors()]) from error


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    variable = "_".join(map(str, location)).upper() or "the settings"
    if kind == "missing":
        return f"{variable} is not set: set this environment variable"
    return f"{variable}: {message.removeprefix('Value error, ')}"


class ProfileOverrides(BaseSettings):
    """What may be set for one environment without another profile."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    voided_orders: Literal["keep", "remove"] | None = None


def read_profile(path: Path) -> TenantProfile:
    """The tenant profile in a YAML file; VOIDED_ORDERS goes before what it says of voided orders.

    Raises:
        ConfigurationError: where the file can't be read or is no profile.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            [f"TENANT_PROFILE: cannot read {path}: {error}. Give the path of a profile in YAML"]
        ) from error
    voided = load(ProfileOverrides).voided_orders
    return load_profile(text, str(path), {"orders": {"voided": voided}} if voided else None)
