import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from estarsync_core.errors import ConfigurationError
from sandbox.asgi import ConnectionDropped, asgi, serving


def test_the_handler_sees_the_request_as_it_was_sent() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, headers=[("x-a", "1"), ("x-a", "2")], content=b"made")

    with serving(asgi(handler)) as url:
        answer = httpx.post(f"{url}/a%2Fb/c?q=1%202", headers={"x-given": "yes"}, content=b"\x00body")

    assert answer.status_code == 201
    assert answer.content == b"made"
    assert answer.headers.get_list("x-a") == ["1", "2"]
    assert seen[0].method == "POST"
    assert seen[0].url.raw_path == b"/a%2Fb/c?q=1%202"
    assert seen[0].content == b"\x00body"


def test_a_dropped_connection_has_no_answer_and_the_next_request_has_one() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/drop":
            raise ConnectionDropped
        return httpx.Response(200, content=b"ok")

    with serving(asgi(handler)) as url, httpx.Client() as client:
        assert client.get(f"{url}/").content == b"ok"
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(f"{url}/drop")
        assert client.get(f"{url}/").content == b"ok"


@pytest.mark.parametrize("parallel", [True, False])
def test_requests_run_together_only_where_the_handler_allows_it(*, parallel: bool) -> None:
    both = threading.Barrier(2)

    def handler(_: httpx.Request) -> httpx.Response:
        try:
            both.wait(5 if parallel else 0.2)
        except threading.BrokenBarrierError:
            return httpx.Response(200, content=b"alone")
        return httpx.Response(200, content=b"together")

    with serving(asgi(handler, parallel=parallel)) as url, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: httpx.get(url).text, range(2)))

    assert answers == (["together"] * 2 if parallel else ["alone"] * 2)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} .*port 0"),
            serving(asgi(lambda _: httpx.Response(200)), port),
        ):
            pass
