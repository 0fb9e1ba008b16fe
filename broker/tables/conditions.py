"""What a condition is once it is understood: asked of an item, it holds or does not.

An operand that is not in the item makes every comparison false but `<>`, and the functions too. Values of different
types are never equal, and neither is below the other.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple, Protocol

from broker.tables.paths import Path, look_up
from broker.tables.values import MISSING, Item, Value, same, type_of

ORDERED = ("S", "N", "B")  # the types that have an order


class Operand(Protocol):
    def value_in(self, item: Item) -> Value:
        """Or MISSING."""
        ...


class Condition(Protocol):
    def holds(self, item: Item) -> bool: ...


# operands -----------------------------------------------------------------------------------------


class Attribute(NamedTuple):
    path: Path

    def value_in(self, item: Item) -> Value:
        return look_up(item, self.path)


class Constant(NamedTuple):
    value: Value

    def value_in(self, item: Item) -> Value:
        return self.value


class Size(NamedTuple):
    """Characters, bytes, elements or members; numbers and truths have none."""

    of: Operand

    def value_in(self, item: Item) -> Value:
        value = self.of.value_in(item)
        if isinstance(value, str | bytes | frozenset | list | dict):
            return Decimal(len(value))
        return MISSING


# conditions ---------------------------------------------------------------------------------------

_BELOW: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def ordered(sign: str, left: Value, right: Value) -> bool:
    """Whether two values stand so to each other: numbers by size, strings and bytes byte by byte."""
    if type(left) is not type(right) or left is MISSING or type_of(left) not in ORDERED:
        return False
    if type(left) is str:
        left, right = left.encode(), right.encode()
    return _BELOW[sign](left, right)


class Compare(NamedTuple):
    sign: str  # = <> < <= > >=
    left: Operand
    right: Operand

    def holds(self, item: Item) -> bool:
        left, right = self.left.value_in(item), self.right.value_in(item)
        if self.sign == "=":
            return same(left, right)
        if self.sign == "<>":
            return not same(left, right)
        return ordered(self.sign, left, right)


class Between(NamedTuple):
    operand: Operand
    low: Operand
    high: Operand

    def holds(self, item: Item) -> bool:
        value = self.operand.value_in(item)
        return ordered(">=", value, self.low.value_in(item)) and ordered("<=", value, self.high.value_in(item))


class In(NamedTuple):
    operand: Operand
    choices: tuple[Operand, ...]

    def holds(self, item: Item) -> bool:
        value = self.operand.value_in(item)
        return any(same(value, choice.value_in(item)) for choice in self.choices)


class Exists(NamedTuple):
    path: Path

    def holds(self, item: Item) -> bool:
        return look_up(item, self.path) is not MISSING


class HasType(NamedTuple):
    path: Path
    type: str

    def holds(self, item: Item) -> bool:
        value = look_up(item, self.path)
        return value is not MISSING and type_of(value) == self.type


class BeginsWith(NamedTuple):
    operand: Operand
    beginning: Operand

    def holds(self, item: Item) -> bool:
        value, beginning = self.operand.value_in(item), self.beginning.value_in(item)
        return type(value) in (str, bytes) and type(value) is type(beginning) and bool(value.startswith(beginning))


class Contains(NamedTuple):
    """A part of a string or of bytes, an element of a set or of a list."""

    operand: Operand
    part: Operand

    def holds(self, item: Item) -> bool:
        value, part = self.operand.value_in(item), self.part.value_in(item)
        if part is MISSING:
            return False
        if type(value) in (str, bytes):
            return type(value) is type(part) and part in value
        return isinstance(value, list | frozenset) and any(same(element, part) for element in value)


class All(NamedTuple):
    conditions: tuple[Condition, ...]

    def holds(self, item: Item) -> bool:
        return all(condition.holds(item) for condition in self.conditions)


class Some(NamedTuple):
    conditions: tuple[Condition, ...]

    def holds(self, item: Item) -> bool:
        return any(condition.holds(item) for condition in self.conditions)


class Not(NamedTuple):
    condition: Condition

    def holds(self, item: Item) -> bool:
        return not self.condition.holds(item)
