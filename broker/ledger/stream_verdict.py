"""The verdict for a stream: what was put, who has read past it, what they skipped; and what they did, if they say so.

A record is a place in a shard. Readers are told apart by their ARN where they have one, else by access key and
User-Agent: two of the same kind at once look like one that goes back and forth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from broker.ledger import events
from broker.ledger.ledger import Ledger
from broker.ledger.verdict import EFFECTS, READS, Check, Verdict, short
from broker.store.port import LedgerEntry

PAGE_ENTRIES = 2_000

EXPLANATIONS = {
    "records-skipped": "A reader has gone past records that it was never given: it began again further on than it had "
    "come.",
    "done-more-than-once": "The work of a record was done more than once: its reader does not know it again.",
    "read-never-done": "The record was read and its work was never done.",
    "done-out-of-order": "The work of a record was done before that of one that is before it in its shard.",
}

Locate = Callable[[str], tuple[str, int] | None]
"""A sequence number's shard id and place, or None where it is none."""


@dataclass(slots=True)
class Reader:
    read: int = 0
    again: int = 0
    skipped: int = 0


class StreamJudge:
    """Takes the entries of a stream page by page, and then says what they come to."""

    def __init__(self, ledger: Ledger, arn: str, locate: Locate) -> None:
        self._ledger = ledger
        self._arn = arn
        self._locate = locate
        self._nos = ledger.numbers_of(arn)
        self._through = ledger.look()
        self._now_ms = ledger.now_ms()
        self._after = ("", 0)
        self._readers: dict[str, Reader] = {}
        self._ends: dict[tuple[str, str], int] = {}  # of a reader in a shard: the last place it was given
        self._put: dict[str, int] = {}  # by shard: the last place
        self._records = 0
        self._covered: dict[str, list[tuple[int, int]]] = {}  # by shard: what was read, as ranges
        self._done: dict[str, dict[int, list[int]]] = {}  # by shard and place: the entries that say so
        self._numbers: dict[tuple[str, int], str] = {}  # sequence numbers of some of these
        self._faults: Counter[str] = Counter()
        self._checks = {name: Check(name, text) for name, text in EXPLANATIONS.items()}

    def step(self) -> bool:
        """Reads a page; False when that was the last."""
        if not self._nos:
            return False
        page = self._ledger.store.by_message(self._nos, self._after, self._through, PAGE_ENTRIES)
        for entry in page:
            self._add(entry)
        if page:
            self._after = page[-1].message_id, page[-1].id
        return len(page) == PAGE_ENTRIES

    def _add(self, entry: LedgerEntry) -> None:
        shard, first, last = entry.message_id, entry.number, entry.until_ms
        if entry.event == events.PUT:
            self._records += last - first + 1
            self._put[shard] = max(last, self._put.get(shard, 0))
        elif entry.event == events.READ:
            self._add_read(entry.origin or self._ledger.name(entry.by_no), shard, first, last)
        elif entry.event == events.EFFECT:
            place = self._locate(entry.message_id)
            if place is not None:
                self._done.setdefault(place[0], {}).setdefault(place[1], []).append(entry.id)
                self._numbers[place] = entry.message_id
        elif entry.event == events.FAULT:
            self._faults[orjson.loads(entry.detail)["kind"]] += 1

    def _add_read(self, name: str, shard: str, first: int, last: int) -> None:
        reader = self._readers.setdefault(name, Reader())
        end = self._ends.get((name, shard))
        reader.read += last - first + 1
        if end is not None:
            reader.again += max(0, min(end, last) - first + 1)
            if first > end + 1:
                skipped = first - end - 1
                reader.skipped += skipped
                where = f"{shard}, places {end + 1} to {first - 1}, by {short(name) or 'nobody known'}"
                self._checks["records-skipped"].found(where, skipped)
        self._ends[name, shard] = max(last, end or 0)
        covered = self._covered.setdefault(shard, [])
        if covered and covered[-1][0] <= first <= covered[-1][1] + 1:
            covered[-1] = (covered[-1][0], max(last, covered[-1][1]))
        else:
            covered.append((first, last))

    def verdict(self) -> Verdict:
        """Once `step` has returned False."""
        by_effects = bool(self._done)
        names = ["records-skipped"]
        if by_effects:
            names += ["done-more-than-once", "read-never-done", "done-out-of-order"]
            self._check_effects()
        readers = []
        for name, reader in sorted(self._readers.items()):
            behind = sum(
                max(0, last - self._ends[name, shard])
                for shard, last in self._put.items()
                if (name, shard) in self._ends
            )
            readers.append(
                {
                    "reader": name,
                    "read": reader.read - reader.again,
                    "read_again": reader.again,
                    "skipped": reader.skipped,
                    "behind": behind,
                }
            )
        read = sum(last - first + 1 for shard in self._covered for first, last in _merged(self._covered[shard]))
        counts = {
            "put": self._records,
            "read": read,
            "never_read": max(0, self._records - read),
            "effects": sum(len(ids) for places in self._done.values() for ids in places.values()),
            "processed_once": sum(len(ids) == 1 for places in self._done.values() for ids in places.values()),
            "processed_more_than_once": sum(len(ids) > 1 for places in self._done.values() for ids in places.values()),
        }
        lines = [f"{counts['put']:>9,}  put", f"{read:>9,}  read past", f"{counts['never_read']:>9,}  never read"]
        if by_effects:
            lines += [
                f"{counts['processed_once']:>9,}  processed once",
                f"{counts['processed_more_than_once']:>9,}  processed more than once",
            ]
        lines += [
            f"{row['read']:>9,}  read by {short(str(row['reader'])) or 'nobody known'}: "
            f"{row['read_again']:,} of them again, {row['skipped']:,} skipped, {row['behind']:,} behind"
            for row in readers
        ]
        return Verdict(
            self._arn,
            "stream",
            self._now_ms,
            EFFECTS if by_effects else READS,
            counts,
            [self._checks[name] for name in names],
            lines,
            faults=self._faults,
            readers=readers,
            dropped=self._ledger.dropped,
        )

    def _check_effects(self) -> None:
        for shard, places in self._done.items():
            last = 0
            for place in sorted(places):
                ids = places[place]
                if len(ids) > 1:
                    self._checks["done-more-than-once"].found(self._numbers[shard, place])
                if ids[0] < last:
                    self._checks["done-out-of-order"].found(self._numbers[shard, place])
                last = max(last, ids[0])
        check = self._checks["read-never-done"]
        for shard, ranges in self._covered.items():
            done = self._done.get(shard, {})
            for first, end in _merged(ranges):
                for place in range(first, end + 1):
                    if place not in done:
                        check.found(f"{shard}, place {place}")


def _merged(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    begin, end = 0, -1
    for first, last in sorted(ranges):
        if first > end + 1:
            if end >= begin:
                yield begin, end
            begin, end = first, last
        else:
            end = max(end, last)
    if end >= begin:
        yield begin, end
