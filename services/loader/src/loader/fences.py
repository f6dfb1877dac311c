"""A batch's fences, on disk: a batch may hold a hundred thousand keys, and a dozen batches may be open."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from errno import ENOSPC
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import msgspec
from typing_extensions import override

from estarsync_core.entities import Version
from loader.records import Fence

CHUNK = 1000
"""Fences that are in memory at once, if nothing else is said."""

_Row = tuple[str, int, int, str, str | None]
_rows = msgspec.json.Decoder(list[_Row])
_encode = msgspec.json.Encoder().encode


class Fences(Collection[Fence]):
    """Fences in the order in which they came; may be gone through over and over, also while others go through it.

    Args:
        folder: on the disk that takes them; None for the system's own.
        fences: the first ones.
        chunk: how many are in memory at once.
        write: writes bytes to a descriptor at an offset, as `os.pwrite` does.
    """

    def __init__(
        self,
        folder: Path | None = None,
        fences: Iterable[Fence] = (),
        chunk: int = CHUNK,
        write: Callable[[int, bytes, int], int] = os.pwrite,
    ) -> None:
        self.chunk = chunk
        self._write_at = write
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._chunks: list[tuple[int, int]] = []  # offset and length
        self._last: list[_Row] = []
        self._count = 0
        for fence in fences:
            self.append(fence)

    def append(self, fence: Fence) -> None:
        """Add one at the end."""
        self._last.append(
            (fence.key, fence.version.sequence, fence.version.revision, fence.hash, fence.email)
        )
        self._count += 1
        if len(self._last) % self.chunk == 0 and self._write(_encode(self._last)):
            self._last = []

    def extend(self, rows: bytes) -> None:
        """Add fences as `rows` of another one gave them.

        Raises:
            msgspec.DecodeError: they are none.
        """
        for row in _rows.decode(rows):
            self.append(_fence(row))

    def rows(self) -> Iterator[bytes]:
        """All of them as JSON arrays of a chunk at most: what `extend` takes."""
        for offset, length in list(self._chunks):
            yield os.pread(self._descriptor(), length, offset)
        if self._last:
            yield _encode(self._last)

    def chunks(self) -> Iterator[list[Fence]]:
        """All of them, a chunk at a time."""
        for rows in self.rows():
            yield [_fence(row) for row in _rows.decode(rows)]

    def close(self) -> None:
        """Give the disk space back; nothing may follow."""
        if self._file is not None:
            self._file.close()

    @override
    def __len__(self) -> int:
        return self._count

    @override
    def __iter__(self) -> Iterator[Fence]:
        for chunk in self.chunks():
            yield from chunk

    @override
    def __contains__(self, fence: object) -> bool:
        return any(each == fence for each in self)

    def _write(self, rows: bytes) -> bool:
        """Whether the disk had room; where it had not, they stay in memory for now."""
        offset = sum(self._chunks[-1]) if self._chunks else 0
        try:
            if self._file is None:
                self._file = TemporaryFile(dir=self._folder, prefix="loader-", buffering=0)  # noqa: SIM115 - `close` does
            written = self._write_at(self._file.fileno(), rows, offset)
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            return False
        if written < len(rows):
            return False
        self._chunks.append((offset, written))
        return True

    def _descriptor(self) -> int:
        if self._file is None:
            raise ValueError("nothing was written yet")
        return self._file.fileno()


def _fence(row: _Row) -> Fence:
    key, sequence, revision, content, email = row
    return Fence(key, Version(sequence, revision), content, email)
