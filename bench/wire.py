"""Requests as bytes and the checks of their answers, for SQS's two protocols, SNS's and EventBridge's.

The load generator knows neither JSON nor XML: it sends what it is given here and hands each answer back to be checked.
A request is a `Step`: what it is, its bytes, and how many entries its answer must confirm. Headers are those of boto3
(JSON) and of botocore 1.29 (query), with a signature that has the right form and is never valid. Checks look for bytes
where they could parse: an answer counts only if it holds the MD5 of every body sent or received.
"""

from __future__ import annotations

import hashlib
import html
import http.client
import json
import re
from collections.abc import Callable
from urllib.parse import quote_plus, urlencode, urlsplit

PUBLISH, SEND, SEND_BATCH, PUT_EVENTS, PUT_RECORD, PUT_RECORDS, RECEIVE, GET_RECORDS, *_REST = range(13)
DELETE, DELETE_BATCH, GET_ITERATOR, PUSH, SET_UP = _REST
KINDS = (
    *("publish", "send", "send ten", "put events", "put record", "put records"),
    *("receive ten", "get records"),
    *("delete", "delete ten", "get iterator", "push", "set up"),
)

Step = tuple[int, bytes, int]
"""Which of the kinds, the whole request, and the entries to confirm."""

Check = Callable[[bytearray, int, int, int], "list[bytes] | None"]
"""(buffer, start, end, entries) of a body with status 200 -> what was received, None if wrong.

That is receipt handles, the next iterator once for each record, an iterator; [] for what receives nothing."""

Attributes = dict[str, str]

CREDENTIAL = "Credential=test/20260101/us-east-1"
SIGNATURE = "5e" * 32


def message_body(size: int) -> str:
    """A JSON document of exactly this many bytes: quotes to escape, as real bodies have."""
    head, tail = '{"type": "order.placed", "order": "5f3a9c", "total": 118.5, "note": "', '"}'
    filler = "lorem ipsum dolor sit amet " * (size // 27 + 1)
    body = head + filler[: max(0, size - len(head) - len(tail))] + tail
    return body if len(body) == size else "x" * size


class Refused(Exception):
    """A set-up request (create, count, delete) that was not answered with 200."""


class Wire:
    """One protocol spoken to one server about one queue. Subclasses write the bytes and know the answers."""

    name: str
    _HANDLE: re.Pattern[bytes]

    def __init__(self, port: int, size: int = 1024) -> None:
        self.port = port
        self.body = message_body(size)
        self.md5 = hashlib.md5(self.body.encode()).hexdigest().encode()
        self.queue_url = ""
        self._heads: dict[tuple[str, int], bytes] = {}
        self.checks: dict[int, Check] = {
            SEND: self._check_sent,
            SEND_BATCH: self._check_sent,
            RECEIVE: self._check_received,
            DELETE: self._check_deleted,
            DELETE_BATCH: self._check_deleted_all,
        }

    def use_queue(self, url: str) -> None:
        """From here on steps are about this queue."""
        self.queue_url = url
        self._heads.clear()
        entries = [{"Id": str(i), "MessageBody": self.body} for i in range(10)]
        self.send: Step = (SEND, self._request("SendMessage", {"MessageBody": self.body}), 1)
        self.send_ten: Step = (SEND_BATCH, self._request("SendMessageBatch", {"Entries": entries}), 10)
        self.receive: Step = (RECEIVE, self._request("ReceiveMessage", {"MaxNumberOfMessages": 10}), 10)

    def delete(self, handle: bytes) -> Step:
        raise NotImplementedError

    def delete_all(self, handles: list[bytes]) -> Step:
        raise NotImplementedError

    def create_queue(self, name: str, attributes: Attributes) -> str:
        raise NotImplementedError

    def queue_attributes(self) -> Attributes:
        raise NotImplementedError

    def count_messages(self) -> int:
        """Messages in the queue, whether waiting, delayed or in flight."""
        attributes = self.queue_attributes()
        return sum(int(value) for key, value in attributes.items() if key.startswith("ApproximateNumberOf"))

    def receive_bodies(self) -> list[str]:
        """Of up to ten messages."""
        raise NotImplementedError

    def delete_queue(self) -> None:
        self._ask("DeleteQueue", {"QueueUrl": self.queue_url})

    def ping(self) -> None:
        """One small request; raises while the server does not answer it."""
        self._ask("ListQueues", {})

    def step(self, kind: int, action: str, members: dict[str, object], entries: int = 1) -> Step:
        body = self._encode(action, members)
        return kind, self._head(action, len(body)) + body, entries

    def _request(self, action: str, members: dict[str, object]) -> bytes:
        body = self._encode(action, {"QueueUrl": self.queue_url} | members)
        return self._head(action, len(body)) + body

    def _head(self, action: str, length: int) -> bytes:
        """The request line and headers for a body of this length."""
        head = self._heads.get((action, length))
        if head is None:
            lines = [f"POST {self._path()} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
            lines += [f"{key}: {value}" for key, value in self._headers(action).items()]
            head = "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()
            self._heads[action, length] = head
        return head

    def _ask(self, action: str, members: dict[str, object]) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            path = self._path() if "QueueUrl" in members else "/"
            connection.request("POST", path, self._encode(action, members), self._headers(action))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            said = " ".join(body.decode(errors="replace").split())
            raise Refused(f"{action}: {answer.status} {said[:150]}")
        return body

    def _path(self) -> str:
        raise NotImplementedError

    def _headers(self, action: str) -> dict[str, str]:
        raise NotImplementedError

    def _encode(self, action: str, members: dict[str, object]) -> bytes:
        raise NotImplementedError

    # The checks. A body's MD5 looks the same in both protocols.

    def _check_sent(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        return [] if buffer.count(self.md5, start, end) == entries else None

    def _check_received(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        handles: list[bytes] = self._HANDLE.findall(buffer, start, end)
        whole = end - start >= len(handles) * len(self.body)
        return handles if whole and buffer.count(self.md5, start, end) == len(handles) <= entries else None

    def _check_deleted(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        return []  # the status says it all; what is left in the queue is counted after the round

    def _check_deleted_all(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        raise NotImplementedError


class Json(Wire):
    """AWS JSON 1.0, as boto3 sends it."""

    name = "json"
    service, target, content_type, query_mode = "sqs", "AmazonSQS", "application/x-amz-json-1.0", True
    _HANDLE = re.compile(rb'"ReceiptHandle" ?: ?"([^"]+)"')

    def use_queue(self, url: str) -> None:
        super().use_queue(url)
        self._delete_start = b'{"QueueUrl": "%b", "ReceiptHandle": "' % url.encode()

    def delete(self, handle: bytes) -> Step:
        # A handle goes back in the escaped form in which it came, so nothing is decoded here.
        body = b'%b%b"}' % (self._delete_start, handle)
        return DELETE, self._head("DeleteMessage", len(body)) + body, 1

    def delete_all(self, handles: list[bytes]) -> Step:
        entries = b", ".join([b'{"Id": "%d", "ReceiptHandle": "%b"}' % pair for pair in enumerate(handles)])
        body = b'{"QueueUrl": "%b", "Entries": [%b]}' % (self.queue_url.encode(), entries)
        return DELETE_BATCH, self._head("DeleteMessageBatch", len(body)) + body, len(handles)

    def create_queue(self, name: str, attributes: Attributes) -> str:
        answer = json.loads(self._ask("CreateQueue", {"QueueName": name, "Attributes": attributes}))
        return str(answer["QueueUrl"])

    def queue_attributes(self) -> Attributes:
        answer = self._ask("GetQueueAttributes", {"QueueUrl": self.queue_url, "AttributeNames": ["All"]})
        attributes: Attributes = json.loads(answer)["Attributes"]
        return attributes

    def receive_bodies(self) -> list[str]:
        answer = self._ask("ReceiveMessage", {"QueueUrl": self.queue_url, "MaxNumberOfMessages": 10})
        return [str(message["Body"]) for message in json.loads(answer).get("Messages", [])]

    def _path(self) -> str:
        return "/"

    def _headers(self, action: str) -> dict[str, str]:
        query_mode = {"x-amzn-query-mode": "true"} if self.query_mode else {}
        signed = ";".join(["content-type;host;x-amz-date;x-amz-target", *query_mode])
        return {
            "Accept-Encoding": "identity",
            "X-Amz-Target": f"{self.target}.{action}",
            "Content-Type": self.content_type,
            **query_mode,
            "User-Agent": "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.11.7"
            " md/pyimpl#CPython m/E,N,b,Z,e cfg/retry-mode#standard Botocore/1.44.5",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": f"AWS4-HMAC-SHA256 {CREDENTIAL}/{self.service}/aws4_request, "
            f"SignedHeaders={signed}, Signature={SIGNATURE}",
            "amz-sdk-invocation-id": "437bd579-c052-481e-acdd-9af0bd534bb2",
            "amz-sdk-request": "attempt=1; max=3",
        }

    def _encode(self, action: str, members: dict[str, object]) -> bytes:
        return json.dumps(members).encode()

    def _check_deleted_all(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        confirmed = buffer.count(b'"Id"', start, end) == entries
        return [] if confirmed and buffer.find(b'"SenderFault"', start, end) < 0 else None


class Query(Wire):
    """The query protocol with XML answers, as botocore 1.29 sends it."""

    name = "query"
    _HANDLE = re.compile(rb"<ReceiptHandle>([^<]+)</ReceiptHandle>")
    _ATTRIBUTE = re.compile(r"<Name>(\w+)</Name>\s*<Value>([^<]*)</Value>")
    service, version = "sqs", "2012-11-05"

    def delete(self, handle: bytes) -> Step:
        return DELETE, self._request("DeleteMessage", {"ReceiptHandle": html.unescape(handle.decode())}), 1

    def delete_all(self, handles: list[bytes]) -> Step:
        entries = [{"Id": str(i), "ReceiptHandle": html.unescape(h.decode())} for i, h in enumerate(handles)]
        return DELETE_BATCH, self._request("DeleteMessageBatch", {"Entries": entries}), len(handles)

    def create_queue(self, name: str, attributes: Attributes) -> str:
        members: dict[str, object] = {"QueueName": name}
        for number, (key, value) in enumerate(attributes.items(), 1):
            members |= {f"Attribute.{number}.Name": key, f"Attribute.{number}.Value": value}
        answer = self._ask("CreateQueue", members).decode()
        return _element("QueueUrl", answer)

    def queue_attributes(self) -> Attributes:
        answer = self._ask("GetQueueAttributes", {"QueueUrl": self.queue_url, "AttributeName.1": "All"}).decode()
        return {key: html.unescape(value) for key, value in self._ATTRIBUTE.findall(answer)}

    def receive_bodies(self) -> list[str]:
        answer = self._ask("ReceiveMessage", {"QueueUrl": self.queue_url, "MaxNumberOfMessages": 10}).decode()
        return [html.unescape(body) for body in re.findall(r"<Body>([^<]*)</Body>", answer)]

    def _path(self) -> str:
        return urlsplit(self.queue_url).path or "/"

    def _headers(self, action: str) -> dict[str, str]:
        return {
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "User-Agent": "Boto3/1.26.165 Python/3.11.7 Linux/6.1 Botocore/1.29.165",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": f"AWS4-HMAC-SHA256 {CREDENTIAL}/{self.service}/aws4_request, "
            f"SignedHeaders=content-type;host;x-amz-date, Signature={SIGNATURE}",
            "amz-sdk-invocation-id": "437bd579-c052-481e-acdd-9af0bd534bb2",
            "amz-sdk-request": "attempt=1",
        }

    def _encode(self, action: str, members: dict[str, object]) -> bytes:
        flat: dict[str, object] = {"Action": action, "Version": self.version}
        for key, value in members.items():
            if not isinstance(value, list):
                flat[key] = value
                continue
            for number, entry in enumerate(value, 1):
                flat |= {f"{action}RequestEntry.{number}.{member}": text for member, text in entry.items()}
        return urlencode(flat, quote_via=quote_plus).encode()

    def _check_deleted_all(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        confirmed = buffer.count(b"<DeleteMessageBatchResultEntry>", start, end) == entries
        return [] if confirmed else None


class Topic(Query):
    """SNS about one topic, as boto3 sends it."""

    service, version = "sns", "2010-03-31"

    def __init__(self, port: int, size: int, name: str) -> None:
        super().__init__(port, size)
        self.checks = {PUBLISH: self._check_published}
        self.arn = _element("TopicArn", self._ask("CreateTopic", {"Name": name}).decode())

    def subscribe(self, queue_arn: str, attributes: Attributes) -> None:
        members: dict[str, object] = {"TopicArn": self.arn, "Protocol": "sqs", "Endpoint": queue_arn}
        for number, (key, value) in enumerate(attributes.items(), 1):
            members |= {f"Attributes.entry.{number}.key": key, f"Attributes.entry.{number}.value": value}
        self._ask("Subscribe", members)

    def publish(self, attributes: Attributes) -> Step:
        """With `body` as the message; the attributes are strings."""
        members: dict[str, object] = {"TopicArn": self.arn, "Message": self.body}
        for number, (key, value) in enumerate(attributes.items(), 1):
            entry = f"MessageAttributes.entry.{number}"
            members |= {f"{entry}.Name": key, f"{entry}.Value.DataType": "String", f"{entry}.Value.StringValue": value}
        return self.step(PUBLISH, "Publish", members)

    def delete_topic(self) -> None:
        self._ask("DeleteTopic", {"TopicArn": self.arn})

    def _check_published(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        whole = buffer.find(b"</PublishResponse>", start, end) > 0
        return [] if whole and buffer.count(b"<MessageId>", start, end) == entries else None


class Bus(Json):
    """EventBridge about one bus, as boto3 sends it."""

    service, target, content_type, query_mode = "events", "AWSEvents", "application/x-amz-json-1.1", False

    def __init__(self, port: int, name: str) -> None:
        super().__init__(port)
        self.bus = name
        self.checks = {PUT_EVENTS: self._check_put, SET_UP: self._check_set_up}
        self._ask("CreateEventBus", {"Name": name})

    def put_rule(self, name: str, pattern: str) -> Step:
        return self.step(SET_UP, "PutRule", {"Name": name, "EventBusName": self.bus, "EventPattern": pattern})

    def put_target(self, rule: str, arn: str) -> Step:
        targets = [{"Id": "target", "Arn": arn}]
        return self.step(SET_UP, "PutTargets", {"Rule": rule, "EventBusName": self.bus, "Targets": targets})

    def put_events(self, source: str, detail_type: str, details: list[str]) -> Step:
        about = {"Source": source, "DetailType": detail_type}
        entries = [{**about, "Detail": detail, "EventBusName": self.bus} for detail in details]
        return self.step(PUT_EVENTS, "PutEvents", {"Entries": entries}, len(entries))

    def _check_put(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        return [] if buffer.count(b'"EventId"', start, end) == entries else None

    def _check_set_up(self, buffer: bytearray, start: int, end: int, entries: int) -> list[bytes] | None:
        return [] if buffer.find(b'"ErrorCode"', start, end) < 0 else None


def _element(name: str, answer: str) -> str:
    found = re.search(f"<{name}>([^<]+)</{name}>", answer)
    if found is None:
        raise Refused(f"no {name} in {answer[:200]}")
    return html.unescape(found[1])


PROTOCOLS: dict[str, type[Wire]] = {"json": Json, "query": Query}
