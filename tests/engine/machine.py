"""Random operations at random times, on the engine and on the model, compared after each.

An operation's group stays open until a rule flushes it, so that groups of several operations, failing commits and
crashes are part of it. What waits (long polls) belongs to the process and not to the store: it outlives a failed
group and not a restart.
"""

from __future__ import annotations

import copy
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.errors import (
    DomainError,
    InvalidParameterValue,
    MessageNotInflight,
    ReceiptHandleIsInvalid,
    UnsupportedOperation,
)
from broker.queues import Queue, Sending, Sent, Waiter
from broker.queues.move_tasks import RUNNING, MoveTask
from broker.queues.standard import MAX_ROUNDS
from broker.store.port import StoredMessage
from engine.model import ATTEMPT_MS, DEDUPLICATION_MS, LONGEST_MS, Attempt, Message, QueueModel
from engine.support import WORLD, Engine, Poll

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

places = st.sampled_from([0, 0, 0, 0, 1, 2, 2])  # which queue: the first is the busiest
recent = st.integers(0, 30)  # which handle, counted from the last
limits = st.sampled_from([1, 2, 3, 10])
timeouts_s = st.sampled_from([None, None, 0, 1, 5, 60, 43_200])
flushes = st.sampled_from([True, True, True, False])
moments_ms = st.one_of(
    st.integers(0, 3000), st.sampled_from([SECOND, 2 * SECOND, 5 * SECOND, 30 * SECOND, 31 * SECOND, MINUTE])
)
spans_ms = st.one_of(
    st.sampled_from([5 * MINUTE - 1, 5 * MINUTE, 15 * MINUTE]),
    st.sampled_from([HOUR, 12 * HOUR, DAY, 4 * DAY, 14 * DAY]),
)
groups = st.sampled_from(["g", "g", "h", "i"])


@dataclass(frozen=True)
class Handle:
    queue: str
    born: int
    serial: str
    id: int
    receives: int
    text: str


def outcome_of(operation: Callable[[], object]) -> DomainError | None:
    try:
        operation()
    except DomainError as error:
        return error
    return None


def kind_of(outcome: DomainError | None) -> type[DomainError] | None:
    return None if outcome is None else type(outcome)


def in_groups(messages: dict[str, Message]) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for message in messages.values():
        found.setdefault(message.group, []).append(message.serial)
    return found


class QueueMachine(RuleBasedStateMachine):
    """Two queues and their dead-letter queue."""

    names: ClassVar[list[str]]
    on_disk: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("sidebus").setLevel(logging.CRITICAL)  # groups fail on purpose here
        self.directories: list[str] = []
        self.errors: list[AssertionError] = []  # of what the engine called, and would only log
        self.engine = Engine(self.new_directory() if self.on_disk else None)
        self.model: dict[str, QueueModel] = {}
        self.handles: list[Handle] = []
        self.tasks: dict[str, tuple[str, str, str | None]] = {}  # task id -> status when last seen, source, destination
        self.moved: dict[str, int] = {}
        self.polls: list[tuple[Poll, str, int, int, int]] = []  # with queue name, limit, timeout_ms or -1, deadline_ms
        self.closed: set[str] = set()  # queues whose long polls may end early
        self.serial = self.births = self.crashes = 0
        self.is_open = False  # a group that was not flushed yet
        self.seen_ms = self.now_ms
        self.committed: Any = None
        self.watch_commits()

    @initialize(max_receives=st.integers(0, 3), batch=st.lists(groups, max_size=10))
    def begin(self, max_receives: int, batch: list[str]) -> None:
        for name in self.names:
            self.create(name)
        self.set_redrive(0, max_receives)
        if batch:
            self.send_batch(0, "red", None, batch, flush=True)
        self.flush()

    def teardown(self) -> None:
        self.closed |= set(self.names)
        self.engine.close()
        for directory in self.directories:
            shutil.rmtree(directory)
        logging.getLogger("sidebus").setLevel(logging.NOTSET)

    def watch_commits(self) -> None:
        """What has moved is looked for with each commit: one message may go two ways in a moment."""
        commit = self.engine.store.commit

        def committed() -> None:
            commit()
            self.noting_errors(self.reconcile)

        self.engine.store.commit = committed  # type: ignore[method-assign]

    def noting_errors(self, check: Callable[..., object], *arguments: Any) -> None:
        try:
            check(*arguments)
        except AssertionError as error:
            self.errors.append(error)

    def new_directory(self) -> Path:
        self.directories.append(tempfile.mkdtemp(prefix="sidebus-test-"))
        return Path(self.directories[-1])

    @property
    def now_ms(self) -> int:
        return self.engine.clock.now_ms()

    def pick(self, place: int) -> tuple[Queue, QueueModel]:
        name = self.names[place]
        return self.engine.find(name), self.model[name]

    def done(self, flush: bool) -> None:
        if flush:
            self.flush()
        else:
            self.is_open = True

    def flush(self) -> None:
        """What is open is committed, and what is due is done."""
        self.engine.advance(0)
        for error in self.errors:
            raise error
        self.is_open = False
        self.reconcile()
        self.closed.clear()
        self.committed = copy.deepcopy((self.model, self.handles, self.tasks, self.moved))

    def forget_open_group(self) -> None:
        self.model, self.handles, self.tasks, self.moved = copy.deepcopy(self.committed)

    # what the engine does of its own accord: expiry, dead letters, move tasks

    def listings(self) -> dict[str, dict[str, StoredMessage]]:
        return {
            name: {message.trace_header or "": message for message in self.engine.listing(self.engine.find(name))}
            for name in self.names
        }

    def reconcile(self) -> int:
        """Accounts for each message that has left a queue or come to one; how many left."""
        now_ms, listings = self.now_ms, self.listings()
        left = 0
        running = [(id, *task[1:]) for id, task in self.tasks.items() if task[0] == RUNNING]
        for name in self.names:
            model, listing = self.model[name], listings[name]
            order = list(model.messages)
            left_groups: dict[str | None, list[str]] = {}
            for message in [m for m in model.messages.values() if m.serial not in listing]:
                left += 1
                if model.is_expired(message, now_ms):
                    del model.messages[message.serial]
                    continue
                left_groups.setdefault(message.group, []).append(message.serial)
                self.move(model, message, listings, running)
            for group, serials in left_groups.items():
                if model.fifo:  # they were the first of their group
                    earlier = order[: order.index(serials[-1])]
                    assert not [serial for serial in earlier if serial in in_groups(model.messages).get(group, [])]
        for name in self.names:
            assert listings[name].keys() == self.model[name].messages.keys(), name
            if self.model[name].fifo:  # groups may overtake each other on their way to another queue
                messages = {serial: self.model[name].messages[serial] for serial in listings[name]}
                assert in_groups(messages) == in_groups(self.model[name].messages), name
                self.model[name].messages = messages
        for task_id, (status, source, destination) in self.tasks.items():
            if status == RUNNING:
                self.tasks[task_id] = (self.status_of(task_id, source), source, destination)
        self.seen_ms = now_ms
        return left

    def move(
        self,
        model: QueueModel,
        message: Message,
        listings: dict[str, dict[str, StoredMessage]],
        running: list[tuple[str, str, str | None]],
    ) -> None:
        """A message that is not expired has left its queue: it must be where dead letters or a task bring it."""
        now_ms = self.now_ms
        del model.messages[message.serial]
        tasks = [(id, destination or message.source) for id, source, destination in running if source == model.name]
        if tasks:
            [(task_id, target_name)] = tasks
            self.moved[task_id] = self.moved.get(task_id, 0) + 1
            assert target_name in self.model
            target = self.model[target_name]
            moved = Message(
                message.serial, message.body, message.group, message.deduplication_id, now_ms, message.visible_ms
            )
        else:
            assert model.is_dead(message, now_ms), f"{message} is lost from {model.name}"
            assert model.redrive is not None
            target = self.model[model.redrive[0]]
            moved = copy.copy(message)
            moved.id, moved.source = -1, model.name
            moved.earlier_receives, moved.receives = message.earlier_receives + message.receives, 0
        stored = listings[target.name].get(message.serial)
        if stored is None:  # moved, and expired since
            assert target.is_expired(moved, now_ms) or target.retention_ms <= now_ms - self.seen_ms
            return
        if tasks or target.fifo:
            moved.sent_ms = stored.sent_ms
            assert self.seen_ms <= moved.sent_ms <= now_ms
        assert self.seen_ms <= stored.visible_ms <= now_ms or stored.receive_count
        moved.visible_ms = stored.visible_ms if not stored.receive_count else now_ms
        target.messages[message.serial] = moved

    def status_of(self, task_id: str, source: str) -> str:
        for task in self.engine.move_tasks.newest(WORLD, self.engine.find(source).arn, 10):
            if task.task_id == task_id:
                assert task.moved == self.moved.get(task_id, 0)
                return task.status
        return "GONE"

    # receives

    def check_received(self, model: QueueModel, received: list[StoredMessage], limit: int, timeout_ms: int) -> None:
        """One receive, just done: it gave what it may, and all that it should."""
        now_ms = self.now_ms
        left = self.reconcile()
        may = model.receivable(now_ms)
        assert len(received) <= limit
        serials = [stored.trace_header or "" for stored in received]
        assert len(set(serials)) == len(serials)
        assert set(serials) <= {message.serial for message in may}
        if model.fifo:
            for group in {message.group for message in may}:
                of_group = [m.serial for m in may if m.group == group]
                taken = [s for s in serials if model.messages[s].group == group]
                assert taken == of_group[: len(taken)], "a group is given in order, from its first message on"
        for serial, stored in zip(serials, received, strict=True):
            message = model.messages[serial]
            assert not model.is_dead(message, now_ms)
            message.receives += 1
            message.received_ms, message.visible_ms = now_ms, now_ms + timeout_ms
            model.check_fields(stored)
            self.remember_handle(model, message)
        # One that meets dead letters or expired messages may give less: it gives up after some rounds, takes one only
        # where it hides nothing, and what is behind a dead letter in a group waits for what it took.
        if len(received) < limit and (not left or (left < MAX_ROUNDS and timeout_ms and not model.fifo)):
            assert {message.serial for message in may} == set(serials)

    def remember_handle(self, model: QueueModel, message: Message) -> None:
        queue = self.engine.find(model.name)
        stored = next(m for m in self.engine.store.queues.get([message.id]))
        text = self.engine.handle(queue, stored)
        self.handles.append(Handle(model.name, model.born, message.serial, message.id, message.receives, text))

    def on_answer(self, poll: Poll) -> None:
        entry = next(entry for entry in self.polls if entry[0] is poll)
        _, name, limit, timeout_ms, deadline_ms = entry
        assert poll.messages is not None
        if poll.messages:
            model = self.model[name]
            assert next(other for other in self.polls if other[1] == name) is entry, "the one that came first is first"
            self.check_received(model, poll.messages, limit, model.visibility_ms if timeout_ms == -1 else timeout_ms)
        elif name not in self.closed:
            assert self.now_ms == deadline_ms
        self.polls.remove(entry)

    # rules: producers

    def new_serial(self) -> str:
        self.serial += 1
        return f"{self.serial:06}"

    def sending(
        self, model: QueueModel, body: str, delay_s: int | None, group: str | None, deduplication_id: str | None
    ) -> Sending:
        if model.fifo:
            if deduplication_id is None and not model.content_based:
                deduplication_id = self.new_serial()
            return Sending(body, group_id=group, deduplication_id=deduplication_id, trace_header=self.new_serial())
        return Sending(body, delay_s, group_id=group, trace_header=self.new_serial())

    def check_sent(self, model: QueueModel, sending: Sending, sent: Sent) -> None:
        now_ms = self.now_ms
        deduplication_id = None
        if model.fifo:
            assert sending.group_id is not None
            key = sending.deduplication_id or f"the digest of {sending.body}"
            first = model.find_duplicate(sending.group_id, key, now_ms)
            if first is not None:
                assert (sent.message_id, sent.sequence_number) == first
                return
            assert sent.sequence_number is not None
            assert len(sent.sequence_number) == 20
            assert int(sent.sequence_number) > model.last_sequence_number
            model.last_sequence_number = int(sent.sequence_number)
            scope = sending.group_id if model.by_group else ""
            model.seen[scope, key] = (now_ms + DEDUPLICATION_MS, sent.message_id, sent.sequence_number)
            stored = self.listings()[model.name][sending.trace_header or ""]
            assert stored.message_id == sent.message_id
            deduplication_id = stored.deduplication_id
            assert deduplication_id == sending.deduplication_id or sending.deduplication_id is None
        delay_ms = model.delay_ms if sending.delay_s is None else sending.delay_s * SECOND
        message = Message(
            sending.trace_header or "", sending.body, sending.group_id, deduplication_id, now_ms, now_ms + delay_ms
        )
        model.messages[message.serial] = message

    bodies = st.sampled_from(["red", "green", "blue"])
    delays_s = st.sampled_from([None, None, None, 0, 2, 900])
    deduplication_ids = st.sampled_from([None, None, "one", "two"])

    @rule(place=places, body=bodies, delay_s=delays_s, group=groups, key=deduplication_ids, flush=flushes)
    def send(self, place: int, body: str, delay_s: int | None, group: str | None, key: str | None, flush: bool) -> None:
        queue, model = self.pick(place)
        sending = self.sending(model, body, delay_s, self.group_for(model, group), key)
        self.check_sent(model, sending, self.engine.messaging.send(queue, sending, "me"))
        self.done(flush)

    def group_for(self, model: QueueModel, group: str | None) -> str | None:
        return group

    @rule(place=places, body=bodies, delay_s=delays_s, batch=st.lists(groups, min_size=1, max_size=10), flush=flushes)
    def send_batch(self, place: int, body: str, delay_s: int | None, batch: list[str], flush: bool) -> None:
        queue, model = self.pick(place)
        entries = [
            (str(n), self.sending(model, body, delay_s, self.group_for(model, group), None))
            for n, group in enumerate(batch)
        ]
        outcomes = self.engine.messaging.send_batch(queue, entries, "me")
        for (_, sending), outcome in zip(entries, outcomes, strict=True):
            assert isinstance(outcome, Sent)
            self.check_sent(model, sending, outcome)
        self.done(flush)

    # rules: consumers

    @rule(place=places, limit=limits)
    def receive_and_let_go(self, place: int, limit: int) -> None:
        self.receive(place, limit, None, None, flush=True)
        self.advance(self.model[self.names[place]].visibility_ms)

    @rule(place=places, limit=limits, flush=flushes)
    def receive_and_delete_some(self, place: int, limit: int, flush: bool) -> None:
        told = len(self.handles)
        self.receive(place, limit, None, None, flush=False)
        for handle in self.handles[told::2]:
            self.delete_one(*self.pick(place), handle)
        self.done(flush)

    @rule(place=places, limit=limits, timeout_s=timeouts_s, attempt=st.sampled_from([None, None, "a"]), flush=flushes)
    def receive(self, place: int, limit: int, timeout_s: int | None, attempt: str | None, flush: bool) -> None:
        queue, model = self.pick(place)
        attempt = attempt if model.fifo else None
        timeout_ms = model.visibility_ms if timeout_s is None else timeout_s * SECOND
        received = self.engine.messaging.receive(queue, limit, timeout_s, None, attempt)
        assert isinstance(received, list)
        repeated = model.repeated_attempt(attempt, self.now_ms)
        if repeated:
            assert [stored.trace_header for stored in received] == [message.serial for message in repeated]
            assert [stored.receive_count for stored in received] == [message.receives for message in repeated]
            for message in repeated:
                message.visible_ms = self.now_ms + timeout_ms
        else:
            self.check_received(model, received, limit, timeout_ms)
        if attempt is not None and received:
            # In the order of sending: who came back from the dead letters is behind those sent meanwhile.
            told = [model.messages[stored.trace_header or ""] for stored in sorted(received)]
            model.attempts[attempt] = Attempt(
                self.now_ms + ATTEMPT_MS, [(m.serial, m.receives, m.visible_ms) for m in told]
            )
        self.done(flush)

    @rule(place=places, limit=limits, timeout_s=timeouts_s, wait_s=st.sampled_from([1, 5, 20]), flush=flushes)
    def long_poll(self, place: int, limit: int, timeout_s: int | None, wait_s: int, flush: bool) -> None:
        queue, model = self.pick(place)
        received = self.engine.messaging.receive(queue, limit, timeout_s, wait_s)
        timeout_ms = model.visibility_ms if timeout_s is None else timeout_s * SECOND
        self.check_received(model, received if isinstance(received, list) else [], limit, timeout_ms)
        if isinstance(received, Waiter):
            poll = Poll(self.engine, received)
            take = received.done

            def answered(messages: list[StoredMessage]) -> None:
                assert take is not None
                take(messages)
                self.noting_errors(self.on_answer, poll)

            received.done = answered
            deadline_ms = self.now_ms + wait_s * SECOND
            self.polls.append((poll, model.name, limit, -1 if timeout_s is None else timeout_ms, deadline_ms))
        self.done(flush)

    @precondition(lambda self: self.polls)
    @rule(which=recent)
    def hang_up(self, which: int) -> None:
        entry = self.polls.pop(which % len(self.polls))
        entry[0].cancel()

    def expected_of_handle(self, model: QueueModel, handle: Handle) -> tuple[Message | None, type[DomainError] | None]:
        """The message that a handle stands for when it is used on this queue, or what is wrong with it."""
        if (handle.queue, handle.born) != (model.name, model.born):
            return None, ReceiptHandleIsInvalid
        message = model.messages.get(handle.serial)
        if message is None or message.id != handle.id:
            return None, None
        if message.receives != handle.receives:
            return None, InvalidParameterValue
        return message, None

    def delete_in_model(self, model: QueueModel, handle: Handle) -> type[DomainError] | None:
        message, error = self.expected_of_handle(model, handle)
        if not model.fifo and error is InvalidParameterValue:
            return None  # a standard queue takes an old handle and does nothing
        if message is not None:
            if model.fifo and message.visible_ms <= self.now_ms:
                return InvalidParameterValue
            del model.messages[message.serial]
        return error

    def change_in_model(self, model: QueueModel, handle: Handle, timeout_s: int) -> type[DomainError] | None:
        message, error = self.expected_of_handle(model, handle)
        if message is None:
            return error or InvalidParameterValue
        if message.visible_ms <= self.now_ms:
            return MessageNotInflight
        if self.now_ms + timeout_s * SECOND > message.received_ms + LONGEST_MS:
            return InvalidParameterValue
        message.visible_ms = self.now_ms + timeout_s * SECOND
        return None

    def pick_handles(self, which: list[int]) -> list[Handle]:
        return [self.handles[-1 - number % len(self.handles)] for number in which]

    @precondition(lambda self: self.handles)
    @rule(
        which=st.lists(recent, min_size=1, max_size=10),
        place=st.one_of(st.none(), st.none(), st.none(), places),
        flush=flushes,
    )
    def delete(self, which: list[int], place: int | None, flush: bool) -> None:
        handles = self.pick_handles(which)
        queue, model = self.pick(self.names.index(handles[0].queue) if place is None else place)
        if len(handles) == 1:
            self.delete_one(queue, model, handles[0])
        else:
            entries = [(str(n), handle.text) for n, handle in enumerate(handles)]
            outcomes = self.engine.messaging.delete_message_batch(queue, entries)
            for handle, outcome in zip(handles, outcomes, strict=True):
                assert kind_of(outcome) is self.delete_in_model(model, handle)
        self.done(flush)

    def delete_one(self, queue: Queue, model: QueueModel, handle: Handle) -> None:
        outcome = outcome_of(lambda: self.engine.messaging.delete_message(queue, handle.text))
        assert kind_of(outcome) is self.delete_in_model(model, handle)

    @precondition(lambda self: self.handles)
    @rule(
        which=st.lists(recent, min_size=1, max_size=5),
        timeout_s=st.sampled_from([0, 0, 1, 30, 600, 43_200]),
        flush=flushes,
    )
    def change_visibility(self, which: list[int], timeout_s: int, flush: bool) -> None:
        handles = self.pick_handles(which)
        queue, model = self.pick(self.names.index(handles[0].queue))
        outcomes = self.engine.messaging.change_visibility_batch(
            queue, [(str(n), handle.text, timeout_s) for n, handle in enumerate(handles)]
        )
        for handle, outcome in zip(handles, outcomes, strict=True):
            assert kind_of(outcome) is self.change_in_model(model, handle, timeout_s)
        self.done(flush)

    # rules: queues

    def create(self, name: str) -> None:
        self.births += 1
        model = QueueModel(name, self.births)
        if model.fifo:
            model.content_based, model.by_group = self.births % 2 == 0, self.births % 3 == 0
            self.engine.create(
                name,
                ContentBasedDeduplication=model.content_based,
                DeduplicationScope="messageGroup" if model.by_group else "queue",
            )
        else:
            self.engine.create(name)
        self.model[name] = model

    @rule(place=places, how=st.sampled_from(["purge", "delete"]), flush=flushes)
    def empty(self, place: int, how: str, flush: bool) -> None:
        queue, model = self.pick(place)
        if how == "purge":
            self.engine.queues.purge(queue)
            model.messages.clear()
        else:
            self.closed.add(model.name)
            self.engine.queues.delete(queue)
            self.tasks = {id: task for id, task in self.tasks.items() if task[1] != model.name}
            self.create(model.name)
        self.done(flush)

    @rule(
        place=places,
        attribute=st.sampled_from(
            [
                ("VisibilityTimeout", "visibility_ms", 0),
                ("VisibilityTimeout", "visibility_ms", 10),
                ("DelaySeconds", "delay_ms", 0),
                ("DelaySeconds", "delay_ms", 3),
                ("MessageRetentionPeriod", "retention_ms", 60),
                ("MessageRetentionPeriod", "retention_ms", 345_600),
                ("MessageRetentionPeriod", "retention_ms", 1_209_600),
            ]
        ),
        flush=flushes,
    )
    def set_attribute(self, place: int, attribute: tuple[str, str, int], flush: bool) -> None:
        queue, model = self.pick(place)
        name, field, value_s = attribute
        self.engine.set(queue, **{name: value_s})
        setattr(model, field, value_s * SECOND)
        self.reconcile()  # what is too old now is gone at once, and does not come back with a longer retention
        self.done(flush)

    @rule(place=st.integers(0, 1), max_receives=st.integers(0, 3))
    def set_redrive(self, place: int, max_receives: int) -> None:
        queue, model = self.pick(place)
        dead, dead_model = self.pick(2)
        if max_receives:
            self.engine.set_redrive(queue, dead, max_receives)
            model.redrive = (dead_model.name, max_receives)
        else:
            self.engine.set(queue, RedrivePolicy="")
            model.redrive = None
        self.is_open = True

    @rule(place=st.sampled_from([None, None, 1]), rate=st.sampled_from([None, None, 1, 500]), flush=flushes)
    def move_dead_letters(self, place: int | None, rate: int | None, flush: bool) -> None:
        source, model = self.pick(2)
        running = [id for id, (status, *_) in self.tasks.items() if status == RUNNING]
        if running and rate is None:
            cancelled = self.engine.move_tasks.cancel(running[0], source.arn)
            assert cancelled.moved == self.moved.get(running[0], 0)
            self.tasks[running[0]] = (cancelled.status, *self.tasks[running[0]][1:])
            self.done(flush)
            return
        arn, name = (None, None) if place is None else (self.pick(place)[0].arn, self.names[place])
        started: list[MoveTask] = []
        error = outcome_of(lambda: started.append(self.engine.move_tasks.start(WORLD, source.arn, arn, rate)))
        if not any(other.redrive for other in self.model.values()):
            assert kind_of(error) is InvalidParameterValue
        elif running:
            assert kind_of(error) is UnsupportedOperation
        else:
            assert error is None
            assert started[0].to_move == len(model.messages)
            self.tasks[started[0].task_id] = (RUNNING, model.name, name)
        self.done(flush)

    # rules: time, failures, restarts

    @rule(by_ms=moments_ms)
    def advance_little(self, by_ms: int) -> None:
        self.advance(by_ms)

    @rule(by_ms=spans_ms)
    def advance_far(self, by_ms: int) -> None:
        self.advance(by_ms)

    def advance(self, by_ms: int) -> None:
        self.flush()
        end_ms = self.now_ms + by_ms
        while self.now_ms < end_ms and any(task[0] == RUNNING for task in self.tasks.values()):
            self.engine.advance(min(1.0, (end_ms - self.now_ms) / 1000))
            self.reconcile()
        self.engine.advance((end_ms - self.now_ms) / 1000)
        self.flush()

    @rule(how=st.sampled_from(["operation", "commit"]))
    def fail(self, how: str) -> None:
        """Something of ours breaks in the middle of a group, or the disk does not take it."""
        if how == "operation":
            self.engine.broker.failed(RuntimeError("on purpose"))
            self.forget_open_group()
        else:
            self.fail_commit()
        self.after_failure()

    def fail_commit(self) -> None:
        commit = self.engine.store.commit

        def refuse() -> None:
            self.engine.store.commit = commit  # type: ignore[method-assign]
            self.forget_open_group()
            raise OSError("on purpose")

        self.engine.queues.get_attributes(self.pick(0)[0], ["All"])  # so that there is a group
        self.engine.store.commit = refuse  # type: ignore[method-assign]
        self.engine.settle()

    def after_failure(self) -> None:
        self.closed |= set(self.names)  # a queue that was made in the group is gone, and so is who waited there
        self.engine.advance(0)
        self.is_open = True
        self.check()
        self.closed.clear()
        self.is_open = False
        self.advance(1000)  # by when all appointments are made again

    @precondition(lambda self: self.on_disk)
    @rule(how=st.sampled_from(["restart", "crash"]))
    def begin_again(self, how: str) -> None:
        if how == "restart":
            self.restart()
        else:
            self.crash()

    def restart(self) -> None:
        self.flush()
        self.closed |= set(self.names)
        self.engine.restart()
        self.watch_commits()
        self.flush()

    def crash(self) -> None:
        """What the disk holds at this moment, without a goodbye, is what a new process finds."""
        old = self.engine
        assert old.directory is not None
        copied = self.new_directory()
        for path in old.directory.iterdir():
            shutil.copy(path, copied)
        self.polls.clear()
        self.crashes += 1
        old.broker.commit.after_rollback.clear()
        old.broker.failed(RuntimeError("on purpose"))
        old.store.close()
        self.forget_open_group()
        self.engine = Engine(copied, seed=1000 * self.crashes, now_ms=old.clock.now_ms())
        self.watch_commits()
        self.flush()

    # what must hold after each step

    @invariant()
    def check(self) -> None:
        for error in self.errors:
            raise error
        now_ms = self.now_ms
        listings = self.listings()
        for name, model in self.model.items():
            if not self.is_open:
                assert not [m for m in model.messages.values() if model.is_expired(m, now_ms)]
            assert self.engine.counts(self.engine.find(name)) == model.counts(now_ms), name
            assert listings[name].keys() == model.messages.keys(), name
            for stored in listings[name].values():
                model.check_fields(stored)
        if not self.is_open:
            self.engine.settle()  # the counts opened a group
            for poll, name, *_, deadline_ms in self.polls:
                assert poll.messages is None
                assert deadline_ms > now_ms
                model = self.model[name]
                assert not [m for m in model.receivable(now_ms) if not model.is_dead(m, now_ms)], "someone waits for it"


class StandardMachine(QueueMachine):
    names: ClassVar = ["a", "b", "dead"]

    def group_for(self, model: QueueModel, group: str | None) -> str | None:
        return None


class FairMachine(QueueMachine):
    """Standard queues with groups, and messages without one among them."""

    names: ClassVar = ["a", "b", "dead"]

    def group_for(self, model: QueueModel, group: str | None) -> str | None:
        return None if group == "i" else group


class FifoMachine(QueueMachine):
    names: ClassVar = ["a.fifo", "b.fifo", "dead.fifo"]


class StandardOnDisk(StandardMachine):
    on_disk: ClassVar[bool] = True


class FairOnDisk(FairMachine):
    on_disk: ClassVar[bool] = True


class FifoOnDisk(FifoMachine):
    on_disk: ClassVar[bool] = True
