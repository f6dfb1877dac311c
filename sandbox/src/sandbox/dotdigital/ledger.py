"""The ledger: every call, every accepted write, and what the sandbox itself saw go wrong.

It holds personal data (keys of writes are e-mails), which a sandbox's is made up.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

_KEEP_VIOLATIONS = 10_000


class CallLine(NamedTuple):
    """A call.

    `status` is 0 where the connection was dropped before anything happened. `import_id` is that of the import that
    the call began, else empty.
    """

    time: float
    method: str
    path: str
    tier: str
    status: int
    remaining: int | None
    reply: str  # "sent" or "lost"
    import_id: str = ""


class WriteLine(NamedTuple):
    """An accepted write.

    `sha256` is of the canonical JSON (keys sorted, no spaces) of what was sent: a contact's entry, a record's json.
    `previous` is that of the last write to the same key, empty where there was none.
    """

    time: float
    kind: str  # "contact", "contact_patch", "contact_delete", "insight", "insight_delete"
    key: str  # an e-mail (else another identifier), or collection/key
    import_id: str  # empty for single calls
    sha256: bytes
    previous: bytes


class Violation(NamedTuple):
    """Something a client should not have done."""

    time: float
    kind: str
    key: str
    detail: str


def digest(value: Any) -> bytes:  # noqa: ANN401 - any JSON
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).digest()


class Ledger:
    """Lines in memory, the newest of them, and all of them in a file where a path is given.

    Args:
        keep_calls: how many calls stay in memory.
        keep_writes: how many writes stay in memory.
        path: where every line goes as JSON, or None.
    """

    def __init__(self, keep_calls: int, keep_writes: int, path: Path | None = None) -> None:
        self.calls: deque[CallLine] = deque(maxlen=keep_calls)
        self.writes: deque[WriteLine] = deque(maxlen=keep_writes)
        self.violations: deque[Violation] = deque(maxlen=_KEEP_VIOLATIONS)
        self.by_status: Counter[str] = Counter()
        self.by_tier: Counter[str] = Counter()
        self.by_call: Counter[str] = Counter()
        self.by_write: Counter[str] = Counter()
        self.by_violation: Counter[str] = Counter()
        self.by_failure: Counter[str] = Counter()
        self.last_write = 0.0
        self._file: BufferedWriter | None = None if path is None else path.open("ab")

    def call(self, line: CallLine) -> None:
        """Note a call; one that is answered 429 is a violation as well."""
        self.calls.append(line)
        self.by_status[str(line.status)] += 1
        self.by_tier[line.tier] += 1
        self.by_call[f"{line.method} {line.path}"] += 1
        self._spill("call", line)

    def write(self, line: WriteLine) -> None:
        """Note an accepted write."""
        self.writes.append(line)
        self.last_write = line.time
        self.by_write[line.kind] += 1
        self._spill("write", line)

    def violation(self, line: Violation) -> None:
        """Note what a client should not have done."""
        self.violations.append(line)
        self.by_violation[line.kind] += 1
        self._spill("violation", line)

    def failure(self, code: str) -> None:
        """Count a record that an import refused, by its reason."""
        self.by_failure[code] += 1

    def lines(self, kind: str, offset: int, limit: int | None) -> Iterator[bytes]:
        """JSON lines of a kind (`calls`, `writes` or `violations`), oldest first.

        Raises:
            KeyError: there is no such kind.
        """
        by_kind: dict[str, deque[Any]] = {
            "calls": self.calls,
            "writes": self.writes,
            "violations": self.violations,
        }
        kept = by_kind[kind]
        stop = len(kept) if limit is None else min(len(kept), offset + limit)
        for index, line in enumerate(kept):
            if index >= stop:
                return
            if index >= offset:
                yield _json(line)

    def flush(self) -> None:
        """Let the file, if there is one, have every line so far."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self, kind: str, line: CallLine | WriteLine | Violation) -> None:
        if self._file is not None:
            self._file.write(b'{"line":"' + kind.encode() + b'",' + _json(line)[1:] + b"\n")
            if kind != "write":
                self._file.flush()


def _json(line: CallLine | WriteLine | Violation) -> bytes:
    shown = line._asdict()
    for name, value in shown.items():
        if isinstance(value, bytes):
            shown[name] = value.hex()
    return msgspec.json.encode(shown)
