"""Anything at all to every operation of queues on streams and of channels: an answer or a refusal, never a 500.

As test_kinesis_fuzz.py does for the others, but without a socket: receives wait, so time must jump. More with -m slow.
"""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kinesis_fuzz import KINESIS, REFUSED, known, quick, slow
from test_kinesis_queues import CHANNEL, S3, Virtual, dead_after, make_stream
from test_shapes_values import values
from virtual_kinesis import CBOR, JSON

from protocols.http.message import Request
from protocols.wire import cbor

OPERATIONS = sorted(name for name in KINESIS.operation_names if "Queue" in name or "Channel" in name)


class Target(Virtual):
    """Has a little of everything."""

    def __init__(self) -> None:
        super().__init__()
        stream = make_stream(self)
        other = make_stream(self, "other")
        position = {"StreamARN": stream, "StartingPosition": {"Type": "TRIM_HORIZON"}}
        queues = []
        for name, attributes in (("q", {"VisibilityTimeoutSeconds": 0}), ("dead", dead_after(1))):
            given = {"QueueName": name, "StreamConfigurationList": [position], "QueueAttributes": attributes}
            queues.append(self("CreateQueue", **given)["QueueDescription"]["QueueARN"])
        channel = self("CreateChannel", **CHANNEL, S3DestinationConfiguration=S3)["ChannelDescription"]["ChannelARN"]
        self.put("a", "b", "c")
        handles = []
        for queue in queues:
            for record in self("ReceiveQueueRecords", QueueARN=queue, VisibilityTimeoutSeconds=0)["QueueRecords"]:
                handles.append(record["ReceiptHandle"])
        for record in self("ReceiveDeadLetterQueueRecords", QueueARN=queues[1])["QueueRecords"]:
            handles.append(record["ReceiptHandle"])
        tokens = [self(operation, MaxResults=1).get("NextToken") for operation in ("ListQueues", "ListChannels")]
        self.known: dict[str, list[Any]] = {
            "StreamARN": [stream, other],
            "QueueARN": queues,
            "ChannelARN": [channel],
            "QueueName": ["q", "new"],
            "ChannelName": ["c", "new"],
            "ReceiptHandle": handles,
            "NextToken": [token for token in tokens if token],
            "Timestamp": [0, 1e300, -1e300, 1_700_000_000.5],
            "StreamCreationTimestamp": [1_700_000_000, 1e300, -1e300],
            "DataFreshnessInSeconds": [0, 1, -1, 10**30],
            "MaxReceiveCount": [1, 1_000],
        }

    def check(self, operation: str, body: bytes, media_type: bytes) -> None:
        answers: list[Any] = []
        headers = [(b"x-amz-target", f"Kinesis_20131202.{operation}".encode()), (b"content-type", media_type)]
        self._application(Request("POST", b"/", headers, body), answers.append)
        self.clock.settle()
        self.clock.advance(20_000)
        [answer] = answers
        assert answer.status in (200, 400), (answer.status, answer.body)
        if answer.status == 400 and media_type == JSON:
            assert json.loads(answer.body)["__type"] in REFUSED, answer.body


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with contextlib.closing(Target()) as target:
        yield target


def ask_anything(target: Target, operation: str, data: st.DataObject) -> None:
    shape = KINESIS.operation(operation)
    assert shape is not None
    assert shape.input is not None
    value = known(target, data, data.draw(values(shape.input)))  # type: ignore[arg-type]
    if operation.startswith("Delete"):  # the others live on what is there
        value[operation.removeprefix("Delete") + "ARN"] = "arn:aws:kinesis:us-east-1:111111111111:queue/none"
    if data.draw(st.booleans()):
        body = json.dumps(value, default=lambda blob: b64encode(blob).decode()).encode(errors="replace")
        target.check(operation, body, JSON)
    else:
        with contextlib.suppress(UnicodeEncodeError, OverflowError):
            target.check(operation, cbor.encode_shape(shape.input, value), CBOR)


@pytest.mark.parametrize("operation", OPERATIONS)
@quick
@given(data=st.data())
def test_anything(target: Target, operation: str, data: st.DataObject) -> None:
    ask_anything(target, operation, data)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@slow
@given(data=st.data())
def test_much_of_anything(target: Target, operation: str, data: st.DataObject) -> None:
    ask_anything(target, operation, data)
