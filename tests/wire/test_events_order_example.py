"""The order example as a program builds it with boto3: what a stack of the CDK would have, and a day of its life.

Orders over 1000 go to a topic, to billing and to the warehouse. The warehouse's target is misspelt: what it misses is
in the dead-letter queue, the bug is fixed, and the archive replays the day. Small orders, and those who are no orders,
go nowhere all the while.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

REGION = "us-east-1"
WAIT_S = 10


class OrderStack:
    """A bus with an archive, a rule with three targets, and the queues that stand for those who work with orders."""

    def __init__(self, events: Any, sns: Any, sqs: Any, account: str) -> None:
        self.events = events
        self.sqs = sqs
        self.account = account
        self.urls = {name: self._queue(name) for name in ("reviewers", "billing", "warehouse", "dead-letters")}
        self.topic = sns.create_topic(Name="large-orders")["TopicArn"]
        sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=self.queue_arn("reviewers"),
            Attributes={"RawMessageDelivery": "true"},
        )
        self.bus = events.create_event_bus(Name="orders", Tags=[{"Key": "stack", "Value": "orders"}])["EventBusArn"]
        self.archive = events.create_archive(ArchiveName="orders", EventSourceArn=self.bus, RetentionDays=30)[
            "ArchiveArn"
        ]
        pattern = {
            "source": ["order.service"],
            "detail-type": ["Order Placed"],
            "detail": {"amount": [{"numeric": [">", 1000]}]},
        }
        self.rule = events.put_rule(Name="large-orders", EventBusName="orders", EventPattern=json.dumps(pattern))[
            "RuleArn"
        ]
        self.put_targets(warehouse="warehose")

    def _queue(self, name: str) -> str:
        return str(self.sqs.create_queue(QueueName=name)["QueueUrl"])

    def queue_arn(self, name: str) -> str:
        return f"arn:aws:sqs:{REGION}:{self.account}:{name}"

    def put_targets(self, warehouse: str) -> None:
        safety = {
            "DeadLetterConfig": {"Arn": self.queue_arn("dead-letters")},
            "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600},
        }
        invoice = {
            "InputPathsMap": {"order": "$.detail.orderId", "amount": "$.detail.amount"},
            "InputTemplate": '{"invoice": "INV-<order>", "total": <amount>}',
        }
        put = self.events.put_targets(
            Rule="large-orders",
            EventBusName="orders",
            Targets=[
                {"Id": "topic", "Arn": self.topic, **safety},
                {"Id": "billing", "Arn": self.queue_arn("billing"), "InputTransformer": invoice, **safety},
                {"Id": "warehouse", "Arn": self.queue_arn(warehouse), "InputPath": "$.detail", **safety},
            ],
        )
        assert put["FailedEntryCount"] == 0

    def place(self, *orders: tuple[str, float], source: str = "order.service", kind: str = "Order Placed") -> None:
        details = [json.dumps({"orderId": id, "amount": amount}) for id, amount in orders]
        put = self.events.put_events(
            Entries=[
                {"EventBusName": "orders", "Source": source, "DetailType": kind, "Detail": detail} for detail in details
            ]
        )
        assert put["FailedEntryCount"] == 0

    def take(self, name: str) -> list[dict[str, Any]]:
        """What is in a queue, taken out of it."""
        taken = []
        while messages := self.sqs.receive_message(
            QueueUrl=self.urls[name], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            taken += messages
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            self.sqs.delete_message_batch(QueueUrl=self.urls[name], Entries=entries)
        return taken

    def bodies(self, name: str) -> list[Any]:
        return [json.loads(message["Body"]) for message in self.take(name)]

    def replay(self, name: str) -> None:
        now = datetime.now(UTC)
        self.events.start_replay(
            ReplayName=name,
            EventSourceArn=self.archive,
            EventStartTime=now - timedelta(days=1),
            EventEndTime=now + timedelta(minutes=1),
            Destination={"Arn": self.bus, "FilterArns": [self.rule]},
        )
        deadline = time.monotonic() + WAIT_S
        while (state := self.events.describe_replay(ReplayName=name)["State"]) != "COMPLETED":
            assert state in ("STARTING", "RUNNING")
            assert time.monotonic() < deadline


@pytest.fixture
def stack(connect: Any, sidebus: Any, sqs: Any, account: str) -> OrderStack:
    return OrderStack(connect(sidebus, "events"), connect(sidebus, "sns"), sqs, account)


def test_the_day_of_the_bug(stack: OrderStack) -> None:
    stack.place(("A1", 1500), ("A2", 1000), ("A3", 999.99), ("A4", 1000.01), ("A5", 2e3))
    stack.place(("B1", 5000), source="quote.service")
    stack.place(("C1", 5000), kind="Order Cancelled")
    large = {"A1": 1500, "A4": 1000.01, "A5": 2000}

    # What works: the whole event for the topic, an invoice for billing.
    live = stack.bodies("reviewers")
    assert [event["detail"] for event in live] == [{"orderId": id, "amount": large[id]} for id in large]
    assert {(event["source"], event["account"]) for event in live} == {("order.service", stack.account)}
    assert stack.bodies("billing") == [{"invoice": f"INV-{id}", "total": large[id]} for id in large]

    # What does not: the warehouse has nothing, and each event is among the dead letters with the reason.
    assert stack.take("warehouse") == []
    letters = stack.take("dead-letters")
    assert [json.loads(letter["Body"])["detail"]["orderId"] for letter in letters] == list(large)
    for letter in letters:
        said = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
        assert said["RULE_ARN"] == stack.rule
        assert said["TARGET_ARN"] == stack.queue_arn("warehose")
        assert said["ERROR_CODE"] == "NO_RESOURCE"
        assert said["ERROR_MESSAGE"]

    # The archive has all that came to the bus, large or not.
    archive = stack.events.describe_archive(ArchiveName="orders")
    assert (archive["EventCount"], archive["State"]) == (7, "ENABLED")

    # The fix, and the day again: for the rule alone, each event once, marked as a replay's and in no archive.
    stack.put_targets(warehouse="warehouse")
    stack.replay("after-the-fix")
    assert stack.bodies("warehouse") == [{"orderId": id, "amount": large[id]} for id in large]
    again = stack.bodies("reviewers")
    assert again == [{**event, "replay-name": "after-the-fix"} for event in live]
    assert len(stack.bodies("billing")) == len(large)
    assert stack.take("dead-letters") == []
    assert stack.events.describe_archive(ArchiveName="orders")["EventCount"] == 7

    # And life goes on.
    stack.place(("D1", 1234))
    assert stack.bodies("warehouse") == [{"orderId": "D1", "amount": 1234}]


def test_taking_the_stack_down(stack: OrderStack) -> None:
    events = stack.events
    counts = Counter(rule["EventBusName"] for rule in events.list_rules(EventBusName="orders")["Rules"])
    assert counts == {"orders": 2}  # the archive's rule is one of them
    ids = [
        target["Id"] for target in events.list_targets_by_rule(Rule="large-orders", EventBusName="orders")["Targets"]
    ]
    events.remove_targets(Rule="large-orders", EventBusName="orders", Ids=ids)
    events.delete_rule(Name="large-orders", EventBusName="orders")
    events.delete_archive(ArchiveName="orders")
    events.delete_event_bus(Name="orders")
    assert [bus["Name"] for bus in events.list_event_buses()["EventBuses"]] == ["default"]
