"""What measures a whole installation does what it says, with few records: both sides agree, and a section comes out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.long]
ROOT = Path(__file__).parents[2]


def _run(module: str, kafka: Broker, page: Path, *words: str) -> str:
    page.write_text("# Results\n\n## Transformer\n\nkept\n")
    done = subprocess.run(
        [sys.executable, "-m", module, *words, "--limit", "250", "--out", str(page)],
        cwd=ROOT,
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap},
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "kept" in text
    return text


def test_a_small_soak_ends_in_agreement(kafka: Broker, tmp_path: Path) -> None:
    sizes = ("--contacts", "200", "--products", "100", "--orders", "400")
    traffic = (
        "--live",
        "10",
        "--rate",
        "5",
        "--burst",
        "10",
        "--burst-every",
        "4",
        "--contacts-minutes",
        "0.1",
    )
    text = _run("bench.soak", kafka, tmp_path / "RESULTS.md", *sizes, *traffic)
    assert "Both sides agree to the last record and cent" in text
    for entity in ("contacts", "products", "orders"):
        assert re.search(rf"\| {entity} \| [1-9][\d,]* \| 0 \| 0 \| 0 \|", text)
    assert re.search(r"\| live traffic \| [1-9]\d+ \| \d", text)
    assert "over the quota: 0" in text


def test_growth_is_measured_where_both_sides_agree(kafka: Broker, tmp_path: Path) -> None:
    text = _run("bench.growth", kafka, tmp_path / "RESULTS.md", "--sizes", "500,1000")
    assert len(re.findall(r"^\| [\d,]+ \| [\d,]+ \| [\d,]+ \|", text, flags=re.MULTILINE)) == 2
    assert "Calls over the quota: 0." in text
    assert re.search(r"\| `estar.orders.v1` \| [\d.]+ \| [1-9]\d*", text) or "not measured" in text


def test_every_service_is_started_in_every_case(kafka: Broker, tmp_path: Path) -> None:
    text = _run("bench.start", kafka, tmp_path / "RESULTS.md", "--records", "400", "--rounds", "1")
    for service in ("extractor", "webhooks", "transformer", "loader"):
        assert len(re.findall(rf"^\| {service} \| [^|]+ \| \d+\.\d\d \|", text, flags=re.MULTILINE)) == 3


def test_new_orders_are_followed_to_the_account(kafka: Broker, tmp_path: Path) -> None:
    text = _run("bench.arrival", kafka, tmp_path / "RESULTS.md", "--orders", "400", "--idle", "10")
    for phase in ("idle", "backfill of all orders", "resync of all orders"):
        assert re.search(rf"\| {phase} \| [1-9]\d* \| \d+\.\d \|", text)
