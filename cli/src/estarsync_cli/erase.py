"""`estarsync erase`: forget a shopper, and prove it."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from estarsync_cli.asking import Yes, agree
from estarsync_cli.backfill import Wait
from estarsync_cli.ids import new_id
from estarsync_cli.output import Json, console, masked, notice, print_json
from estarsync_cli.receipt import Keys, Search, receipt
from estarsync_core.control import Erasure, encode, erased_key
from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.keys import canonical_email
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.control import read_words, write_words
from estarsync_runtime.settings import KafkaSettings, load

_TURN = 2.0


def erase(
    email: Annotated[str, typer.Argument(help="Of the shopper who is to be forgotten.")],
    *,
    lift: Annotated[
        bool,
        typer.Option("--lift", help="Undo the block: from the shop's next change on, they are synced again."),
    ] = False,
    save: Annotated[Path | None, typer.Option("--receipt", help="Write the receipt there, as JSON.")] = None,
    yes: Yes = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Delete a shopper's contact and orders at Dotdigital, and let nothing of theirs be published or sent again.

    Asked again for the same e-mail, it changes nothing and prints the receipt as it stands now. Nothing is written to
    eStar. Exit code 1 where Dotdigital refused, or it is not over yet.
    """
    try:
        canonical = canonical_email(email)
    except InvalidRecord as error:
        raise ConfigurationError([f"{masked(email)!r} is no e-mail"]) from error
    settings = load(KafkaSettings)
    standing = read_words(settings).get(erased_key(canonical), Erasure)
    if lift:
        _lift(settings, canonical, standing, yes=yes, as_json=as_json)
        return
    with closing(Search(settings, canonical)) as search:
        notice("looking for the shopper's records …")
        keys = search.keys()
        if standing is None:
            erasure = _ask(settings, search.emails, keys, yes=yes)
        else:
            erasure = standing
            _block(settings, search.emails, erasure)  # also a former e-mail that came to light since
        document = _follow(search, erasure, keys, wait=wait)
    if save is not None:
        save.write_bytes(_pretty(document))
    if as_json:
        print_json(document)
    else:
        _show(document)
    if not document["over"] or any(
        record["refused"] or record["at_dotdigital"] for record in document["records"]
    ):
        raise typer.Exit(1)


def _lift(settings: KafkaSettings, email: str, standing: Erasure | None, *, yes: bool, as_json: bool) -> None:
    if standing is None:
        notice(f"{masked(email)} is not blocked")
        raise typer.Exit(1)
    again = f"{masked(email)} will be synced again, from the next change in the shop on; `estarsync backfill` fetches"
    agree([f"{again} what is there now. What was deleted at Dotdigital does not come back."], yes=yes)
    blocked = read_words(settings).all("erased/", Erasure)
    write_words(settings, {key: None for key, word in blocked.items() if word.id == standing.id})
    if as_json:
        print_json({"lifted": standing.id})
    else:
        console().print("lifted")


def _ask(settings: KafkaSettings, emails: Sequence[str], keys: Keys, *, yes: bool) -> Erasure:
    orders = sum(entity is Entity.ORDERS for entity, _ in keys)
    contact = "the contact" if (Entity.CONTACTS, emails[0]) in keys else "no contact of the shop's"
    former = [f"Before, the shop had {len(emails) - 1} other e-mails for them, which go as well."]
    plan = [
        f"{masked(emails[0])}: {contact} and {orders:,} orders are known.",
        *(former if len(emails) > 1 else ()),
        "They will be deleted at Dotdigital and replaced by tombstones in Kafka, and nothing of this e-mail is",
        "published or sent until `estarsync erase EMAIL --lift`. This can't be undone.",
    ]
    agree(plan, yes=yes)
    now = SystemClock().now()
    erasure = Erasure(new_id("erase", now), now)
    _block(settings, emails, erasure)
    return erasure


def _block(settings: KafkaSettings, emails: Sequence[str], erasure: Erasure) -> None:
    """Put e-mails on the block-list that are not there yet."""
    blocked = read_words(settings).blocked
    words = {erased_key(each): encode(erasure) for each in emails if each not in blocked}
    if words:
        write_words(settings, words)


def _follow(search: Search, erasure: Erasure, keys: Keys, *, wait: bool) -> dict[str, Any]:
    clock, said = SystemClock(), ""
    try:
        while True:
            steps = search.steps(keys, erasure.at)
            if not wait or all(step.over for step in steps):
                return receipt(search.emails, erasure, steps, search.days(keys, erasure.at))
            counts = (
                sum(step.raw is not None for step in steps),
                sum(step.typed is not None for step in steps),
            )
            over = sum(step.over for step in steps)
            line = f"of {len(steps)}: taken back by the extractor {counts[0]}, transformer {counts[1]}, settled {over}"
            if line != said:
                notice(line)
            said = line
            clock.sleep(_TURN)
    except KeyboardInterrupt:
        notice(
            "the erasure stands, and the services go on with it: run the same command again for the receipt"
        )
        raise typer.Exit(130) from None


def _show(document: dict[str, Any]) -> None:
    console().print(_pretty(document).decode(), markup=False, soft_wrap=True, end="")
    if not document["over"]:
        notice("not over yet: run the same command again")
    for record in document["records"]:
        if record["refused"]:
            notice(
                f"Dotdigital refused to delete one of the {record['entity']} ({record['refused']}): do it there"
            )
    if any(row["keys"] is None for row in document["topics"]):
        notice("in one of the topics above, Kafka never deletes the key: see its `keys`")


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
