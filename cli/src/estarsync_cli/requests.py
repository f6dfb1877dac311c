"""`estarsync requests`: resyncs, backfills and redrives that were asked for; watch, stop and resume them."""

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from estarsync_cli.asking import Yes, agree
from estarsync_cli.following import (
    Request,
    all_requests,
    as_document,
    entity_of,
    follow,
    progress_of,
    told,
    who,
)
from estarsync_cli.output import Json, console, notice, print_json
from estarsync_core.control import Redrive, encode, request_key
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.settings import KafkaSettings, load

app = typer.Typer(no_args_is_help=True, help="Resyncs, backfills and redrives: list, follow, stop, resume.")
Id = Annotated[str, typer.Argument(help="As `estarsync requests list` shows it.")]


@app.command("list")
def list_requests(*, as_json: Json = False) -> None:
    """Show what was asked for, oldest first, and how far it has come."""
    words = read_words(load(KafkaSettings))
    rows = [(each, progress_of(words, each)) for each in all_requests(words)]
    if as_json:
        print_json([as_document(request, come) for request, come in rows])
        return
    table = Table("id", "what", "asked for", "obeyed by", "state", "done", "of")
    for request, come in rows:
        state = "not begun" if come is None else ": ".join(filter(None, (come.state, come.reason)))
        what = f"{type(request).__name__.lower()} {entity_of(request) or ''}".strip()
        total = "?" if come is None or come.total is None else f"{come.total:,}"
        done = "" if come is None else f"{come.done:,}"
        table.add_row(request.id, what, f"{request.at:%Y-%m-%d %H:%M}", who(request), state, done, total)
    console().print(table if rows else "nothing was asked for")


@app.command("follow")
def follow_request(request_id: Id, *, as_json: Json = False) -> None:
    """Watch a request until it is over. Exit code 1 where it was stopped or refused."""
    settings = load(KafkaSettings)
    finish(settings, [_find(settings, request_id)], as_json=as_json, wait=True)


@app.command("stop")
def stop(request_id: Id, *, yes: Yes = False, as_json: Json = False) -> None:
    """Stop a resync or a backfill. What it has done stays done; `resume` lets it go on."""
    _switch(request_id, cancelled=True, yes=yes, as_json=as_json)


@app.command("resume")
def resume(request_id: Id, *, yes: Yes = False, as_json: Json = False) -> None:
    """Let a resync or a backfill that was stopped go on from where it was."""
    _switch(request_id, cancelled=False, yes=yes, as_json=as_json)


def _switch(request_id: str, *, cancelled: bool, yes: bool, as_json: bool) -> None:
    settings = load(KafkaSettings)
    request = _find(settings, request_id)
    if isinstance(request, Redrive):
        raise ConfigurationError(
            [f"{request_id} is a redrive, which is over in a moment: nothing to stop or resume"]
        )
    come = progress_of(read_words(settings), request)
    done = 0 if come is None else come.done
    plan = (
        f"{who(request)} will stop {request_id} after {done:,} records, which stay as they are; `resume` lets it go on."
        if cancelled
        else f"{who(request)} will go on with {request_id}, of which {done:,} records are done."
    )
    agree([plan[0].upper() + plan[1:]], yes=yes)
    changed = msgspec.structs.replace(request, cancelled=cancelled)
    write_words(settings, {request_key(changed): encode(changed)})
    if as_json:
        print_json(as_document(changed, progress_of(read_words(settings), changed)))
    else:
        console().print(
            f"{request_id}: {'is to stop' if cancelled else 'is to go on'} ({who(request)} obeys)"
        )


def _find(settings: KafkaSettings, request_id: str) -> Request:
    for each in all_requests(read_words(settings)):
        if each.id == request_id:
            return each
    raise ConfigurationError([f"there is no request {request_id}: see `estarsync requests list`"])


def submit(settings: KafkaSettings, requests: list[Request], *, as_json: bool, wait: bool) -> None:
    """Write requests down, watch them where that is wished, and print them.

    Raises:
        typer.Exit: 1 where one was stopped or refused, 130 after Ctrl-C.
    """
    _ask(settings, requests)
    finish(settings, requests, as_json=as_json, wait=wait)


def submit_all(settings: KafkaSettings, requests: list[Request], *, wait: bool) -> list[dict[str, Any]]:
    """Write requests down, watch them where that is wished, and give them as plain data with their progress.

    Raises:
        typer.Exit: 130 after Ctrl-C.
    """
    _ask(settings, requests)
    come = follow(settings, requests) if wait else {}
    told(come)
    return [as_document(each, come.get(each.id)) for each in requests]


def _ask(settings: KafkaSettings, requests: list[Request]) -> None:
    write_words(settings, {request_key(each): encode(each) for each in requests})
    for each in requests:
        notice(f"asked {who(each)}: {each.id}")


def finish(settings: KafkaSettings, requests: list[Request], *, as_json: bool, wait: bool) -> None:
    """Watch requests to their end, or say how to.

    Raises:
        typer.Exit: 1 where one was stopped or refused, 130 after Ctrl-C.
    """
    come = follow(settings, requests) if wait else {}
    if as_json:
        print_json([as_document(each, come.get(each.id)) for each in requests])
    if not wait:
        notice(f"to watch: estarsync requests follow {requests[-1].id}")
    elif not told(come):
        raise typer.Exit(1)
