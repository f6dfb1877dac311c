"""`estarsync canary`: does a change in the shop reach Dotdigital, and how fast?"""

from contextlib import closing
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import AfterValidator, Field
from rich.table import Table

from estarsync_cli.asking import Yes, agree
from estarsync_cli.connection import dotdigital
from estarsync_cli.flight import HOPS, Flight, Path
from estarsync_cli.ids import new_id
from estarsync_cli.moments import duration
from estarsync_cli.output import Json, console, notice, print_json
from estarsync_cli.publish import publish_canary
from estarsync_core.canary import CANARY, CANARY_STATE, Canary, CanaryKeys, CanaryState
from estarsync_core.clock import Clock
from estarsync_core.control import encode
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, EstarsyncError, InvalidRecord
from estarsync_core.keys import canonical_email
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.dotdigital.provisioning import existing
from estarsync_runtime.kafka.control import ControlReader, write_words
from estarsync_runtime.settings import KafkaSettings, load

_TURN = 0.5
_TAKEN_AWAY = (Entity.PRODUCTS, Entity.ORDERS)


def _email(text: str) -> str:
    try:
        return canonical_email(text)
    except InvalidRecord as error:
        raise ValueError("is no e-mail") from error


class Settings(KafkaSettings, DotdigitalSettings):
    """Both sides, and the canary's keys, which must be nobody's in the shop."""

    canary_email: Annotated[str, AfterValidator(_email)] = "estarsync-canary@example.com"
    canary_sku: str = Field("estarsync-canary", min_length=1, max_length=100)
    canary_order: str = Field("estarsync-canary", min_length=1, max_length=100)


def canary(
    *,
    timeout: Annotated[
        int, typer.Option(help="Seconds to wait for it to arrive, and as long for it to be gone.", min=10)
    ] = 300,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send a synthetic contact, product and order the whole path, and measure each hop.

    The extractor publishes them as if the shop had them; nothing is written to eStar. The contact says nothing of
    consent and stays at Dotdigital; the product, which is not on sale, and the order, which comes to nothing, are
    taken away again. CANARY_EMAIL, CANARY_SKU and CANARY_ORDER are their keys. With PUSHGATEWAY_URL set, the result
    goes to Prometheus.

    Exit code 1 where something did not arrive, or is not gone again.
    """
    settings, clock = load(Settings), SystemClock()
    keys = CanaryKeys(settings.canary_email, settings.canary_sku, settings.canary_order)
    agree(
        [
            f"A synthetic contact ({keys.email}), product ({keys.sku}) and order ({keys.order}) will go to Dotdigital;",
            "product and order are taken away again, the contact stays on the list. Nothing is written to eStar.",
        ],
        yes=yes,
    )
    try:
        document = _fly(settings, keys, timeout, clock)
    except EstarsyncError as error:
        if not isinstance(error, ConfigurationError):
            publish_canary(success=False, seconds={}, removal=None, clock=clock)
        raise
    success = bool(document["success"])
    seconds = {Entity(name): path["seconds"] for name, path in document["records"].items()}
    publish_canary(success=success, seconds=seconds, removal=document["removal_seconds"], clock=clock)
    if as_json:
        print_json(document)
    else:
        _show(document)
    if not success:
        raise typer.Exit(1)


def _fly(settings: Settings, keys: CanaryKeys, timeout: int, clock: Clock) -> dict[str, Any]:
    now = clock.now()
    asked = Canary(new_id("canary", now), now, now + timedelta(seconds=timeout), keys)
    with dotdigital(settings) as client, closing(ControlReader(settings)) as control:
        _refuse_a_second(control, now)
        with closing(Flight(settings, client, existing(client, settings), asked, clock)) as flight:
            try:
                reason = _ask_and_wait(settings, flight, control, asked, clock)
                removal = _removal(flight, timeout, clock)
            except KeyboardInterrupt:
                notice(
                    "product and order are taken away again by the extractor; to measure: run the command again"
                )
                raise typer.Exit(130) from None
            return _document(asked, flight, reason, removal)


def _ask_and_wait(
    settings: Settings, flight: Flight, control: ControlReader, asked: Canary, clock: Clock
) -> str | None:
    """However it ends, the word is taken back, and product and order with it."""
    write_words(settings, {CANARY: encode(asked)})
    notice(f"asked the extractor: {asked.id}")
    try:
        return _wait(flight, control, asked, clock)
    finally:
        write_words(settings, {CANARY: None})


def _refuse_a_second(control: ControlReader, now: datetime) -> None:
    standing = control.words.get(CANARY, Canary)
    if standing is not None and now < standing.until:
        until = standing.until.isoformat(timespec="seconds")
        raise ConfigurationError(
            [f"{standing.id} is under way, until {until} at the latest: wait for its end, then try again"]
        )


def _wait(flight: Flight, control: ControlReader, asked: Canary, clock: Clock) -> str | None:
    """Follow it until everything has arrived, its time is up, or the extractor refuses; gives why it refused."""
    said = ""
    while clock.now() < asked.until:
        flight.look(_TURN)
        control.poll()
        state = control.words.get(CANARY_STATE, CanaryState)
        if state is not None and (state.id, state.state) == (asked.id, "refused"):
            return state.reason
        line = _progress(flight)
        if line != said:
            notice(line)
        said = line
        if all(path.over for path in flight.paths.values()):
            return None
    return None


def _removal(flight: Flight, timeout: int, clock: Clock) -> float | None:
    """Wait until product and order are gone again; how many seconds that took, None where they are not."""
    expected = [
        path for path in flight.paths.values() if path.entity in _TAKEN_AWAY and "deliver" in path.times
    ]
    began = clock.monotonic()
    while any(path.gone is None for path in expected):
        if clock.monotonic() - began > timeout:
            return None
        flight.look(_TURN)
    return clock.monotonic() - began if expected else None


def _progress(flight: Flight) -> str:
    return ", ".join(
        f"{entity}: {path.result.replace('_', ' ')}" + ("" if path.over else f" ({path.stuck})")
        for entity, path in flight.paths.items()
    )


def _document(asked: Canary, flight: Flight, reason: str | None, removal: float | None) -> dict[str, Any]:
    """What has become of it, as plain data.

    It is a success where all that CONTACT_SCOPE lets through has arrived, and product and order are gone again.
    """
    paths = flight.paths
    arrived = paths[Entity.PRODUCTS].result == "arrived" and all(
        path.result in {"arrived", "filtered"} for path in paths.values()
    )
    return {
        "id": asked.id,
        "success": reason is None and arrived and removal is not None,
        "refused": reason,
        "records": {entity: _row(path) for entity, path in paths.items()},
        "removal_seconds": removal,
    }


def _row(path: Path) -> dict[str, Any]:
    return {**path.document(), "waits_for": None if path.over else path.stuck}


def _show(document: dict[str, Any]) -> None:
    hops = [*HOPS, "end_to_end"]
    table = Table("", "result", *(hop.replace("_", " ") for hop in hops))
    for entity, path in document["records"].items():
        seconds = path["seconds"]
        cells = (f"{seconds[hop]:.1f} s" if hop in seconds else "" for hop in hops)
        table.add_row(entity, path["result"].replace("_", " "), *cells)
    console().print(table)
    if document["refused"]:
        notice(f"the extractor refused it: {document['refused']}")
        return
    for entity, path in document["records"].items():
        if path["waits_for"]:
            notice(
                f"{entity}: {path['waits_for']}: see `estarsync status`, `estarsync dlq list` and the runbook CanaryFails"
            )
        if path["result"] == "refused":
            notice(f"{entity}: Dotdigital refused it; `estarsync dlq list` says why")
    if any(path["result"] == "filtered" for path in document["records"].values()):
        notice(
            "CONTACT_SCOPE leaves the canary's contact out, since it never consented: contact and order were followed"
            " to the loader only, the product to Dotdigital"
        )
    if document["removal_seconds"] is None:
        notice("product and order are not gone again as far as is known: the extractor goes on with it")
    else:
        console().print(f"taken away again after {duration(document['removal_seconds'])}")
