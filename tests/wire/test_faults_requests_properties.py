"""Whatever unlucky clients are told, others' work in the same moment is done, and only that: against a naive model.

Requests of several clients come in one turn of the event loop, and so would share a transaction. Some clients are
answered and nothing is done, some have batches of which a part fails; what the others do must come about exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.clock import ManualClock
from broker.core import Broker
from broker.entropy import Entropy
from broker.store.sqlite import SqliteStore
from protocols.application import Application
from protocols.http.message import Answer, NoResponse, Request, Response

ACCOUNT = "111111111111"
LUCKY, UNLUCKY, HALF = "lucky", "unlucky", "half"
URL = f"http://localhost/{ACCOUNT}/"


class Virtual:
    """SQS and Kinesis without a socket."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = SqliteStore(None)
        self.broker = Broker(self.store, self.clock, Entropy(1))
        self.application = Application(self.broker)

    def close(self) -> None:
        self.broker.close()

    def start(self, client: str, service: str, operation: str, parameters: dict[str, Any]) -> list[Any]:
        """Asks; the answer is in the list when it is there."""
        answers: list[Any] = []

        def reply(answer: Answer) -> None:
            assert isinstance(answer, Response)
            answers.append((answer.status, json.loads(answer.body) if answer.body else {}))

        headers = self.headers(client, service, operation)
        self.application(Request("POST", b"/", headers, json.dumps(parameters).encode()), reply)
        return answers

    def headers(self, client: str, service: str, operation: str) -> list[tuple[bytes, bytes]]:
        target = {"sqs": "AmazonSQS", "kinesis": "Kinesis_20131202"}[service]
        scope = f"Credential={ACCOUNT}/20260101/us-east-1/{service}/aws4_request"
        return [
            (b"x-amz-target", f"{target}.{operation}".encode()),
            (b"content-type", b"application/x-amz-json-1.1" if service == "kinesis" else b"application/x-amz-json-1.0"),
            (b"authorization", f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0".encode()),
            (b"host", b"localhost"),
            (b"user-agent", client.encode()),
        ]

    def ask(self, service: str, operation: str, **parameters: Any) -> Any:
        answers = self.start(LUCKY, service, operation, parameters)
        self.clock.settle()
        ((status, body),) = answers
        assert status == 200, body
        return body

    def dump(self) -> list[str]:
        return list(self.store._connection.iterdump())


clients = st.sampled_from([LUCKY, UNLUCKY])
steps = st.one_of(
    st.tuples(st.just("send"), clients, st.sampled_from("ab")),
    st.tuples(st.just("batch"), st.sampled_from([LUCKY, UNLUCKY, HALF]), st.integers(1, 4)),
    st.tuples(st.just("receive"), clients, st.sampled_from("ab")),
    st.tuples(st.just("delete"), clients, st.sampled_from("ab")),
    st.tuples(st.just("poll"), st.just(LUCKY), st.sampled_from("ab")),
    st.tuples(st.just("put"), clients, st.integers(1, 3)),
    st.tuples(st.just("create"), clients, st.sampled_from("cd")),
)


def bodies(counter: Iterator[int]) -> str:
    return f"m{next(counter)}"


class Model:
    """Messages by queue, records, queues: what the lucky have done."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[str]] = {"a": [], "b": []}
        self.in_flight: dict[str, dict[str, str]] = {"a": {}, "b": {}}  # handle by body
        self.records: list[str] = []
        self.queues = {"a", "b"}
        self.polls: dict[str, list[list[Any]]] = {"a": [], "b": []}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=6))
@example([[("poll", LUCKY, "a"), ("send", UNLUCKY, "a"), ("send", LUCKY, "a")]])
@example([[("send", LUCKY, "a"), ("receive", UNLUCKY, "a"), ("receive", LUCKY, "a")], [("delete", UNLUCKY, "a")]])
@example([[("put", LUCKY, 2), ("put", UNLUCKY, 2), ("put", LUCKY, 1)], [("batch", HALF, 4)]])
def test_only_what_was_done_is_done(turns: list[list[tuple[str, str, Any]]]) -> None:
    virtual, model, counter = Virtual(), Model(), iter(range(10**6))
    try:
        for name in "ab":
            virtual.ask("sqs", "CreateQueue", QueueName=name)
        virtual.ask("kinesis", "CreateStream", StreamName="s", ShardCount=1)
        virtual.clock.advance(60_000)
        for rule in (
            {"fault": "answered-not-done", "client": f"* {UNLUCKY}"},
            {"fault": "partial-batch", "client": f"* {HALF}"},
        ):
            virtual.broker.faults.add(rule)
        for turn in turns:
            pending = [(step, *ask(virtual, model, step, counter)) for step in turn]
            virtual.clock.settle()
            for step, asked, answers in pending:
                check(model, step, asked, answers)
            served(model)
        agree(virtual, model)
        virtual.broker.commit.undone(lambda: None)  # and what is in RAM is what is in the store
        agree(virtual, model)
    finally:
        virtual.close()


def ask(virtual: Virtual, model: Model, step: tuple[str, str, Any], counter: Iterator[int]) -> tuple[Any, list[Any]]:
    kind, client, what = step
    url = f"{URL}{what}"
    if kind == "send":
        body = bodies(counter)
        return body, virtual.start(client, "sqs", "SendMessage", {"QueueUrl": url, "MessageBody": body})
    if kind == "batch":
        entries = [{"Id": str(n), "MessageBody": bodies(counter)} for n in range(what)]
        return entries, virtual.start(client, "sqs", "SendMessageBatch", {"QueueUrl": f"{URL}a", "Entries": entries})
    if kind == "receive":
        return None, virtual.start(client, "sqs", "ReceiveMessage", {"QueueUrl": url, "VisibilityTimeout": 43200})
    if kind == "poll":
        asked = {"QueueUrl": url, "VisibilityTimeout": 43200, "WaitTimeSeconds": 20, "MaxNumberOfMessages": 10}
        answers = virtual.start(client, "sqs", "ReceiveMessage", asked)
        model.polls[what].append(answers)
        return None, answers
    if kind == "delete":
        body = next(iter(model.in_flight[what]), None)
        handle = model.in_flight[what].get(body or "", "none")
        if client == LUCKY and body is not None:
            del model.in_flight[what][body]
        return body, virtual.start(client, "sqs", "DeleteMessage", {"QueueUrl": url, "ReceiptHandle": handle})
    if kind == "put":
        records = [{"Data": "bQ==", "PartitionKey": bodies(counter)} for _ in range(what)]
        return records, virtual.start(client, "kinesis", "PutRecords", {"StreamName": "s", "Records": records})
    return None, virtual.start(client, "sqs", "CreateQueue", {"QueueName": what})


def check(model: Model, step: tuple[str, str, Any], asked: Any, answers: list[Any]) -> None:
    kind, client, what = step
    if kind == "poll":
        return
    ((status, answer),) = answers
    if kind == "delete" and asked is None:
        assert status != 200
        return
    assert status == 200, answer
    match kind:
        case "send" if client == LUCKY:
            model.waiting[what].append(asked)
        case "batch":
            done = {entry["Id"] for entry in answer.get("Successful", ())}
            failed = {entry["Id"] for entry in answer.get("Failed", ())}
            assert done | failed == {entry["Id"] for entry in asked}
            assert not done & failed
            assert len(failed) == (max(1, (len(asked) + 1) // 2) if client == HALF else 0)
            if client != UNLUCKY:
                model.waiting["a"] += [entry["MessageBody"] for entry in asked if entry["Id"] in done]
        case "receive" if client == LUCKY:
            take(model, what, answer)
        case "put" if client == LUCKY:
            assert answer["FailedRecordCount"] == 0
            model.records += [
                (record["PartitionKey"], put["SequenceNumber"])
                for record, put in zip(asked, answer["Records"], strict=True)
            ]
        case "create" if client == LUCKY:
            model.queues.add(what)
        case "receive":
            assert len(answer.get("Messages", ())) <= 1


def take(model: Model, queue: str, answer: Any) -> None:
    for message in answer.get("Messages", ()):
        model.in_flight[queue][message["Body"]] = message["ReceiptHandle"]


def served(model: Model) -> None:
    for queue, polls in model.polls.items():
        for answers in list(polls):
            if answers:
                ((status, answer),) = answers
                assert status == 200
                take(model, queue, answer)
                polls.remove(answers)
        for body in model.in_flight[queue]:
            if body in model.waiting[queue]:
                model.waiting[queue].remove(body)


def agree(virtual: Virtual, model: Model) -> None:
    names = {url.rpartition("/")[2] for url in virtual.ask("sqs", "ListQueues")["QueueUrls"]}
    assert names == model.queues
    for queue in "ab":
        attributes = virtual.ask(
            "sqs",
            "GetQueueAttributes",
            QueueUrl=f"{URL}{queue}",
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
        assert [int(count) for count in attributes.values()] == [
            len(model.waiting[queue]),
            len(model.in_flight[queue]),
        ]
        rows = virtual.store._connection.execute(
            "SELECT body, receive_count FROM message WHERE shelf_no = ?",
            (virtual.broker.queues.find_arn(f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}").shelf_no,),  # type: ignore[union-attr]
        ).fetchall()
        expected = dict.fromkeys(model.waiting[queue], 0) | dict.fromkeys(model.in_flight[queue], 1)
        assert dict(rows) == expected
    iterator = virtual.ask(
        "kinesis", "GetShardIterator", StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = virtual.ask("kinesis", "GetRecords", ShardIterator=iterator)["Records"]
    assert [(record["PartitionKey"], record["SequenceNumber"]) for record in records] == model.records


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, min_size=1, max_size=8))
def test_what_is_not_done_leaves_not_a_byte(turn: list[tuple[str, str, Any]]) -> None:
    virtual, counter = Virtual(), iter(range(10**6))
    try:
        for name in "ab":
            virtual.ask("sqs", "CreateQueue", QueueName=name)
            virtual.ask("sqs", "SendMessage", QueueUrl=f"{URL}{name}", MessageBody="there")
        virtual.ask("kinesis", "CreateStream", StreamName="s", ShardCount=1)
        virtual.clock.advance(60_000)
        virtual.broker.faults.add({"fault": "answered-not-done", "client": f"* {UNLUCKY}"})
        before = virtual.dump()
        for kind, _, what in turn:
            if kind != "poll":
                ask(virtual, Model(), (kind, UNLUCKY, what), counter)
        virtual.clock.settle()
        assert virtual.dump() == before
    finally:
        virtual.close()


def test_a_broker_that_stops_waits_for_no_latency() -> None:
    virtual = Virtual()
    url = virtual.ask("sqs", "CreateQueue", QueueName="a")["QueueUrl"]
    virtual.broker.faults.load({"seed": 1, "rule": [{"fault": "latency", "delay": "1h", "client": "*unlucky"}]})
    answers: list[Answer] = []
    body = json.dumps({"QueueUrl": url, "MessageBody": "never"}).encode()
    virtual.application(Request("POST", b"/", virtual.headers(UNLUCKY, "sqs", "SendMessage"), body), answers.append)
    virtual.clock.settle()
    assert answers == []
    virtual.broker.end_waiting()
    assert [type(answer) for answer in answers] == [NoResponse]
    virtual.clock.advance(7_200_000)
    assert len(answers) == 1
    assert "Messages" not in virtual.ask("sqs", "ReceiveMessage", QueueUrl=url)
    virtual.close()
