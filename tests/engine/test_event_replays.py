"""Replays: which events come again, to which rules, in which order, and what they tell of themselves meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.buses import replays
from broker.buses.bus import events_arn
from broker.errors import (
    BrokerFailure,
    DomainError,
    IllegalStatusException,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.store.port import ArchivedEvent, ArchiveTotals, row_id
from engine.archive_support import AT_ONCE, Desk, bus_arn
from engine.support import DAY_S, START_MS, WORLD, Engine

NewEngine = Callable[..., Engine]

SHOP = {"source": ["shop"]}


@pytest.fixture
def desk(new_engine: NewEngine) -> Desk:
    desk = Desk(new_engine(limits=AT_ONCE))
    desk.archive("a")
    return desk


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "STEP_EVENTS", 3)


# what comes again


def test_events_come_in_order_of_their_own_time_whatever_the_order_they_came_in(desk: Desk) -> None:
    moments = list(range(300))
    random.Random(1).shuffle(moments)
    for moment in moments:
        desk.put({"n": moment}, time_ms=START_MS + moment)
    queue = desk.rule("late", SHOP)
    desk.replay()
    desk.engine.settle()
    assert desk.numbers(queue, "r") == list(range(300))


def test_events_of_one_moment_come_in_the_order_they_came_in(desk: Desk) -> None:
    desk.put(*[{"n": n} for n in range(10)])
    queue = desk.rule("late", SHOP)
    desk.replay()
    desk.engine.settle()
    assert desk.numbers(queue, "r") == list(range(10))


def test_the_beginning_belongs_to_the_window_and_the_end_does_not(desk: Desk) -> None:
    for n in range(5):
        desk.put({"n": n}, time_ms=START_MS + n)
    queue = desk.rule("late", SHOP)
    desk.replay(start_ms=START_MS + 1, end_ms=START_MS + 4)
    desk.engine.settle()
    assert desk.numbers(queue, "r") == [1, 2, 3]


def test_a_replayed_event_is_the_same_but_for_the_replays_name(desk: Desk) -> None:
    queue = desk.rule("q", SHOP)
    desk.put({"n": 1, "ö": ["ß", 1.50, 12345678901234567890123]})
    desk.replay("again")
    desk.engine.settle()
    live, replayed = desk.given(queue)
    assert replayed == {**live, "replay-name": "again"}
    texts = [message.body for message in desk.engine.listing(queue)]
    assert texts[1].startswith(texts[0][:-1])


def test_it_matches_the_rules_of_the_day_and_archives_nothing(desk: Desk) -> None:
    desk.put({"n": 1}, {"n": 2})
    desk.archive("second")
    before = desk.held()
    odd = desk.rule("odd", {"detail": {"n": [1]}})
    none = desk.rule("live-only", {"replay-name": [{"exists": False}]})
    only = desk.rule("replays-only", {"replay-name": ["r"]})
    desk.replay()
    desk.engine.settle()
    assert (desk.numbers(odd, "r"), desk.numbers(none, "r"), desk.numbers(only, "r")) == ([1], [], [1, 2])
    assert (desk.held(), desk.held("second")) == (before, (0, 0))


def test_only_the_rules_that_are_named_are_served(desk: Desk) -> None:
    desk.put({"n": 1})
    queues = [desk.rule(name, SHOP) for name in "xyz"]
    desk.replay(rules=("x", "z"))
    desk.engine.settle()
    assert [desk.numbers(queue, "r") for queue in queues] == [[1], [], [1]]


def test_what_is_archived_after_it_began_is_not_replayed(desk: Desk, short_steps: None) -> None:
    queue = desk.rule("q", SHOP)
    desk.put(*[{"n": n} for n in range(10)])
    desk.replay()
    while desk.state() in ("STARTING", "RUNNING"):
        desk.turn()
        desk.put({"n": 99})
    assert desk.numbers(queue, "r") == list(range(10))


def test_what_came_in_the_same_group_comes_again(desk: Desk) -> None:
    queue = desk.rule("q", SHOP)
    desk.put({"n": 1}, time_ms=START_MS)
    desk.engine.settle()
    desk.put({"n": 2}, time_ms=START_MS + 5000)
    desk.replay()
    desk.engine.settle()
    assert desk.numbers(queue, "r") == [1, 2]


def test_expired_events_do_not_come_again(desk: Desk) -> None:
    desk.events.archives.update(WORLD, {"ArchiveName": "a", "RetentionDays": 1})
    desk.put({"n": 1})
    desk.engine.advance(DAY_S / 2)
    desk.put({"n": 2})
    desk.engine.advance(DAY_S / 2)
    queue = desk.rule("late", SHOP)
    desk.replay()
    desk.engine.settle()
    assert desk.numbers(queue, "r") == [2]


# what it tells


def test_its_states_and_its_progress(desk: Desk, short_steps: None) -> None:
    desk.rule("q", SHOP)
    for n in range(8):
        desk.put({"n": n}, time_ms=START_MS + n)
    desk.engine.settle()
    answer = desk.replay(start_ms=START_MS, end_ms=START_MS + 100, Description="after the fix")
    told = {
        "ReplayName": "r",
        "ReplayArn": events_arn(WORLD, "replay/r"),
        "Description": "after the fix",
        "State": "STARTING",
        "EventSourceArn": events_arn(WORLD, "archive/a"),
        "Destination": {"Arn": bus_arn()},
        "EventStartTime": START_MS,
        "EventEndTime": START_MS + 100,
        "ReplayStartTime": START_MS,
    }
    assert answer == desk.shown() == told
    progress = []
    while desk.state() in ("STARTING", "RUNNING"):
        desk.turn()
        progress.append((desk.shown()["State"], desk.shown().get("EventLastReplayedTime", 0) - START_MS))
    assert list(dict.fromkeys(progress)) == [("RUNNING", 2), ("RUNNING", 5), ("RUNNING", 7), ("COMPLETED", 7)]
    ended = {"State": "COMPLETED", "EventLastReplayedTime": START_MS + 7, "ReplayEndTime": START_MS}
    assert desk.shown() == {**told, **ended}


def test_a_replay_of_nothing_completes(desk: Desk) -> None:
    desk.replay()
    desk.engine.settle()
    assert desk.state() == "COMPLETED"
    assert "EventLastReplayedTime" not in desk.shown()


def test_a_cancelled_replay_ends_where_it_is(desk: Desk, short_steps: None) -> None:
    queue = desk.rule("q", SHOP)
    desk.put(*[{"n": n} for n in range(10)])
    desk.engine.settle()
    desk.replay()
    desk.turn()
    assert desk.events.replays.cancel(WORLD, "r") == desk.shown()
    assert desk.state() == "CANCELLING"
    with pytest.raises(IllegalStatusException, match=r"^Replay r is not in a valid state for this operation\.$"):
        desk.events.replays.cancel(WORLD, "r")
    desk.engine.settle()
    assert desk.state() == "CANCELLED"
    assert desk.shown()["ReplayEndTime"] == START_MS
    assert desk.numbers(queue, "r") == [0, 1, 2]
    with pytest.raises(IllegalStatusException):
        desk.events.replays.cancel(WORLD, "r")


def test_a_replay_whose_archive_or_bus_is_deleted_fails(desk: Desk, short_steps: None) -> None:
    desk.put(*[{"n": n} for n in range(10)])
    desk.engine.settle()
    desk.replay()
    desk.turn()
    desk.events.archives.delete(WORLD, "a")
    desk.archive("a")  # another one of that name
    desk.engine.settle()
    assert (desk.state(), desk.shown()["StateReason"]) == ("FAILED", "The archive was deleted.")


def test_replays_are_listed_by_name_and_by_one_filter(desk: Desk) -> None:
    desk.archive("b")
    for name, archive in (("ra", "a"), ("rb", "b"), ("s", "a")):
        desk.replay(name, archive)
    desk.engine.settle()
    desk.replay("t")

    def names(**given: str) -> list[str]:
        return [entry["ReplayName"] for entry in desk.events.replays.list_replays(WORLD, **given)]

    assert names() == ["ra", "rb", "s", "t"]
    assert names(name_prefix="r") == ["ra", "rb"]
    assert names(event_source_arn=events_arn(WORLD, "archive/b")) == ["rb"]
    assert (names(state="COMPLETED"), names(state="STARTING")) == (["ra", "rb", "s"], ["t"])
    with pytest.raises(ValidationException, match="At most one filter is allowed for ListReplays"):
        names(name_prefix="r", state="COMPLETED")
    assert desk.events.replays.list_replays(WORLD, state="STARTING") == [desk.shown("t")]


def test_what_is_wrong_is_refused_in_awss_words(desk: Desk) -> None:
    desk.events.buses.create(WORLD, {"Name": "other"})
    desk.rule("elsewhere", SHOP, bus="other")
    desk.replay("r")
    desk.events.archives.create(WORLD, {"ArchiveName": "there", "EventSourceArn": bus_arn("other")})
    foreign = {"Destination": {"Arn": bus_arn(), "FilterArns": [events_arn(WORLD, "rule/other/elsewhere")]}}
    cases: list[tuple[dict[str, Any], type[DomainError], str]] = [
        ({"name": "r"}, ResourceAlreadyExistsException, "Replay r already exists."),
        (
            {"archive": "none"},
            ValidationException,
            "Parameter EventSourceArn is not valid. Reason: Archive none does not exist.",
        ),
        (
            {"EventSourceArn": bus_arn()},
            ValidationException,
            "Parameter EventSourceArn is not valid. Reason: Must contain an archive ARN.",
        ),
        (
            {"Destination": {"Arn": "arn:aws:sqs:us-east-1:000000000000:q"}},
            ValidationException,
            "Parameter Destination.Arn is not valid. Reason: Must contain an event bus ARN.",
        ),
        ({"Destination": {"Arn": bus_arn("none")}}, ResourceNotFoundException, "Event bus none does not exist."),
        (
            {"archive": "there"},
            ValidationException,
            "Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted.",
        ),
        (
            {"start_ms": 5, "end_ms": 5},
            ValidationException,
            "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime.",
        ),
        ({"rules": ("none",)}, ResourceNotFoundException, "Rule none does not exist on EventBus orders."),
        (foreign, ResourceNotFoundException, "Rule elsewhere does not exist on EventBus orders."),
    ]
    for given, error, message in cases:
        with pytest.raises(error) as refusal:
            desk.replay(**{"name": "new", **given})
        assert refusal.value.message == message
    for missing in (desk.events.replays.describe, desk.events.replays.cancel):
        with pytest.raises(ResourceNotFoundException, match=r"^Replay new does not exist\.$"):
            missing(WORLD, "new")


def test_a_replay_is_forgotten_after_ninety_days(desk: Desk) -> None:
    desk.replay("first")
    desk.engine.advance(DAY_S)
    desk.replay("second")
    desk.engine.advance(89 * DAY_S - 1)
    assert [entry["ReplayName"] for entry in desk.events.replays.list_replays(WORLD)] == ["first", "second"]
    desk.engine.advance(1)
    assert [entry["ReplayName"] for entry in desk.events.replays.list_replays(WORLD)] == ["second"]
    desk.replay("first")
    desk.engine.advance(DAY_S)
    assert [entry["ReplayName"] for entry in desk.events.replays.list_replays(WORLD)] == ["first"]


# many, and one after the other


def test_ten_run_at_once_on_aws(aws: Engine) -> None:
    desk = Desk(aws)
    desk.archive("a")
    for n in range(10):
        desk.replay(f"r{n}")
    with pytest.raises(LimitExceededException):
        desk.replay("r10")
    aws.advance(5)
    desk.replay("r10")


def test_replays_that_run_at_once_take_turns(desk: Desk, short_steps: None) -> None:
    queue = desk.rule("q", SHOP)
    desk.put(*[{"n": n} for n in range(6)])
    desk.engine.settle()
    for name in "xyz":
        desk.replay(name)
    for turn in range(1, 4):
        desk.turn()
        assert len(desk.given(queue)) == 6 + 3 * turn
        assert len(desk.numbers(queue, "xyz"[turn - 1])) == 3
    desk.engine.settle()
    assert [desk.numbers(queue, name) for name in "xyz"] == [list(range(6))] * 3


def test_a_step_is_bounded_by_what_it_gives_and_what_it_reads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = desk.rule("q", SHOP)
    desk.put(*[{"n": n} for n in range(10)])
    desk.put(*[{"n": n, "x": "x" * 10_000} for n in range(10)])
    desk.engine.settle()
    monkeypatch.setattr(replays, "STEP_COPIES", 5)
    desk.replay()
    desk.turn()
    assert len(desk.numbers(queue, "r")) == 5
    desk.turn()
    assert len(desk.numbers(queue, "r")) == 10
    monkeypatch.setattr(replays, "STEP_BYTES", 15_000)
    desk.turn()
    assert len(desk.numbers(queue, "r")) == 12


def test_a_step_costs_the_same_however_many_events_have_its_moment(desk: Desk) -> None:
    store, archive = desk.engine.store, desk.events.archives.find(WORLD, "a")
    for _ in range(500):
        desk.put(*[{"n": n} for n in range(10)])
    desk.engine.settle()
    spent: Counter[str] = Counter()

    def cost(sequence: int) -> int:
        spent.clear()
        store._connection.set_progress_handler(lambda: spent.update(instructions=1), 1)
        after = (START_MS, row_id(archive.no, sequence))
        assert len(store.buses.archived(archive.no, after, 1 << 60, 1 << 60, 10, 1 << 20)) == 10
        store._connection.set_progress_handler(None, 0)
        return spent["instructions"]

    assert abs(cost(4000) - cost(0)) < 50


# the beginning


def test_for_a_moment_a_replay_is_starting(on_disk: Engine) -> None:
    desk = Desk(on_disk)
    desk.archive("a")
    desk.rule("q", SHOP)
    desk.put({"n": 1})
    desk.replay()
    on_disk.restart()
    on_disk.advance(0.499)
    assert (desk.state(), desk.numbers(on_disk.find("q"), "r")) == ("STARTING", [])
    on_disk.advance(0.001)
    on_disk.advance(1)
    assert (desk.state(), desk.numbers(on_disk.find("q"), "r")) == ("COMPLETED", [1])


def test_what_is_cancelled_in_that_moment_replays_nothing(engine: Engine) -> None:
    desk = Desk(engine)
    desk.archive("a")
    queue = desk.rule("q", SHOP)
    desk.put({"n": 1})
    desk.replay()
    engine.settle()
    assert desk.events.replays.cancel(WORLD, "r")["State"] == "CANCELLING"
    engine.settle()
    assert desk.state() == "CANCELLED"
    engine.advance(1)
    assert (desk.state(), desk.numbers(queue, "r")) == ("CANCELLED", [])


# what comes in between


def test_a_restart_in_between_doubles_and_loses_nothing(
    new_engine: NewEngine, tmp_path: Path, short_steps: None
) -> None:
    on_disk = new_engine(tmp_path, limits=AT_ONCE)
    desk = Desk(on_disk)
    desk.archive("a")
    desk.rule("q", SHOP)
    desk.put(*[{"n": n} for n in range(20)])
    on_disk.settle()
    desk.replay()
    for _ in range(4):
        desk.turn()
        on_disk.restart()
        on_disk.advance(1)
        desk.turn()
    on_disk.advance(5)
    assert desk.state() == "COMPLETED"
    assert desk.numbers(on_disk.find("q"), "r") == list(range(20))


def test_a_group_that_fails_in_between_doubles_and_loses_nothing(desk: Desk, short_steps: None) -> None:
    queue = desk.rule("q", SHOP)
    desk.put(*[{"n": n} for n in range(20)])
    desk.engine.settle()
    desk.replay()
    for _ in range(4):
        desk.turn()
        desk.engine.broker.commit.flush()
        desk.turn()
        desk.engine.broker.commit.abort(BrokerFailure("no"))
        desk.engine.advance(1)
    desk.engine.advance(1)
    assert desk.numbers(queue, "r") == list(range(20))


def test_while_the_disk_is_full_it_tries_once_a_second(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put({"n": 1})
    queue = desk.rule("q", SHOP)
    desk.engine.settle()
    desk.replay()
    desk.engine.broker.commit.flush()
    tries: Counter[str] = Counter()

    def full(*arguments: object) -> list[ArchivedEvent]:
        tries["tried"] += 1
        raise BrokerFailure("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(desk.engine.store.buses, "archived", full)
        desk.engine.advance(10)
    assert tries["tried"] == 11
    desk.engine.advance(1)
    assert desk.numbers(queue, "r") == [1]


def test_a_reset_ends_it(desk: Desk, short_steps: None) -> None:
    desk.put(*[{"n": n} for n in range(20)])
    desk.engine.settle()
    desk.replay()
    desk.turn()
    desk.events.reset()
    desk.engine.settle()
    assert desk.events.replays.list_replays(WORLD) == []


@pytest.mark.slow
def test_a_million_events_come_again_and_live_ones_pass_between_any_two_steps(desk: Desk) -> None:
    events = 1_000_000
    store, archive = desk.engine.store.buses, desk.events.archives.find(WORLD, "a")
    desk.put({"n": 0})
    desk.engine.settle()
    text = store.archived(archive.no, (0, 0), 1 << 60, 1 << 60, 1, 1)[0].event
    desk.engine.broker.commit.enter()
    store.archive(
        ArchivedEvent(row_id(archive.no, n), archive.no, START_MS + n, START_MS, len(text), text)
        for n in range(2, events + 1)
    )
    store.save_archive_totals([ArchiveTotals(archive.no, events, events * len(text), events)])
    desk.engine.broker.commit.flush()
    desk.engine.broker.commit.abort(BrokerFailure("so that all is read anew"))
    desk.rule("most", {"detail": {"n": [0]}, "replay-name": [{"exists": False}]})
    counted = desk.rule("some", {"replay-name": ["r"], "id": [{"prefix": ""}]})
    desk.events.rules.put_targets(
        WORLD,
        {
            "Rule": "some",
            "EventBusName": "orders",
            "Targets": [{"Id": "q", "Arn": counted.arn, "Input": '"seen"'}],
        },
    )
    desk.engine.settle()
    desk.replay()
    live = steps = 0
    while desk.state() in ("STARTING", "RUNNING"):
        before = desk.engine.counts(counted)[0]
        desk.turn()
        steps += 1
        assert desk.engine.counts(counted)[0] - before <= replays.STEP_COPIES
        if steps % 10 == 0:
            desk.put({"n": 0})
            live += 1
            assert desk.engine.counts(desk.engine.find("most"))[0] == live
    assert desk.engine.counts(counted)[0] == events
    assert steps >= events // replays.STEP_EVENTS
