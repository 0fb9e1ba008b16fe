"""What an update is once it is understood: from an item it makes the next one.

All actions see the item as it was before. Sets happen first, then what is taken away, so that the elements of a list
are those that the expression meant.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html
"""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import NamedTuple, Protocol

from broker.errors import ValidationException
from broker.tables import paths, values
from broker.tables.conditions import Operand
from broker.tables.paths import Path
from broker.tables.values import MISSING, Item, Value


def wrong_type() -> ValidationException:
    return ValidationException("An operand in the update expression has an incorrect data type")


def _present(operand: Operand, item: Item) -> Value:
    value = operand.value_in(item)
    if value is MISSING:
        raise ValidationException("The provided expression refers to an attribute that does not exist in the item")
    return value


# operands -----------------------------------------------------------------------------------------


class Sum(NamedTuple):
    left: Operand
    sign: str  # + or -
    right: Operand

    def value_in(self, item: Item) -> Value:
        left, right = _present(self.left, item), _present(self.right, item)
        if type(left) is not Decimal or type(right) is not Decimal:
            raise wrong_type()
        return values.add(left, right) if self.sign == "+" else values.subtract(left, right)


class IfNotExists(NamedTuple):
    path: Path
    otherwise: Operand

    def value_in(self, item: Item) -> Value:
        value = paths.look_up(item, self.path)
        return self.otherwise.value_in(item) if value is MISSING else value


class ListAppend(NamedTuple):
    left: Operand
    right: Operand

    def value_in(self, item: Item) -> Value:
        left, right = _present(self.left, item), _present(self.right, item)
        if type(left) is not list or type(right) is not list:
            raise wrong_type()
        return left + right


# actions ------------------------------------------------------------------------------------------


class Action(Protocol):
    @property
    def path(self) -> Path: ...

    def value_from(self, item: Item) -> Value:
        """What is to stand at the path, or MISSING."""
        ...


class Set(NamedTuple):
    path: Path
    operand: Operand

    def value_from(self, item: Item) -> Value:
        return _present(self.operand, item)


class Remove(NamedTuple):
    path: Path

    def value_from(self, item: Item) -> Value:
        return MISSING


class Add(NamedTuple):
    """To a number, or to a set; to nothing as to 0 or to an empty set."""

    path: Path
    value: Decimal | frozenset[Value]

    def value_from(self, item: Item) -> Value:
        old = paths.look_up(item, self.path)
        if old is MISSING:
            return self.value
        if values.type_of(old) != values.type_of(self.value):
            raise wrong_type()
        return values.add(old, self.value) if isinstance(self.value, Decimal) else old | self.value


class Delete(NamedTuple):
    """From a set. A set that would be empty is taken away."""

    path: Path
    value: frozenset[Value]

    def value_from(self, item: Item) -> Value:
        old = paths.look_up(item, self.path)
        if old is MISSING:
            return MISSING
        if values.type_of(old) != values.type_of(self.value):
            raise wrong_type()
        return old - self.value or MISSING


class Update(NamedTuple):
    actions: tuple[Action, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [action.path for action in self.actions]

    @property
    def only_takes_away(self) -> bool:
        """Whether it makes no item where there was none."""
        return bool(self.actions) and all(isinstance(action, Remove | Delete) for action in self.actions)

    def apply(self, item: Item) -> Item:
        """Raises ValidationException."""
        changed = deepcopy(item)
        wanted = [(action.path, action.value_from(item)) for action in self.actions]
        wanted.sort(key=lambda pair: _place(pair[0]))
        for path, value in wanted:
            if value is not MISSING:
                paths.put(changed, path, value)
        for path, value in reversed(wanted):
            if value is MISSING:
                paths.remove(changed, path)
        return changed


def _place(path: Path) -> tuple[tuple[bool, str | int], ...]:
    """For sorting: elements of one list by index."""
    return tuple((isinstance(part, int), part) for part in path)
