"""The extractor's benchmark does what it says, on a few records: everything is published, and a section comes out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.long]
ROOT = Path(__file__).parents[2]


def test_a_small_run_ends_with_a_section(kafka: Broker, tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("# Results\n\n## Another\n\nkept\n")
    sizes = ["--customers", "600", "--orders", "500", "--products", "100", "--hook-seconds", "3"]
    command = [sys.executable, "-m", "bench.extractor", *sizes, "--out", str(page)]
    env = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "| extractor, first load into Kafka |" in text
    assert "Webhooks, 300 at 100 a second: 300 acknowledged" in text
    assert "## Another\n\nkept" in text
