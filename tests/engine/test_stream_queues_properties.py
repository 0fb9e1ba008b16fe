"""Queues on a stream against a naive model: random puts, receives, acknowledgements, visibility, dead letters,
restores, reshards, expiry, lost groups, restarts and crashes.

The model has one entry for each record and queue, and asks of each receive only what the documentation promises:
nothing acknowledged comes again, nothing in flight comes, everything else can be had, every count is right. What is
in the open group is forgotten with it.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from broker.streams import DeadLetters, Received, StreamQueue
from engine.stream_queue_support import QueueEngine, outcomes
from engine.stream_support import HOUR_MS, START_MS, WORLD

RETENTION_MS = 24 * HOUR_MS
FOREVER = 1 << 62
flushes = st.sampled_from([True, True, False])
some = st.integers(0, 1000)  # picks one of what there is
timeouts = st.sampled_from([0, 0, 0, 1, 30, 43_200])
limits = st.sampled_from([1, 2, 3, 10, 10])


@dataclass
class Entry:
    """A record in a queue."""

    arrival_ms: int
    visible_ms: int = 0
    first_received_ms: int = 0
    receives: int = 0
    dead_receives: int = 0
    state: str = "live"  # live, last (on its last receive), dead, done
    handle: str = ""  # of its last delivery


@dataclass
class QueueModel:
    arn: str
    timeout_s: int
    max_receives: int
    entries: dict[str, Entry] = field(default_factory=dict)  # by text


class Queueing(RuleBasedStateMachine):
    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("sidebus").setLevel(logging.CRITICAL)  # groups fail on purpose here
        self.directory = tempfile.TemporaryDirectory()
        self.engine = QueueEngine(Path(self.directory.name) if self.on_disk else None)
        self.queues: list[QueueModel] = []
        self.handles: list[tuple[str, bool, str]] = []  # of all deliveries: queue's ARN, whether dead, handle
        self.serial = 0
        self.committed = ""

    @initialize()
    def begin(self) -> None:
        stream = self.engine.create()
        self.engine.streams.accounts.update(WORLD, "ENABLED")
        for number, (timeout_s, max_receives) in enumerate([(30, 2), (0, FOREVER)]):
            dead_letters = (
                DeadLetters("NONE", None) if max_receives == FOREVER else DeadLetters("BUILT_IN", max_receives)
            )
            queue = self.engine.queue(stream, f"q{number}", visibility_timeout_s=timeout_s, dead_letters=dead_letters)
            self.queues.append(QueueModel(queue.arn, timeout_s, max_receives))
        self.done(True)

    def teardown(self) -> None:
        self.engine.close()
        self.directory.cleanup()
        logging.getLogger("sidebus").setLevel(logging.NOTSET)

    # helpers

    @property
    def now_ms(self) -> int:
        return self.engine.clock.now_ms()

    def done(self, flush: bool) -> None:
        if flush:
            self.engine.settle()
            self.note_commit()

    def note_commit(self) -> None:
        self.saved = copy.deepcopy((self.queues, self.handles))

    def forget_open_group(self) -> None:
        self.queues, self.handles = copy.deepcopy(self.saved)

    def pick(self, number: int) -> tuple[QueueModel, StreamQueue]:
        model = self.queues[number % len(self.queues)]
        return model, self.engine.found(model.arn)

    def there(self, entry: Entry) -> bool:
        return entry.arrival_ms > self.now_ms - RETENTION_MS

    def receivable(self, model: QueueModel, dead: bool) -> set[str]:
        return {
            text
            for text, entry in model.entries.items()
            if self.there(entry)
            and entry.visible_ms <= self.now_ms
            and entry.state in (("last", "dead") if dead else ("live",))
        }

    def take(self, model: QueueModel, dead: bool, received: list[Received], timeout_s: int | None) -> None:
        """What a receive gave is what it might give, and its figures are right."""
        texts = [one.record.data.decode() for one in received]
        assert len(set(texts)) == len(texts), "not twice in a receive"
        assert set(texts) <= self.receivable(model, dead)
        for text, one in zip(texts, received, strict=True):
            entry = model.entries[text]
            if dead:
                entry.dead_receives += 1
                entry.state = "dead"
            else:
                entry.receives += 1
                entry.first_received_ms = entry.first_received_ms or self.now_ms
                entry.state = "last" if entry.receives >= model.max_receives else "live"
            entry.visible_ms = self.now_ms + (model.timeout_s if timeout_s is None else timeout_s) * 1000
            entry.handle = one.receipt_handle
            assert one.receive_count == entry.receives + entry.dead_receives
            assert one.first_received_ms == entry.first_received_ms
            assert one.record.arrival_ms == entry.arrival_ms
            handle = (model.arn, dead, one.receipt_handle)
            assert handle not in self.handles, "each delivery has a handle of its own"
            self.handles.append(handle)

    # operations

    @rule(counts=st.lists(st.integers(0, 5), min_size=1, max_size=8), flush=flushes)
    def put(self, counts: list[int], flush: bool) -> None:
        stream = self.engine.find()
        for place, count in enumerate(counts):
            shard = stream.open_shards[place % len(stream.open_shards)]
            for _ in range(count):
                self.serial += 1
                self.engine.put(stream, f"{self.serial}", explicit_hash_key=str(shard.starting_hash_key))
                for model in self.queues:
                    model.entries[f"{self.serial}"] = Entry(self.now_ms)
        self.done(flush)

    @rule(which=some, dead=st.booleans(), limit=limits, timeout_s=st.none() | timeouts, flush=flushes)
    def receive(self, which: int, dead: bool, limit: int, timeout_s: int | None, flush: bool) -> None:
        model, queue = self.pick(which)
        expected = min(limit, len(self.receivable(model, dead)))
        received = (self.engine.receive_dead if dead else self.engine.receive)(queue, limit, timeout_s)
        assert len(received) == expected, "what is visible can be had"
        self.take(model, dead, received, timeout_s)
        self.done(flush)

    @rule(which=some, dead=st.booleans(), limit=limits, wait_ms=st.integers(0, 19_999))
    def poll(self, which: int, dead: bool, limit: int, wait_ms: int) -> None:
        """With a put on the way, or a record that becomes visible."""
        model, queue = self.pick(which)
        if self.receivable(model, dead):
            return
        waiting = self.engine.poll(queue, limit, dead=dead)
        began_ms = self.now_ms
        self.done(True)
        if not dead and wait_ms % 2:
            self.put([1], True)
        else:
            self.engine.advance(wait_ms)
        if waiting.received is None:
            assert not self.receivable(model, dead)
            waiting.cancel()
        else:
            now_ms = self.now_ms
            self.engine.clock.set(waiting.answered_ms)  # back, to when it was answered
            self.take(model, dead, waiting.received, None)
            self.engine.clock.set(now_ms)
            first_ms = waiting.answered_ms
            assert waiting.received, "twenty seconds were not over"
            assert began_ms <= first_ms <= now_ms
        self.done(True)

    def entry_of(self, handle: tuple[str, bool, str]) -> Entry | None:
        """Whose last delivery a handle names."""
        arn, _, text = handle
        [model] = [model for model in self.queues if model.arn == arn]
        for entry in model.entries.values():
            if entry.handle == text and entry.state != "done" and self.there(entry):
                return entry
        return None

    def expected(self, entry: Entry | None) -> list[str]:
        return ["ResourceNotFoundException" if entry is None else ""]

    @rule(pick=some, flush=flushes)
    def acknowledge(self, pick: int, flush: bool) -> None:
        if self.handles:
            arn, dead, handle = given = self.handles[-1 - pick % len(self.handles)]
            entry = self.entry_of(given)
            records = self.engine.streams.queue_records
            operation = records.acknowledge_dead_letters if dead else records.acknowledge
            assert outcomes(operation(self.engine.found(arn), [handle])) == self.expected(entry)
            if entry is not None:
                entry.state = "done"
            self.done(flush)

    @rule(pick=some, timeout_s=timeouts, flush=flushes)
    def change_visibility(self, pick: int, timeout_s: int, flush: bool) -> None:
        if self.handles:
            arn, dead, handle = given = self.handles[-1 - pick % len(self.handles)]
            entry = self.entry_of(given)
            if entry is not None and entry.visible_ms <= self.now_ms:
                entry = None
            records = self.engine.streams.queue_records
            operation = records.change_dead_letter_visibility if dead else records.change_visibility
            assert outcomes(operation(self.engine.found(arn), [(handle, timeout_s)])) == self.expected(entry)
            if entry is not None:
                entry.visible_ms = self.now_ms + timeout_s * 1000
            self.done(flush)

    @rule(pick=some, flush=flushes)
    def restore(self, pick: int, flush: bool) -> None:
        dead_ones = [handle for handle in self.handles if handle[1]]
        if dead_ones:
            arn, _, handle = given = dead_ones[-1 - pick % len(dead_ones)]
            entry = self.entry_of(given)
            errors = self.engine.streams.queue_records.restore(self.engine.found(arn), [handle])
            assert outcomes(errors) == self.expected(entry)
            if entry is not None:
                entry.state, entry.handle = "live", ""
                entry.receives = entry.dead_receives = 0
                entry.visible_ms = self.now_ms
            self.done(flush)

    @rule(which=some, max_receives=st.sampled_from([1, 2, 3, FOREVER]), timeout_s=timeouts, flush=flushes)
    def update(self, which: int, max_receives: int, timeout_s: int, flush: bool) -> None:
        model, queue = self.pick(which)
        dead_letters = DeadLetters("NONE", None) if max_receives == FOREVER else DeadLetters("BUILT_IN", max_receives)
        self.engine.streams.queues.update(queue, timeout_s, dead_letters)
        model.timeout_s = timeout_s
        if max_receives != model.max_receives:
            model.max_receives = max_receives
            for entry in model.entries.values():
                if entry.state == "live" or (entry.state == "last" and entry.visible_ms > self.now_ms):
                    entry.state = "last" if entry.receives >= max_receives else "live"
        self.done(flush)

    # what goes on around it

    @rule(by_ms=st.sampled_from([1, 1_000, 30_000, HOUR_MS, 10 * HOUR_MS]))
    def advance(self, by_ms: int) -> None:
        self.engine.advance(by_ms)
        self.note_commit()

    @rule(mibps=st.integers(4, 9), flush=flushes)
    def reshard(self, mibps: int, flush: bool) -> None:
        self.engine.definitions.update_warm_throughput(self.engine.find(), mibps)
        self.done(flush)

    @rule()
    def lose_group(self) -> None:
        self.engine.fail()
        self.forget_open_group()

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        if self.on_disk:
            self.engine.restart(crash=crash)
            if crash:
                self.forget_open_group()
            else:
                self.note_commit()

    @invariant()
    def what_is_kept_is_in_hand(self) -> None:
        """A row for what was delivered and is not acknowledged, and none for what was not delivered."""
        if self.queues:
            in_hand = sum(
                bool(entry.first_received_ms) and entry.state != "done"
                for model in self.queues
                for entry in model.entries.values()
                if self.there(entry)
            )
            oldest_ms = self.now_ms - RETENTION_MS
            rows = [row for row in self.engine.rows("queued_record") if row[-1] > oldest_ms]
            assert len(rows) == in_hand


class QueueingOnDisk(Queueing):
    on_disk = True


SETTINGS = settings(
    deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@pytest.mark.parametrize(("machine", "examples", "steps"), [(Queueing, 40, 50), (QueueingOnDisk, 15, 50)])
def test_queues_do_as_the_model(machine: type[Queueing], examples: int, steps: int) -> None:
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=examples, stateful_step_count=steps))


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Queueing, QueueingOnDisk])
def test_queues_do_as_the_model_for_long(machine: type[Queueing]) -> None:
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=100, stateful_step_count=60))


def test_all_that_was_put_is_acknowledged_once_by_consumers_that_fail_at_random() -> None:
    """Two queues, consumers that acknowledge two records of three, dead letters restored: nothing is left over."""
    engine = QueueEngine()
    try:
        stream = engine.create()
        queues = [engine.queue(stream, name, dead_letters=DeadLetters("BUILT_IN", 2)) for name in "ab"]
        done: dict[str, list[str]] = {queue.arn: [] for queue in queues}
        turn = 0
        for number in range(300):
            engine.put(stream, f"{number}", key=f"{number}")
        while any(len(texts) < 300 for texts in done.values()):
            assert engine.clock.now_ms() < START_MS + HOUR_MS
            for queue in queues:
                for received in engine.receive(queue):
                    turn += 1
                    if turn % 3:
                        assert engine.acknowledge(queue, received) == [""]
                        done[queue.arn].append(received.record.data.decode())
                engine.restore(queue, *engine.receive_dead(queue))
            engine.advance(10_000)
        for texts in done.values():
            assert sorted(texts, key=int) == [f"{number}" for number in range(300)]
        engine.advance(HOUR_MS)
        assert engine.rows("queued_record") == []
    finally:
        engine.close()
