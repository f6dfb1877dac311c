"""Apache Kafka as jars: fetched once by Maven, kept in the user's cache."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from sandbox import processes
from sandbox.kafka.kinds import KAFKA_VERSION, Unavailable

JAVA_NEEDED = 17
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_FETCH_SECONDS = 900.0

Download = Callable[[Path, Path], None]
"""Brings what a pom names (first path) into a folder (second path), or raises Unavailable."""


def java_command(env: Mapping[str, str]) -> str | None:
    """The `java` to use: that of JAVA_HOME, else that of PATH; None where there is none."""
    home = env.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    return found or shutil.which("java", path=env.get("PATH"))


def maven_command(env: Mapping[str, str]) -> str | None:
    """The `mvn` of PATH; None where there is none."""
    return shutil.which("mvn", path=env.get("PATH"))


def java_version(command: str) -> int | None:
    """The feature release of a `java` (17, 21…); None where it doesn't say."""
    try:
        answer = subprocess.run(  # noqa: S603 - the user's own java
            [command, "-version"], capture_output=True, text=True, timeout=15, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(match[1]) if match else None


def cached_jars(env: Mapping[str, str]) -> Path:
    """The folder for the jars; it exists only when it is complete."""
    cache = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Another pom is another folder, so a broker that runs keeps the jars that it started with.
    digest = hashlib.sha256(_pom()).hexdigest()[:8]
    return cache / "estarsync" / f"kafka-{KAFKA_VERSION}" / digest


def ensure_jars(jars: Path, log: Callable[[str], None], download: Download | None = None) -> None:
    """Fetch the jars unless they are there; blocks for seconds to minutes the first time.

    An interrupted fetch leaves nothing that looks complete, and two at once wait for each other.

    Raises:
        Unavailable: Maven could not fetch them.
    """
    if jars.is_dir():
        return
    jars.parent.mkdir(parents=True, exist_ok=True)
    with _lock(jars.parent / "fetch.lock", log):
        if jars.is_dir():  # another process was faster
            return
        for leftover in jars.parent.glob("part-*"):  # of a fetch that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="part-", dir=jars.parent) as part:
            log(f"fetching Apache Kafka {KAFKA_VERSION} with Maven, 54 MB, this once")
            pom, target = Path(part) / "pom.xml", Path(part) / "jars"
            pom.write_bytes(_pom())
            (download or download_with_maven)(pom, target)
            target.rename(jars)


def download_with_maven(pom: Path, target: Path) -> None:
    """Let Maven copy everything that the pom names into the target folder.

    Raises:
        Unavailable: it failed; the text carries its first complaint.
    """
    goal = [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
    maven = processes.start(
        "mvn", ["mvn", "-B", "-q", "-f", str(pom), _COPY, *goal], os.environ, pom.with_name("mvn.log")
    )
    try:
        code = maven.wait(_FETCH_SECONDS)
    finally:
        processes.stop(maven, 1.0)
    if code is None:
        raise Unavailable(f"Maven did not fetch Kafka within {_FETCH_SECONDS:g} s")
    if code != 0 or not (target / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file():
        lines = [line for line in maven.tail(200).splitlines() if "ERROR" in line] or [f"exit code {code}"]
        raise Unavailable(f"Maven could not fetch Kafka: {lines[0].strip()[:300]}")


def _pom() -> bytes:
    return files("sandbox.kafka").joinpath("pom.xml").read_bytes()


@contextmanager
def _lock(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("another process is fetching Apache Kafka; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
