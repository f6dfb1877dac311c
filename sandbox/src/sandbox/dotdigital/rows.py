"""Rows in ascending order of a number that only grows: what is paged through."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
_COMPACT_BEYOND = 1000


class Rows(Generic[Item]):
    """Items by row number; adding is at the end, removing is anywhere, reading starts after any number."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._order: list[int] = []
        self._last = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """All of them, in no promised order."""
        return iter(self._items.values())

    def next_number(self) -> int:
        """The number for the next row."""
        self._last += 1
        return self._last

    def add(self, number: int, item: Item) -> None:
        """Put an item under a number from `next_number`, or back under the number that it had."""
        in_order = not self._order or number > self._order[-1]
        self._items[number] = item
        if in_order:
            self._order.append(number)
        else:
            self._order = sorted(self._items)

    def get(self, number: int) -> Item | None:
        """The item under a number."""
        return self._items.get(number)

    def remove(self, number: int) -> None:
        """Take an item out."""
        del self._items[number]
        if len(self._order) > 2 * len(self._items) + _COMPACT_BEYOND:
            self._order = [kept for kept in self._order if kept in self._items]

    def clear(self) -> None:
        """Take everything out; numbers are not used again."""
        self._items.clear()
        self._order.clear()

    def after(self, number: int) -> Iterator[tuple[int, Item]]:
        """Rows beyond a number, ascending."""
        for index in range(bisect_right(self._order, number), len(self._order)):
            row = self._order[index]
            item = self._items.get(row)
            if item is not None:
                yield row, item
