"""Kinesis without a socket, and with a clock that stands still: requests straight to the application."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

from broker.clock import ManualClock
from broker.core import Broker
from broker.entropy import Entropy
from broker.limits import RELAXED, Limits
from broker.store.sqlite import SqliteStore
from protocols.application import Application, Settings
from protocols.http.message import Answer, Cancel, Request, Response, StreamingResponse
from protocols.wire.eventstream import decode

ACCOUNT = "111111111111"
REGION = "us-east-1"
START_MS = 1_700_000_000_000
JSON, CBOR = b"application/x-amz-json-1.1", b"application/x-amz-cbor-1.1"
SHARD = "shardId-000000000000"


class Refusal(NamedTuple):
    code: str
    message: str
    status: int


class Reader:
    """Who reads a streaming answer: a Sink that takes all there is, or nothing while it is not `ready`."""

    def __init__(self, answer: StreamingResponse) -> None:
        self.headers = dict(answer.headers)
        self.raw = b""
        self.ended = self.aborted = False
        self.takes = True
        self._ready: Callable[[], None] = lambda: None
        self.leave: Cancel = answer.start(self)

    def write(self, data: bytes) -> bool:
        assert not self.ended
        self.raw += data
        return self.takes

    def on_ready(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def catch_up(self) -> None:
        self.takes = True
        self._ready()

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def messages(self) -> list[tuple[dict[str, Any], bytes]]:
        return [(message.headers, message.payload) for message in decode(self.raw)]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a subscription, read as JSON, without the first message, which is none."""
        first, *rest = self.messages
        assert first[0][":event-type"] == "initial-response"
        return [json.loads(payload) for headers, payload in rest if headers[":message-type"] == "event"]

    @property
    def error(self) -> tuple[str, str] | None:
        """The exception that the stream ended with."""
        headers, payload = self.messages[-1]
        if headers[":message-type"] != "exception":
            return None
        return str(headers[":exception-type"]), json.loads(payload)["message"]


class VirtualKinesis:
    def __init__(self, limits: Limits = RELAXED, settings: Settings | None = None) -> None:
        self.clock = ManualClock(START_MS)
        self._store = SqliteStore(None)
        self.broker = Broker(self._store, self.clock, Entropy(1), limits)
        self._application = Application(self.broker, settings)

    def close(self) -> None:
        self.broker.close()
        self._store.close()

    def __call__(self, operation: str, **given: Any) -> Any:
        """The output of an operation that succeeds. Blobs are given as bytes, and come back as base64."""
        answer = self.raw(operation, encoded(given))
        assert answer.status == 200, answer.body
        return json.loads(answer.body) if answer.body else {}

    def refusal(self, operation: str, **given: Any) -> Refusal:
        answer = self.raw(operation, encoded(given))
        document = json.loads(answer.body)
        return Refusal(document["__type"], document.get("message") or document.get("Message") or "", answer.status)

    def raw(
        self, operation: str, body: bytes, *, media_type: bytes = JSON, account: str = ACCOUNT, region: str = REGION
    ) -> Response:
        answer = self._send(operation, body, media_type, account, region)
        assert isinstance(answer, Response)
        return answer

    def subscribe(self, *, media_type: bytes = JSON, body: bytes | None = None, **given: Any) -> Reader:
        """SubscribeToShard, and who reads it."""
        answer = self._send("SubscribeToShard", body or encoded(given), media_type, ACCOUNT, REGION)
        assert isinstance(answer, StreamingResponse), getattr(answer, "body", None)
        assert answer.status == 200
        reader = Reader(answer)
        self.clock.settle()
        return reader

    def _send(self, operation: str, body: bytes, media_type: bytes, account: str, region: str) -> Answer:
        credential = f"{account}/20261121/{region}/kinesis/aws4_request"
        headers = [
            (b"x-amz-target", f"Kinesis_20131202.{operation}".encode()),
            (b"content-type", media_type),
            (
                b"authorization",
                f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0".encode(),
            ),
        ]
        answers: list[Answer] = []
        self._application(Request("POST", b"/", headers, body), answers.append)
        self.clock.settle()
        (answer,) = answers
        return answer

    # short forms

    def stream(self, name: str = "s", shards: int = 1, **given: Any) -> str:
        """A new stream's ARN."""
        self("CreateStream", StreamName=name, ShardCount=shards, **given)
        return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"

    def consumer(self, name: str = "c", stream: str = "s") -> str:
        """A new consumer's ARN."""
        arn = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"
        made = self("RegisterStreamConsumer", StreamARN=arn, ConsumerName=name)
        return str(made["Consumer"]["ConsumerARN"])

    def put(self, *texts: str, key: str = "k", name: str = "s") -> list[str]:
        """The numbers of new records."""
        return [
            self("PutRecord", StreamName=name, Data=text.encode(), PartitionKey=key)["SequenceNumber"] for text in texts
        ]

    def iterator(self, kind: str = "TRIM_HORIZON", shard: str = SHARD, name: str = "s", **given: Any) -> str:
        asked = {"StreamName": name, "ShardId": shard, "ShardIteratorType": kind, **given}
        return str(self("GetShardIterator", **asked)["ShardIterator"])


def encoded(given: dict[str, Any]) -> bytes:
    return json.dumps(given, default=lambda value: b64encode(value).decode()).encode()
