"""Each of EventBridge's 57 operations through boto3, as a program uses it. Errors are in test_events_errors.py."""

from __future__ import annotations

import json
import random
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

REGION, ELSEWHERE = "us-east-1", "us-west-2"
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PATTERN = '{"source": ["orders"]}'
ROLE = "arn:aws:iam::123456789012:role/events"
BASIC = {"BasicAuthParameters": {"Username": "ann", "Password": "secret"}}
WAIT_S = 10


def arn(account: str, resource: str, region: str = REGION) -> str:
    return f"arn:aws:events:{region}:{account}:{resource}"


def queue_arn(account: str, name: str = "q") -> str:
    return f"arn:aws:sqs:{REGION}:{account}:{name}"


def is_now(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC)) < timedelta(minutes=1)


def receive(sqs: Any, url: str) -> list[Any]:
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in found]


def members(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@pytest.fixture
def events(connect: Any, sidebus: Any) -> Any:
    return connect(sidebus, "events")


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="q")["QueueUrl"])


@pytest.fixture
def bus(events: Any) -> str:
    return str(events.create_event_bus(Name="bus")["EventBusArn"])


@pytest.fixture
def rule(events: Any, account: str, url: str) -> str:
    """On the default bus, for events of `orders`, to the queue."""
    rule_arn = str(events.put_rule(Name="r", EventPattern=PATTERN)["RuleArn"])
    events.put_targets(Rule="r", Targets=[{"Id": "t", "Arn": queue_arn(account)}])
    return rule_arn


@pytest.fixture
def archive(events: Any, account: str) -> str:
    return str(events.create_archive(ArchiveName="a", EventSourceArn=arn(account, "event-bus/default"))["ArchiveArn"])


@pytest.fixture
def connection(events: Any) -> str:
    made = events.create_connection(Name="c", AuthorizationType="BASIC", AuthParameters=BASIC)
    return str(made["ConnectionArn"])


@pytest.fixture
def destination(events: Any, connection: str) -> str:
    made = events.create_api_destination(
        Name="d", ConnectionArn=connection, InvocationEndpoint="https://api.example.com/*", HttpMethod="POST"
    )
    return str(made["ApiDestinationArn"])


@pytest.fixture
def partner(connect: Any, sidebus: Any) -> Any:
    """A partner's client, of another account."""
    return connect(sidebus, "events", account=str(random.randrange(10**11, 10**12)))


@pytest.fixture
def source(partner: Any, account: str) -> str:
    """A partner event source that is offered to the account."""
    name = f"aws.partner/example.com/{account}/orders"
    partner.create_partner_event_source(Name=name, Account=account)
    return name


@pytest.fixture
def endpoint_settings(events: Any, connect: Any, sidebus: Any, account: str) -> dict[str, Any]:
    """Two buses, and what CreateEndpoint needs to join them."""
    events.create_event_bus(Name="global")
    connect(sidebus, "events", region=ELSEWHERE).create_event_bus(Name="global")
    health_check = "arn:aws:route53:::healthcheck/3a1e0a3f-0000-0000-0000-5f3d4e1c2b1a"
    return {
        "RoutingConfig": {
            "FailoverConfig": {"Primary": {"HealthCheck": health_check}, "Secondary": {"Route": ELSEWHERE}}
        },
        "EventBuses": [{"EventBusArn": arn(account, "event-bus/global", region)} for region in (REGION, ELSEWHERE)],
        "RoleArn": ROLE,
    }


@pytest.fixture
def endpoint(events: Any, endpoint_settings: dict[str, Any]) -> str:
    return str(events.create_endpoint(Name="e", **endpoint_settings)["Arn"])


def test_every_operation_of_the_model_is_here(events: Any) -> None:
    tested = {name.removeprefix("test_") for name in globals()}
    assert {name for name in events.meta.method_to_api_mapping if name not in tested} == set()


# buses


def test_create_event_bus(events: Any, account: str) -> None:
    dead_letters = {"Arn": queue_arn(account)}
    logs = {"IncludeDetail": "FULL", "Level": "INFO"}
    tags = [{"Key": "team", "Value": "a"}]
    made = events.create_event_bus(
        Name="bus.b_1-a",
        Description="all",
        DeadLetterConfig=dead_letters,
        LogConfig=logs,
        KmsKeyIdentifier="alias/k",
        Tags=tags,
    )
    bus = arn(account, "event-bus/bus.b_1-a")
    assert members(made) == {
        "EventBusArn": bus,
        "Description": "all",
        "KmsKeyIdentifier": "alias/k",
        "DeadLetterConfig": dead_letters,
        "LogConfig": logs,
    }
    assert events.list_tags_for_resource(ResourceARN=bus)["Tags"] == tags


def test_delete_event_bus(events: Any, bus: str) -> None:
    events.delete_event_bus(Name="bus")
    events.delete_event_bus(Name="bus")
    assert [found["Name"] for found in events.list_event_buses()["EventBuses"]] == ["default"]


def test_describe_event_bus(events: Any, account: str, bus: str) -> None:
    default = members(events.describe_event_bus())
    assert is_now(default.pop("CreationTime"))
    assert is_now(default.pop("LastModifiedTime"))
    assert default == {"Name": "default", "Arn": arn(account, "event-bus/default")}
    assert events.describe_event_bus(Name="bus")["Arn"] == bus
    assert events.describe_event_bus(Name=bus)["Name"] == "bus"


def test_list_event_buses(events: Any, account: str) -> None:
    for n in range(101):
        events.create_event_bus(Name=f"b{n:03}")
    first = events.list_event_buses()
    assert len(first["EventBuses"]) == 100
    second = events.list_event_buses(NextToken=first["NextToken"])
    assert [bus["Name"] for bus in second["EventBuses"]] == ["b100", "default"]
    assert "NextToken" not in second
    few = events.list_event_buses(NamePrefix="b09", Limit=9)
    assert [bus["Name"] for bus in few["EventBuses"]] == [f"b09{n}" for n in range(9)]
    (last,) = events.list_event_buses(NamePrefix="b09", NextToken=few["NextToken"])["EventBuses"]
    assert is_now(last.pop("CreationTime"))
    assert is_now(last.pop("LastModifiedTime"))
    assert last == {"Name": "b099", "Arn": arn(account, "event-bus/b099")}


def test_update_event_bus(events: Any, bus: str) -> None:
    logs = {"IncludeDetail": "NONE", "Level": "ERROR"}
    updated = members(events.update_event_bus(Name="bus", Description="new", LogConfig=logs))
    assert updated == {"Arn": bus, "Name": "bus", "Description": "new", "LogConfig": logs}
    assert events.describe_event_bus(Name="bus")["Description"] == "new"
    assert events.update_event_bus(Description="the first")["Name"] == "default"


def test_put_permission(events: Any, account: str, bus: str) -> None:
    events.put_permission(EventBusName="bus", Action="events:PutEvents", Principal="123456789012", StatementId="other")
    condition = {"Type": "StringEquals", "Key": "aws:PrincipalOrgID", "Value": "o-1234567890"}
    events.put_permission(
        EventBusName="bus", Action="events:PutEvents", Principal="*", StatementId="all", Condition=condition
    )
    policy = json.loads(events.describe_event_bus(Name="bus")["Policy"])
    assert policy["Statement"] == [
        {
            "Sid": "other",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": "events:PutEvents",
            "Resource": bus,
        },
        {
            "Sid": "all",
            "Effect": "Allow",
            "Principal": "*",
            "Action": "events:PutEvents",
            "Resource": bus,
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}},
        },
    ]
    text = json.dumps({"Version": "2012-10-17", "Statement": [policy["Statement"][0]]})
    events.put_permission(Policy=text)
    assert json.loads(events.describe_event_bus()["Policy"]) == json.loads(text)


def test_remove_permission(events: Any) -> None:
    for label in "abc":
        events.put_permission(Action="events:PutEvents", Principal="*", StatementId=label)
    events.remove_permission(StatementId="b")
    policy = json.loads(events.describe_event_bus()["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["a", "c"]
    events.remove_permission(RemoveAllPermissions=True)
    assert "Policy" not in events.describe_event_bus()


def test_tag_resource(events: Any, bus: str, rule: str) -> None:
    for resource in (bus, rule):
        events.tag_resource(ResourceARN=resource, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
        events.tag_resource(ResourceARN=resource, Tags=[{"Key": "a", "Value": "2"}])
        tags = events.list_tags_for_resource(ResourceARN=resource)["Tags"]
        assert tags == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]


def test_untag_resource(events: Any, bus: str, rule: str) -> None:
    for resource in (bus, rule):
        events.tag_resource(ResourceARN=resource, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
        events.untag_resource(ResourceARN=resource, TagKeys=["a", "never"])
        assert events.list_tags_for_resource(ResourceARN=resource)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_list_tags_for_resource(events: Any, bus: str) -> None:
    assert events.list_tags_for_resource(ResourceARN=bus)["Tags"] == []
    other = events.put_rule(Name="r", EventBusName="bus", EventPattern=PATTERN, Tags=[{"Key": "a", "Value": "1"}])
    assert events.list_tags_for_resource(ResourceARN=other["RuleArn"])["Tags"] == [{"Key": "a", "Value": "1"}]


# rules and targets


def test_put_rule(events: Any, account: str, bus: str) -> None:
    assert events.put_rule(Name="r", EventPattern=PATTERN)["RuleArn"] == arn(account, "rule/r")
    on_bus = events.put_rule(Name="r", EventBusName="bus", EventPattern=PATTERN, State="DISABLED", Description="one")
    assert on_bus["RuleArn"] == arn(account, "rule/bus/r")
    assert events.put_rule(Name="s", EventBusName=bus, EventPattern=PATTERN)["RuleArn"] == arn(account, "rule/bus/s")
    events.put_rule(Name="r", EventBusName="bus", EventPattern='{"source": ["x"]}')
    changed = events.describe_rule(Name="r", EventBusName="bus")
    assert (changed["State"], changed["EventPattern"]) == ("ENABLED", '{"source": ["x"]}')
    assert "Description" not in changed


def test_delete_rule(events: Any, bus: str) -> None:
    events.put_rule(Name="r", EventBusName="bus", EventPattern=PATTERN)
    events.delete_rule(Name="r", EventBusName="bus")
    events.delete_rule(Name="r", EventBusName="bus")
    assert events.list_rules(EventBusName="bus")["Rules"] == []


def test_describe_rule(events: Any, account: str) -> None:
    events.put_rule(Name="r", EventPattern=PATTERN, ScheduleExpression="rate(5 minutes)", Description="d", RoleArn=ROLE)
    assert members(events.describe_rule(Name="r")) == {
        "Name": "r",
        "Arn": arn(account, "rule/r"),
        "EventPattern": PATTERN,
        "ScheduleExpression": "rate(5 minutes)",
        "State": "ENABLED",
        "Description": "d",
        "RoleArn": ROLE,
        "EventBusName": "default",
        "CreatedBy": account,
    }


def put_order(events: Any) -> None:
    answer = events.put_events(Entries=[{"Source": "orders", "DetailType": "Placed", "Detail": "{}"}])
    assert answer["FailedEntryCount"] == 0


def test_disable_rule(events: Any, sqs: Any, url: str, rule: str) -> None:
    events.disable_rule(Name="r")
    assert events.describe_rule(Name="r")["State"] == "DISABLED"
    put_order(events)
    assert receive(sqs, url) == []


def test_enable_rule(events: Any, sqs: Any, url: str, rule: str) -> None:
    events.disable_rule(Name="r")
    events.enable_rule(Name="r", EventBusName="default")
    assert events.describe_rule(Name="r")["State"] == "ENABLED"
    put_order(events)
    assert len(receive(sqs, url)) == 1


def test_list_rules(events: Any, account: str, bus: str) -> None:
    for name in ("b", "aa", "ab"):
        events.put_rule(Name=name, EventBusName="bus", EventPattern=PATTERN)
    assert events.list_rules()["Rules"] == []
    first = events.list_rules(EventBusName="bus", NamePrefix="a", Limit=1)
    assert first["Rules"] == [
        {
            "Name": "aa",
            "Arn": arn(account, "rule/bus/aa"),
            "EventPattern": PATTERN,
            "State": "ENABLED",
            "EventBusName": "bus",
        }
    ]
    second = events.list_rules(EventBusName=bus, NamePrefix="a", Limit=1, NextToken=first["NextToken"])
    assert [found["Name"] for found in second["Rules"]] == ["ab"]
    assert "NextToken" not in second


def test_list_rule_names_by_target(events: Any, account: str, rule: str) -> None:
    for name in ("s", "q"):
        events.put_rule(Name=name, EventPattern=PATTERN)
        events.put_targets(Rule=name, Targets=[{"Id": "x", "Arn": queue_arn(account)}])
    first = events.list_rule_names_by_target(TargetArn=queue_arn(account), Limit=2)
    assert first["RuleNames"] == ["q", "r"]
    second = events.list_rule_names_by_target(TargetArn=queue_arn(account), NextToken=first["NextToken"])
    assert second["RuleNames"] == ["s"]
    assert events.list_rule_names_by_target(TargetArn=queue_arn(account, "other"))["RuleNames"] == []


def test_put_targets(events: Any, sqs: Any, account: str, url: str, rule: str) -> None:
    transformer = {"InputPathsMap": {"id": "$.detail.id"}, "InputTemplate": '"order <id>"'}
    put = events.put_targets(
        Rule="r",
        Targets=[
            {"Id": "t", "Arn": queue_arn(account), "InputTransformer": transformer},
            {"Id": "path", "Arn": queue_arn(account), "InputPath": "$.detail"},
            {"Id": "text", "Arn": queue_arn(account), "Input": '"hello"'},
        ],
    )
    assert (put["FailedEntryCount"], put["FailedEntries"]) == (0, [])
    events.put_events(Entries=[{"Source": "orders", "DetailType": "Placed", "Detail": '{"id": 7}'}])
    assert sorted(receive(sqs, url), key=str) == ["hello", "order 7", {"id": 7}]


def test_remove_targets(events: Any, sqs: Any, url: str, rule: str) -> None:
    removed = events.remove_targets(Rule="r", Ids=["t", "never"])
    assert (removed["FailedEntryCount"], removed["FailedEntries"]) == (0, [])
    put_order(events)
    assert receive(sqs, url) == []


def test_list_targets_by_rule(events: Any, account: str) -> None:
    events.put_rule(Name="r", EventPattern=PATTERN)
    targets = [
        {
            "Id": "a",
            "Arn": queue_arn(account),
            "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 60},
            "DeadLetterConfig": {"Arn": queue_arn(account, "dead")},
        },
        {"Id": "b", "Arn": queue_arn(account, "q.fifo"), "SqsParameters": {"MessageGroupId": "g"}},
    ]
    events.put_targets(Rule="r", Targets=targets)
    assert events.list_targets_by_rule(Rule="r")["Targets"] == targets
    first = events.list_targets_by_rule(Rule="r", Limit=1)
    assert first["Targets"] == targets[:1]
    second = events.list_targets_by_rule(Rule="r", Limit=1, NextToken=first["NextToken"])
    assert second["Targets"] == targets[1:]
    assert "NextToken" not in second


def test_test_event_pattern(events: Any, account: str) -> None:
    event = {
        "id": "1",
        "account": account,
        "source": "orders",
        "time": "2026-01-02T03:04:05Z",
        "region": REGION,
        "resources": [],
        "detail-type": "Placed",
        "detail": {"amount": 1500},
    }
    pattern = {"source": ["orders"], "detail": {"amount": [{"numeric": [">", 1000]}]}}
    assert events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))["Result"] is True
    event["detail"] = {"amount": 1000}
    assert events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))["Result"] is False


# events


def test_put_events(events: Any, sqs: Any, account: str, url: str, rule: str) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    put = events.put_events(
        Entries=[
            {
                "Source": "orders",
                "DetailType": "Placed",
                "Detail": '{"amount": 12.50}',
                "Time": moment,
                "Resources": ["arn:aws:x"],
                "TraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
            },
            {"Source": "orders", "DetailType": "Placed", "Detail": "no JSON"},
            {"Source": "stock", "DetailType": "Placed", "Detail": "{}", "EventBusName": "default"},
        ]
    )
    first, second, third = put["Entries"]
    assert put["FailedEntryCount"] == 1
    assert (second["ErrorCode"], second["ErrorMessage"]) == ("MalformedDetail", "Detail is malformed.")
    assert re.fullmatch(UUID, first["EventId"])
    assert re.fullmatch(UUID, third["EventId"])
    assert receive(sqs, url) == [
        {
            "version": "0",
            "id": first["EventId"],
            "detail-type": "Placed",
            "source": "orders",
            "account": account,
            "time": "2026-01-02T03:04:05Z",
            "region": REGION,
            "resources": ["arn:aws:x"],
            "detail": {"amount": 12.5},
        }
    ]


def test_put_partner_events(events: Any, partner: Any, sqs: Any, account: str, url: str, source: str) -> None:
    entry = {"Source": source, "DetailType": "Placed", "Detail": '{"n": 1}', "Resources": ["r"]}
    before = partner.put_partner_events(Entries=[entry])  # goes nowhere: no bus takes it yet
    assert before["FailedEntryCount"] == 0
    events.create_event_bus(Name=source, EventSourceName=source)
    events.put_rule(Name="r", EventBusName=source, EventPattern=json.dumps({"source": [source]}))
    events.put_targets(Rule="r", EventBusName=source, Targets=[{"Id": "t", "Arn": queue_arn(account)}])
    put = partner.put_partner_events(Entries=[entry, {**entry, "Detail": "no JSON"}])
    assert put["FailedEntryCount"] == 1
    assert put["Entries"][1]["ErrorCode"] == "MalformedDetail"
    (event,) = receive(sqs, url)
    assert event["id"] == put["Entries"][0]["EventId"]
    shown = {name: event[name] for name in ("source", "detail-type", "account", "resources", "detail")}
    assert shown == {
        "source": source,
        "detail-type": "Placed",
        "account": account,
        "resources": ["r"],
        "detail": {"n": 1},
    }
    events.deactivate_event_source(Name=source)
    assert partner.put_partner_events(Entries=[entry])["FailedEntryCount"] == 0
    assert receive(sqs, url) == []


# archives and replays


def test_create_archive(events: Any, account: str, bus: str) -> None:
    made = events.create_archive(
        ArchiveName="a", EventSourceArn=bus, EventPattern=PATTERN, RetentionDays=7, Description="d"
    )
    assert made["ArchiveArn"] == arn(account, "archive/a")
    assert made["State"] in ("CREATING", "ENABLED")
    assert is_now(made["CreationTime"])
    (managed,) = events.list_rules(EventBusName="bus")["Rules"]
    assert managed["ManagedBy"] == "prod.vhs.events.aws.internal"


def test_delete_archive(events: Any, archive: str) -> None:
    events.delete_archive(ArchiveName="a")
    assert events.list_archives()["Archives"] == []
    assert events.list_rules()["Rules"] == []


def test_describe_archive(events: Any, account: str, archive: str) -> None:
    put_order(events)
    shown = members(events.describe_archive(ArchiveName="a"))
    assert is_now(shown.pop("CreationTime"))
    assert shown.pop("SizeBytes") > 100
    assert shown == {
        "ArchiveArn": archive,
        "ArchiveName": "a",
        "EventSourceArn": arn(account, "event-bus/default"),
        "State": "ENABLED",
        "RetentionDays": 0,
        "EventCount": 1,
    }


def test_list_archives(events: Any, account: str, bus: str) -> None:
    default = arn(account, "event-bus/default")
    for name, source in [("b", bus), ("aa", default), ("ab", default)]:
        events.create_archive(ArchiveName=name, EventSourceArn=source)
    first = events.list_archives(NamePrefix="a", Limit=1)
    (shown,) = first["Archives"]
    assert is_now(shown.pop("CreationTime"))
    assert shown == {
        "ArchiveName": "aa",
        "EventSourceArn": default,
        "State": "ENABLED",
        "RetentionDays": 0,
        "SizeBytes": 0,
        "EventCount": 0,
    }
    second = events.list_archives(NamePrefix="a", NextToken=first["NextToken"])
    assert [found["ArchiveName"] for found in second["Archives"]] == ["ab"]
    assert "NextToken" not in second
    assert [found["ArchiveName"] for found in events.list_archives(EventSourceArn=bus)["Archives"]] == ["b"]
    assert len(events.list_archives(State="ENABLED")["Archives"]) == 3


def test_update_archive(events: Any, archive: str) -> None:
    updated = events.update_archive(ArchiveName="a", EventPattern=PATTERN, RetentionDays=1, Description="new")
    assert updated["ArchiveArn"] == archive
    shown = events.describe_archive(ArchiveName="a")
    assert (shown["EventPattern"], shown["RetentionDays"], shown["Description"]) == (PATTERN, 1, "new")


def start_replay(events: Any, account: str, name: str, archive: str, **destination: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return events.start_replay(  # type: ignore[no-any-return]
        ReplayName=name,
        EventSourceArn=archive,
        EventStartTime=now - timedelta(hours=1),
        EventEndTime=now + timedelta(hours=1),
        Destination={"Arn": arn(account, "event-bus/default"), **destination},
    )


def ended(events: Any, name: str) -> dict[str, Any]:
    """The replay, once it is over."""
    deadline = time.monotonic() + WAIT_S
    while True:
        shown = members(events.describe_replay(ReplayName=name))
        if shown["State"] not in ("STARTING", "RUNNING", "CANCELLING"):
            return shown
        assert time.monotonic() < deadline, shown


def test_start_replay(events: Any, sqs: Any, account: str, url: str, rule: str, archive: str) -> None:
    put_order(events)
    (live,) = receive(sqs, url)
    started = start_replay(events, account, "again", archive, FilterArns=[rule])
    assert started["ReplayArn"] == arn(account, "replay/again")
    assert started["State"] == "STARTING"
    assert is_now(started["ReplayStartTime"])
    assert ended(events, "again")["State"] == "COMPLETED"
    assert receive(sqs, url) == [{**live, "replay-name": "again"}]


def test_describe_replay(events: Any, account: str, archive: str) -> None:
    put_order(events)
    start_replay(events, account, "again", archive)
    shown = ended(events, "again")
    for moment in ("ReplayStartTime", "ReplayEndTime", "EventLastReplayedTime"):
        assert is_now(shown.pop(moment)), moment
    assert shown.pop("EventEndTime") - shown.pop("EventStartTime") == timedelta(hours=2)
    assert shown == {
        "ReplayName": "again",
        "ReplayArn": arn(account, "replay/again"),
        "State": "COMPLETED",
        "EventSourceArn": archive,
        "Destination": {"Arn": arn(account, "event-bus/default")},
    }


def test_list_replays(events: Any, account: str, archive: str) -> None:
    for name in ("b", "aa", "ab"):
        start_replay(events, account, name, archive)
        ended(events, name)
    first = events.list_replays(NamePrefix="a", Limit=1)
    (shown,) = first["Replays"]
    assert (shown["ReplayName"], shown["State"], shown["EventSourceArn"]) == ("aa", "COMPLETED", archive)
    assert is_now(shown["ReplayEndTime"])
    second = events.list_replays(NamePrefix="a", NextToken=first["NextToken"])
    assert [found["ReplayName"] for found in second["Replays"]] == ["ab"]
    assert "NextToken" not in second
    assert len(events.list_replays(EventSourceArn=archive)["Replays"]) == 3
    assert events.list_replays(State="FAILED")["Replays"] == []


def test_cancel_replay(events: Any, account: str, archive: str) -> None:
    put_order(events)
    start_replay(events, account, "again", archive)
    cancelled = events.cancel_replay(ReplayName="again")
    assert (cancelled["ReplayArn"], cancelled["State"]) == (arn(account, "replay/again"), "CANCELLING")
    assert ended(events, "again")["State"] == "CANCELLED"
    events.delete_archive(ArchiveName="a")


# connections and API destinations


def test_create_connection(events: Any, account: str) -> None:
    oauth = {
        "ClientParameters": {"ClientID": "id", "ClientSecret": "secret"},
        "AuthorizationEndpoint": "https://auth.example.com/token",
        "HttpMethod": "POST",
    }
    for kind, parameters in [
        ("BASIC", BASIC),
        ("API_KEY", {"ApiKeyAuthParameters": {"ApiKeyName": "x-key", "ApiKeyValue": "secret"}}),
        ("OAUTH_CLIENT_CREDENTIALS", {"OAuthParameters": oauth}),
    ]:
        made = events.create_connection(Name=kind, AuthorizationType=kind, AuthParameters=parameters)
        assert re.fullmatch(arn(account, f"connection/{kind}/{UUID}"), made["ConnectionArn"])
        assert made["ConnectionState"] in ("AUTHORIZED", "AUTHORIZING")
        assert is_now(made["CreationTime"])
        assert is_now(made["LastModifiedTime"])


def test_describe_connection(events: Any, account: str, connection: str) -> None:
    shown = members(events.describe_connection(Name="c"))
    for moment in ("CreationTime", "LastModifiedTime", "LastAuthorizedTime"):
        assert is_now(shown.pop(moment))
    secret = shown.pop("SecretArn")
    assert secret.startswith(f"arn:aws:secretsmanager:{REGION}:{account}:secret:events!connection/c/")
    assert shown == {
        "ConnectionArn": connection,
        "Name": "c",
        "ConnectionState": "AUTHORIZED",
        "AuthorizationType": "BASIC",
        "AuthParameters": {"BasicAuthParameters": {"Username": "ann"}},
    }


def test_update_connection(events: Any, connection: str) -> None:
    key = {"ApiKeyAuthParameters": {"ApiKeyName": "x-key", "ApiKeyValue": "secret"}}
    updated = events.update_connection(Name="c", AuthorizationType="API_KEY", AuthParameters=key, Description="new")
    assert updated["ConnectionArn"] == connection
    assert is_now(updated["LastAuthorizedTime"])
    shown = events.describe_connection(Name="c")
    assert (shown["AuthorizationType"], shown["Description"]) == ("API_KEY", "new")
    assert shown["AuthParameters"] == {"ApiKeyAuthParameters": {"ApiKeyName": "x-key"}}


def test_deauthorize_connection(events: Any, connection: str) -> None:
    answer = events.deauthorize_connection(Name="c")
    assert (answer["ConnectionArn"], answer["ConnectionState"]) == (connection, "DEAUTHORIZING")
    shown = events.describe_connection(Name="c")
    assert shown["ConnectionState"] == "DEAUTHORIZED"
    assert "AuthParameters" not in shown


def test_delete_connection(events: Any, connection: str) -> None:
    answer = events.delete_connection(Name="c")
    assert (answer["ConnectionArn"], answer["ConnectionState"]) == (connection, "DELETING")
    assert events.list_connections()["Connections"] == []


def test_list_connections(events: Any) -> None:
    for name in ("b", "aa", "ab"):
        events.create_connection(Name=name, AuthorizationType="BASIC", AuthParameters=BASIC)
    first = events.list_connections(NamePrefix="a", Limit=1)
    (shown,) = first["Connections"]
    assert (shown["Name"], shown["ConnectionState"], shown["AuthorizationType"]) == ("aa", "AUTHORIZED", "BASIC")
    assert is_now(shown["LastAuthorizedTime"])
    second = events.list_connections(NamePrefix="a", NextToken=first["NextToken"])
    assert [found["Name"] for found in second["Connections"]] == ["ab"]
    assert "NextToken" not in second
    assert events.list_connections(ConnectionState="DEAUTHORIZED")["Connections"] == []


def test_create_api_destination(events: Any, account: str, connection: str) -> None:
    made = events.create_api_destination(
        Name="d", ConnectionArn=connection, InvocationEndpoint="https://api.example.com/*", HttpMethod="PUT"
    )
    assert re.fullmatch(arn(account, f"api-destination/d/{UUID}"), made["ApiDestinationArn"])
    assert made["ApiDestinationState"] == "ACTIVE"
    assert is_now(made["CreationTime"])
    assert is_now(made["LastModifiedTime"])


def test_describe_api_destination(events: Any, connection: str, destination: str) -> None:
    shown = members(events.describe_api_destination(Name="d"))
    assert is_now(shown.pop("CreationTime"))
    assert is_now(shown.pop("LastModifiedTime"))
    shown.pop("InvocationRateLimitPerSecond", None)  # AWS shows its default, 300
    assert shown == {
        "ApiDestinationArn": destination,
        "Name": "d",
        "ApiDestinationState": "ACTIVE",
        "ConnectionArn": connection,
        "InvocationEndpoint": "https://api.example.com/*",
        "HttpMethod": "POST",
    }


def test_update_api_destination(events: Any, destination: str) -> None:
    updated = events.update_api_destination(Name="d", HttpMethod="GET", InvocationRateLimitPerSecond=5)
    assert (updated["ApiDestinationArn"], updated["ApiDestinationState"]) == (destination, "ACTIVE")
    shown = events.describe_api_destination(Name="d")
    assert (shown["HttpMethod"], shown["InvocationRateLimitPerSecond"]) == ("GET", 5)
    assert shown["InvocationEndpoint"] == "https://api.example.com/*"


def test_delete_api_destination(events: Any, destination: str) -> None:
    events.delete_api_destination(Name="d")
    assert events.list_api_destinations()["ApiDestinations"] == []


def test_list_api_destinations(events: Any, connection: str) -> None:
    for name in ("b", "aa", "ab"):
        events.create_api_destination(
            Name=name, ConnectionArn=connection, InvocationEndpoint="https://api.example.com", HttpMethod="POST"
        )
    first = events.list_api_destinations(NamePrefix="a", Limit=1)
    (shown,) = first["ApiDestinations"]
    assert (shown["Name"], shown["ConnectionArn"], shown["HttpMethod"]) == ("aa", connection, "POST")
    second = events.list_api_destinations(NamePrefix="a", NextToken=first["NextToken"])
    assert [found["Name"] for found in second["ApiDestinations"]] == ["ab"]
    assert "NextToken" not in second
    assert len(events.list_api_destinations(ConnectionArn=connection)["ApiDestinations"]) == 3


# global endpoints


def test_create_endpoint(events: Any, account: str, endpoint_settings: dict[str, Any]) -> None:
    made = members(events.create_endpoint(Name="e", Description="d", **endpoint_settings))
    assert made == {
        "Name": "e",
        "Arn": arn(account, "endpoint/e"),
        **endpoint_settings,
        "ReplicationConfig": {"State": "ENABLED"},
        "State": "CREATING",
    }


def test_describe_endpoint(events: Any, connect: Any, sidebus: Any, endpoint: str, endpoint_settings: Any) -> None:
    shown = members(events.describe_endpoint(Name="e"))
    assert is_now(shown.pop("CreationTime"))
    assert is_now(shown.pop("LastModifiedTime"))
    endpoint_id = shown.pop("EndpointId")
    assert re.fullmatch(r"[a-z0-9]{10}\.[a-z0-9]{3}", endpoint_id)
    assert shown == {
        "Name": "e",
        "Arn": endpoint,
        **endpoint_settings,
        "ReplicationConfig": {"State": "ENABLED"},
        "EndpointUrl": f"https://{endpoint_id}.endpoint.events.amazonaws.com",
        "State": "ACTIVE",
    }
    elsewhere = connect(sidebus, "events", region=ELSEWHERE)
    assert elsewhere.describe_endpoint(Name="e", HomeRegion=REGION)["EndpointId"] == endpoint_id


def test_update_endpoint(events: Any, endpoint: str, endpoint_settings: dict[str, Any]) -> None:
    updated = events.update_endpoint(Name="e", Description="new", ReplicationConfig={"State": "DISABLED"})
    assert (updated["Arn"], updated["State"], updated["EventBuses"]) == (
        endpoint,
        "UPDATING",
        endpoint_settings["EventBuses"],
    )
    shown = events.describe_endpoint(Name="e")
    assert (shown["Description"], shown["ReplicationConfig"], shown["State"]) == (
        "new",
        {"State": "DISABLED"},
        "ACTIVE",
    )
    assert (shown["EndpointId"], shown["EndpointUrl"]) == (updated["EndpointId"], updated["EndpointUrl"])


def test_delete_endpoint(events: Any, endpoint: str) -> None:
    events.delete_endpoint(Name="e")
    assert events.list_endpoints()["Endpoints"] == []


def test_list_endpoints(events: Any, endpoint_settings: dict[str, Any]) -> None:
    for name in ("b", "aa", "ab"):
        events.create_endpoint(Name=name, **endpoint_settings)
    first = events.list_endpoints(NamePrefix="a", MaxResults=1)
    (shown,) = first["Endpoints"]
    assert (shown["Name"], shown["State"], shown["EventBuses"]) == ("aa", "ACTIVE", endpoint_settings["EventBuses"])
    second = events.list_endpoints(NamePrefix="a", NextToken=first["NextToken"])
    assert [found["Name"] for found in second["Endpoints"]] == ["ab"]
    assert "NextToken" not in second
    assert events.list_endpoints(HomeRegion=ELSEWHERE)["Endpoints"] == []


@pytest.mark.parametrize(("replication", "copies"), [("ENABLED", 1), ("DISABLED", 0)])
def test_put_events_to_an_endpoint(
    events: Any,
    sqs: Any,
    connect: Any,
    sidebus: Any,
    account: str,
    endpoint_settings: Any,
    replication: str,
    copies: int,
) -> None:
    events.create_endpoint(Name="e", ReplicationConfig={"State": replication}, **endpoint_settings)
    urls = {}
    for region in (REGION, ELSEWHERE):
        client = connect(sidebus, "events", region=region)
        urls[region] = connect(sidebus, region=region).create_queue(QueueName="q")["QueueUrl"]
        client.put_rule(Name="r", EventBusName="global", EventPattern=PATTERN)
        target = {"Id": "t", "Arn": queue_arn(account).replace(REGION, region)}
        client.put_targets(Rule="r", EventBusName="global", Targets=[target])
    entry = {"Source": "orders", "DetailType": "Placed", "Detail": "{}", "EventBusName": "global"}
    # boto3 signs this with version 4A alone, for which it needs a package that is not ours.
    answer = sidebus.request(
        "POST",
        "/",
        {
            "X-Amz-Target": "AWSEvents.PutEvents",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20261121/{REGION}/events/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
        json.dumps({"EndpointId": events.describe_endpoint(Name="e")["EndpointId"], "Entries": [entry]}),
    )
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["FailedEntryCount"] == 0
    assert len(receive(connect(sidebus, region=REGION), urls[REGION])) == 1
    assert len(receive(connect(sidebus, region=ELSEWHERE), urls[ELSEWHERE])) == copies


# partner event sources


def test_create_partner_event_source(partner: Any, account: str) -> None:
    name = f"aws.partner/example.com/{account}/orders"
    made = partner.create_partner_event_source(Name=name, Account=account)
    assert made["EventSourceArn"] == f"arn:aws:events:{REGION}::event-source/{name}"


def test_describe_partner_event_source(partner: Any, source: str) -> None:
    assert members(partner.describe_partner_event_source(Name=source)) == {
        "Arn": f"arn:aws:events:{REGION}::event-source/{source}",
        "Name": source,
    }


def test_list_partner_event_sources(partner: Any, account: str, source: str) -> None:
    other = source.removesuffix("orders") + "stock"
    partner.create_partner_event_source(Name=other, Account=account)
    first = partner.list_partner_event_sources(NamePrefix="aws.partner/example.com/", Limit=1)
    assert first["PartnerEventSources"] == [{"Arn": f"arn:aws:events:{REGION}::event-source/{source}", "Name": source}]
    second = partner.list_partner_event_sources(NamePrefix="aws.partner/example.com/", NextToken=first["NextToken"])
    assert [found["Name"] for found in second["PartnerEventSources"]] == [other]
    assert "NextToken" not in second


def test_list_partner_event_source_accounts(events: Any, partner: Any, account: str, source: str) -> None:
    (shown,) = partner.list_partner_event_source_accounts(EventSourceName=source)["PartnerEventSourceAccounts"]
    assert shown.pop("ExpirationTime") - shown["CreationTime"] == timedelta(days=14)
    assert is_now(shown.pop("CreationTime"))
    assert shown == {"Account": account, "State": "PENDING"}
    events.create_event_bus(Name=source, EventSourceName=source)
    (shown,) = partner.list_partner_event_source_accounts(EventSourceName=source)["PartnerEventSourceAccounts"]
    assert shown["State"] == "ACTIVE"
    assert "ExpirationTime" not in shown


def test_delete_partner_event_source(events: Any, partner: Any, account: str, source: str) -> None:
    partner.delete_partner_event_source(Name=source, Account=account)
    partner.delete_partner_event_source(Name=source, Account=account)
    assert events.list_event_sources()["EventSources"] == []
    partner.create_partner_event_source(Name=source, Account=account)
    events.create_event_bus(Name=source, EventSourceName=source)
    partner.delete_partner_event_source(Name=source, Account=account)
    assert events.describe_event_source(Name=source)["State"] == "DELETED"
    events.delete_event_bus(Name=source)
    assert events.list_event_sources()["EventSources"] == []


def test_describe_event_source(events: Any, source: str) -> None:
    shown = members(events.describe_event_source(Name=source))
    assert shown.pop("ExpirationTime") - shown["CreationTime"] == timedelta(days=14)
    assert is_now(shown.pop("CreationTime"))
    assert shown == {
        "Arn": f"arn:aws:events:{REGION}::event-source/{source}",
        "CreatedBy": "aws.partner/example.com",
        "Name": source,
        "State": "PENDING",
    }
    events.create_event_bus(Name=source, EventSourceName=source)
    shown = events.describe_event_source(Name=source)
    assert shown["State"] == "ACTIVE"
    assert "ExpirationTime" not in shown
    events.delete_event_bus(Name=source)
    assert events.describe_event_source(Name=source)["State"] == "PENDING"


def test_list_event_sources(events: Any, partner: Any, account: str, source: str) -> None:
    other = source.removesuffix("orders") + "stock"
    partner.create_partner_event_source(Name=other, Account=account)
    first = events.list_event_sources(NamePrefix="aws.partner/example.com/", Limit=1)
    assert [(found["Name"], found["State"]) for found in first["EventSources"]] == [(source, "PENDING")]
    second = events.list_event_sources(NextToken=first["NextToken"])
    assert [found["Name"] for found in second["EventSources"]] == [other]
    assert "NextToken" not in second
    assert partner.list_event_sources()["EventSources"] == []


def test_deactivate_event_source(events: Any, source: str) -> None:
    events.create_event_bus(Name=source, EventSourceName=source)
    events.deactivate_event_source(Name=source)
    shown = events.describe_event_source(Name=source)
    assert shown["State"] == "PENDING"
    assert is_now(shown["ExpirationTime"] - timedelta(days=14))


def test_activate_event_source(events: Any, source: str) -> None:
    events.create_event_bus(Name=source, EventSourceName=source)
    events.deactivate_event_source(Name=source)
    events.activate_event_source(Name=source)
    assert events.describe_event_source(Name=source)["State"] == "ACTIVE"
