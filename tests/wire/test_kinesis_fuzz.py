"""Anything at all to every operation of Kinesis, over HTTP, in JSON and in CBOR: an answer or a refusal, never a 500.

Values are of the model's shapes, near their constraints, and often name what is there, so that they get as far as the
engine; or they are bytes that are hardly anything. More with -m slow. Run one seed again: --hypothesis-seed=N
"""

from __future__ import annotations

import contextlib
import http.client
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_shapes_values import values

from protocols.shapes.model import load
from protocols.wire import cbor

KINESIS = load("kinesis")
OPERATIONS = sorted(name for name in KINESIS.operation_names if "Queue" not in name and "Channel" not in name)
JSON, CBOR = "application/x-amz-json-1.1", "application/x-amz-cbor-1.1"
SHARD = "shardId-000000000000"
REFUSED = {  # what a client may be told, and by whom: 400 it is always
    *KINESIS.errors,
    "SerializationException",
    "UnknownOperationException",
}
quick = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
slow = settings(quick, max_examples=300)


class Target:
    """A broker in which an account has a little of everything, and one connection to it."""

    def __init__(self, sidebus: Any, kinesis: Any, account: str) -> None:
        self._connection = http.client.HTTPConnection(sidebus.host, timeout=30)
        credential = f"{account}/20261121/us-east-1/kinesis/aws4_request"
        self._authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"
        kinesis.create_stream(StreamName="s", ShardCount=2)
        kinesis.split_shard(StreamName="s", ShardToSplit=SHARD, NewStartingHashKey="10")
        kinesis.create_stream(StreamName="d", StreamModeDetails={"StreamMode": "ON_DEMAND"})
        arn = f"arn:aws:kinesis:us-east-1:{account}:stream/s"
        consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
        put = kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")
        iterator = kinesis.get_shard_iterator(StreamName="s", ShardId=SHARD, ShardIteratorType="TRIM_HORIZON")
        token = kinesis.list_shards(StreamName="s", MaxResults=1)["NextToken"]
        shard, number = put["ShardId"], put["SequenceNumber"]
        streams, shards, numbers = ["s", "d", "new"], [SHARD, shard, "shardId-000000000002"], [number, "0", "17"]
        self.known: dict[str, list[Any]] = {
            "StreamName": streams,
            "StreamARN": [arn, arn[:-1] + "d"],
            "ResourceARN": [arn, consumer],
            "ConsumerARN": [consumer],
            "ConsumerName": ["c", "e"],
            "ShardId": shards,
            "ShardToSplit": shards,
            "ShardToMerge": shards,
            "AdjacentShardToMerge": shards,
            "ExclusiveStartShardId": shards,
            "ShardIterator": [iterator["ShardIterator"], iterator["ShardIterator"][:-4] + "AAA="],
            "NextToken": [token],
            "SequenceNumber": numbers,
            "StartingSequenceNumber": numbers,
            "SequenceNumberForOrdering": numbers,
            "PartitionKey": ["k", "schlüssel"],
            "ExplicitHashKey": ["0", str(2**128 - 1), str(2**128)],
            "NewStartingHashKey": ["10", str(2**127)],
            "ShardCount": [1, 3],
            "TargetShardCount": [1, 3],
            "WarmThroughputMiBps": [1, 9],
            "Timestamp": [0, 1e300, -1e300, 1e12 + 0.5],
            "StreamCreationTimestamp": [0, 1e300, -1e300],
            "Policy": ["{}", '{"Statement":[]}', '{"Statement":[1,{"Effect":"Allow","Principal":{"AWS":7}}]}'],
        }

    def close(self) -> None:
        self._connection.close()

    def ask(self, operation: str, body: bytes, media_type: str) -> tuple[int, bytes]:
        headers = {
            "X-Amz-Target": f"Kinesis_20131202.{operation}",
            "Content-Type": media_type,
            "Authorization": self._authorization,
        }
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        if response.getheader("content-type") == "application/vnd.amazon.eventstream":
            response.read(16)
            self._connection.close()  # it would go on for five minutes
            return response.status, b"{}"
        return response.status, response.read()

    def check(self, operation: str, body: bytes, media_type: str) -> None:
        status, answer = self.ask(operation, body, media_type)
        assert status in (200, 400), (status, answer)
        if status == 400 and media_type == JSON:
            assert json.loads(answer)["__type"] in REFUSED, answer


@pytest.fixture(scope="module")
def target(sidebus: Any, boto_session: Any) -> Iterator[Target]:
    account = "717171717171"
    kinesis = boto_session.client(
        "kinesis",
        endpoint_url=sidebus.url,
        region_name="us-east-1",
        aws_access_key_id=account,
        aws_secret_access_key="any",
    )
    with contextlib.closing(kinesis), contextlib.closing(Target(sidebus, kinesis, account)) as made:
        yield made
    assert "Traceback" not in sidebus.log.read_text()
    sidebus.request("POST", f"/_sidebus/reset?account={account}")


def known(target: Target, data: st.DataObject, value: Any) -> Any:
    """The same with names of what is there, mostly."""
    if isinstance(value, list):
        return [known(target, data, item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {name: known(target, data, item) for name, item in value.items()}
    for name in changed.keys() & target.known.keys():
        if data.draw(st.integers(0, 9)) < 8:
            changed[name] = data.draw(st.sampled_from(target.known[name]))
    return changed


def ask_anything(target: Target, operation: str, data: st.DataObject) -> None:
    shape = KINESIS.operation(operation)
    assert shape is not None
    value = {} if shape.input is None else known(target, data, data.draw(values(shape.input)))
    for name in ("StreamName", "StreamARN"):  # else most of them would name no stream
        if shape.input is not None and name in shape.input.members and not {"StreamARN", "NextToken"} & value.keys():
            value[name] = target.known[name][0]
    if operation in ("CreateStream", "DeleteStream"):  # the others live on what is there
        value.pop("StreamARN", None)
        value["StreamName"] = data.draw(st.sampled_from(["new", "other"]))
    if operation == "DeregisterStreamConsumer":
        value.pop("ConsumerARN", None)
        value["ConsumerName"] = "e"
    if data.draw(st.booleans()):
        body = json.dumps(value, default=lambda blob: b64encode(blob).decode()).encode(errors="replace")
        target.check(operation, body, JSON)
    elif shape.input is not None:
        with contextlib.suppress(UnicodeEncodeError, OverflowError):
            target.check(operation, cbor.encode_shape(shape.input, value), CBOR)


def ask_hardly_anything(target: Target, operation: str, data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"\xbf" + rest))
    target.check(operation, body, CBOR)
    text = st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner),
        max_leaves=10,
    )
    target.check(operation, json.dumps(data.draw(text)).encode(), JSON)
    target.check(operation, body, JSON)


NAMES = sorted(
    {name for one in OPERATIONS if (shape := KINESIS.operation(one)) and shape.input for name in shape.input.members}
)


@pytest.mark.parametrize("operation", OPERATIONS)
@quick
@given(data=st.data())
def test_anything(target: Target, operation: str, data: st.DataObject) -> None:
    ask_anything(target, operation, data)


@pytest.mark.parametrize("operation", OPERATIONS)
@quick
@given(data=st.data())
def test_hardly_anything(target: Target, operation: str, data: st.DataObject) -> None:
    ask_hardly_anything(target, operation, data)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@slow
@given(data=st.data())
def test_much_of_anything(target: Target, operation: str, data: st.DataObject) -> None:
    ask_anything(target, operation, data)
    ask_hardly_anything(target, operation, data)
