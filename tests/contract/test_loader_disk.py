"""A disk that is nearly full pauses reading; delivery goes on, and nothing is lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from estarsync_core.entities import Entity


def fill(rig, count: int) -> None:
    """Orders of guests and of customers whose contacts come last."""
    for number in range(count):
        rig.order(f"O-{number}", f"c{number}@shop.example", document={"order_status": "x" * 400})
        rig.product(f"p{number}")
    for number in range(count):
        rig.contact(f"c{number}@shop.example", FIRSTNAME="x" * 200)


def paused(rig) -> bool:
    return bool(rig.metrics.registry.get_sample_value("estarsync_loader_reading_paused"))


def test_a_backlog_larger_than_the_disk_is_delivered_bit_by_bit(rigs):
    rig = rigs({"import_seconds": 5.0}, loader_disk_bytes=1_000_000, loader_batch_bytes=50_000)
    fill(rig, 1000)
    most, seen = 0, False

    def done() -> bool:
        nonlocal most, seen
        most, seen = max(most, rig.table.bytes_used + rig.engine.bytes_used), seen or paused(rig)
        return bool(rig.idle)

    rig.run(3600, until=done, pace=0.5)
    assert seen
    assert most < 2_500_000  # 500 records are read at a time, and settled states are kept
    assert rig.counted(Entity.ORDERS) == {"delivered": 1000}
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1000}
    assert rig.counted(Entity.CONTACTS)["delivered"] == 1000
    assert rig.violations == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of a few megabytes."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this machine does not let us mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - where mount is, umount is


def test_a_real_small_disk_is_never_full(small_disk, rigs):
    rig = rigs({"import_seconds": 5.0}, folder=small_disk, loader_batch_bytes=50_000)
    fill(rig, 1000)
    seen = False

    def done() -> bool:
        nonlocal seen
        seen = seen or paused(rig)
        return bool(rig.idle)

    rig.run(3600, until=done, pace=0.5)
    assert rig.counted(Entity.ORDERS) == {"delivered": 1000}
    assert rig.counted(Entity.PRODUCTS) == {"delivered": 1000}
    assert rig.violations == {}
    assert seen
