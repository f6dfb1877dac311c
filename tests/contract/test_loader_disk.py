"""A disk that is nearly full pauses reading; delivery goes on, and nothing is lost."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any

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


class Flaky:
    """A disk that is full now and then, in the middle of a write as well."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.refused, self.short = 0, False

    def write(self, number: int, data: Any, offset: int) -> int:
        there = os.fstat(number).st_size
        if offset + len(data) <= there:
            return os.pwrite(number, data, offset)  # that takes no more room
        if self.short or self.rng.random() < 0.3:
            self.refused += 1
            some = 0 if self.short else max(0, there - offset) + self.rng.randint(0, 20)
            self.short = 0 < some < len(data)
            if not self.short:
                raise OSError(ENOSPC, "no space left")
            data = memoryview(data)[:some]
        return os.pwrite(number, data, offset)


@pytest.mark.parametrize("seed", range(8))
def test_bodies_and_fences_that_find_no_room_cost_time_and_no_record(rigs, seed):
    disk = Flaky(seed)
    rig = rigs({"import_seconds": 1.0}, chunk=2, write=disk.write, loader_batch_records=7, seed=seed)
    for number in range(40):
        rig.product(f"p{number}", price=float(number))
        rig.contact(f"c{number}@shop.example", FIRSTNAME=str(number))
        rig.order(f"O-{number}", f"c{number}@shop.example")
    for number in range(0, 40, 3):
        rig.tombstone(Entity.PRODUCTS, f"p{number}")
    rig.run(until=rig.imports)
    rig.kill()
    rig.run(3600, pace=0.5)
    assert disk.refused > 10
    for path in ("/insightData/v3/import", "/contacts/v3/import"):
        assert rig.bodies(path), "each body is whole"
    found = {row.key for row in rig.box.account.collection("catalog_estar").rows}
    assert found == {f"p{number}" for number in range(40) if number % 3}
    for number in range(40):
        assert rig.held(f"c{number}@shop.example").fields["FIRSTNAME"] == str(number)
        assert rig.record("orders", f"O-{number}") is not None
    assert all(rig.dead_letters(entity) == {} for entity in Entity)
    assert rig.violations == {}
