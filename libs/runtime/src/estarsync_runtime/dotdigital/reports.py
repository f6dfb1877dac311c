"""Reports as they come over the network: in memory as long as they are small, else on disk."""

import os
from collections.abc import Iterable, Iterator
from errno import ENOSPC
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from estarsync_core.dotdigital.reports import Report, read_report, scan_report

_PIECE = 65_536


def receive_report(pieces: Iterable[bytes], folder: Path | None, most: int) -> Report | None:
    """Read a report to its end; blocks as long as it comes. None where it is no JSON object.

    Args:
        pieces: as they come.
        folder: on the disk that takes a large one; None for the system's own.
        most: bytes that are held in memory.
    """
    begin, size = [], 0
    rest = iter(pieces)
    for piece in rest:
        begin.append(piece)
        size += len(piece)
        if size > most:
            return _on_disk(begin, rest, folder)
    try:
        return read_report(b"".join(begin))
    except ValueError:
        return None


def _on_disk(begin: list[bytes], rest: Iterable[bytes], folder: Path | None) -> Report | None:
    file = TemporaryFile(dir=folder, prefix="loader-")  # noqa: SIM115 - the report closes it
    try:
        file.writelines(begin)
        file.writelines(rest)
        file.flush()
        return scan_report(lambda: _pieces(file), file.close)
    except BaseException as error:
        file.close()
        if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno == ENOSPC):
            return None  # where the disk is full, it is asked for again later
        raise


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(file.fileno(), _PIECE, offset):
        offset += len(piece)
        yield piece
