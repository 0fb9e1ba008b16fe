"""What the `aws` profile adds: quotas, and the time AWS takes. `relaxed` has none of it.

See "Amazon SQS message quotas" and "Amazon SQS FIFO queue quotas" of the guide, SetQueueAttributes, PurgeQueue,
DeleteQueue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import OverLimit, PurgeQueueInProgress, QueueDeletedRecently, QueueDoesNotExist, Throttled
from broker.limits import AWS
from broker.queues import Queue, Sending
from engine.conftest import NewEngine
from engine.support import START_MS, Engine

FEW = replace(AWS, in_flight=5, fifo_calls_per_s=3, fifo_high_throughput_calls_per_s=8)


@pytest.fixture
def few(new_engine: NewEngine) -> Engine:
    """AWS's waiting times, and quotas that are reached quickly."""
    return new_engine(limits=FEW)


def test_the_quotas_are_awss() -> None:
    assert (AWS.in_flight, AWS.fifo_calls_per_s, AWS.fifo_high_throughput_calls_per_s) == (120_000, 300, 70_000)
    assert (AWS.purge_interval_ms, AWS.delete_delay_ms, AWS.name_reuse_ms) == (60_000, 60_000, 60_000)
    assert (AWS.attribute_delay_ms, AWS.retention_delay_ms) == (60_000, 900_000)


# in flight


def test_too_many_in_flight_is_an_error(few: Engine) -> None:
    queue = few.create("q")
    for _ in range(9):
        few.send(queue)
    assert len(few.receive(queue, 3)) == 3
    received = few.receive(queue, 10)
    assert len(received) == 2  # what there is room for
    for wait_time_s in (0, 20):
        with pytest.raises(OverLimit):
            few.receive(queue, wait_time_s=wait_time_s)
    assert few.counts(queue) == (4, 5, 0)
    few.delete(queue, received[0])
    assert len(few.receive(queue)) == 1
    few.change_visibility(queue, received[1], 0)
    assert len(few.receive(queue)) == 1
    few.advance(30)
    assert len(few.receive(queue)) == 5


def test_on_a_fifo_queue_it_is_silence(few: Engine) -> None:
    queue = few.create("q.fifo")
    for number in range(9):
        few.send(queue, str(number), group_id=str(number))
        few.advance(1)
    received = few.receive(queue)
    assert len(received) == 5
    assert few.receive(queue) == []
    poll = few.poll(queue)
    few.settle()
    assert poll.messages is None
    few.delete(queue, received[0])
    few.settle()
    assert poll.bodies == ["5"]


def test_delayed_messages_are_not_in_flight(few: Engine) -> None:
    queue = few.create("q")
    for _ in range(9):
        few.send(queue, delay_s=100)
    for _ in range(5):
        few.send(queue)
    assert len(few.receive(queue)) == 5


@pytest.mark.parametrize("how", ["purge", "expire", "delete visible"])
def test_what_leaves_without_having_been_in_flight_makes_no_room(few: Engine, how: str) -> None:
    queue = few.create("q", MessageRetentionPeriod=60)
    for _ in range(20):
        few.send(queue)
    if how == "delete visible":
        while received := few.receive(queue, 5, visibility_timeout_s=1):
            few.advance(1)
            few.delete(queue, *received)
    elif how == "purge":
        few.queues.purge(queue)
    few.advance(60)
    assert few.counts(queue) == (0, 0, 0)
    for _ in range(20):
        few.send(queue)
    assert len(few.receive(queue)) == 5
    with pytest.raises(OverLimit):
        few.receive(queue)


def test_what_is_in_flight_counts_after_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path, limits=FEW)
    queue = engine.create("q")
    for _ in range(9):
        engine.send(queue)
    engine.receive(queue)
    engine.restart()
    with pytest.raises(OverLimit):
        engine.receive(engine.find("q"))


# FIFO throughput


@pytest.mark.parametrize("call", ["send", "send batch", "receive", "delete"])
def test_calls_in_a_second_are_limited_each_kind_for_itself(few: Engine, call: str) -> None:
    queue = few.create("q.fifo")
    number = iter(range(100))

    def send() -> None:
        few.send(queue, str(next(number)))

    def send_batch() -> None:
        batch = [(str(n), Sending("x", group_id="g", deduplication_id=str(next(number)))) for n in range(10)]
        few.messaging.send_batch(queue, batch, "me")

    send()
    [message] = few.receive(queue)
    few.advance(1)
    calls: dict[str, Callable[[], object]] = {
        "send": send,
        "send batch": send_batch,
        "receive": lambda: few.receive(queue),
        "delete": lambda: few.delete(queue, message),
    }
    for _ in range(3):
        calls[call]()
    with pytest.raises(Throttled):
        calls[call]()
    for other in {"send", "receive", "delete"} - {call.split()[0]}:
        calls[other]()
    few.advance(0.999)
    with pytest.raises(Throttled):
        calls[call]()
    few.advance(0.001)
    calls[call]()


def test_a_refused_call_does_not_count(few: Engine) -> None:
    queue = few.create("q.fifo")
    for second in range(5):
        for n in range(3):
            few.send(queue, f"{second}-{n}")
        for _ in range(10):
            with pytest.raises(Throttled):
                few.send(queue, "x")
        few.advance(1)
    assert few.counts(queue) == (15, 0, 0)


def test_high_throughput_limits_each_group_and_the_queue(few: Engine) -> None:
    queue = few.create("q.fifo", DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    for group in ("a", "b"):
        for number in range(3):
            few.send(queue, f"{group}{number}", group_id=group)
        with pytest.raises(Throttled):
            few.send(queue, "x", group_id=group)
    few.send(queue, "c1", group_id="c")
    few.send(queue, "c2", group_id="c")
    with pytest.raises(Throttled):
        few.send(queue, "c3", group_id="c")  # the ninth of the queue
    few.advance(1)
    few.send(queue, "c3", group_id="c")


def test_standard_queues_are_not_limited(few: Engine) -> None:
    queue = few.create("q")
    for _ in range(100):
        few.send(queue)


# purge


def test_a_purge_takes_a_minute_and_spares_what_comes_after_it(aws: Engine) -> None:
    queue = aws.create("q")
    aws.send_all(queue, "a b")
    aws.receive(queue, 1, visibility_timeout_s=600)
    aws.queues.purge(queue)
    aws.send(queue, "new", delay_s=90)
    assert aws.receive_bodies(queue, 1) == ["b"]  # "might be received but are deleted within the next minute"
    aws.advance(59.999)
    assert aws.counts(queue) == (1, 1, 1)
    aws.advance(0.001)
    assert aws.counts(queue) == (0, 0, 1)
    aws.advance(90)
    assert aws.receive_bodies(queue) == ["new"]


def test_one_purge_a_minute(aws: Engine) -> None:
    queue, other = aws.create("q"), aws.create("other")
    aws.queues.purge(queue)
    aws.queues.purge(other)
    aws.advance(59.999)
    with pytest.raises(PurgeQueueInProgress, match="Only one PurgeQueue operation on q is allowed every 60 seconds"):
        aws.queues.purge(queue)
    aws.advance(0.001)
    aws.queues.purge(queue)


def test_a_purge_spares_nothing_of_what_it_was_called_for(aws: Engine) -> None:
    """More than one step, dead letters among it, groups of a FIFO queue too."""
    queue, dead, fifo = aws.create("q"), aws.create("dead"), aws.create("q.fifo")
    aws.set_redrive(queue, dead, 1)
    aws.advance(60)
    for number in range(1300):
        aws.send(dead, "sent")
        if number % 5 == 0:
            aws.send(fifo, str(number), group_id=str(number % 11))
            aws.advance(1 if number % 1000 == 0 else 0.01)
    aws.send(queue, "a")
    aws.receive(queue, visibility_timeout_s=0)
    aws.receive(queue)
    assert aws.counts(dead) == (1301, 0, 0)
    aws.queues.purge(dead)
    aws.queues.purge(fifo)
    aws.send(dead, "new")
    aws.send(fifo, "new", group_id="3")
    aws.advance(60)
    assert aws.counts(dead) == aws.counts(fifo) == (1, 0, 0)
    assert aws.receive_bodies(dead) == aws.receive_bodies(fifo) == ["new"]


# deletion


def test_a_deleted_queue_lives_on_for_a_minute(aws: Engine) -> None:
    queue = aws.create("q")
    aws.send(queue, "a")
    poll = aws.poll(aws.create("other"))
    aws.queues.delete(queue)
    aws.advance(30)
    assert aws.receive_bodies(aws.find("q")) == ["a"]
    with pytest.raises(QueueDeletedRecently, match="wait 60 seconds"):
        aws.create("q")
    aws.queues.delete(aws.find("q"))  # the minute does not begin again
    late = aws.poll(aws.find("q"), wait_time_s=20)
    aws.advance(11)
    later = aws.poll(aws.find("q"), wait_time_s=20)
    aws.advance(18.999)
    with pytest.raises(QueueDeletedRecently):
        aws.create("q")
    aws.advance(0.001)
    with pytest.raises(QueueDoesNotExist):
        aws.find("q")
    assert aws.counts(aws.create("q")) == (0, 0, 0)
    assert (poll.messages, late.messages, later.messages) == ([], [], [])
    assert later.answered_ms == START_MS + 60_000


def test_reset_frees_names_at_once(aws: Engine) -> None:
    aws.queues.delete(aws.create("q"))
    aws.broker.reset()
    aws.create("q")
    aws.advance(120)
    aws.find("q")


# attributes


def test_a_changed_attribute_shows_at_once_and_holds_after_a_minute(aws: Engine) -> None:
    queue = aws.create("q")
    aws.set(queue, VisibilityTimeout=5)
    aws.advance(30)
    aws.set(queue, VisibilityTimeout=1, DelaySeconds=0)
    assert aws.queues.get_attributes(queue, ["VisibilityTimeout"]) == {"VisibilityTimeout": "1"}
    held = []
    for until_s in (59.999, 60, 89.999, 90):
        aws.clock.set(START_MS + round(until_s * 1000))
        held.append(queue.settings.visibility_timeout_ms)
    assert held == [30_000, 5000, 5000, 1000]


def test_retention_takes_a_quarter_of_an_hour(aws: Engine) -> None:
    queue = aws.create("q")
    aws.send(queue, "a")
    aws.set(queue, MessageRetentionPeriod=60, VisibilityTimeout=5)
    aws.advance(899.999)
    assert queue.settings.visibility_timeout_ms == 5000
    assert aws.counts(queue) == (1, 0, 0)
    aws.advance(0.001)
    assert aws.counts(queue) == (0, 0, 0)


def test_a_redrive_policy_takes_its_minute_too(aws: Engine) -> None:
    queue, dead = aws.create("q"), aws.create("dead")
    aws.set_redrive(queue, dead, 1)
    aws.send(queue, "a")
    for _ in range(2):
        assert aws.receive(queue, visibility_timeout_s=0)
    aws.advance(60)
    assert aws.receive(queue) == []
    assert aws.counts(dead) == (1, 0, 0)


# restart in the middle


def test_what_is_under_way_goes_on_after_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path, limits=AWS)
    changed, purged, deleted = (engine.create(name) for name in ("changed", "purged", "deleted"))
    engine.set(changed, VisibilityTimeout=5, MessageRetentionPeriod=60)
    engine.send_all(purged, "a b")
    engine.queues.purge(purged)
    engine.send(purged, "new")
    engine.queues.delete(deleted)
    engine.advance(59.999)
    engine.restart()
    changed, purged, _ = (engine.find(name) for name in ("changed", "purged", "deleted"))
    assert changed.settings.visibility_timeout_ms == 30_000
    assert engine.queues.get_attributes(changed, ["VisibilityTimeout"]) == {"VisibilityTimeout": "5"}
    assert engine.counts(purged) == (3, 0, 0)
    with pytest.raises(PurgeQueueInProgress):
        engine.queues.purge(purged)
    engine.advance(0.001)
    assert changed.settings.visibility_timeout_ms == 5000
    assert engine.receive_bodies(purged) == ["new"]
    engine.create("deleted")
    engine.restart(after_s=1000)
    assert engine.find("changed").settings.retention_ms == 60_000


def test_relaxed_waits_for_nothing(engine: Engine) -> None:
    queue: Queue = engine.create("q.fifo")
    for number in range(500):
        engine.send(queue, str(number), group_id=str(number))
    for _ in range(40):
        engine.receive(queue)
    engine.queues.purge(queue)
    engine.queues.purge(queue)
    engine.set(queue, VisibilityTimeout=5)
    assert queue.settings.visibility_timeout_ms == 5000
    engine.queues.delete(queue)
    engine.create("q.fifo")
