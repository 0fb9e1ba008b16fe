"""Every documented error of every operation of EventBridge, provoked through boto3, and the bytes of some.

The model says which operation has which errors. Each pair is either provoked here or stands in `cannot_occur` with the
reason. What is wrong with the form of a request is a ValidationException, which the model does not list.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from virtual_events import VirtualEvents

from broker.limits import AWS

REGION, ELSEWHERE = "us-east-1", "us-west-2"
OWNER, STRANGER = "111111111111", "222222222222"
MODEL = botocore.session.Session().get_service_model("events")

EXISTS, MISSING, INVALID = "ResourceAlreadyExistsException", "ResourceNotFoundException", "ValidationException"
LIMIT, MANAGED, STATE = "LimitExceededException", "ManagedRuleException", "InvalidStateException"
PATTERN = "InvalidEventPatternException"
TOO_MANY = "The requested resource exceeds the maximum number allowed."
BAD_ARN = "Provided Arn is not in correct format."

BASIC = {"BasicAuthParameters": {"Username": "u", "Password": "p"}}
CONNECTION = {"Name": "c", "AuthorizationType": "BASIC", "AuthParameters": BASIC}
SOURCE = "aws.partner/example.com/errors/orders"
GOOD = '{"source": ["a"]}'


def cannot_occur(operation: str, error: str) -> str | None:
    """Why this documented error is never answered."""
    if error == "InternalException":
        return "what goes wrong here is a 503 that says what to do"
    if error == "ConcurrentModificationException":
        return "operations happen one after the other"
    if error == "OperationDisabledException":
        return "partner event sources are open to all"
    if error == "ThrottlingException":
        return "no rates are enforced"
    if error == "AccessDeniedException":
        return "there is no Secrets Manager whose access a connection would need"
    if error == LIMIT and operation.startswith("Update"):
        return "what is there is not counted again"
    return {
        ("CreateConnection", MISSING): "resource configurations of private APIs are taken as they come",
        ("CreateArchive", LIMIT): "AWS has no quota of archives",
        ("CreatePartnerEventSource", LIMIT): "AWS tells partners their quotas, and nobody else",
        ("CreateEventBus", STATE): "a source that is not PENDING has its bus, which is what is refused",
        ("DescribeArchive", EXISTS): "AWS names no cause",
        ("ListArchives", MISSING): "what nothing is archived from has no archives",
        ("StartReplay", PATTERN): "it has no pattern",
    }.get((operation, error))


class Stage:
    """What a case may need, in an account of its own."""

    def __init__(self, events: Any, partner: Any, account: str) -> None:
        self.events = events
        self.partner = partner
        self.account = account

    def arn(self, resource: str, region: str = REGION) -> str:
        return f"arn:aws:events:{region}:{self.account}:{resource}"

    def queue(self, name: str = "q") -> str:
        return f"arn:aws:sqs:{REGION}:{self.account}:{name}"

    def bus(self, name: str = "b") -> str:
        return str(self.events.create_event_bus(Name=name)["EventBusArn"])

    def rule(self, name: str = "r", **given: Any) -> str:
        return str(self.events.put_rule(Name=name, **{"EventPattern": GOOD, **given})["RuleArn"])

    def target(self, **given: Any) -> dict[str, Any]:
        self.rule()
        return {"Rule": "r", "Targets": [{"Id": "t", "Arn": self.queue(), **given}]}

    def managed_rule(self) -> str:
        """The name of an archive's rule on the default bus."""
        self.archive()
        return "Events-Archive-a"

    def archive(self) -> str:
        return str(
            self.events.create_archive(ArchiveName="a", EventSourceArn=self.arn("event-bus/default"))["ArchiveArn"]
        )

    def replay(self, **given: Any) -> dict[str, Any]:
        """StartReplay's input, right but for what is given."""
        self.archive()
        return {
            "ReplayName": "p",
            "EventSourceArn": self.arn("archive/a"),
            "EventStartTime": datetime(2026, 1, 1, tzinfo=UTC),
            "EventEndTime": datetime(2026, 1, 2, tzinfo=UTC),
            "Destination": {"Arn": self.arn("event-bus/default")},
            **given,
        }

    def connection(self) -> str:
        return str(self.events.create_connection(**CONNECTION)["ConnectionArn"])

    def destination(self, **given: Any) -> dict[str, Any]:
        """CreateApiDestination's input, right but for what is given."""
        return {
            "Name": "d",
            "ConnectionArn": self.connection(),
            "InvocationEndpoint": "https://example.com",
            "HttpMethod": "POST",
            **given,
        }

    def endpoint(self, **given: Any) -> dict[str, Any]:
        """CreateEndpoint's input, right but for what is given: both default buses, which are always there."""
        check, route = "arn:aws:route53:::healthcheck/1-a", {"Route": ELSEWHERE}
        return {
            "Name": "e",
            "RoutingConfig": {"FailoverConfig": {"Primary": {"HealthCheck": check}, "Secondary": route}},
            "ReplicationConfig": {"State": "DISABLED"},
            "EventBuses": self.buses("default", "default"),
            **given,
        }

    def buses(self, name: str, other: str, region: str = ELSEWHERE) -> list[dict[str, str]]:
        arns = (self.arn(f"event-bus/{name}"), self.arn(f"event-bus/{other}", region))
        return [{"EventBusArn": arn} for arn in arns]

    def source(self, *, taken: bool = False) -> str:
        name = f"aws.partner/example.com/{self.account}/orders"
        self.partner.create_partner_event_source(Name=name, Account=self.account)
        if taken:
            self.events.create_event_bus(Name=name, EventSourceName=name)
        return name


Given = Callable[[Stage], dict[str, Any]]
CASES: list[tuple[str, str, str, Given]] = []


def case(operation: str, error: str, message: str, given: Given | dict[str, Any]) -> None:
    CASES.append((operation, error, message, given if callable(given) else lambda stage: given))


# What is not there.
NO_RULE, NO_BUS = "Rule nowhere does not exist on EventBus default.", "Event bus nowhere does not exist."
TARGETS = [{"Id": "t", "Arn": f"arn:aws:sqs:{REGION}:{OWNER}:q"}]
for operation, given in {
    "DescribeRule": {"Name": "nowhere"},
    "DisableRule": {"Name": "nowhere"},
    "EnableRule": {"Name": "nowhere"},
    "ListTargetsByRule": {"Rule": "nowhere"},
    "PutTargets": {"Rule": "nowhere", "Targets": TARGETS},
    "RemoveTargets": {"Rule": "nowhere", "Ids": ["t"]},
}.items():
    case(operation, MISSING, NO_RULE, given)
for operation, given in {
    "DeleteRule": {"Name": "r"},
    "ListRules": {},
    "ListRuleNamesByTarget": {"TargetArn": "arn:aws:sqs:us-east-1:111111111111:q"},
    "PutPermission": {"Action": "events:PutEvents", "Principal": "*", "StatementId": "s"},
    "PutRule": {"Name": "r", "EventPattern": GOOD},
}.items():
    case(operation, MISSING, NO_BUS, {"EventBusName": "nowhere", **given})
for operation in ("DescribeEventBus", "UpdateEventBus"):
    case(operation, MISSING, NO_BUS, {"Name": "nowhere"})
case("DescribeEventBus", MISSING, NO_BUS, lambda stage: {"Name": stage.arn("event-bus/nowhere", ELSEWHERE)})
for operation, given in {
    "ListTagsForResource": {},
    "TagResource": {"Tags": [{"Key": "a", "Value": "b"}]},
    "UntagResource": {"TagKeys": ["a"]},
}.items():
    case(operation, MISSING, NO_BUS, lambda stage, g=given: {"ResourceARN": stage.arn("event-bus/nowhere"), **g})
    case(operation, MISSING, NO_RULE, lambda stage, g=given: {"ResourceARN": stage.arn("rule/nowhere"), **g})
    case(operation, INVALID, f"Parameter none is not valid. Reason: {BAD_ARN}", {"ResourceARN": "none", **given})
for operation in ("DeleteArchive", "DescribeArchive", "UpdateArchive"):
    case(operation, MISSING, "Archive nowhere does not exist.", {"ArchiveName": "nowhere"})
for operation in ("CancelReplay", "DescribeReplay"):
    case(operation, MISSING, "Replay nowhere does not exist.", {"ReplayName": "nowhere"})
for operation in ("DeauthorizeConnection", "DeleteConnection", "DescribeConnection", "UpdateConnection"):
    case(operation, MISSING, "nowhere", {"Name": "nowhere"})
for operation in ("DeleteApiDestination", "DescribeApiDestination", "UpdateApiDestination"):
    case(operation, MISSING, "nowhere", {"Name": "nowhere"})
for operation in ("DeleteEndpoint", "DescribeEndpoint", "UpdateEndpoint"):
    case(operation, MISSING, "Endpoint 'nowhere' does not exist.", {"Name": "nowhere"})
NO_SOURCE = f"Event source {SOURCE} does not exist."
for operation in ("DescribeEventSource", "DescribePartnerEventSource"):
    case(operation, MISSING, NO_SOURCE, {"Name": SOURCE})
case("ListPartnerEventSourceAccounts", MISSING, NO_SOURCE, {"EventSourceName": SOURCE})
case("CreateEventBus", MISSING, NO_SOURCE, {"Name": SOURCE, "EventSourceName": SOURCE})
for operation in ("ActivateEventSource", "DeactivateEventSource"):
    # https://github.com/aws/aws-sdk-js-v3/issues/4788
    case(operation, MISSING, f"Event source {SOURCE} or event bus {SOURCE} does not exist.", {"Name": SOURCE})
case("RemovePermission", MISSING, "EventBus does not have a policy.", {"StatementId": "s"})

# Buses.
case("CreateEventBus", EXISTS, "Event bus b already exists.", lambda stage: {"Name": stage.bus() and "b"})
case("CreateEventBus", EXISTS, "Event bus default already exists.", {"Name": "default"})
case("CreateEventBus", INVALID, "", {"Name": "a/b"})
case("CreateEventBus", INVALID, "", {"Name": SOURCE + "2", "EventSourceName": SOURCE})
case("CreateEventBus", INVALID, "", {"Name": "b", "DeadLetterConfig": {"Arn": f"arn:aws:sqs:{REGION}:{OWNER}:q.fifo"}})
case("DeleteEventBus", INVALID, "Cannot delete event bus default.", {"Name": "default"})
case(
    "DeleteEventBus",
    INVALID,
    "Event bus can't be deleted since it has rules.",
    lambda stage: {"Name": stage.bus() and stage.rule(EventBusName="b") and "b"},
)
case("PutPermission", INVALID, "", {"Principal": "*", "StatementId": "s"})
case("PutPermission", INVALID, "", {"Policy": "no JSON"})
case(
    "PutPermission",
    INVALID,
    "Provided value in parameter 'action' is not supported.",
    {"Action": "events:PutRule", "Principal": "*", "StatementId": "s"},
)
case(
    "PutPermission",
    "PolicyLengthExceededException",
    "The policy on the event bus exceeds the size limit of 10 KB.",
    {
        "Policy": json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "events:PutEvents",
                    "Resource": "*",
                    "Sid": "x" * 10_240,
                },
            }
        )
    },
)
case("TagResource", INVALID, "", lambda stage: {"ResourceARN": stage.bus(), "Tags": [{"Key": "aws:a", "Value": "b"}]})

# Rules and targets.
case("PutRule", INVALID, "Parameter(s) EventPattern or ScheduleExpression must be specified.", {"Name": "r"})
case(
    "PutRule",
    INVALID,
    "Parameter ScheduleExpression is not valid.",
    {"Name": "r", "ScheduleExpression": "rate(1 hours)"},
)
case(
    "PutRule",
    INVALID,
    "ScheduleExpression is supported only on the default event bus.",
    lambda stage: {"Name": "r", "EventBusName": stage.bus(), "ScheduleExpression": "rate(1 hour)"},
)
for operation, given in {
    "PutRule": {"Name": "r"},
    "CreateArchive": {"ArchiveName": "a"},
    "TestEventPattern": {"Event": "{}"},
}.items():
    for pattern in ('{"a"', '{"source": "a"}', '{"source": [{"fly": 1}]}', "[]", '{"source": []}'):

        def bad_pattern(stage: Stage, g: Any = given, p: str = pattern, o: str = operation) -> dict[str, Any]:
            of_bus = {"EventSourceArn": stage.arn("event-bus/default")} if o == "CreateArchive" else {}
            return {**g, **of_bus, "EventPattern": p}

        case(operation, PATTERN, "Event pattern is not valid. Reason: ", bad_pattern)
case("UpdateArchive", PATTERN, "", lambda stage: {"ArchiveName": stage.archive() and "a", "EventPattern": "[]"})
case("TestEventPattern", INVALID, "", {"EventPattern": GOOD, "Event": "{}"})
case("TestEventPattern", INVALID, "", {"EventPattern": GOOD, "Event": "no JSON"})
case("DeleteRule", INVALID, "Rule can't be deleted since it has targets.", lambda stage: with_targets(stage))
for operation in ("DeleteRule", "DisableRule", "EnableRule"):
    case(operation, MANAGED, "", lambda stage: {"Name": stage.managed_rule()})
case("PutRule", MANAGED, "", lambda stage: {"Name": stage.managed_rule(), "EventPattern": GOOD})
case("PutTargets", MANAGED, "", lambda stage: {"Rule": stage.managed_rule(), "Targets": TARGETS})
case("RemoveTargets", MANAGED, "", lambda stage: {"Rule": stage.managed_rule(), "Ids": ["t"]})
for operation, given in {
    "TagResource": {"Tags": [{"Key": "a", "Value": "b"}]},
    "UntagResource": {"TagKeys": ["a"]},
}.items():
    case(operation, MANAGED, "", lambda stage, g=given: {"ResourceARN": stage.arn(f"rule/{stage.managed_rule()}"), **g})


def with_targets(stage: Stage) -> dict[str, Any]:
    stage.events.put_targets(**stage.target())
    return {"Name": "r"}


case("PutTargets", INVALID, BAD_ARN, lambda stage: stage.target(Arn="none"))
case(
    "PutTargets",
    INVALID,
    "RoleArn is required for target arn:aws:kinesis:us-east-1:111111111111:stream/s.",
    lambda stage: stage.target(Arn=f"arn:aws:kinesis:{REGION}:{OWNER}:stream/s"),
)
case(
    "PutTargets",
    INVALID,
    "Parameter(s) SqsParameters must be specified for target: t.",
    lambda stage: stage.target(Arn=stage.queue("q.fifo")),
)
case(
    "PutTargets",
    INVALID,
    "Only one of Input, InputPath, or InputTransformer must be provided for target t.",
    lambda stage: stage.target(Input="{}", InputPath="$.detail"),
)
case("PutTargets", INVALID, "", lambda stage: stage.target(Input="no JSON"))
case("PutTargets", INVALID, "", lambda stage: stage.target(InputPath="detail"))
case("PutTargets", INVALID, "", lambda stage: stage.target(InputTransformer={"InputTemplate": "<unknown>"}))
case("PutTargets", INVALID, "", lambda stage: stage.target(DeadLetterConfig={"Arn": stage.queue("q.fifo")}))
case(
    "PutTargets",
    LIMIT,
    TOO_MANY,
    lambda stage: {**stage.target(), "Targets": [{"Id": str(n), "Arn": stage.queue()} for n in range(6)]},
)

# Events.
ENTRY = {"Source": "a", "DetailType": "d", "Detail": "{}"}
case(
    "PutEvents",
    INVALID,
    "Total size of the entries in the request is over the limit.",
    {"Entries": [{**ENTRY, "Detail": json.dumps({"a": "x" * 110_000})}] * 10},
)

# Archives and replays.
case(
    "CreateArchive",
    EXISTS,
    "Archive a already exists.",
    lambda stage: {"ArchiveName": stage.archive() and "a", "EventSourceArn": stage.arn("event-bus/default")},
)
case(
    "CreateArchive",
    MISSING,
    NO_BUS,
    lambda stage: {"ArchiveName": "a", "EventSourceArn": stage.arn("event-bus/nowhere")},
)
for listing in ("ListArchives", "ListReplays"):
    filters = f"At most one filter is allowed for {listing}. Use either : State, EventSourceArn, or NamePrefix."
    state = {"ListArchives": "ENABLED", "ListReplays": "RUNNING"}[listing]
    case(listing, INVALID, filters, {"NamePrefix": "a", "State": state})
case("StartReplay", MISSING, NO_BUS, lambda stage: stage.replay(Destination={"Arn": stage.arn("event-bus/nowhere")}))
case(
    "StartReplay",
    MISSING,
    "Rule ",
    lambda stage: stage.replay(
        Destination={"Arn": stage.arn("event-bus/default"), "FilterArns": [stage.arn("rule/nowhere")]}
    ),
)
case("StartReplay", INVALID, "", lambda stage: stage.replay(EventSourceArn=stage.arn("archive/nowhere")))
case("StartReplay", INVALID, "", lambda stage: stage.replay(Destination={"Arn": stage.bus()}))
case("StartReplay", INVALID, "", lambda stage: stage.replay(EventEndTime=datetime(2025, 1, 1, tzinfo=UTC)))


def replayed(stage: Stage) -> dict[str, Any]:
    given = stage.replay()
    stage.events.start_replay(**given)
    return given


def over(stage: Stage) -> dict[str, Any]:
    """A replay of nothing, once it is through."""
    replayed(stage)
    while stage.events.describe_replay(ReplayName="p")["State"] != "COMPLETED":
        pass
    return {"ReplayName": "p"}


case("StartReplay", EXISTS, "Replay p already exists.", replayed)
case("CancelReplay", "IllegalStatusException", "Replay p is not in a valid state for this operation.", over)

# Connections and API destinations.
case("CreateConnection", EXISTS, "", lambda stage: stage.connection() and CONNECTION)
case("CreateConnection", INVALID, "", {**CONNECTION, "AuthorizationType": "API_KEY"})
case(
    "UpdateConnection", INVALID, "", lambda stage: {"Name": stage.connection() and "c", "AuthorizationType": "API_KEY"}
)


def destination_again(stage: Stage) -> dict[str, Any]:
    given = stage.destination()
    stage.events.create_api_destination(**given)
    return given


NO_CONNECTION = "connection/nowhere/00000000-0000-0000-0000-000000000000"
case("CreateApiDestination", EXISTS, "", destination_again)
case("CreateApiDestination", MISSING, "", lambda stage: stage.destination(ConnectionArn=stage.arn(NO_CONNECTION)))
case("CreateApiDestination", INVALID, "", lambda stage: stage.destination(InvocationEndpoint="ftp://example.com"))


# Endpoints.
def endpoint_again(stage: Stage) -> dict[str, Any]:
    given = stage.endpoint()
    stage.events.create_endpoint(**given)
    return given


case("CreateEndpoint", EXISTS, "Endpoint 'e' already exists.", endpoint_again)
case(
    "CreateEndpoint",
    INVALID,
    "The names of the event buses must be identical in each Region.",
    lambda stage: stage.endpoint(EventBuses=stage.buses("default", "other")),
)
case(
    "CreateEndpoint",
    INVALID,
    "The event buses must be in the primary and in the secondary Region.",
    lambda stage: stage.endpoint(EventBuses=stage.buses("default", "default", "eu-west-1")),
)
case(
    "CreateEndpoint",
    INVALID,
    f"Event bus arn:aws:events:{ELSEWHERE}:",
    lambda stage: stage.endpoint(EventBuses=stage.bus() and stage.buses("b", "b")),
)
case(
    "CreateEndpoint",
    INVALID,
    "RoleArn is required when event replication is enabled.",
    lambda stage: stage.endpoint(ReplicationConfig={"State": "ENABLED"}),
)
case(
    "UpdateEndpoint",
    INVALID,
    "",
    lambda stage: {
        "Name": endpoint_again(stage)["Name"],
        "ReplicationConfig": {},
        "EventBuses": stage.buses("default", "other"),
    },
)


# Partner event sources.
case(
    "CreatePartnerEventSource",
    EXISTS,
    "Event source ",
    lambda stage: {"Name": stage.source(), "Account": stage.account},
)
case("ActivateEventSource", STATE, "is not in PENDING state.", lambda stage: {"Name": stage.source(taken=True)})


def deactivated(stage: Stage) -> dict[str, Any]:
    name = stage.source(taken=True)
    stage.events.deactivate_event_source(Name=name)
    return {"Name": name}


case("DeactivateEventSource", STATE, "is not in ACTIVE state.", deactivated)

LISTINGS = [name for name in MODEL.operation_names if "NextToken" in MODEL.operation_model(name).input_shape.members]


@pytest.fixture
def stage(connect: Any, sidebus: Any, account: str) -> Stage:
    partner = connect(sidebus, "events", account=str(random.randrange(10**11, 10**12)))
    return Stage(connect(sidebus, "events"), partner, account)


@pytest.mark.parametrize(
    ("operation", "error", "message", "given"),
    [pytest.param(*c, id=f"{c[0]}-{c[1]}") for c in CASES],
)
def test_refusals(stage: Stage, operation: str, error: str, message: str, given: Given) -> None:
    parameters = given(stage)
    with pytest.raises(ClientError) as caught:
        getattr(stage.events, xform_name(operation))(**parameters)
    answer = caught.value.response
    assert answer["Error"]["Code"] == error
    assert message in answer["Error"]["Message"]
    assert answer["Error"]["Message"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"Source": ""}, "InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument."),
        (
            {"DetailType": ""},
            "InvalidArgument",
            "Parameter DetailType is not valid. Reason: DetailType is a required argument.",
        ),
        ({"Detail": ""}, "InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument."),
        ({"DetailType": "x" * 129}, "InvalidArgument", ""),
        ({"Detail": "no JSON"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": "[]"}, "MalformedDetail", "Detail is malformed."),
        ({"Source": "aws.s3"}, "NotAuthorizedForSourceException", "Not authorized for the source."),
        ({"Time": datetime(1900, 1, 1, tzinfo=UTC)}, "InvalidArgument", ""),
        ({"EventBusName": f"arn:aws:events:{REGION}:{STRANGER}:event-bus/b"}, "AccessDeniedException", ""),
    ],
)
def test_refused_entries(stage: Stage, changes: dict[str, Any], code: str, message: str) -> None:
    """An entry fails by itself; the others go their way."""
    answer = stage.events.put_events(Entries=[{**ENTRY, **changes}, ENTRY])
    failed, taken = answer["Entries"]
    assert answer["FailedEntryCount"] == 1
    assert failed["ErrorCode"] == code
    assert message in failed["ErrorMessage"]
    assert "EventId" not in failed
    assert list(taken) == ["EventId"]


# Quotas, some of them smaller than AWS's: what counts is that they are kept.

SMALL = dataclasses.replace(
    AWS, event_buses=2, bus_rules=2, event_connections=2, api_destinations=2, event_endpoints=2, event_replays=2
)
LIMITS = {
    (operation, LIMIT)
    for operation in (
        "CreateApiDestination",
        "CreateConnection",
        "CreateEndpoint",
        "CreateEventBus",
        "PutRule",
        "StartReplay",
    )
}


def test_limits() -> None:
    events = VirtualEvents(SMALL)
    stage = Stage(None, None, OWNER)
    bus = stage.arn("event-bus/default")
    events("CreateArchive", {"ArchiveName": "a", "EventSourceArn": bus})
    connection = events("CreateConnection", {**CONNECTION, "Name": "first"})["ConnectionArn"]
    of_endpoint = stage.endpoint()
    for operation, before, given in [
        ("CreateEventBus", 1, {}),  # the default bus counts
        ("PutRule", 1, {"EventPattern": GOOD}),  # so does the archive's rule
        ("CreateConnection", 1, {key: value for key, value in CONNECTION.items() if key != "Name"}),
        (
            "CreateApiDestination",
            0,
            {"ConnectionArn": connection, "InvocationEndpoint": "https://example.com", "HttpMethod": "GET"},
        ),
        ("CreateEndpoint", 0, {key: value for key, value in of_endpoint.items() if key != "Name"}),
        (
            "StartReplay",
            0,
            {
                "EventSourceArn": stage.arn("archive/a"),
                "EventStartTime": 0,
                "EventEndTime": 1,
                "Destination": {"Arn": bus},
            },
        ),
    ]:
        name = "ReplayName" if operation == "StartReplay" else "Name"
        answers = events.together([(operation, {name: f"n{n}", **given}) for n in range(before, 3)])
        assert [answer.get("__type") for answer in answers[:-1]] == [None] * len(answers[:-1]), operation
        assert answers[-1] == {"__type": LIMIT, "message": TOO_MANY}, operation
    events.close()


def test_every_documented_error_is_provoked_or_cannot_occur() -> None:
    provoked = {(operation, error) for operation, error, _, _ in CASES} | LIMITS
    documented = {
        (operation, error.name)
        for operation in MODEL.operation_names
        for error in MODEL.operation_model(operation).error_shapes
    }
    assert {pair for pair in documented - provoked if cannot_occur(*pair) is None} == set()
    assert {pair for pair in provoked & documented if cannot_occur(*pair) is not None} == set()


# Other accounts, where signatures hold.


@pytest.fixture(scope="module")
def strict(start_sidebus: Any) -> Any:
    return start_sidebus("--auth", "strict", "--key", f"{OWNER}=o", "--key", f"{STRANGER}=s")


def test_strangers_are_refused(strict: Any, connect: Any) -> None:
    owner = connect(strict, "events", account=OWNER, secret="o")
    stranger = connect(strict, "events", account=STRANGER, secret="s")
    bus = owner.create_event_bus(Name="shared")["EventBusArn"]
    owner.put_rule(Name="r", EventBusName="shared", EventPattern=GOOD)
    asked = {
        "DeleteRule": {"Name": "r"},
        "DescribeRule": {"Name": "r"},
        "DisableRule": {"Name": "r"},
        "EnableRule": {"Name": "r"},
        "ListRules": {},
        "ListTargetsByRule": {"Rule": "r"},
        "PutRule": {"Name": "s", "EventPattern": GOOD},
        "PutTargets": {"Rule": "r", "Targets": TARGETS},
        "RemoveTargets": {"Rule": "r", "Ids": ["t"]},
    }
    for operation, given in asked.items():
        with pytest.raises(
            ClientError, match=f"is not authorized to perform: events:{operation} on resource"
        ) as caught:
            getattr(stranger, xform_name(operation))(EventBusName=bus, **given)
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    with pytest.raises(ClientError, match="events:DescribeEventBus on resource"):
        stranger.describe_event_bus(Name=bus)
    entry = {**ENTRY, "EventBusName": bus}
    (outcome,) = stranger.put_events(Entries=[entry])["Entries"]
    assert outcome["ErrorCode"] == "AccessDeniedException"
    owner.put_permission(EventBusName="shared", Action="events:PutEvents", Principal=STRANGER, StatementId="s")
    assert stranger.put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_a_bad_signature_is_refused(strict: Any, connect: Any) -> None:
    with pytest.raises(ClientError) as caught:
        connect(strict, "events", account=OWNER, secret="wrong").list_rules()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"


# Pages.


@pytest.mark.parametrize("operation", LISTINGS)
def test_tokens_that_are_none(stage: Stage, operation: str) -> None:
    needed: dict[str, Any] = {
        "ListPartnerEventSourceAccounts": lambda: {"EventSourceName": stage.source()},
        "ListPartnerEventSources": lambda: {"NamePrefix": "aws.partner/example.com/"},
        "ListRuleNamesByTarget": lambda: {"TargetArn": stage.queue()},
        "ListTargetsByRule": lambda: {"Rule": stage.rule() and "r"},
    }
    client = stage.partner if "Partner" in operation else stage.events
    with pytest.raises(ClientError) as caught:
        getattr(client, xform_name(operation))(NextToken="%", **needed.get(operation, dict)())
    assert caught.value.response["Error"]["Code"] == "InvalidToken"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
