"""Reports as they come over the network: in memory as long as they are small, else on disk."""

import os
from collections.abc import Callable, Iterable, Iterator
from errno import ENOSPC
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from estarsync_core.dotdigital.reports import Report, read_report, scan_report

_PIECE = 65_536


def _spool(folder: Path | None) -> IO[bytes]:
    return TemporaryFile(dir=folder, prefix="loader-")


def receive_report(
    pieces: Iterable[bytes],
    folder: Path | None,
    most: int,
    spool: Callable[[Path | None], IO[bytes]] = _spool,
) -> Report | None:
    """Read a report to its end; blocks as long as it comes. None where it is no JSON object, or the disk is full.

    Args:
        pieces: as they come.
        folder: on the disk that takes a large one; None for the system's own.
        most: bytes that are held in memory.
        spool: opens a file there that goes away with its closing.
    """
    begin, size = [], 0
    rest = iter(pieces)
    for piece in rest:
        begin.append(piece)
        size += len(piece)
        if size > most:
            try:
                return _on_disk(chain(begin, rest), spool(folder))
            except OSError as error:
                if error.errno != ENOSPC:
                    raise
                return None  # it is asked for again later
    body = b"".join(begin)
    begin.clear()  # once is enough
    try:
        return read_report(body)
    except ValueError:
        return None


def _on_disk(pieces: Iterable[bytes], file: IO[bytes]) -> Report | None:
    try:
        file.writelines(pieces)
        file.flush()
        return scan_report(lambda: _pieces(file), file.close)
    except BaseException as error:
        file.close()  # where the disk is full, this says so once more
        if isinstance(error, ValueError):
            return None
        raise


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(file.fileno(), _PIECE, offset):
        offset += len(piece)
        yield piece
