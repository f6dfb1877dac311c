"""The reconcile benchmark does what it says, with a few records: it finds what was made to differ, and writes a section."""

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
    page.write_text("# Results\n\n## Transformer\n\nkept\n")
    command = [sys.executable, "-m", "bench.reconcile", "--contacts", "12000", "--low", "600"]
    done = subprocess.run(
        [*command, "--seconds", "0.02", "--out", str(page)],
        cwd=ROOT,
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "kept" in text
    assert "| 12,000 | 3 |" in text
    assert "among 36,000 attempts to deliver: " in text
    assert "It found 8 different, 8 missing and 6 extra, which is what was made." in text
