"""An edit in the shop, told by webhook, on its way through two receivers and the poller into Kafka."""

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from typing_extensions import override

from estarsync_core.entities import Entity, Lane
from estarsync_core.headers import version_of
from estarsync_core.topics import CHECKPOINTS, raw_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.messages import headers_of
from estarsync_runtime.kafka.restore import read_topics
from estarsync_runtime.settings import KafkaSettings
from sandbox.asgi import asgi, serving
from sandbox.estar import profile_path
from sandbox.estar.cli import shop_zone
from sandbox.estar.generate import generate
from sandbox.estar.soap import Access, ShopSandbox
from sandbox.estar.webhooks import Target
from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("topics")]
SECRET = "a shared secret"
CLOCK = SystemClock()
# Nothing but a notification brings a change within the hour.
SELDOM = (
    "\ncadences: {contacts_modified: 60, orders_created: 60, orders_modified: 60, products_snapshot: 60}\n"
)
EDITS = b'{"seed": 3, "count": 12, "kinds": ["order", "split", "void", "return"]}'


class Spread(httpx.BaseTransport):
    """What stands before several receivers: each request goes to the next one, and past one that does not answer."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._count = len(ports)
        self._inner = httpx.HTTPTransport()
        self.taken: set[int] = set()

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        for left in reversed(range(self._count)):
            port = next(self._ports)
            url = request.url.copy_with(port=port)
            try:
                answer = self._inner.handle_request(
                    httpx.Request(request.method, url, headers=request.headers, content=body)
                )
            except httpx.ConnectError:
                if not left:
                    raise
            else:
                self.taken.add(port)
                return answer
        raise AssertionError("there is no receiver")

    @override
    def close(self) -> None:
        self._inner.close()


class World:
    def __init__(self, stack: ExitStack, kafka: Broker, prefix: str, folder: Path) -> None:
        self.settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap, topic_prefix=prefix)
        self.folder = folder
        self.stack = stack
        self.ports = [free_port(), free_port()]
        self.spread = Spread(self.ports)
        client = stack.enter_context(httpx.Client(transport=self.spread))
        target = Target("http://127.0.0.1/", SECRET, client)
        shop = generate(30, 1, shop_zone())
        self.sandbox = ShopSandbox(shop, CLOCK, Access("sandbox", "sandbox", None, None), target)
        self.url = stack.enter_context(serving(asgi(self.sandbox.handle, parallel=True)))
        profile = folder / "profile.yaml"
        profile.write_text(profile_path().read_text(encoding="utf-8") + SELDOM)
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "TOPIC_PREFIX": prefix,
            "TENANT_PROFILE": str(profile),
            "ESTAR_BASE_URL": self.url,
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
            "ESTAR_WEBHOOK_SECRET": SECRET,
        }

    def receiver(self, port: int) -> subprocess.Popen[bytes]:
        process = self.start("extractor.webhooks", WEBHOOK_PORT=str(port))
        self.wait_until("the receiver's start", lambda: answers(f"http://127.0.0.1:{port}"))
        return process

    def start(self, module: str, **more: str) -> subprocess.Popen[bytes]:
        log = self.stack.enter_context((self.folder / "log").open("ab"))
        command = [sys.executable, "-m", module]
        process = subprocess.Popen(command, env={**self.environment, **more}, stdout=log, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def edit(self, body: bytes) -> Any:
        return httpx.post(f"{self.url}/sandbox/edit", content=body, timeout=60).raise_for_status().json()

    def orders(self) -> dict[str, tuple[set[str], Lane, bytes]]:
        """The latest tree of each order: its members, its lane, its text."""
        messages = read_topics(self.settings, [self.settings.topic(raw_topic(Entity.ORDERS))])
        found = {}
        for message in messages:
            value = message.value() or b'{"orders": []}'
            members = {order["ID"] for order in msgspec.json.decode(value)["orders"]}
            key = (message.key() or b"").decode()
            found[key] = (members, version_of(headers_of(message))[1], value)
        return found

    def loaded(self) -> bool:
        messages = list(read_topics(self.settings, [self.settings.topic(CHECKPOINTS)]))
        feeds = {m.key(): msgspec.json.decode(m.value() or b"")["feeds"] for m in messages}
        return len(feeds) == 3 and all(f["first_load_done"] for each in feeds.values() for f in each.values())

    def wait_until(self, what: str, condition: Any, seconds: float = 60) -> float:
        began = CLOCK.monotonic()
        while not condition():
            log = (self.folder / "log").read_text(encoding="utf-8")
            assert CLOCK.monotonic() < began + seconds, f"{what} did not happen in time; the log:\n{log}"
            CLOCK.sleep(0.1)
        return CLOCK.monotonic() - began


@pytest.fixture
def world(kafka: Broker, prefix: str, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, kafka, prefix, tmp_path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 405
    except httpx.TransportError:
        return False


def test_an_edit_arrives_within_seconds_whatever_is_lost_or_repeated(world: World) -> None:
    poller = world.start("extractor")
    receivers = [world.receiver(port) for port in world.ports]
    world.wait_until("the first load", world.loaded)

    (edit,) = world.edit(b'{"edits": [{"kind": "order"}]}')["edits"]
    seconds = world.wait_until("the new order", lambda: str(edit["id"]) in world.orders())
    assert seconds < 10
    assert world.orders()[str(edit["id"])][1] is Lane.LIVE

    faults = b'{"webhooks": {"drop": 0.4, "duplicate": 0.4, "shuffle": true}}'
    httpx.post(f"{world.url}/sandbox/faults", content=faults).raise_for_status()
    result = world.edit(EDITS)
    assert result["notifications"]["dropped"] > 0
    httpx.post(f"{world.url}/sandbox/faults", content=b"{}").raise_for_status()
    assert world.spread.taken == set(world.ports)
    receivers[0].kill()  # the other one takes all there is
    poller.kill()  # and what it takes waits in Kafka
    last = world.edit(b'{"edits": [{"kind": "order"}]}')["edits"]
    world.start("extractor")

    events = [event for edit in [*result["edits"], *last] for event in edit["events"]]
    named = {order for event in events for order in event["message"].values()}

    def everything_is_there() -> bool:
        live = {
            member for members, lane, _ in world.orders().values() if lane is Lane.LIVE for member in members
        }
        known = {str(order.id) for order in world.sandbox.shop.orders.records.values()}
        return named & known <= live

    world.wait_until("every edited order", everything_is_there)
    assert receivers[1].poll() is None
