"""Long sweeps go in steps, each its own transaction: nothing holds the loop while a million messages go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine.conftest import NewEngine
from engine.support import Engine

from broker.limits import AWS, RELAXED
from broker.queues.flow import SWEEP_ROWS

MANY = 2300


def watch(engine: Engine) -> list[int]:
    """The rows that each transaction deletes from now on."""
    steps: list[int] = []
    connection = engine.store._connection
    begin, commit = engine.store.begin, engine.store.commit
    before = 0

    def begun() -> None:
        nonlocal before
        begin()
        [[before]] = connection.execute("SELECT count(*) FROM message").fetchall()

    def committed() -> None:
        [[after]] = connection.execute("SELECT count(*) FROM message").fetchall()
        steps.append(before - after)
        commit()

    engine.settle()
    engine.store.begin, engine.store.commit = begun, committed  # type: ignore[method-assign]
    return steps


def fill(engine: Engine, name: str) -> None:
    queue = engine.create(name, MessageRetentionPeriod=60)
    for number in range(MANY):
        engine.send(queue, str(number), group_id=f"g{number % 700}" if queue.fifo else None)
    engine.settle()


@pytest.mark.parametrize("name", ["q", "q.fifo"])
@pytest.mark.parametrize("how", ["purge", "delete", "expire", "purge of aws"])
def test_many_messages_go_in_small_steps(new_engine: NewEngine, name: str, how: str) -> None:
    engine = new_engine(limits=replace(AWS, fifo_calls_per_s=None) if how == "purge of aws" else RELAXED)
    fill(engine, name)
    steps = watch(engine)
    if how == "delete":
        engine.queues.delete(engine.find(name))
    elif how != "expire":
        engine.queues.purge(engine.find(name))
    if how in ("purge", "delete"):  # gone at once for all who look, while the rows are still there
        engine.store.commit()
        assert steps == [0]
        engine.store.begin()
    engine.advance(60 if how in ("expire", "purge of aws") else 0)
    assert sum(steps) == MANY
    assert max(steps) <= SWEEP_ROWS
    assert engine.rows("SELECT count(*) FROM message") == [(0,)]
    assert engine.rows("SELECT count(*) FROM fifo_group") == [(0,)]


def test_between_the_steps_others_are_served(engine: Engine) -> None:
    fill(engine, "big")
    other = engine.create("other")
    engine.settle()
    served: list[int] = []
    engine.queues.purge(engine.find("big"))

    def serve() -> None:
        engine.send(other)
        engine.receive(other)
        [[left]] = engine.rows("SELECT count(*) FROM message")
        served.append(left)
        if left > 100:
            engine.clock.soon(serve)

    engine.clock.soon(serve)
    engine.settle()
    assert len(served) >= MANY // SWEEP_ROWS
    assert served == sorted(served, reverse=True)


def test_what_comes_into_an_emptied_queue_stays(engine: Engine) -> None:
    fill(engine, "q.fifo")
    queue = engine.find("q.fifo")
    engine.queues.purge(queue)
    engine.send(queue, "new", group_id="g1")
    engine.advance(0)
    assert engine.receive_bodies(queue) == ["new"]
    assert len(engine.rows("SELECT * FROM message")) == len(engine.rows("SELECT * FROM fifo_group")) == 1
