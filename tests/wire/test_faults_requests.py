"""Faults at requests as their users see them: through boto3, retries off and on, and through raw requests.

The broker runs in a thread of this process, so that a test may also look behind the counter.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from protocols.testing.thread import BrokerThread

Connect = Callable[..., Any]
Rule = dict[str, Any]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerThread]:
    with BrokerThread() as running:
        yield running


class Faults:
    """Rules of this test's account, which are gone when it is over."""

    def __init__(self, broker: BrokerThread, account: str) -> None:
        self._broker = broker
        self._account = account

    def add(self, fault: str, **rule: Any) -> str:
        given = {"fault": fault, "account": self._account, **rule}
        return self._broker.call(lambda broker: broker.faults.add(given))

    def struck(self) -> dict[str, int]:
        shown = self._broker.call(lambda broker: broker.faults.show())
        return {rule["name"]: rule["struck"] for rule in shown.get("rules", ())}


@pytest.fixture
def faults(broker: BrokerThread, account: str) -> Iterator[Faults]:
    yield Faults(broker, account)
    broker.call(lambda running: running.faults.clear())


@pytest.fixture
def client(broker: BrokerThread, boto_session: boto3.Session, account: str) -> Iterator[Connect]:
    """`client("sqs")`: without retries unless told, and impatient."""
    with contextlib.ExitStack() as clients:

        def make(service: str = "sqs", attempts: int = 1, **config: Any) -> Any:
            made = boto_session.client(
                service,
                endpoint_url=broker.url,
                region_name="us-east-1",
                aws_access_key_id=account,
                aws_secret_access_key="any",
                config=Config(retries={"total_max_attempts": attempts}, read_timeout=5, **config),
            )
            clients.callback(made.close)
            return made

        yield make


@pytest.fixture
def sqs(client: Connect) -> Any:
    return client()


@pytest.fixture
def queue(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="orders")["QueueUrl"])


def counts(sqs: Any, queue: str) -> tuple[int, int]:
    """Messages that are visible, and in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]]), int(attributes[names[1]])


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


# refused


def test_an_error_is_the_services_own(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    faults.add("error", code="AWS.SimpleQueueService.NonExistentQueue", operation="SendMessage", count=1)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert caught.value.response["Error"]["Message"] == "The specified queue does not exist."
    assert caught.value.response["Error"]["QueryErrorCode"] == "QueueDoesNotExist"
    assert refusal(caught) == ("AWS.SimpleQueueService.NonExistentQueue", 400)
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert counts(sqs, queue) == (1, 0)


@pytest.mark.parametrize(
    ("service", "call", "code", "seen", "status"),
    [
        ("sqs", lambda c: c.list_queues(), "InternalError", "InternalError", 500),
        ("sqs", lambda c: c.list_queues(), "OverLimit", "OverLimit", 400),
        ("sns", lambda c: c.list_topics(), "InternalErrorException", "InternalError", 500),
        ("sns", lambda c: c.list_topics(), "AuthorizationError", "AuthorizationError", 403),
        ("events", lambda c: c.list_rules(), "InternalException", "InternalException", 500),
        ("kinesis", lambda c: c.list_streams(), "ExpiredNextTokenException", "ExpiredNextTokenException", 400),
        ("dynamodb", lambda c: c.list_tables(), "InternalServerError", "InternalServerError", 500),
        ("sts", lambda c: c.get_caller_identity(), "ExpiredToken", "ExpiredToken", 403),
        ("kinesis", lambda c: c.list_streams(), "ServiceUnavailable", "ServiceUnavailableException", 503),
    ],
)
def test_an_errors_code_and_status(
    faults: Faults, client: Connect, service: str, call: Callable[[Any], Any], code: str, seen: str, status: int
) -> None:
    faults.add("error", code=code, service=service, count=1)
    with pytest.raises(ClientError) as caught:
        call(client(service))
    assert refusal(caught) == (seen, status)
    assert caught.value.response["Error"]["Message"]
    call(client(service))


def test_an_errors_own_words_and_status(faults: Faults, sqs: Any) -> None:
    faults.add("error", code="Odd", message="Not today.", status=418)
    with pytest.raises(ClientError, match="Not today") as caught:
        sqs.list_queues()
    assert refusal(caught) == ("Odd", 418)


def test_retries_outlive_two_errors(faults: Faults, client: Connect) -> None:
    faults.add("error", code="ServiceUnavailable", burst=2, count=2)
    answer = client(attempts=3).list_queues()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


@pytest.mark.parametrize(
    ("service", "call", "code", "status"),
    [
        ("sqs", lambda c: c.list_queues(), "RequestThrottled", 400),
        ("sns", lambda c: c.list_topics(), "Throttled", 429),
        ("events", lambda c: c.put_events(Entries=[{"Source": "a"}]), "ThrottlingException", 400),
        (
            "kinesis",
            lambda c: c.put_record(StreamName="s", Data=b"", PartitionKey="k"),
            "ProvisionedThroughputExceededException",
            400,
        ),
        ("kinesis", lambda c: c.describe_stream(StreamName="s"), "LimitExceededException", 400),
        ("kinesis", lambda c: c.receive_queue_records(QueueARN="arn:aws:kinesis:us-east-1:1:queue/q"), "ThrottlingException", 400),
        (
            "dynamodb",
            lambda c: c.get_item(TableName="t", Key={"k": {"S": "1"}}),
            "ProvisionedThroughputExceededException",
            400,
        ),
        ("dynamodb", lambda c: c.list_tables(), "ThrottlingException", 400),
        ("sts", lambda c: c.get_caller_identity(), "Throttling", 400),
    ],
)
def test_each_service_throttles_in_its_own_words(
    faults: Faults, client: Connect, service: str, call: Callable[[Any], Any], code: str, status: int
) -> None:
    faults.add("throttle", service=service)
    with pytest.raises(ClientError) as caught:
        call(client(service))
    assert refusal(caught) == (code, status)
    message = caught.value.response["Error"]["Message"]
    assert "xceed" in message


@pytest.mark.parametrize("service", ["sqs", "sns", "events", "kinesis", "dynamodb", "sts"])
def test_sdks_take_it_for_throttling_and_retry(faults: Faults, client: Connect, service: str) -> None:
    calls = {
        "sqs": "list_queues",
        "sns": "list_topics",
        "events": "list_rules",
        "kinesis": "list_streams",
        "dynamodb": "list_tables",
        "sts": "get_caller_identity",
    }
    faults.add("throttle", count=1)
    made = boto_client = client(service, attempts=2)
    made.meta.config.retries["mode"] = "standard"
    answer = getattr(client_in_standard_mode(client, service), calls[service])()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    del boto_client
