"""Watching a request that a service obeys: progress, its end, and how to go on after Ctrl-C."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from estarsync_cli.output import notice
from estarsync_core.clock import Clock
from estarsync_core.control import Backfill, Redrive, Resync, Words, is_over
from estarsync_core.control import Progress as Come
from estarsync_core.entities import Entity
from estarsync_core.progress import overall
from estarsync_core.topics import declared_topics, raw_topic
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import ControlReader
from estarsync_runtime.settings import KafkaSettings

Request = Resync | Backfill | Redrive
_TURN = 0.5
_PATIENCE = 60.0
_OBEYS = {"raw": "the transformer", "typed": "the loader"}


def who(request: Request) -> str:
    """The service that is to obey."""
    match request:
        case Resync():
            return _OBEYS[request.source]
        case Redrive():
            return f"the {request.by}"
        case Backfill():
            return "the extractor"


def parts(request: Request) -> int:
    """How many write a part of the progress each: a resync from raw is done partition by partition."""
    if isinstance(request, Resync) and request.source == "raw":
        return next(spec.partitions for spec in declared_topics() if spec.name == raw_topic(request.entity))
    return 1


def progress_of(words: Words, request: Request) -> Come | None:
    """How far a request has come; None before anybody has begun."""
    return overall(words, request.id, parts(request))


def as_document(request: Request, come: Come | None) -> dict[str, Any]:
    """A request and its progress as plain data; keys may be e-mails and are only counted."""
    plain = {"kind": type(request).__name__.lower(), **msgspec.to_builtins(request)}
    if plain.get("keys") is not None:
        plain["keys"] = len(plain["keys"])
    if "letters" in plain:
        plain["letters"] = len(plain["letters"])
    shown = None if come is None else msgspec.to_builtins(msgspec.structs.replace(come, place=None))
    return {**plain, "progress": shown}


def follow(
    settings: KafkaSettings, requests: Sequence[Request], clock: Clock | None = None
) -> dict[str, Come]:
    """Show progress until every request is over; blocks. Ctrl-C leaves them running and says how to go on.

    Raises:
        typer.Exit: 130 after Ctrl-C.
    """
    clock = clock or SystemClock()
    try:
        with closing(ControlReader(settings)) as reader:
            return _watch(reader, requests, clock)
    except KeyboardInterrupt:
        for request in requests:
            notice(
                f"{who(request)} goes on with {request.id}. To watch: estarsync requests follow {request.id};"
            )
            if not isinstance(request, Redrive):
                notice(f"to stop it: estarsync requests stop {request.id}")
        raise typer.Exit(130) from None


def _watch(reader: ControlReader, requests: Sequence[Request], clock: Clock) -> dict[str, Come]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began, warned = clock.monotonic(), False
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {each.id: bars.add_task(f"{_name(each)} {each.id}", total=None) for each in requests}
        while True:
            found = {each.id: progress_of(reader.words, each) for each in requests}
            _draw(bars, tasks, found)
            come = {name: each for name, each in found.items() if each is not None}
            if all(_is_over(each, come.get(each.id)) for each in requests):
                return come
            if not come and not warned and clock.monotonic() - began > _PATIENCE:
                warned = True
                bars.console.print(
                    f"nobody has begun yet: does {who(requests[0])} run? See `estarsync status`"
                )
            reader.poll(_TURN)


def _is_over(request: Request, come: Come | None) -> bool:
    return come is not None and is_over(request, come)


def _draw(bars: Progress, tasks: Mapping[str, TaskID], found: Mapping[str, Come | None]) -> None:
    for name, come in found.items():
        if come is not None:
            bars.update(tasks[name], completed=come.done, total=come.total)


def _name(request: Request) -> str:
    kind = type(request).__name__.lower()
    return f"{kind} of {request.entity}" if isinstance(request, Resync | Backfill) else kind


def told(come: Mapping[str, Come]) -> bool:
    """Say how requests ended; whether all of them are done."""
    for name, each in come.items():
        notice(f"{name}: {each.state}, {each.done:,} records" + (f": {each.reason}" if each.reason else ""))
    return all(each.state == "done" for each in come.values())


def all_requests(words: Words) -> list[Request]:
    """Every request that stands on the control topic, oldest first."""
    found: list[Request] = [
        *words.all("resync/", Resync).values(),
        *words.all("backfill/", Backfill).values(),
        *words.all("redrive/", Redrive).values(),
    ]
    return sorted(found, key=lambda each: each.at)


def entity_of(request: Request) -> Entity | None:
    """Whose records a request is about, where it is one entity's."""
    return None if isinstance(request, Redrive) else request.entity
