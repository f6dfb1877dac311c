"""What the end-to-end tests share: the demo as a person starts it, and its report."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.kafka import Broker

DemoStarter = Callable[..., "Demo"]


class Demo:
    """A demo that runs as a process of its own."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self.folder = folder
        self.log = folder / "demo.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "demo", *arguments],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    def wait(self, seconds: float) -> int:
        """Its exit code, once it ends."""
        return self.process.wait(seconds)

    def report(self) -> dict[str, Any]:
        """The report that it left."""
        report: dict[str, Any] = json.loads((self.folder / "demo-report.json").read_text(encoding="utf-8"))
        return report


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoStarter]:
    """Start demos; they end with the test."""
    demos: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        folder = tmp_path / f"demo-{len(demos)}"
        folder.mkdir()
        demos.append(Demo(folder, list(arguments), environment))
        return demos[-1]

    yield start
    for each in demos:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGINT)
            each.process.wait(60)


@pytest.fixture
def on_kafka(kafka: Broker) -> dict[str, str]:
    """The environment that puts a demo on the tests' real Kafka."""
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}


@pytest.fixture
def shop_data() -> Path:
    """A real shop's invoices, which are not part of this repository."""
    folder = Path(os.environ.get("SHARED_DIR", Path(__file__).parents[3] / "shared"))
    path = folder / "data" / "online-retail-2010-12_2011-06.csv.gz"
    if not path.is_file():
        pytest.skip(f"the real shop's invoices are not here ({path.name}); set SHARED_DIR to where they are")
    return path
