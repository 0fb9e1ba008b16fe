"""Exact values: strings, and the literals true, false and null.

A string equals itself and nothing else: no case, no trimming, no number that looks alike. (A string that is an IP
address is another matter: event-ruler compares it as an address, see cidr.py.) Their index is a table.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .tables import Table
from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "exactly"  # {"exactly": "…"}: in event-ruler, in nobody's documentation


@dataclass(frozen=True, slots=True)
class Exact:
    value: str


@dataclass(frozen=True, slots=True)
class Literal:
    value: bool | None


def parse(tokens: Tokens) -> Exact:
    if tokens.next() != "string":
        tokens.fail("exact match pattern must be a string")
    return Exact(tokens.text)


class ExactIndex(Generic[T]):
    """`table` is open: most values of most events ask it and nothing else."""

    __slots__ = ("_values", "table")

    def __init__(self) -> None:
        self._values: Table[T] = Table()
        self.table = self._values.table

    def add(self, test: Exact | Literal, target: T) -> None:
        self._values.add(test.value, target)

    def remove(self, test: Exact | Literal, target: T) -> None:
        self._values.remove(test.value, target)

    def find(self, value: str | bool | None, out: list[T]) -> None:
        self._values.find(value, out)

    def __len__(self) -> int:
        return len(self.table)
