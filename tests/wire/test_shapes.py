"""The tables are AWS's models, and the constraints say what AWS says."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from test_shapes_values import SERVICES, operation

from protocols.shapes import generate
from protocols.shapes.constraints import compile_check
from protocols.shapes.model import List, Map, Scalar, Shape, Structure, load
from protocols.shapes.tables import sqs_query
from protocols.wire.errors import WireError, find_error, refusal, unknown_operation

TABLES = Path(generate.__file__).parent / "tables"


# -- the tables


@pytest.mark.parametrize("service", SERVICES)
def test_the_tables_are_fresh(service: str, request: pytest.FixtureRequest) -> None:
    """Made from the botocore that is here: the same again. From another one: nothing of ours has gone; news is told."""
    committed = (TABLES / f"{service}.py").read_text()
    if f"MADE_FROM = {generate.botocore_version()!r}\n" in committed:
        assert committed == generate.render(service), "run `python -m protocols.shapes.generate`"
        return
    gone, new = generate.compare(service, generate.botocore_model(service))
    if new:
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(f"\nbotocore {generate.botocore_version()} has more of {service}: {', '.join(new)}")
    assert gone == []


def test_a_newer_model_is_told_from_a_broken_one() -> None:
    model = generate.botocore_model("sts")
    model["operations"]["Whatever"] = model["operations"]["GetCallerIdentity"]
    assert generate.compare("sts", model) == ([], [])  # of STS we keep one operation, and look for no other
    del model["shapes"]["GetCallerIdentityResponse"]["members"]["Arn"]
    model["shapes"]["GetCallerIdentityResponse"]["members"]["Mood"] = {"shape": "arnType"}
    assert generate.compare("sts", model) == (["GetCallerIdentityResponse.Arn"], ["GetCallerIdentityResponse.Mood"])


@pytest.mark.slow
def test_the_query_names_are_those_of_the_last_query_model(tmp_path: Path) -> None:
    model = generate.query_model(generate.download_query_wheel(str(tmp_path)))
    assert (TABLES / "sqs_query.py").read_text() == generate.render_query_names(model)


def test_a_service_is_loaded_when_it_is_asked_for() -> None:
    script = (
        "import sys; from protocols.wire import aws_json, query; from protocols.shapes.model import load; load('sts');"
        "print([m for m in sys.modules if m.startswith('protocols.shapes.tables.')])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "['protocols.shapes.tables.sts']\n"


def test_sqs_facts() -> None:
    sqs = load("sqs")
    assert (sqs.target_prefix, sqs.json_version, sqs.api_version) == ("AmazonSQS", "1.0", "2012-11-05")
    assert sqs.protocols == ("json", "query")
    assert sqs.query_compatible
    assert sqs.xml_namespace == "http://queue.amazonaws.com/doc/2012-11-05/"
    assert len(sqs.operation_names) == 23
    assert sqs.operation("Sendmessage") is None
    assert find_error(sqs, "QueueDoesNotExist")[1:] == ("AWS.SimpleQueueService.NonExistentQueue", 400, True)
    assert find_error(sqs, "PurgeQueueInProgress").status == 403
    assert find_error(sqs, "ReceiptHandleIsInvalid").status == 404
    assert find_error(sqs, "InvalidAttributeName")[1:] == ("InvalidAttributeName", 400, True)
    assert find_error(sqs, "AccessDenied")[:3] == ("AccessDeniedException", "AccessDenied", 403)
    assert find_error(load("sns"), "NotFoundException")[1:] == ("NotFound", 404, True)
    assert find_error(load("kinesis"), "InternalFailureException")[1:] == ("InternalFailureException", 500, False)


def test_the_names_of_query_parameters() -> None:
    def names(service: str, name: str) -> dict[str, tuple[str, bool]]:
        shape = operation(service, name).input
        assert shape is not None
        return {n: (m.query_name, m.flattened) for n, m in shape.members.items()}

    assert names("sqs", "ReceiveMessage") == {
        "QueueUrl": ("QueueUrl", False),
        "AttributeNames": ("AttributeName", True),
        "MessageSystemAttributeNames": ("MessageSystemAttributeName", True),
        "MessageAttributeNames": ("MessageAttributeName", True),
        "MaxNumberOfMessages": ("MaxNumberOfMessages", False),
        "VisibilityTimeout": ("VisibilityTimeout", False),
        "WaitTimeSeconds": ("WaitTimeSeconds", False),
        "ReceiveRequestAttemptId": ("ReceiveRequestAttemptId", False),
    }
    assert names("sqs", "CreateQueue")["Attributes"] == ("Attribute", True)
    assert names("sqs", "TagQueue")["Tags"] == ("Tag", True)
    assert names("sqs", "SendMessageBatch")["Entries"] == ("SendMessageBatchRequestEntry", True)
    assert names("sns", "CreateTopic")["Attributes"] == ("Attributes", False)
    assert sqs_query.NAMES["MessageBodyAttributeMap"] == {"key": "Name", "value": "Value"}


# -- patterns


def _shapes(service: str) -> list[Shape]:
    found: dict[str, Shape] = {}

    def walk(shape: Shape) -> None:
        found[shape.name] = shape
        match shape:
            case Structure():
                for member in shape.members.values():
                    walk(member.shape)
            case List():
                walk(shape.member.shape)
            case Map():
                walk(shape.key.shape)
                walk(shape.value.shape)

    for name in load(service).operation_names:
        for root in (operation(service, name).input, operation(service, name).output):
            if root is not None:
                walk(root)
    return list(found.values())


@pytest.mark.parametrize("service", SERVICES)
def test_every_check_compiles_without_a_warning(service: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in load(service).operation_names:
            compile_check(operation(service, name))


@pytest.mark.parametrize(("pattern", "safe"), generate.SAFE_PATTERNS.items())
def test_a_safe_pattern_is_the_same_language(pattern: str, safe: str) -> None:
    for length in range(7):
        for letters in itertools.product(" \ta:\x00", repeat=length):
            text = "".join(letters)
            assert bool(re.fullmatch(pattern, text)) == bool(re.fullmatch(safe, text)), repr(text)


def test_no_pattern_can_be_made_to_run_for_long() -> None:
    """Each pattern against the strings that hurt backtracking; an exponential one would not come back."""
    for service in SERVICES:
        for shape in _shapes(service):
            if isinstance(shape, Scalar) and shape.matcher is not None and "\\p{" not in shape.matcher:
                longest = min(shape.max or 2048, 2048)
                for piece in ("a", " ", "\t ", "a ", "-", "a-", "/", ".", "0", ":", "%41", "\\"):
                    text = (piece * longest)[: longest - 1] + "\x00"
                    re.fullmatch(shape.matcher, text, re.ASCII)


# -- what AWS says of bad input; the texts are quoted from its answers


def refused(service: str, name: str, value: dict[str, Any]) -> tuple[str, str]:
    op = operation(service, name)
    assert not compile_check(op)(value)
    error = refusal(op, value)
    assert error.status == 400
    return error.code, error.message


def test_event_bridge_pattern() -> None:
    # https://github.com/triggermesh/triggermesh/issues/1306
    assert refused("events", "ListTargetsByRule", {"Rule": "rule/io_x"}) == (
        "ValidationException",
        "1 validation error detected: Value 'rule/io_x' at 'rule' failed to satisfy constraint: "
        r"Member must satisfy regular expression pattern: [\.\-_A-Za-z0-9]+",
    )


def test_the_path_into_a_list() -> None:
    # https://github.com/aws/aws-sdk-js-v3/issues/3714
    _, message = refused("events", "PutEvents", {"Entries": [{"EventBusName": "a b"}]})
    assert message.startswith("1 validation error detected: Value 'a b' at 'entries.1.member.eventBusName' failed to")


def test_a_blob_and_a_null() -> None:
    # https://github.com/mhart/kinesis/issues/8 (then with a lower limit)
    data = operation("kinesis", "PutRecord").input.members["Data"].shape
    value = {"Data": b"x" * (data.max + 1), "PartitionKey": ""}
    size = f"[pos=0 lim={data.max + 1} cap={data.max + 1}]"
    assert refused("kinesis", "PutRecord", value) == (
        "ValidationException",
        f"2 validation errors detected: Value 'java.nio.HeapByteBuffer{size}' at 'data' failed to satisfy constraint: "
        f"Member must have length less than or equal to {data.max}; "
        "Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1",
    )


def test_numbers_enums_and_collections() -> None:
    def sentence(name: str, value: dict[str, Any]) -> str:
        message = refused("kinesis", name, value)[1]
        return message.removeprefix("1 validation error detected: ")

    assert sentence("GetRecords", {"ShardIterator": "i", "Limit": 10001}) == (
        "Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"
    )
    assert sentence("GetShardIterator", {"ShardId": "s", "ShardIteratorType": "HEAD"}) == (
        "Value 'HEAD' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: "
        "[AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP]"
    )
    assert sentence("RemoveTagsFromStream", {"TagKeys": ["k", ""]}) == (
        "Value '[k, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: "
        "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"
    )
    assert sentence("AddTagsToStream", {"Tags": {"k": "v" * 257}}) == (
        f"Value '{{k={'v' * 257}}}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: "
        "[Member must have length less than or equal to 256, Member must have length greater than or equal to 0]"
    )
    assert sentence("PutRecords", {"Records": [None]}) == (
        "Value null at 'records.1.member' failed to satisfy constraint: Member must not be null"
    )
    assert sentence("PutRecords", {"Records": []}) == (
        "Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"
    )


def test_sns_has_another_code() -> None:
    code, message = refused("sns", "Publish", {})
    assert (code, message) == (
        "ValidationError",
        "1 validation error detected: Value null at 'message' failed to satisfy constraint: Member must not be null",
    )


def test_what_is_sensitive_is_not_quoted() -> None:
    auth = {"BasicAuthParameters": {"Username": "u", "Password": ""}}
    value = {"Name": "n", "AuthorizationType": "BASIC", "AuthParameters": auth}
    message = refused("events", "CreateConnection", value)[1]
    assert "Value at 'authParameters.basicAuthParameters.password' failed to satisfy constraint" in message


@pytest.mark.parametrize(
    ("name", "value", "parameter"),
    [
        ("SendMessage", {"MessageBody": "b"}, "QueueUrl"),
        ("SendMessage", {"QueueUrl": "q"}, "MessageBody"),
        # https://github.com/Admiral-Piett/goaws/issues/190 quotes SQS on an empty body
        ("SendMessage", {"QueueUrl": "q", "MessageBody": ""}, "MessageBody"),
        # https://github.com/aws/aws-sdk-js-v3/issues/5478
        ("DeleteMessage", {"QueueUrl": "q"}, "MessageHandle"),
        ("ChangeMessageVisibility", {"QueueUrl": "q", "ReceiptHandle": "r"}, "VisibilityTimeout"),
        # https://github.com/ali-essam/wtsqs/issues/7
        ("SendMessageBatch", {"QueueUrl": "q", "Entries": [{}]}, "SendMessageBatchRequestEntry.1.Id"),
        # https://github.com/aws/aws-sdk-js/issues/2388
        (
            "DeleteMessageBatch",
            {"QueueUrl": "q", "Entries": [{"ReceiptHandle": "r"}]},
            "DeleteMessageBatchRequestEntry.1.Id",
        ),
        (
            "SendMessageBatch",
            {"QueueUrl": "q", "Entries": [{"Id": "1", "MessageBody": "b"}, None]},
            "SendMessageBatchRequestEntry.2",
        ),
        # https://github.com/pulumi/pulumi-aws/issues/5677
        ("SetQueueAttributes", {"QueueUrl": "q", "Attributes": {}}, "Attribute.Name"),
        ("SetQueueAttributes", {"QueueUrl": "q"}, "Attribute.Name"),
        ("TagQueue", {"QueueUrl": "q"}, "Tag.Key"),
        ("AddPermission", {"QueueUrl": "q", "Label": "l", "Actions": ["*"]}, "AWSAccountId"),
    ],
)
def test_what_sqs_misses(name: str, value: dict[str, Any], parameter: str) -> None:
    assert refused("sqs", name, value) == ("MissingParameter", f"The request must contain the parameter {parameter}.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SendMessageBatch", {"QueueUrl": "q"}),  # EmptyBatchRequest
        ("SendMessageBatch", {"QueueUrl": "q", "Entries": []}),
        ("SendMessage", {"QueueUrl": "q", "MessageBody": "b", "MessageAttributes": {"a": {}}}),
        ("ReceiveMessage", {"QueueUrl": "q", "MaxNumberOfMessages": 11, "AttributeNames": ["What"]}),
        ("ChangeMessageVisibility", {"QueueUrl": "q", "ReceiptHandle": "r", "VisibilityTimeout": 0}),
        ("ListQueues", {}),
    ],
)
def test_what_is_for_sqs_itself_to_refuse(name: str, value: dict[str, Any]) -> None:
    assert compile_check(operation("sqs", name))(value)


def test_unknown_operations() -> None:
    def said(service: str, *, query: bool) -> tuple[str, str]:
        error = unknown_operation(load(service), "Foo", query=query)
        assert isinstance(error, WireError)
        return error.code, error.message

    assert said("sqs", query=True) == ("InvalidAction", "The action Foo is not valid for this endpoint.")
    assert said("sns", query=True) == ("InvalidAction", "Could not find operation Foo for version 2010-03-31")
    assert said("sqs", query=False) == ("InvalidAction", "")
    assert said("kinesis", query=False) == ("UnknownOperationException", "")
