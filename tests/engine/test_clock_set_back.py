"""A clock that is set back, as a test's is when it is over: nothing waits until the time that there was before."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from broker.clock import ManualClock, Resumption
from broker.delivery_policy import DEFAULT_HTTP_POLICY
from broker.errors import BrokerFailure, PurgeQueueInProgress, QueueDeletedRecently
from engine.bus_support import Bridge, open_to_rules
from engine.support import DAY_S, WORLD, Engine
from engine.test_delivery import OK, Postman, put

NewEngine = Callable[..., Engine]

FORTNIGHT_MS = 14 * DAY_S * 1000


def go_back(engine: Engine, by_ms: int = FORTNIGHT_MS) -> None:
    engine.settle()
    engine.clock.set(engine.clock.now_ms() - by_ms)


def test_long_polls_are_answered(engine: Engine) -> None:
    queue = engine.create("q")
    polls = [engine.poll(queue) for _ in range(2)]
    go_back(engine)
    engine.settle()
    assert [(poll.messages, poll.is_told) for poll in polls] == [([], True)] * 2
    again = engine.poll(queue)
    engine.send(queue, "x")
    engine.settle()
    assert again.bodies == ["x"]


def test_what_is_sent_then_is_as_it_always_is(engine: Engine) -> None:
    queue = engine.create("q", MessageRetentionPeriod="3600")
    engine.send(queue, "of a later time")
    go_back(engine)
    engine.send(queue, "now")
    engine.send(queue, "delayed", delay_s=60)
    assert engine.receive_bodies(queue) == ["now"]
    engine.advance(60)
    assert engine.receive_bodies(queue) == ["now", "delayed"]
    engine.advance(3540)
    assert engine.receive_bodies(queue) == []
    engine.advance(14 * DAY_S)
    assert sum(engine.counts(queue)) == 0


def test_a_name_and_a_purge_are_free(aws: Engine) -> None:
    aws.create("other")
    aws.queues.delete(aws.find("other"))
    queue = aws.create("q")
    aws.queues.purge(queue)
    aws.advance(60)
    aws.queues.delete(aws.create("gone"))
    aws.queues.purge(queue)
    with pytest.raises(QueueDeletedRecently):
        aws.create("gone")
    with pytest.raises(PurgeQueueInProgress):
        aws.queues.purge(queue)
    go_back(aws)
    aws.advance(60)
    aws.create("gone")
    aws.queues.purge(queue)


@pytest.mark.parametrize("expression", ["rate(1 hour)", "cron(0 * * * ? *)"])
def test_schedules_fire(engine: Engine, expression: str) -> None:
    bridge, queue = Bridge(engine), engine.create("q")
    open_to_rules(engine, queue)
    bridge.put_rule(ScheduleExpression=expression)
    bridge.put_targets("r", {"Id": "q", "Arn": queue.arn})
    engine.advance(7200)
    assert len(engine.listing(queue)) == 2
    go_back(engine)
    engine.advance(3 * 3600)
    fired = [json.loads(message.body)["time"] for message in engine.listing(queue)[2:]]
    assert len(fired) == 3
    assert fired == sorted(fired) < [json.loads(message.body)["time"] for message in engine.listing(queue)[:2]]
    engine.advance(14 * DAY_S)
    assert len(engine.listing(queue)) == 2 + 3 + 14 * 24


def test_a_rate_allows_what_it_always_allows(engine: Engine) -> None:
    postman = Postman(engine, {"http://x/": [OK]})
    slow = DEFAULT_HTTP_POLICY._replace(max_receives_per_s=1)
    for _ in range(3):
        put(engine, policy=slow)
    engine.advance(3)
    assert postman.times("http://x/") == [0, 1, 2]
    go_back(engine)
    for _ in range(2):
        put(engine, policy=slow)
    engine.advance(2)
    assert len(postman.times("http://x/")) == 5


def test_a_stream_is_made_at_once_after_a_group_that_failed(engine: Engine) -> None:
    engine.broker.commit.enter()
    engine.broker.commit.abort(BrokerFailure("the disk is full"))
    go_back(engine)
    engine.broker.streams.definitions.create(WORLD, "s", 1)
    engine.advance(1)
    assert engine.broker.streams.find(WORLD, "s").status == "ACTIVE"


def test_what_was_to_be_resumed_is() -> None:
    clock = ManualClock()
    resumed: list[int] = []
    resumption = Resumption(clock, lambda: resumed.append(clock.now_ms()))
    resumption.appoint()
    clock.set(clock.now_ms() - FORTNIGHT_MS)
    resumption.appoint()
    resumption.appoint()
    begun_ms = clock.now_ms()
    clock.advance(2 * FORTNIGHT_MS)
    assert resumed == [begun_ms + 1000]
