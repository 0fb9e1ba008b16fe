"""Whatever comes, EventBridge answers as AWS does: with a result or with an error of its own, never with a 500.

Patterns, targets, entries, schedules and whole requests that are nearly right, through HTTP. What was accepted is put
to use: an event is sent past every rule.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MODEL = botocore.session.Session().get_service_model("events")
ACCOUNT, REGION = "555555555555", "us-east-1"
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

Ask = Callable[[str, Any], tuple[int, Any]]


@pytest.fixture(scope="module")
def ask(sidebus: Any) -> Iterator[Ask]:
    """Sends one request on the one connection; the status, and the answer read as JSON."""
    connection = http.client.HTTPConnection(urlsplit(sidebus.url).netloc, timeout=20)
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20261121/{REGION}/events/aws4_request, "
        "SignedHeaders=host, Signature=0",
    }

    def ask(operation: str, given: Any) -> tuple[int, Any]:
        body = given if isinstance(given, bytes) else json.dumps(given).encode()
        connection.request("POST", "/", body, {**headers, "X-Amz-Target": f"AWSEvents.{operation}"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else {}

    sidebus.request("POST", f"/_sidebus/reset?account={ACCOUNT}")
    yield ask
    connection.close()


def refused_or_done(answer: tuple[int, Any], *errors: str) -> bool:
    """Whether it was done. If not, it was refused with one of these errors."""
    status, document = answer
    if status == 200:
        return True
    assert status == 400, answer
    assert document["__type"] in errors, answer
    return False


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)

# Patterns that are nearly patterns.
OPERATORS = st.sampled_from(
    ["prefix", "suffix", "equals-ignore-case", "wildcard", "numeric", "anything-but", "exists", "cidr", "$or", "fly"]
)
OPERANDS = (
    st.sampled_from(["*", "a*b", "**", "\\", "10.0.0.0/8", "::/0", "10.0.0.0/33", ">", "=", "<=", True, False, 0, 1e9])
    | SCALARS
)
MATCHES = st.recursive(
    OPERANDS,
    lambda inner: (
        st.dictionaries(OPERATORS, inner | st.lists(inner, max_size=4), min_size=1, max_size=2)
        | st.lists(inner, max_size=4)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(["source", "detail", "detail-type", "account", "a", "b", "$or", ""])
PATTERNS = st.recursive(
    st.lists(MATCHES, max_size=3),
    lambda inner: st.dictionaries(FIELDS, inner | st.lists(inner, max_size=3), max_size=3),
    max_leaves=6,
)
TEXTS = st.text(max_size=20) | st.sampled_from(["{", '{"a":[1}', '{"a":["b"]} x', "null", "[]", "{}", '{"a":[1e999]}'])
EVENT = {
    "id": "1",
    "account": ACCOUNT,
    "source": "a",
    "time": "2026-01-02T03:04:05Z",
    "region": REGION,
    "resources": [],
    "detail-type": "b",
}
FORM = "ValidationException"


def send(ask: Ask, detail: str) -> None:
    status, answer = ask("PutEvents", {"Entries": [{"Source": "a", "DetailType": "b", "Detail": detail}]})
    assert status == 200, answer


@EXAMPLES
@given(pattern=PATTERNS.map(json.dumps) | TEXTS, detail=JSON.map(lambda value: {"a": value}))
def test_patterns(ask: Ask, pattern: str, detail: dict[str, Any]) -> None:
    event = json.dumps({**EVENT, "detail": detail})
    errors = ("InvalidEventPatternException", FORM)
    tested = ask("TestEventPattern", {"EventPattern": pattern, "Event": event})
    put = ask("PutRule", {"Name": "fuzz", "EventPattern": pattern})
    valid = refused_or_done(tested, *errors)
    assert refused_or_done(put, *errors) == valid or not pattern
    if valid:
        bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
        assert ask("CreateArchive", {"ArchiveName": "fuzz", "EventSourceArn": bus, "EventPattern": pattern})[0] == 200
        send(ask, json.dumps(detail))
        assert ask("DeleteArchive", {"ArchiveName": "fuzz"})[0] == 200
    assert ask("DeleteRule", {"Name": "fuzz"})[0] == 200


@EXAMPLES
@given(
    event=st.text(max_size=30) | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps({**EVENT, "detail": value}))
)
def test_events_to_test(ask: Ask, event: str) -> None:
    refused_or_done(ask("TestEventPattern", {"EventPattern": '{"detail": {"a": [1]}}', "Event": event}), FORM)


@EXAMPLES
@given(
    expression=st.from_regex(r"(rate|cron)\([0-9a-zA-Z*?/,#\- ]{0,20}\)", fullmatch=True)
    | st.tuples(
        *[st.sampled_from(["*", "?", "0", "1", "L", "W", "5W", "LW", "6#3", "2#6", "1-5", "*/5", "60", "MON", "2199"])]
        * 6
    ).map(lambda fields: f"cron({' '.join(fields)})")
    | st.text(max_size=20)
)
def test_schedules(ask: Ask, expression: str) -> None:
    if refused_or_done(ask("PutRule", {"Name": "scheduled", "ScheduleExpression": expression}), FORM):
        assert ask("DeleteRule", {"Name": "scheduled"})[0] == 200


PATHS = st.sampled_from(
    ["$", "$.detail", "$.detail.a", "$.a[0]", "$..a", "detail", "$.", "$['a']", "$.detail.*"]
) | st.text(max_size=10)
TEMPLATES = st.text(max_size=20) | st.lists(
    st.sampled_from(
        [
            '"',
            "<",
            ">",
            "<a>",
            "<b>",
            "<aws.events.event>",
            "<aws.events.event.json>",
            "<aws.events.rule-arn>",
            "{",
            "}",
            ":",
            " ",
            "x",
            "\\",
            "1",
        ]
    ),
    max_size=8,
).map("".join)
ARNS = st.sampled_from(
    [
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:nowhere",
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:fuzz",
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:nowhere.fifo",
        f"arn:aws:sns:{REGION}:{ACCOUNT}:nowhere",
        f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/nowhere",
        f"arn:aws:events:eu-west-1:{ACCOUNT}:event-bus/default",
        f"arn:aws:events:{REGION}:{ACCOUNT}:api-destination/nowhere/00000000-0000-0000-0000-000000000000",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:nowhere",
        f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/nowhere",
        f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:nowhere",
        f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/nowhere",
        f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:nowhere",
        f"arn:aws:events:{REGION}:::",
        "arn:aws:::::",
        "arn",
    ]
) | st.text(min_size=1, max_size=20)
TARGETS = st.fixed_dictionaries(
    {"Id": st.sampled_from(["a", "b"]), "Arn": ARNS},
    optional={
        "RoleArn": st.just(f"arn:aws:iam::{ACCOUNT}:role/r"),
        "Input": st.text(max_size=10) | JSON.map(json.dumps),
        "InputPath": PATHS,
        "InputTransformer": st.fixed_dictionaries(
            {"InputTemplate": TEMPLATES.filter(bool)},
            optional={"InputPathsMap": st.dictionaries(st.sampled_from(["a", "b", "aws.x", ""]), PATHS, max_size=3)},
        ),
        "DeadLetterConfig": st.fixed_dictionaries({}, optional={"Arn": ARNS}),
        "RetryPolicy": st.fixed_dictionaries(
            {},
            optional={"MaximumRetryAttempts": st.integers(-1, 200), "MaximumEventAgeInSeconds": st.integers(0, 90_000)},
        ),
        "SqsParameters": st.fixed_dictionaries({}, optional={"MessageGroupId": st.text(max_size=120)}),
        "KinesisParameters": st.fixed_dictionaries({"PartitionKeyPath": PATHS}),
        "HttpParameters": st.fixed_dictionaries(
            {},
            optional={
                "PathParameterValues": st.lists(st.text(max_size=5), max_size=2),
                "HeaderParameters": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
                "QueryStringParameters": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
            },
        ),
    },
)


@EXAMPLES
@given(targets=st.lists(TARGETS, min_size=1, max_size=3), detail=JSON.map(lambda value: {"a": value}))
def test_targets(ask: Ask, targets: list[dict[str, Any]], detail: dict[str, Any]) -> None:
    assert ask("PutRule", {"Name": "targets", "EventPattern": '{"source": ["a"]}'})[0] == 200
    if refused_or_done(ask("PutTargets", {"Rule": "targets", "Targets": targets}), FORM, "LimitExceededException"):
        send(ask, json.dumps(detail))
        listed = ask("ListTargetsByRule", {"Rule": "targets"})[1]["Targets"]
        assert listed == [target for _, target in sorted({target["Id"]: target for target in targets}.items())]
    assert ask("RemoveTargets", {"Rule": "targets", "Ids": ["a", "b"]})[0] == 200
    assert ask("DeleteRule", {"Name": "targets"})[0] == 200


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "Source": st.text(max_size=10) | st.just("aws.s3"),
        "DetailType": st.text(max_size=10) | st.just("x" * 129),
        "Detail": st.text(max_size=10) | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps({"a": value})),
        "Time": st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.integers(0, 1 << 33),
        "Resources": st.lists(st.text(max_size=5), max_size=3),
        "EventBusName": st.sampled_from(["default", "nowhere", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"])
        | st.text(min_size=1, max_size=5),
        "TraceHeader": st.text(max_size=10),
    },
)


@EXAMPLES
@given(entries=st.lists(ENTRIES, max_size=11))
def test_entries(ask: Ask, entries: list[dict[str, Any]]) -> None:
    answer = ask("PutEvents", {"Entries": entries})
    if refused_or_done(answer, FORM):
        outcomes = answer[1]["Entries"]
        assert len(outcomes) == len(entries)
        assert answer[1]["FailedEntryCount"] == sum("ErrorCode" in outcome for outcome in outcomes)
        assert all(("EventId" in outcome) != ("ErrorCode" in outcome) for outcome in outcomes)


def nearly(shape: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a shape of the model, and now and then others."""
    if shape is None or depth > 4:
        return JSON
    right: st.SearchStrategy[Any]
    match shape.type_name:
        case "structure":
            members = {name: nearly(member, depth + 1) for name, member in shape.members.items()}
            required = {name: members.pop(name) for name in shape.required_members}
            right = st.fixed_dictionaries(required, optional=members)
        case "list":
            right = st.lists(nearly(shape.member, depth + 1), max_size=3)
        case "map":
            right = st.dictionaries(st.text(max_size=5), nearly(shape.value, depth + 1), max_size=2)
        case "string":
            enum = list(shape.enum)
            words = [
                *enum,
                "default",
                "aws.partner/a/b",
                ACCOUNT,
                f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default",
            ]
            right = st.sampled_from(words) | st.text(max_size=5)
        case "boolean":
            right = st.booleans()
        case "timestamp":
            right = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 1 << 33)
        case _:
            right = st.integers(-1, 100)
    return st.one_of(*[right] * 9, SCALARS) if depth else right


@pytest.mark.parametrize("operation", MODEL.operation_names)
@settings(EXAMPLES, max_examples=8)
@given(data=st.data())
def test_requests(ask: Ask, operation: str, data: st.DataObject) -> None:
    given = data.draw(nearly(MODEL.operation_model(operation).input_shape))
    status, answer = ask(operation, given)
    assert status in (200, 400), answer
    assert status == 200 or answer["__type"], answer
