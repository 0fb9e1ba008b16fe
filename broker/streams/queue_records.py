"""What comes out of queues on streams: receive, acknowledge, visibility, dead letters.

The store has a row for each record that a queue has delivered and nobody has acknowledged, and a cursor for each shard
for what it has not delivered: a backlog costs nothing. Data are read from the stream, so what is past the stream's
retention is gone from its queues too.

A receive takes what came back before what is new, but at most half of what it may take as long as there is something
new: failing records are tried again soon, before the stream drops them, and cannot keep back the others. Shards take
turns. (Of order the model says only that there is none.)

Whether a receive is a record's last is written down when it is made; the record is a dead letter once that receive is
over. So a last receive can still be acknowledged, also late, until it is received as a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from broker.clock import Timer
from broker.errors import DomainError, InvalidArgumentException, ResourceNotFoundException
from broker.limits import DEFAULT_RECEIVE_WAIT_S, MAX_BATCH_ENTRIES, MAX_GET_BYTES
from broker.queues import receipts
from broker.store.port import QueuedRecord, StreamQueueStore, row_id, sequence_of, shelf_of
from broker.streams.cursors import Cursors
from broker.streams.queues import StreamQueue, StreamQueues
from broker.streams.registry import Registry
from broker.streams.segments import Record
from broker.streams.stream import DELETING, Shard
from broker.sweeper import Sweeper
from broker.waiters import Waiter

SWEEP_ROWS = 500  # a step of a long sweep: some 2 ms
_FOREVER = 1 << 62


class Received(NamedTuple):
    """A delivery."""

    receipt_handle: str
    record: Record
    first_received_ms: int
    receive_count: int

    @property
    def record_id(self) -> str:
        """The record's sequence number, which no other record of a stream has, as hexadecimal digits."""
        return f"{int(self.record.sequence_number):x}"


class _Line:
    """Those who wait at one end of a queue, for its records or for its dead letters.

    It outlives the queue in RAM that it is for, which is a new one after a group that failed.
    """

    __slots__ = ("waiters", "wake")

    def __init__(self) -> None:
        self.waiters: dict[Waiter[Received], None] = {}
        self.wake: Timer | None = None  # the next becomes visible

    def sleep(self) -> None:
        if self.wake is not None:
            self.wake.cancel()
            self.wake = None

    def give_up(self) -> None:
        for waiter in list(self.waiters):
            waiter.give_up()


class QueueRecords:
    """The records in all queues on streams."""

    def __init__(self, registry: Registry, queues: StreamQueues, cursors: Cursors, store: StreamQueueStore) -> None:
        self._registry = registry
        self._queues = queues
        self._cursors = cursors
        self._store = store
        self._clock = registry.clock
        self._commit = registry.commit
        self._ledger = registry.ledger
        self._lines: dict[tuple[str, bool], _Line] = {}  # by queue's ARN, and whether for dead letters
        self._touched: dict[tuple[str, bool], None] = {}
        self._sweeper = Sweeper(registry.clock, registry.commit, lambda: store.sweep(SWEEP_ROWS))
        self._ending = False
        registry.on_arrival.append(self._on_arrival)
        registry.commit.before_commit.append(self._before_commit)
        queues.on_load.append(self._resume)
        queues.on_change.append(self._on_change)
        queues.on_remove.append(self._on_remove)

    # receiving

    def receive(
        self,
        queue: StreamQueue,
        limit: int = MAX_BATCH_ENTRIES,
        wait_s: int = DEFAULT_RECEIVE_WAIT_S,
        visibility_timeout_s: int | None = None,
    ) -> list[Received] | Waiter[Received]:
        """Records, or who waits for them: set its `done`."""
        return self._receive(queue, False, limit, wait_s, visibility_timeout_s)

    def receive_dead_letters(
        self,
        queue: StreamQueue,
        limit: int = MAX_BATCH_ENTRIES,
        wait_s: int = DEFAULT_RECEIVE_WAIT_S,
        visibility_timeout_s: int | None = None,
    ) -> list[Received] | Waiter[Received]:
        return self._receive(queue, True, limit, wait_s, visibility_timeout_s)

    def _receive(
        self, queue: StreamQueue, dead: bool, limit: int, wait_s: int, visibility_timeout_s: int | None
    ) -> list[Received] | Waiter[Received]:
        self._commit.enter()
        key = queue.arn, dead
        take = partial(self._take_for, self._ledger.by, key, limit, visibility_timeout_s)
        found = take()
        # One that is CREATING or DELETING "does not deliver": who asks waits as for an empty one.
        if found or not wait_s or self._ending:
            return found
        waiter = Waiter(self._lines.setdefault(key, _Line()), take, self._clock, self._clock.now_ms() + wait_s * 1000)
        self._appoint_wake(key)
        return waiter

    def _take_for(self, by: str, key: tuple[str, bool], limit: int, visibility_timeout_s: int | None) -> list[Received]:
        """What is noted is of who asked, also where it waited meanwhile."""
        ledger = self._ledger
        asking, ledger.by = ledger.by, by
        try:
            return self._take(key, limit, visibility_timeout_s)
        finally:
            ledger.by = asking

    def _take(self, key: tuple[str, bool], limit: int, visibility_timeout_s: int | None) -> list[Received]:
        arn, dead = key
        queue = self._queues.by_arn.get(arn)
        if queue is None or not queue.is_delivering:
            return []
        now_ms = self._clock.now_ms()
        timeout_s = queue.visibility_timeout_s if visibility_timeout_s is None else visibility_timeout_s
        visible_ms, max_receives = now_ms + timeout_s * 1000, queue.max_receives
        tag = queue.dead_tag if dead else queue.tag
        rows: list[QueuedRecord] = []
        received: list[Received] = []
        for row, record in self._chosen(queue, dead, limit, now_ms):
            receive_count = row.receive_count + (not dead)
            rows.append(
                row._replace(
                    visible_ms=visible_ms,
                    dead=int(dead or receive_count >= max_receives),
                    delivery_no=row.delivery_no + 1,
                    receive_count=receive_count,
                    dead_receive_count=row.dead_receive_count + dead,
                )
            )
            handle = receipts.make(tag, row.id, row.delivery_no + 1)
            count = receive_count + row.dead_receive_count + dead
            received.append(Received(handle, record, row.first_received_ms, count))
        self._put(queue, rows)
        if rows and self._ledger.is_on:
            self._ledger.delivered_records(
                arn, [(one.record.sequence_number, one.receive_count) for one in received], visible_ms
            )
        if rows and queue.expiry is None:
            self._appoint_expiry(queue, min(row.arrival_ms for row in rows) + queue.stream.retention_ms)
        return received

    def _chosen(self, queue: StreamQueue, dead: bool, limit: int, now_ms: int) -> Iterable[tuple[QueuedRecord, Record]]:
        """What a receive gives: each with its row as it is, or would have been before its first receive."""
        horizon_ms = queue.stream.horizon_ms(now_ms)
        returned = self._store.visible(queue.queue_no, int(dead), now_ms, horizon_ms, limit)
        chosen: list[tuple[QueuedRecord, Record]] = []
        limit_bytes = MAX_GET_BYTES // 2 if returned else MAX_GET_BYTES
        if not dead:
            queue.turn += 1
            share = min(len(returned), (limit + queue.turn % 2) // 2)
            for shard, sequence, record in self._new(queue, limit - share, limit_bytes):
                id = row_id(shard.shard_no, sequence)
                chosen.append((QueuedRecord(queue.queue_no, id, 0, 0, 0, 0, 0, now_ms, record.arrival_ms), record))
            del returned[limit - len(chosen) :]
        if returned:
            places = {(shelf_of(row.id), sequence_of(row.id)): row for row in returned}
            records = self._cursors.fetch(queue.stream, places)
            for place, row in places.items():
                if place not in records:
                    continue
                limit_bytes -= len(records[place].data)
                if limit_bytes < 0 and chosen:
                    break
                chosen.append((row, records[place]))
        return chosen

    def _new(self, queue: StreamQueue, limit: int, limit_bytes: int) -> Iterable[tuple[Shard, int, Record]]:
        """What was not received before. Another shard comes first each time."""
        owner_no = queue.queue_no
        shards = [s for s in queue.stream.shards.values() if self._cursors.has_more(owner_no, s)] if limit else []
        found: list[tuple[Shard, int, Record]] = []
        first = queue.turn // 2 % len(shards) if shards else 0
        for shard in shards[first:] + shards[:first]:
            taken = self._cursors.take(owner_no, shard, limit - len(found), limit_bytes)
            for sequence, record in taken:
                limit_bytes -= len(record.data)
                found.append((shard, sequence, record))
            if len(found) == limit or limit_bytes <= 0:
                break
        return found

    # after the receive

    def acknowledge(self, queue: StreamQueue, handles: Sequence[str]) -> list[DomainError | None]:
        """Each one's own outcome: ResourceNotFound…, InvalidArgumentException or none. So with the next five."""
        return self._acknowledge(queue, False, handles)

    def acknowledge_dead_letters(self, queue: StreamQueue, handles: Sequence[str]) -> list[DomainError | None]:
        return self._acknowledge(queue, True, handles)

    def _acknowledge(self, queue: StreamQueue, dead: bool, handles: Sequence[str]) -> list[DomainError | None]:
        rows, outcomes = self._last_deliveries(queue, dead, handles)
        if rows:
            self._store.delete(queue.queue_no, [row.id for row in rows.values()])
        if self._ledger.is_on:
            self._note(queue, rows.values(), self._ledger.acknowledged_record)
        return outcomes

    def _note(self, queue: StreamQueue, rows: Iterable[QueuedRecord], note: Callable[[str, str, int], None]) -> None:
        shards = {shard.shard_no: shard for shard in queue.stream.shards.values()}
        for row in rows:
            shard = shards.get(shelf_of(row.id))
            if shard is not None:
                number = str(shard.sequence_number(sequence_of(row.id), row.arrival_ms))
                note(queue.arn, number, row.receive_count + row.dead_receive_count)

    def restore(self, queue: StreamQueue, handles: Sequence[str]) -> list[DomainError | None]:
        """Dead letters become records like others, visible at once."""
        rows, outcomes = self._last_deliveries(queue, True, handles)
        now_ms = self._clock.now_ms()
        self._put(
            queue,
            [
                # With the next delivery's number their handles are used up.
                row._replace(
                    visible_ms=now_ms, dead=0, delivery_no=row.delivery_no + 1, receive_count=0, dead_receive_count=0
                )
                for row in rows.values()
            ],
        )
        return outcomes

    def change_visibility(self, queue: StreamQueue, entries: Sequence[tuple[str, int]]) -> list[DomainError | None]:
        """Entries are (receipt handle, timeout in seconds)."""
        return self._change_visibility(queue, False, entries)

    def change_dead_letter_visibility(
        self, queue: StreamQueue, entries: Sequence[tuple[str, int]]
    ) -> list[DomainError | None]:
        return self._change_visibility(queue, True, entries)

    def _change_visibility(
        self, queue: StreamQueue, dead: bool, entries: Sequence[tuple[str, int]]
    ) -> list[DomainError | None]:
        timeouts_s = dict(entries)
        now_ms = self._clock.now_ms()
        rows, outcomes = self._last_deliveries(queue, dead, [handle for handle, _ in entries], in_flight=True)
        self._put(queue, [row._replace(visible_ms=now_ms + timeouts_s[handle] * 1000) for handle, row in rows.items()])
        if self._ledger.is_on:
            for handle, row in rows.items():
                self._note(queue, [row], partial(self._ledger.changed_record, now_ms + timeouts_s[handle] * 1000))
        return outcomes

    def _put(self, queue: StreamQueue, rows: Sequence[QueuedRecord]) -> None:
        if rows:
            self._store.put(rows)
            self._touch(queue)

    def _last_deliveries(
        self, queue: StreamQueue, dead: bool, handles: Sequence[str], *, in_flight: bool = False
    ) -> tuple[dict[str, QueuedRecord], list[DomainError | None]]:
        """The rows whose last delivery these handles name, and what is wrong with the other handles."""
        self._commit.enter()
        tag = queue.dead_tag if dead else queue.tag
        read = {handle: receipts.read(handle, tag) for handle in handles}
        found = self._store.get(queue.queue_no, [place[0] for place in read.values() if place is not None])
        by_id = {row.id: row for row in found}
        now_ms = self._clock.now_ms()
        horizon_ms = queue.stream.horizon_ms(now_ms)
        rows: dict[str, QueuedRecord] = {}
        errors: dict[str, DomainError] = {}
        for handle, place in read.items():
            row = None if place is None else by_id.get(place[0])
            if place is None:
                errors[handle] = InvalidArgumentException("The receipt handle is not of this queue and operation.")
            elif (
                row is None
                or row.delivery_no != place[1]
                or row.arrival_ms < horizon_ms
                or queue.status == DELETING
                or (in_flight and row.visible_ms <= now_ms)
            ):
                errors[handle] = ResourceNotFoundException(
                    "The receipt handle is no longer valid: its record was acknowledged, received again, restored, "
                    "is no longer in flight or past the stream's retention period, or the queue is being deleted."
                )
            else:
                rows[handle] = row
        return rows, [errors.get(handle) for handle in handles]

    # who waits

    def _on_arrival(self, shard: Shard) -> None:
        for arn in self._queues.of_stream(shard.stream):
            self._touch_line((arn, False))

    def _touch(self, queue: StreamQueue) -> None:
        """Something may have become receivable, now or at another moment than before."""
        self._touch_line((queue.arn, False))
        self._touch_line((queue.arn, True))

    def _touch_line(self, key: tuple[str, bool]) -> None:
        line = self._lines.get(key)
        if line is not None and line.waiters:
            self._touched[key] = None

    def _before_commit(self) -> None:
        while self._touched:  # a receive touches the other line, where it was a last one
            key = next(iter(self._touched))
            del self._touched[key]
            self._serve(key)

    def _serve(self, key: tuple[str, bool]) -> None:
        for waiter in list(self._lines[key].waiters):
            try:
                found = waiter.take()
            except Exception:  # what cannot be read must not be tried again with each group
                waiter.give_up()
                raise
            if not found:
                break
            waiter.finish(found)
        self._appoint_wake(key)

    def _appoint_wake(self, key: tuple[str, bool]) -> None:
        """Makes the appointment for the next record that those who wait could get."""
        line, queue = self._lines[key], self._queues.by_arn.get(key[0])
        if not line.waiters or queue is None:
            return
        next_ms = self._store.next_visible_ms(queue.queue_no, int(key[1]), self._clock.now_ms())
        if line.wake is not None and line.wake.when_ms == next_ms:
            return
        line.sleep()
        if next_ms is not None:
            line.wake = self._registry.call_at(next_ms, self._wake, key)

    def _wake(self, key: tuple[str, bool]) -> None:
        self._lines[key].wake = None
        self._touch_line(key)

    def _on_change(self, queue: StreamQueue) -> None:
        self._touch(queue)

    def _on_remove(self, queue: StreamQueue) -> None:
        for dead in (False, True):
            line = self._lines.pop((queue.arn, dead), None)
            self._touched.pop((queue.arn, dead), None)
            if line is not None:
                line.give_up()
        self._sweeper.soon()

    def close(self) -> None:
        """Ends the long polls, and any that comes after."""
        self._ending = True
        self.end_waiting()

    def end_waiting(self) -> None:
        """Answers the long polls with what there is, nothing."""
        for line in list(self._lines.values()):
            line.give_up()

    # sweeps, each in steps of its own transaction

    def _resume(self) -> None:
        """After a start, or a group that failed: what the store knows was read anew."""
        self._touched.clear()
        for key, line in list(self._lines.items()):
            line.sleep()
            if key[0] not in self._queues.by_arn:
                del self._lines[key]
                line.give_up()
            elif line.waiters:
                line.wake = self._registry.call_at(0, self._wake, key)
        for queue in self._queues.by_arn.values():
            self._appoint_expiry(queue, 0)
        self._sweeper.resume()

    def _appoint_expiry(self, queue: StreamQueue, due_ms: int) -> None:
        if queue.expiry is not None:
            queue.expiry.cancel()
        queue.expiry = self._registry.call_at(due_ms, self._expire, queue)

    def _expire(self, queue: StreamQueue) -> None:
        """Deletes the rows of records that are past the stream's retention."""
        if self._queues.by_arn.get(queue.arn) is not queue:
            return
        queue.expiry = None
        horizon_ms = queue.stream.horizon_ms(self._clock.now_ms())
        there = {shard.shard_no for shard in queue.stream.shards.values()}
        oldest_ms: int | None = None
        shard_no = 0
        while (first := self._store.first_from(queue.queue_no, shard_no)) is not None:
            shard_no, arrival_ms = shelf_of(first[0]), first[1]
            before_ms = horizon_ms if shard_no in there else _FOREVER
            if arrival_ms < before_ms:
                if self._store.expire(queue.queue_no, shard_no, before_ms, SWEEP_ROWS) == SWEEP_ROWS:
                    self._clock.soon(partial(self._commit.run, self._expire, queue))
                    return
            else:
                oldest_ms = arrival_ms if oldest_ms is None else min(oldest_ms, arrival_ms)
                shard_no += 1
        if oldest_ms is not None:
            self._appoint_expiry(queue, oldest_ms + queue.stream.retention_ms)
