"""The life of buses: what is told of them, what is refused, who may send, and what is there after a restart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.buses.permissions import MAX_POLICY_BYTES
from broker.errors import (
    BrokerFailure,
    DomainError,
    LimitExceededException,
    PolicyLengthExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from engine.bus_support import OTHER_ACCOUNT, OTHER_REGION, Bridge, bus_arn, open_to_rules
from engine.support import START_MS, WORLD, Engine

QUEUE_ARN = "arn:aws:sqs:us-east-1:000000000000:letters"


@pytest.fixture
def bridge(engine: Engine) -> Bridge:
    return Bridge(engine)


def refusal(kind: type[DomainError], call: Any, *arguments: Any, **given: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **given)
    return caught.value.message


def test_a_bus_is_told_of_as_it_was_made(bridge: Bridge) -> None:
    settings = {
        "Description": "orders",
        "KmsKeyIdentifier": "alias/k",
        "DeadLetterConfig": {"Arn": QUEUE_ARN},
        "LogConfig": {"IncludeDetail": "FULL", "Level": "TRACE"},
    }
    assert bridge.create_bus("orders", **settings) == {"EventBusArn": bus_arn("orders"), **settings}
    moments = {"CreationTime": START_MS, "LastModifiedTime": START_MS}
    told = {"Name": "orders", "Arn": bus_arn("orders"), **settings, **moments}
    assert bridge.buses.describe(WORLD, "orders") == told
    assert bridge.buses.describe(WORLD, bus_arn("orders")) == told


def test_each_account_and_region_has_a_default_bus_of_its_own(bridge: Bridge) -> None:
    for world in (WORLD, OTHER_ACCOUNT, OTHER_REGION):
        told = bridge.buses.describe(world)
        assert (told["Name"], told["Arn"]) == ("default", bus_arn("default", world))
        assert [bus["Name"] for bus in bridge.buses.list_buses(world)] == ["default"]


def test_an_update_keeps_what_it_leaves_out(bridge: Bridge) -> None:
    bridge.create_bus("b", Description="old", KmsKeyIdentifier="alias/k")
    bridge.engine.advance(5)
    told = bridge.buses.update(WORLD, {"Name": "b", "Description": "new"})
    assert told == {"Arn": bus_arn(), "Name": "b", "Description": "new", "KmsKeyIdentifier": "alias/k"}
    described = bridge.buses.describe(WORLD, "b")
    assert (described["CreationTime"], described["LastModifiedTime"]) == (START_MS, START_MS + 5000)


def test_an_update_takes_away_what_it_empties(bridge: Bridge) -> None:
    bridge.create_bus("b", KmsKeyIdentifier="alias/k", DeadLetterConfig={"Arn": QUEUE_ARN})
    told = bridge.buses.update(WORLD, {"Name": "b", "KmsKeyIdentifier": "", "DeadLetterConfig": {}})
    assert told == {"Arn": bus_arn(), "Name": "b"}
    assert bridge.buses.describe(WORLD, "b").keys() == {"Name", "Arn", "CreationTime", "LastModifiedTime"}


def test_buses_are_listed_by_name(bridge: Bridge) -> None:
    for name in ("orders-2", "orders-1", "billing"):
        bridge.create_bus(name)
    bridge.create_bus("elsewhere", OTHER_REGION)
    listed = bridge.buses.list_buses
    assert [bus["Name"] for bus in listed(WORLD)] == ["billing", "default", "orders-1", "orders-2"]
    assert [bus["Name"] for bus in listed(WORLD, "orders-")] == ["orders-1", "orders-2"]
    assert [bus["Name"] for bus in listed(WORLD, after="billing", limit=2)] == ["default", "orders-1"]


def test_what_cannot_be_a_bus_is_refused(bridge: Bridge) -> None:
    bridge.create_bus("b")
    create = bridge.create_bus
    assert refusal(ResourceAlreadyExistsException, create, "b") == "Event bus b already exists."
    assert refusal(ResourceAlreadyExistsException, create, "default") == "Event bus default already exists."
    assert refusal(ValidationException, create, "a/b") == "Event bus name must not contain '/'."
    assert refusal(ValidationException, create, "aws.a/b") == "EventBus name starting with 'aws.' is not valid."
    assert "standard Amazon SQS queue" in refusal(
        ValidationException, create, "c", DeadLetterConfig={"Arn": QUEUE_ARN + ".fifo"}
    )
    assert "correct format" in refusal(ValidationException, create, "c", DeadLetterConfig={"Arn": "queue"})
    for operation in (bridge.buses.describe, lambda world, name: bridge.buses.update(world, {"Name": name})):
        assert refusal(ResourceNotFoundException, operation, WORLD, "c") == "Event bus c does not exist."


def test_a_partners_bus_takes_its_source(bridge: Bridge) -> None:
    name = "aws.partner/example.com/one"
    assert refusal(ResourceNotFoundException, bridge.create_bus, name, EventSourceName=name)
    bridge.events.partners.create(OTHER_ACCOUNT, name, WORLD.account)
    assert refusal(ValidationException, bridge.create_bus, "other", EventSourceName=name)
    bridge.create_bus(name, EventSourceName=name)
    assert bridge.buses.describe(WORLD, name)["Arn"] == bus_arn(name)
    assert bridge.events.partners.describe(WORLD, name)["State"] == "ACTIVE"
    bridge.buses.delete(WORLD, name)
    assert bridge.events.partners.describe(WORLD, name)["State"] == "PENDING"


def test_a_bus_goes_once_it_has_no_rules(bridge: Bridge) -> None:
    bridge.create_bus("b")
    bridge.put_rule("r", {"source": ["s"]}, "b")
    message = refusal(ValidationException, bridge.buses.delete, WORLD, "b")
    assert message == "Event bus can't be deleted since it has rules."
    bridge.rules.delete(WORLD, {"Name": "r", "EventBusName": "b"})
    bridge.buses.delete(WORLD, "b")
    bridge.buses.delete(WORLD, "b")
    assert refusal(ResourceNotFoundException, bridge.buses.describe, WORLD, "b")
    assert refusal(ValidationException, bridge.buses.delete, WORLD, "default") == "Cannot delete event bus default."


def test_as_many_buses_as_aws_has(aws: Engine) -> None:
    bridge = Bridge(aws)
    for number in range(99):  # with the default bus a hundred
        bridge.create_bus(f"b{number}")
    message = refusal(LimitExceededException, bridge.create_bus, "one-more")
    assert message == "The requested resource exceeds the maximum number allowed."
    bridge.create_bus("one-more", OTHER_REGION)


# permissions


def permit(bridge: Bridge, bus: str = "default", **given: Any) -> None:
    bridge.buses.put_permission(WORLD, {"EventBusName": bus, **given})


def statement(bridge: Bridge, bus: str = "default") -> Any:
    [found] = json.loads(bridge.buses.describe(WORLD, bus)["Policy"])["Statement"]
    return found


def test_a_permission_is_a_statement_of_the_policy(bridge: Bridge) -> None:
    permit(bridge, Action="events:PutEvents", Principal=OTHER_ACCOUNT.account, StatementId="one")
    assert json.loads(bridge.buses.describe(WORLD)["Policy"]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "one",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
                "Action": "events:PutEvents",
                "Resource": bus_arn("default"),
            }
        ],
    }
    permit(bridge, Action="events:PutEvents", Principal="*", StatementId="one")
    assert statement(bridge)["Principal"] == "*"
    bridge.buses.remove_permission(WORLD, {"StatementId": "one"})
    assert "Policy" not in bridge.buses.describe(WORLD)


def test_a_permission_for_an_organization(bridge: Bridge) -> None:
    condition = {"Type": "StringEquals", "Key": "aws:PrincipalOrgID", "Value": "o-1"}
    permit(bridge, Action="events:PutEvents", Principal="*", StatementId="one", Condition=condition)
    assert statement(bridge)["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    for wrong in ({**condition, "Type": "StringLike"}, {**condition, "Key": "aws:SourceIp"}):
        with pytest.raises(ValidationException):
            permit(bridge, Action="events:PutEvents", Principal="*", StatementId="two", Condition=wrong)
    with pytest.raises(ValidationException):
        permit(bridge, Action="events:PutEvents", Principal="1" * 12, StatementId="two", Condition=condition)


def test_permissions_that_are_refused(bridge: Bridge) -> None:
    put, remove = bridge.buses.put_permission, bridge.buses.remove_permission
    good = {"Action": "events:PutEvents", "Principal": "*", "StatementId": "one"}
    for name in good:
        without = {member: value for member, value in good.items() if member != name}
        assert refusal(ValidationException, put, WORLD, without) == f"Parameter(s) {name} must be specified."
    assert refusal(ValidationException, put, WORLD, {**good, "Action": "events:PutRule"})
    assert refusal(ResourceNotFoundException, put, WORLD, {**good, "EventBusName": "gone"})
    assert refusal(ValidationException, put, WORLD, {**good, "Policy": "{}"})
    for policy in ("", "[]", "{", '{"Statement":[]}', '{"Statement":[{"Effect":"Allow","Action":"events:*"}]}'):
        assert refusal(ValidationException, put, WORLD, {"Policy": policy})
    wrong_condition = {"Effect": "Allow", "Principal": "*", "Action": "events:*", "Condition": {"StringEquals": "x"}}
    assert refusal(ValidationException, put, WORLD, {"Policy": json.dumps({"Statement": wrong_condition})})
    assert refusal(ResourceNotFoundException, remove, WORLD, {"StatementId": "one"})
    put(WORLD, good)
    assert refusal(ResourceNotFoundException, remove, WORLD, {"StatementId": "two"})
    assert refusal(ValidationException, remove, WORLD, {})


def test_a_policy_has_ten_kilobytes_at_most(bridge: Bridge) -> None:
    entry = {"Sid": "", "Effect": "Allow", "Principal": "*", "Action": "events:PutEvents", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [entry]}
    entry["Sid"] = "x" * (MAX_POLICY_BYTES - len(json.dumps(policy)))
    permit(bridge, Policy=json.dumps(policy))
    with pytest.raises(PolicyLengthExceededException):
        permit(bridge, Policy=json.dumps(policy) + " ")
    with pytest.raises(PolicyLengthExceededException):
        permit(bridge, Action="events:PutEvents", Principal="*", StatementId="more")
    bridge.buses.remove_permission(WORLD, {"RemoveAllPermissions": True})
    assert "Policy" not in bridge.buses.describe(WORLD)


CONDITIONS: list[tuple[Any, bool]] = [
    (None, True),
    ({"StringEquals": {"events:source": "shop"}}, True),
    ({"StringEquals": {"events:source": ["other", "shop"]}}, True),
    ({"StringEquals": {"events:source": "other"}}, False),
    ({"StringNotEquals": {"events:source": "shop"}}, False),
    ({"StringLike": {"events:detail-type": "Order*"}}, True),
    ({"ForAllValues:StringEquals": {"events:detail-type": ["Order Placed"]}}, True),
    ({"StringEqualsIgnoreCase": {"events:detail-type": "order placed"}}, True),
    ({"StringEquals": {"aws:PrincipalOrgID": "o-1", "events:source": "other"}}, False),
    ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, True),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
]


@pytest.mark.parametrize(("condition", "allowed"), CONDITIONS)
def test_another_accounts_events_come_in_by_the_policy(bridge: Bridge, condition: Any, allowed: bool) -> None:
    queue = bridge.engine.create("q")
    bridge.connect({"source": ["shop"]}, queue)
    entry = {"Source": "shop", "DetailType": "Order Placed", "Detail": "{}", "EventBusName": bus_arn("default")}
    refused = {
        "ErrorCode": "AccessDeniedException",
        "ErrorMessage": "You do not have sufficient access to perform this action.",
    }
    open_to_rules(bridge.engine, queue)
    bridge.events.enforce_policies()
    assert bridge.put_entry(OTHER_ACCOUNT, **entry) == refused
    statement = {"Effect": "Allow", "Principal": {"AWS": OTHER_ACCOUNT.account}, "Action": "events:PutEvents"}
    if condition is not None:
        statement["Condition"] = condition
    permit(bridge, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    outcome = bridge.put_entry(OTHER_ACCOUNT, **entry)
    assert (outcome == refused) is not allowed
    assert [event["account"] for event in bridge.received(queue)] == [OTHER_ACCOUNT.account] * allowed
    assert "EventId" in bridge.put_entry(WORLD, **entry)  # one's own account needs no permission


def test_policies_are_not_asked_where_nobody_wished_it(bridge: Bridge) -> None:
    queue = bridge.engine.create("q")
    bridge.connect({"source": ["shop"]}, queue)
    entry = {"Source": "shop", "DetailType": "t", "Detail": "{}", "EventBusName": bus_arn("default")}
    assert "EventId" in bridge.put_entry(OTHER_ACCOUNT, **entry)
    assert [event["account"] for event in bridge.received(queue)] == [OTHER_ACCOUNT.account]


def test_a_deny_whose_condition_is_not_known_denies(bridge: Bridge) -> None:
    allow = {"Effect": "Allow", "Principal": "*", "Action": "events:*"}
    deny = {**allow, "Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    bridge.events.enforce_policies()
    permit(bridge, Policy=json.dumps({"Statement": [allow, deny]}))
    entry = {"Source": "s", "DetailType": "t", "Detail": "{}", "EventBusName": bus_arn("default")}
    assert bridge.put_entry(OTHER_ACCOUNT, **entry)["ErrorCode"] == "AccessDeniedException"
    permit(bridge, Policy=json.dumps({"Statement": allow}))
    assert "EventId" in bridge.put_entry(OTHER_ACCOUNT, **entry)


# tags


def test_buses_and_rules_have_tags(bridge: Bridge) -> None:
    bridge.create_bus("b", Tags=[{"Key": "a", "Value": "1"}])
    arns = [bus_arn("b"), bus_arn("default"), bridge.put_rule("r", {"source": ["s"]}, "b")]
    arns.append(bridge.put_rule("r", {"source": ["s"]}, Tags=[{"Key": "a", "Value": "1"}]))
    for arn in arns:
        bridge.buses.tag(WORLD, arn, [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])
        assert bridge.buses.tags(WORLD, arn) == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
        bridge.buses.untag(WORLD, arn, ["a", "c"])
        assert bridge.buses.tags(WORLD, arn) == [{"Key": "b", "Value": ""}]


def test_tags_that_are_refused(bridge: Bridge) -> None:
    bridge.create_bus("b")
    tag, arn = bridge.buses.tag, bus_arn("b")
    assert refusal(ValidationException, tag, WORLD, arn, [{"Key": "aws:x", "Value": ""}])
    many = [{"Key": str(number), "Value": ""} for number in range(51)]
    assert refusal(ValidationException, tag, WORLD, arn, many)
    tag(WORLD, arn, many[:50])
    assert refusal(ValidationException, tag, WORLD, "b", many[:1])
    assert refusal(ResourceNotFoundException, tag, WORLD, arn.replace("event-bus/b", "event-bus/c"), many[:1])
    message = refusal(ResourceNotFoundException, tag, WORLD, arn.replace("event-bus/b", "rule/b/r"), many[:1])
    assert message == "Rule r does not exist on EventBus b."
    assert refusal(ResourceNotFoundException, tag, WORLD, arn.replace("event-bus/b", "archive/a"), many[:1])
    assert refusal(ResourceNotFoundException, tag, OTHER_ACCOUNT, arn, many[:1])


# keeping


def test_what_was_set_is_there_after_a_restart(on_disk: Engine) -> None:
    bridge = Bridge(on_disk)
    bridge.create_bus("b", Description="d", Tags=[{"Key": "a", "Value": "ü"}])
    permit(bridge, "b", Action="events:PutEvents", Principal="*", StatementId="one")
    permit(bridge, Action="events:PutEvents", Principal="*", StatementId="one")
    told = [bridge.buses.describe(WORLD, name) for name in ("b", "default")]
    on_disk.restart(after_s=10)
    assert [bridge.buses.describe(WORLD, name) for name in ("b", "default")] == told
    assert bridge.buses.tags(WORLD, bus_arn("b")) == [{"Key": "a", "Value": "ü"}]


def test_a_group_that_does_not_happen_leaves_the_buses_as_they_were(bridge: Bridge) -> None:
    bridge.create_bus("b", Description="old")
    bridge.engine.settle()
    told = bridge.buses.describe(WORLD, "b")
    bridge.create_bus("c")
    bridge.buses.update(WORLD, {"Name": "b", "Description": "new"})
    bridge.buses.tag(WORLD, bus_arn("b"), [{"Key": "a", "Value": "1"}])
    permit(bridge, "b", Action="events:PutEvents", Principal="*", StatementId="one")
    bridge.engine.broker.commit.abort(BrokerFailure("no"))
    assert bridge.buses.describe(WORLD, "b") == told
    assert bridge.buses.tags(WORLD, bus_arn("b")) == []
    assert [bus["Name"] for bus in bridge.buses.list_buses(WORLD)] == ["b", "default"]
    bridge.buses.delete(WORLD, "b")
    bridge.engine.broker.commit.abort(BrokerFailure("no"))
    assert bridge.buses.describe(WORLD, "b") == told


def test_a_reset_forgets_one_account_or_all(bridge: Bridge) -> None:
    for world in (WORLD, OTHER_ACCOUNT):
        bridge.create_bus("b", world)
        bridge.put_rule("r", {"source": ["s"]}, "b", world)
    bridge.engine.broker.reset(WORLD.account)
    assert [bus["Name"] for bus in bridge.buses.list_buses(WORLD)] == ["default"]
    assert [bus["Name"] for bus in bridge.buses.list_buses(OTHER_ACCOUNT)] == ["b", "default"]
    bridge.engine.broker.reset()
    assert [bus["Name"] for bus in bridge.buses.list_buses(OTHER_ACCOUNT)] == ["default"]
    bridge.engine.settle()
    assert bridge.engine.rows("SELECT * FROM bus_item") == []
