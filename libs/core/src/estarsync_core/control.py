"""What people ask of the services, and what those answer, on the control topic.

`estarsync.control.v1` is compacted: what stands under a key is what holds now, and None takes it back. Every key has
one writer. A person's word stands under one key (`release/orders`), the service's answer under another
(`stop/orders`), and both carry the same id, so that an old word is never taken for an answer to a new question.

    key                      written by              holds
    removals/<entity>        poller                  `removal.Hold`
    removals-approval/<...>  CLI                     `removal.Approval`
    stop/<entity>            loader                  `LaneStop`: it sends nothing of this entity
    release/<entity>         CLI                     `Release` of that stop
    resync/<id>              CLI                     `Resync`: the transformer obeys `raw`, the loader `typed`
    backfill/<id>            CLI                     `Backfill`: the poller reads the shop again
    redrive/<id>             CLI                     `Redrive`: the poller, or for typed dead letters the loader
    drop/<id>                CLI                     `Drop`: dead letters that a person has set aside
    progress/<id>            the one that obeys      `Progress` of a resync, a backfill or a redrive
    progress/<id>/<n>        transformers            the same, for one partition of a resync from raw
    erased/<hash>            CLI                     `Erasure`: the block-list of poller and loader
    canary                   CLI                     `canary.Canary`: synthetic records are to travel the whole path
    canary-state             poller                  `canary.CanaryState`: what has become of them
"""

import hashlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from estarsync_core.entities import Entity
from estarsync_core.errors import InvalidRecord
from estarsync_core.keys import canonical_email
from estarsync_core.topics import CONTROL

T = TypeVar("T")
R = TypeVar("R", "Resync", "Backfill", "Redrive")
_ERASED = "erased/"
_ENCODER = msgspec.json.Encoder()


class LaneStop(msgspec.Struct, frozen=True):
    """The loader sends nothing of an entity until a person has looked.

    Attributes:
        id: of this stop.
        code: why, from a closed set.
        reason: the same for people, with what to do; without personal data.
        at: since when.
    """

    id: str
    code: str
    reason: str
    at: datetime


class Release(msgspec.Struct, frozen=True):
    """A person's word that the cause of this stop is gone."""

    id: str
    at: datetime


class Resync(msgspec.Struct, frozen=True, omit_defaults=True):
    """A replay of what the topics hold.

    Attributes:
        id: of this request.
        entity: whose records.
        source: `raw`: through the mapping again; `typed`: the payloads as they are.
        at: when it was asked for; later records are none of its business. What is mapped again for it has this time,
            in milliseconds, as its revision, so that it is newer than what it replaces.
        keys: only these; None for all.
        since: published at or after.
        until: published before.
        force: from raw, send also what Dotdigital is known to hold already; from typed that is always so.
        cancelled: a person has stopped it; false again, it goes on from where it was.
    """

    id: str
    entity: Entity
    source: Literal["raw", "typed"]
    at: datetime
    keys: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    force: bool = False
    cancelled: bool = False


class Backfill(msgspec.Struct, frozen=True, omit_defaults=True):
    """The poller reads the shop again.

    Attributes:
        id: of this request.
        entity: whose records.
        at: when it was asked for.
        since: changed at or after; None for all there is.
        force: publish also what has not changed.
        cancelled: a person has stopped it; false again, it goes on from where it was.
    """

    id: str
    entity: Entity
    at: datetime
    since: datetime | None = None
    force: bool = False
    cancelled: bool = False


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """Where a dead letter stands; `topic` is its declared name, without the cluster's prefix."""

    topic: str
    partition: int
    offset: int


class Redrive(msgspec.Struct, frozen=True):
    """Dead letters that are to be tried again.

    Those of `estar.*.dlq` and `estarsync.extract.dlq.v1` are fetched from the shop again by the poller, so that no older
    version comes after a newer one. Those of `dotdigital.*.dlq` are the loader's, which knows every key's version.

    Attributes:
        id: of this request.
        by: who is to obey.
        at: when it was asked for.
        letters: which.
    """

    id: str
    by: Literal["extractor", "loader"]
    at: datetime
    letters: tuple[Letter, ...]


class Drop(msgspec.Struct, frozen=True):
    """Dead letters that a person has set aside: no service obeys it, and the command lists them no more.

    Attributes:
        id: of this word.
        at: since when.
        letters: which.
    """

    id: str
    at: datetime
    letters: tuple[Letter, ...]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a request has come.

    Attributes:
        id: of the request.
        state: `running`, `done`, `cancelled`, or `refused` with a reason.
        done: records handled so far.
        total: records to handle, as far as is known.
        at: when this was written.
        reason: for people, without personal data.
        place: where to go on after a restart; the writer's own business.
    """

    id: str
    state: Literal["running", "done", "cancelled", "refused"]
    done: int
    total: int | None
    at: datetime
    reason: str | None = None
    place: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will be done."""
        return self.state != "running"


class Erasure(msgspec.Struct, frozen=True):
    """A shopper who is to be forgotten: nothing of this e-mail is published or sent."""

    id: str
    at: datetime


def stop_key(entity: Entity) -> str:
    """Where the loader writes a `LaneStop`."""
    return f"stop/{entity}"


def release_key(entity: Entity) -> str:
    """Where a person's `Release` is written."""
    return f"release/{entity}"


def request_key(request: Resync | Backfill | Redrive | Drop) -> str:
    """Where a request, or what is set aside, is written."""
    return f"{type(request).__name__.lower()}/{request.id}"


def progress_key(request: str, part: int | None = None) -> str:
    """Where the progress of the request with this id is written; `part` is a partition's number."""
    return f"progress/{request}" if part is None else f"progress/{request}/{part}"


def email_hash(email: str) -> str:
    """What stands for an e-mail in the block-list: the hex SHA-256 of its canonical form.

    Raises:
        InvalidRecord: it is not an e-mail.
    """
    return hashlib.sha256(canonical_email(email).encode()).hexdigest()


def erased_key(email: str) -> str:
    """Where an `Erasure` is written.

    Raises:
        InvalidRecord: it is not an e-mail.
    """
    return f"{_ERASED}{email_hash(email)}"


def encode(word: msgspec.Struct) -> bytes:
    """A word as it is written. Times must have a zone."""
    return _ENCODER.encode(word)


class Blocked:
    """The e-mails that were erased, by hash.

    Args:
        hashes: those known so far.

    Attributes:
        additions: how often one was added: who keeps records looks through them when this changes.
    """

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        self._hashes = set(hashes)
        self.additions = len(self._hashes)

    def __contains__(self, email: object) -> bool:
        """Whether this canonical e-mail is blocked; what is no e-mail is not."""
        if not self._hashes or not isinstance(email, str):
            return False
        try:
            return email_hash(email) in self._hashes
        except InvalidRecord:
            return False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._hashes)

    @property
    def hashes(self) -> AbstractSet[str]:
        """All of them; changes with this object."""
        return self._hashes

    def add(self, digest: str) -> None:
        """Block one more."""
        self._hashes.add(digest)
        self.additions += 1

    def discard(self, digest: str) -> None:
        """Lift one."""
        self._hashes.discard(digest)


class Words:
    """What stands on the control topic, kept up to date record by record.

    A record that estarsync did not write is not an error until somebody asks for it.
    """

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self.blocked = Blocked()

    def take(self, key: bytes | None, value: bytes | None) -> str:
        """Take in one record; gives its key as text."""
        name = (key or b"").decode("utf-8", "replace")
        if name.startswith(_ERASED):
            (self.blocked.add if value else self.blocked.discard)(name.removeprefix(_ERASED))
        if value:
            self._values[name] = value
        else:
            self._values.pop(name, None)
        return name

    def get(self, key: str, kind: type[T]) -> T | None:
        """What stands under a key.

        Raises:
            InvalidRecord: it is not of this kind.
        """
        value = self._values.get(key)
        return None if value is None else _decoded(key, value, kind)

    def all(self, prefix: str, kind: type[T]) -> Mapping[str, T]:
        """Everything under keys that begin with `prefix`, in the order in which the keys came first.

        Raises:
            InvalidRecord: something is not of this kind.
        """
        return {
            key: _decoded(key, value, kind) for key, value in self._values.items() if key.startswith(prefix)
        }

    def requests(self, kind: type[R]) -> list[R]:
        """The requests of a kind that are not over, the oldest first; those that can't be read are left out."""
        found = []
        for key in self._values:
            if key.startswith(f"{kind.__name__.lower()}/"):
                try:
                    request = _decoded(key, self._values[key], kind)
                    progress = self.get(progress_key(request.id), Progress)
                except InvalidRecord:
                    continue
                if progress is None or not is_over(request, progress):
                    found.append(request)
        return sorted(found, key=lambda request: (request.at, request.id))

    def stopped(self, entity: Entity) -> LaneStop | None:
        """The stop that holds for an entity: one that no release answers.

        Raises:
            InvalidRecord: what stands there is not readable.
        """
        stop = self.get(stop_key(entity), LaneStop)
        return None if stop is None or self.released(entity, stop) else stop

    def released(self, entity: Entity, stop: LaneStop) -> bool:
        """Whether a person has released this stop.

        Raises:
            InvalidRecord: what stands there is not readable.
        """
        release = self.get(release_key(entity), Release)
        return release is not None and release.id == stop.id


def is_over(request: "Resync | Backfill | Redrive", progress: Progress) -> bool:
    """Whether nothing more will be done; what was cancelled may be taken up again."""
    if progress.state == "cancelled" and not isinstance(request, Redrive):
        return request.cancelled
    return progress.over


def _decoded(key: str, value: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        field = f"{CONTROL}[{key.partition('/')[0]}]"
        raise InvalidRecord(field, "unreadable") from error
