"""Settings from environment variables: one frozen object, validated at start, every problem at once."""

import socket
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import TenantProfile, load_profile

Port = Annotated[int, Field(ge=0, le=65535)]
S = TypeVar("S", bound=BaseSettings)


class KafkaSettings(BaseSettings):
    """How to reach Kafka, and under which names.

    Attributes:
        kafka_bootstrap_servers: host:port, several with commas.
        topic_prefix: stands before the name of every topic, group and transactional id.
        schema_registry_url: where schemas are kept; without, the bundled ones are used.
        kafka_tls: whether the connection is encrypted and the broker's certificate verified.
        kafka_tls_ca: a PEM file with the authorities to trust; the system's where it is not given.
        kafka_tls_certificate: our certificate (PEM), where the broker asks for one.
        kafka_tls_key: its key.
        kafka_sasl_mechanism: how we say who we are.
        kafka_username: who.
        kafka_password: and the proof.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    kafka_bootstrap_servers: Annotated[str, Field(min_length=1)]
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    schema_registry_url: str | None = None
    kafka_tls: bool = False
    kafka_tls_ca: Path | None = None
    kafka_tls_certificate: Path | None = None
    kafka_tls_key: Path | None = None
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None

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

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.kafka_tls and (self.kafka_tls_ca or self.kafka_tls_certificate or self.kafka_tls_key):
            raise ValueError("KAFKA_TLS_CA, KAFKA_TLS_CERTIFICATE and KAFKA_TLS_KEY need KAFKA_TLS=true")
        if (self.kafka_tls_certificate is None) != (self.kafka_tls_key is None):
            raise ValueError("KAFKA_TLS_CERTIFICATE and KAFKA_TLS_KEY go together: set both, or neither")
        sasl = (self.kafka_sasl_mechanism, self.kafka_username, self.kafka_password)
        if any(each is not None for each in sasl) and not all(each is not None for each in sasl):
            raise ValueError("KAFKA_SASL_MECHANISM, KAFKA_USERNAME and KAFKA_PASSWORD go together")
        for path in (self.kafka_tls_ca, self.kafka_tls_certificate, self.kafka_tls_key):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}: mount it, or mend the path")
        return self

    def topic(self, name: str) -> str:
        """A declared topic's name on this cluster."""
        return f"{self.topic_prefix}{name}"


class TraceSettings(BaseSettings):
    """Whether traces are sent, by OpenTelemetry's own variables; its SDK reads the rest of them.

    Attributes:
        otel_exporter_otlp_endpoint: the collector's URL; without one of these two nothing is traced.
        otel_exporter_otlp_traces_endpoint: the same for traces alone, with its path.
        otel_exporter_otlp_protocol: how to speak to it; there is one way.
        otel_exporter_otlp_traces_protocol: the same for traces alone.
        otel_traces_exporter: `none` turns it off.
        otel_sdk_disabled: turns it off, too.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_traces_endpoint: str | None = None
    otel_exporter_otlp_protocol: str | None = None
    otel_exporter_otlp_traces_protocol: str | None = None
    otel_traces_exporter: str | None = None
    otel_sdk_disabled: str | None = None

    @field_validator("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if not value:
            return None
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("give the collector's URL, such as http://collector:4318, or unset it")
        return value

    @model_validator(mode="after")
    def _spoken(self) -> Self:
        protocol = self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol
        if self.traced and protocol not in {None, "", "http/protobuf"}:
            raise ValueError(
                "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf is spoken: set that and the collector's port for it"
                " (4318), or OTEL_TRACES_EXPORTER=none"
            )
        if self.traced and self.otel_traces_exporter not in {None, "", "otlp"}:
            raise ValueError("OTEL_TRACES_EXPORTER: there are otlp and none; set one of them, or unset it")
        return self

    @property
    def traced(self) -> bool:
        """Whether traces are sent."""
        named = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        off = (self.otel_sdk_disabled or "").lower() == "true" or self.otel_traces_exporter == "none"
        return bool(named) and not off


class ServiceSettings(KafkaSettings, TraceSettings):
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
