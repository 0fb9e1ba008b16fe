"""Closed intervals of whole numbers, and those that hold a given number.

An interval tree whose shape never changes: the halvings of 0 … 2**bits-1. An interval lives at the largest block whose
middle it spans (the bits its ends share tell which), sorted there by low end and by high end. A number below the
middle lies in those whose low end it reaches, one above in those whose high end it does not pass. So a search costs a
look-up for each size of block in use (64 at most for a double) and then only what it finds; adding is two insertions.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class _Block(Generic[T]):
    __slots__ = ("high_targets", "highs", "low_targets", "lows", "middle")

    def __init__(self, middle: int) -> None:
        self.middle = middle
        self.lows: list[int] = []
        self.low_targets: list[T] = []
        self.highs: list[int] = []
        self.high_targets: list[T] = []


class Intervals(Generic[T]):
    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: dict[int, dict[int, _Block[T]]] = {}

    def add(self, low: int, high: int, target: T) -> None:
        level = (low ^ high).bit_length()
        number = high >> level
        blocks = self._levels.setdefault(level, {})
        block = blocks.get(number)
        if block is None:
            # Bit level-1 is the highest in which the ends differ: clear in low, set in high.
            middle = (high >> (level - 1)) << (level - 1) if level else high
            block = blocks[number] = _Block(middle)
        at = bisect_left(block.lows, low)
        block.lows.insert(at, low)
        block.low_targets.insert(at, target)
        at = bisect_left(block.highs, high)
        block.highs.insert(at, high)
        block.high_targets.insert(at, target)

    def remove(self, low: int, high: int, target: T) -> None:
        level = (low ^ high).bit_length()
        number = high >> level
        block = self._levels[level][number]
        at = block.low_targets.index(target, bisect_left(block.lows, low))
        del block.lows[at], block.low_targets[at]
        at = block.high_targets.index(target, bisect_left(block.highs, high))
        del block.highs[at], block.high_targets[at]
        if not block.lows:
            del self._levels[level][number]
            if not self._levels[level]:
                del self._levels[level]

    def find(self, number: int, out: list[T]) -> None:
        for level, blocks in self._levels.items():
            block = blocks.get(number >> level)
            if block is None:
                continue
            if number < block.middle:
                out.extend(block.low_targets[: bisect_right(block.lows, number)])
            else:
                out.extend(block.high_targets[bisect_left(block.highs, number) :])

    def __len__(self) -> int:
        return len(self._levels)
