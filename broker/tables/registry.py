"""The tables in RAM, in step with the store. What a table holds is counted here, and saved with each group.

Everything is read anew after a transaction that did not happen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.errors import ResourceNotFoundException
from broker.names import World, parse_arn
from broker.store.port import ItemRecord, QueueStore, TableStore
from broker.sweeper import Sweeper
from broker.tables.keys import StoredKey
from broker.tables.table import Table, table_arn
from broker.tables.values import Item, item_bytes, item_from_document, item_to_document

PAGE_ROWS = 200
SWEEP_ROWS = 500


class Registry:
    def __init__(
        self, store: TableStore, queue_store: QueueStore, clock: Clock, commit: GroupCommit, entropy: Entropy
    ) -> None:
        self.store = store
        self.next_no = queue_store.next_no
        self.clock = clock
        self.commit = commit
        self.entropy = entropy
        self.tables: dict[str, Table] = {}  # by ARN
        self.on_load: list[Callable[[], None]] = []  # makes appointments again
        self._changed: dict[Table, None] = {}
        self._sweeper = Sweeper(clock, commit, lambda: store.sweep_tables(SWEEP_ROWS))
        commit.after_rollback.append(self.load)
        commit.before_commit.append(self._save_totals)

    def load(self) -> None:
        for table in self.tables.values():
            self.cancel(table)
        self._changed.clear()
        loaded = map(Table.from_record, self.store.load_tables())
        self.tables = {table.arn: table for table in loaded}
        for resume in self.on_load:
            resume()
        self._sweeper.resume()

    # tables

    def find(self, world: World, name: str) -> Table | None:
        """By name or ARN."""
        if name.startswith("arn:"):
            arn = parse_arn(name)
            if arn is None or (arn.account, arn.region) != world:
                return None
            return self.tables.get(name)
        return self.tables.get(table_arn(world, name))

    def get(self, world: World, name: str) -> Table:
        """Raises ResourceNotFoundException."""
        table = self.find(world, name)
        if table is None:
            raise ResourceNotFoundException("Requested resource not found")
        return table

    def of_world(self, world: World) -> list[Table]:
        """By name."""
        return sorted((table for table in self.tables.values() if table.world == world), key=lambda table: table.name)

    def put(self, table: Table) -> None:
        self.tables[table.arn] = table
        self.store.put_table(table.record())

    def remove(self, table: Table) -> None:
        self.cancel(table)
        self._changed.pop(table, None)
        del self.tables[table.arn]
        self.store.discard_table(table.table_no)
        self._sweeper.soon()

    def reset(self, account: str | None) -> None:
        self.commit.enter()
        for table in list(self.tables.values()):
            if account in (None, table.world.account):
                self.remove(table)

    @staticmethod
    def cancel(table: Table) -> None:
        if table.timer is not None:
            table.timer.cancel()
            table.timer = None

    # items

    def item(self, table: Table, key: StoredKey) -> Item | None:
        document = self.store.get_item(table.table_no, *key)
        return None if document is None else item_of(document)

    def items(self, table: Table, after: StoredKey | None = None) -> Iterator[tuple[StoredKey, Item]]:
        """All, in the order of their keys as bytes. Nothing may be changed meanwhile."""
        while True:
            rows = self.store.items_after(table.table_no, *(after or (b"", b"")), PAGE_ROWS)
            yield from map(_read, rows)
            if len(rows) < PAGE_ROWS:
                return
            after = StoredKey(rows[-1].hash_key, rows[-1].range_key)

    def partition(
        self, table: Table, hash_key: bytes, low: bytes, high: bytes | None, *, forward: bool
    ) -> Iterator[tuple[StoredKey, Item]]:
        """Those of one hash key with a range key from `low` on, and below `high`, in either order."""
        while True:
            rows = self.store.items_between(table.table_no, hash_key, low, high, forward, PAGE_ROWS)
            yield from map(_read, rows)
            if len(rows) < PAGE_ROWS:
                return
            if forward:
                low = rows[-1].range_key + b"\0"
            else:
                high = rows[-1].range_key

    def replace(self, table: Table, key: StoredKey, old: Item | None, new: Item | None) -> None:
        """Puts `new` where `old` was."""
        if new is not None:
            document = json.dumps(item_to_document(new), ensure_ascii=False, separators=(",", ":"))
            self.store.put_item(table.table_no, *key, document)
        elif old is not None:
            self.store.delete_item(table.table_no, *key)
        else:
            return
        table.item_count += (new is not None) - (old is not None)
        table.size_bytes += item_bytes(new or {}) - item_bytes(old or {})
        self._changed[table] = None

    def _save_totals(self) -> None:
        if self._changed:
            changed, self._changed = self._changed, {}
            self.store.save_totals([(t.item_count, t.size_bytes, t.table_no) for t in changed])


def item_of(document: str) -> Item:
    return item_from_document(json.loads(document))


def _read(row: ItemRecord) -> tuple[StoredKey, Item]:
    return StoredKey(row.hash_key, row.range_key), item_of(row.document)
