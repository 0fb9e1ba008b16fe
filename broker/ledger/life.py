"""What the entries of one message in one queue come to: how often it was received, how it ended, what went wrong.

Entries are added in order. This is on the way of a verdict over a million of them, so it keeps little and parses only
what it must. A message that a fault brings back after its delete has ended all the same: what comes later is counted.
"""

from __future__ import annotations

from typing import Any

import orjson

from broker.ledger import events
from broker.store.port import LedgerEntry

WAITING, DELAYED, IN_FLIGHT = "waiting", "delayed", "in flight"

_DELETES = ("DeleteMessage", "DeleteMessageBatch")
_LOST_DELETES = ("stale-handle", "answered-not-done")  # the consumer does not know that they did nothing
_BATCHES = ("DeleteMessageBatch", "ChangeMessageVisibilityBatch")


class Life:
    """`ended` is the event that ended it, if any. Entry ids tell what came before what."""

    __slots__ = (
        "acknowledged_id",
        "acknowledged_ms",
        "acknowledged_receive",
        "arrived_id",
        "arrived_ms",
        "asked",
        "deliveries",
        "effects",
        "ended",
        "faults",
        "group",
        "ignored",
        "message_id",
        "received_ms",
        "receives",
        "stale",
        "until_ms",
        "why",
    )

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self.arrived_id = 0  # 0: its beginning is not in the ledger any more
        self.arrived_ms = 0
        self.group = ""
        self.until_ms = 0  # hidden until
        self.deliveries = self.received_ms = 0
        self.receives: dict[int, int] = {}  # receive number -> the entry of its first delivery
        self.asked: set[int] = set()  # receives whose handle was used in a delete, with effect or without
        self.ignored: set[int] = set()  # receives whose entry in a batch failed, and that were not tried again
        self.stale = 0
        self.acknowledged_id = self.acknowledged_ms = self.acknowledged_receive = 0
        self.effects: list[tuple[int, str]] = []  # (entry, key)
        self.faults: list[tuple[str, str]] = []  # (kind, operation)
        self.ended = ""
        self.why = ""

    def add(self, entry: LedgerEntry) -> None:
        event, number = entry.event, entry.number
        if event == events.DELIVERED:
            if not self.deliveries:
                self.received_ms = entry.at_ms
            self.deliveries += 1
            self.receives.setdefault(number, entry.id)
            self.until_ms = entry.until_ms
        elif event == events.ACKNOWLEDGED:
            self.asked.add(number)
            self.ignored.discard(number)
            if not self.acknowledged_id:
                self.acknowledged_id, self.acknowledged_ms = entry.id, entry.at_ms
                self.acknowledged_receive = number
            self.ended = events.ACKNOWLEDGED
        elif event == events.SENT:
            self.arrived_id, self.arrived_ms, self.until_ms = entry.id, entry.at_ms, entry.until_ms
            if '"group"' in entry.detail:
                self.group = orjson.loads(entry.detail).get("group", "")
        elif event == events.CHANGED:
            self.until_ms = entry.until_ms
            self.ignored.discard(number)
        elif event == events.STALE:
            self.stale += 1
            self.ignored.discard(number)
            if number:
                self.asked.add(number)
        elif event == events.EFFECT:
            self.effects.append((entry.id, entry.origin))
        elif event == events.FAULT:
            self._fault(entry, orjson.loads(entry.detail))
        elif event in (events.DEAD_LETTERED, events.REDRIVEN, events.EXPIRED, events.PURGED):
            self.ended = event
            if event == events.DEAD_LETTERED:
                self.why = self._why(orjson.loads(entry.detail))

    def _fault(self, entry: LedgerEntry, detail: dict[str, Any]) -> None:
        kind, operation = detail["kind"], detail.get("operation", "")
        self.faults.append((kind, operation))
        if kind == "partial-batch" and operation in _BATCHES:
            self.ignored.add(entry.number or max(self.receives, default=0))
        elif entry.number and operation in _DELETES:  # it was tried again
            self.ignored.discard(entry.number)
            if kind in _LOST_DELETES:
                self.asked.add(entry.number)
        if entry.until_ms:
            self.until_ms = entry.until_ms

    def _why(self, detail: dict[str, Any]) -> str:
        if self.faults and self.faults[-1][0] == "early-dead-letter":
            return "a fault (early-dead-letter)"
        why: str = detail["why"]
        return why

    def state(self, now_ms: int, purged_id: int = 0) -> str:
        """Where it is at a moment; `purged_id` is the last entry that tells of a purge of the whole queue."""
        if self.ended:
            return self.ended
        if self.arrived_id < purged_id:
            return events.PURGED
        if self.until_ms > now_ms:
            return IN_FLIGHT if self.receives else DELAYED
        return events.RETURNED if self.receives else WAITING

    @property
    def times_done(self) -> int:
        """How often its work was done, by what the consumers reported: the most often done of its effects."""
        if len(self.effects) < 2:
            return len(self.effects)
        keys = [key for _, key in self.effects]
        return max(map(keys.count, set(keys)))
