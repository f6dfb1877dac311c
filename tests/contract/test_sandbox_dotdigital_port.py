"""The sandbox Dotdigital behind a real port."""

import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from typing_extensions import override

from estarsync_runtime.testing import FakeClock
from sandbox.asgi import HOST, asgi, serving
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options
from sandbox.dotdigital.trial import by_email

OPTIONS = Options()


class WaitingClock(FakeClock):
    """Sleeping on it takes until somebody lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    @override
    def sleep(self, seconds: float) -> None:
        self.let_go.wait(10)
        self.advance(seconds)


@pytest.fixture
def clock() -> WaitingClock:
    return WaitingClock()


@pytest.fixture
def http(clock: WaitingClock) -> Iterator[httpx.Client]:
    sandbox = DotdigitalSandbox(OPTIONS, clock, random.Random(1))  # noqa: S311 - a seed
    with (
        serving(asgi(sandbox.handle, parallel=True)) as url,
        httpx.Client(base_url=url, auth=(OPTIONS.username, OPTIONS.password), timeout=20) as client,
    ):
        yield client


def test_a_lost_reply_is_a_closed_connection_and_the_import_is_there(
    http: httpx.Client, clock: WaitingClock
) -> None:
    http.post("/sandbox/faults", json={"once": [{"kind": "drop_after"}]}).raise_for_status()
    with pytest.raises(httpx.RemoteProtocolError):
        http.put("/contacts/v3/import", json={"contacts": [by_email("a@shop.example")]})
    clock.advance(60)
    assert http.get("/contacts/v3/email/a%40shop.example").json()["contactId"] == 1


def test_the_endpoint_is_the_port_that_was_called(http: httpx.Client) -> None:
    listed = http.get("/v2/account-info").json()["properties"]
    endpoint = next(one["value"] for one in listed if one["name"] == "ApiEndpoint")
    assert endpoint == f"http://{HOST}:{http.base_url.port}/"


def test_a_slow_answer_holds_up_nobody_else(http: httpx.Client, clock: WaitingClock) -> None:
    http.post("/sandbox/faults", json={"once": [{"kind": "slow", "seconds": 121}]}).raise_for_status()
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()
    slow = threading.Thread(target=lambda: answers.put(http.get("/contacts/v3").status_code))
    slow.start()
    while http.get("/sandbox/summary").json()["calls"]["total"] == 0:
        pass
    assert http.get("/contacts/v3").status_code == 200
    assert answers.empty()
    clock.let_go.set()
    slow.join(10)
    assert answers.get(timeout=1) == 200


def test_a_large_body_is_taken(http: httpx.Client, clock: WaitingClock) -> None:
    contacts = [by_email(f"c{number}@shop.example", FIRSTNAME="x" * 900) for number in range(4000)]
    accepted = http.put("/contacts/v3/import", json={"contacts": contacts})
    assert accepted.status_code == 202
    clock.advance(60)
    report = http.get(f"/contacts/v3/import/{accepted.json()['importId']}").json()
    assert report["summary"]["newContacts"] == 4000


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sandbox", "dotdigital", *arguments]


def test_the_command_says_where_it_is_and_stops_when_asked() -> None:
    settings = {"DOTDIGITAL_USERNAME": "me", "DOTDIGITAL_PASSWORD": "mine", "LIMITS": "basic"}
    process = subprocess.Popen(
        command("serve", "--seed", "7"), stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}
    )
    with process:
        assert process.stdout is not None
        prefix, _, url = process.stdout.readline().strip().rpartition(" ")
        assert prefix == "sandbox Dotdigital on"
        answer = httpx.get(f"{url}/v2/account-info", auth=("me", "mine"))
        assert answer.headers["X-RateLimit-Limit"] == "600"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_port_in_use_is_one_clear_line_and_exit_code_2() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            command("serve", "--port", str(port)), capture_output=True, text=True, timeout=30, check=False
        )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert str(port) in ended.stderr
