"""The loader's benchmark does what it says, with a few records: a section comes out, and no other one is lost."""

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
    command = [sys.executable, "-m", "bench.loader", "--contacts", "2000", "--orders", "500", "--live", "3"]
    env = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    done = subprocess.run(
        [*command, "--each", "0.0001", "--limit", "120", "--out", str(page)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "kept" in text
    assert "| 2,000 contacts | 1 / 1 = 1.00 |" in text
    assert "| 500 orders | 1 / 1 = 1.00 |" in text
    assert "Calls over the quota: 0. What the account saw that should not have been: none." in text
