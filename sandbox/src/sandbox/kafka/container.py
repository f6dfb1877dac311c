"""Apache Kafka in Docker: the official image, one node, gone with this process."""

import logging
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from estarsync_core.clock import Clock
from sandbox import processes
from sandbox.kafka.kinds import KAFKA_VERSION, Broker, Unavailable
from sandbox.kafka.node import SETTINGS
from sandbox.kafka.ping import wait_until_up

# Docker's and testcontainers' modules are imported where they are used: most runs don't need them.
if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_REAPER = Path(__file__).with_name("reaper.py")
_PING_SECONDS = 3
_PULL_SECONDS = 300
_START_SECONDS = 90.0
_TRIES = 3
_CONTROLLER_PORT = 9093  # inside the container only


def obstacle(env: Mapping[str, str]) -> str | None:
    """Why Docker is out of the question, or None where an engine answers; blocks for seconds at most."""
    host = urlsplit(env.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if host.scheme != "unix":
        return f"DOCKER_HOST is {host.geturl()}, and only an engine of this machine (unix://…) is used"
    # Not docker's own client: it leaves its socket open when nobody answers.
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(_PING_SECONDS)
        try:
            engine.connect(host.path)
            engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = engine.recv(64)
        except OSError as error:
            return f"no Docker engine answers at {host.path} ({error.strerror or error})"
    return None if b" 200 " in answer else f"the Docker engine at {host.path} is not well"


@contextmanager
def kafka_in_docker(log: Callable[[str], None], clock: Clock) -> Iterator[Broker]:
    """Run a node in a container, at a port of 127.0.0.1, until the block or this process ends.

    Raises:
        Unavailable: the image can't be had, or the container doesn't start.
    """
    with ExitStack() as stack:
        container, bootstrap = _start(log, stack)

        def alive() -> bool:
            container.reload()
            return container.status == "running"

        if not wait_until_up(bootstrap, _START_SECONDS, clock, alive):
            out, err = container.get_logs()
            raise Unavailable(
                f"Kafka did not start in its container:\n{(out + err)[-1000:].decode(errors='replace')}"
            )
        yield Broker(bootstrap, "docker", f"Apache Kafka {KAFKA_VERSION}, one node, in Docker")


def _start(log: Callable[[str], None], stack: ExitStack) -> tuple["DockerContainer", str]:
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - see above; it ships no types
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - see above
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - see above

    # Our own reaper does what testcontainers' Ryuk would, without a second image and its access to the engine.
    testcontainers_config.ryuk_disabled = True
    logging.getLogger("testcontainers.core.container").setLevel(logging.WARNING)
    _ensure_image(testcontainers_config.hub_image_name_prefix + IMAGE, log)
    for attempt in range(1, _TRIES + 1):
        port = processes.free_port()
        name = f"estarsync-kafka-{uuid.uuid4().hex[:8]}"
        container = DockerContainer(IMAGE, name=name, env=_environment(port))
        container.ports[f"{port}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]  # docker takes pairs
        stack.enter_context(_reaper(name))
        stack.callback(container.stop)
        try:
            container.start()
        except docker.errors.APIError as error:
            # Another process took the port between our choice and the container's start: choose again.
            if "port" not in str(error) or attempt == _TRIES:
                raise Unavailable(f"Docker could not start a container: {error.explanation}") from error
        else:
            return container, f"127.0.0.1:{port}"
    raise AssertionError("unreachable: the last try returns or raises")


def _environment(port: int) -> dict[str, str]:
    # The same port number inside and outside: the node talks to itself at the address that it advertises.
    settings = {
        **SETTINGS,
        "controller.quorum.voters": f"1@localhost:{_CONTROLLER_PORT}",
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:{_CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    names = {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in settings.items()}
    return {**names, "KAFKA_HEAP_OPTS": "-Xms128m -Xmx512m"}


def _ensure_image(image: str, log: Callable[[str], None]) -> None:
    import docker  # noqa: PLC0415 - see above

    with closing(docker.from_env(timeout=_PULL_SECONDS)) as client:
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            log(f"pulling the image {image}, this once")
            try:
                client.images.pull(image)
            except (docker.errors.DockerException, OSError) as error:
                reason = getattr(error, "explanation", None) or error
                raise Unavailable(f"the image {image} is not here and can't be pulled: {reason}") from error


@contextmanager
def _reaper(container: str) -> Iterator[None]:
    reaper = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, str(_REAPER), container], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        reaper.communicate()  # closes its input: it looks once more and ends
