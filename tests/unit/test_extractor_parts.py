"""The extractor's small parts: its settings and its table."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from estarsync_core.entities import Entity
from estarsync_core.estar.changes import Row
from estarsync_runtime.settings import load
from extractor.settings import Settings
from extractor.state import SourceState

GOOD = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
    "ESTAR_BASE_URL": "https://shop.example/",
    "ESTAR_USERNAME": "user",
    "ESTAR_PASSWORD": "a secret",
    "TENANT_PROFILE": "profile.yaml",
}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SourceState]:
    found = SourceState(tmp_path / "state.sqlite")
    yield found
    found.close()


def test_settings_do_not_show_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    settings = load(Settings)
    assert settings.estar_base_url == "https://shop.example"
    assert settings.estar_password.get_secret_value() == "a secret"
    assert "a secret" not in repr(settings)


def test_rows_are_found_by_id_and_by_key(state: SourceState) -> None:
    rows = {str(number): Row(f"k{number // 2}", "h") for number in range(2000)}
    state.apply(Entity.ORDERS, {**rows, "bad": Row(None, "missing")})
    assert state.rows(Entity.ORDERS, ["7", "bad", "unknown"]) == {
        "7": Row("k3", "h"),
        "bad": Row(None, "missing"),
    }
    assert set(state.members(Entity.ORDERS, [f"k{number}" for number in range(1000)])) == set(rows)
    assert state.rows(Entity.CONTACTS, ["7"]) == {}
    assert state.count_keys(Entity.ORDERS) == 1000
    state.apply(Entity.ORDERS, {"7": None, "8": Row("k3", "i")})
    assert state.members(Entity.ORDERS, ["k3"]) == {"6": Row("k3", "h"), "8": Row("k3", "i")}


def test_a_witness_is_another_one_each_time(state: SourceState) -> None:
    assert state.published_after(Entity.ORDERS, None) is None
    state.apply(Entity.ORDERS, {"1": Row("1", "h"), "2": Row(None, "missing"), "3": Row("3", "h")})
    assert [state.published_after(Entity.ORDERS, last) for last in (None, "1", "3")] == ["1", "3", "1"]


def test_a_table_begins_anew(tmp_path: Path) -> None:
    for _ in range(2):
        state = SourceState(tmp_path / "state.sqlite")
        assert state.count_keys(Entity.ORDERS) == 0
        state.apply(Entity.ORDERS, {"1": Row("1", "h")})
        state.close()
