"""Standard queues: visibility, delays, handles, batches, retention. Follows the API reference of each operation."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from broker.errors import (
    BatchEntryIdsNotDistinct,
    BatchRequestTooLong,
    DomainError,
    EmptyBatchRequest,
    InvalidBatchEntryId,
    InvalidMessageContents,
    InvalidParameterValue,
    MessageNotInflight,
    MissingParameter,
    ReceiptHandleIsInvalid,
    TooManyEntriesInBatchRequest,
)
from broker.limits import MAX_MESSAGE_BYTES
from broker.names import World
from broker.queues import Sending, Sent
from engine.support import DAY_S, START_MS, Engine

# visibility


@pytest.mark.parametrize(
    ("of_queue", "of_receive", "hidden_s"),
    [({}, None, 30), ({"VisibilityTimeout": 7}, None, 7), ({"VisibilityTimeout": 7}, 3, 3), ({}, 43_200, 43_200)],
)
def test_a_received_message_is_hidden(
    engine: Engine, of_queue: dict[str, int], of_receive: int | None, hidden_s: int
) -> None:
    queue = engine.create("q", **of_queue)
    engine.send(queue, "a")
    assert engine.receive_bodies(queue, visibility_timeout_s=of_receive) == ["a"]
    assert engine.counts(queue) == (0, 1, 0)
    engine.advance(hidden_s - 0.001)
    assert engine.receive(queue) == []
    engine.advance(0.001)
    assert engine.counts(queue) == (1, 0, 0)
    assert engine.receive_bodies(queue) == ["a"]


def test_with_a_visibility_timeout_of_zero_a_message_is_not_hidden_but_counted(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    received = [engine.receive(queue, visibility_timeout_s=0)[0].receive_count for _ in range(3)]
    assert received == [1, 2, 3]
    assert engine.counts(queue) == (1, 0, 0)


def test_each_receive_counts_and_only_the_first_sets_the_first_time(engine: Engine) -> None:
    queue = engine.create("q", VisibilityTimeout=1)
    sent = engine.send(queue, "a")
    told = []
    for _ in range(3):
        engine.advance(2)
        [message] = engine.receive(queue)
        told.append((message.receive_count, message.first_received_ms, message.sent_ms, message.message_id))
    assert told == [(count, START_MS + 2000, START_MS, sent.message_id) for count in (1, 2, 3)]


def test_what_has_been_visible_longest_comes_first(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send_all(queue, "a b c")
    engine.receive(queue, 1, visibility_timeout_s=10)
    engine.advance(5)
    engine.send(queue, "d")
    engine.advance(5)
    assert [engine.receive_bodies(queue, 1) for _ in range(5)] == [["b"], ["c"], ["d"], ["a"], []]


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_a_receive_gives_no_more_than_asked_and_no_less_than_there_is(engine: Engine, limit: int) -> None:
    queue = engine.create("q")
    engine.send_all(queue, "a b c d e")
    assert len(engine.receive(queue, limit)) == min(limit, 5)


@pytest.mark.parametrize(
    ("of_queue", "of_message", "delay_s"), [(0, None, 0), (5, None, 5), (5, 0, 0), (5, 9, 9), (900, 900, 900)]
)
def test_a_delay_is_the_messages_or_else_the_queues(
    engine: Engine, of_queue: int, of_message: int | None, delay_s: int
) -> None:
    queue = engine.create("q", DelaySeconds=of_queue)
    engine.send(queue, "a", delay_s=of_message)
    assert engine.counts(queue) == ((0, 0, 1) if delay_s else (1, 0, 0))
    if delay_s:
        engine.advance(delay_s - 0.001)
        assert engine.receive(queue) == []
        engine.advance(0.001)
    assert engine.receive_bodies(queue) == ["a"]


def test_a_changed_delay_of_the_queue_leaves_what_was_sent_before(engine: Engine) -> None:
    queue = engine.create("q", DelaySeconds=10)
    engine.send(queue, "a")
    engine.set(queue, DelaySeconds=0)
    engine.send(queue, "b")
    assert engine.receive_bodies(queue) == ["b"]


# after the receive


def test_a_deleted_message_is_gone(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send_all(queue, "a b")
    [message] = engine.receive(queue, 1)
    engine.delete(queue, message)
    engine.delete(queue, message)  # a second time is no error
    assert engine.counts(queue) == (1, 0, 0)
    engine.advance(60)
    assert engine.receive_bodies(queue) == ["b"]


def test_the_last_handle_deletes_also_when_the_message_is_visible_again(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    [message] = engine.receive(queue)
    engine.advance(60)
    engine.delete(queue, message)
    assert engine.counts(queue) == (0, 0, 0)


def test_an_old_handle_deletes_nothing(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    [old] = engine.receive(queue)
    engine.advance(60)
    engine.receive(queue)
    engine.delete(queue, old)
    assert engine.counts(queue) == (0, 1, 0)


def test_a_handle_is_its_queues_own(engine: Engine) -> None:
    queue, other = engine.create("q"), engine.create("other")
    engine.send(queue, "a")
    [message] = engine.receive(queue)
    handle = engine.handle(queue, message)
    wrong = [handle[:-1], handle + "=", handle.swapcase(), message.message_id, "", "AQEB" + "A" * 28, "é" * 32]
    for told in [*wrong, "AQEB" + "*" * 28]:
        with pytest.raises(ReceiptHandleIsInvalid):
            engine.messaging.delete_message(queue, told)
    with pytest.raises(ReceiptHandleIsInvalid):
        engine.messaging.delete_message(other, handle)
    engine.queues.delete(queue)
    with pytest.raises(ReceiptHandleIsInvalid):
        engine.messaging.change_visibility(engine.create("q"), handle, 0)


@pytest.mark.parametrize(("timeout_s", "visible_after_s"), [(0, 0), (5, 5), (600, 600)])
def test_a_changed_visibility_counts_from_the_change(engine: Engine, timeout_s: int, visible_after_s: int) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    [message] = engine.receive(queue)
    engine.advance(20)
    engine.change_visibility(queue, message, timeout_s)
    if visible_after_s:
        engine.advance(visible_after_s - 0.001)
        assert engine.receive(queue) == []
        engine.advance(0.001)
    [again] = engine.receive(queue)
    engine.advance(29.999)
    assert engine.receive(queue) == []  # the queue's own timeout again
    assert again.receive_count == 2


def test_what_cannot_be_changed(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send_all(queue, "a b")
    first, second = engine.receive(queue)
    engine.delete(queue, second)
    with pytest.raises(InvalidParameterValue, match="does not exist or is not available"):
        engine.change_visibility(queue, second, 5)
    engine.advance(30)
    with pytest.raises(MessageNotInflight):
        engine.change_visibility(queue, first, 5)
    [again] = engine.receive(queue)
    with pytest.raises(InvalidParameterValue, match="does not exist or is not available"):
        engine.change_visibility(queue, first, 5)
    for timeout_s in (-1, 43_201):
        with pytest.raises(InvalidParameterValue, match="between 0 and 43200"):
            engine.change_visibility(queue, again, timeout_s)
    assert engine.counts(queue) == (0, 1, 0)


def test_a_message_stays_hidden_twelve_hours_at_most(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    [message] = engine.receive(queue)
    engine.advance(10)
    with pytest.raises(InvalidParameterValue, match="beyond the limit"):
        engine.change_visibility(queue, message, 43_191)
    engine.change_visibility(queue, message, 43_190)
    engine.advance(43_189)
    engine.change_visibility(queue, message, 1)
    engine.advance(1)
    [again] = engine.receive(queue)
    engine.change_visibility(queue, again, 43_200)  # twelve hours anew with each receive


# batches


def test_each_entry_of_a_batch_has_its_own_outcome(engine: Engine) -> None:
    queue = engine.create("q")
    outcomes = engine.messaging.send_batch(
        queue, [("1", Sending("a")), ("2", Sending("\0")), ("3", Sending("b", delay_s=901)), ("4", Sending("c"))], "me"
    )
    assert [type(outcome) for outcome in outcomes] == [Sent, InvalidMessageContents, InvalidParameterValue, Sent]
    a, c = engine.receive(queue)
    handles = [engine.handle(queue, a), "nothing", engine.handle(queue, c)]
    changed = engine.messaging.change_visibility_batch(
        queue, [(str(n), handle, 99_999 if n == 2 else 60) for n, handle in enumerate(handles)]
    )
    assert [type(outcome) for outcome in changed] == [type(None), ReceiptHandleIsInvalid, InvalidParameterValue]
    deleted = engine.messaging.delete_message_batch(queue, [(str(n), handle) for n, handle in enumerate(handles)])
    assert [type(outcome) for outcome in deleted] == [type(None), ReceiptHandleIsInvalid, type(None)]
    assert engine.counts(queue) == (0, 0, 0)


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([], EmptyBatchRequest),
        ([str(n) for n in range(11)], TooManyEntriesInBatchRequest),
        (["a", "b", "a"], BatchEntryIdsNotDistinct),
        (["a", "b c"], InvalidBatchEntryId),
        (["a", "b" * 81], InvalidBatchEntryId),
        (["a", ""], InvalidBatchEntryId),
    ],
)
def test_a_batch_that_is_wrong_as_a_whole_does_nothing(
    engine: Engine, ids: list[str], error: type[DomainError]
) -> None:
    queue = engine.create("q")
    calls: list[Any] = [
        lambda: engine.messaging.send_batch(queue, [(id, Sending("a")) for id in ids], "me"),
        lambda: engine.messaging.delete_message_batch(queue, [(id, "handle") for id in ids]),
        lambda: engine.messaging.change_visibility_batch(queue, [(id, "handle", 0) for id in ids]),
    ]
    for call in calls:
        with pytest.raises(error):
            call()
    assert engine.counts(queue) == (0, 0, 0)


# what a message may be


def test_a_message_and_a_batch_may_have_one_mebibyte(engine: Engine) -> None:
    queue = engine.create("q")
    whole = "x" * MAX_MESSAGE_BYTES
    assert engine.send(queue, whole).md5 == hashlib.md5(whole.encode()).hexdigest()
    with pytest.raises(InvalidParameterValue, match="must be shorter than 1048576 bytes"):
        engine.send(queue, whole + "x")
    with pytest.raises(InvalidParameterValue, match="must be shorter than"):
        engine.send(queue, "é" * (MAX_MESSAGE_BYTES // 2) + "x")
    attributes = {"a": {"DataType": "String", "StringValue": "bc"}}
    with pytest.raises(InvalidParameterValue, match="must be shorter than"):
        engine.send(queue, "x" * (MAX_MESSAGE_BYTES - 8), attributes=attributes)
    engine.send(queue, "x" * (MAX_MESSAGE_BYTES - 9), attributes=attributes)
    halves = [("1", Sending("x" * (MAX_MESSAGE_BYTES // 2))), ("2", Sending("x" * (MAX_MESSAGE_BYTES // 2)))]
    assert len(engine.messaging.send_batch(queue, halves, "me")) == 2
    with pytest.raises(BatchRequestTooLong, match="1048577 bytes"):
        engine.messaging.send_batch(queue, [*halves, ("3", Sending("x"))], "me")


def test_a_queue_may_take_less(engine: Engine) -> None:
    queue = engine.create("q", MaximumMessageSize=1024)
    engine.send(queue, "x" * 1024)
    with pytest.raises(InvalidParameterValue, match="must be shorter than 1024 bytes"):
        engine.send(queue, "x" * 1025)


@pytest.mark.parametrize("character", ["\t", "\n", "\r", " ", "\ud7ff", "\ue000", "\ufffd", "\U00010000", "\U0010ffff"])
def test_characters_that_are_allowed(engine: Engine, character: str) -> None:
    queue = engine.create("q")
    engine.send(queue, f"a{character}b")
    assert engine.receive_bodies(queue) == [f"a{character}b"]


@pytest.mark.parametrize("character", ["\0", "\x08", "\x0b", "\x1f", "\ufffe", "\uffff"])
def test_characters_that_are_not(engine: Engine, character: str) -> None:
    with pytest.raises(InvalidMessageContents):
        engine.send(engine.create("q"), f"a{character}b")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"body": ""}, MissingParameter),
        ({"delay_s": -1}, InvalidParameterValue),
        ({"delay_s": 901}, InvalidParameterValue),
        ({"group_id": ""}, InvalidParameterValue),
        ({"group_id": "g" * 129}, InvalidParameterValue),
        ({"group_id": "a b"}, InvalidParameterValue),
        ({"deduplication_id": "a"}, InvalidParameterValue),
    ],
)
def test_a_message_that_is_refused(engine: Engine, given: dict[str, Any], error: type[DomainError]) -> None:
    queue = engine.create("q")
    with pytest.raises(error):
        engine.send(queue, **given)
    assert engine.counts(queue) == (0, 0, 0)


@pytest.mark.parametrize(
    "given",
    [{"limit": 0}, {"limit": 11}, {"visibility_timeout_s": -1}, {"visibility_timeout_s": 43_201}, {"wait_time_s": 21}],
)
def test_a_receive_that_is_refused(engine: Engine, given: dict[str, int]) -> None:
    queue = engine.create("q")
    engine.send(queue)
    with pytest.raises(InvalidParameterValue):
        engine.messaging.receive(queue, **given)
    assert engine.counts(queue) == (1, 0, 0)


# retention


def test_messages_expire_whatever_their_state(engine: Engine) -> None:
    queue = engine.create("q", MessageRetentionPeriod=60)
    engine.send_all(queue, "a b")
    engine.send(queue, "c", delay_s=900)
    engine.receive(queue, 1, visibility_timeout_s=600)
    engine.advance(1)
    engine.send(queue, "d")
    engine.advance(58.999)
    assert engine.counts(queue) == (2, 1, 1)
    engine.advance(0.001)
    assert engine.counts(queue) == (1, 0, 0)
    assert engine.receive_bodies(queue) == ["d"]
    engine.advance(1)
    assert engine.counts(queue) == (0, 0, 0)


def test_the_retention_that_holds_now_decides(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    engine.advance(4 * DAY_S - 60)
    engine.set(queue, MessageRetentionPeriod=14 * DAY_S)
    engine.advance(5 * DAY_S)
    engine.send(queue, "b")
    assert engine.counts(queue) == (2, 0, 0)
    engine.set(queue, MessageRetentionPeriod=60)
    assert engine.counts(queue) == (1, 0, 0)
    engine.advance(60)
    assert engine.counts(queue) == (0, 0, 0)


def test_two_weeks_pass_at_once(engine: Engine) -> None:
    queue = engine.create("q", MessageRetentionPeriod=14 * DAY_S)
    for _ in range(1200):  # more than a sweep takes in one step
        engine.send(queue)
    engine.advance(14 * DAY_S)
    assert engine.counts(queue) == (0, 0, 0)
    assert engine.rows("SELECT count(*) FROM message") == [(0,)]


def test_a_clock_that_is_set_back_loses_nothing(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "a")
    [message] = engine.receive(queue)
    engine.clock.set(START_MS - 3_600_000)
    engine.send(queue, "b")
    assert engine.receive_bodies(queue) == ["b"]
    engine.delete(queue, message)
    assert engine.counts(queue) == (0, 1, 0)
    engine.clock.set(START_MS)
    assert engine.receive_bodies(queue) == ["b"]


# worlds


def test_accounts_and_regions_are_separate_worlds(engine: Engine) -> None:
    worlds = [World(account, region) for account in ("1" * 12, "2" * 12) for region in ("us-east-1", "cn-north-1")]
    queues = [engine.queues.create(world, "q", {}) for world in worlds]
    assert len({queue.arn for queue in queues}) == 4
    engine.send(queues[0], "a")
    assert [engine.counts(queue)[0] for queue in queues] == [1, 0, 0, 0]
    engine.broker.reset("1" * 12)
    assert [len(engine.queues.list_queues(world)) for world in worlds] == [0, 0, 1, 1]
