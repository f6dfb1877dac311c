"""The benchmark does what it says, on a few records: both contestants write the same bodies, and a page comes out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.long]
ROOT = Path(__file__).parents[2]


def test_a_small_run_ends_with_a_page(kafka: Broker, tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    command = [
        sys.executable,
        "-m",
        "bench",
        "--records",
        "8000",
        "--rounds",
        "1",
        "--no-peers",
        "--seconds",
        "2",
        "--out",
        str(page),
    ]
    env = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "| bare loop | at least once |" in text
    assert "| transformer | exactly once |" in text
    assert "records/s" in text
    assert "p99" in text
