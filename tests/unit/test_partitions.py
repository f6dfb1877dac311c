"""Where a key is: the vectors of Kafka's own test (org.apache.kafka.common.utils.UtilsTest)."""

import pytest

from estarsync_core.partitions import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_a_partition_is_within_the_topic() -> None:
    assert {partition_of(str(number).encode(), 6) for number in range(200)} == set(range(6))
