"""Claim: whatever is killed, frozen or confused, in the end both sides agree and every invariant holds."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e


def test_a_short_run_of_chaos(on_kafka, tmp_path):
    command = [
        sys.executable,
        "-m",
        "sandbox",
        "chaos",
        "--seeds",
        "2",
        "--seconds",
        "25",
        "--customers",
        "30",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **on_kafka}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "chaos-report.json").read_text(encoding="utf-8"))
    (run,) = report["runs"]
    assert run["broken"] == []
    assert run["acts"]
    assert sum(run["dotdigital"]["imports"].values()) > 0
