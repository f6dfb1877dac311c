"""`estarsync dlq`: the dead letters: which there are, why, and what to do with them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer
from rich.table import Table

from estarsync_cli.asking import Yes, agree
from estarsync_cli.backfill import Wait
from estarsync_cli.following import Request
from estarsync_cli.ids import new_id
from estarsync_cli.letters import (
    DeadLetter,
    Group,
    Hop,
    Selection,
    State,
    grouped,
    letter_topics,
    read_letters,
)
from estarsync_cli.moments import Since, Until
from estarsync_cli.output import Json, console, masked, print_json
from estarsync_cli.requests import submit
from estarsync_core.control import Drop, Letter, Redrive, Words, encode, request_key
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_runtime.avro import codec_for
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.kafka.lookup import Lookup
from estarsync_runtime.settings import KafkaSettings, load

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, redrive, drop.")
T = TypeVar("T")
_IN_ONE_WORD = 5000  # dead letters: about 200 KB of JSON
_KEPT = timedelta(days=90)  # as the topics are declared
_SHOWN = 20

Entities = Annotated[list[Entity] | None, typer.Option("--entity", help="Only this entity; may be repeated.")]
Hops = Annotated[
    list[Hop] | None,
    typer.Option("--at", help="Only what failed there; may be repeated."),
]
Fields = Annotated[list[str] | None, typer.Option("--field", help="Only this field; may be repeated.")]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Only this reason; may be repeated.")]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Only this record; may be repeated.")]
Ids = Annotated[
    list[str] | None,
    typer.Option("--id", help="Only this dead letter, TOPIC/PARTITION/OFFSET; may be repeated."),
]
All = Annotated[bool, typer.Option("--all", help="All that are open.")]
Every = Annotated[bool, typer.Option("--every-state", help="Also those that were redriven or dropped.")]
Values = Annotated[
    bool, typer.Option("--show-values", help="Also keys and records as they are: personal data.")
]


def _selection(
    entities: Sequence[Entity] | None,
    hops: Sequence[Hop] | None,
    fields: Sequence[str] | None,
    codes: Sequence[str] | None,
    keys: Sequence[str] | None,
    ids: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    states: frozenset[State] | None = frozenset({"open"}),
) -> Selection:
    return Selection(
        _set(entities), _set(hops), _set(fields), _set(codes), _set(keys), _set(ids), since, until, states
    )


def _set(part: Sequence[T] | None) -> frozenset[T] | None:
    return frozenset(part) if part else None


@contextmanager
def _letters(selection: Selection) -> Iterator[tuple[KafkaSettings, Words, Iterator[DeadLetter]]]:
    settings = load(KafkaSettings)
    words = read_words(settings)
    with closing(Lookup(settings, list(letter_topics()))) as lookup:
        yield settings, words, read_letters(lookup, words, selection)


@app.command("list")
def list_letters(
    *,
    entity: Entities = None,
    at: Hops = None,
    field: Fields = None,
    code: Codes = None,
    since: Since = None,
    until: Until = None,
    every_state: Every = False,
    show_values: Values = False,
    as_json: Json = False,
) -> None:
    """Count the open dead letters by topic, field and reason, with examples. Exit code 1 where there are any."""
    states: frozenset[State] | None = None if every_state else frozenset({"open"})
    selection = _selection(entity, at, field, code, None, None, since, until, states)
    with _letters(selection) as (_, _, letters):
        groups = grouped(letters)
    if as_json:
        print_json([_group(each, show_values=show_values) for each in groups])
    else:
        _show_groups(groups, show_values=show_values)
    if groups:
        raise typer.Exit(1)


@app.command("show")
def show(
    *,
    entity: Entities = None,
    at: Hops = None,
    field: Fields = None,
    code: Codes = None,
    key: Keys = None,
    letter_id: Ids = None,
    since: Since = None,
    until: Until = None,
    every_state: Every = False,
    show_values: Values = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = _SHOWN,
    as_json: Json = False,
) -> None:
    """Show dead letters one by one; with --show-values the records too. Exit code 1 where there are none."""
    states: frozenset[State] | None = None if every_state else frozenset({"open"})
    selection = _selection(entity, at, field, code, key, letter_id, since, until, states)
    found: list[dict[str, Any]] = []
    with _letters(selection) as (settings, _, letters):
        for each in letters:
            found.append(_one(settings, each, show_values=show_values))
            if len(found) == limit:
                break
        letters.close()  # type: ignore[attr-defined]  # a generator: let go of Kafka before the reader is closed
    if as_json:
        print_json(found)
    for document in [] if as_json else found:
        console().print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode(), markup=False)
    if not found:
        if not as_json:
            console().print("there is no such dead letter")
        raise typer.Exit(1)


@app.command("redrive")
def redrive(
    *,
    entity: Entities = None,
    at: Hops = None,
    field: Fields = None,
    code: Codes = None,
    key: Keys = None,
    letter_id: Ids = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Try the selected dead letters again, the way that live records go.

    What could not be read or mapped is fetched from the shop again; what could not be delivered is sent again, unless
    a newer version of its key was delivered meanwhile. One that fails again is a new dead letter with a higher
    attempt. Exit code 1 where nothing is selected, or a service refused.
    """
    selection = _selection(entity, at, field, code, key, letter_id, since, until)
    _require_choice(selection, everything=everything)
    by: dict[Literal["extractor", "loader"], list[Letter]] = defaultdict(list)
    with _letters(selection) as (settings, _, letters):
        groups = grouped(_sorted_out(letters, by))
    _require_some(groups, as_json=as_json)
    _show_groups(groups, to_stderr=as_json)
    plan = [f"The {service} will try {len(each):,} again." for service, each in by.items()]
    agree(plan, yes=yes)
    now = SystemClock().now()
    requests: list[Request] = [
        Redrive(new_id("redrive", now), service, now, part)
        for service, each in by.items()
        for part in _parts(each)
    ]
    submit(settings, requests, as_json=as_json, wait=wait)


@app.command("drop")
def drop(
    *,
    entity: Entities = None,
    at: Hops = None,
    field: Fields = None,
    code: Codes = None,
    key: Keys = None,
    letter_id: Ids = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set the selected dead letters aside: they are listed no more, and stay in Kafka until they are 90 days old.

    Exit code 1 where nothing is selected.
    """
    selection = _selection(entity, at, field, code, key, letter_id, since, until)
    _require_choice(selection, everything=everything)
    chosen: list[Letter] = []
    with _letters(selection) as (settings, words, letters):
        groups = grouped(_noted(letters, chosen))
    _require_some(groups, as_json=as_json)
    _show_groups(groups, to_stderr=as_json)
    agree([f"{len(chosen):,} dead letters will be set aside. Their records stay undelivered."], yes=yes)
    now = SystemClock().now()
    drops = [Drop(new_id("drop", now), now, part) for part in _parts(chosen)]
    old = [each for each in words.all("drop/", Drop).values() if each.at < now - _KEPT]
    write_words(
        settings,
        {**{request_key(each): encode(each) for each in drops}, **{request_key(each): None for each in old}},
    )
    if as_json:
        print_json({"dropped": len(chosen)})
    else:
        console().print(f"{len(chosen):,} set aside")


def _require_choice(selection: Selection, *, everything: bool) -> None:
    if selection.touches_everything != everything:
        raise ConfigurationError(
            ["say which dead letters, as with `estarsync dlq list`; or --all for all, alone"]
        )


def _require_some(groups: Sequence[Group], *, as_json: bool) -> None:
    if groups:
        return
    if as_json:
        print_json([])
    else:
        console().print("there is no such dead letter")
    raise typer.Exit(1)


def _sorted_out(
    letters: Iterable[DeadLetter], by: dict[Literal["extractor", "loader"], list[Letter]]
) -> Iterator[DeadLetter]:
    for each in letters:
        by["loader" if each.hop is Hop.DELIVERY else "extractor"].append(each.letter)
        yield each


def _noted(letters: Iterable[DeadLetter], chosen: list[Letter]) -> Iterator[DeadLetter]:
    for each in letters:
        chosen.append(each.letter)
        yield each


def _parts(letters: Sequence[Letter]) -> Iterator[tuple[Letter, ...]]:
    for at in range(0, len(letters), _IN_ONE_WORD):
        yield tuple(letters[at : at + _IN_ONE_WORD])


def _group(group: Group, *, show_values: bool) -> dict[str, Any]:
    return {
        "topic": group.topic,
        "field": group.field,
        "code": group.code,
        "count": group.count,
        "oldest": group.oldest,
        "newest": group.newest,
        "attempts": group.attempts,
        "examples": [
            {"id": each.id, "key": each.key if show_values else masked(each.key)} for each in group.examples
        ],
    }


def _show_groups(groups: Sequence[Group], *, show_values: bool = False, to_stderr: bool = False) -> None:
    table = Table("topic", "field", "reason", "count", "oldest", "newest", "attempts", "examples")
    for each in groups:
        keys = ", ".join(one.key if show_values else masked(one.key) for one in each.examples)
        times = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (each.oldest, each.newest))
        table.add_row(each.topic, each.field, each.code, f"{each.count:,}", *times, str(each.attempts), keys)
    out = console(stderr=to_stderr)
    out.print(table if groups else "there is no open dead letter")


def _one(settings: KafkaSettings, each: DeadLetter, *, show_values: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": each.id,
        "failed_at": each.hop,
        "entity": each.entity,
        "key": each.key if show_values else masked(each.key),
        "field": each.field,
        "code": each.code,
        "attempt": each.attempt,
        "at": each.at,
        "state": each.state,
        "bytes": len(each.value or b""),
    }
    if show_values:
        document["record"] = _record(settings, each)
    return document


def _record(settings: KafkaSettings, each: DeadLetter) -> Any:  # noqa: ANN401 - any JSON
    value = each.value
    if value is None:
        return None
    try:
        if each.hop is Hop.DELIVERY:
            return codec_for(settings).decode(each.entity, value)
        return msgspec.json.decode(value)
    except (InvalidRecord, msgspec.DecodeError, UnicodeDecodeError):
        return {"unreadable": value.decode("utf-8", "backslashreplace")}
