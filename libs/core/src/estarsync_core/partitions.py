"""Which partition a key is in: the partitioner of every topic (`murmur2_random`, the Java client's default)."""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_R = 24
_MASK = 0xFFFFFFFF
_WORD = 4


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit hash of a key, unsigned."""
    h = (_SEED ^ len(data)) & _MASK
    whole = len(data) - len(data) % _WORD
    for at in range(0, whole, _WORD):
        k = int.from_bytes(data[at : at + _WORD], "little") * _M & _MASK
        k ^= k >> _R
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key in a topic with so many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
