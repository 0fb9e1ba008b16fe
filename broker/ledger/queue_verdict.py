"""The verdict for a queue: every message that came to it, judged by what its consumers did, or by their deletes.

What a consumer *did* a broker cannot see. Where consumers report their effects, these are judged: done twice, not done,
deleted before they were done, out of order. Else the deletes are: a consumer deletes what it has processed, so a
message that was deleted by the handles of two receives was processed twice, whatever came of the second delete.

Entries come message by message, in pages, so of a million one life is in RAM at a time; for percentiles and for the
order within groups three numbers a message are kept.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import orjson

from broker.ledger import events
from broker.ledger.ledger import Ledger
from broker.ledger.life import DELAYED, IN_FLIGHT, WAITING, Life
from broker.ledger.verdict import DELETES, EFFECTS, MAX_IDS, Check, Times, Verdict
from broker.store.port import LedgerEntry

PAGE_ENTRIES = 2_000
_SENDS = ("SendMessage", "SendMessageBatch")


EXPLANATIONS = {
    "done-more-than-once": "The work of a message was done more than once: the consumer does not know a message again "
    "that it has processed before (no idempotency).",
    "deleted-before-done": "The message was deleted before its work was done: one that dies in between has lost it.",
    "deleted-never-done": "The message was deleted and its work was never done: it is lost.",
    "done-out-of-order": "The work of a message was done after that of one that was sent later in the same group.",
    "done-then-dead-lettered": "The work of a message was done, but nobody deleted it, and it became a dead letter.",
    "processed-more-than-once": "The message was deleted by the handles of several receives: it was processed more "
    "than once, unless the consumer knew it again (report effects to be sure).",
    "processed-out-of-order": "The message was processed after one that was sent later in the same group.",
    "never-acknowledged": "The message was received and nobody has deleted it: its visibility timeout ended, or was "
    "set to 0 to give it back.",
    "expired": "The message was still there when its retention period ended.",
    "batch-failures-ignored": "An entry of a batch failed and was never tried again: the failed part of the answer was "
    "not looked at.",
}


class Judge:
    """Takes the entries of a queue page by page, and then says what they come to."""

    def __init__(self, ledger: Ledger, arn: str) -> None:
        self._ledger = ledger
        self._arn = arn
        self._nos = ledger.numbers_of(arn)
        self._through = ledger.look()
        self._now_ms = ledger.now_ms()
        # First what is of no message that is known, then message by message. A queue on a stream knows its records by
        # their sequence numbers only.
        self._on_stream = ":kinesis:" in arn
        self._keyless = not self._on_stream
        self._key, self._message_id, self._id = 0, "", 0
        self._life: Life | None = None
        self._counts: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self._why: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._checks = {name: Check(name, text) for name, text in EXPLANATIONS.items()}
        self._times = Times()
        self._purged_id = 0
        self._failed_sends: dict[str, int] = {}  # of a batch: by MD5 of the body, the last entry that tells of it
        # In FIFO queues, of each message with a group: the group, when it was sent, when its work was done first and
        # last, and when the receive began that it was deleted by, as entry ids.
        self._fifo = arn.endswith(".fifo")
        self._group_nos: dict[str, int] = {}
        self._groups, self._arrived = array("q"), array("q")
        self._first_done, self._last_done, self._received = array("q"), array("q"), array("q")

    def step(self) -> bool:
        """Reads a page; False when that was the last."""
        if not self._nos:
            return False
        store = self._ledger.store
        if self._keyless:
            page = store.after(self._id, PAGE_ENTRIES, resource_nos=self._nos, through=self._through, keyless=True)
            for entry in page:
                self._about_all(entry)
            self._keyless = len(page) == PAGE_ENTRIES
            self._id = page[-1].id if self._keyless else 0
            return True
        if self._on_stream:
            page = store.by_message(self._nos, (self._message_id, self._id), self._through, PAGE_ENTRIES)
        else:
            page = store.by_key(self._nos, (self._key, self._id), self._through, PAGE_ENTRIES)
        life = self._life
        for entry in page:
            if not entry.message_id:
                self._about_all(entry)
                continue
            if life is None or entry.message_key != self._key or entry.message_id != self._message_id:
                if life is not None:
                    self._judge(life)
                life = Life(entry.message_id)
                self._key, self._message_id = entry.message_key, entry.message_id
            life.add(entry)
            if self._failed_sends and entry.event in (events.SENT, events.DEDUPLICATED):
                self._tried_again(entry)
        self._life = life
        if len(page) == PAGE_ENTRIES:
            self._id = page[-1].id
            return True
        if life is not None:
            self._judge(life)
            self._life = None
        return False

    def _about_all(self, entry: LedgerEntry) -> None:
        if entry.event == events.PURGED:
            self._purged_id = entry.id
        elif entry.event == events.EFFECT:
            self._counts["unknown_effects"] += 1
        elif entry.event == events.FAULT:
            detail = orjson.loads(entry.detail)
            kind, operation = detail["kind"], detail.get("operation", "")
            self._faults[kind] += 1
            if operation in _SENDS and kind == "answered-not-done":
                self._counts["lost"] += 1
            elif operation == "SendMessageBatch" and kind == "partial-batch" and "md5" in detail:
                self._failed_sends[detail["md5"]] = entry.id

    def _tried_again(self, entry: LedgerEntry) -> None:
        md5 = orjson.loads(entry.detail).get("md5", "")
        if self._failed_sends.get(md5, entry.id) < entry.id:
            del self._failed_sends[md5]

    def _judge(self, life: Life) -> None:
        for kind, _ in life.faults:
            self._faults[kind] += 1
        if self._on_stream and life.receives:  # it came when it was first received
            life.arrived_id, life.arrived_ms = min(life.receives.values()), life.received_ms
        if not life.arrived_id:  # what it began with is gone: half a life is not judged
            self._counts["unknown"] += 1
            return
        counts, found = self._counts, self._found
        state = life.state(self._now_ms, self._purged_id)
        self._states[state] += 1
        counts["deliveries"] += life.deliveries
        counts["stale"] += life.stale
        done, processed = life.times_done, len(life.asked)
        counts["effects"] += len(life.effects)
        counts["done_once"] += done == 1
        counts["done_more_than_once"] += done > 1
        counts["processed_once"] += processed == 1
        counts["processed_more_than_once"] += processed > 1
        counts["received_more_than_once"] += len(life.receives) > 1
        if done > 1:
            found("done-more-than-once", life)
        if processed > 1:
            found("processed-more-than-once", life)
        if life.acknowledged_id:
            self._times.add(life.acknowledged_ms - life.arrived_ms, life.message_id)
            if not done:
                found("deleted-never-done", life)
            elif life.acknowledged_id < life.effects[0][0]:
                found("deleted-before-done", life)
        if state == events.RETURNED:
            found("never-acknowledged", life)
        elif state == events.EXPIRED:
            found("expired", life)
        elif state == events.DEAD_LETTERED:
            self._why[life.why] += 1
            if done:
                found("done-then-dead-lettered", life)
        if life.ignored:
            found("batch-failures-ignored", life)
        if self._fifo and life.group:
            self._groups.append(self._group_nos.setdefault(life.group, len(self._group_nos)))
            self._arrived.append(life.arrived_id)
            self._first_done.append(life.effects[0][0] if life.effects else 0)
            self._last_done.append(life.effects[-1][0] if life.effects else 0)
            self._received.append(life.receives.get(life.acknowledged_receive, 0) if life.acknowledged_id else 0)

    def _found(self, name: str, life: Life) -> None:
        self._checks[name].found(life.message_id)

    def verdict(self) -> Verdict:
        """Once `step` has returned False."""
        counts, states = self._counts, self._states
        by_effects = counts["effects"] > 0
        for md5 in self._failed_sends:
            self._checks["batch-failures-ignored"].found(f"a message that was never sent, MD5 of its body {md5}")
        names = ["never-acknowledged", "expired", "batch-failures-ignored"]
        if by_effects:
            names = ["done-more-than-once", "deleted-before-done", "deleted-never-done", *names]
            names.append("done-then-dead-lettered")
            self._check_keys()
        else:
            names = ["processed-more-than-once", *names]
        if self._fifo:
            name = "done-out-of-order" if by_effects else "processed-out-of-order"
            names.append(name)
            if by_effects:
                self._check_order(self._checks[name], self._first_done, self._last_done)
            else:
                self._check_order(self._checks[name], self._received, self._received)
        shown = {
            "sent": sum(states.values()),
            "deliveries": counts["deliveries"],
            "received_more_than_once": counts["received_more_than_once"],
            "processed_once": counts["done_once" if by_effects else "processed_once"],
            "processed_more_than_once": counts["done_more_than_once" if by_effects else "processed_more_than_once"],
            "acknowledged": states[events.ACKNOWLEDGED],
            "never_acknowledged": states[events.RETURNED],
            "waiting": states[WAITING],
            "delayed": states[DELAYED],
            "in_flight": states[IN_FLIGHT],
            "dead_lettered": states[events.DEAD_LETTERED],
            "redriven": states[events.REDRIVEN],
            "expired": states[events.EXPIRED],
            "purged": states[events.PURGED],
            "lost_by_a_fault": counts["lost"],
            "stale_deletes": counts["stale"],
            "effects": counts["effects"],
            "unknown_effects": counts["unknown_effects"],
            "not_judged": counts["unknown"],
        }
        return Verdict(
            self._arn,
            "queue",
            self._now_ms,
            EFFECTS if by_effects else DELETES,
            shown,
            [self._checks[name] for name in names],
            _lines(shown),
            self._why,
            self._faults,
            self._times,
            dropped=self._ledger.dropped,
        )

    def _check_keys(self) -> None:
        """One effect under one key, of two messages: a producer's second try that nobody has noticed."""
        check = self._checks["done-more-than-once"]
        for key, _ in self._ledger.store.repeated_origins(events.EFFECT, self._nos, self._through):
            of_key = self._ledger.store.of_origin(key, -1)
            ids = {e.message_id for e in of_key if e.event == events.EFFECT and e.resource_no in self._nos}
            if len(ids) > 1:
                check.found(f"{sorted(ids)[0]} and {len(ids) - 1} more with the key {key}")

    def _check_order(self, check: Check, first: Sequence[int], last: Sequence[int]) -> None:
        """`first` and `last` are when a message was processed; 0 where it never was."""
        earliest: dict[int, int] = {}  # by group: when the first of those was processed that were sent later
        wrong: list[int] = []
        for at in sorted(range(len(first)), key=self._arrived.__getitem__, reverse=True):
            if first[at]:
                group_no = self._groups[at]
                before = earliest.get(group_no)
                if before is not None and last[at] > before:
                    wrong.append(self._arrived[at])
                earliest[group_no] = first[at] if before is None else min(before, first[at])
        for arrived_id in reversed(wrong):
            entries = self._ledger.store.after(arrived_id - 1, 1) if check.count < MAX_IDS else []
            check.found(entries[0].message_id if entries else "")


def judge(ledger: Ledger, arn: str) -> Verdict:
    """All at once. Whoever has other work in between makes the steps."""
    judge = Judge(ledger, arn)
    while judge.step():
        pass
    return judge.verdict()


def _lines(counts: dict[str, int]) -> list[str]:
    texts = {
        "sent": "sent",
        "deliveries": "deliveries",
        "received_more_than_once": "received more than once",
        "processed_once": "processed once",
        "processed_more_than_once": "processed more than once",
        "acknowledged": "acknowledged",
        "never_acknowledged": "never acknowledged",
        "waiting": "never received yet",
        "delayed": "delayed still",
        "in_flight": "in flight",
        "dead_lettered": "dead-lettered",
        "redriven": "moved back by a redrive",
        "expired": "expired",
        "purged": "purged, or gone with the queue",
        "lost_by_a_fault": "lost by a fault, its sender being told that all was well",
        "stale_deletes": "deletes that did nothing, their handles being stale",
        "effects": "effects reported",
        "unknown_effects": "effects reported of messages that nobody knows",
        "not_judged": "not judged: their sending is not in the ledger",
    }
    always = ("sent", "processed_once", "processed_more_than_once", "never_acknowledged")
    return [f"{counts[name]:>9,}  {text}" for name, text in texts.items() if counts[name] or name in always]
