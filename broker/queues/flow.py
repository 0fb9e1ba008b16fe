"""Messages in and out of queues: the one place where rows, counters, groups, timers and waiters are kept in step.

Every method runs inside the group commit. What must be done once for the whole group (counters, waiting receivers)
is noted in sets and done in `before_commit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.faults import Faults
from broker.ledger import Ledger
from broker.names import World
from broker.queues import dead_letters, faults, fifo, standard
from broker.queues.queue import Queue
from broker.store.port import UNGROUPED, NewMessage, QueueStore, StoredMessage, row_id
from broker.sweeper import Sweeper

SWEEP_ROWS = 500  # a step of a long sweep: some 2 ms


class Flow:
    """All queues of a broker, and the movement of messages through them."""

    def __init__(self, store: QueueStore, clock: Clock, commit: GroupCommit, faults: Faults, ledger: Ledger) -> None:
        self.store = store
        self.clock = clock
        self.commit = commit
        self.faults = faults
        self.ledger = ledger
        self.queues: dict[tuple[World, str], Queue] = {}
        self.by_arn: dict[str, Queue] = {}
        self.ending = False  # nobody waits any more
        self._counted: set[Queue] = set()
        self._touched: dict[Queue, None] = {}
        self.sweep_soon = Sweeper(clock, commit, lambda: store.sweep_shelves(SWEEP_ROWS)).soon
        self._forgetting = False
        commit.before_commit.append(self._before_commit)

    # definitions

    def add(self, queue: Queue) -> None:
        self.queues[queue.world, queue.name] = queue
        self.by_arn[queue.arn] = queue

    def remove(self, queue: Queue) -> None:
        """Forgets a queue; who waits for its messages is answered with nothing."""
        for waiter in list(queue.waiters):
            waiter.give_up()
        del self.queues[queue.world, queue.name]
        del self.by_arn[queue.arn]
        self._counted.discard(queue)
        self._touched.pop(queue, None)
        for timer in (queue.wake, queue.expiry):
            if timer is not None:
                timer.cancel()

    def resume_sweeps(self) -> None:
        self.sweep_soon()
        self._forgetting = False
        self.forget_later()

    # messages

    def copied(self, message: StoredMessage, queue: Queue, now_ms: int, *, keeps_age: bool = False) -> NewMessage:
        """A stored message on its way into another queue, as if it were sent now or as old as it was."""
        queue.last_sequence += 1
        return NewMessage(
            id=row_id(queue.shelf_no, queue.last_sequence, moved=keeps_age),
            shelf_no=queue.shelf_no,
            visible_ms=now_ms,
            sent_ms=message.sent_ms if keeps_age else now_ms,
            message_id=message.message_id,
            body=message.body,
            md5=message.md5,
            attributes=message.attributes,
            attributes_md5=message.attributes_md5,
            trace_header=message.trace_header,
            sender_id=message.sender_id,
            group_id=message.group_id,
            deduplication_id=message.deduplication_id,
            dead_letter_source=None,
        )

    def insert(self, queue: Queue, messages: Sequence[NewMessage]) -> None:
        if not queue.fifo:
            messages = self._with_groups(queue, messages)
        self.store.insert(messages)
        self._arrived(queue, messages)

    def insert_all(self, arrivals: Mapping[Queue, Sequence[NewMessage]]) -> None:
        """Into many queues with one call on the store."""
        rows: list[NewMessage] = []
        for queue, messages in arrivals.items():
            rows += messages if queue.fifo else self._with_groups(queue, messages)
        self.store.insert(rows)
        for queue, messages in arrivals.items():
            self._arrived(queue, messages)
        if any(queue.fifo for queue in arrivals):
            self.forget_later()

    def _arrived(self, queue: Queue, messages: Sequence[NewMessage]) -> None:
        queue.message_count += len(messages)
        self._counted.add(queue)
        if queue.fifo:
            self.store.add_groups((m.shelf_no, m.group_id or "", m.visible_ms, m.id) for m in messages)
        self.touch(queue)
        oldest_ms = messages[0].sent_ms if len(messages) == 1 else min(m.sent_ms for m in messages)
        due_ms = oldest_ms + queue.settings.retention_ms
        if queue.expiry is None or due_ms < queue.expiry.when_ms:  # dead letters bring their age
            self._appoint_expiry(queue, due_ms)

    def _with_groups(self, queue: Queue, messages: Sequence[NewMessage]) -> Sequence[NewMessage]:
        """On a fair queue each message has a group, from the first message with one on."""
        if not queue.fair:
            for message in messages:
                if message.group_id is not None:
                    break
            else:
                return messages
            queue.fair = True
            self.store.put_queue(queue.record())
        return [m if m.group_id is not None else m._replace(group_id=UNGROUPED) for m in messages]

    def receive(self, queue: Queue, limit: int, now_ms: int, visible_ms: int) -> list[StoredMessage]:
        """Up to `limit` messages, hidden until `visible_ms`. Dead letters move and expired ones go on the way."""
        if queue.message_count == 0:
            return []
        receive = fifo.receive if queue.fifo else standard.receive
        messages = receive(self, queue, limit, now_ms, visible_ms)
        queue.in_flight_bound += len(messages)
        if messages and self.ledger.is_on:
            self.ledger.delivered(queue.arn, messages)
        if "receive" in self.faults.points:
            return faults.on_receive(self, queue, messages, now_ms)
        return messages

    def sift(self, queue: Queue, received: list[StoredMessage], now_ms: int) -> list[StoredMessage]:
        """Those of the received messages that may be handed out."""
        settings = queue.settings
        oldest_ms = now_ms - settings.retention_ms
        redrive = settings.redrive
        target = None if redrive is None else self.by_arn.get(redrive.dead_letter_target_arn)
        limit = 1 << 62 if redrive is None or target is None else redrive.max_receive_count
        good = [m for m in received if m.receive_count <= limit and m.sent_ms > oldest_ms]
        if len(good) != len(received):
            self.delete(queue, [m.id for m in received if m.sent_ms <= oldest_ms])
            if self.ledger.is_on:
                self.ledger.expired(queue.arn, [(m.id, m.message_id) for m in received if m.sent_ms <= oldest_ms])
            dead = [m for m in received if m.receive_count > limit and m.sent_ms > oldest_ms]
            if dead and target is not None:
                dead_letters.move(self, queue, target, dead, now_ms)
        if target is not None and "receive" in self.faults.points:
            good = faults.die_early(self, queue, target, good, now_ms)
        return good

    def delete(self, queue: Queue, ids: Sequence[int]) -> None:
        """Takes messages away, whatever their state."""
        if not ids:
            return
        groups = self.store.delete_ids(ids)
        queue.message_count -= len(groups)
        self._counted.add(queue)
        if queue.fifo:
            for group_id in set(groups):
                fifo.regroup(self, queue, group_id or "")

    def delete_received(self, queue: Queue, receives: Sequence[tuple[int, int]]) -> None:
        """Takes away those of (id, receive count) whose last receive that was."""
        deleted = self.store.delete(receives)
        if deleted:
            queue.message_count -= deleted
            self._counted.add(queue)

    def empty(self, queue: Queue) -> None:
        """Takes all messages away at once; the rows go later."""
        self.store.discard_shelf(queue.shelf_no)
        queue.shelf_no = self.store.next_no()
        queue.message_count = queue.in_flight_bound = 0
        self._counted.discard(queue)
        self.store.put_queue(queue.record())
        if self.ledger.is_on:
            self.ledger.purged(queue.arn)
        self.sweep_soon()

    def touch(self, queue: Queue) -> None:
        """Something may have become receivable."""
        if queue.waiters:
            self._touched[queue] = None

    def look_again(self, queue: Queue) -> None:
        """A receive found dead letters only, and gave up before it had seen all: who waits tries once more."""
        self.clock.soon(partial(self.commit.run, self.touch, queue))

    # once a group

    def _before_commit(self) -> None:
        while self._touched:  # a dead-letter move may touch another queue
            queue = next(iter(self._touched))
            del self._touched[queue]
            self._serve(queue)
        if self._counted:
            self.store.save_counters([(q.message_count, q.last_sequence, q.queue_no) for q in self._counted])
            self._counted.clear()

    def _serve(self, queue: Queue) -> None:
        for waiter in list(queue.waiters):
            messages = waiter.take()
            if not messages:
                break
            waiter.finish(messages)
        self.appoint_wake(queue)

    def appoint_wake(self, queue: Queue) -> None:
        """Makes the appointment for the next message that those who wait could get."""
        if not queue.waiters:
            return
        now_ms = self.clock.now_ms()
        next_ms = (self.store.next_group_ms if queue.fifo else self.store.next_visible_ms)(queue.shelf_no, now_ms)
        if queue.wake is not None:
            if queue.wake.when_ms == next_ms:
                return
            queue.wake.cancel()
            queue.wake = None
        if next_ms is not None:
            queue.wake = self.clock.call_at(next_ms, partial(self.commit.run, self._wake, queue))

    def _wake(self, queue: Queue) -> None:
        queue.wake = None
        self.touch(queue)

    # sweeps, each in steps of its own transaction

    def _appoint_expiry(self, queue: Queue, due_ms: int) -> None:
        if queue.expiry is not None:
            queue.expiry.cancel()
        queue.expiry = self.clock.call_at(due_ms, partial(self.commit.run, self.expire, queue))

    def expire(self, queue: Queue) -> None:
        """Deletes what is past its retention, then makes the next appointment."""
        if queue.expiry is not None:
            queue.expiry.cancel()
            queue.expiry = None
        if self.by_arn.get(queue.arn) is not queue:
            return
        self.commit.enter()
        before_ms = self.clock.now_ms() - queue.settings.retention_ms + 1
        ids = self.store.ids_sent_before(queue.shelf_no, before_ms, SWEEP_ROWS)
        if ids and self.ledger.is_on:
            self.ledger.expired(queue.arn, self._message_ids(ids))
        self.delete(queue, ids)
        if len(ids) == SWEEP_ROWS:
            self.clock.soon(partial(self.commit.run, self.expire, queue))
        elif (oldest_ms := self.store.oldest_sent_ms(queue.shelf_no)) is not None:
            self._appoint_expiry(queue, oldest_ms + queue.settings.retention_ms)

    def purge_step(self, queue: Queue) -> None:
        """Deletes some of what PurgeQueue was called for, where that is not done at once."""
        if queue.purge_sequence is None or self.by_arn.get(queue.arn) is not queue:
            return
        self.commit.enter()
        ids = self.store.ids_through(queue.shelf_no, queue.purge_sequence, SWEEP_ROWS)
        if ids and self.ledger.is_on:
            self.ledger.purged(queue.arn, self._message_ids(ids))
        self.delete(queue, ids)
        if len(ids) == SWEEP_ROWS:
            self.clock.soon(partial(self.commit.run, self.purge_step, queue))
        else:
            queue.purge_sequence = None
            self.store.put_queue(queue.record())

    def _message_ids(self, ids: Sequence[int]) -> list[tuple[int, str]]:
        return [(id, message_id) for id, (message_id, _) in self.store.identify(ids).items()]

    def forget_later(self) -> None:
        """Makes the appointment for dropping deduplication ids whose five minutes are over."""
        if self._forgetting:
            return
        due_ms = self.store.next_forget_ms()
        if due_ms is not None:
            self._forgetting = True
            # Not more often than once a second: who asks for an expired one is told that it is not there.
            self.clock.call_at(max(due_ms, self.clock.now_ms() + 1000), self._forget)

    def _forget(self) -> None:
        self._forgetting = False
        self.commit.run(self._forget_step)

    def _forget_step(self) -> None:
        if self.store.forget_expired(self.clock.now_ms(), SWEEP_ROWS) >= SWEEP_ROWS:
            self._forgetting = True
            self.clock.soon(self._forget)
        else:
            self.forget_later()
