"""Long polls: who came first is served first, only by what he gets, and nobody else is woken."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broker.limits import AWS
from broker.queues import Waiter
from broker.store.port import StoredMessage
from engine.conftest import NewEngine
from engine.support import START_MS, Engine


def test_who_came_first_is_served_first_and_only_as_many_as_there_is_something_for(engine: Engine) -> None:
    queue = engine.create("q")
    polls = [engine.poll(queue) for _ in range(4)]
    engine.send(queue, "a")
    engine.settle()
    engine.send_all(queue, "b c")  # one turn: one receiver takes both
    engine.settle()
    assert [poll.bodies for poll in polls] == [["a"], ["b", "c"], None, None]
    assert all(poll.is_told for poll in polls[:2])


def test_each_takes_no_more_than_he_asked_for(engine: Engine) -> None:
    queue = engine.create("q")
    polls = [engine.poll(queue, limit) for limit in (1, 2, 10)]
    engine.send_all(queue, "a b c d")
    engine.settle()
    assert [len(poll.messages or []) for poll in polls] == [1, 2, 1]


def test_at_the_end_there_is_an_empty_answer(engine: Engine) -> None:
    queue = engine.create("q")
    short, long = engine.poll(queue, wait_time_s=1), engine.poll(queue, wait_time_s=20)
    engine.advance(30)
    assert (short.messages, short.answered_ms) == ([], START_MS + 1000)
    assert (long.messages, long.answered_ms) == ([], START_MS + 20_000)
    engine.send(queue, "a")
    engine.settle()
    assert engine.counts(queue) == (1, 0, 0)


def test_the_queue_may_say_how_long(engine: Engine) -> None:
    queue = engine.create("q", ReceiveMessageWaitTimeSeconds=7)
    poll = engine.poll(queue, wait_time_s=None)
    assert engine.receive(queue, wait_time_s=0) == []
    engine.advance(7)
    assert poll.answered_ms == START_MS + 7000


def test_a_client_that_has_gone_gets_nothing(engine: Engine) -> None:
    queue = engine.create("q")
    first, second = engine.poll(queue), engine.poll(queue)
    engine.send(queue, "a")
    first.cancel()  # after the message came, and before it was handed out
    engine.settle()
    assert (first.messages, second.bodies) == (None, ["a"])
    engine.advance(60)
    assert first.messages is None


def test_a_delayed_message_wakes(engine: Engine) -> None:
    queue = engine.create("q")
    poll = engine.poll(queue)
    engine.send(queue, "late", delay_s=15)
    engine.send(queue, "a", delay_s=10)
    engine.advance(20)
    assert (poll.bodies, poll.answered_ms) == (["a"], START_MS + 10_000)


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_a_visibility_timeout_wakes(engine: Engine, name: str) -> None:
    queue = engine.create(name)
    engine.send(queue, "a")
    engine.receive(queue, visibility_timeout_s=12)
    poll = engine.poll(queue)
    engine.advance(20)
    assert (poll.bodies, poll.answered_ms) == (["a"], START_MS + 12_000)


@pytest.mark.parametrize("name", ["q", "q.fifo"])
@pytest.mark.parametrize(("timeout_s", "after_s"), [(0, 1), (5, 6), (18, 19)])
def test_a_changed_visibility_wakes(engine: Engine, name: str, timeout_s: int, after_s: int) -> None:
    queue = engine.create(name)
    engine.send(queue, "a")
    [message] = engine.receive(queue, visibility_timeout_s=10)
    poll = engine.poll(queue)
    engine.advance(1)
    engine.change_visibility(queue, message, timeout_s)
    engine.advance(20)
    assert (poll.bodies, poll.answered_ms) == (["a"], START_MS + after_s * 1000)


def test_a_message_that_one_took_for_a_second_wakes_the_next(engine: Engine) -> None:
    queue = engine.create("q")
    first, second = engine.poll(queue, visibility_timeout_s=1), engine.poll(queue)
    engine.send(queue, "a")
    engine.advance(20)
    assert (first.bodies, second.bodies, second.answered_ms) == (["a"], ["a"], START_MS + 1000)


def test_what_hides_nothing_is_given_to_all(engine: Engine) -> None:
    queue = engine.create("q")
    polls = [engine.poll(queue, visibility_timeout_s=0) for _ in range(3)]
    engine.send(queue, "a")
    engine.settle()
    assert [[m.receive_count for m in poll.messages or []] for poll in polls] == [[1], [2], [3]]


def test_deleting_what_was_in_flight_frees_a_group(engine: Engine) -> None:
    queue = engine.create("q.fifo")
    engine.send_all(queue, "a b")
    [message] = engine.receive(queue, 1)
    poll = engine.poll(queue)
    engine.settle()
    assert poll.messages is None
    engine.delete(queue, message)
    engine.settle()
    assert poll.bodies == ["b"]


def test_a_dead_letter_wakes_who_waits_for_dead_letters(engine: Engine) -> None:
    queue, dead = engine.create("q"), engine.create("dead")
    engine.set_redrive(queue, dead, 1)
    engine.send(queue, "a")
    engine.receive(queue, visibility_timeout_s=5)
    poll, waits_in_vain = engine.poll(dead), engine.poll(queue)
    engine.advance(20)
    assert poll.bodies == ["a"]
    assert waits_in_vain.messages == []


def test_a_moved_message_wakes(engine: Engine) -> None:
    queue, dead = engine.create("q"), engine.create("dead")
    engine.set_redrive(queue, dead, 1)
    engine.send(dead, "a")
    poll = engine.poll(queue)
    engine.move_tasks.start(queue.world, dead.arn, queue.arn, None)
    engine.advance(0)
    assert poll.bodies == ["a"]


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_many_dead_letters_do_not_hide_what_is_behind_them(engine: Engine, name: str) -> None:
    queue, dead = engine.create(name), engine.create(f"dead-{name}")
    for number in range(80):
        engine.send(queue, str(number), group_id=str(number) if queue.fifo else None)
    while engine.receive(queue, visibility_timeout_s=10):
        pass
    engine.set_redrive(queue, dead, 1)
    engine.advance(11)
    engine.send(queue, "alive", group_id="alive" if queue.fifo else None)
    poll = engine.poll(queue)
    engine.settle()
    assert poll.bodies == ["alive"]
    assert engine.counts(dead) == (80, 0, 0)


def test_waiting_costs_nothing(engine: Engine) -> None:
    queue = engine.create("q")
    engine.advance(1)  # sweeps begin a while after the start
    begin, groups = engine.store.begin, []
    polls = [engine.poll(queue) for _ in range(100)]
    engine.settle()
    engine.store.begin = lambda: (groups.append(engine.clock.now_ms()), begin())[1]  # type: ignore[method-assign]
    engine.advance(19.999)
    assert groups == []
    engine.advance(0.001)
    assert [poll.messages for poll in polls] == [[]] * 100


def test_a_purge_leaves_who_waits(engine: Engine) -> None:
    queue = engine.create("q")
    engine.send(queue, "old", delay_s=5)
    poll = engine.poll(queue)
    engine.queues.purge(queue)
    engine.advance(6)
    assert poll.messages is None
    engine.send(queue, "new")
    engine.settle()
    assert poll.bodies == ["new"]


@pytest.mark.parametrize("how", ["delete", "reset", "close"])
def test_where_a_queue_ends_so_do_its_polls(engine: Engine, how: str) -> None:
    queue, other = engine.create("q"), engine.create("other")
    polls = [engine.poll(queue), engine.poll(queue)]
    elsewhere = engine.poll(other)
    if how == "delete":
        engine.queues.delete(queue)
    elif how == "reset":
        engine.broker.reset()
    else:
        engine.queues.close()
    engine.settle()
    assert [poll.messages for poll in polls] == [[], []]
    assert all(poll.is_told for poll in polls)
    assert elsewhere.messages == (None if how == "delete" else [])
    engine.advance(60)


def test_an_answer_that_breaks_costs_nobody_else_his(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    queue = engine.create("q")
    broken = engine.messaging.receive(queue, 1, wait_time_s=20)
    assert isinstance(broken, Waiter)

    def refuse(_messages: list[StoredMessage]) -> None:
        raise RuntimeError("on purpose")

    broken.done = refuse
    poll = engine.poll(queue, 1)
    sent = []
    engine.send_all(queue, "a b")
    engine.broker.commit.then(sent.append)
    engine.settle()
    assert (poll.bodies, sent) == (["b"], [None])
    assert engine.counts(queue) == (0, 2, 0)
    assert "a long poll could not be answered" in caplog.text


def test_a_poll_that_was_served_by_a_group_that_failed_is_told_so(engine: Engine) -> None:
    queue = engine.create("q")
    poll = engine.poll(queue)
    engine.settle()
    engine.send(queue, "a")
    commit, engine.store.commit = engine.store.commit, lambda: json.loads("broken")  # type: ignore[method-assign]
    engine.settle()
    engine.store.commit = commit  # type: ignore[method-assign]
    assert poll.is_told
    assert poll.failure is not None
    assert engine.counts(queue) == (0, 0, 0)


def test_appointments_that_a_failed_group_had_changed_are_kept(engine: Engine) -> None:
    """A group deletes what somebody waits for, and then has not happened."""
    queue = engine.create("q")
    engine.send(queue, "a")
    [message] = engine.receive(queue, visibility_timeout_s=5)
    engine.settle()
    poll = engine.poll(queue)
    engine.settle()
    engine.change_visibility(queue, message, 600)
    engine.broker.failed(RuntimeError("on purpose"))
    engine.advance(20)
    assert (poll.bodies, poll.answered_ms) == (["a"], START_MS + 5000)


def test_a_full_house_is_no_reason_to_fail_who_sends(new_engine: NewEngine) -> None:
    """Where messages in flight are limited, who waits already goes on waiting until there is room."""
    engine = new_engine(limits=replace(AWS, in_flight=3))
    queue = engine.create("q")
    polls = [engine.poll(queue), engine.poll(queue)]
    sent = []
    engine.send_all(queue, "a b c d e")
    engine.broker.commit.then(sent.append)
    engine.settle()
    assert sent == [None]
    assert [poll.bodies for poll in polls] == [["a", "b", "c"], None]
    engine.delete(queue, *(polls[0].messages or []))
    engine.settle()
    assert polls[1].bodies == ["d", "e"]
