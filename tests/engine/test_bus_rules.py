"""Rules and targets: what is told of them, what is refused and in which words, and what a change keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.errors import (
    AccessDeniedException,
    BrokerFailure,
    DomainError,
    InvalidEventPatternException,
    LimitExceededException,
    ManagedRuleException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.names import queue_arn
from engine.bus_support import OTHER_ACCOUNT, Bridge, bus_arn, rule_arn
from engine.support import WORLD, Engine

PATTERN = '{"source": ["s"]}'
QUEUE_ARN = queue_arn(WORLD, "q")
ROLE_ARN = "arn:aws:iam::000000000000:role/r"


@pytest.fixture
def bridge(engine: Engine) -> Bridge:
    bridge = Bridge(engine)
    bridge.create_bus("b")
    return bridge


def refusal(kind: type[DomainError], call: Any, *arguments: Any, **given: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **given)
    return caught.value.message


def test_a_rule_is_told_of_as_it_was_put(bridge: Bridge) -> None:
    arn = bridge.put_rule("r", PATTERN, "b", Description="d", RoleArn=ROLE_ARN, State="DISABLED")
    assert arn == rule_arn("r", "b")
    listed = {
        "Name": "r",
        "Arn": arn,
        "EventPattern": PATTERN,
        "State": "DISABLED",
        "Description": "d",
        "RoleArn": ROLE_ARN,
        "EventBusName": "b",
    }
    assert bridge.rules.describe(WORLD, "r", "b") == {**listed, "CreatedBy": WORLD.account}
    assert bridge.rules.list_rules(WORLD, bus_arn("b")) == [listed]
    assert bridge.put_rule("r", ScheduleExpression="rate(1 day)") == rule_arn("r")
    assert bridge.rules.describe(WORLD, "r") == {
        "Name": "r",
        "Arn": rule_arn("r"),
        "ScheduleExpression": "rate(1 day)",
        "State": "ENABLED",
        "EventBusName": "default",
        "CreatedBy": WORLD.account,
    }


def test_a_rule_that_is_put_again_keeps_its_targets_and_tags_only(bridge: Bridge) -> None:
    bridge.put_rule("r", PATTERN, Description="d", State="DISABLED", Tags=[{"Key": "a", "Value": "1"}])
    bridge.put_targets("r", {"Id": "t", "Arn": QUEUE_ARN})
    bridge.put_rule("r", {"source": ["other"]}, Tags=[{"Key": "b", "Value": "2"}])
    told = bridge.rules.describe(WORLD, "r")
    assert told["EventPattern"] == '{"source": ["other"]}'
    assert told["State"] == "ENABLED"
    assert "Description" not in told
    assert bridge.buses.tags(WORLD, rule_arn("r")) == [{"Key": "a", "Value": "1"}]
    assert bridge.rules.list_targets(WORLD, "r") == [{"Id": "t", "Arn": QUEUE_ARN}]


def test_rules_that_are_refused(bridge: Bridge) -> None:
    put = bridge.put_rule
    assert (
        refusal(ValidationException, put, "r") == "Parameter(s) EventPattern or ScheduleExpression must be specified."
    )
    only_default = "ScheduleExpression is supported only on the default event bus."
    assert refusal(ValidationException, put, "r", None, "b", ScheduleExpression="rate(1 day)") == only_default
    assert refusal(ValidationException, put, "r", PATTERN, "b", ScheduleExpression="") == only_default
    for expression in ("rate(1 days)", "rate(0 minutes)", "cron(0 0 * * * *)", "cron(0 0 * *)", "at(now)", " "):
        message = refusal(ValidationException, put, "r", ScheduleExpression=expression)
        assert message == "Parameter ScheduleExpression is not valid."
    message = refusal(InvalidEventPatternException, put, "r", '{"source": "s"}')
    assert message.startswith("Event pattern is not valid. Reason: ")
    assert '"source" must be an object or an array' in message
    assert refusal(ResourceNotFoundException, put, "r", PATTERN, "gone") == "Event bus gone does not exist."
    assert bridge.rules.list_rules(WORLD) == []


def test_as_many_rules_as_aws_has(aws: Engine) -> None:
    bridge = Bridge(aws)
    for number in range(300):
        bridge.put_rule(f"r{number}", PATTERN)
    message = refusal(LimitExceededException, bridge.put_rule, "one-more", PATTERN)
    assert message == "The requested resource exceeds the maximum number allowed."
    bridge.put_rule("r7", PATTERN)


def test_another_accounts_bus_is_not_for_ones_rules(bridge: Bridge) -> None:
    given = {"Name": "r", "EventBusName": bus_arn("b"), "EventPattern": PATTERN}
    bridge.rules.put(OTHER_ACCOUNT, {**given, "Name": "open"})
    bridge.events.enforce_policies()
    assert refusal(AccessDeniedException, bridge.rules.put, OTHER_ACCOUNT, given) == (
        "User: arn:aws:iam::111111111111:user/sidebus is not authorized to perform: events:PutRule on resource: "
        f"{rule_arn('r', 'b')} because no resource-based policy allows the events:PutRule action"
    )
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["events:PutRule", "events:DescribeRule"]}
    statement["Resource"] = rule_arn("*", "b")
    bridge.buses.put_permission(WORLD, {"EventBusName": "b", "Policy": json.dumps({"Statement": statement})})
    bridge.rules.put(OTHER_ACCOUNT, given)
    told = bridge.rules.describe(OTHER_ACCOUNT, "r", bus_arn("b"))
    assert (told["Arn"], told["CreatedBy"]) == (rule_arn("r", "b"), OTHER_ACCOUNT.account)
    assert refusal(AccessDeniedException, bridge.rules.delete, OTHER_ACCOUNT, given)


def test_deleting_rules(bridge: Bridge) -> None:
    delete = bridge.rules.delete
    delete(WORLD, {"Name": "r"})
    assert refusal(ResourceNotFoundException, delete, WORLD, {"Name": "r", "EventBusName": "gone"})
    bridge.put_rule("r", PATTERN)
    bridge.put_targets("r", {"Id": "t", "Arn": QUEUE_ARN})
    message = refusal(ValidationException, delete, WORLD, {"Name": "r", "Force": True})
    assert message == "Rule can't be deleted since it has targets."
    bridge.remove_targets("r", "t", "not-there")
    delete(WORLD, {"Name": "r"})
    message = refusal(ResourceNotFoundException, bridge.rules.describe, WORLD, "r")
    assert message == "Rule r does not exist on EventBus default."


def test_enabling_and_disabling(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.connect({"source": ["s"]}, queue)
    bridge.rules.disable(WORLD, {"Name": "r"})
    bridge.put({"n": 1})
    bridge.rules.enable(WORLD, {"Name": "r"})
    bridge.rules.enable(WORLD, {"Name": "r"})
    bridge.put({"n": 2})
    assert bridge.details(queue) == [{"n": 2}]
    assert refusal(ResourceNotFoundException, bridge.rules.enable, WORLD, {"Name": "gone"})


def test_enabling_keeps_the_management_events(bridge: Bridge) -> None:
    state = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
    bridge.connect({"source": ["s"]}, bridge.engine.create("q"))
    bridge.put_rule("r", PATTERN, State=state)
    bridge.rules.enable(WORLD, {"Name": "r"})
    assert bridge.rules.describe(WORLD, "r")["State"] == state
    bridge.put()
    assert bridge.rule().counts["Invocations"] == 1


def test_a_managed_rule_is_its_services(bridge: Bridge) -> None:
    bridge.events.archives.create(WORLD, {"ArchiveName": "a", "EventSourceArn": bus_arn("b")})
    [told] = bridge.rules.list_rules(WORLD, "b")
    name, given = told["Name"], {"Name": told["Name"], "EventBusName": "b"}
    assert told["ManagedBy"] == "prod.vhs.events.aws.internal"
    rules, buses, target = bridge.rules, bridge.buses, {"Id": "t", "Arn": QUEUE_ARN}
    targets = {"Rule": name, "EventBusName": "b", "Targets": [target], "Ids": [target["Id"]]}
    for call in (rules.put, rules.delete, rules.enable, rules.disable):
        assert "managed" in refusal(ManagedRuleException, call, WORLD, {**given, "EventPattern": PATTERN})
    for call in (rules.put_targets, rules.remove_targets):
        assert refusal(ManagedRuleException, call, WORLD, targets)
    assert refusal(ManagedRuleException, buses.tag, WORLD, told["Arn"], [])
    assert refusal(ManagedRuleException, buses.untag, WORLD, told["Arn"], [])
    rules.remove_targets(WORLD, {**targets, "Ids": [name], "Force": True})
    rules.delete(WORLD, {**given, "Force": True})
    assert rules.list_rules(WORLD, "b") == []


def test_rules_are_listed_by_name(bridge: Bridge) -> None:
    for name in ("b-1", "a-2", "a-1"):
        bridge.connect({"source": ["s"]}, QUEUE_ARN, name)
    bridge.connect({"source": ["s"]}, queue_arn(WORLD, "other"), "c")
    rules = bridge.rules
    assert [rule["Name"] for rule in rules.list_rules(WORLD)] == ["a-1", "a-2", "b-1", "c"]
    assert [rule["Name"] for rule in rules.list_rules(WORLD, None, "a-")] == ["a-1", "a-2"]
    assert [rule["Name"] for rule in rules.list_rules(WORLD, after="a-1", limit=2)] == ["a-2", "b-1"]
    assert rules.list_rule_names_by_target(WORLD, QUEUE_ARN) == ["a-1", "a-2", "b-1"]
    assert rules.list_rule_names_by_target(WORLD, QUEUE_ARN, after="a-1", limit=1) == ["a-2"]
    assert rules.list_rule_names_by_target(WORLD, QUEUE_ARN, "b") == []
    assert refusal(ResourceNotFoundException, rules.list_rules, WORLD, "gone") == "Event bus gone does not exist."


# targets


def test_targets_are_kept_as_they_came(bridge: Bridge) -> None:
    bridge.put_rule("r", PATTERN)
    ecs = {
        "Id": "ecs",
        "Arn": "arn:aws:ecs:us-east-1:000000000000:cluster/c",
        "RoleArn": ROLE_ARN,
        "EcsParameters": {"TaskDefinitionArn": "arn:aws:ecs:us-east-1:000000000000:task-definition/t", "TaskCount": 2},
        "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 60},
        "DeadLetterConfig": {"Arn": QUEUE_ARN},
    }
    queue = {"Id": "b", "Arn": QUEUE_ARN, "SqsParameters": {"MessageGroupId": "g"}, "Input": '{"a": 1}'}
    bridge.put_targets("r", ecs, queue)
    assert bridge.rules.list_targets(WORLD, "r") == [queue, ecs]
    bridge.put_targets("r", {"Id": "b", "Arn": QUEUE_ARN})
    assert bridge.rules.list_targets(WORLD, "r") == [{"Id": "b", "Arn": QUEUE_ARN}, ecs]
    assert bridge.rules.list_targets(WORLD, "r", after="b", limit=5) == [ecs]


def test_a_rule_has_five_targets(bridge: Bridge) -> None:
    bridge.put_rule("r", PATTERN)
    bridge.put_targets("r", *({"Id": str(number), "Arn": QUEUE_ARN} for number in range(5)))
    bridge.put_targets("r", {"Id": "4", "Arn": QUEUE_ARN})
    message = refusal(LimitExceededException, bridge.put_targets, "r", {"Id": "5", "Arn": QUEUE_ARN})
    assert message == "The requested resource exceeds the maximum number allowed."


KINESIS_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
BATCH_ARN = "arn:aws:batch:us-east-1:000000000000:job-queue/q"

REFUSED_TARGETS: list[tuple[dict[str, Any], str]] = [
    ({"Arn": "q"}, "Parameter q is not valid. Reason: Provided Arn is not in correct format."),
    ({"Arn": "arn:x"}, "Parameter arn:x is not valid. Reason: Provided Arn is not in correct format."),
    ({"Arn": QUEUE_ARN + ".fifo"}, "Parameter(s) SqsParameters must be specified for target: t."),
    ({"Arn": QUEUE_ARN + ".fifo", "SqsParameters": {}}, "Parameter(s) SqsParameters must be specified for target: t."),
    ({"Arn": KINESIS_ARN}, f"RoleArn is required for target {KINESIS_ARN}."),
    ({"Arn": BATCH_ARN, "RoleArn": ROLE_ARN}, "Parameter(s) BatchParameters must be specified for target: t."),
    (
        {"Arn": KINESIS_ARN, "RoleArn": ROLE_ARN, "KinesisParameters": {"PartitionKeyPath": "detail"}},
        "Parameter PartitionKeyPath is not valid. Reason: A JSON path must start with '$'",
    ),
    ({"Arn": QUEUE_ARN, "Input": "{"}, "Input for target t is not a valid JSON text."),
    (
        {"Arn": QUEUE_ARN, "Input": "1", "InputPath": "$"},
        "Only one of Input, InputPath, or InputTransformer must be provided for target t.",
    ),
    (
        {"Arn": QUEUE_ARN, "DeadLetterConfig": {"Arn": QUEUE_ARN + ".fifo"}},
        f"Parameter {QUEUE_ARN}.fifo is not valid. Reason: The dead-letter queue must be a standard Amazon SQS queue.",
    ),
    (
        {"Arn": bus_arn("b", OTHER_ACCOUNT), "InputPath": "$.detail"},
        "InputPath is not available if the target is an event bus of a different AWS account.",
    ),
]


@pytest.mark.parametrize(("target", "message"), REFUSED_TARGETS)
def test_targets_that_are_refused(bridge: Bridge, target: dict[str, Any], message: str) -> None:
    bridge.put_rule("r", PATTERN)
    good = {"Id": "good", "Arn": QUEUE_ARN}
    assert refusal(ValidationException, bridge.put_targets, "r", good, {"Id": "t", **target}) == message
    assert bridge.rules.list_targets(WORLD, "r") == []


def test_an_input_path_or_a_template_that_cannot_be(bridge: Bridge) -> None:
    bridge.put_rule("r", PATTERN)
    for given in ({"InputPath": "detail"}, {"InputTransformer": {"InputTemplate": "{"}}):
        message = refusal(ValidationException, bridge.put_targets, "r", {"Id": "t", "Arn": QUEUE_ARN, **given})
        assert message.startswith(f"Invalid {next(iter(given))} for target t : ")


def test_a_rule_that_is_not_there_has_no_targets(bridge: Bridge) -> None:
    message = refusal(ResourceNotFoundException, bridge.put_targets, "r", {"Id": "t", "Arn": QUEUE_ARN})
    assert message == "Rule r does not exist on EventBus default."
    assert refusal(ResourceNotFoundException, bridge.remove_targets, "r", "t") == message
    assert refusal(ResourceNotFoundException, bridge.rules.list_targets, WORLD, "r") == message


# trying out

EVENT = {
    "id": "1",
    "account": "0" * 12,
    "source": "s",
    "time": "2024-01-01T00:00:00Z",
    "region": "us-east-1",
    "resources": [],
    "detail-type": "t",
    "detail": {"n": 1152921504606846976},
}


@pytest.mark.parametrize(
    ("pattern", "result"),
    [
        ({"source": ["s"]}, True),
        ({"source": ["other"]}, False),
        ({"detail": {"n": [1152921504606846976]}}, True),
        ({"detail": {"n": [{"exists": False}]}}, False),
        ({"$or": [{"source": ["other"]}, {"detail-type": [{"prefix": "t"}]}]}, True),
    ],
)
def test_a_pattern_is_tried_on_an_event(bridge: Bridge, pattern: Any, result: bool) -> None:
    assert bridge.rules.test_event_pattern(json.dumps(pattern), json.dumps(EVENT)) is result


def test_what_cannot_be_tried(bridge: Bridge) -> None:
    test = bridge.rules.test_event_pattern
    assert refusal(InvalidEventPatternException, test, "{}", json.dumps(EVENT)).startswith("Event pattern is not valid")
    for event in ("", "[]", "{", "1"):
        assert refusal(ValidationException, test, PATTERN, event).startswith("Parameter Event is not valid.")
    for name in EVENT:
        if name != "detail":
            without = {member: value for member, value in EVENT.items() if member != name}
            assert name in refusal(ValidationException, test, PATTERN, json.dumps(without))


# keeping


def test_rules_work_on_after_a_restart(on_disk: Engine) -> None:
    bridge = Bridge(on_disk)
    bridge.create_bus("b")
    on_disk.create("q")
    bridge.connect({"detail": {"n": [{"numeric": [">", 1]}]}}, QUEUE_ARN, bus="b", InputPath="$.detail.n")
    bridge.connect({"source": ["s"]}, QUEUE_ARN, "off", bus="b")
    bridge.rules.disable(WORLD, {"Name": "off", "EventBusName": "b"})
    told = bridge.rules.list_rules(WORLD, "b")
    on_disk.restart()
    assert bridge.rules.list_rules(WORLD, "b") == told
    for number in (1, 2):
        bridge.put({"n": number}, "b")
    assert bridge.received(on_disk.find("q")) == [2]


def test_a_group_that_does_not_happen_leaves_the_rules_as_they_were(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.connect({"source": ["s"]}, queue)
    bridge.put()
    bridge.engine.settle()
    bridge.put_rule("r", {"source": ["other"]})
    bridge.connect({"source": ["s"]}, queue, "new")
    bridge.put()
    bridge.engine.broker.commit.abort(BrokerFailure("no"))
    assert [rule["Name"] for rule in bridge.rules.list_rules(WORLD)] == ["r"]
    queue = bridge.engine.find("q")
    assert len(bridge.received(queue)) == 1
    assert bridge.rule().counts["Invocations"] == 1  # metrics are kept
    bridge.engine.settle()
    bridge.remove_targets("r", "t")
    bridge.rules.delete(WORLD, {"Name": "r"})
    bridge.engine.broker.commit.abort(BrokerFailure("no"))
    bridge.put()
    assert len(bridge.received(queue)) == 1
