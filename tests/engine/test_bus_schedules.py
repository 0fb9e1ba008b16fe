"""Rules on a schedule: the event they get, when, and that neither a restart nor a rollback loses or doubles one."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from broker.errors import BrokerFailure
from broker.queues import Queue
from broker.store.port import BusItem
from engine.bus_support import Bridge, rule_arn
from engine.support import WORLD, Engine

# START_MS is 2023-11-14T22:13:20Z, a Tuesday
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


@pytest.fixture
def bridge(engine: Engine) -> Bridge:
    return Bridge(engine)


def schedule(bridge: Bridge, expression: str, name: str = "r", **given: str) -> Queue:
    queue = bridge.engine.create(f"q-{name}", MessageRetentionPeriod="1209600")
    bridge.put_rule(name, ScheduleExpression=expression, **given)
    bridge.put_targets(name, {"Id": "t", "Arn": queue.arn})
    bridge.engine.settle()
    return queue


def times(bridge: Bridge, queue: Queue) -> list[str]:
    return [event["time"] for event in bridge.received(queue)]


def test_the_event_that_a_scheduled_rule_gets(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(1 minute)")
    bridge.engine.advance(MINUTE_S)
    [message] = bridge.engine.receive(queue)
    id = json.loads(message.body)["id"]
    assert message.body == (
        f'{{"version":"0","id":"{id}","detail-type":"Scheduled Event","source":"aws.events",'
        '"account":"000000000000","time":"2023-11-14T22:14:20Z","region":"us-east-1",'
        f'"resources":["{rule_arn()}"],"detail":{{}}}}'
    )
    assert bridge.rule().counts == {"TriggeredRules": 1, "Invocations": 1}


def test_a_rate_counts_from_the_making_of_the_rule(bridge: Bridge) -> None:
    bridge.engine.advance(7)
    queue = schedule(bridge, "rate(5 minutes)")
    bridge.engine.advance(HOUR_S)
    assert times(bridge, queue) == [f"2023-11-14T{22 + m // 60}:{m % 60:02d}:27Z" for m in range(18, 78, 5)]


def test_cron_goes_by_the_clock(bridge: Bridge) -> None:
    queue = schedule(bridge, "cron(15 10 ? * MON-FRI *)")
    bridge.engine.advance(7 * DAY_S)
    days = (15, 16, 17, 20, 21)
    assert times(bridge, queue) == [f"2023-11-{day}T10:15:00Z" for day in days]


def test_a_cron_that_is_over_starts_nothing_more(bridge: Bridge) -> None:
    schedule(bridge, "cron(0 0 1 1 ? 2024)")
    past = schedule(bridge, "cron(0 0 1 1 ? 2020)", "past")
    bridge.engine.advance(800 * DAY_S)
    assert bridge.rule().counts["Invocations"] == 1
    assert bridge.rule("past").counts == {}
    assert bridge.received(past) == []


def test_a_rule_may_have_a_pattern_and_a_schedule(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(1 hour)", EventPattern='{"source": ["s"]}')
    bridge.put()
    bridge.engine.advance(HOUR_S)
    bridge.put()
    assert [event["source"] for event in bridge.received(queue)] == ["s", "aws.events", "s"]


def test_a_scheduled_event_is_for_its_own_rule_only(bridge: Bridge) -> None:
    schedule(bridge, "rate(1 minute)")
    queue = bridge.engine.create("q")
    bridge.connect({"source": ["aws.events"]}, queue, "other")
    bridge.engine.advance(MINUTE_S)
    assert bridge.received(queue) == []


def test_disabled_rules_rest_and_count_from_then_on_anew(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(10 minutes)")
    bridge.engine.advance(5 * MINUTE_S)
    bridge.rules.disable(WORLD, {"Name": "r"})
    bridge.engine.advance(HOUR_S)
    bridge.rules.enable(WORLD, {"Name": "r"})
    bridge.engine.advance(10 * MINUTE_S)
    assert times(bridge, queue) == ["2023-11-14T23:28:20Z"]


def test_a_rule_that_is_put_again_goes_on_counting_if_its_schedule_is_the_same(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(10 minutes)")
    bridge.engine.advance(5 * MINUTE_S)
    bridge.put_rule("r", ScheduleExpression="rate(10 minutes)", Description="new")
    bridge.engine.advance(5 * MINUTE_S)
    assert times(bridge, queue) == ["2023-11-14T22:23:20Z"]
    bridge.put_rule("r", ScheduleExpression="rate(20 minutes)")
    bridge.engine.advance(20 * MINUTE_S)
    assert times(bridge, queue) == ["2023-11-14T22:43:20Z"]
    bridge.put_rule("r", {"source": ["s"]})
    bridge.engine.advance(DAY_S)
    assert times(bridge, queue) == []


def test_a_rule_that_is_gone_starts_no_more(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(1 minute)")
    bridge.remove_targets("r", "t")
    bridge.rules.delete(WORLD, {"Name": "r"})
    bridge.engine.advance(HOUR_S)
    assert bridge.received(queue) == []


@pytest.mark.parametrize(
    ("down_s", "expected"),
    [
        (10, ["22:23:20", "22:33:20"]),  # nothing was missed
        (320, ["22:23:20", "22:33:20"]),  # what was due at 22:23:20 was missed by less than a minute
        (365, ["22:33:20"]),  # by more
        (HOUR_S, ["23:23:20"]),  # of all that was missed nothing comes
    ],
)
def test_after_a_restart_it_goes_on(on_disk: Engine, down_s: int, expected: list[str]) -> None:
    bridge = Bridge(on_disk)
    schedule(bridge, "rate(10 minutes)")
    on_disk.advance(5 * MINUTE_S)
    on_disk.restart(after_s=down_s)
    on_disk.advance(0 if down_s == HOUR_S else 15 * MINUTE_S - down_s)
    on_disk.advance(5 * MINUTE_S)
    assert [time[11:19] for time in times(bridge, on_disk.find("q-r"))] == expected


def test_what_was_started_is_not_started_again_after_a_restart(on_disk: Engine) -> None:
    bridge = Bridge(on_disk)
    schedule(bridge, "rate(1 minute)")
    on_disk.advance(MINUTE_S)
    on_disk.restart()
    on_disk.advance(MINUTE_S - 1)
    assert times(bridge, on_disk.find("q-r")) == ["2023-11-14T22:14:20Z"]
    on_disk.advance(1)
    assert times(bridge, on_disk.find("q-r")) == ["2023-11-14T22:15:20Z"]


def test_after_a_sleep_it_goes_on(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(10 minutes)")
    bridge.engine.clock._now_ms += 55 * MINUTE_S * 1000  # and nobody kept the appointments
    bridge.engine.advance(10 * MINUTE_S)
    assert times(bridge, queue) == ["2023-11-14T23:13:20Z"]


def test_a_start_that_did_not_happen_comes_again(bridge: Bridge) -> None:
    queue = schedule(bridge, "rate(1 minute)")
    commit = bridge.engine.broker.commit

    def fail() -> None:
        commit.before_commit.remove(fail)
        raise BrokerFailure("the disk is full")

    bridge.engine.advance(MINUTE_S - 1)
    commit.before_commit.append(fail)
    bridge.engine.advance(10)
    assert times(bridge, bridge.engine.find(queue.name)) == ["2023-11-14T22:14:20Z"]
    assert bridge.rule().counts["TriggeredRules"] == 2


def test_on_a_full_disk_a_start_is_tried_once_a_second(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = schedule(bridge, "rate(10 minutes)")
    tried = []

    def fail(item: BusItem) -> None:
        tried.append(bridge.engine.clock.now_ms())
        raise BrokerFailure("the disk is full")

    bridge.engine.advance(10 * MINUTE_S - 1)
    with monkeypatch.context() as patch:
        patch.setattr(bridge.engine.store.buses, "put_item", fail)
        bridge.engine.advance(30)
    assert [later - earlier for earlier, later in pairwise(tried)] == [1000] * 29
    bridge.engine.advance(2)
    assert times(bridge, bridge.engine.find(queue.name)) == ["2023-11-14T22:23:20Z"]


def test_schedules_of_thousands_of_rules_are_kept_apart(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    for number in range(1, 200):
        bridge.put_rule(f"r{number}", ScheduleExpression=f"rate({number + 1} minutes)")
        bridge.put_targets(f"r{number}", {"Id": "t", "Arn": queue.arn, "Input": f'"{number}"'})
    bridge.engine.advance(HOUR_S)
    assert len(bridge.received(queue)) == sum(60 // (number + 1) for number in range(1, 200))
