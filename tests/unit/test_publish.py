"""What a reconcile job pushes, over a real HTTP port."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typing_extensions import override

from estarsync_cli.publish import publish_canary, publish_reconcile
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, RetryLater
from estarsync_runtime.reconcile import Comparison
from estarsync_runtime.testing import FakeClock
from sandbox.processes import free_port


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    got: list[tuple[str, str]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, body.decode()))
            self.send_response(200)
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


RESULTS = {Entity.ORDERS: Comparison(agree=7, missing=2)}


def test_it_pushes_what_was_found_and_nothing_else(gateway, monkeypatch):
    url, got = gateway
    monkeypatch.setenv("PUSHGATEWAY_URL", url)
    publish_reconcile(RESULTS, FakeClock())
    [(path, body)] = got
    assert path == "/metrics/job/estarsync-reconcile"
    assert 'estarsync_reconcile_records{entity="orders",result="missing"} 2.0' in body
    assert {line.split("{")[0].split(" ")[0] for line in body.splitlines() if not line.startswith("#")} == {
        "estarsync_reconcile_records",
        "estarsync_reconcile_done_seconds",
    }


def test_without_an_address_it_does_nothing(monkeypatch):
    monkeypatch.delenv("PUSHGATEWAY_URL", raising=False)
    publish_reconcile(RESULTS, FakeClock())


@pytest.mark.parametrize(("url", "error"), [("gateway:9091", ConfigurationError), ("", RetryLater)])
def test_an_address_that_does_not_work_is_said(monkeypatch, url, error):
    monkeypatch.setenv("PUSHGATEWAY_URL", url or f"http://127.0.0.1:{free_port()}")
    with pytest.raises(error, match="PUSHGATEWAY_URL"):
        publish_reconcile(RESULTS, FakeClock())


@pytest.mark.parametrize("removal", [None, 2.5])
def test_a_canary_pushes_what_it_measured_and_nothing_else(gateway, monkeypatch, removal):
    url, got = gateway
    monkeypatch.setenv("PUSHGATEWAY_URL", url)
    seconds = {Entity.PRODUCTS: {"extract": 0.5, "end_to_end": 7.0}}
    publish_canary(success=removal is not None, seconds=seconds, removal=removal, clock=FakeClock())
    [(path, body)] = got
    assert path == "/metrics/job/estarsync-canary"
    values = dict(line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
    done = values.pop("estarsync_canary_done_seconds")
    assert float(done) == FakeClock().now().timestamp()
    assert values == {
        "estarsync_canary_success": "0.0" if removal is None else "1.0",
        'estarsync_canary_hop_seconds{entity="products",hop="extract"}': "0.5",
        'estarsync_canary_hop_seconds{entity="products",hop="end_to_end"}': "7.0",
        **({} if removal is None else {"estarsync_canary_removal_seconds": "2.5"}),
    }
