"""The webhook receiver's settings, from environment variables."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from estarsync_runtime.settings import Port, ServiceSettings

Seconds = Annotated[float, Field(gt=0)]


class WebhookSettings(ServiceSettings):
    """What the receiver needs to know beyond Kafka: the secret that it shares with the shop, and its limits.

    `estar_webhook_secret_next` is accepted beside the first: set it before the shop changes over, and make it the
    first afterwards.
    """

    estar_webhook_secret: SecretStr
    estar_webhook_secret_next: SecretStr | None = None
    webhook_port: Port = 8081
    webhook_max_bytes: Annotated[int, Field(ge=1024, le=1_000_000)] = 262_144
    webhook_read_seconds: Seconds = 10.0
    webhook_write_seconds: Seconds = 10.0

    @field_validator("estar_webhook_secret", "estar_webhook_secret_next")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise ValueError("is empty, so that anybody could sign: give the key that the shop signs with")
        return value

    @property
    def secrets(self) -> list[bytes]:
        """Every secret that is accepted now."""
        given = (self.estar_webhook_secret, self.estar_webhook_secret_next)
        return [secret.get_secret_value().encode() for secret in given if secret is not None]
