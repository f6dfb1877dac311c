"""Whatever is asked, stopped or rolled back: a rewind writes each record once more, and never leaves an older version last."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from estarsync_core.control import Resync
from estarsync_core.entities import Entity
from estarsync_core.mapping import MAPPING_REVISION
from estarsync_runtime.testing import FakeClock
from transformer.rewind import Fate, Rewind, revision_of

PLACE = ("estar.orders.v1", 0)
KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])


class Partition:
    """A raw partition that was read up to `live`, and what its rewind writes."""

    def __init__(self, keys: list[bytes], live: int, rewind: Rewind) -> None:
        self.keys = keys
        self.live = live
        self.rewind = rewind
        self.written = list(range(live))
        self.again: list[int] = []
        self.at = rewind.first

    def batch(self, size: int, *, rolled_back: bool) -> bool:
        """Read so many messages as the loop does; false once the rewind is over and settled."""
        begun, again, live = self.at, list[int](), list[int]()
        for offset in range(begun, min(begun + size, len(self.keys))):
            match self.rewind.fate(offset, self.keys[offset], record=True):
                case Fate.AGAIN:
                    again.append(offset)
                case Fate.LIVE:
                    live.append(offset)
                case Fate.PASS:
                    pass
        read_to = min(begun + size, len(self.keys))
        if read_to == len(self.keys):
            self.rewind.fate(read_to, None, record=False)
        if rolled_back:
            self.rewind.roll_back()
            return True
        self.rewind.commit()
        self.at = read_to
        self.again += again
        self.written += again + live
        if self.rewind.gathered(read_to):
            self.at = self.rewind.first
            return True
        return not self.rewind.over

    def newest_last(self) -> bool:
        last = {self.keys[offset]: offset for offset in self.written}
        newest = {self.keys[offset]: offset for offset in sorted(self.written)}
        return last == newest


@given(
    st.lists(KEYS, min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.none() | st.sets(KEYS),
    st.integers(1, 7),
    st.lists(st.booleans(), max_size=40),
)
def test_what_is_asked_is_written_once_more_and_the_newest_stays_last(
    keys: list[bytes],
    live: int,
    start: int,
    end: int,
    wanted: set[bytes] | None,
    size: int,
    failures: list[bool],
) -> None:
    live = min(live, len(keys))
    start = min(start, live)
    end = max(start, min(end, live))
    asked = None if wanted is None else tuple(key.decode() for key in wanted)
    rewind = Rewind(request(asked), PLACE, start, start, end, live)
    partition = Partition(keys, live, rewind)
    while not rewind.over and partition.batch(size, rolled_back=bool(failures and failures.pop())):
        pass
    later = set(keys[end:live])
    mine = [
        offset
        for offset in range(start, end)
        if (wanted is None or keys[offset] in wanted) and keys[offset] not in later
    ]
    assert partition.again == mine
    assert partition.newest_last()
    assert rewind.state == "done"


@given(st.lists(KEYS, min_size=2, max_size=30), st.integers(1, 5), st.integers(0, 10), st.integers(0, 1))
def test_one_that_is_stopped_leaves_the_newest_last_and_says_where_it_goes_on(
    keys: list[bytes], size: int, after: int, restarts: int
) -> None:
    live = len(keys)
    rewind = Rewind(request(None), PLACE, 0, 0, live, live)
    partition = Partition(keys, live, rewind)
    while after and not rewind.over and partition.batch(size, rolled_back=False):
        after -= 1
    done = len(partition.again)
    if restarts and 0 < done < live:
        rewind = partition.rewind = Rewind(request(None), PLACE, 0, done, live, live)
    if done == live:
        return
    if rewind.stop():
        assert not partition.again
        return
    while not rewind.over and partition.batch(size, rolled_back=False):
        pass
    assert partition.newest_last()
    assert rewind.state == "cancelled"
    told = rewind.progress(FakeClock(), rewind.state)
    assert told.place == {"start": 0, "next": done}
    assert (told.done, told.total) == (done, live)


def request(keys: tuple[str, ...] | None) -> Resync:
    return Resync("r", Entity.ORDERS, "raw", datetime(2024, 1, 1, tzinfo=UTC), keys)


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - that is its zone
    st.integers(1, 10**12),
)
def test_what_a_later_resync_writes_is_newer_than_what_an_earlier_one_wrote(
    asked: datetime, milliseconds: int
) -> None:
    first = msgspec.structs.replace(request(None), at=asked)
    later = msgspec.structs.replace(first, at=asked + timedelta(milliseconds=milliseconds))
    assert MAPPING_REVISION < revision_of(first) < revision_of(later)
