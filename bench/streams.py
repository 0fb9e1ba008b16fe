"""Kinesis's requests as bytes and the checks of their answers, in JSON (as boto3) and in CBOR (as the Java SDK).

Records hold the same bytes, so that a check counts how often their beginning comes: it looks at a tenth of an answer
and is ten times as fast as a parser. The rest is held to its length. Set-up requests are JSON in both.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import time

from bench.wire import GET_ITERATOR, GET_RECORDS, PUT_RECORD, PUT_RECORDS, Json, Refused, Step

JSON_TYPE, CBOR_TYPE = "application/x-amz-json-1.1", "application/x-amz-cbor-1.1"
MARK_BYTES = 30  # of the data, that mark a record: base64 without padding
READY_TIMEOUT_S = 20.0


class Stream(Json):
    """AWS JSON 1.1 about one stream."""

    service, target, content_type, query_mode = "kinesis", "Kinesis_20131202", JSON_TYPE, False
    _VALUE = re.compile(rb'" ?: ?"([^"]+)')
    _NONE_FAILED = re.compile(rb'FailedRecordCount" ?: ?0')

    def __init__(self, port: int, size: int = 1024) -> None:
        super().__init__(port, size)
        self.data = self.body.encode()
        self.mark = base64.b64encode(self.data[:MARK_BYTES])
        self.read_mark = self.mark
        self.checks = {
            PUT_RECORD: self._check_put,
            PUT_RECORDS: self._check_put,
            GET_RECORDS: self._check_records,
            GET_ITERATOR: self._check_iterator,
        }

    def ping(self) -> None:
        self._ask("ListStreams", {})

    # what is done once

    def create(self, name: str, shards: int) -> None:
        """A new stream; from here on steps are about it."""
        self.stream = name
        self._ask("CreateStream", {"StreamName": name, "ShardCount": shards})
        self._until_ready("DescribeStream", {"StreamName": name}, "StreamDescription", "StreamStatus")
        described = json.loads(self._ask("DescribeStream", {"StreamName": name}))["StreamDescription"]
        self.arn = described["StreamARN"]
        self.shards = [shard["ShardId"] for shard in described["Shards"]]

    def drop(self) -> None:
        self._ask("DeleteStream", {"StreamName": self.stream, "EnforceConsumerDeletion": True})

    def register(self, name: str) -> str:
        """The ARN of a new consumer, once it may subscribe."""
        self._ask("RegisterStreamConsumer", {"StreamARN": self.arn, "ConsumerName": name})
        about: dict[str, object] = {"StreamARN": self.arn, "ConsumerName": name}
        self._until_ready("DescribeStreamConsumer", about, "ConsumerDescription", "ConsumerStatus")
        answer = json.loads(self._ask("DescribeStreamConsumer", about))
        return str(answer["ConsumerDescription"]["ConsumerARN"])

    def _until_ready(self, action: str, about: dict[str, object], of: str, status: str) -> None:
        until = time.monotonic() + READY_TIMEOUT_S
        while json.loads(self._ask(action, about))[of][status] != "ACTIVE":
            if time.monotonic() > until:
                raise Refused(f"not active in {READY_TIMEOUT_S:.0f} s")
            time.sleep(0.05)

    def iterator(self, shard: str) -> bytes:
        """From the first record on."""
        about: dict[str, object] = {"StreamName": self.stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        return str(json.loads(self._ask("GetShardIterator", about))["ShardIterator"]).encode()

    # what is done again and again

    def put_record(self, key: str) -> Step:
        members: dict[str, object] = {"StreamName": self.stream, "Data": self.data, "PartitionKey": key}
        return self.step(PUT_RECORD, "PutRecord", members)

    def put_records(self, keys: list[str]) -> Step:
        records = [{"Data": self.data, "PartitionKey": key} for key in keys]
        return self.step(PUT_RECORDS, "PutRecords", {"StreamName": self.stream, "Records": records}, len(keys))

    def get_records(self, iterator: bytes, limit: int) -> Step:
        return self.step(GET_RECORDS, "GetRecords", {"ShardIterator": iterator.decode(), "Limit": limit}, limit)

    def get_iterator(self, shard: str, at_s: float) -> Step:
        """To the first record that came at this time or later."""
        about: dict[str, object] = {"StreamName": self.stream, "ShardId": shard, "Timestamp": at_s}
        return self.step(GET_ITERATOR, "GetShardIterator", about | {"ShardIteratorType": "AT_TIMESTAMP"}, 0)

    def subscribe(self, consumer: str, shard: str, position: str) -> bytes:
        """The whole request; always in JSON."""
        about = {"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": {"Type": position}}
        body = json.dumps(about).encode()
        return self._head("SubscribeToShard", len(body)) + body

    def _encode(self, action: str, members: dict[str, object]) -> bytes:
        return json.dumps(members, default=lambda data: base64.b64encode(data).decode()).encode()

    def _check_put(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        failed = buffer.find(b"FailedRecordCount", start, end)
        whole = failed < 0 or self._NONE_FAILED.match(buffer, failed) is not None
        return [] if whole and buffer.count(b"SequenceNumber", start, end) == entries else None

    def _check_records(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        """The next iterator, once for each record."""
        count = buffer.count(self.read_mark, start, end)
        if count > entries or end - start < count * len(self.data):
            return None
        at = buffer.find(b"NextShardIterator", start, start + 256)
        if at < 0:
            at = buffer.rfind(b"NextShardIterator", start, end)
        iterator = self._text(buffer, at + len(b"NextShardIterator"))
        return [iterator] * count if at >= 0 and iterator else None

    def _check_iterator(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        at = buffer.find(b"ShardIterator", start, end)
        iterator = self._text(buffer, at + len(b"ShardIterator"))
        return [iterator] if at >= 0 and iterator else None

    def _text(self, buffer: bytearray, at: int) -> bytes:
        """The value behind the member whose name ends here."""
        found = self._VALUE.match(buffer, at)
        return found[1] if found else b""


class CborStream(Stream):
    """AWS CBOR 1.1."""

    name = "cbor"
    _NONE_FAILED = re.compile(rb"FailedRecordCount\x00")

    def __init__(self, port: int, size: int = 1024) -> None:
        super().__init__(port, size)
        self.read_mark = self.data[:MARK_BYTES]

    def step(self, kind: int, action: str, members: dict[str, object], entries: int = 1) -> Step:
        body = cbor(members)
        return kind, self._head(action, len(body)).replace(JSON_TYPE.encode(), CBOR_TYPE.encode()) + body, entries

    def _text(self, buffer: bytearray, at: int) -> bytes:
        more = {0x78: 1, 0x79: 2}.get(buffer[at], 0)  # bytes of length behind the first
        size = int.from_bytes(buffer[at + 1 : at + 1 + more]) if more else buffer[at] & 0x1F
        return bytes(buffer[at + 1 + more : at + 1 + more + size])


def cbor(value: object) -> bytes:
    """RFC 8949, as far as requests need it; floats are times (tag 1, in milliseconds, as the Java SDK writes them)."""
    if isinstance(value, float):
        return b"\xc1" + _cbor_head(0, round(value * 1000))
    if isinstance(value, int):
        return _cbor_head(0, value)
    if isinstance(value, bytes):
        return _cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return _cbor_head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _cbor_head(4, len(value)) + b"".join(map(cbor, value))
    assert isinstance(value, dict)
    return _cbor_head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


def _cbor_head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    for code, form in ((24, ">BB"), (25, ">BH"), (26, ">BI")):
        if number < 1 << 8 * (struct.calcsize(form) - 1):
            return struct.pack(form, kind << 5 | code, number)
    return struct.pack(">BQ", kind << 5 | 27, number)


PROTOCOLS: dict[str, type[Stream]] = {"json": Stream, "cbor": CborStream}
