"""The `webhooks` command as the shop sees it: processes on ports, in front of a real Kafka."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from estarsync_core.estar.notifications import SIGNATURE_HEADER, sign
from estarsync_core.topics import NOTIFICATIONS
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.lifecycle import EXIT_CONFIGURATION, EXIT_STOPPED
from estarsync_runtime.settings import KafkaSettings
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
SECRET = "a shared secret"
CLOCK = SystemClock()


class World:
    def __init__(self, kafka: Broker, prefix: str, folder: Path) -> None:
        self.settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
        self.log = folder / "webhooks.log"
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": prefix,
            "ESTAR_WEBHOOK_SECRET": SECRET,
        }

    @contextmanager
    def receiver(self, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        port, health = free_port(), free_port()
        own = {"WEBHOOK_PORT": str(port), "HTTP_PORT": str(health)}
        env = {**self.environment, **own, **environment}
        command = [sys.executable, "-m", "extractor.webhooks"]
        with (
            self.log.open("ab") as log,
            subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
        ):
            try:
                self.wait_until_ready(f"http://127.0.0.1:{health}/readyz", process)
                yield process, f"http://127.0.0.1:{port}/hook"
            finally:
                process.kill()

    def wait_until_ready(self, url: str, process: subprocess.Popen[bytes]) -> None:
        deadline = CLOCK.monotonic() + 30
        while process.poll() is None and CLOCK.monotonic() < deadline:
            try:
                if httpx.get(url).is_success:
                    return
            except httpx.TransportError:
                pass  # it is not up yet
            CLOCK.sleep(0.1)

    def written(self) -> list[tuple[bytes | None, dict[str, bytes | None], int, int]]:
        messages = read_topics(self.settings, [self.settings.topic(NOTIFICATIONS)])
        return [
            (
                m.key(),
                dict(headers_of(m)),
                m.partition() or 0,
                msgspec.json.decode(m.value() or b"")["sequence"],
            )
            for m in messages
        ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def notification(sequence: int) -> tuple[bytes, dict[str, str]]:
    message = {"orderID": "5", "name": "Kiri"}
    body = msgspec.json.encode(
        {"subscriber": 3, "sequence": sequence, "type": "order.split", "message": message}
    )
    return body, {SIGNATURE_HEADER: sign(SECRET.encode(), body).decode()}


@pytest.fixture
def world(kafka: Broker, prefix: str, tmp_path: Path) -> World:
    return World(kafka, prefix, tmp_path)


def test_whatever_was_accepted_is_there_after_a_kill(world: World) -> None:
    accepted = []
    with world.receiver() as (process, one), world.receiver() as (_, two):
        for sequence in range(60):
            body, headers = notification(sequence)
            if httpx.post((one, two)[sequence % 2], content=body, headers=headers).status_code == 204:
                accepted.append(sequence)
        process.kill()
        body, headers = notification(60)
        assert httpx.post(two, content=body, headers={}).status_code == 401
        assert httpx.post(two, content=body, headers=headers).status_code == 204
    written = world.written()
    assert len(accepted) == 60
    assert {number for *_, number in written} == {*accepted, 60}
    assert {(key, partition) for key, _, partition, _ in written} == {(b"3", written[0][2])}
    assert written[0][1]["ce_type"] == b"com.estarsync.notification.v1"
    assert "Kiri" not in world.log.read_text(encoding="utf-8")


def test_a_stop_finishes_what_was_begun(world: World) -> None:
    async def burst(url: str, process: subprocess.Popen[bytes]) -> list[int]:
        async def post(client: httpx.AsyncClient, sequence: int) -> int:
            body, headers = notification(sequence)
            try:
                response = await client.post(url, content=body, headers=headers)
            except httpx.TransportError:
                return -1
            return sequence if response.status_code == 204 else -1

        async with httpx.AsyncClient() as client:
            posts = [asyncio.create_task(post(client, number)) for number in range(100)]
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            return [number for number in await asyncio.gather(*posts) if number >= 0]

    with world.receiver() as (process, url):
        accepted = asyncio.run(burst(url, process))
        assert process.wait(20) == EXIT_STOPPED, world.log.read_text(encoding="utf-8")
    assert set(accepted) <= {number for *_, number in world.written()}


def test_a_missing_topic_and_a_taken_port_are_told(world: World) -> None:
    with world.receiver(TOPIC_PREFIX="nowhere.") as (process, _):
        assert process.wait(20) == EXIT_CONFIGURATION
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - as the receiver listens
        port = str(taken.getsockname()[1])
        with world.receiver(WEBHOOK_PORT=port) as (process, _):
            assert process.wait(20) == EXIT_CONFIGURATION
    text = world.log.read_text(encoding="utf-8")
    assert "nowhere.estar.notifications.v1" in text
    assert "WEBHOOK_PORT" in text
