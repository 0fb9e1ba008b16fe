"""The life of queues: creation, attributes, tags, permissions, purge, deletion, and what a restart finds.

Errors and texts of single operations are in tests/wire; here is what an operation does to the others.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.errors import (
    DomainError,
    InvalidAttributeName,
    InvalidAttributeValue,
    InvalidParameterValue,
    QueueDoesNotExist,
    QueueNameExists,
)
from engine.support import START_MS, WORLD, Engine

# creation


@pytest.mark.parametrize("name", ["a", "A-b_9", "q" * 80])
def test_names_of_standard_queues(engine: Engine, name: str) -> None:
    assert engine.create(name).arn == f"arn:aws:sqs:us-east-1:000000000000:{name}"


@pytest.mark.parametrize("name", ["", "a.b", "a b", "é", "q" * 81, "a.fifo"])
def test_names_that_no_standard_queue_may_have(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidParameterValue):
        engine.queues.create(WORLD, name, {})


@pytest.mark.parametrize("name", ["a", ".fifo", "a.FIFO", "q" * 76 + ".fifo"])
def test_names_that_no_fifo_queue_may_have(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidParameterValue):
        engine.queues.create(WORLD, name, {"FifoQueue": "true"})


def test_creating_a_queue_again_is_no_error_unless_it_is_another(engine: Engine) -> None:
    queue = engine.create("q", VisibilityTimeout=10)
    assert engine.create("q") is queue
    assert engine.create("q", VisibilityTimeout=10, DelaySeconds=0) is queue
    with pytest.raises(QueueNameExists, match="VisibilityTimeout"):
        engine.create("q", VisibilityTimeout=11)
    engine.set(queue, VisibilityTimeout=11)
    assert engine.create("q", VisibilityTimeout="11") is queue


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"VisibilityTimeout": "43201"}, InvalidAttributeValue),
        ({"VisibilityTimeout": "+1"}, InvalidAttributeValue),
        ({"VisibilityTimeout": "1_0"}, InvalidAttributeValue),
        ({"VisibilityTimeout": "٣"}, InvalidAttributeValue),
        ({"DelaySeconds": "901"}, InvalidAttributeValue),
        ({"MessageRetentionPeriod": "59"}, InvalidAttributeValue),
        ({"MessageRetentionPeriod": "1209601"}, InvalidAttributeValue),
        ({"MaximumMessageSize": "1023"}, InvalidAttributeValue),
        ({"ReceiveMessageWaitTimeSeconds": "21"}, InvalidAttributeValue),
        ({"FifoQueue": "false"}, InvalidAttributeName),
        ({"ContentBasedDeduplication": "true"}, InvalidAttributeName),
        ({"QueueArn": "x"}, InvalidAttributeName),
        ({"Nonsense": "x"}, InvalidAttributeName),
        ({"RedrivePolicy": "[]"}, InvalidParameterValue),
        ({"Policy": "{"}, InvalidAttributeValue),
    ],
)
def test_a_queue_that_is_refused_is_not_there(engine: Engine, given: dict[str, str], error: type[DomainError]) -> None:
    with pytest.raises(error):
        engine.queues.create(WORLD, "q", given)
    with pytest.raises(QueueDoesNotExist):
        engine.find("q")
    queue = engine.create("q")
    before = engine.queues.get_attributes(queue, ["All"])
    with pytest.raises(error):
        engine.queues.set_attributes(queue, {"DelaySeconds": "5", **given})
    assert engine.queues.get_attributes(queue, ["All"]) == before


def test_high_throughput_needs_the_scope_of_the_group(engine: Engine) -> None:
    queue = engine.create("q.fifo")
    with pytest.raises(InvalidAttributeValue, match="DeduplicationScope is messageGroup"):
        engine.set(queue, FifoThroughputLimit="perMessageGroupId")
    engine.set(queue, FifoThroughputLimit="perMessageGroupId", DeduplicationScope="messageGroup")
    with pytest.raises(InvalidAttributeValue):
        engine.set(queue, DeduplicationScope="queue")


def test_attributes_as_they_are_shown(engine: Engine) -> None:
    queue = engine.create("q")
    engine.advance(7)
    engine.set(queue, DelaySeconds=3)
    assert engine.queues.get_attributes(queue, ["All"]) == {
        "QueueArn": queue.arn,
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
        "CreatedTimestamp": str(START_MS // 1000),
        "LastModifiedTimestamp": str(START_MS // 1000 + 7),
        "VisibilityTimeout": "30",
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        "DelaySeconds": "3",
        "ReceiveMessageWaitTimeSeconds": "0",
        "SqsManagedSseEnabled": "true",
    }
    assert engine.queues.get_attributes(queue, ["QueueArn", "DelaySeconds", "Policy"]) == {
        "QueueArn": queue.arn,
        "DelaySeconds": "3",
    }
    assert engine.queues.get_attributes(queue, []) == {}
    with pytest.raises(InvalidAttributeName):
        engine.queues.get_attributes(queue, ["Nonsense"])


@pytest.mark.parametrize(
    ("changes", "managed", "key"),
    [
        ([], "true", None),
        ([{"SqsManagedSseEnabled": "false"}], "false", None),
        ([{"KmsMasterKeyId": "alias/k"}], "false", "alias/k"),
        ([{"KmsMasterKeyId": "alias/k"}, {"SqsManagedSseEnabled": "true"}], "true", None),
        ([{"KmsMasterKeyId": "alias/k"}, {"KmsMasterKeyId": ""}], "false", None),
    ],
)
def test_one_encryption_at_a_time(engine: Engine, changes: list[dict[str, str]], managed: str, key: str | None) -> None:
    queue = engine.create("q")
    for change in changes:
        engine.set(queue, **change)
    shown = engine.queues.get_attributes(queue, ["All"])
    assert (shown["SqsManagedSseEnabled"], shown.get("KmsMasterKeyId")) == (managed, key)


def test_queues_are_listed_by_name_and_prefix(engine: Engine) -> None:
    for name in ("b", "a2", "a1", "c"):
        engine.create(name)
    assert [queue.name for queue in engine.queues.list_queues(WORLD)] == ["a1", "a2", "b", "c"]
    assert [queue.name for queue in engine.queues.list_queues(WORLD, "a")] == ["a1", "a2"]


def test_tags_come_and_go(engine: Engine) -> None:
    queue = engine.queues.create(WORLD, "q", {}, {"a": "1", "b": ""})
    engine.queues.tag(queue, {"b": "2", "c": "3"})
    engine.queues.untag(queue, ["a", "nothing"])
    assert queue.tags == {"b": "2", "c": "3"}
    for wrong in ({"": "x"}, {"aws:x": "x"}, {"k" * 129: "x"}, {"k": "v" * 257}, {str(n): "x" for n in range(51)}):
        with pytest.raises(InvalidParameterValue):
            engine.queues.tag(queue, wrong)
    assert queue.tags == {"b": "2", "c": "3"}


def test_permissions_are_statements_of_the_policy(engine: Engine) -> None:
    queue = engine.create("q")
    engine.queues.add_permission(queue, "one", ["1" * 12], ["SendMessage"])
    engine.queues.add_permission(queue, "two", ["1" * 12, "2" * 12], ["*"])
    with pytest.raises(InvalidParameterValue, match="Already exists"):
        engine.queues.add_permission(queue, "one", ["1" * 12], ["SendMessage"])
    engine.queues.remove_permission(queue, "one")
    policy = json.loads(engine.queues.get_attributes(queue, ["Policy"])["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["two"]
    engine.queues.remove_permission(queue, "two")
    assert "Policy" not in engine.queues.get_attributes(queue, ["All"])
    with pytest.raises(InvalidParameterValue):
        engine.queues.remove_permission(queue, "two")


# purge


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_a_purge_takes_all_at_once_and_the_rows_go_later(engine: Engine, name: str) -> None:
    queue = engine.create(name)
    engine.send_all(queue, "a b c")
    received = engine.receive(queue, 2)
    if not queue.fifo:
        engine.send(queue, "d", delay_s=5)
    engine.queues.purge(queue)
    assert engine.counts(queue) == (0, 0, 0)
    assert engine.receive(queue) == []
    # The rows are still there, and no handle reaches them.
    assert engine.rows("SELECT count(*) FROM message") != [(0,)]
    engine.delete(queue, *received)
    with pytest.raises(InvalidParameterValue):
        engine.change_visibility(queue, received[0], 0)
    assert engine.counts(queue) == (0, 0, 0)
    engine.send(queue, "new", **({"group_id": "g"} if queue.fifo else {}))
    engine.settle()
    assert engine.rows("SELECT count(*) FROM message") == [(1,)]
    assert engine.rows("SELECT count(*) FROM discarded_shelf") == [(0,)]
    assert engine.receive_bodies(queue) == ["new"]
    engine.delete(queue, *received)
    assert engine.counts(queue) == (0, 1, 0)


def test_an_attempt_before_a_purge_gives_nothing_after_it(engine: Engine) -> None:
    queue = engine.create("q.fifo")
    engine.send_all(queue, "a b c")
    assert engine.receive(queue, attempt_id="attempt")
    engine.queues.purge(queue)
    assert engine.receive(queue, attempt_id="attempt") == []


# deletion


def test_a_deleted_queue_is_gone_and_its_name_is_free(engine: Engine) -> None:
    queue = engine.create("q", DelaySeconds=0)
    engine.queues.tag(queue, {"a": "b"})
    engine.send_all(queue, "a b")
    engine.queues.delete(queue)
    engine.queues.delete(queue)
    with pytest.raises(QueueDoesNotExist):
        engine.find("q")
    again = engine.create("q", DelaySeconds=1)
    assert (engine.counts(again), again.tags) == ((0, 0, 0), {})
    engine.settle()
    assert engine.rows("SELECT count(*) FROM message") == [(0,)]
    assert engine.rows("SELECT name FROM queue") == [("q",)]


def test_timers_of_a_deleted_queue_do_nothing_to_its_successor(engine: Engine) -> None:
    queue = engine.create("q", MessageRetentionPeriod=60)
    engine.send(queue, "old", delay_s=5)
    engine.poll(queue)
    engine.queues.delete(queue)
    again = engine.create("q")
    engine.send(again, "new", delay_s=10)
    poll = engine.poll(again)
    engine.advance(60)
    assert poll.bodies == ["new"]
    assert engine.counts(again) == (1, 0, 0)


def test_reset_forgets_everything(engine: Engine) -> None:
    for name in ("a", "b.fifo", "dead"):
        engine.send(engine.create(name), "x")
    engine.set_redrive(engine.find("a"), engine.find("dead"), 1)
    engine.move_tasks.start(WORLD, engine.find("dead").arn, None, 1)
    engine.receive(engine.find("b.fifo"), attempt_id="attempt")
    engine.broker.reset()
    engine.advance(1)
    assert engine.queues.list_queues(WORLD) == []
    for table in ("queue", "message", "fifo_group", "duplicate", "receive_attempt", "move_task", "discarded_shelf"):
        assert engine.rows(f"SELECT * FROM {table}") == [], table
    engine.send(engine.create("b.fifo"), "x")
    assert engine.counts(engine.find("b.fifo")) == (1, 0, 0)


# groups that fail


def test_a_failed_group_leaves_queues_as_they_were(engine: Engine) -> None:
    kept, deleted = engine.create("kept"), engine.create("deleted")
    engine.send(kept, "a")
    engine.send(deleted, "a")
    engine.settle()
    before = engine.queues.get_attributes(kept, ["All"]), engine.queues.get_attributes(deleted, ["All"])
    engine.settle()
    engine.send_all(kept, "b c")
    engine.set(kept, DelaySeconds=5)
    engine.queues.tag(kept, {"a": "b"})
    engine.queues.delete(deleted)
    engine.create("deleted", DelaySeconds=9)
    engine.create("new")
    poll = engine.poll(engine.find("new"))
    engine.broker.failed(RuntimeError("on purpose"))
    assert sorted(queue.name for queue in engine.queues.list_queues(WORLD)) == ["deleted", "kept"]
    kept, deleted = engine.find("kept"), engine.find("deleted")
    after = engine.queues.get_attributes(kept, ["All"]), engine.queues.get_attributes(deleted, ["All"])
    assert after == before
    assert kept.tags == {}
    assert poll.messages == []
    assert engine.receive_bodies(deleted) == ["a"]
    engine.advance(60)
    assert engine.counts(kept) == engine.counts(deleted) == (1, 0, 0)


@pytest.mark.parametrize("method", ["ids_sent_before", "delete_ids"])
def test_expiry_that_fails_is_tried_again(engine: Engine, method: str, caplog: pytest.LogCaptureFixture) -> None:
    queue = engine.create("q", MessageRetentionPeriod=60)
    engine.send(queue, "a")
    works = getattr(engine.store.queues, method)
    failures: list[int] = []

    def fails(*_arguments: Any) -> Any:
        failures.append(engine.clock.now_ms())
        raise OSError("on purpose")

    setattr(engine.store.queues, method, fails)
    engine.advance(65)
    assert failures == [START_MS + 60_000 + 1000 * n for n in range(6)]
    assert engine.counts(queue) == (1, 0, 0)
    setattr(engine.store.queues, method, works)
    engine.advance(1)
    assert engine.counts(queue) == (0, 0, 0)
    engine.send(queue, "b")
    engine.advance(60)
    assert engine.counts(queue) == (0, 0, 0)
    assert "Sidebus failed (OSError)" in caplog.text


def test_a_sweep_that_fails_is_tried_again_and_does_not_spin(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send_all(queue, "a b c")
    works, failures = engine.store.queues.sweep_shelves, []

    def fails(_limit: int) -> int:
        failures.append(engine.clock.now_ms())
        raise OSError("on purpose")

    engine.store.queues.sweep_shelves = fails  # type: ignore[method-assign]
    engine.queues.purge(queue)
    engine.advance(3)
    assert failures == [START_MS + 1000 * n for n in range(4)]
    engine.store.queues.sweep_shelves = works  # type: ignore[method-assign]
    engine.advance(1)
    assert engine.rows("SELECT count(*) FROM message") == [(0,)]


def test_a_group_whose_undoing_fails_is_undone_before_the_next(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    engine.settle()
    works, told = engine.store.queues.load_queues, []
    engine.send(queue, "b")
    engine.broker.commit.then(told.append)
    engine.store.queues.load_queues = lambda: 1 / 0  # type: ignore[method-assign,assign,return-value]
    engine.broker.failed(RuntimeError("on purpose"))
    assert len(told) == 1
    assert told[0] is not None
    with pytest.raises(ZeroDivisionError):
        engine.send(queue, "c")
    engine.broker.failed(RuntimeError("on purpose"))
    engine.store.queues.load_queues = works  # type: ignore[method-assign]
    engine.send(engine.find("q"), "d")
    engine.settle()
    assert engine.counts(engine.find("q")) == (2, 0, 0)
    assert engine.receive_bodies(engine.find("q")) == ["a", "d"]


# restart


def test_a_restart_finds_all_as_it_was(on_disk: Engine) -> None:
    for name in ("q", "q.fifo"):
        queue = on_disk.create(name, VisibilityTimeout=60, MessageRetentionPeriod=3600)
        on_disk.queues.tag(queue, {"a": "b"})
        on_disk.send_all(queue, "a b c d")
        on_disk.advance(0.25)
    kept = {name: on_disk.receive(on_disk.find(name), 2) for name in ("q", "q.fifo")}
    on_disk.send(on_disk.find("q"), "late", delay_s=30)
    before = {name: on_disk.queues.get_attributes(on_disk.find(name), ["All"]) for name in kept}
    listings = {name: on_disk.listing(on_disk.find(name)) for name in kept}
    on_disk.restart()
    for name, messages in kept.items():
        queue = on_disk.find(name)
        assert on_disk.queues.get_attributes(queue, ["All"]) == before[name]
        assert on_disk.listing(queue) == listings[name]
        assert queue.tags == {"a": "b"}
        on_disk.delete(queue, messages[0])  # handles hold
    on_disk.advance(60)
    assert sorted(on_disk.receive_bodies(on_disk.find("q"))) == ["b", "c", "d", "late"]
    assert on_disk.receive_bodies(on_disk.find("q.fifo")) == ["b", "c", "d"]
    on_disk.advance(3600)
    assert on_disk.counts(on_disk.find("q")) == on_disk.counts(on_disk.find("q.fifo")) == (0, 0, 0)


def test_what_expired_while_nobody_was_there_is_gone(on_disk: Engine) -> None:
    queue = on_disk.create("q", MessageRetentionPeriod=60)
    for _ in range(1200):
        on_disk.send(queue)
    on_disk.settle()
    on_disk.restart(after_s=60)
    assert on_disk.counts(on_disk.find("q")) == (0, 0, 0)


def test_a_sweep_goes_on_after_a_restart(on_disk: Engine) -> None:
    queue = on_disk.create("q")
    for _ in range(1200):
        on_disk.send(queue)
    on_disk.settle()
    on_disk.queues.purge(queue)
    on_disk.broker.commit.flush()
    on_disk.restart()
    assert on_disk.rows("SELECT count(*) FROM message") == [(0,)]
