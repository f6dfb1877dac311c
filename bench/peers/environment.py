"""An environment for each peer, from its pinned requirements; made once and kept in the cache."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

_SECONDS = 600
_FOLDER = Path(__file__).parent


def python_for(peer: str) -> Path:
    """The Python of a peer's environment; blocks for as long as an installation takes.

    Raises:
        OSError: it can't be installed; the text says why.
    """
    wanted = _FOLDER / f"{peer}.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estarsync" / "bench-peers"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:8]
    home = cache / f"{peer}-{digest}"
    python = home / "bin" / "python"
    ready = home / ".ready"
    if not ready.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(wanted)])
        ready.touch()
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603 - our own commands
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given")
