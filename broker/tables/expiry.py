"""Time to live: once an hour a table that has it is gone through, and what expired more than a moment ago is deleted.

AWS promises no more than "within a few days". It leaves alone what expired over five years ago, taking that for
milliseconds and other mistakes.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/howitworks-ttl.html
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from itertools import islice

from broker.tables.keys import StoredKey
from broker.tables.registry import SWEEP_ROWS, Registry
from broker.tables.table import Table
from broker.tables.values import Item

INTERVAL_MS = 3_600_000
OLDEST_S = 5 * 365 * 86_400


class Expiry:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        registry.on_load.append(self._resume)

    def appoint(self, table: Table) -> None:
        """Begins, or ends, to look at a table."""
        self._registry.cancel(table)
        if table.ttl_attribute is not None:
            when_ms = self._registry.clock.now_ms() + INTERVAL_MS
            self._appoint(table, when_ms, None)

    def _appoint(self, table: Table, when_ms: int, after: StoredKey | None) -> None:
        job = partial(self._registry.commit.run, self._step, table, after)
        table.timer = self._registry.clock.call_at(when_ms, job)

    def _step(self, table: Table, after: StoredKey | None) -> None:
        if self._registry.tables.get(table.arn) is not table or table.ttl_attribute is None:
            return
        now_ms = self._registry.clock.now_ms()
        rows = list(islice(self._registry.items(table, after), SWEEP_ROWS))
        for key, item in rows:
            if _is_expired(item, table.ttl_attribute, now_ms // 1000):
                self._registry.replace(table, key, item, None)
        if len(rows) == SWEEP_ROWS:
            self._appoint(table, now_ms, rows[-1][0])
        else:
            self.appoint(table)

    def _resume(self) -> None:
        for table in self._registry.tables.values():
            self.appoint(table)


def _is_expired(item: Item, attribute: str, now_s: int) -> bool:
    value = item.get(attribute)
    return isinstance(value, Decimal) and now_s - OLDEST_S < value < now_s
