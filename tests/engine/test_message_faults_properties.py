"""Under any plan of message faults no undeleted message is lost, and FIFO queues keep their order: random runs.

The naive model knows what was sent and what a client has deleted, and nothing of faults. A run is its seed: the test's
name has it, so `pytest -k 'seed-7'` does it again.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from typing import Any

import pytest

from broker.errors import DomainError, InvalidParameterValue
from broker.queues import Queue
from broker.store.port import StoredMessage
from engine.conftest import NewEngine
from engine.support import Engine

STEPS = 150
VISIBILITY_S = 30


def some_rules(chance: random.Random) -> list[dict[str, Any]]:
    """A few rules of any kinds, each striking often."""
    kinds: list[dict[str, Any]] = [
        {"fault": "late", "delay": "7s"},
        {"fault": "reorder", "window": "20s"},
        {"fault": "duplicate", "when": "at-once"},
        {"fault": "duplicate", "when": "later", "delay": "3s"},
        {"fault": "duplicate", "when": "after-delete", "delay": "4s"},
        {"fault": "early-visibility", "fraction": 0.3},
        {"fault": "early-visibility", "after": "0s"},
        {"fault": "empty-receive"},
        {"fault": "early-dead-letter", "probability": 0.1},
        {"fault": "stale-handle"},
    ]
    chosen = chance.sample(kinds, chance.randint(1, 4))
    return [{"probability": 0.4, **rule, "name": str(number)} for number, rule in enumerate(chosen)]


class Run:
    """Clients of one queue and its dead-letter queue, who check what they are given against what they did."""

    def __init__(self, engine: Engine, seed: int, *, fifo: bool) -> None:
        self.engine = engine
        self.chance = random.Random(seed)
        suffix = ".fifo" if fifo else ""
        self.dead = engine.create(f"dead{suffix}")
        self.queue = engine.create(f"q{suffix}", VisibilityTimeout=VISIBILITY_S)
        engine.set_redrive(self.queue, self.dead, 8)
        self.sent: dict[str, list[str]] = {}  # by group, in order
        self.bodies: dict[str, str] = {}  # by message id
        self.deleted: set[str] = set()  # a client was told so
        self.held: list[tuple[Queue, StoredMessage]] = []
        self.counts: Counter[tuple[str, str]] = Counter()  # by queue and message id: the highest receive count
        self.handles: set[str] = set()

    def step(self) -> None:
        acts = [self.send, self.send, self.receive, self.receive, self.delete, self.change, self.wait]
        self.chance.choice(acts)()
        self.engine.settle()

    def send(self) -> None:
        group = self.chance.choice("gh")
        body = str(len(self.bodies))
        given = {"group_id": group} if self.queue.fifo else {}
        sent = self.engine.send(self.queue, body, **given)
        self.bodies[sent.message_id] = body
        self.sent.setdefault(group, []).append(sent.message_id)

    def receive(self, queue: Queue | None = None) -> list[StoredMessage]:
        queue = queue or self.chance.choice([self.queue, self.queue, self.queue, self.dead])
        received = self.engine.receive(queue, self.chance.choice([1, 3, 10]))
        for message in received:
            assert message.body == self.bodies[message.message_id]
            assert message.receive_count > self.counts[queue.arn, message.message_id]
            self.counts[queue.arn, message.message_id] = message.receive_count
            handle = self.engine.handle(queue, message)
            assert handle not in self.handles
            self.handles.add(handle)
            self.held.append((queue, message))
        assert len({message.id for message in received}) == len(received)
        if self.queue.fifo and queue is self.queue:
            self.check_order(received)
        return received

    def check_order(self, received: list[StoredMessage]) -> None:
        """What is given of a group are the first of it that are left."""
        moved = {message.message_id for message in self.engine.listing(self.dead)} | self.deleted
        for group, sent in self.sent.items():
            given = [message.message_id for message in received if message.group_id == group]
            left = [id for id in sent if id not in moved]
            assert given == left[: len(given)], group

    def delete(self) -> None:
        if self.held:
            queue, message = self.held.pop(self.chance.randrange(len(self.held)))
            try:
                self.engine.delete(queue, message)
                self.deleted.add(message.message_id)
            except InvalidParameterValue:  # expired, or a fault says so
                assert queue.fifo

    def change(self) -> None:
        if self.held:
            queue, message = self.chance.choice(self.held)
            with contextlib.suppress(DomainError):
                self.engine.change_visibility(queue, message, self.chance.choice([0, 5, 60]))

    def wait(self) -> None:
        self.engine.advance(self.chance.choice([0.001, 1, 5, VISIBILITY_S]))

    def drain(self) -> set[str]:
        """Once nothing goes wrong any more: all that comes out of both queues."""
        self.engine.broker.faults.clear()
        seen: set[str] = set()
        while self.queue.message_count or self.dead.message_count:
            self.engine.advance(120)
            for queue in (self.queue, self.dead):
                for message in self.receive(queue):
                    self.engine.delete(queue, message)
                    self.deleted.add(message.message_id)
                    seen.add(message.message_id)
                self.engine.settle()
        return seen


def play(engine: Engine, seed: int, *, fifo: bool) -> Run:
    run = Run(engine, seed, fifo=fifo)
    engine.broker.faults.load({"seed": seed, "rule": some_rules(run.chance)})
    engine.broker.ledger.enable()
    for _ in range(STEPS):
        run.step()
    assert noted(engine) == {name: count for name, count in struck(engine).items() if count}
    undeleted = run.bodies.keys() - run.deleted
    assert undeleted <= run.drain()
    assert engine.listing(run.queue) == engine.listing(run.dead) == []
    return run


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
@pytest.mark.parametrize("seed", range(25), ids=lambda seed: f"seed-{seed}")
def test_no_fault_loses_a_message_or_breaks_a_group_s_order(new_engine: NewEngine, seed: int, fifo: bool) -> None:
    play(new_engine(), seed, fifo=fifo)


@pytest.mark.slow
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_no_fault_loses_a_message_or_breaks_a_group_s_order_at_length(new_engine: NewEngine, fifo: bool) -> None:
    for seed in range(1_000, 2_000):
        try:
            play(new_engine(), seed, fifo=fifo)
        except AssertionError as error:
            raise AssertionError(f"with seed {seed}: {error}") from error


def test_the_same_seed_is_the_same_run(new_engine: NewEngine) -> None:
    def account() -> tuple[dict[str, str], Counter[tuple[str, str]], set[str]]:
        run = play(new_engine(), 3, fifo=False)
        return run.bodies, run.counts, run.handles

    assert account() == account()


def struck(engine: Engine) -> dict[str, int]:
    return {rule["name"]: rule["struck"] for rule in engine.broker.faults.show()["rules"]}


def noted(engine: Engine) -> Counter[str]:
    """How often each rule has struck, by the ledger."""
    ledger = engine.broker.ledger
    ledger.look()
    entries = ledger.store.after(0, 1_000_000, events=["fault"])
    return Counter(json.loads(entry.detail)["rule"] for entry in entries)


# the profile `aws-like`

MESSAGES = 3_000


@pytest.fixture
def aws_like(new_engine: NewEngine) -> Engine:
    engine = new_engine()
    engine.broker.faults.load({"profile": "aws-like", "seed": 42})
    return engine


def test_like_aws_a_standard_queue_delivers_each_message_at_least_once_and_none_late(aws_like: Engine) -> None:
    engine, queue = aws_like, aws_like.create("q")
    sent = {engine.send(queue, str(number)).message_id for number in range(MESSAGES)}
    seen: Counter[str] = Counter()
    polls = empty = 0
    while queue.message_count:
        received = engine.receive(queue)
        polls, empty = polls + 1, empty + (not received)
        if not received and engine.counts(queue)[0] == 0:
            engine.advance(3)  # for copies whose delete was lost
        for message in received:
            seen[message.message_id] += 1
            assert message.receive_count == seen[message.message_id]
        engine.delete(queue, *received)
        engine.advance(0.001)
    assert seen.keys() == sent
    assert 0 < sum(count - 1 for count in seen.values()) < MESSAGES / 100
    assert 0 < empty < polls / 5
    assert all(count for name, count in struck(engine).items() if name != "producer-retried")


def test_like_aws_a_standard_queue_keeps_delays_and_answers_long_polls(aws_like: Engine) -> None:
    engine, queue = aws_like, aws_like.create("q", DelaySeconds=5)
    for number in range(500):
        engine.send(queue, str(number))
        engine.advance(4.999)
        assert engine.counts(queue)[0] == 0
        engine.advance(0.401)  # more than any disorder
        received = engine.messaging.receive(queue, 10, wait_time_s=20)
        assert isinstance(received, list)
        assert [message.body for message in received] == [str(number)]
        engine.delete(queue, *received)
        engine.advance(3)
        engine.delete(queue, *engine.receive(queue))
        engine.delete(queue, *engine.receive(queue))
        engine.settle()


def test_like_aws_a_fifo_queue_is_in_order_and_delivers_once(aws_like: Engine) -> None:
    engine, queue = aws_like, aws_like.create("q.fifo")
    for number in range(MESSAGES):
        engine.send(queue, str(number), group_id=f"g{number % 7}")
    seen: dict[str, list[int]] = {}
    while queue.message_count:
        received = engine.receive(queue)
        for message in received:
            seen.setdefault(message.group_id or "", []).append(int(message.body))
        engine.delete(queue, *received)
        engine.advance(0.001)
    assert seen == {f"g{first}": list(range(first, MESSAGES, 7)) for first in range(7)}
    assert struck(engine)["sampled-servers"] > 0
