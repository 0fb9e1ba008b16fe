"""What the operators' indexes are made of: a table of key to targets, and the same asked for every beginning.

Targets are kept in dictionaries without values: sets that keep their order, so that one run answers like the next.
"""

from bisect import insort
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Table(Generic[T]):
    """Key to targets. `table` is open, for those who look up more often than a call is worth."""

    __slots__ = ("table",)

    def __init__(self) -> None:
        self.table: dict[Hashable, dict[T, None]] = {}

    def add(self, key: Hashable, target: T) -> bool:
        """True if the key is new."""
        targets = self.table.get(key)
        if targets is None:
            self.table[key] = {target: None}
            return True
        targets[target] = None
        return False

    def remove(self, key: Hashable, target: T) -> bool:
        """True if the key is gone with it."""
        targets = self.table[key]
        del targets[target]
        if targets:
            return False
        del self.table[key]
        return True

    def find(self, key: Hashable, out: list[T]) -> None:
        targets = self.table.get(key)
        if targets:
            out.extend(targets)

    def __len__(self) -> int:
        return len(self.table)


class Beginnings(Generic[T]):
    """Texts to targets; finds every text that a value begins with, at one look-up for each length in use."""

    __slots__ = ("_counts", "_lengths", "_texts")

    def __init__(self) -> None:
        self._texts: Table[T] = Table()
        self._lengths: list[int] = []  # ascending
        self._counts: dict[int, int] = {}

    def add(self, text: str, target: T) -> None:
        if self._texts.add(text, target):
            length = len(text)
            if length not in self._counts:
                insort(self._lengths, length)
            self._counts[length] = self._counts.get(length, 0) + 1

    def remove(self, text: str, target: T) -> None:
        if self._texts.remove(text, target):
            length = len(text)
            self._counts[length] -= 1
            if not self._counts[length]:
                del self._counts[length]
                self._lengths.remove(length)

    def count(self, text: str) -> int:
        """The targets of this very text."""
        return len(self._texts.table.get(text, ()))

    def find(self, value: str, out: list[T]) -> None:
        get, size = self._texts.table.get, len(value)
        for length in self._lengths:
            if length > size:
                break
            targets = get(value[:length])
            if targets:
                out.extend(targets)

    def __len__(self) -> int:
        return len(self._texts)
