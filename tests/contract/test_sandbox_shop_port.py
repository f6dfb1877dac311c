"""The same handler behind a real socket, and the command that serves it."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
from typer.testing import CliRunner

from estarsync_core.profile import load_profile
from estarsync_runtime.testing import FakeClock
from sandbox.asgi import asgi, serving
from sandbox.estar import profile_path
from sandbox.estar.cli import app
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox


def test_parallel_calls_and_edits_are_safe() -> None:
    shop = ShopSandbox(
        generate(60, 5, ZoneInfo("Europe/London")), FakeClock(datetime(2026, 6, 1, tzinfo=UTC))
    )
    query = "username=sandbox&password=sandbox"

    def work(number: int) -> int:
        if number % 3 == 0:
            return http.post("/sandbox/edit", json={"seed": number, "count": 3}).status_code
        if number % 3 == 1:
            return http.get("/sandbox/truth").status_code
        return http.get(f"/global/api/Customers.asmx/Authenticate?{query}").status_code

    with (
        serving(asgi(shop.handle, parallel=True)) as url,
        httpx.Client(base_url=url) as http,
        ThreadPoolExecutor(8) as pool,
    ):
        assert set(pool.map(work, range(60))) == {200}
    assert shop.calls["Customers.Authenticate"] == 20


def test_the_profile_is_one() -> None:
    profile = load_profile(profile_path().read_text(encoding="utf-8"), "profile.yaml")
    assert profile.timezone == "Europe/London"
    assert profile.websites["1"].currency == "GBP"
    assert profile.default_website in profile.websites


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv: No such file"),
        (["--returns"], "give one with --data"),
        (["--webhook-url", "http://hooks.test"], "ESTAR_WEBHOOK_SECRET"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(app, ["serve", *arguments], env={"ESTAR_WEBHOOK_SECRET": ""})
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--size", "1", "--port", str(port)])
    assert result.exit_code == 2
    assert f"127.0.0.1:{port}" in result.stderr
    assert result.stderr.count("\n") == 1
