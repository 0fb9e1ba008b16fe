"""Message move tasks. See StartMessageMoveTask, CancelMessageMoveTask, ListMessageMoveTasks."""

from __future__ import annotations

import pytest

from broker.errors import DomainError, InvalidParameterValue, ResourceNotFoundException, UnsupportedOperation
from broker.queues import Queue
from broker.queues.move_tasks import CANCELLED, COMPLETED, FAILED, RUNNING, MoveTask
from engine.support import START_MS, WORLD, Engine


@pytest.fixture
def queue(engine: Engine) -> Queue:
    """A queue whose messages die after one receive."""
    queue = engine.create("q")
    engine.set_redrive(queue, engine.create("dead"), 1)
    return queue


def kill(engine: Engine, queue: Queue, count: int) -> None:
    """Makes dead letters."""
    for number in range(count):
        engine.send(queue, str(number))
    while engine.receive(queue, visibility_timeout_s=1):
        engine.settle()
    engine.advance(1)
    dead = engine.find("dead")
    while engine.counts(dead)[0] < count:
        engine.receive(queue)
        engine.settle()


def start(engine: Engine, to: str | None = None, rate: int | None = None) -> MoveTask:
    target = None if to is None else engine.find(to).arn
    return engine.move_tasks.start(WORLD, engine.find("dead").arn, target, rate)


def current(engine: Engine) -> MoveTask:
    return engine.move_tasks.newest(WORLD, engine.find("dead").arn, 1)[0]


def test_back_to_where_they_came_from(engine: Engine, queue: Queue) -> None:
    other = engine.create("other")
    engine.set_redrive(other, engine.find("dead"), 1)
    kill(engine, queue, 250)
    engine.send(other, "from other")
    engine.receive(other)
    engine.advance(30)
    engine.receive(other)
    task = start(engine)
    assert (task.status, task.to_move, task.moved) == (RUNNING, 251, 0)
    engine.advance(1)
    task = current(engine)
    assert (task.status, task.moved, task.failure_reason) == (COMPLETED, 251, None)
    assert engine.counts(engine.find("dead")) == (0, 0, 0)
    assert engine.counts(queue) == (250, 0, 0)
    assert engine.receive_bodies(other) == ["from other"]


def test_a_moved_message_is_a_new_one(engine: Engine, queue: Queue) -> None:
    engine.create("other")
    sent = engine.send(queue, "a", trace_header="Root=1", attributes={"k": {"DataType": "Number", "StringValue": "1"}})
    [before] = engine.receive(queue)
    engine.advance(30)
    engine.receive(queue)
    engine.advance(3600)
    start(engine, "other")
    engine.advance(1)
    [after] = engine.receive(engine.find("other"))
    assert (after.body, after.attributes, after.trace_header) == ("a", before.attributes, "Root=1")
    assert after.message_id != sent.message_id
    assert after.sent_ms == START_MS + 3_630_000
    assert (after.receive_count, after.earlier_receives, after.dead_letter_source) == (1, 0, None)


@pytest.mark.parametrize("rate", [1, 7, 15, 19, 33, 250, 500])
def test_a_rate_is_kept_and_never_passed(engine: Engine, queue: Queue, rate: int) -> None:
    other, dead = engine.create("other"), engine.find("dead")
    for _ in range(rate * 4):
        engine.send(dead)
    start(engine, "other", rate)
    engine.advance(0)
    batch = engine.counts(other)[0]
    moved = []
    for _ in range(30):
        engine.advance(0.1)
        moved.append(engine.counts(other)[0])
    for tenth, count in enumerate(moved, 1):
        assert count <= batch + rate * tenth / 10
    assert moved[-1] >= rate * 3 * 0.9
    assert current(engine).moved == moved[-1]
    engine.advance(5)
    assert current(engine).status == COMPLETED
    assert engine.counts(other) == (rate * 4, 0, 0)


def test_a_task_that_is_cancelled_leaves_the_rest(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 20)
    task = start(engine, rate=1)
    engine.advance(4.5)
    assert engine.move_tasks.cancel(task.task_id, task.source_arn).moved == 5
    engine.advance(60)
    assert (current(engine).status, current(engine).moved) == (CANCELLED, 5)
    assert engine.counts(engine.find("dead")) == (15, 0, 0)
    with pytest.raises(UnsupportedOperation):
        engine.move_tasks.cancel(task.task_id, task.source_arn)
    for task_id, arn in (("nothing", task.source_arn), (task.task_id, queue.arn)):
        with pytest.raises(ResourceNotFoundException):
            engine.move_tasks.cancel(task_id, arn)


def test_one_task_at_a_time(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 3)
    start(engine, rate=1)
    with pytest.raises(UnsupportedOperation, match="already a task running"):
        start(engine)
    engine.advance(10)
    start(engine)


@pytest.mark.parametrize("apart_s", [0, 1])
def test_the_newest_ten_are_listed_the_last_first(engine: Engine, queue: Queue, apart_s: int) -> None:
    engine.send(engine.find("dead"), "a")
    started = []
    for _ in range(12):
        task = start(engine, rate=1)
        engine.move_tasks.cancel(task.task_id, task.source_arn)
        started.append(task.task_id)
        engine.clock.set(engine.clock.now_ms() + apart_s * 1000)
    listed = [task.task_id for task in engine.move_tasks.newest(WORLD, engine.find("dead").arn, 10)]
    assert listed == started[:1:-1]
    assert len(engine.rows("SELECT * FROM move_task")) == 10


@pytest.mark.parametrize(
    ("source", "to", "rate", "error"),
    [
        ("arn:aws:sqs:us-east-1:000000000000:nothing", None, None, ResourceNotFoundException),
        ("arn:aws:sns:us-east-1:000000000000:dead", None, None, InvalidParameterValue),
        ("dead", None, None, InvalidParameterValue),
        ("arn:aws:sqs:us-east-1:000000000000:q", None, None, InvalidParameterValue),
        (
            "arn:aws:sqs:us-east-1:000000000000:dead",
            "arn:aws:sqs:us-east-1:000000000000:dead",
            None,
            InvalidParameterValue,
        ),
        (
            "arn:aws:sqs:us-east-1:000000000000:dead",
            "arn:aws:sqs:us-east-1:000000000000:x",
            None,
            ResourceNotFoundException,
        ),
        (
            "arn:aws:sqs:us-east-1:000000000000:dead",
            "arn:aws:sqs:us-east-1:000000000000:f.fifo",
            None,
            InvalidParameterValue,
        ),
        ("arn:aws:sqs:us-east-1:000000000000:dead", None, 0, InvalidParameterValue),
        ("arn:aws:sqs:us-east-1:000000000000:dead", None, 501, InvalidParameterValue),
    ],
)
def test_a_task_that_is_refused(
    engine: Engine, queue: Queue, source: str, to: str | None, rate: int | None, error: type[DomainError]
) -> None:
    engine.create("f.fifo")
    with pytest.raises(error):
        engine.move_tasks.start(WORLD, source, to, rate)
    assert engine.rows("SELECT * FROM move_task") == []


def test_a_message_that_came_from_nowhere_fails_the_task(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 2)
    engine.advance(1)
    engine.send(engine.find("dead"), "sent here")
    start(engine)
    engine.advance(1)
    task = current(engine)
    assert (task.status, task.moved, task.failure_reason) == (FAILED, 2, "CouldNotDetermineMessageSource")
    assert [m.body for m in engine.listing(engine.find("dead"))] == ["sent here"]


def test_a_destination_that_is_gone_fails_the_task(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 5)
    engine.create("other")
    start(engine, "other", rate=1)
    engine.advance(2.5)
    engine.queues.delete(engine.find("other"))
    engine.advance(1)
    task = current(engine)
    assert (task.status, task.moved, task.failure_reason) == (FAILED, 3, "AWS.SimpleQueueService.NonExistentQueue")
    assert engine.counts(engine.find("dead")) == (2, 0, 0)


def test_a_source_that_is_gone_takes_its_tasks_along(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 5)
    start(engine, rate=1)
    engine.advance(1)
    engine.queues.delete(engine.find("dead"))
    engine.advance(10)
    dead = engine.create("dead")
    assert engine.move_tasks.newest(WORLD, dead.arn, 10) == []
    assert engine.rows("SELECT * FROM move_task") == []


def test_messages_in_flight_stay(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 3)
    engine.receive(engine.find("dead"), 1)
    start(engine)
    engine.advance(1)
    assert (current(engine).status, current(engine).moved) == (COMPLETED, 2)
    assert engine.counts(engine.find("dead")) == (0, 1, 0)


def test_a_task_goes_on_after_a_restart(on_disk: Engine) -> None:
    queue = on_disk.create("q")
    on_disk.set_redrive(queue, on_disk.create("dead"), 1)
    kill(on_disk, queue, 20)
    task = start(on_disk, rate=2)
    on_disk.advance(4.9)
    on_disk.restart()
    assert current(on_disk).task_id == task.task_id
    assert 10 <= current(on_disk).moved <= 11
    on_disk.advance(10)
    assert (current(on_disk).status, current(on_disk).moved) == (COMPLETED, 20)
    assert on_disk.counts(on_disk.find("q")) == (20, 0, 0)


def test_a_task_goes_on_after_a_group_that_failed_and_at_its_own_rate(engine: Engine, queue: Queue) -> None:
    kill(engine, queue, 60)
    start(engine, rate=1)
    engine.advance(0.5)
    for _ in range(5):
        engine.broker.failed(RuntimeError("on purpose"))
        engine.advance(2)
    assert current(engine).moved <= 1 + 10 + 5
    insert, engine.store.queues.insert = engine.store.queues.insert, lambda _messages: 1 / 0  # type: ignore[method-assign,assign,return-value]
    engine.advance(5)
    engine.store.queues.insert = insert  # type: ignore[method-assign]
    assert current(engine).status == RUNNING
    moved = current(engine).moved
    engine.advance(10)
    assert moved + 8 <= current(engine).moved <= moved + 11
    assert engine.counts(queue)[0] == current(engine).moved
    engine.advance(100)
    assert (current(engine).status, current(engine).moved) == (COMPLETED, 60)


@pytest.mark.parametrize("peek", [False, True])
def test_the_order_of_a_group_is_kept(engine: Engine, peek: bool) -> None:
    queue = engine.create("q.fifo")
    dead, other = engine.create("dead.fifo"), engine.create("other.fifo")
    engine.set_redrive(queue, dead, 1)
    for number in range(30):
        engine.send(dead, f"a{number:02}", group_id="a")
        engine.send(dead, f"b{number:02}", group_id="b")
    if peek:  # somebody looks at the first ones, and they come back later than the others
        engine.receive(dead, 3)
        engine.advance(30)
    engine.move_tasks.start(WORLD, dead.arn, other.arn, 33)
    engine.advance(10)
    moved = [message.body for message in engine.listing(other)]
    assert sorted(moved) == sorted(f"{group}{number:02}" for group in "ab" for number in range(30))
    for group in "ab":
        assert [body for body in moved if body[0] == group] == [f"{group}{number:02}" for number in range(30)]


def test_a_group_in_flight_is_not_torn_apart(engine: Engine) -> None:
    queue, dead, other = engine.create("q.fifo"), engine.create("dead.fifo"), engine.create("other.fifo")
    engine.set_redrive(queue, dead, 1)
    engine.send_all(dead, "a1 a2", group_id="a")
    engine.send_all(dead, "b1", group_id="b")
    engine.receive(dead, 1)
    engine.move_tasks.start(WORLD, dead.arn, other.arn, None)
    engine.advance(1)
    assert [message.body for message in engine.listing(other)] == ["b1"]
    engine.advance(30)
    assert engine.receive_bodies(dead) == ["a1", "a2"]
