"""Faults at single messages as boto3's users see them: late, out of order, twice, too early, dead too soon, stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from virtual_faults import Chaos

if TYPE_CHECKING:
    from conftest import Connect, Sidebus, StartSidebus


@pytest.fixture(scope="module")
def bent(start_sidebus: StartSidebus) -> Sidebus:
    """A process of this module's own: it bends its time."""
    return start_sidebus()


@pytest.fixture
def chaos(bent: Sidebus, account: str) -> Iterator[Chaos]:
    chaos = Chaos(bent, account)
    yield chaos
    chaos.end()


class Queue:
    """A queue of one test, and the short forms for what its users do."""

    def __init__(self, sqs: Any, name: str = "q", **attributes: Any) -> None:
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        self.fifo = name.endswith(".fifo")
        if self.fifo:
            given |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        self.sqs = sqs
        self.url = sqs.create_queue(QueueName=name, Attributes=given)["QueueUrl"]
        self.arn = sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def send(self, *bodies: str, group: str = "g", **given: Any) -> None:
        for body in bodies:
            of_group = {"MessageGroupId": group} if self.fifo else {}
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **of_group, **given)

    def receive(self, limit: int = 10, wait_s: int = 0, **given: Any) -> list[Any]:
        answer = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=limit, WaitTimeSeconds=wait_s, AttributeNames=["All"], **given
        )
        return list(answer.get("Messages", ()))

    def bodies(self, limit: int = 10, **given: Any) -> list[str]:
        return [message["Body"] for message in self.receive(limit, **given)]

    def delete(self, *messages: Any) -> None:
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def counts(self) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        shown = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(shown[names[0]]), int(shown[names[1]]), int(shown[names[2]])


@pytest.fixture
def sqs(bent: Sidebus, connect: Connect) -> Any:
    return connect(bent)


def count_of(message: Any) -> int:
    return int(message["Attributes"]["ApproximateReceiveCount"])


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# late, out of order


def test_a_late_message_cannot_be_received_before_its_delay_is_over(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "late", "delay": "5s", "count": 1})
    queue.send("late", "in time")
    assert queue.counts() == (1, 0, 1)
    assert queue.bodies() == ["in time"]
    chaos.advance("4999ms")
    assert queue.bodies() == []
    chaos.advance("1ms")
    assert queue.bodies() == ["late"]


def test_a_long_poll_gets_a_late_message_when_it_comes(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, DelaySeconds=2)
    chaos.plan({"fault": "late", "delay": "3s"})
    queue.send("late")
    chaos.sidebus.request("POST", "/_sidebus/clock", body='{"resume": true, "speed": 1}')
    chaos.sidebus.request("POST", "/_sidebus/clock", body='{"speed": 50}')
    assert queue.bodies(wait_s=20) == ["late"]  # its delay is added to the queue's own
    assert chaos.struck() == {"late": 1}


def test_late_in_a_fifo_queue_keeps_the_group_waiting_and_no_other(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, "q.fifo")
    chaos.plan({"fault": "late", "delay": "5s", "message": {"body": ["2"]}})
    queue.send("1", "2", "3", group="a")
    queue.send("x", group="b")
    first = queue.receive()
    assert [message["Body"] for message in first] == ["1", "x"]
    queue.delete(*first)
    assert queue.bodies() == []
    chaos.advance("5s")
    assert queue.bodies() == ["2", "3"]


def test_a_message_of_a_batch_is_late_alone(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "late", "delay": "5s", "operation": "SendMessageBatch", "every": 2})
    entries = [{"Id": str(number), "MessageBody": str(number)} for number in range(4)]
    assert len(sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)["Successful"]) == 4
    assert queue.bodies() == ["0", "2"]
    chaos.advance("5s")
    assert queue.bodies() == ["1", "3"]


def test_copies_of_a_fan_out_are_late(sqs: Any, bent: Sidebus, connect: Connect, chaos: Chaos) -> None:
    queue, sns = Queue(sqs), connect(bent, "sns")
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes={"RawMessageDelivery": "true"})
    chaos.plan({"fault": "late", "delay": "5s", "operation": "Deliver", "message": {"body": {"type": ["order"]}}})
    for text in ('{"type": "order"}', '{"type": "other"}'):
        sns.publish(TopicArn=topic, Message=text)
    assert queue.bodies() == ['{"type": "other"}']
    chaos.advance("5s")
    assert queue.bodies() == ['{"type": "order"}']


def test_messages_come_out_of_order_and_none_is_late(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "reorder", "window": "10s", "probability": 0.5}, seed=7)
    sent = [str(number) for number in range(20)]
    for body in sent:
        queue.send(body)
        chaos.advance("500ms")
    received = queue.bodies() + queue.bodies()
    assert sorted(received, key=int) == sent
    assert received != sent


def test_out_of_order_never_brings_a_message_before_its_delay_is_over(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, DelaySeconds=10)
    chaos.plan({"fault": "reorder", "window": "5s"})
    queue.send("a")
    chaos.advance("9999ms")
    assert queue.bodies() == []
    chaos.advance("5001ms")
    assert queue.bodies() == ["a"]


@pytest.mark.parametrize("fault", [{"fault": "reorder"}, {"fault": "duplicate"}])
def test_what_aws_never_does_to_a_fifo_queue_is_refused_and_does_not_strike(
    sqs: Any, chaos: Chaos, fault: dict[str, Any]
) -> None:
    assert "FIFO" in chaos.refusal({**fault, "resource": "*.fifo"})
    queue = Queue(sqs, "q.fifo")
    chaos.plan(fault)
    queue.send("1", "2", "3")
    received = queue.receive()
    assert [message["Body"] for message in received] == ["1", "2", "3"]
    assert queue.bodies() == []
    queue.delete(*received)
    chaos.advance("1h")
    assert queue.counts() == (0, 0, 0)
    assert chaos.struck() == {fault["fault"]: 0}


# twice


def test_two_consumers_get_the_same_message_at_once(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "duplicate", "when": "at-once", "message": {"body": ["b"]}})
    queue.send("a", "b", "c", "d")
    one, two = queue.receive(3), queue.receive(3)
    assert [message["Body"] for message in one] == ["a", "b", "c"]
    assert [message["Body"] for message in two] == ["b", "d"]
    assert one[1]["MessageId"] == two[0]["MessageId"]
    assert (count_of(one[1]), count_of(two[0])) == (1, 2)
    assert one[1]["ReceiptHandle"] != two[0]["ReceiptHandle"]
    queue.delete(*one)  # the first of b's handles is used up: AWS says that all is well
    assert queue.counts() == (0, 2, 0)
    queue.delete(*two)
    assert queue.counts() == (0, 0, 0)


def test_a_message_that_was_twice_is_not_there_a_third_time(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "duplicate", "when": "at-once"}, {"fault": "duplicate", "name": "l", "when": "later"})
    queue.send("a")
    assert [queue.bodies() for _ in range(3)] == [["a"], ["a"], []]
    assert chaos.struck() == {"duplicate": 1, "l": 0}


def test_a_message_comes_again_while_it_is_in_flight(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, VisibilityTimeout=60)
    chaos.plan({"fault": "duplicate", "when": "later", "delay": "10s"})
    queue.send("a")
    (one,) = queue.receive()
    chaos.advance("9999ms")
    assert queue.bodies() == []
    chaos.advance("1ms")
    (two,) = queue.receive()
    assert (one["MessageId"], count_of(two)) == (two["MessageId"], 2)
    queue.delete(one)
    assert queue.counts() == (0, 1, 0)
    queue.delete(two)
    chaos.advance("1h")
    assert queue.bodies() == []


def test_a_message_that_was_deleted_in_time_does_not_come_again_later(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "duplicate", "when": "later", "delay": "10s"})
    queue.send("a")
    queue.delete(*queue.receive())
    chaos.advance("1h")
    assert queue.bodies() == []


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_message_comes_again_after_its_delete(sqs: Any, chaos: Chaos, in_batch: bool) -> None:
    queue = Queue(sqs)
    operation = "DeleteMessageBatch" if in_batch else "DeleteMessage"
    chaos.plan({"fault": "duplicate", "when": "after-delete", "delay": "90s", "operation": operation})
    queue.send("a")
    (one,) = queue.receive()
    if in_batch:
        entries = [{"Id": "1", "ReceiptHandle": one["ReceiptHandle"]}]
        answer = sqs.delete_message_batch(QueueUrl=queue.url, Entries=entries)
        assert [entry["Id"] for entry in answer["Successful"]] == ["1"]
    else:
        queue.delete(one)
    chaos.advance("89s")
    assert queue.bodies() == []
    chaos.advance("1s")
    (two,) = queue.receive()
    assert (one["MessageId"], count_of(two)) == (two["MessageId"], 2)
    queue.delete(one)
    assert queue.counts() == (0, 1, 0)
    queue.delete(two)
    chaos.advance("1h")
    assert queue.counts() == (0, 0, 0)


# too early, empty


@pytest.mark.parametrize("how", [{"fraction": 0.25}, {"after": "15s"}])
def test_visibility_ends_before_its_timeout(sqs: Any, chaos: Chaos, how: dict[str, Any]) -> None:
    queue = Queue(sqs, VisibilityTimeout=60)
    chaos.plan({"fault": "early-visibility", **how, "count": 1})
    queue.send("a")
    (one,) = queue.receive()
    chaos.advance("14999ms")
    assert queue.bodies() == []
    chaos.advance("1ms")
    (two,) = queue.receive()
    assert (one["MessageId"], count_of(two)) == (two["MessageId"], 2)
    with pytest.raises(ClientError, match="not available for visibility timeout change") as refused:
        sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=60)
    assert code_of(refused) == "InvalidParameterValue"
    chaos.advance("59s")
    assert queue.bodies() == []


def test_visibility_in_a_fifo_queue_ends_early_for_the_whole_group_in_order(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, "q.fifo", VisibilityTimeout=60)
    chaos.plan({"fault": "early-visibility", "after": "10s", "message": {"body": ["2"]}, "count": 1})
    queue.send("1", "2", "3", "4")
    one = queue.receive(3)
    assert [message["Body"] for message in one] == ["1", "2", "3"]
    chaos.advance("9s")
    assert queue.bodies() == []
    chaos.advance("1s")
    with pytest.raises(ClientError, match="The receipt handle has expired") as refused:
        queue.delete(one[0])
    assert code_of(refused) == "InvalidParameterValue"
    assert queue.bodies() == ["1", "2", "3", "4"]


def test_a_short_poll_misses_what_is_there_and_a_long_poll_does_not(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "empty-receive", "count": 2})
    assert queue.bodies() == []
    queue.send("a")
    assert chaos.struck() == {"empty-receive": 0}  # there was nothing to miss
    assert [queue.bodies(), queue.bodies(wait_s=1)] == [[], ["a"]]
    assert chaos.struck() == {"empty-receive": 1}
    queue.send("b")
    assert [queue.bodies(), queue.bodies()] == [[], ["b"]]


def test_a_message_of_a_fifo_queue_is_missed_and_nothing_overtakes_it(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, "q.fifo")
    chaos.plan({"fault": "empty-receive", "every": 2})
    queue.send("1", "2")
    assert [queue.bodies(1), queue.bodies(1)] == [["1"], []]


# dead letters


def test_a_message_moves_to_the_dead_letter_queue_before_its_receives_are_used_up(sqs: Any, chaos: Chaos) -> None:
    dead = Queue(sqs, "dead")
    queue = Queue(sqs, RedrivePolicy={"deadLetterTargetArn": dead.arn, "maxReceiveCount": 5})
    chaos.plan({"fault": "early-dead-letter", "message": {"body": ["a"]}})
    queue.send("a", "b", "c")
    assert queue.bodies(2) == ["b", "c"]  # what moved is made up for
    (letter,) = dead.receive()
    assert letter["Body"] == "a"
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == queue.arn
    assert count_of(letter) == 1  # its receives so far, with this one


def test_a_long_poll_waits_on_when_all_it_found_moved(sqs: Any, chaos: Chaos) -> None:
    dead = Queue(sqs, "dead")
    queue = Queue(sqs, RedrivePolicy={"deadLetterTargetArn": dead.arn, "maxReceiveCount": 5})
    chaos.plan({"fault": "early-dead-letter", "message": {"body": [{"prefix": "a"}]}})
    queue.send(*(f"a{number}" for number in range(12)), "b")
    assert queue.bodies(1, wait_s=5) == ["b"]
    assert len(dead.receive() + dead.receive()) == 12


def test_without_a_redrive_policy_no_message_dies_early(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "early-dead-letter"})
    queue.send("a")
    assert queue.bodies() == ["a"]
    assert chaos.struck() == {"early-dead-letter": 0}


# stale handles


def test_a_delete_with_a_stale_handle_is_answered_and_deletes_nothing(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, VisibilityTimeout=30)
    chaos.plan({"fault": "stale-handle", "count": 1})
    queue.send("a")
    (message,) = queue.receive()
    queue.delete(message)  # AWS: the request succeeds, but the message might not be deleted
    chaos.advance("30s")
    (again,) = queue.receive()
    assert (again["MessageId"], count_of(again)) == (message["MessageId"], 2)
    queue.delete(again)
    assert queue.counts() == (0, 0, 0)


def test_a_stale_handle_of_a_fifo_queue_is_refused(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, "q.fifo")
    chaos.plan({"fault": "stale-handle", "count": 1})
    queue.send("a")
    (message,) = queue.receive()
    with pytest.raises(ClientError, match="The receipt handle has expired") as refused:
        queue.delete(message)
    assert code_of(refused) == "InvalidParameterValue"
    queue.delete(message)
    assert queue.counts() == (0, 0, 0)


def test_a_stale_handle_changes_no_visibility(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs)
    chaos.plan({"fault": "stale-handle", "operation": "ChangeMessageVisibility", "count": 1})
    queue.send("a")
    (message,) = queue.receive()
    handle = message["ReceiptHandle"]
    with pytest.raises(ClientError, match="not available for visibility timeout change") as refused:
        sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert code_of(refused) == "InvalidParameterValue"
    sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert queue.bodies() == ["a"]


def test_single_entries_of_a_batch_are_stale(sqs: Any, chaos: Chaos) -> None:
    queue = Queue(sqs, "q.fifo")
    chaos.plan({"fault": "stale-handle", "message": {"body": ["2"]}})
    for body in "123":
        queue.send(body, group=body)
    received = queue.receive()
    handles = [{"Id": message["Body"], "ReceiptHandle": message["ReceiptHandle"]} for message in received]
    answer = sqs.change_message_visibility_batch(
        QueueUrl=queue.url, Entries=[{**entry, "VisibilityTimeout": 60} for entry in handles]
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["1", "3"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("2", "InvalidParameterValue")]
    answer = sqs.delete_message_batch(QueueUrl=queue.url, Entries=handles)
    assert [entry["Id"] for entry in answer["Successful"]] == ["1", "3"]
    assert [(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]] == [
        ("2", "InvalidParameterValue", True)
    ]


# whom a rule is for


def test_a_rule_strikes_only_where_it_says(sqs: Any, bent: Sidebus, connect: Connect, chaos: Chaos) -> None:
    queue, other = Queue(sqs, "orders"), Queue(sqs, "others")
    chaos.plan({"fault": "late", "resource": "ord*", "message": {"attributes": {"size": [{"numeric": [">", 5]}]}}})
    for to in (queue, other):
        for size in ("5", "6"):
            to.send(size, MessageAttributes={"size": {"DataType": "Number", "StringValue": size}})
    assert (queue.bodies(), other.bodies()) == (["5"], ["5", "6"])


def test_a_rule_strikes_only_the_client_it_names(sqs: Any, bent: Sidebus, connect: Connect, chaos: Chaos) -> None:
    queue = Queue(sqs)
    agent = connect(bent, user_agent_extra="naive-consumer")
    chaos.plan({"fault": "empty-receive", "client": "*naive-consumer*"})
    queue.send("a")
    assert "Messages" not in agent.receive_message(QueueUrl=queue.url)
    assert queue.bodies() == ["a"]
