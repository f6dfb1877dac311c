"""What tests share: a real Kafka for those that need one, and no way out to the network for the others."""

import ipaddress
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import declared_topics
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.admin import apply_topics
from sandbox.kafka import Broker, broker
from sandbox.kafka.removal import remove

_RINGS_WITHOUT_NETWORK = {"unit", "property", "contract"}
_guarded = False


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect" or not _guarded:
        return
    match arguments[1]:
        case (str(host), int(), *_) if not _is_loopback(host):
            raise RuntimeError(f"this test reached for {host}: use a fake, or move it to tests/integration")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of the fast rings may connect to this machine only."""
    global _guarded  # noqa: PLW0603 - an audit hook is there for good; this is its switch
    ring = Path(request.path).relative_to(Path(__file__).parent).parts[0]
    _guarded = ring in _RINGS_WITHOUT_NETWORK
    yield
    _guarded = False


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A real Kafka; with REQUIRE_KAFKA=1 its absence is a failure, without it the test is skipped."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(broker(_to_stderr, real=True))
        except ConfigurationError as error:
            if os.environ.get("REQUIRE_KAFKA") == "1":
                pytest.fail(f"REQUIRE_KAFKA=1, but there is no Kafka:\n{error}", pytrace=False)
            pytest.skip(f"no real Kafka: {'; '.join(error.problems)}")
        yield found


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:8]}."


@pytest.fixture
def topics(kafka: Broker, prefix: str) -> Iterator[list[str]]:
    """Every declared topic under the prefix, as declared; the full names. They are deleted afterwards."""
    config: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka.bootstrap}
    yield apply_topics(config, declared_topics(), prefix, replication=1, timeout=15)
    for line in remove(kafka.bootstrap, prefix, SystemClock(), groups=False):
        _to_stderr(f"left behind, {line}")
