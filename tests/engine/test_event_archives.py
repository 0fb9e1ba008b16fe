"""Archives of buses: what goes in, what they tell of it, and what goes when."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.buses import archives
from broker.buses.bus import events_arn
from broker.errors import (
    BrokerFailure,
    InvalidEventPatternException,
    ManagedRuleException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.names import World
from engine.archive_support import Desk, bus_arn
from engine.conftest import NewEngine
from engine.support import DAY_S, START_MS, WORLD, Engine

DAY_MS = DAY_S * 1000
ELSEWHERE = World("000000000000", "eu-west-1")


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk(engine)


# what it is


def test_an_archive_is_described_as_it_was_created(desk: Desk) -> None:
    answer = desk.archive("a", {"source": ["shop"]}, Description="all", RetentionDays=3, KmsKeyIdentifier="alias/mine")
    told = desk.events.archives.describe(WORLD, "a")
    assert answer == told
    assert told == {
        "ArchiveName": "a",
        "ArchiveArn": events_arn(WORLD, "archive/a"),
        "EventSourceArn": bus_arn(),
        "Description": "all",
        "EventPattern": '{"source": ["shop"]}',
        "RetentionDays": 3,
        "KmsKeyIdentifier": "alias/mine",
        "State": "ENABLED",
        "CreationTime": START_MS,
        "EventCount": 0,
        "SizeBytes": 0,
    }


def test_its_managed_rule_is_seen_and_not_to_be_changed(desk: Desk) -> None:
    desk.archive("a", {"source": ["shop"]})
    rules = desk.events.rules
    rule = {"Name": "Events-Archive-a", "EventBusName": "orders"}
    shown = rules.describe(WORLD, "Events-Archive-a", "orders")
    assert json.loads(shown["EventPattern"]) == {"source": ["shop"], "replay-name": [{"exists": False}]}
    assert shown["ManagedBy"] == "prod.vhs.events.aws.internal"
    assert [rule["Name"] for rule in rules.list_rules(WORLD, "orders")] == ["Events-Archive-a"]
    targets = rules.list_targets(WORLD, "Events-Archive-a", "orders")
    assert targets == [{"Id": "Events-Archive-a", "Arn": "arn:aws:events:us-east-1:::"}]
    changes: list[Callable[[], object]] = [
        lambda: rules.put(WORLD, {**rule, "EventPattern": '{"source": ["x"]}'}),
        lambda: rules.disable(WORLD, rule),
        lambda: rules.delete(WORLD, rule),
        lambda: rules.put_targets(WORLD, {"Rule": rule["Name"], "EventBusName": "orders", "Targets": targets}),
        lambda: rules.remove_targets(WORLD, {"Rule": rule["Name"], "EventBusName": "orders", "Ids": ["x"]}),
    ]
    for change in changes:
        with pytest.raises(ManagedRuleException):
            change()


def test_what_is_left_out_of_an_update_stays(desk: Desk) -> None:
    desk.archive("a", {"source": ["shop"]}, Description="all", RetentionDays=3, KmsKeyIdentifier="k")
    desk.engine.advance(5)
    answer = desk.events.archives.update(WORLD, {"ArchiveName": "a", "RetentionDays": 0, "KmsKeyIdentifier": ""})
    told = desk.events.archives.describe(WORLD, "a")
    assert answer == {**told, "CreationTime": START_MS + 5000}
    assert (told["Description"], told["RetentionDays"], told["CreationTime"]) == ("all", 0, START_MS)
    assert json.loads(told["EventPattern"]) == {"source": ["shop"]}
    assert "KmsKeyIdentifier" not in told


def test_each_world_has_archives_of_its_own(desk: Desk) -> None:
    desk.archive("a")
    desk.events.archives.create(ELSEWHERE, {"ArchiveName": "a", "EventSourceArn": bus_arn("default", ELSEWHERE)})
    desk.put({"n": 1})
    told = desk.events.archives.describe(ELSEWHERE, "a")
    assert (told["EventCount"], told["EventSourceArn"]) == (0, bus_arn("default", ELSEWHERE))
    assert desk.held()[0] == 1


def test_what_is_wrong_is_refused_in_awss_words(desk: Desk) -> None:
    desk.archive("a")
    archives = desk.events.archives
    for refused, error, message in (
        (lambda: desk.archive("a"), ResourceAlreadyExistsException, "Archive a already exists."),
        (lambda: desk.archive("b", bus="none"), ResourceNotFoundException, "Event bus none does not exist."),
        (lambda: archives.delete(WORLD, "b"), ResourceNotFoundException, "Archive b does not exist."),
        (lambda: archives.describe(WORLD, "b"), ResourceNotFoundException, "Archive b does not exist."),
        (lambda: archives.update(WORLD, {"ArchiveName": "b"}), ResourceNotFoundException, "Archive b does not exist."),
        (
            lambda: archives.list_archives(WORLD, name_prefix="a", state="ENABLED"),
            ValidationException,
            "At most one filter is allowed for ListArchives. Use either : State, EventSourceArn, or NamePrefix.",
        ),
    ):
        with pytest.raises(error) as refusal:
            refused()
        assert refusal.value.message == message
    foreign = {"ArchiveName": "b", "EventSourceArn": bus_arn("orders", ELSEWHERE)}
    with pytest.raises(ResourceNotFoundException):
        archives.create(WORLD, foreign)
    for pattern in ("{}", "[]", '{"source": "shop"}', '{"source": ["' + "x" * 4096 + '"]}'):
        with pytest.raises(InvalidEventPatternException, match=r"Event pattern is not valid. Reason: "):
            archives.create(WORLD, {"ArchiveName": "b", "EventSourceArn": bus_arn(), "EventPattern": pattern})
        with pytest.raises(InvalidEventPatternException):
            archives.update(WORLD, {"ArchiveName": "a", "EventPattern": pattern})
    assert [rule["Name"] for rule in desk.events.rules.list_rules(WORLD, "orders")] == ["Events-Archive-a"]


def test_a_rule_that_has_the_managed_rules_name_is_not_overwritten(desk: Desk) -> None:
    desk.rule("Events-Archive-a", {"source": ["shop"]})
    with pytest.raises(ResourceAlreadyExistsException):
        desk.archive("a")


def test_archives_are_listed_by_name_and_by_one_filter(desk: Desk) -> None:
    desk.events.buses.create(WORLD, {"Name": "other"})
    for name, bus in (("b", "orders"), ("ab", "other"), ("a", "orders"), ("c", "orders")):
        desk.archive(name, bus=bus)

    def names(**given: str) -> list[str]:
        return [entry["ArchiveName"] for entry in desk.events.archives.list_archives(WORLD, **given)]

    assert names() == ["a", "ab", "b", "c"]
    assert names(name_prefix="a") == ["a", "ab"]
    assert names(event_source_arn=bus_arn("other")) == ["ab"]
    assert (names(state="ENABLED"), names(state="DISABLED")) == (["a", "ab", "b", "c"], [])
    told = [desk.events.archives.describe(WORLD, name) for name in ("a", "ab", "b", "c")]
    assert desk.events.archives.list_archives(WORLD) == told


# what goes in


def test_it_counts_what_matches_to_the_byte(desk: Desk) -> None:
    shop = desk.rule("shop", {"source": ["shop"]})
    desk.archive("shop", {"source": ["shop"]})
    desk.archive("all")
    desk.put({"n": 1}, {"n": "größer"})
    desk.put({"n": 3}, source="other")
    bodies = [message.body.encode() for message in desk.engine.listing(shop)]
    assert desk.held("shop") == (2, sum(map(len, bodies)))  # in the same group: not written yet
    assert desk.rows() == [desk.held("shop"), desk.held("all")]
    assert desk.held("all")[0] == 3


def test_the_pattern_may_be_followed_by_anything_as_event_ruler_lets_it(desk: Desk) -> None:
    given = {"ArchiveName": "a", "EventSourceArn": bus_arn(), "EventPattern": ' {"source": ["shop"]} } // and so on'}
    desk.events.archives.create(WORLD, given)
    desk.put({"n": 1})
    desk.put({"n": 2}, source="other")
    assert desk.held()[0] == 1


def test_a_new_pattern_holds_for_what_comes_then(desk: Desk) -> None:
    desk.archive("a", {"source": ["shop"]})
    desk.put({"n": 1})
    desk.events.archives.update(WORLD, {"ArchiveName": "a", "EventPattern": '{"source": ["other"]}'})
    desk.put({"n": 2})
    desk.put({"n": 3}, source="other")
    assert desk.held()[0] == 2


def test_it_is_the_same_after_a_restart(on_disk: Engine) -> None:
    desk = Desk(on_disk)
    desk.archive("a")
    desk.put({"n": 1}, {"n": 2})
    before = desk.held()
    on_disk.restart()
    assert desk.held() == before == desk.rows()[0]
    desk.put({"n": 3})
    assert desk.held()[0] == 3
    assert desk.rows() == [desk.held()]


def test_a_group_that_fails_has_archived_nothing(desk: Desk) -> None:
    desk.archive("a")
    desk.put({"n": 1})
    desk.engine.settle()
    before = desk.held()
    desk.put({"n": 2})
    desk.archive("b")
    desk.engine.broker.commit.abort(BrokerFailure("no"))
    assert desk.held() == before
    desk.put({"n": 3})
    assert desk.held()[0] == 2
    assert desk.rows() == [desk.held()]
    with pytest.raises(ResourceNotFoundException):
        desk.held("b")


# what goes


def test_what_is_deleted_is_swept_in_steps_and_its_name_is_free(desk: Desk) -> None:
    desk.archive("a")
    for _ in range(120):
        desk.put(*[{"n": n} for n in range(10)])
    desk.engine.settle()
    begun = desk.transactions()
    desk.events.archives.delete(WORLD, "a")
    assert desk.events.rules.list_rules(WORLD, "orders") == []
    desk.put({"n": 1})
    desk.archive("a")
    desk.put({"n": 2})
    assert desk.held()[0] == 1
    desk.engine.settle()
    assert desk.rows() == [desk.held()]
    assert begun["begun"] >= 1200 // archives.STEP_EVENTS


def test_nothing_is_left_of_what_was_put_and_deleted_in_one_group(desk: Desk) -> None:
    desk.archive("a")
    desk.put({"n": 1})
    desk.events.archives.delete(WORLD, "a")
    desk.engine.settle()
    assert desk.rows() == []
    assert desk.engine.store.buses.load_archive_totals() == []


def test_what_a_killed_process_left_to_sweep_is_swept(on_disk: Engine) -> None:
    desk = Desk(on_disk)
    desk.archive("a")
    desk.put({"n": 1})
    desk.events.archives.delete(WORLD, "a")
    on_disk.broker.commit.flush()
    assert desk.rows()
    on_disk.restart()
    on_disk.advance(2)
    assert desk.rows() == []


def test_retention_counts_from_the_arrival(desk: Desk) -> None:
    desk.archive("a", RetentionDays=2)
    desk.archive("kept")
    desk.put({"n": 1}, time_ms=0)
    desk.engine.advance(DAY_S)
    desk.put({"n": 2}, time_ms=START_MS + 30 * DAY_MS)
    desk.engine.advance(DAY_S - 0.001)
    assert desk.held()[0] == 2
    desk.engine.advance(0.001)
    assert desk.held()[0] == 1
    desk.engine.advance(DAY_S)
    assert desk.held() == (0, 0)
    assert desk.held("kept")[0] == 2
    assert desk.rows() == [desk.held("kept")]


def test_a_stream_of_events_expires_in_bunches(desk: Desk) -> None:
    desk.archive("a", RetentionDays=1)
    for n in range(300):
        desk.put({"n": n})
        desk.engine.advance(1)
    desk.engine.advance(DAY_S - 300)
    begun = desk.transactions()
    desk.engine.advance(400)
    assert desk.held() == (0, 0)
    assert begun["begun"] <= 8


def test_a_shorter_retention_holds_at_once(desk: Desk) -> None:
    desk.archive("a")
    desk.put(*[{"n": n} for n in range(5)])
    desk.engine.advance(2 * DAY_S)
    desk.put({"n": 6})
    desk.events.archives.update(WORLD, {"ArchiveName": "a", "RetentionDays": 1})
    desk.engine.advance(0)
    assert desk.held()[0] == 1
    assert desk.rows() == [desk.held()]


def test_large_events_expire_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "STEP_BYTES", 3000)
    desk.archive("a", RetentionDays=1)
    desk.put(*[{"n": "x" * 1000} for _ in range(10)])
    desk.engine.settle()
    begun = desk.transactions()
    desk.engine.advance(DAY_S)
    assert desk.held() == (0, 0)
    assert begun["begun"] >= 4


def test_expiry_goes_on_after_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    desk = Desk(engine)
    desk.archive("a", RetentionDays=1)
    desk.put({"n": 1})
    engine.restart(after_s=2 * DAY_S)
    engine.advance(2)
    assert desk.held() == (0, 0)
    desk.put({"n": 2})
    engine.advance(DAY_S)
    assert desk.held() == (0, 0)


def test_an_archive_whose_bus_went_is_disabled_until_there_is_one_again(desk: Desk) -> None:
    desk.archive("a")
    desk.put({"n": 1})
    force = {"Rule": "Events-Archive-a", "EventBusName": "orders", "Force": True}
    desk.events.rules.remove_targets(WORLD, {**force, "Ids": ["Events-Archive-a"]})
    desk.events.rules.delete(WORLD, {**force, "Name": "Events-Archive-a"})
    desk.events.buses.delete(WORLD, "orders")
    told = desk.events.archives.describe(WORLD, "a")
    assert (told["State"], told["EventCount"]) == ("DISABLED", 1)
    desk.events.buses.create(WORLD, {"Name": "orders"})
    desk.put({"n": 2})
    assert desk.events.archives.update(WORLD, {"ArchiveName": "a"})["State"] == "ENABLED"
    desk.put({"n": 3})
    assert desk.held()[0] == 2


def test_a_reset_forgets_an_accounts_archives(desk: Desk) -> None:
    other = World("111111111111", "us-east-1")
    desk.events.archives.create(other, {"ArchiveName": "a", "EventSourceArn": bus_arn("default", other)})
    desk.archive("a")
    desk.put({"n": 1})
    desk.events.reset(WORLD.account)
    desk.engine.settle()
    assert desk.events.archives.list_archives(WORLD) == []
    assert len(desk.events.archives.list_archives(other)) == 1
    assert desk.rows() == []
    desk.events.reset()
    assert desk.events.archives.list_archives(other) == []
