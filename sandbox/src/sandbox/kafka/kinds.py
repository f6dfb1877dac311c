"""The words that the broker's parts share."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["given", "docker", "maven", "mock"]

KAFKA_VERSION = "4.1.1"
MAX_MESSAGE_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that answers.

    Args:
        bootstrap: for `bootstrap.servers`.
        kind: where it came from.
        description: a line for people.
        pid: its process, where that was started here.
    """

    bootstrap: str
    kind: Kind
    description: str
    pid: int | None = None

    @property
    def real(self) -> bool:
        """Whether it is a Kafka, with transactions and all; the mock is not."""
        return self.kind != "mock"


class Unavailable(Exception):  # noqa: N818 - named for what it says about one choice
    """This kind of broker can't be had here; the text says why, for people."""
