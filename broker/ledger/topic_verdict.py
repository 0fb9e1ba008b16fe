"""The verdict for a topic: what was published, the copies in queues, and what came of each delivery elsewhere.

A delivery is one message on its way to one subscription that is not a queue of this broker.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import orjson

from broker.ledger import events
from broker.ledger.ledger import Ledger
from broker.ledger.verdict import DELIVERIES, Check, Times, Verdict
from broker.store.port import LedgerEntry

PAGE_ENTRIES = 2_000

EXPLANATIONS = {
    "deliveries-lost": "A delivery was given up and no dead-letter queue has it.",
}


@dataclass(slots=True)
class _Delivery:
    attempts: int = 0
    delivered_ms: int = 0
    ended: str = ""


class TopicJudge:
    """Takes the entries of a topic and its subscriptions page by page, and then says what they come to."""

    def __init__(self, ledger: Ledger, arn: str) -> None:
        self._ledger = ledger
        self._arn = arn
        self._nos = ledger.numbers_of(arn, beginning=f"{arn}:")
        self._through = ledger.look()
        self._now_ms = ledger.now_ms()
        self._after = ("", 0)
        self._message_id = ""
        self._published_ms = 0
        self._deliveries: dict[int, _Delivery] = {}  # of this message, by owner
        self._counts: Counter[str] = Counter()
        self._why: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._times = Times()
        self._lost = Check("deliveries-lost", EXPLANATIONS["deliveries-lost"])

    def step(self) -> bool:
        """Reads a page; False when that was the last."""
        if not self._nos:
            return False
        page = self._ledger.store.by_message(self._nos, self._after, self._through, PAGE_ENTRIES)
        for entry in page:
            if entry.message_id != self._message_id:
                self._end_message()
                self._message_id = entry.message_id
            self._add(entry)
        if page:
            self._after = page[-1].message_id, page[-1].id
        if len(page) == PAGE_ENTRIES:
            return True
        self._end_message()
        return False

    def _add(self, entry: LedgerEntry) -> None:
        event = entry.event
        if event == events.PUBLISHED:
            self._published_ms = entry.at_ms
            self._counts["published"] += 1
            copies = self._ledger.store.of_origin(entry.message_id, -1)
            self._counts["copies_in_queues"] += sum(copy.event == events.SENT for copy in copies)
        elif event == events.ATTEMPTED:
            delivery = self._deliveries.setdefault(entry.resource_no, _Delivery())
            delivery.attempts = max(delivery.attempts, entry.number)
            self._counts["attempts"] += 1
            if not entry.until_ms and not orjson.loads(entry.detail).get("why"):
                delivery.delivered_ms = entry.at_ms
        elif event in (events.GIVEN_UP, events.DEAD_LETTERED):
            delivery = self._deliveries.setdefault(entry.resource_no, _Delivery())
            delivery.ended = event
            self._why[orjson.loads(entry.detail)["why"]] += 1
        elif event == events.FAULT:
            self._faults[orjson.loads(entry.detail)["kind"]] += 1

    def _end_message(self) -> None:
        for delivery in self._deliveries.values():
            self._counts["deliveries"] += 1
            if delivery.delivered_ms:
                self._counts["delivered_after_retries" if delivery.attempts > 1 else "delivered_at_once"] += 1
                if self._published_ms:
                    self._times.add(delivery.delivered_ms - self._published_ms, self._message_id)
            elif delivery.ended == events.DEAD_LETTERED:
                self._counts["dead_lettered"] += 1
            elif delivery.ended:
                self._counts["lost"] += 1
                self._lost.found(self._message_id)
            else:
                self._counts["waiting"] += 1
        self._deliveries.clear()
        self._published_ms = 0

    def verdict(self) -> Verdict:
        """Once `step` has returned False."""
        texts = {
            "published": "published",
            "copies_in_queues": "copies in queues",
            "deliveries": "deliveries elsewhere",
            "delivered_at_once": "delivered at the first attempt",
            "delivered_after_retries": "delivered after retries",
            "attempts": "attempts",
            "waiting": "waiting for their next attempt",
            "dead_lettered": "dead-lettered",
            "lost": "given up and lost",
        }
        counts = {name: self._counts[name] for name in texts}
        return Verdict(
            self._arn,
            "topic",
            self._now_ms,
            DELIVERIES,
            counts,
            [self._lost],
            [f"{counts[name]:>9,}  {text}" for name, text in texts.items() if counts[name] or name == "published"],
            self._why,
            self._faults,
            self._times,
            dropped=self._ledger.dropped,
        )
