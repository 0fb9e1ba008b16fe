"""All tests on one field at one place in the index: a value in, the targets of every test it passes out.

A clause is what a pattern says of one field: a set of tests, any of which will do. Each test goes into the index of
its operator; which of those a value has to ask depends on its type alone.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from math import isfinite
from typing import Any, Generic, Protocol, TypeVar

from .anything_but import AnythingBut, AnythingButIndex
from .cidr import Cidr, CidrIndex
from .exact import Exact, ExactIndex, Literal
from .exists import Absent, Exists, ExistsIndex
from .ignore_case import EqualsIgnoreCase, EqualsIgnoreCaseIndex
from .numeric import Number, NumberText, NumericIndex, Range, comparable_int
from .prefix import Prefix, PrefixIgnoreCase, PrefixIgnoreCaseIndex, PrefixIndex
from .suffix import Suffix, SuffixIgnoreCase, SuffixIgnoreCaseIndex, SuffixIndex
from .wildcard import Wildcard, WildcardIndex

T = TypeVar("T", bound=Hashable)

Value = str | int | float | bool | NumberText | None
Test = (
    Exact
    | Literal
    | Number
    | NumberText
    | Range
    | Prefix
    | PrefixIgnoreCase
    | Suffix
    | SuffixIgnoreCase
    | EqualsIgnoreCase
    | Wildcard
    | Cidr
    | AnythingBut
    | Exists
    | Absent
)
Clause = frozenset[Test]


class _Operator(Protocol[T]):
    def add(self, test: Any, target: T) -> None: ...
    def remove(self, test: Any, target: T) -> None: ...
    def find(self, value: Any, out: list[T]) -> None: ...
    def __len__(self) -> int: ...


class FieldIndex(Generic[T]):
    __slots__ = ("_exact", "_for_all", "_for_literals", "_for_numbers", "_for_strings", "_operators", "absent")

    def __init__(self) -> None:
        self._operators: dict[type[Test], _Operator[T]] = {}
        self._arrange()

    def add(self, clause: Iterable[Test], target: T) -> None:
        for test in clause:
            kind = _KINDS.get(type(test), type(test))
            operator = self._operators.get(kind)
            if operator is None:
                operator = self._operators[kind] = _INDEXES[kind]()
                self._arrange()
            operator.add(test, target)

    def remove(self, clause: Iterable[Test], target: T) -> None:
        for test in clause:
            kind = _KINDS.get(type(test), type(test))
            operator = self._operators[kind]
            operator.remove(test, target)
            if not operator:
                del self._operators[kind]
                self._arrange()

    def find(self, value: Value, out: list[T]) -> None:
        """Appends to `out`; a target that several tests of its clause lead to is there several times."""
        kind = type(value)
        if kind is str:
            targets = self._exact.get(value)
            if targets:
                out.extend(targets)
            for operator in self._for_strings:
                operator.find(value, out)
        elif value is None or kind is bool:
            for operator in self._for_literals:
                operator.find(value, out)
        else:
            for operator in self._for_numbers:
                operator.find(_as_event_ruler_has_it(value), out)
        for operator in self._for_all:
            operator.find(value, out)

    def __len__(self) -> int:
        return len(self._operators)

    def _arrange(self) -> None:
        operators = self._operators
        exact, absent = operators.get(Exact), operators.get(Absent)
        self._exact: Mapping[Hashable, Iterable[T]] = exact.table if isinstance(exact, ExactIndex) else {}
        self.absent: Mapping[T, None] = absent.targets if isinstance(absent, ExistsIndex) else {}
        self._for_strings = tuple(operators[kind] for kind in _ON_STRINGS if kind in operators)
        self._for_literals = tuple(operators[kind] for kind in (Literal,) if kind in operators)
        self._for_numbers = tuple(operators[kind] for kind in (Number,) if kind in operators)
        self._for_all = tuple(operators[kind] for kind in (Exists, AnythingBut) if kind in operators)


def _as_event_ruler_has_it(value: Any) -> int | float | NumberText:
    if type(value) is int:
        # A double that is written so need not be that integer: 20000000000000010 is 20000000000000008 to a double.
        return float(value) if comparable_int(value) else NumberText(str(value))
    if type(value) is float:
        return value if isfinite(value) else NumberText(repr(value))
    number: NumberText = value
    return number


_KINDS: dict[type[Test], type[Test]] = {NumberText: Number, Range: Number}  # those that share an index
_INDEXES: dict[type[Test], Callable[[], _Operator[Any]]] = {
    Exact: ExactIndex,
    Literal: ExactIndex,
    Number: NumericIndex,
    Prefix: PrefixIndex,
    PrefixIgnoreCase: PrefixIgnoreCaseIndex,
    Suffix: SuffixIndex,
    SuffixIgnoreCase: SuffixIgnoreCaseIndex,
    EqualsIgnoreCase: EqualsIgnoreCaseIndex,
    Wildcard: WildcardIndex,
    Cidr: CidrIndex,
    AnythingBut: lambda: AnythingButIndex(FieldIndex()),
    Exists: ExistsIndex,
    Absent: ExistsIndex,
}
_ON_STRINGS = (Prefix, PrefixIgnoreCase, Suffix, SuffixIgnoreCase, EqualsIgnoreCase, Wildcard, Cidr)
