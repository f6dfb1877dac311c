"""Health and metrics over HTTP: /livez, /readyz and /metrics on one small port."""

import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from typing_extensions import override

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError

EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Health:
    """What a service says of itself.

    The main loop calls `beat` on every turn; one that has not for `stall_after` seconds is not alive. That is
    longer than the longest call that a turn may wait for (121 s).
    Neither answer depends on eStar, Dotdigital or Kafka being up: restarting us heals nobody else.
    """

    def __init__(self, clock: Clock, stall_after: float = 300.0) -> None:
        self._clock = clock
        self._stall_after = stall_after
        self._last_beat = clock.monotonic()
        self.ready = False

    def beat(self) -> None:
        """Say that the main loop is turning."""
        self._last_beat = self._clock.monotonic()

    @property
    def loop_age(self) -> float:
        """Seconds since the main loop has turned."""
        return self._clock.monotonic() - self._last_beat

    @property
    def alive(self) -> bool:
        """Whether the main loop has turned lately."""
        return self.loop_age < self._stall_after


class _QuietHandler(WSGIRequestHandler):
    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Probes and scrapes are not worth a line each."""


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


def serve(
    port: int, health: Health, registry: CollectorRegistry, host: str = EVERY_INTERFACE
) -> Callable[[], None]:
    """Serve until the returned function is called; runs in a daemon thread of its own.

    Raises:
        ConfigurationError: where the port is taken.
    """
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        answers = {"/livez": health.alive, "/readyz": health.ready}
        if path not in answers:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/livez, /readyz or /metrics\n"]
        start_response(
            "200 OK" if answers[path] else "503 Service Unavailable", [("Content-Type", "text/plain")]
        )
        return [b"ok\n" if answers[path] else b"not yet\n"]

    try:
        server = make_server(host, port, application, _ThreadingServer, handler_class=_QuietHandler)
    except OSError as error:
        raise ConfigurationError(
            [f"HTTP_PORT: cannot listen on port {port} ({error.strerror}); choose a free one"]
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

    def close() -> None:
        server.shutdown()
        server.server_close()

    return close
