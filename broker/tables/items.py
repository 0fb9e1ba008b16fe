"""One item at a time: get it, put it, update it, delete it. A condition and what hangs on it are one step.

What an operation does to an item is worked out first and written last, so one that is refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from broker.errors import ConditionalCheckFailedException, ValidationException
from broker.tables.keys import StoredKey, check_index, check_item, check_key, stored_key
from broker.tables.registry import Registry
from broker.tables.table import Table
from broker.tables.values import Item, item_bytes

if TYPE_CHECKING:
    from broker.tables.conditions import Condition
    from broker.tables.updates import Update

MAX_ITEM_BYTES = 400 * 1024


class Write(NamedTuple):
    """One of a batch: an item to put, or the key of one to delete."""

    table: Table
    item: Item
    is_put: bool


class Items:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def get(self, table: Table, key: Item) -> Item | None:
        """Raises ValidationException."""
        check_key(table.schema, key)
        self._registry.commit.enter()
        return self._registry.item(table, stored_key(table.schema, key))

    def put(self, table: Table, item: Item, condition: Condition | None = None) -> Item | None:
        """What was there before. Raises ValidationException, ConditionalCheckFailedException."""
        _check(table, item)
        key, old = self._find(table, item, condition)
        self._registry.replace(table, key, old, item)
        return old

    def delete(self, table: Table, key: Item, condition: Condition | None = None) -> Item | None:
        """What was there before. Raises ValidationException, ConditionalCheckFailedException."""
        check_key(table.schema, key)
        where, old = self._find(table, key, condition)
        self._registry.replace(table, where, old, None)
        return old

    def update(
        self, table: Table, key: Item, update: Update, condition: Condition | None = None
    ) -> tuple[Item | None, Item | None]:
        """What was there before and what is there now. Raises ValidationException, ConditionalCheckFailed…."""
        check_key(table.schema, key)
        for path in update.paths:
            if path[0] in table.schema.names:
                raise ValidationException(
                    f"One or more parameter values were invalid: Cannot update attribute {path[0]}. "
                    "This attribute is part of the key"
                )
        where, old = self._find(table, key, condition)
        if old is None and update.only_takes_away:
            return None, None
        new = update.apply(key if old is None else old)
        _check(table, new)
        self._registry.replace(table, where, old, new)
        return old, new

    def write(self, batch: Sequence[Write]) -> list[Item | None]:
        """Puts and deletes without conditions; what was there before each. Raises ValidationException."""
        by_table: dict[Table, list[Item]] = {}
        for table, item, is_put in batch:
            if is_put:
                _check(table, item)
            else:
                check_key(table.schema, item)
            by_table.setdefault(table, []).append(item)
        for table, items in by_table.items():
            self.check_distinct(table, items)
        return [(self.put if is_put else self.delete)(table, item) for table, item, is_put in batch]

    @staticmethod
    def check_distinct(table: Table, items: Sequence[Item]) -> None:
        """Raises ValidationException where two items, or keys, are of one key."""
        if len({stored_key(table.schema, item) for item in items if table.schema.is_in(item)}) < len(items):
            raise ValidationException("Provided list of item keys contains duplicates")

    def _find(self, table: Table, key: Item, condition: Condition | None) -> tuple[StoredKey, Item | None]:
        self._registry.commit.enter()
        where = stored_key(table.schema, key)
        old = self._registry.item(table, where)
        if condition is not None and not condition.holds(old or {}):
            raise ConditionalCheckFailedException(old)
        return where, old


def _check(table: Table, item: Item) -> None:
    check_item(table.schema, item)
    for index in table.indexes.values():
        check_index(index.schema, index.name, item)
    if item_bytes(item) > MAX_ITEM_BYTES:
        raise ValidationException("Item size has exceeded the maximum allowed size")
