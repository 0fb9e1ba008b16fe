"""SNS to HTTP endpoints and functions, through the real process: confirmation, signatures, links, retries, kill -9."""

from __future__ import annotations

import base64
import json
import queue
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

WAIT_S = 10
Connect = Callable[..., Any]

NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: str


class Endpoint:
    """Notes what it is sent; answers what `statuses` say, then 200."""

    def __init__(self) -> None:
        self.inbox: queue.Queue[Received] = queue.Queue()
        self.statuses: list[int] = []
        self.answers = threading.Event()  # cleared, it takes requests and leaves them without an answer
        self.answers.set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length).decode()
                if len(body.encode()) < length:  # the broker was killed meanwhile
                    self.close_connection = True
                    return
                inbox = endpoint.inbox
                endpoint.answers.wait()
                status = endpoint.statuses.pop(0) if endpoint.statuses else 200
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                inbox.put(Received(self.path, {n.lower(): v for n, v in self.headers.items()}, body))

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:  # a broker that was killed
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/inbox"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def next(self) -> Received:
        return self.inbox.get(timeout=WAIT_S)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def sns(sidebus: Any, connect: Connect) -> Any:
    return connect(sidebus, "sns")


def get(sidebus: Any, url: str) -> Any:
    parts = urlsplit(url)
    assert parts.netloc == sidebus.host
    return sidebus.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)


def check_signature(sidebus: Any, message: dict[str, str], names: tuple[str, ...]) -> None:
    """By the developer guide, with nothing of ours. Raises where it does not hold."""
    assert re.fullmatch(
        rf"http://{sidebus.host}/SimpleNotificationService-[0-9a-f]{{32}}\.pem", message["SigningCertURL"]
    )
    certificate = x509.load_pem_x509_certificate(get(sidebus, message["SigningCertURL"]).body)
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    algorithm = SHA1() if message["SignatureVersion"] == "1" else SHA256()
    key.verify(base64.b64decode(message["Signature"]), text.encode(), PKCS1v15(), algorithm)


def subscribe(sns: Any, sidebus: Any, endpoint: Endpoint, topic_arn: str, **attributes: Any) -> str:
    """A confirmed subscription's ARN."""
    given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in attributes.items()}
    sns.subscribe(TopicArn=topic_arn, Protocol="http", Endpoint=endpoint.url, Attributes=given)
    message = json.loads(endpoint.next().body)
    answer = get(sidebus, message["SubscribeURL"])
    assert answer.status == 200
    (arn,) = re.findall("<SubscriptionArn>(.*)</SubscriptionArn>", answer.body.decode())
    assert isinstance(arn, str)
    return arn


def test_a_subscription_is_confirmed_by_its_link(sns: Any, sidebus: Any, endpoint: Endpoint) -> None:
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    answer = sns.subscribe(TopicArn=topic_arn, Protocol="http", Endpoint=endpoint.url, ReturnSubscriptionArn=True)
    received = endpoint.next()
    message = json.loads(received.body)
    assert received.path == "/inbox"
    assert received.headers["x-amz-sns-message-type"] == message["Type"] == "SubscriptionConfirmation"
    assert received.headers["x-amz-sns-message-id"] == message["MessageId"]
    assert received.headers["x-amz-sns-topic-arn"] == message["TopicArn"] == topic_arn
    assert received.headers["content-type"] == "text/plain; charset=UTF-8"
    assert received.headers["user-agent"] == "Amazon Simple Notification Service Agent"
    assert "x-amz-sns-subscription-arn" not in received.headers
    check_signature(sidebus, message, CONFIRMATION)
    confirmed = get(sidebus, message["SubscribeURL"])
    assert confirmed.status == 200
    assert f"<SubscriptionArn>{answer['SubscriptionArn']}</SubscriptionArn>" in confirmed.body.decode()
    shown = sns.get_subscription_attributes(SubscriptionArn=answer["SubscriptionArn"])["Attributes"]
    assert (shown["PendingConfirmation"], shown["ConfirmationWasAuthenticated"]) == ("false", "false")


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Grüße", None])
def test_a_notification_is_signed(
    sns: Any, sidebus: Any, endpoint: Endpoint, version: str, subject: str | None
) -> None:
    topic_arn = sns.create_topic(Name="t", Attributes={"SignatureVersion": version})["TopicArn"]
    arn = subscribe(sns, sidebus, endpoint, topic_arn)
    sent = sns.publish(
        TopicArn=topic_arn,
        Message='{"a": "ü\n"}',
        MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}},
        **({"Subject": subject} if subject else {}),
    )
    received = endpoint.next()
    message = json.loads(received.body)
    assert received.headers["x-amz-sns-message-type"] == "Notification"
    assert received.headers["x-amz-sns-message-id"] == message["MessageId"] == sent["MessageId"]
    assert received.headers["x-amz-sns-subscription-arn"] == arn
    assert (message["Message"], message.get("Subject")) == ('{"a": "ü\n"}', subject)
    assert message["MessageAttributes"] == {"n": {"Type": "Number", "Value": "1"}}
    assert message["SignatureVersion"] == version
    check_signature(sidebus, message, NOTIFICATION)


def test_raw_delivery_and_content_type(sns: Any, sidebus: Any, endpoint: Endpoint) -> None:
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    policy = {"requestPolicy": {"headerContentType": "text/csv"}}
    subscribe(sns, sidebus, endpoint, topic_arn, RawMessageDelivery="true", DeliveryPolicy=policy)
    sns.publish(TopicArn=topic_arn, Message="a,b")
    received = endpoint.next()
    assert received.body == "a,b"
    assert received.headers["content-type"] == "text/csv"
    assert received.headers["x-amz-sns-rawdelivery"] == "true"


def test_unsubscribing_by_link_is_confirmed_and_can_be_undone(sns: Any, sidebus: Any, endpoint: Endpoint) -> None:
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    arn = subscribe(sns, sidebus, endpoint, topic_arn)
    sns.publish(TopicArn=topic_arn, Message="x")
    assert get(sidebus, json.loads(endpoint.next().body)["UnsubscribeURL"]).status == 200
    received = endpoint.next()
    message = json.loads(received.body)
    assert received.headers["x-amz-sns-message-type"] == message["Type"] == "UnsubscribeConfirmation"
    assert received.headers["x-amz-sns-subscription-arn"] == arn
    check_signature(sidebus, message, CONFIRMATION)
    assert sns.list_subscriptions_by_topic(TopicArn=topic_arn)["Subscriptions"] == []


def test_a_policy_without_delays_is_followed_and_then_the_dead_letter_queue_has_it(
    sns: Any, sqs: Any, sidebus: Any, endpoint: Endpoint
) -> None:
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    url = sqs.create_queue(QueueName="dead")["QueueUrl"]
    dead_arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    retry = {"numRetries": 2, "numNoDelayRetries": 2, "minDelayTarget": 1, "maxDelayTarget": 1}
    subscribe(
        sns,
        sidebus,
        endpoint,
        topic_arn,
        DeliveryPolicy={"healthyRetryPolicy": retry},
        RedrivePolicy={"deadLetterTargetArn": dead_arn},
    )
    endpoint.statuses = [500, 429, 200]
    sns.publish(TopicArn=topic_arn, Message="in the end")
    bodies = [endpoint.next().body for _ in range(3)]
    assert len(set(bodies)) == 1
    endpoint.statuses = [503, 503, 503]
    sns.publish(TopicArn=topic_arn, Message="never")
    (letter,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    assert json.loads(letter["Body"])["Message"] == "never"
    assert {json.loads(endpoint.next().body)["Message"] for _ in range(3)} == {"never"}
    assert endpoint.inbox.empty()


def test_what_an_endpoint_has_not_taken_is_delivered_after_kill_9(
    start_sidebus: Any, connect: Connect, endpoint: Endpoint, tmp_path: Path
) -> None:
    sidebus = start_sidebus("--data", tmp_path)
    sns = connect(sidebus, "sns")
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    retry = {"numRetries": 3, "minDelayTarget": 1, "maxDelayTarget": 1}
    subscribe(sns, sidebus, endpoint, topic_arn, DeliveryPolicy={"healthyRetryPolicy": retry})
    sns.publish(TopicArn=topic_arn, Message="first")
    certificate_url = urlsplit(json.loads(endpoint.next().body)["SigningCertURL"]).path
    certificate = sidebus.request("GET", certificate_url).body
    endpoint.statuses = [503]
    sent = sns.publish(TopicArn=topic_arn, Message="second")
    assert json.loads(endpoint.next().body)["Message"] == "second"
    sidebus.stop(signal.SIGKILL)

    again = start_sidebus("--data", tmp_path)
    received = endpoint.next()
    assert json.loads(received.body)["MessageId"] == sent["MessageId"]
    assert again.request("GET", certificate_url).body == certificate  # the key is the same
    again.stop()


def test_nothing_that_was_published_is_forgotten_by_kill_9(
    start_sidebus: Any, connect: Connect, endpoint: Endpoint, tmp_path: Path
) -> None:
    sidebus = start_sidebus("--data", tmp_path)
    sns = connect(sidebus, "sns")
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    subscribe(sns, sidebus, endpoint, topic_arn)
    endpoint.answers.clear()
    published = set()
    for _ in range(10):
        entries = [{"Id": str(n), "Message": "x" * 1000} for n in range(10)]
        answer = sns.publish_batch(TopicArn=topic_arn, PublishBatchRequestEntries=entries)
        published |= {entry["MessageId"] for entry in answer["Successful"]}
    sidebus.stop(signal.SIGKILL)
    assert len(published) == 100
    assert endpoint.inbox.empty()
    endpoint.inbox = queue.Queue()
    endpoint.answers.set()
    again = start_sidebus("--data", tmp_path)
    missing = set(published)
    while missing:  # some come twice: the first process may have got them through just before its end
        missing.discard(json.loads(endpoint.next().body)["MessageId"])
    again.stop()


def test_a_delivery_that_hangs_does_not_hold_up_the_end(start_sidebus: Any, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sidebus = start_sidebus()
        sns = connect(sidebus, "sns")
        topic_arn = sns.create_topic(Name="t")["TopicArn"]
        sns.subscribe(TopicArn=topic_arn, Protocol="http", Endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"POST"
            began_s = time.monotonic()
            assert sidebus.stop() == 0
            assert time.monotonic() - began_s < 5
        assert "Traceback" not in sidebus.log.read_text()


def test_a_function_gets_the_event_that_lambda_gives_it(
    start_sidebus: Any, connect: Connect, endpoint: Endpoint
) -> None:
    base = endpoint.url.removesuffix("/inbox")
    sidebus = start_sidebus(SIDEBUS_FUNCTION=f"thumbs={base},other={base}", SIDEBUS_SNS_CERT_HOST="certs.test")
    sns = connect(sidebus, "sns")
    topic_arn = sns.create_topic(Name="t")["TopicArn"]
    account = topic_arn.split(":")[4]
    function_arn = f"arn:aws:lambda:us-east-1:{account}:function:thumbs"
    arn = sns.subscribe(TopicArn=topic_arn, Protocol="lambda", Endpoint=function_arn)["SubscriptionArn"]
    sent = sns.publish(
        TopicArn=topic_arn,
        Message="hello",
        MessageAttributes={"Test": {"DataType": "String", "StringValue": "TestString"}},
    )
    received = endpoint.next()
    assert received.path == "/2015-03-31/functions/thumbs/invocations"
    (record,) = json.loads(received.body)["Records"]
    message = record.pop("Sns")
    assert record == {"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": arn}
    assert re.fullmatch(
        r"https://certs\.test/SimpleNotificationService-[0-9a-f]{32}\.pem", message.pop("SigningCertUrl")
    )
    assert message.pop("UnsubscribeUrl").startswith(f"{sidebus.url}/?Action=Unsubscribe&SubscriptionArn={arn}")
    assert len(base64.b64decode(message.pop("Signature"))) == 256
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message.pop("Timestamp"))
    assert message == {
        "Type": "Notification",
        "MessageId": sent["MessageId"],
        "TopicArn": topic_arn,
        "Subject": None,
        "Message": "hello",
        "SignatureVersion": "1",
        "MessageAttributes": {"Test": {"Type": "String", "Value": "TestString"}},
    }
    sidebus.stop()


def test_what_would_have_been_sent_can_be_read(sns: Any, sidebus: Any, account: str) -> None:
    for number in range(3):
        sns.publish(PhoneNumber="+15550100", Message=f"code {number}")
    page = f"/_sidebus/sns/outbox?channel=sms&account={account}"

    def read(more: str = "") -> tuple[list[str], int | None]:
        answer = json.loads(sidebus.request("GET", page + more).body)
        assert all(
            (m["channel"], m["account"], m["region"]) == ("sms", account, "us-east-1") for m in answer["messages"]
        )
        return [json.dumps(m["message"]) for m in answer["messages"]], answer["next"]

    messages, following = read()
    assert [re.findall(r"code \d", message) for message in messages] == [["code 0"], ["code 1"], ["code 2"]]
    assert following is None
    first, following = read("&limit=2")
    assert (first, read(f"&limit=2&after={following}")) == (messages[:2], (messages[2:], None))
    assert sidebus.request("GET", page + "&limit=0").status == 400
    assert json.loads(sidebus.request("DELETE", page).body) == {"deleted": 3}
    assert read() == ([], None)


def test_the_certificates_page(sidebus: Any) -> None:
    assert sidebus.request("GET", "/SimpleNotificationService-0.pem").status == 404
    assert sidebus.request("POST", "/SimpleNotificationService-0.pem").status == 405


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--function", "thumbs"], "--function takes NAME=URL"),
        (["--function", "thumbs=localhost"], "--function takes NAME=URL"),
        (["--verify-endpoints", "maybe"], "--verify-endpoints takes yes or no, not maybe."),
    ],
)
def test_options_that_cannot_be_used(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    from protocols.cli import main

    assert main(["serve", "--port", "0", *arguments]) == 2
    assert complaint in capsys.readouterr().err
