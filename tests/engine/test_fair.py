"""Fair queues: a group that floods the queue costs the others one turn. See "Amazon SQS fair queues" of the guide."""

from __future__ import annotations

import pytest

from broker.queues import Queue, Sending
from broker.queues.standard import MAX_GROUPS_LOOKED_AT
from engine.support import Engine


@pytest.fixture
def queue(engine: Engine) -> Queue:
    return engine.create("q")


def flood(engine: Engine, queue: Queue, group: str, count: int) -> None:
    for number in range(count):
        engine.send(queue, f"{group}{number}", group_id=group)
    engine.settle()


def test_a_quiet_group_is_served_at_once_behind_ten_thousand(engine: Engine, queue: Queue) -> None:
    flood(engine, queue, "busy", 10_000)
    flood(engine, queue, "quiet", 3)
    assert {"quiet0", "quiet1", "quiet2"} <= set(engine.receive_bodies(queue))
    flood(engine, queue, "late", 1)
    assert "late0" in engine.receive_bodies(queue)


def test_one_at_a_time_the_groups_take_turns(engine: Engine, queue: Queue) -> None:
    for group in "abc":
        flood(engine, queue, group, 3)
    received = [engine.receive_bodies(queue, 1)[0] for _ in range(9)]
    assert [body[1] for body in received] == list("000111222")
    assert {frozenset(body[0] for body in received[turn : turn + 3]) for turn in (0, 3, 6)} == {frozenset("abc")}


def test_a_receive_is_shared_out(engine: Engine, queue: Queue) -> None:
    for group, count in (("a", 100), ("b", 100), ("c", 2)):
        flood(engine, queue, group, count)
    shares = [body[0] for body in engine.receive_bodies(queue)]
    assert shares.count("c") == 2
    assert {shares.count("a"), shares.count("b")} == {4}


def test_messages_of_a_group_may_be_in_flight_together(engine: Engine, queue: Queue) -> None:
    flood(engine, queue, "a", 30)
    assert [len(engine.receive(queue)) for _ in range(4)] == [10, 10, 10, 0]


def test_within_a_group_the_oldest_comes_first(engine: Engine, queue: Queue) -> None:
    flood(engine, queue, "a", 5)
    assert engine.receive_bodies(queue) == ["a0", "a1", "a2", "a3", "a4"]


def test_groups_with_all_in_flight_do_not_stand_in_the_way(engine: Engine, queue: Queue) -> None:
    """Far more of them than one receive looks at."""
    for number in range(MAX_GROUPS_LOOKED_AT * 3):
        engine.send(queue, "slow", group_id=f"slow{number:04}")
    while engine.receive(queue):
        engine.settle()
    flood(engine, queue, "slow0150-", 2)  # far from where the last receive ended, whichever way round
    assert engine.receive_bodies(queue) == ["slow0150-0", "slow0150-1"]
    flood(engine, queue, "slow0000", 1)
    assert engine.receive_bodies(queue) == ["slow00000"]


def test_a_quiet_group_waits_two_receives_at_most_behind_busy_ones_in_flight(engine: Engine, queue: Queue) -> None:
    for number in range(MAX_GROUPS_LOOKED_AT * 3 // 2):
        engine.send(queue, "slow", group_id=f"slow{number:04}")
    while engine.receive(queue):
        engine.settle()
    flood(engine, queue, "busy", 100)
    flood(engine, queue, "slow0130-", 1)
    assert "slow0130-0" in engine.receive_bodies(queue) + engine.receive_bodies(queue)


def test_a_message_without_a_group_is_served_beside_a_flood(engine: Engine, queue: Queue) -> None:
    engine.send(queue, "before")
    flood(engine, queue, "busy", 1000)
    engine.send(queue, "after")
    assert {"before", "after"} <= set(engine.receive_bodies(queue))
    engine.advance(30)
    assert {"before", "after"} <= set(engine.receive_bodies(queue) + engine.receive_bodies(queue))


def test_a_batch_that_makes_a_queue_fair_has_messages_without_a_group_too(engine: Engine, queue: Queue) -> None:
    batch = [Sending("one"), Sending("busy", group_id="busy"), Sending("two")]
    engine.messaging.send_batch(queue, [(str(n), sending) for n, sending in enumerate(batch)], "me")
    flood(engine, queue, "busy", 100)
    assert {"one", "two"} <= set(engine.receive_bodies(queue))
    assert all(message.group_id in (None, " ", "busy") for message in engine.listing(queue))


def test_dead_letters_of_a_plain_queue_are_served_in_a_fair_one(engine: Engine, queue: Queue) -> None:
    dead = engine.create("dead")
    engine.set_redrive(queue, dead, 1)
    flood(engine, dead, "busy", 100)
    engine.send(queue, "plain")
    engine.receive(queue)
    engine.advance(30)
    engine.receive(queue)
    assert "plain" in engine.receive_bodies(dead)


def test_fairness_survives_a_restart(on_disk: Engine) -> None:
    flood(on_disk, on_disk.create("q"), "busy", 100)
    flood(on_disk, on_disk.find("q"), "quiet", 1)
    on_disk.restart()
    assert "quiet0" in on_disk.receive_bodies(on_disk.find("q"))


def test_all_come_in_the_end(engine: Engine, queue: Queue) -> None:
    for number in range(200):
        engine.send(queue, str(number), group_id=None if number % 7 == 0 else f"g{number % 13}")
    received: list[str] = []
    while bodies := engine.receive_bodies(queue):
        received += bodies
    assert sorted(received, key=int) == [str(number) for number in range(200)]
