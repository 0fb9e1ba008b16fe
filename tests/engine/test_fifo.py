"""FIFO queues: order and lock by group, exactly one copy, attempts that are repeated.

See "FIFO queue delivery logic" and "Exactly-once processing" of the guide, and SendMessage and ReceiveMessage.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from broker.errors import DomainError, InvalidParameterValue, MissingParameter
from broker.queues import Queue, Sending
from engine.support import START_MS, Engine


@pytest.fixture
def queue(engine: Engine) -> Queue:
    return engine.create("q.fifo")


# order and lock


def test_a_group_rests_while_one_of_its_messages_is_in_flight(engine: Engine, queue: Queue) -> None:
    engine.send_all(queue, "a1 a2 a3", group_id="a")
    engine.send_all(queue, "b1 b2", group_id="b")
    first = engine.receive(queue, 1)
    assert [m.body for m in first] == ["a1"]
    assert engine.receive_bodies(queue) == ["b1", "b2"]
    assert engine.receive(queue) == []
    engine.delete(queue, *first)
    assert engine.receive_bodies(queue) == ["a2", "a3"]


def test_as_many_as_possible_come_from_one_group(engine: Engine, queue: Queue) -> None:
    for number in range(12):
        engine.send(queue, f"a{number}", group_id="a")
        engine.send(queue, f"b{number}", group_id="b")
    assert engine.receive_bodies(queue) == [f"a{number}" for number in range(10)]
    assert engine.receive_bodies(queue, 3) == ["b0", "b1", "b2"]


def test_a_receive_takes_of_several_groups_each_in_order(engine: Engine, queue: Queue) -> None:
    for body in ("a1", "b1", "a2", "c1", "b2"):
        engine.send(queue, body, group_id=body[0])
    assert engine.receive_bodies(queue) == ["a1", "a2", "b1", "b2", "c1"]


def test_order_is_kept_through_visibility_timeouts(engine: Engine, queue: Queue) -> None:
    engine.send_all(queue, "1 2 3 4")
    assert engine.receive_bodies(queue, 2) == ["1", "2"]
    engine.advance(29.999)
    assert engine.receive(queue) == []
    engine.advance(0.001)
    assert engine.receive_bodies(queue, 3) == ["1", "2", "3"]


def test_a_group_is_free_when_the_last_of_it_is_back(engine: Engine, queue: Queue) -> None:
    engine.send_all(queue, "1 2 3 4")
    one, two, three = engine.receive(queue, 3)
    engine.change_visibility(queue, two, 90)
    engine.change_visibility(queue, one, 0)
    assert engine.receive(queue) == []
    engine.advance(30)
    assert engine.receive(queue) == []
    engine.delete(queue, *(message for message in (two,)))
    assert engine.receive_bodies(queue) == ["1", "3", "4"]
    assert three.body == "3"


def test_a_message_in_the_middle_may_be_deleted(engine: Engine, queue: Queue) -> None:
    engine.send_all(queue, "1 2 3 4")
    received = engine.receive(queue, 3)
    engine.delete(queue, received[1])
    assert engine.receive(queue) == []
    engine.advance(30)
    assert engine.receive_bodies(queue) == ["1", "3", "4"]


def test_a_delayed_message_holds_up_its_group_only(engine: Engine) -> None:
    queue = engine.create("q.fifo", DelaySeconds=10)
    engine.send(queue, "a1", group_id="a")
    engine.set(queue, DelaySeconds=0)
    engine.send(queue, "a2", group_id="a")
    engine.send(queue, "b1", group_id="b")
    assert engine.receive_bodies(queue) == ["b1"]
    engine.advance(10)
    assert engine.receive_bodies(queue) == ["a1", "a2"]


def test_a_group_that_expires_in_the_middle_goes_on_in_order(engine: Engine) -> None:
    queue = engine.create("q.fifo", MessageRetentionPeriod=60)
    engine.send_all(queue, "1 2")
    engine.advance(10)
    engine.send(queue, "3")
    [one] = engine.receive(queue, 1, visibility_timeout_s=600)
    engine.advance(49.999)
    assert engine.counts(queue) == (2, 1, 0)
    engine.advance(0.001)
    assert engine.receive_bodies(queue) == ["3"]
    engine.delete(queue, one)  # gone already: no error


def test_a_long_group_comes_in_order(engine: Engine, queue: Queue) -> None:
    for number in range(35):
        engine.send(queue, str(number))
    received = []
    while messages := engine.receive(queue, 10):
        received += [message.body for message in messages]
        engine.delete(queue, *messages)
    assert received == [str(number) for number in range(35)]


# handles


def test_an_expired_handle_is_refused(engine: Engine, queue: Queue) -> None:
    engine.send(queue, "a")
    [old] = engine.receive(queue)
    engine.advance(30)
    with pytest.raises(InvalidParameterValue, match="The receipt handle has expired"):
        engine.delete(queue, old)
    [new] = engine.receive(queue)
    with pytest.raises(InvalidParameterValue, match="The receipt handle has expired"):
        engine.delete(queue, old)
    engine.delete(queue, new)
    engine.delete(queue, new)
    engine.delete(queue, old)
    assert engine.counts(queue) == (0, 0, 0)


# exactly one copy


def test_a_duplicate_is_accepted_and_not_delivered_for_five_minutes(engine: Engine, queue: Queue) -> None:
    first = engine.send(queue, "a", deduplication_id="id")
    engine.delete(queue, *engine.receive(queue))
    engine.advance(299.999)
    again = engine.send(queue, "another body", group_id="another", deduplication_id="id")
    assert (again.message_id, again.sequence_number) == (first.message_id, first.sequence_number)
    assert again.md5 == hashlib.md5(b"another body").hexdigest()
    assert engine.counts(queue) == (0, 0, 0)
    engine.advance(0.001)
    assert engine.send(queue, "a", deduplication_id="id").message_id != first.message_id
    assert engine.counts(queue) == (1, 0, 0)


def test_in_a_batch_too(engine: Engine, queue: Queue) -> None:
    batch = [Sending(str(n), group_id="g", deduplication_id="id" if n else "other") for n in range(4)]
    sent = engine.messaging.send_batch(queue, [(str(n), sending) for n, sending in enumerate(batch)], "me")
    assert len({outcome.message_id for outcome in sent}) == 2  # type: ignore[union-attr]
    assert engine.receive_bodies(queue) == ["0", "1"]


@pytest.mark.parametrize(("scope", "copies"), [("queue", 1), ("messageGroup", 2)])
def test_the_scope_of_a_deduplication_id(engine: Engine, scope: str, copies: int) -> None:
    queue = engine.create("q.fifo", DeduplicationScope=scope)
    for group in ("a", "b", "a"):
        engine.send(queue, "x", group_id=group, deduplication_id="id")
    assert engine.counts(queue) == (copies, 0, 0)


def test_content_based_ids(engine: Engine) -> None:
    queue = engine.create("q.fifo", ContentBasedDeduplication="true")
    first = engine.send(queue, "a", deduplication_id=None, attributes={"k": {"DataType": "String", "StringValue": "v"}})
    digest = hashlib.sha256(b"a").hexdigest()
    assert engine.send(queue, "a", deduplication_id=None).message_id == first.message_id
    assert engine.send(queue, "other", deduplication_id=digest).message_id == first.message_id
    assert engine.send(queue, "a", deduplication_id="explicit").message_id != first.message_id
    assert [m.deduplication_id for m in engine.receive(queue)] == [digest, "explicit"]


def test_deduplication_outlives_a_purge_and_a_restart_and_not_the_queue(on_disk: Engine) -> None:
    queue = on_disk.create("q.fifo")
    first = on_disk.send(queue, "a")
    on_disk.queues.purge(queue)
    assert on_disk.send(queue, "a").message_id == first.message_id
    on_disk.restart()
    queue = on_disk.find("q.fifo")
    assert on_disk.send(queue, "a").message_id == first.message_id
    on_disk.queues.delete(queue)
    assert on_disk.send(on_disk.create("q.fifo"), "a").message_id != first.message_id


def test_what_is_remembered_is_forgotten_in_time(engine: Engine, queue: Queue) -> None:
    for number in range(1100):
        engine.send(queue, str(number), group_id=str(number))
        engine.advance(0.01)
    engine.receive(queue, attempt_id="a")
    engine.advance(302)
    assert engine.rows("SELECT count(*) FROM duplicate") == [(0,)]
    assert engine.rows("SELECT count(*) FROM receive_attempt") == [(0,)]
    assert engine.clock._appointments.next_ms() is not None  # the messages' retention


def test_sequence_numbers_have_twenty_digits_and_grow(on_disk: Engine) -> None:
    queue = on_disk.create("q.fifo")
    numbers = []
    for turn in range(3):
        numbers += [on_disk.send(queue, f"{turn} {n}".replace(" ", "-")).sequence_number or "" for n in range(20)]
        on_disk.queues.purge(queue)
        if turn:
            on_disk.restart()
            queue = on_disk.find("q.fifo")
    assert all(len(number) == 20 for number in numbers)
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"group_id": None}, MissingParameter),
        ({"deduplication_id": None}, InvalidParameterValue),
        ({"deduplication_id": "d" * 129}, InvalidParameterValue),
        ({"group_id": "a b"}, InvalidParameterValue),
        ({"delay_s": 1}, InvalidParameterValue),
    ],
)
def test_a_message_that_is_refused(
    engine: Engine, queue: Queue, given: dict[str, Any], error: type[DomainError]
) -> None:
    with pytest.raises(error):
        engine.send(queue, **given)
    assert engine.counts(queue) == (0, 0, 0)


# attempts


def handles(engine: Engine, queue: Queue, attempt: str = "attempt", **given: Any) -> list[str]:
    return [engine.handle(queue, message) for message in engine.receive(queue, attempt_id=attempt, **given)]


def test_a_repeated_attempt_gives_the_same_messages_and_resets_their_timeout(engine: Engine, queue: Queue) -> None:
    engine.send_all(queue, "a1 a2", group_id="a")
    engine.send_all(queue, "b1", group_id="b")
    first = handles(engine, queue, limit=2)
    assert len(first) == 2
    engine.advance(20)
    assert handles(engine, queue) == first
    assert engine.receive_bodies(queue) == ["b1"]
    engine.advance(29.999)
    assert handles(engine, queue) == first
    engine.advance(30)
    again = engine.receive(queue, attempt_id="attempt", limit=2)
    assert [message.receive_count for message in again] == [2, 2]


@pytest.mark.parametrize("touch", ["delete", "change", "other attempt", "purge", "none"])
def test_an_attempt_is_over_once_a_message_was_touched(engine: Engine, queue: Queue, touch: str) -> None:
    engine.send_all(queue, "1 2 3")
    messages = engine.receive(queue, 2, attempt_id="attempt")
    if touch == "delete":
        engine.delete(queue, messages[0])
    elif touch == "change":
        engine.change_visibility(queue, messages[0], 100)
    elif touch == "purge":
        engine.queues.purge(queue)
    assert len(handles(engine, queue, "other" if touch == "other attempt" else "attempt")) == (
        2 if touch == "none" else 0
    )


def test_an_attempt_can_be_repeated_for_five_minutes(engine: Engine, queue: Queue) -> None:
    engine.send(queue, "a")
    first = handles(engine, queue, visibility_timeout_s=3600)
    engine.advance(299.999)
    assert handles(engine, queue, visibility_timeout_s=3600) == first
    engine.advance(300)
    assert handles(engine, queue) == []


def test_attempts_survive_a_restart(on_disk: Engine) -> None:
    queue = on_disk.create("q.fifo")
    on_disk.send(queue, "a")
    first = handles(on_disk, queue)
    on_disk.restart()
    assert handles(on_disk, on_disk.find("q.fifo")) == first


@pytest.mark.parametrize(("name", "attempt"), [("q", "a"), ("q.fifo", ""), ("q.fifo", "a b"), ("q.fifo", "a" * 129)])
def test_an_attempt_that_is_refused(engine: Engine, name: str, attempt: str) -> None:
    with pytest.raises(InvalidParameterValue):
        engine.receive(engine.create(name), attempt_id=attempt)


def test_a_long_poll_is_an_attempt_too(engine: Engine, queue: Queue) -> None:
    poll = engine.poll(queue, attempt_id="attempt")
    engine.send(queue, "a")
    engine.advance(1)
    assert poll.bodies == ["a"]
    assert handles(engine, queue) == [engine.handle(queue, message) for message in poll.messages or []]
    assert engine.listing(queue)[0].visible_ms == START_MS + 31_000
