"""Faults of endpoints as users of boto3 see them, and that each is taken for what a real endpoint would have done.

The process's time stands still, so retries come when a test moves it. A comparison runs everything twice, once with an
endpoint that really behaves so and once with one that is struck, and wants the same requests, retries and dead letters.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from test_delivery_events import FUNCTION, MACHINE, Trade, trading
from virtual_faults import Chaos

from broker.delivery import HTTP, Attempt, Outcome
from broker.delivery_policy import HttpPolicy
from protocols.delivery.client import Client
from protocols.delivery.driver import Delivering, under_way

if TYPE_CHECKING:
    from conftest import Connect, Sidebus, StartSidebus

WAIT_S = 10


class Endpoint:
    """Notes what it is sent, and answers what `statuses` say, then 200."""

    def __init__(self) -> None:
        self.inbox: queue.Queue[str] = queue.Queue()
        self.statuses: list[int] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint.inbox.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(endpoint.statuses.pop(0) if endpoint.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def next(self) -> Any:
        return json.loads(self.inbox.get(timeout=WAIT_S))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def endpoint_server() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def endpoint(endpoint_server: Endpoint) -> Endpoint:
    endpoint_server.statuses.clear()
    endpoint_server.inbox = queue.Queue()
    return endpoint_server


@pytest.fixture(scope="module")
def bent(start_sidebus: StartSidebus, endpoint_server: Endpoint) -> Sidebus:
    """A process of this module's own: it bends its time."""
    return start_sidebus("--function", f"bill={endpoint_server.url}")


@pytest.fixture
def chaos(bent: Sidebus, account: str) -> Iterator[Chaos]:
    chaos = Chaos(bent, account)
    yield chaos
    chaos.end()


class Hook:
    """A topic with one subscriber and a queue for its dead letters."""

    def __init__(self, bent: Sidebus, connect: Connect, endpoint: Endpoint, chaos: Chaos) -> None:
        self.sns, self._sqs, self._chaos, self.endpoint = connect(bent, "sns"), connect(bent), chaos, endpoint
        self.topic = self.sns.create_topic(Name="t")["TopicArn"]
        self._dead = self._sqs.create_queue(QueueName="dead")["QueueUrl"]
        dead_arn = self.topic.replace(":sns:", ":sqs:")[:-1] + "dead"
        self._attributes = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn})}
        self._bent = bent

    def webhook(self) -> str:
        self.sns.subscribe(
            TopicArn=self.topic, Protocol="http", Endpoint=f"{self.endpoint.url}/in", Attributes=self._attributes
        )
        link = urlsplit(self.endpoint.next()["SubscribeURL"])
        assert self._bent.request("GET", f"{link.path}?{link.query}").status == 200
        (subscription,) = self.sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]
        return str(subscription["SubscriptionArn"])

    def function(self, account: str) -> str:
        arn = f"arn:aws:lambda:us-east-1:{account}:function:bill"
        self.sns.subscribe(TopicArn=self.topic, Protocol="lambda", Endpoint=arn, Attributes=self._attributes)
        return arn

    def publish(self, text: str = "hello", **attributes: str) -> None:
        given = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        self.sns.publish(TopicArn=self.topic, Message=text, MessageAttributes=given)
        self._chaos.advance("1ms")  # and it returns when what is under way has ended

    def arrived(self) -> int:
        return self.endpoint.inbox.qsize()

    def letters(self) -> list[str]:
        answer = self._sqs.receive_message(QueueUrl=self._dead, MaxNumberOfMessages=10)
        return [json.loads(message["Body"])["Message"] for message in answer.get("Messages", ())]


@pytest.fixture
def hook(bent: Sidebus, connect: Connect, endpoint: Endpoint, chaos: Chaos) -> Hook:
    return Hook(bent, connect, endpoint, chaos)


def test_a_webhook_that_cannot_be_reached_is_tried_again(hook: Hook, chaos: Chaos) -> None:
    hook.webhook()
    chaos.plan({"fault": "unreachable", "count": 2})
    hook.publish()
    assert hook.arrived() == 0
    chaos.advance("20s")
    assert (hook.arrived(), chaos.struck()) == (0, {"unreachable": 2})
    chaos.advance("20s")
    assert hook.endpoint.next()["Message"] == "hello"


def test_a_webhook_that_stays_away_leaves_a_dead_letter(hook: Hook, chaos: Chaos) -> None:
    hook.webhook()
    chaos.plan({"fault": "unreachable"})
    hook.publish()
    chaos.advance("1h")
    assert (hook.arrived(), hook.letters(), chaos.struck()) == (0, ["hello"], {"unreachable": 4})


@pytest.mark.parametrize(
    ("status", "attempts", "is_lost"),
    [(200, 1, False), (204, 1, False), (404, 1, True), (429, 4, True), (500, 4, True)],
)
def test_a_status_is_taken_as_from_the_endpoint(
    hook: Hook, chaos: Chaos, status: int, attempts: int, is_lost: bool
) -> None:
    hook.webhook()
    chaos.plan({"fault": "endpoint-status", "status": status})
    hook.publish("struck")
    chaos.advance("1h")
    assert (hook.arrived(), chaos.struck()) == (0, {"endpoint-status": attempts})
    chaos.clear()
    hook.endpoint.statuses = [status] * attempts
    hook.publish("real")
    chaos.advance("1h")
    assert hook.arrived() == attempts
    assert sorted(hook.letters()) == (["real", "struck"] if is_lost else [])


def test_a_slow_webhook_takes_its_time_by_the_broker_s_clock(hook: Hook, chaos: Chaos) -> None:
    hook.webhook()
    chaos.plan({"fault": "slow-endpoint", "delay": "5s", "count": 1})
    hook.publish()
    chaos.advance("4s")
    assert hook.arrived() == 0
    chaos.advance("1s")
    assert hook.endpoint.next()["Message"] == "hello"
    chaos.advance("1h")
    assert hook.arrived() == 0


def test_a_webhook_that_is_too_slow_is_tried_again(hook: Hook, chaos: Chaos) -> None:
    hook.webhook()
    chaos.plan({"fault": "slow-endpoint", "delay": "60s", "count": 1})
    hook.publish()
    chaos.advance("34s")  # 15 s without an answer, and 20 s until the retry
    assert hook.arrived() == 0
    chaos.advance("1s")
    assert hook.endpoint.next()["Message"] == "hello"


def test_a_slow_webhook_may_answer_a_status_too(hook: Hook, chaos: Chaos) -> None:
    hook.webhook()
    chaos.plan({"fault": "slow-endpoint", "delay": "5s"}, {"fault": "endpoint-status", "status": 404})
    hook.publish()
    chaos.advance("4s")
    assert chaos.struck() == {"slow-endpoint": 1, "endpoint-status": 0}
    chaos.advance("1s")
    assert (hook.arrived(), hook.letters()) == (0, ["hello"])


def test_a_function_cannot_be_reached(hook: Hook, chaos: Chaos, account: str) -> None:
    arn = hook.function(account)
    chaos.plan({"fault": "unreachable", "resource": arn, "count": 1})
    hook.publish()
    assert hook.endpoint.next()["Records"][0]["Sns"]["Message"] == "hello"  # SNS tries functions again at once
    assert (hook.arrived(), chaos.struck()) == (0, {"unreachable": 1})


# whom a rule is for


@pytest.mark.parametrize("named", ["url", "url pattern", "subscription", "topic", "service"])
def test_a_rule_names_a_webhook_in_many_ways(hook: Hook, chaos: Chaos, named: str) -> None:
    subscription = hook.webhook()
    where = {
        "url": {"resource": f"{hook.endpoint.url}/in"},
        "url pattern": {"resource": "http://127.0.0.1:*/in"},
        "subscription": {"resource": subscription},
        "topic": {"resource": "t"},
        "service": {"service": "sns"},
    }[named]
    chaos.plan({"fault": "unreachable", "count": 1, **where})
    hook.publish()
    assert (hook.arrived(), chaos.struck()) == (0, {"unreachable": 1})


@pytest.mark.parametrize("where", [{"resource": "http://127.0.0.1:*/out"}, {"resource": "u"}, {"service": "events"}])
def test_a_rule_for_others_does_not_strike(hook: Hook, chaos: Chaos, where: dict[str, str]) -> None:
    hook.webhook()
    chaos.plan({"fault": "unreachable", **where})
    hook.publish()
    assert (hook.arrived(), chaos.struck()) == (1, {"unreachable": 0})


def test_a_rule_looks_into_the_message_that_was_published(hook: Hook, chaos: Chaos) -> None:
    hook.webhook()
    chaos.plan({"fault": "endpoint-status", "status": 404, "message": {"attributes": {"poison": [{"exists": True}]}}})
    hook.publish("good")
    hook.publish("bad", poison="yes")
    assert hook.endpoint.next()["Message"] == "good"
    assert (hook.arrived(), hook.letters()) == (0, ["bad"])


# as from a real endpoint

SUBSCRIPTION = "arn:aws:sns:us-east-1:000000000000:t:1"
PATHS = {"destination": "orders", "function": "bill", "machine": "states"}


def target(trade: Trade, kind: str) -> str:
    return trade.destination(trade.connect()) if kind == "destination" else FUNCTION if kind == "function" else MACHINE


async def what_comes_of_it(trade: Trade, kind: str, *, is_struck: bool) -> tuple[list[tuple[str, str, str]], str]:
    """Dead letters with their numbers of retries, and the connection's state."""
    trade.send(target(trade, kind), RetryPolicy={"MaximumRetryAttempts": 3})
    await trade.advance(3_600)
    assert (trade.shop.at(PATHS[kind]) == []) is is_struck
    return trade.letters(), trade.connection["ConnectionState"] if kind == "destination" else ""


@pytest.mark.trio
@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 407, 409, 429, 500, 503])
async def test_a_status_comes_to_what_a_real_one_comes_to(kind: str, status: int) -> None:
    async with trading() as trade:
        trade.shop.answer(PATHS[kind], (status, {}, ""))
        real = await what_comes_of_it(trade, kind, is_struck=False)
    async with trading() as trade:
        trade.broker.faults.load({"seed": 1, "rule": [{"fault": "endpoint-status", "status": status}]})
        assert await what_comes_of_it(trade, kind, is_struck=True) == real


@pytest.mark.trio
async def test_an_unreachable_endpoint_is_what_a_closed_port_is() -> None:
    """To the client, and so to all that go through it."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    async with trading() as trade:
        client = Client()
        real = await client.post(url, {}, b"")
        trade.broker.faults.load({"seed": 1, "rule": [{"fault": "unreachable"}]})
        attempt = Attempt(1, 1, HTTP, SUBSCRIPTION, trade.shop.url("open"), {}, "{}", HttpPolicy())
        under_way.set(Delivering(trade.broker, attempt))
        struck = await client.post(attempt.target, {}, b"")
        assert isinstance(real, Outcome)
        assert isinstance(struck, Outcome)
        assert struck._replace(reason="") == real._replace(reason="")  # trio and asyncio say it each in their words
        assert struck.reason.startswith("ConnectError: ") is real.reason.startswith("ConnectError: ") is True
        assert trade.shop.asked == []
        await client.close()


@pytest.mark.trio
async def test_a_rule_for_an_api_destination_does_not_strike_the_endpoint_of_its_tokens() -> None:
    async with trading() as trade:
        trade.shop.answer("token", (200, {}, json.dumps({"access_token": "t"})))
        arn = trade.destination(trade.oauth())
        trade.broker.faults.load({"seed": 1, "rule": [{"fault": "endpoint-status", "status": 500, "resource": arn}]})
        trade.send(arn, RetryPolicy={"MaximumRetryAttempts": 0})
        await trade.advance(1)
        assert trade.shop.at("token")
        assert [(code, text) for code, text, _ in trade.letters()] == [("ERROR_FROM_TARGET", "HTTP 500")]


@pytest.mark.trio
async def test_the_endpoint_of_tokens_is_struck_by_its_url_or_its_connection() -> None:
    for where in ("http://*/token?tenant=1", "c/*"):
        async with trading() as trade:
            trade.broker.faults.load(
                {"seed": 1, "rule": [{"fault": "endpoint-status", "status": 503, "resource": where}]}
            )
            trade.send(trade.destination(trade.oauth()), RetryPolicy={"MaximumRetryAttempts": 0})
            await trade.advance(1)
            assert not trade.shop.at("token")
            assert [code for code, *_ in trade.letters()] == ["NO_PERMISSIONS"]
