"""Group commit: no answer before the commit, answers in order, and a group fails as a whole."""

from __future__ import annotations

import pytest

from broker.errors import BrokerFailure
from broker.names import World
from engine.support import Engine


def test_answers_wait_for_the_commit_and_come_in_order(engine: Engine) -> None:
    queue = engine.create("q")
    commit, told = engine.store.commit, []

    def committed() -> None:
        assert told == []
        commit()
        told.append("commit")

    engine.store.commit = committed  # type: ignore[method-assign]
    for number in range(5):
        engine.send(queue)
        engine.broker.commit.then(lambda failure, n=number: told.append((n, failure)))  # type: ignore[misc]
    assert told == []
    engine.settle()
    assert told == ["commit", *((number, None) for number in range(5))]
    engine.broker.commit.then(told.append)  # nothing is open: at once
    assert told[-1] is None


def test_one_turn_is_one_group_and_a_new_turn_a_new_one(engine: Engine) -> None:
    queue, groups = engine.create("q"), []
    engine.settle()
    begin = engine.store.begin
    engine.store.begin = lambda: groups.append(begin())  # type: ignore[method-assign]
    for _ in range(3):
        for _ in range(10):
            engine.send(queue)
        engine.settle()
    assert len(groups) == 3


def test_what_an_answer_does_is_a_group_of_its_own(engine: Engine) -> None:
    queue, told = engine.create("q"), []

    def answer(failure: BrokerFailure | None) -> None:
        engine.send(queue)
        engine.broker.commit.then(told.append)
        told.append(failure)

    engine.broker.commit.then(answer)
    engine.settle()
    assert told == [None, None]
    assert engine.counts(queue) == (1, 0, 0)


def test_an_answer_that_breaks_costs_the_others_nothing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    queue, told = engine.create("q"), []
    engine.send(queue)
    engine.broker.commit.then(lambda _failure: 1 / 0)  # type: ignore[arg-type,return-value]
    engine.broker.commit.then(told.append)
    engine.settle()
    assert told == [None]
    assert engine.counts(queue) == (1, 0, 0)
    assert "an answer could not be given" in caplog.text


@pytest.mark.parametrize("where", ["operation", "before commit", "commit", "begin"])
def test_a_group_fails_as_a_whole(engine: Engine, where: str, caplog: pytest.LogCaptureFixture) -> None:
    queue = engine.create("q")
    engine.send(queue, "before")
    engine.settle()
    told: list[BrokerFailure | None] = []
    works = {name: getattr(engine.store, name) for name in ("begin", "commit")}

    def fails() -> None:
        raise OSError("on purpose")

    if where == "begin":
        engine.store.begin = fails  # type: ignore[method-assign]
        with pytest.raises(OSError, match="on purpose"):
            engine.send(queue)
        engine.broker.failed(OSError("on purpose"))
    else:
        engine.send_all(queue, "a b")
        engine.broker.commit.then(told.append)
        engine.send(queue, "c")
        engine.broker.commit.then(told.append)
        if where == "operation":
            told.append(engine.broker.failed(OSError("on purpose")))
        elif where == "commit":
            engine.store.commit = fails  # type: ignore[method-assign]
        else:
            engine.broker.commit.before_commit.insert(0, fails)
        engine.settle()
        assert len(told) == 2 + (where == "operation")
        assert all(isinstance(failure, BrokerFailure) for failure in told)
        assert "Sidebus failed (OSError)" in str(told[0])
    for name, method in works.items():
        setattr(engine.store, name, method)
    if where == "before commit":
        engine.broker.commit.before_commit.pop(0)
    assert engine.counts(queue) == (1, 0, 0)
    engine.send(queue, "after")
    engine.settle()
    assert engine.receive_bodies(queue) == ["before", "after"]


def test_a_failed_group_is_followed_by_a_fresh_one_in_the_same_turn(engine: Engine) -> None:
    queue, told = engine.create("q"), []
    engine.settle()
    engine.send(queue, "lost")
    engine.broker.failed(OSError("on purpose"))
    engine.send(queue, "kept")
    engine.broker.commit.then(told.append)
    engine.settle()
    assert told == [None]
    assert engine.receive_bodies(queue) == ["kept"]


def test_what_the_clock_still_had_in_hand_at_the_end_is_not_done(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    queue, told = engine.create("q"), []
    engine.send(queue)
    engine.queues.purge(queue)
    engine.broker.commit.then(told.append)
    engine.broker.commit.flush()
    assert told == [None]
    engine.broker.commit.stop()
    engine.store.close()
    engine.advance(60)
    assert caplog.text == ""


def test_a_job_of_the_brokers_own_that_fails_fails_its_group(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    queue, told = engine.create("q"), []
    engine.settle()
    engine.send(queue)
    engine.broker.commit.then(told.append)
    engine.broker.commit.run(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert isinstance(told[0], BrokerFailure)
    assert engine.counts(queue) == (0, 0, 0)
    assert "ZeroDivisionError" in caplog.text


def test_while_every_commit_fails_the_broker_tries_no_more_often_as_time_goes_by(engine: Engine) -> None:
    def everything(engine: Engine) -> None:
        events, world = engine.broker.events, World("000000000000", "us-east-1")
        bus = events.buses.describe(world, "default")["Arn"]
        events.archives.create(world, {"ArchiveName": "a", "EventSourceArn": bus, "RetentionDays": 1})
        events.rules.put(world, {"Name": "r", "ScheduleExpression": "rate(1 minute)"})
        engine.broker.streams.definitions.create(world, "s", 2)
        engine.queues.purge(engine.create("q"))

    everything(engine)
    engine.settle()
    begin, groups = engine.store.begin, 0

    def counted() -> None:
        nonlocal groups
        groups += 1
        begin()

    def full() -> None:
        raise OSError("the disk is full")

    engine.store.begin, engine.store.commit = counted, full  # type: ignore[method-assign]
    counts = []
    for _ in range(4):
        groups = 0
        engine.clock.advance(60_000)
        counts.append(groups)
    assert counts[-1] <= counts[1] < 60 * 20
