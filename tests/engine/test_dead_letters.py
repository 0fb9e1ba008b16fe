"""Dead letters: the move is part of the receive, and the message keeps what AWS says it keeps.

See "Using dead-letter queues" and "Setting-up dead-letter queue retention" of the guide.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.errors import InvalidParameterValue
from broker.names import World
from broker.queues import Queue
from engine.support import DAY_S, START_MS, Engine


def pair(engine: Engine, suffix: str = "", max_receives: int = 1, **of_dead: Any) -> tuple[Queue, Queue]:
    queue, dead = engine.create(f"q{suffix}"), engine.create(f"dead{suffix}", **of_dead)
    engine.set_redrive(queue, dead, max_receives)
    return queue, dead


def let_die(engine: Engine, queue: Queue) -> None:
    """Receives until nothing comes any more."""
    while engine.receive(queue, visibility_timeout_s=1):
        engine.advance(1)


@pytest.mark.parametrize("suffix", ["", ".fifo"])
@pytest.mark.parametrize("max_receives", [1, 3, 1000])
def test_a_message_is_received_so_often_and_no_more(engine: Engine, suffix: str, max_receives: int) -> None:
    queue, dead = pair(engine, suffix, max_receives)
    engine.send(queue, "a")
    for count in range(1, max_receives + 1):
        [message] = engine.receive(queue, visibility_timeout_s=1)
        assert message.receive_count == count
        engine.advance(1)
    assert (engine.counts(queue), engine.counts(dead)) == ((1, 0, 0), (0, 0, 0))
    assert engine.receive(queue) == []
    assert (engine.counts(queue), engine.counts(dead)) == ((0, 0, 0), (1, 0, 0))


def test_what_a_dead_letter_keeps(engine: Engine) -> None:
    queue, dead = pair(engine, max_receives=2)
    attributes = {"k": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    sent = engine.send(queue, "a", attributes=attributes, trace_header="Root=1")
    engine.advance(5)
    [before] = engine.receive(queue, visibility_timeout_s=1)
    engine.advance(1)
    let_die(engine, queue)
    [after] = engine.receive(dead)
    assert after.message_id == sent.message_id
    for name in ("body", "md5", "attributes", "attributes_md5", "trace_header", "sender_id", "sent_ms"):
        assert getattr(after, name) == getattr(before, name)
    assert after.dead_letter_source == queue.arn
    assert after.first_received_ms == START_MS + 5000
    assert after.earlier_receives + after.receive_count == 3  # across all queues


def test_old_handles_are_of_no_use_for_a_dead_letter(engine: Engine) -> None:
    queue, dead = pair(engine)
    engine.send(queue, "a")
    [message] = engine.receive(queue, visibility_timeout_s=1)
    engine.advance(1)
    engine.receive(queue)
    engine.delete(queue, message)
    with pytest.raises(InvalidParameterValue):
        engine.change_visibility(queue, message, 5)
    assert engine.counts(dead) == (1, 0, 0)


@pytest.mark.parametrize(("suffix", "days_left"), [("", 3), (".fifo", 4)])
def test_retention_counts_from_the_first_send_and_for_fifo_from_the_move(
    engine: Engine, suffix: str, days_left: int
) -> None:
    """The guide's example: a day in the queue, then a dead-letter queue that keeps messages for four days."""
    queue, dead = pair(engine, suffix, MessageRetentionPeriod=4 * DAY_S)
    engine.send(queue, "a")
    engine.receive(queue)
    engine.advance(DAY_S)
    engine.receive(queue)
    engine.advance(days_left * DAY_S - 0.001)
    assert engine.counts(dead) == (1, 0, 0)
    engine.advance(0.001)
    assert engine.counts(dead) == (0, 0, 0)


def test_a_dead_letter_that_is_older_than_what_is_there_goes_first(engine: Engine) -> None:
    queue, dead = pair(engine, MessageRetentionPeriod=2 * DAY_S)
    engine.send(queue, "old")
    engine.receive(queue)
    engine.advance(DAY_S)
    engine.send(dead, "young")
    engine.receive(queue)
    assert engine.counts(dead) == (2, 0, 0)
    engine.advance(DAY_S)
    assert engine.counts(dead) == (1, 0, 0)
    assert engine.receive_bodies(dead) == ["young"]


def test_a_dead_letter_older_than_its_new_queue_keeps_is_gone_at_once(engine: Engine) -> None:
    queue, dead = pair(engine, MessageRetentionPeriod=60)
    engine.send(queue, "a")
    engine.receive(queue)
    engine.advance(60)
    engine.receive(queue)
    assert engine.receive(dead) == []
    engine.advance(0)
    assert engine.counts(dead) == (0, 0, 0)


def test_a_receive_that_meets_dead_letters_gives_what_is_behind_them(engine: Engine) -> None:
    queue, dead = pair(engine)
    engine.send_all(queue, "d1 d2 d3")
    engine.receive(queue, visibility_timeout_s=1)
    engine.advance(2)
    engine.send_all(queue, "a b c")
    assert engine.receive_bodies(queue, 3) == ["a", "b", "c"]
    assert engine.counts(dead) == (3, 0, 0)


def test_the_move_and_the_receive_happen_together_or_not_at_all(engine: Engine) -> None:
    queue, dead = pair(engine)
    engine.send(queue, "dead")
    engine.receive(queue, visibility_timeout_s=1)
    engine.advance(2)
    engine.send(queue, "alive")
    engine.settle()
    before = engine.listing(queue), engine.counts(queue), engine.listing(dead), engine.counts(dead)
    assert engine.receive_bodies(queue) == ["alive"]
    engine.broker.failed(RuntimeError("on purpose"))
    assert (engine.listing(queue), engine.counts(queue), engine.listing(dead), engine.counts(dead)) == before
    assert engine.receive_bodies(queue) == ["alive"]
    engine.settle()
    assert engine.counts(dead) == (1, 0, 0)


def test_the_order_of_a_group_is_kept_among_dead_letters(engine: Engine) -> None:
    queue, dead = pair(engine, ".fifo")
    for body in ("a1", "b1", "a2", "b2", "a3"):
        engine.send(queue, body, group_id=body[0])
    let_die(engine, queue)
    bodies = [message.body for message in engine.listing(dead)]
    assert [body for body in bodies if body[0] == "a"] == ["a1", "a2", "a3"]
    assert [body for body in bodies if body[0] == "b"] == ["b1", "b2"]


def test_what_comes_after_a_dead_letter_in_its_group_is_received(engine: Engine) -> None:
    queue, dead = pair(engine, ".fifo")
    engine.send_all(queue, "1 2")
    engine.receive(queue, 1, visibility_timeout_s=1)
    engine.advance(1)
    assert engine.receive_bodies(queue) == ["2"]
    assert engine.receive_bodies(dead) == ["1"]


def test_dead_letters_may_die_again(engine: Engine) -> None:
    queue, dead = pair(engine)
    deader = engine.create("deader")
    engine.set_redrive(dead, deader, 2)
    engine.send(queue, "a")
    let_die(engine, queue)
    let_die(engine, dead)
    [message] = engine.receive(deader)
    assert message.dead_letter_source == dead.arn
    assert message.earlier_receives == 3


def test_without_its_dead_letter_queue_a_message_goes_on_being_received(engine: Engine) -> None:
    queue, dead = pair(engine)
    engine.send(queue, "a")
    engine.queues.delete(dead)
    for count in range(1, 5):
        assert [m.receive_count for m in engine.receive(queue)] == [count]
        engine.advance(30)
    dead = engine.create("dead")
    assert engine.receive(queue) == []
    assert engine.counts(dead) == (1, 0, 0)


def test_a_policy_holds_from_when_it_is_set_until_it_is_taken_away(engine: Engine) -> None:
    queue, dead = pair(engine, max_receives=1)
    engine.set(queue, RedrivePolicy="")
    engine.send(queue, "a")
    for _ in range(5):
        assert engine.receive_bodies(queue) == ["a"]
        engine.advance(30)
    engine.set_redrive(queue, dead, 5)
    assert engine.receive(queue) == []
    assert engine.receive(dead)[0].earlier_receives == 5


def test_who_may_use_a_dead_letter_queue(engine: Engine) -> None:
    other_world = World("1" * 12, "us-east-1")
    foreign = engine.queues.create(other_world, "dead", {})
    queue, fifo = engine.create("q"), engine.create("q.fifo")
    permissions = {
        "all": {"redrivePermission": "allowAll"},
        "none": {"redrivePermission": "denyAll"},
        "named": {"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]},
        "other": {"redrivePermission": "byQueue", "sourceQueueArns": [fifo.arn]},
    }
    for name, permission in permissions.items():
        engine.create(name, RedriveAllowPolicy=permission)
    allowed = []
    for target in ("all", "none", "named", "other", "q.fifo", "nothing"):
        arn = queue.arn.replace(":q", f":{target}")
        try:
            engine.set(queue, RedrivePolicy={"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        except InvalidParameterValue:
            continue
        allowed.append(target)
    assert allowed == ["all", "named"]
    with pytest.raises(InvalidParameterValue, match="does not exist"):
        engine.set_redrive(queue, foreign, 1)
    with pytest.raises(InvalidParameterValue, match="does not allow"):
        engine.create("new", RedrivePolicy={"deadLetterTargetArn": engine.find("none").arn, "maxReceiveCount": "1"})
    assert engine.queues.dead_letter_sources(engine.find("named")) == [queue]
    assert engine.queues.dead_letter_sources(engine.find("all")) == []


@pytest.mark.parametrize("count", [0, 1001, "0", "x", 1.5, True, None, "00001"])
def test_a_receive_count_that_is_refused(engine: Engine, count: object) -> None:
    dead = engine.create("dead")
    with pytest.raises(InvalidParameterValue, match="maxReceiveCount"):
        engine.create("q", RedrivePolicy={"deadLetterTargetArn": dead.arn, "maxReceiveCount": count})


def test_a_count_as_a_string_is_kept_as_a_number(engine: Engine) -> None:
    queue, dead = engine.create("q"), engine.create("dead")
    engine.set(queue, RedrivePolicy=json.dumps({"maxReceiveCount": "10", "deadLetterTargetArn": dead.arn}))
    shown = engine.queues.get_attributes(queue, ["RedrivePolicy"])["RedrivePolicy"]
    assert json.loads(shown) == {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 10}
