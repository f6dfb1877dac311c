"""Serve a simulator on a port: its handler, a function from request to response, behind uvicorn.

The same handler serves tests in the process, through `httpx.MockTransport(handler)`.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from estarsync_core.errors import ConfigurationError

HOST = "127.0.0.1"
_TRANSPORT = "sandbox.transport"

Handler = Callable[[httpx.Request], httpx.Response]


class ConnectionDropped(httpx.RemoteProtocolError):
    """Raised by a handler to close the connection without an answer.

    It is the error that an httpx client gets from a server which does that, so that a test in the process
    sees what a client on the network sees.
    """

    def __init__(self) -> None:
        super().__init__("Server disconnected without sending a response.")


def asgi(handler: Handler, *, parallel: bool = False) -> ASGIApp:
    """An ASGI application that answers with the handler, in a worker thread.

    Args:
        handler: gets the whole request, body included; may raise `ConnectionDropped`.
        parallel: whether the handler guards its own state. If not, requests wait for each other.
    """
    turn = threading.Lock()

    def answer(request: httpx.Request) -> httpx.Response:
        if parallel:
            return handler(request)
        with turn:
            return handler(request)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        request = _request(scope, body)
        try:
            response = await run_in_threadpool(answer, request)
        except ConnectionDropped:
            await _drop(scope, receive)
            return
        headers = [pair for pair in response.headers.raw if pair[0].lower() not in _FRAMING]
        headers.append((b"content-length", str(len(response.content)).encode()))
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})

    return app


_FRAMING = {b"content-length", b"transfer-encoding", b"connection"}


def _request(scope: Scope, body: bytes) -> httpx.Request:
    # The raw path, since a decoded one can't tell "/" from "%2F".
    target = scope["raw_path"].decode("ascii")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("ascii")
    host = next((value for name, value in scope["headers"] if name == b"host"), HOST.encode())
    url = f"{scope['scheme']}://{host.decode('latin-1')}{target}"
    return httpx.Request(scope["method"], url, headers=scope["headers"], content=body)


async def _drop(scope: Scope, receive: Receive) -> None:
    state: MutableMapping[str, Any] = scope.get("state", {})
    state[_TRANSPORT].close()
    while (await receive())["type"] != "http.disconnect":
        pass


class _Protocol(H11Protocol):
    """uvicorn's protocol, with the connection within the application's reach so that it can be dropped."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._on_ready = on_ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def _listen(port: int, host: str = HOST) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's delay off: without, every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            [
                f"can't listen on {host}:{port} ({error}): stop what uses the port, or ask for port 0, a free one"
            ]
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def serve(app: ASGIApp, port: int, on_ready: Callable[[str], None], host: str = HOST) -> None:
    """Serve until SIGINT or SIGTERM; blocks; for the main thread.

    Args:
        app: what to serve.
        port: 0 picks a free one.
        on_ready: called once with the base URL (no slash at the end) when requests are answered.
        host: the address to listen on; inside a container that is every one.

    Raises:
        ConfigurationError: the port is in use or not allowed.
    """
    listener = _listen(port, host)
    url = _url(listener)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises a signal again once it has stopped; a stop on request is not a failure.
        signal.signal(number, lambda *_: None)
    with listener:
        _Server(app, lambda: on_ready(url)).run(sockets=[listener])


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve from a thread of this process; yields the base URL (no slash at the end) once it answers.

    Raises:
        ConfigurationError: the port is in use or not allowed.
    """
    ready = threading.Event()
    with _listen(port) as listener:
        server = _Server(app, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        ready.wait(10)
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join(10)
