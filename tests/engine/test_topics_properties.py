"""FIFO topics against a naive model: random publishes, subscriptions, replays, restarts; each queue's order must hold.

The model keeps the log of all that was published with its moment, and for each subscription the segments of the log it
must have been given, in order: replayed windows, and what was live.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.clock import iso_8601_ms
from broker.topics import archive
from engine.support import Engine
from engine.topic_support import Sns, attribute

MAX_QUEUES = 4


class Expected:
    """What one queue must hold: texts in order. `since` is the place in the log from which on it is live."""

    def __init__(self, name: str, parity: str | None, since: int | None) -> None:
        self.name = name
        self.parity = parity  # a filter on the attribute of that name
        self.texts: list[str] = []
        self.since = since
        self.subscription_arn = ""


class FifoTopics(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(archive, "REPLAY_STEP", 5)  # so that a replay takes several
        self.directory = tempfile.TemporaryDirectory()
        self.engine = Engine(Path(self.directory.name))
        self.sns = Sns(self.engine)
        self.topic = self.sns.create("t.fifo", ArchivePolicy={"MessageRetentionPeriod": "365"})
        self.began_ms = self.engine.clock.now_ms()
        self.log: list[tuple[str, int, str]] = []  # text, moment, parity
        self.queues: list[Expected] = []

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.patch.undo()
            self.engine.close()
            self.directory.cleanup()

    def wanted(self, expected: Expected, start: int, end: int | None = None) -> list[str]:
        return [text for text, _, parity in self.log[start:end] if expected.parity in (None, parity)]

    def place(self, moment_ms: int) -> int:
        return sum(published_ms < moment_ms for _, published_ms, _ in self.log)

    # what happens

    @rule(count=st.integers(1, 12), group=st.sampled_from("abc"))
    def publish(self, count: int, group: str) -> None:
        for _ in range(count):
            text, parity = str(len(self.log)), ("odd" if len(self.log) % 2 else "even")
            self.sns.publish(self.topic, text, group_id=group, attributes={"p": attribute(parity)})
            self.log.append((text, self.engine.clock.now_ms(), parity))

    @rule()
    def publish_again(self) -> None:
        if self.log and self.engine.clock.now_ms() - self.log[-1][1] < 300_000:
            self.sns.publish(self.topic, self.log[-1][0])

    @rule(by_s=st.integers(0, 400))
    def time_passes(self, by_s: int) -> None:
        self.engine.advance(by_s)

    @rule()
    def settle(self) -> None:
        self.engine.settle()

    @precondition(lambda self: len(self.queues) < MAX_QUEUES)
    @rule(fifo=st.booleans(), parity=st.sampled_from([None, "odd", "even"]))
    def subscribe(self, fifo: bool, parity: str | None) -> None:
        name = f"q{len(self.queues)}" + (".fifo" if fifo else "")
        policy = {"FilterPolicy": {"p": [parity]}} if parity else {}
        queue = self.engine.create(name, MessageRetentionPeriod="1209600")
        expected = Expected(name, parity, len(self.log))
        made = self.sns.subscribe(self.topic, queue, RawMessageDelivery="true", **policy)
        expected.subscription_arn = made.arn
        self.queues.append(expected)

    @precondition(lambda self: self.queues)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        expected = data.draw(st.sampled_from(self.queues))
        self.engine.settle()  # a replay that runs is done; what is given up is another test's
        now_ms = self.engine.clock.now_ms()
        start_ms = data.draw(st.integers(self.began_ms, now_ms))
        self.close_live(expected)
        expected.since = self.place(start_ms)
        window = {"PointType": "Timestamp", "StartingPoint": iso_8601_ms(start_ms)}
        end_ms = data.draw(st.none() | st.integers(start_ms + 1, max(now_ms, start_ms + 1)))
        if end_ms is not None and end_ms < now_ms:
            window["EndingPoint"] = iso_8601_ms(end_ms)
            expected.texts += self.wanted(expected, expected.since, self.place(end_ms + 1))
            expected.since = None
        subscription = self.sns.service.subscriptions.find(expected.subscription_arn)
        self.sns.set_subscription(subscription, "ReplayPolicy", window)

    @precondition(lambda self: self.queues)
    @rule(data=st.data())
    def go_live(self, data: st.DataObject) -> None:
        expected = data.draw(st.sampled_from(self.queues))
        self.engine.settle()
        self.close_live(expected)
        expected.since = len(self.log)
        subscription = self.sns.service.subscriptions.find(expected.subscription_arn)
        self.sns.set_subscription(subscription, "ReplayPolicy", "")

    def close_live(self, expected: Expected) -> None:
        if expected.since is not None:
            expected.texts += self.wanted(expected, expected.since)
        expected.since = None

    @rule()
    def restart(self) -> None:
        self.engine.restart()
        self.topic = self.sns.find("t.fifo")

    # what must hold

    def held(self, expected: Expected) -> list[str]:
        return [message.body for message in self.engine.listing(self.engine.find(expected.name))]

    @invariant()
    def what_is_there_is_the_beginning_of_what_must_come(self) -> None:
        for expected in getattr(self, "queues", []):
            must = list(expected.texts)
            if expected.since is not None:
                must += self.wanted(expected, expected.since)
            held = self.held(expected)
            assert held == must[: len(held)]

    @rule()
    def in_the_end_all_of_it_is_there(self) -> None:
        self.engine.settle()
        for expected in self.queues:
            must = list(expected.texts)
            if expected.since is not None:
                must += self.wanted(expected, expected.since)
            assert self.held(expected) == must


TestFifoTopics = FifoTopics.TestCase
TestFifoTopics.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
