"""`estarsync status`: is it working?"""

import math
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.table import Table

from estarsync_cli.condition import Backlog, Condition, first_loads, look, outcomes, quota
from estarsync_cli.moments import duration
from estarsync_cli.output import Json, console, print_json
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words
from estarsync_runtime.settings import KafkaSettings, load


def status(
    *,
    service: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ESTARSYNC_SERVICES",
            metavar="URL",
            help="A service's HTTP_PORT, such as http://loader:8080; may be repeated. In the variable, a space apart.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what runs, how far each step has come, what waits and for how long, and what needs a person.

    Kafka alone tells most of it; quota and counts need the services' addresses. Exit code 1 where a person should look.
    """
    settings = load(KafkaSettings)
    condition = look(settings, service or [], read_words(settings), SystemClock().now())
    if as_json:
        print_json(_document(condition))
    else:
        _show(condition)
    if condition.problems:
        raise typer.Exit(1)


def _document(condition: Condition) -> dict[str, Any]:
    return {
        "at": condition.at,
        "problems": condition.problems,
        "members": condition.members,
        "services": condition.services,
        "feeds": condition.feeds,
        "first_load": first_loads(condition),
        "backlogs": [_backlog(condition, each) for each in condition.backlogs],
        "imports_open": dict(condition.imports),
        "quota": quota(condition),
        "attempts_last_15_minutes": [
            {"entity": entity, "outcome": outcome, "count": count}
            for (entity, outcome), count in sorted(condition.delivered.items())
        ],
        "records_since_start": outcomes(condition),
        "stops": condition.stops,
        "holds": condition.holds,
        "requests": condition.requests,
        "erased": condition.blocked,
    }


def _backlog(condition: Condition, each: Backlog) -> dict[str, Any]:
    left = each.left
    return {
        "service": each.service,
        "entity": each.entity,
        "records": each.lag.records,
        "behind_seconds": _behind(condition, each),
        "records_per_second": [round(speed, 2) for speed in each.speed],
        # JSON knows no infinity: null where there is no upper end.
        "left_seconds": None
        if left is None
        else [round(left[0], 1), None if math.isinf(left[1]) else round(left[1], 1)],
    }


def _behind(condition: Condition, each: Backlog) -> float:
    since = each.lag.since
    return 0.0 if since is None else max(0.0, round((condition.at - since).total_seconds(), 1))


def _show(condition: Condition) -> None:
    out = console()
    for problem in condition.problems:
        out.print(f"! {problem}", markup=False, soft_wrap=True)
    running = (f"{name} {'?' if count is None else count}" for name, count in condition.members.items())
    out.print(f"running (as Kafka knows): {', '.join(running)}")
    for each in condition.services:
        role = {None: "", True: ", leads", False: ", stands by"}[each.leads]
        out.print(
            f"  {each.name} at {each.url}: {'ready' if each.ready else each.problem}{role}", markup=False
        )
    _table(
        ("feed", "entity", "read until", "ago", "first load"),
        (
            (
                feed["feed"],
                feed["entity"],
                f"{feed['read_until']:%Y-%m-%d %H:%M:%S}",
                duration(feed["age_seconds"]),
                "done" if feed["first_load_done"] else "under way",
            )
            for feed in condition.feeds
        ),
    )
    _table(
        ("waits for", "entity", "records", "time behind", "records/s (1, 5, 15 min)", "until empty"),
        (
            (
                each.service,
                each.entity,
                f"{each.lag.records:,}",
                duration(_behind(condition, each)),
                ", ".join(f"{speed:.1f}" for speed in each.speed),
                _band(each),
            )
            for each in condition.backlogs
        ),
    )
    imports = ", ".join(f"{entity} {count}" for entity, count in condition.imports.items()) or "none"
    out.print(f"imports open at Dotdigital: {imports}")
    for row in quota(condition):
        out.print(
            f"quota {row['tier']}: {row['left']:.0f} of {row['limit'] or 0:.0f} calls left in this minute"
        )
    for entity, counts in outcomes(condition).items():
        said = ", ".join(f"{outcome} {count:,.0f}" for outcome, count in counts.items())
        out.print(f"{entity} since the loader started: {said}", soft_wrap=True)
    _show_first_loads(condition)
    for request in condition.requests:
        come = request["progress"] or {"state": "not begun", "done": 0}
        total = come.get("total")
        of = "" if total is None else f" of {total:,}"
        out.print(f"{request['id']}: {come['state']}, {come['done']:,}{of}", markup=False)
    if not condition.problems:
        out.print("nothing needs a person; `estarsync dlq list` shows dead letters")


def _show_first_loads(condition: Condition) -> None:
    for entity, numbers in first_loads(condition).items():
        if numbers.get("done") != 1:
            said = ", ".join(f"{name} {value:,.0f}" for name, value in numbers.items() if name != "done")
            console().print(f"first load of {entity}: {said or 'under way'}", soft_wrap=True)


def _band(each: Backlog) -> str:
    left = each.left
    if each.lag.records == 0:
        return "-"
    if left is None:
        return "nothing moves" if each.speed else ""
    low, high = left
    return f"{duration(low)} to {'?' if math.isinf(high) else duration(high)}"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console().print(table)
