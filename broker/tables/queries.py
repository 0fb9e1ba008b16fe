"""Query and Scan: which rows are asked for, in what order, and where a page ends.

A page ends after `limit` rows, or with the row that fills 1 MiB, whatever the filter leaves of them. An index is read
by reading its whole table: lease tables are small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from broker.errors import ValidationException
from broker.tables.keys import StoredKey, check_key, stored_key
from broker.tables.registry import Registry
from broker.tables.table import Index, Table
from broker.tables.values import Item, item_bytes

if TYPE_CHECKING:
    from broker.tables.conditions import Condition

MAX_PAGE_BYTES = 1024 * 1024

Row = tuple[tuple[bytes, ...], Item]
"""What it is sorted by, and the item."""


class Page(NamedTuple):
    items: list[Item]
    scanned_count: int
    scanned_bytes: int
    last_key: Item | None  # where the next page goes on


class KeyRange(NamedTuple):
    """What a key condition asks for: one hash key, and range keys as bytes from `low` on and below `high`."""

    hash: bytes
    low: bytes = b""
    high: bytes | None = None


class Reader:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def query(
        self,
        table: Table,
        index: Index | None,
        asked: KeyRange,
        *,
        start: Item | None = None,
        forward: bool = True,
        limit: int | None = None,
        condition: Condition | None = None,
    ) -> Page:
        """Raises ValidationException."""
        self._registry.commit.enter()
        after = None if start is None else _place(table, index, start)
        rows: Iterable[Row]
        if index is None:
            low, high = asked.low, asked.high
            if after is not None:
                _check_start(after[0] == asked.hash)
                if forward:
                    low = max(low, after[1] + b"\0")
                else:
                    high = after[1] if high is None else min(high, after[1])
            rows = self._registry.partition(table, asked.hash, low, high, forward=forward)
        else:

            def is_asked(place: tuple[bytes, ...]) -> bool:
                return (
                    place[0] == asked.hash and asked.low <= place[1] and (asked.high is None or place[1] < asked.high)
                )

            if after is not None:
                _check_start(after[0] == asked.hash)
            rows = self._indexed(table, index, after, is_asked, forward=forward)
        return _page(table, index, rows, limit, condition)

    def scan(
        self,
        table: Table,
        index: Index | None,
        *,
        start: Item | None = None,
        segment: tuple[int, int] = (0, 1),
        limit: int | None = None,
        condition: Condition | None = None,
    ) -> Page:
        """`segment` is its number and how many there are. Raises ValidationException."""
        self._registry.commit.enter()
        after = None if start is None else _place(table, index, start)
        number, of = segment

        def is_asked(place: tuple[bytes, ...]) -> bool:
            return crc32(place[0]) % of == number

        rows: Iterable[Row]
        if after is not None and of > 1:
            _check_start(is_asked(after))
        if index is not None:
            rows = self._indexed(table, index, after, is_asked)
        else:
            rows = self._registry.items(table, None if after is None else StoredKey(*after))
            if of > 1:
                rows = (row for row in rows if is_asked(row[0]))
        return _page(table, index, rows, limit, condition)

    def _indexed(
        self,
        table: Table,
        index: Index,
        after: tuple[bytes, ...] | None,
        is_asked: Callable[[tuple[bytes, ...]], bool],
        *,
        forward: bool = True,
    ) -> list[Row]:
        """What is in an index, in its order; the table's key decides between equals."""
        names = index.projected(table)
        found: list[Row] = []
        for key, item in self._registry.items(table):
            if not index.schema.is_in(item):
                continue
            place = (*stored_key(index.schema, item), *key)
            if is_asked(place) and (after is None or (place > after if forward else place < after)):
                kept = item if names is None else {name: value for name, value in item.items() if name in names}
                found.append((place, kept))
        found.sort(key=lambda row: row[0], reverse=not forward)
        return found


def _place(table: Table, index: Index | None, start: Item) -> tuple[bytes, ...]:
    """What the item that a page begins after is sorted by."""
    names = set(table.schema.names) | set(index.schema.names if index else ())
    _check_start(start.keys() == names)
    try:
        check_key(table.schema, {name: start[name] for name in table.schema.names})
    except ValidationException as error:
        raise ValidationException(f"The provided starting key is invalid: {error.message}") from None
    key = stored_key(table.schema, start)
    if index is None:
        return key
    _check_start(index.schema.is_in(start))
    return (*stored_key(index.schema, start), *key)


def _check_start(is_valid: bool) -> None:
    if not is_valid:
        raise ValidationException("The provided starting key is invalid")


def _page(
    table: Table, index: Index | None, rows: Iterable[Row], limit: int | None, condition: Condition | None
) -> Page:
    items: list[Item] = []
    count = size_bytes = 0
    for _, item in rows:
        count += 1
        size_bytes += item_bytes(item)
        if condition is None or condition.holds(item):
            items.append(item)
        if count == limit or size_bytes >= MAX_PAGE_BYTES:
            names = table.schema.names + (index.schema.names if index else [])
            return Page(items, count, size_bytes, {name: item[name] for name in names})
    return Page(items, count, size_bytes, None)
