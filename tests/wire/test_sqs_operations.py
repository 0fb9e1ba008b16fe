"""Each of SQS's 23 operations through boto3, as a program uses it. Errors are in test_sqs_errors.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import md5
from typing import Any

import pytest

REGION = "us-east-1"


def arn(account: str, name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{account}:{name}"


def receive(sqs: Any, url: str, **options: Any) -> list[dict[str, Any]]:
    return sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **options).get("Messages", [])  # type: ignore[no-any-return]


def redrive(account: str, target: str, count: int = 1) -> dict[str, str]:
    return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn(account, target), "maxReceiveCount": count})}


def until(condition: Callable[[], Any]) -> Any:
    """The first true value; what a message move task does, it does in its own time."""
    deadline = time.monotonic() + 10
    while not (value := condition()):
        assert time.monotonic() < deadline, "this should have happened long ago"
        time.sleep(0.005)
    return value


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="orders")["QueueUrl"])


def test_every_operation_of_the_model_is_here(sqs: Any) -> None:
    tested = {name.removeprefix("test_") for name in globals()}
    assert {name for name in sqs.meta.method_to_api_mapping if name not in tested} == set()


# queues


def test_create_queue(sqs: Any, account: str) -> None:
    created = sqs.create_queue(QueueName="orders", Attributes={"VisibilityTimeout": "5"}, tags={"team": "a"})
    assert created["QueueUrl"] == f"{sqs.meta.endpoint_url}/{account}/orders"
    again = sqs.create_queue(QueueName="orders", Attributes={"VisibilityTimeout": "5"})
    assert again["QueueUrl"] == created["QueueUrl"]
    assert sqs.create_queue(QueueName="orders")["QueueUrl"] == created["QueueUrl"]
    assert sqs.list_queue_tags(QueueUrl=created["QueueUrl"])["Tags"] == {"team": "a"}


def test_delete_queue(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="lost")
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        receive(sqs, url)
    assert "QueueUrls" not in sqs.list_queues()
    sqs.create_queue(QueueName="orders")
    assert receive(sqs, url) == []


def test_get_queue_url(sqs: Any, account: str, url: str) -> None:
    assert sqs.get_queue_url(QueueName="orders")["QueueUrl"] == url
    assert sqs.get_queue_url(QueueName="orders", QueueOwnerAWSAccountId=account)["QueueUrl"] == url


def test_list_queues(sqs: Any) -> None:
    urls = [sqs.create_queue(QueueName=f"{prefix}-{n}")["QueueUrl"] for prefix in ("a", "b") for n in range(5)]
    assert sqs.list_queues()["QueueUrls"] == urls
    assert sqs.list_queues(QueueNamePrefix="b-")["QueueUrls"] == urls[5:]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="c")
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix="a", PaginationConfig={"PageSize": 2})
    assert [page["QueueUrls"] for page in pages] == [urls[0:2], urls[2:4], urls[4:5]]


def test_a_page_goes_on_where_the_last_one_ended_though_queues_come_and_go(sqs: Any) -> None:
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in "bdfh"}
    first = sqs.list_queues(MaxResults=2)
    assert first["QueueUrls"] == [urls["b"], urls["d"]]
    sqs.delete_queue(QueueUrl=urls["d"])
    sqs.create_queue(QueueName="a")
    urls["e"] = sqs.create_queue(QueueName="e")["QueueUrl"]
    second = sqs.list_queues(MaxResults=2, NextToken=first["NextToken"])
    assert second["QueueUrls"] == [urls["e"], urls["f"]]
    last = sqs.list_queues(MaxResults=2, NextToken=second["NextToken"])
    assert last["QueueUrls"] == [urls["h"]]
    assert "NextToken" not in last


def test_get_queue_attributes(sqs: Any, account: str, url: str) -> None:
    asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "VisibilityTimeout"])
    assert asked["Attributes"] == {"QueueArn": arn(account, "orders"), "VisibilityTimeout": "30"}
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url)


def test_counts_are_exact(sqs: Any, url: str) -> None:
    for delay_s in (0, 0, 0, 900):
        sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=delay_s)
    sqs.receive_message(QueueUrl=url)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert {name: value for name, value in counts.items() if name.startswith("Approximate")} == {
        "ApproximateNumberOfMessages": "2",
        "ApproximateNumberOfMessagesNotVisible": "1",
        "ApproximateNumberOfMessagesDelayed": "1",
    }


def test_set_queue_attributes(sqs: Any, url: str) -> None:
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0", "DelaySeconds": "0"})
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert len(receive(sqs, url)) == len(receive(sqs, url)) == 1
    names = ["VisibilityTimeout"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"] == {"VisibilityTimeout": "0"}


def test_list_dead_letter_source_queues(sqs: Any, account: str, url: str) -> None:
    sources = [
        sqs.create_queue(QueueName=name, Attributes=redrive(account, "orders"))["QueueUrl"] for name in ("s1", "s2")
    ]
    assert sqs.list_dead_letter_source_queues(QueueUrl=url)["queueUrls"] == sources
    assert sqs.list_dead_letter_source_queues(QueueUrl=sources[0])["queueUrls"] == []
    pages = sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=url, PaginationConfig={"PageSize": 1})
    assert [page["queueUrls"] for page in pages] == [[source] for source in sources]


def test_purge_queue(sqs: Any, url: str) -> None:
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(10)])
    in_flight = sqs.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
    sqs.purge_queue(QueueUrl=url)
    assert receive(sqs, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=in_flight)  # it is gone, and that is what was wanted
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])
    assert counts["Attributes"] == {"ApproximateNumberOfMessagesNotVisible": "0"}


# tags and permissions


def test_tag_queue(sqs: Any, url: str) -> None:
    sqs.tag_queue(QueueUrl=url, Tags={"team": "a", "cost": ""})
    sqs.tag_queue(QueueUrl=url, Tags={"team": "b", "Ä schlüssel": "wert ✓"})
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "b", "cost": "", "Ä schlüssel": "wert ✓"}


def test_untag_queue(sqs: Any, url: str) -> None:
    sqs.tag_queue(QueueUrl=url, Tags={"a": "1", "b": "2"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["a", "never there"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"b": "2"}


def test_list_queue_tags(sqs: Any, url: str) -> None:
    assert "Tags" not in sqs.list_queue_tags(QueueUrl=url)


def test_add_permission(sqs: Any, account: str, url: str) -> None:
    sqs.add_permission(QueueUrl=url, Label="one", AWSAccountIds=["111122223333"], Actions=["SendMessage"])
    friends = ["111122223333", "444455556666"]
    sqs.add_permission(QueueUrl=url, Label="two", AWSAccountIds=friends, Actions=["*", "ReceiveMessage"])
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert json.loads(policy) == {
        "Version": "2008-10-17",
        "Id": f"{arn(account, 'orders')}/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "one",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
                "Action": "SQS:SendMessage",
                "Resource": arn(account, "orders"),
            },
            {
                "Sid": "two",
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:root"]},
                "Action": ["SQS:*", "SQS:ReceiveMessage"],
                "Resource": arn(account, "orders"),
            },
        ],
    }


def test_remove_permission(sqs: Any, url: str) -> None:
    for label in ("one", "two"):
        sqs.add_permission(QueueUrl=url, Label=label, AWSAccountIds=["111122223333"], Actions=["SendMessage"])
    sqs.remove_permission(QueueUrl=url, Label="one")
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert [statement["Sid"] for statement in json.loads(policy)["Statement"]] == ["two"]
    sqs.remove_permission(QueueUrl=url, Label="two")
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])


# messages


def test_send_message(sqs: Any, url: str) -> None:
    body = "Grüße, 世界 🚌\r\n\t<&>\"'"
    sent = sqs.send_message(QueueUrl=url, MessageBody=body)
    assert sent["MD5OfMessageBody"] == md5(body.encode()).hexdigest()
    assert {"MD5OfMessageAttributes", "MD5OfMessageSystemAttributes", "SequenceNumber"}.isdisjoint(sent)
    (message,) = receive(sqs, url)
    assert (message["Body"], message["MessageId"]) == (body, sent["MessageId"])


def test_send_message_to_a_fifo_queue(sqs: Any) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName="orders.fifo", Attributes=attributes)["QueueUrl"]
    first = sqs.send_message(QueueUrl=url, MessageBody="1", MessageGroupId="g")
    second = sqs.send_message(QueueUrl=url, MessageBody="2", MessageGroupId="g")
    repeated = sqs.send_message(QueueUrl=url, MessageBody="1", MessageGroupId="g")
    assert (repeated["MessageId"], repeated["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
    assert len(first["SequenceNumber"]) == 20
    assert int(second["SequenceNumber"]) > int(first["SequenceNumber"])
    messages = receive(sqs, url, MessageSystemAttributeNames=["All"])
    assert [message["Body"] for message in messages] == ["1", "2"]
    assert messages[1]["Attributes"]["SequenceNumber"] == second["SequenceNumber"]
    assert messages[1]["Attributes"]["MessageGroupId"] == "g"
    assert len(messages[1]["Attributes"]["MessageDeduplicationId"]) == 64  # SHA-256 of the body
    assert receive(sqs, url) == []  # the group rests


def test_send_message_batch(sqs: Any, url: str) -> None:
    entries = [{"Id": f"e-{n}", "MessageBody": str(n)} for n in range(10)]
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert "Failed" not in answer
    assert [(e["Id"], e["MD5OfMessageBody"]) for e in answer["Successful"]] == [
        (e["Id"], md5(e["MessageBody"].encode()).hexdigest()) for e in entries
    ]
    received = receive(sqs, url)
    assert {m["MessageId"] for m in received} == {e["MessageId"] for e in answer["Successful"]}


def test_receive_message(sqs: Any, account: str, url: str) -> None:
    before_ms = time.time_ns() // 1_000_000
    sent = sqs.send_message(QueueUrl=url, MessageBody="hello")
    (message,) = receive(sqs, url)
    assert message == {
        "MessageId": sent["MessageId"],
        "ReceiptHandle": message["ReceiptHandle"],
        "MD5OfBody": md5(b"hello").hexdigest(),
        "Body": "hello",
    }
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = receive(sqs, url, MessageSystemAttributeNames=["All"])
    assert again["ReceiptHandle"] != message["ReceiptHandle"]
    attributes = again["Attributes"]
    assert attributes["ApproximateReceiveCount"] == "2"
    now_ms = time.time_ns() // 1_000_000
    sent_ms, first_ms = int(attributes["SentTimestamp"]), int(attributes["ApproximateFirstReceiveTimestamp"])
    assert before_ms <= sent_ms <= first_ms <= now_ms
    assert set(attributes) == {
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
    }


def test_an_empty_receive_has_no_messages_at_all(sqs: Any, url: str) -> None:
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_a_receive_waits_until_a_message_is_there(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=1)
    started = time.monotonic()
    (message,) = receive(sqs, url, WaitTimeSeconds=20)
    assert message["Body"] == "late"
    assert 0.9 < time.monotonic() - started < 5


def test_delete_message(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = receive(sqs, url, VisibilityTimeout=0)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])  # visible again, and the last receive
    assert receive(sqs, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def test_a_stale_handle_of_a_standard_queue_deletes_nothing(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (first,) = receive(sqs, url, VisibilityTimeout=0)
    (second,) = receive(sqs, url, VisibilityTimeout=0)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    (third,) = receive(sqs, url, VisibilityTimeout=0)
    assert third["MessageId"] == second["MessageId"]


def test_delete_message_batch(sqs: Any, url: str) -> None:
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(3)])
    entries = [{"Id": f"d{n}", "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(receive(sqs, url))]
    answer = sqs.delete_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "bad", "ReceiptHandle": "nonsense"}])
    assert answer["Successful"] == [{"Id": "d0"}, {"Id": "d1"}, {"Id": "d2"}]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "ReceiptHandleIsInvalid", True)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])
    assert counts["Attributes"] == {"ApproximateNumberOfMessagesNotVisible": "0"}


def test_change_message_visibility(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = receive(sqs, url)
    assert receive(sqs, url) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    assert len(receive(sqs, url)) == 1


def test_change_message_visibility_batch(sqs: Any, url: str) -> None:
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(3)])
    handles = [message["ReceiptHandle"] for message in receive(sqs, url)]
    entries = [
        {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 60 if n else 0}
        for n, handle in enumerate([*handles, "nonsense"])
    ]
    answer = sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    assert answer["Successful"] == [{"Id": "0"}, {"Id": "1"}, {"Id": "2"}]
    assert [(failed["Id"], failed["Code"]) for failed in answer["Failed"]] == [("3", "ReceiptHandleIsInvalid")]
    assert len(receive(sqs, url)) == 1


# dead letters and message move tasks


@pytest.fixture
def dead_letters(sqs: Any, account: str) -> tuple[str, str]:
    """URLs of a source and of its dead-letter queue with three messages in it."""
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    source = sqs.create_queue(QueueName="source", Attributes=redrive(account, "dead"))["QueueUrl"]
    sqs.send_message_batch(QueueUrl=source, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(3)])
    assert len(receive(sqs, source, VisibilityTimeout=0)) == 3
    assert receive(sqs, source, VisibilityTimeout=0) == []
    return source, dead


def test_dead_letters_say_where_they_come_from(sqs: Any, account: str, dead_letters: tuple[str, str]) -> None:
    _, dead = dead_letters
    messages = receive(sqs, dead, MessageSystemAttributeNames=["All"])
    assert sorted(message["Body"] for message in messages) == ["0", "1", "2"]
    for message in messages:
        assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn(account, "source")
        assert message["Attributes"]["ApproximateReceiveCount"] == "2"


def test_start_message_move_task(sqs: Any, account: str, dead_letters: tuple[str, str]) -> None:
    source, dead = dead_letters
    assert sqs.start_message_move_task(SourceArn=arn(account, "dead"))["TaskHandle"]
    moved = until(lambda: receive(sqs, source, VisibilityTimeout=0, MessageSystemAttributeNames=["All"]))
    assert "DeadLetterQueueSourceArn" not in moved[0]["Attributes"]
    assert moved[0]["Attributes"]["ApproximateReceiveCount"] == "1"
    assert receive(sqs, dead) == []


def test_list_message_move_tasks(sqs: Any, account: str, dead_letters: tuple[str, str]) -> None:
    dead = arn(account, "dead")
    assert "Results" not in sqs.list_message_move_tasks(SourceArn=dead)
    sqs.create_queue(QueueName="elsewhere")
    sqs.start_message_move_task(SourceArn=dead, DestinationArn=arn(account, "elsewhere"))

    def finished() -> Any:
        (task,) = sqs.list_message_move_tasks(SourceArn=dead)["Results"]
        return task if task["Status"] != "RUNNING" else None

    task = until(finished)
    assert task == {
        "Status": "COMPLETED",
        "SourceArn": dead,
        "DestinationArn": arn(account, "elsewhere"),
        "ApproximateNumberOfMessagesMoved": 3,
        "ApproximateNumberOfMessagesToMove": 3,
        "StartedTimestamp": task["StartedTimestamp"],
    }
    assert abs(task["StartedTimestamp"] / 1000 - time.time()) < 60
    sqs.start_message_move_task(SourceArn=dead)
    assert len(sqs.list_message_move_tasks(SourceArn=dead)["Results"]) == 1
    assert len(sqs.list_message_move_tasks(SourceArn=dead, MaxResults=10)["Results"]) == 2


def test_cancel_message_move_task(
    sidebus: Any, connect: Callable[..., Any], sqs: Any, account: str, dead_letters: tuple[str, str]
) -> None:
    dead = arn(account, "dead")
    handle = sqs.start_message_move_task(SourceArn=dead, MaxNumberOfMessagesPerSecond=1)["TaskHandle"]
    (running,) = sqs.list_message_move_tasks(SourceArn=dead)["Results"]
    assert (running["Status"], running["TaskHandle"]) == ("RUNNING", handle)
    assert running["MaxNumberOfMessagesPerSecond"] == 1
    with pytest.raises(sqs.exceptions.ResourceNotFoundException):  # a handle is worth nothing in another account
        connect(sidebus, account="999999999999").cancel_message_move_task(TaskHandle=handle)
    moved = sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    assert moved in (0, 1)
    (cancelled,) = sqs.list_message_move_tasks(SourceArn=dead)["Results"]
    assert cancelled["Status"] == "CANCELLED"
    assert "TaskHandle" not in cancelled
