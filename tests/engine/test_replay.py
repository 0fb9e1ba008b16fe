"""Two runs with the same seed, clock and calls give the same bytes: answers and files alike."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from broker.errors import DomainError
from broker.queues import Waiter
from engine.conftest import NewEngine
from engine.support import WORLD, Engine

STEPS = 400


def step(engine: Engine, chance: random.Random) -> object:
    """One operation, drawn by lot; what it answered."""
    queue = engine.create(chance.choice(["a", "b", "dead", "a.fifo", "dead.fifo"]))
    group = chance.choice([None, "g", "h"]) if not queue.fifo else chance.choice("ghi")
    what = chance.randrange(12)
    if what < 4:
        return engine.send(queue, f"body-{chance.randrange(50)}", group_id=group)
    if what < 7:
        received = engine.messaging.receive(
            queue, chance.choice([1, 3, 10]), chance.choice([None, 0, 5]), chance.choice([0, 0, 2])
        )
        if isinstance(received, Waiter):
            return engine.store.get_meta("last_no")
        for message in received[::2]:
            engine.delete(queue, message)
        return [(message, engine.handle(queue, message)) for message in received]
    if what == 7:
        return engine.set_redrive(queue, engine.create("dead.fifo" if queue.fifo else "dead"), chance.randint(1, 3))
    if what == 8:
        task = engine.move_tasks.start(WORLD, queue.arn, None, chance.choice([None, 5]))
        return task.task_id
    if what == 9:
        engine.queues.purge(queue) if chance.random() < 0.3 else engine.settle()
        return engine.queues.get_attributes(queue, ["All"])
    return engine.advance(chance.choice([0, 0.5, 3, 40, 400]))


def run(engine: Engine) -> tuple[list[str], list[str]]:
    chance, told = random.Random(7), []
    for _ in range(STEPS):
        try:
            told.append(repr(step(engine, chance)))
        except DomainError as error:
            told.append(repr(error))
    engine.advance(0)
    return told, list(engine.store._connection.iterdump())


def test_the_same_seed_gives_the_same_bytes(new_engine: NewEngine, tmp_path: Path) -> None:
    first, second = run(new_engine(seed=42)), run(new_engine(tmp_path, seed=42))
    assert first == second
    answers, tables = first
    assert len(answers) == STEPS
    assert len(tables) > 50


def test_in_another_process_too() -> None:
    """Sets and the like have another order there."""
    program = "from engine.support import Engine; from engine.test_replay import run; print(run(Engine(seed=42)))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[1],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert len(printed[0]) > 10_000
    assert printed[0] == printed[1]


def test_another_seed_gives_other_identifiers(new_engine: NewEngine) -> None:
    sent = [engine.send(engine.create("q")).message_id for engine in (new_engine(seed=1), new_engine(seed=2))]
    assert sent[0] != sent[1]


@pytest.mark.parametrize("name", ["a", "a.fifo"])
def test_side_by_side_two_brokers_do_not_touch(new_engine: NewEngine, name: str) -> None:
    first, second = new_engine(seed=1), new_engine(seed=1)
    queues = [engine.create(name) for engine in (first, second)]
    sent = []
    for number in range(20):
        for engine, queue in zip((first, second), queues, strict=True):
            sent.append((engine.send(queue, str(number)), engine.receive(queue)))
    assert sent[::2] == sent[1::2]
