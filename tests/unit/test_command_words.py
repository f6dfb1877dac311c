"""What the command refuses before it touches anything, and how it says numbers."""

from datetime import UTC, datetime

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from estarsync_cli.app import app
from estarsync_cli.asking import agree
from estarsync_cli.moments import duration, moment
from estarsync_core.errors import ConfigurationError


def test_a_time_needs_its_zone() -> None:
    assert moment("2026-05-01T21:00:00+12:00") == datetime(2026, 5, 1, 9, tzinfo=UTC)
    for text, problem in (("2026-05-01T09:00:00", "has no zone"), ("yesterday", "no date and time")):
        with pytest.raises(typer.BadParameter, match=problem) as refused:
            moment(text)
        assert "2026-05-01T09:00:00Z" in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ["resync", "--entity", "orders", "--since", "2026-05-01"],
        ["backfill", "--entity", "orders", "--since", "2026-05-01T09:00:00"],
    ],
)
def test_a_time_without_zone_is_refused_with_an_example(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "2026-05-01T09:00:00Z" in result.output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["resync", "--entity", "orders"], "--all for everything"),
        (["resync", "--entity", "orders", "--all", "--key", "1"], "--all for everything"),
        (["resync", "--entity", "orders", "--since", "2999-01-01T00:00:00Z"], "in the future"),
        (
            [
                "resync",
                *("--entity", "orders", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"),
            ],
            "must come after",
        ),
        (["resync", "--entity", "contacts", "--key", "nobody"], "is its e-mail"),
        (["backfill", "--entity", "orders"], "--all for everything"),
        (
            ["backfill", "--entity", "orders", "--all", "--since", "2026-01-01T00:00:00Z"],
            "--all for everything",
        ),
        (["backfill", "--entity", "orders", "--since", "2999-01-01T00:00:00Z"], "in the future"),
    ],
)
def test_a_selection_is_refused_in_words(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_without_a_terminal_nothing_is_changed_without_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/null", encoding="utf-8") as nobody:  # noqa: PTH123 - a stream is what is wanted
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(ConfigurationError, match="--yes"):
            agree(["something happens"], yes=False)
        agree(["something happens"], yes=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_every_command_says_what_it_does() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        below = command.commands if isinstance(command, TyperGroup) else {}
        for words in [[name], *([name, each] for each in below)]:
            result = CliRunner().invoke(app, [*words, "--help"])
            assert result.exit_code == 0, words
            assert "--json" in result.output or below, words
