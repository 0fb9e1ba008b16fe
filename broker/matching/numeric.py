"""Numbers: equal by value, and ranges.

event-ruler compares a number if it is a double that means exactly what is written: the shortest decimal of the nearest
double must equal the text by value (0.10 and 1e-1 do; 0.1000000000000000055 and 1152921504606846976 do not). What it
cannot compare it keeps as text: such a number in an event equals only the same digits in a pattern, and in `numeric`
it is an error. AWS's guides name tighter limits (±5e9 and 15 digits, SNS ±1e9); the engine behind them has these.
"""

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Generic, TypeVar

from .intervals import Intervals
from .tables import Table
from .tokens import Tokens

T = TypeVar("T", bound=Hashable)

KEYWORD = "numeric"
_EXACT_INT = 2**53
_LARGEST = 1.7976931348623157e308


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class NumberText:
    """A number beyond comparison: as a test in a pattern, and as a value in an event."""

    text: str


@dataclass(frozen=True, slots=True)
class Range:
    """Ends as `ordered` gives them, both included."""

    low: int
    high: int


def comparable(text: str) -> float | None:
    """The value of a JSON number, or None if event-ruler could only compare it as text."""
    value = float(text)
    if not value:
        return 0.0 if not any(c in "123456789" for c in text.lower().partition("e")[0]) else None
    if not isfinite(value) or Decimal(repr(value)) != Decimal(text):
        return None
    return value


def number(text: str) -> int | float | NumberText:
    """A JSON number as a value of an event."""
    value = comparable(text)
    return NumberText(text) if value is None else value


def comparable_int(value: int) -> bool:
    return -_EXACT_INT <= value <= _EXACT_INT or comparable(str(value)) is not None


def ordered(value: float) -> int:
    """A double as a whole number below 2**64, in the same order."""
    bits: int = struct.unpack(">Q", struct.pack(">d", value + 0.0))[0]  # -0.0 is 0
    return bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 1 << 63


def test_of(text: str) -> Number | NumberText:
    """A number that stands in a pattern by itself."""
    value = comparable(text)
    return NumberText(text) if value is None else Number(value)


def parse(tokens: Tokens) -> Number | Range:
    if tokens.next() != "[":
        tokens.fail("Value of numeric must be an array.")
    return _parse_members(tokens)


def _parse_members(tokens: Tokens) -> Number | Range:
    if tokens.next() != "string":
        tokens.fail(f"Invalid member in numeric match: {tokens.text}")
    operator = tokens.text
    kind = tokens.next()
    if operator not in ("=", "<", "<=", ">", ">="):
        tokens.fail(f"Unrecognized numeric range operator: {operator}")
    if kind != "number":
        tokens.fail(f"Value of {'equals' if operator == '=' else operator} must be numeric")
    text = tokens.text
    kind = tokens.next()
    if operator in ("=", "<", "<="):
        if kind != "]":
            tokens.fail("Too many elements in numeric expression")
        value = _value(tokens, text)
        if operator == "=":
            return Number(value)
        return Range(ordered(-_LARGEST), ordered(value) - (operator == "<"))
    if kind == "]":
        return Range(ordered(_value(tokens, text)) + (operator == ">"), ordered(_LARGEST))
    if kind != "string":
        tokens.fail(f"Bad value in numeric range: {tokens.text}")
    upper = tokens.text
    if upper not in ("<", "<="):
        tokens.fail(f"Bad numeric range operator: {upper}")
    if tokens.next() != "number":
        tokens.fail(f"Value of {upper} must be numeric")
    top_text = tokens.text
    if tokens.next() != "]":
        tokens.fail("Too many terms in numeric range expression")
    bottom, top = _value(tokens, text), _value(tokens, top_text)
    if bottom >= top:
        tokens.fail("Bottom must be less than top")
    return Range(ordered(bottom) + (operator == ">"), ordered(top) - (upper == "<"))


def _value(tokens: Tokens, text: str) -> float:
    value = comparable(text)
    if value is None:
        tokens.fail(f"Cannot compare number : {text}")
    return value


class NumericIndex(Generic[T]):
    __slots__ = ("_ranges", "_values")

    def __init__(self) -> None:
        self._values: Table[T] = Table()
        self._ranges: Intervals[T] = Intervals()

    def add(self, test: Number | NumberText | Range, target: T) -> None:
        if isinstance(test, Range):
            if test.low <= test.high:
                self._ranges.add(test.low, test.high, target)
        else:
            self._values.add(test.value if isinstance(test, Number) else test, target)

    def remove(self, test: Number | NumberText | Range, target: T) -> None:
        if isinstance(test, Range):
            if test.low <= test.high:
                self._ranges.remove(test.low, test.high, target)
        else:
            self._values.remove(test.value if isinstance(test, Number) else test, target)

    def find(self, value: int | float | NumberText, out: list[T]) -> None:
        """An int or float must be comparable."""
        self._values.find(value, out)
        if self._ranges and not isinstance(value, NumberText):
            self._ranges.find(ordered(value), out)

    def __len__(self) -> int:
        return len(self._values) + len(self._ranges)
