"""EventBridge's remote targets over real connections, under virtual time: API destinations, OAuth, Step Functions.

Beside the broker runs one small HTTP server, which notes what it is asked and answers as a test says.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import anyio
import anyio.abc
import pytest
import trio
import trio.testing

from broker.clock import ManualClock
from broker.core import Broker
from broker.delivery import API_DESTINATION, AUTHORIZATION, LAMBDA, STATE_MACHINE, Attempt, Outcome
from broker.delivery_policy import FUNCTION_ERROR, REFUSED, UNAVAILABLE, EventPolicy
from broker.entropy import Entropy
from broker.event_dead_letters import (
    CONNECTION_FAILURE,
    ERROR_FROM_TARGET,
    INVALID_JSON,
    INVALID_PARAMETER,
    NO_PERMISSIONS,
    NO_RESOURCE,
    RESOURCE_LIMIT_EXCEEDED,
    THROTTLING,
)
from broker.names import World
from broker.queues import messages as queue_messages
from broker.queues import receipts
from broker.store.sqlite import SqliteStore
from protocols.delivery import api_destination, step_functions
from protocols.delivery.api_destination import ApiDestinationTransport
from protocols.delivery.client import Answer, Client
from protocols.delivery.driver import Driver
from protocols.delivery.functions import Functions, LambdaTransport
from protocols.delivery.http_parameters import headers_of, with_body_parameters, with_path_values, with_query
from protocols.delivery.oauth import AuthorizationTransport, Tokens
from protocols.delivery.step_functions import StateMachines, StateMachineTransport

WORLD = World("000000000000", "us-east-1")
RULE = "arn:aws:events:us-east-1:000000000000:rule/placed"
MACHINE = "arn:aws:states:us-east-1:000000000000:stateMachine:ship"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:bill"
EVENT = '{"id":"e-1","source":"order.service","detail":{"order":"42/a"}}'
BASIC = {"BasicAuthParameters": {"Username": "Aladdin", "Password": "open sesame"}}
NOW_MS = 1_700_000_000_000
IN_40_S, LONG_AGO = "Tue, 14 Nov 2023 22:14:00 GMT", "Tue, 14 Nov 2000 22:14:00 GMT"


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    lines: list[str]
    body: str


Reply = tuple[int, dict[str, str], str]


class Shop:
    """Answers by path; unless a test says otherwise, 200."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, Callable[[Asked], Reply | None]] = {}
        self.held = 0
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def answer(self, path: str, *replies: Reply) -> None:
        """In turn, the last for good."""
        left = list(replies)
        self.answers["/" + path] = lambda asked: left.pop(0) if len(left) > 1 else left[0]

    def at(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.partition("?")[0] == "/" + path]

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            try:
                while (asked := await _read(stream)) is not None:
                    self.asked.append(asked)
                    answer = self.answers.get(asked.path.partition("?")[0])
                    reply = (200, {}, "{}") if answer is None else answer(asked)
                    if reply is None:  # until the client gives up
                        self.held += 1
                        await _read(stream)
                        self.held -= 1
                        return
                    status, headers, body = reply
                    content = b"" if asked.method == "HEAD" else body.encode()
                    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
                    await stream.send(
                        "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content
                    )
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return


async def _read(stream: anyio.abc.ByteStream) -> Asked | None:
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return None
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, lines, body.decode())


class Trade:
    """A broker that delivers on virtual time, and the shop it delivers to."""

    def __init__(self, clock: ManualClock, shop: Shop, client: Client) -> None:
        self.clock = clock
        self.shop = shop
        self.began_ms = clock.now_ms()
        self.broker = broker = Broker(SqliteStore(), clock, Entropy(1))
        self.events: Any = broker.events
        connections, destinations = self.events.connections, self.events.api_destinations
        tokens = Tokens(client, clock)
        self.to_destinations = ApiDestinationTransport(client, tokens, clock, broker.commit, connections, destinations)
        self.driver = Driver(
            broker,
            {
                API_DESTINATION: self.to_destinations,
                AUTHORIZATION: AuthorizationTransport(tokens, connections),
                STATE_MACHINE: StateMachineTransport(client, StateMachines({"*": shop.url("states")})),
                LAMBDA: LambdaTransport(client, Functions({"bill": shop.url("bill")})),
            },
        )
        self.dead = broker.queues.create(WORLD, "dead", {})

    def connect(self, kind: str = "BASIC", parameters: Any = None, **more: Any) -> str:
        given = {"Name": "c", "AuthorizationType": kind, "AuthParameters": {**(parameters or BASIC), **more}}
        return self.events.connections.create(WORLD, given)["ConnectionArn"]  # type: ignore[no-any-return]

    def oauth(self, method: str = "POST", **extra: Any) -> str:
        oauth = {
            "ClientParameters": {"ClientID": "me", "ClientSecret": "se&cret"},
            "AuthorizationEndpoint": self.shop.url("token?tenant=1"),
            "HttpMethod": method,
            "OAuthHttpParameters": extra,
        }
        return self.connect("OAUTH_CLIENT_CREDENTIALS", {"OAuthParameters": oauth})

    @property
    def connection(self) -> dict[str, Any]:
        return self.events.connections.describe(WORLD, {"Name": "c"})  # type: ignore[no-any-return]

    def destination(self, connection_arn: str, path: str = "orders", method: str = "POST", **more: Any) -> str:
        given = {"Name": "d", "ConnectionArn": connection_arn, "HttpMethod": method, **more}
        given.setdefault("InvocationEndpoint", self.shop.url(path))
        return self.events.api_destinations.create(WORLD, given)["ApiDestinationArn"]  # type: ignore[no-any-return]

    def send(self, arn: str, body: str = EVENT, **more: Any) -> None:
        target = {"Id": "t", "Arn": arn, "DeadLetterConfig": {"Arn": self.dead.arn}, **more}
        assert self.events.remote.send(RULE, target, body, EVENT) is None

    def letters(self) -> list[tuple[str, str, str]]:
        """Of each new dead letter: error code, message, retries."""
        found = []
        while messages := self.broker.messaging.receive(self.dead, 10):
            assert isinstance(messages, list)
            for message in messages:
                attributes = queue_messages.load_attributes(message.attributes or "{}")
                names = ("ERROR_CODE", "ERROR_MESSAGE", "RETRY_ATTEMPTS")
                found.append(tuple(attributes[name]["StringValue"] for name in names))
                handle = receipts.make(self.dead.tag, message.id, message.receive_count)
                self.broker.messaging.delete_message(self.dead, handle)
        return found  # type: ignore[return-value]

    def seconds(self) -> float:
        return (self.clock.now_ms() - self.began_ms) / 1000

    async def settle(self) -> None:
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if self.driver.under_way == self.shop.held:
                return
            await trio.sleep(0.001)

    async def advance(self, by_s: float) -> None:
        until_ms = self.clock.now_ms() + round(by_s * 1000)
        await self.settle()
        while (due_ms := self.clock.next_ms()) is not None and due_ms <= until_ms:
            self.clock.set(max(due_ms, self.clock.now_ms()))
            await self.settle()
        self.clock.set(until_ms)


@asynccontextmanager
async def trading() -> AsyncIterator[Trade]:
    clock = ManualClock(soon=trio.lowlevel.current_trio_token().run_sync_soon)
    shop, client = Shop(), Client()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    shop.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    trade = Trade(clock, shop, client)
    try:
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, shop.serve)
            tasks.start_soon(trade.driver.run)
            yield trade
            tasks.cancel_scope.cancel()
    finally:
        await client.close()
        trade.broker.close()


def token(text: str, **more: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps({"access_token": text, "token_type": "Bearer", **more})


# what goes over the wire ----------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_request_to_an_api_destination() -> None:
    async with trading() as trade:
        trade.send(trade.destination(trade.connect()))
        await trade.settle()
        (asked,) = trade.shop.asked
        assert (asked.method, asked.path, asked.body) == ("POST", "/orders", EVENT)
        assert asked.lines == [
            f"Host: 127.0.0.1:{trade.shop.port}",
            "Content-Type: application/json; charset=utf-8",
            f"Authorization: Basic {b64encode(b'Aladdin:open sesame').decode()}",
            "User-Agent: Amazon/EventBridge/ApiDestinations",
            "Range: bytes=0-1048575",
            "Accept-Encoding: gzip,deflate",
            "Connection: close",
            f"Content-Length: {len(EVENT)}",
        ]


@pytest.mark.trio
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_every_method(method: str) -> None:
    async with trading() as trade:
        trade.send(trade.destination(trade.connect(), method=method))
        await trade.settle()
        assert [(asked.method, asked.body) for asked in trade.shop.asked] == [(method, EVENT)]
        assert trade.letters() == []


@pytest.mark.trio
async def test_parameters_of_connection_and_target_are_put_together() -> None:
    """The connection's take precedence; what is EventBridge's own stays as it is."""

    def entries(**values: str) -> list[dict[str, Any]]:
        return [{"Key": key.replace("_", "-"), "Value": value, "IsValueSecret": True} for key, value in values.items()]

    async with trading() as trade:
        key = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Key", "ApiKeyValue": "k 1"}}
        added = {
            "HeaderParameters": entries(x_both="connection", x_key="not this", Host="evil.example"),
            "QueryStringParameters": entries(both="c&d", mine="1"),
            "BodyParameters": entries(id="e-2", more="é"),
        }
        connection = trade.connect("API_KEY", key, InvocationHttpParameters=added)
        path = "v1/*/orders/*?page=1&both=old&x=%2A*"
        parameters = {
            "HeaderParameters": {
                "X-Both": "target",
                "X-Target": "t",
                "content-type": "application/cloudevents+json",
                "User-Agent": "me",
                "Range": "bytes=0-1",
            },
            "QueryStringParameters": {"both": "target", "t": "a b"},
            "PathParameterValues": ["eu", "$.detail.order", "unused"],
        }
        trade.send(trade.destination(connection, path), HttpParameters=parameters)
        await trade.settle()
        (asked,) = trade.shop.asked
        assert asked.path == "/v1/eu/orders/42%2Fa?page=1&x=%2A*&both=c%26d&t=a%20b&mine=1"
        assert json.loads(asked.body) == {**json.loads(EVENT), "id": "e-2", "more": "é"}
        shown = {name: asked.headers[name] for name in ("x-both", "x-target", "x-key", "content-type", "user-agent")}
        assert shown == {
            "x-both": "connection",
            "x-target": "t",
            "x-key": "k 1",
            "content-type": "application/cloudevents+json",
            "user-agent": "Amazon/EventBridge/ApiDestinations",
        }
        assert asked.headers["range"] == "bytes=0-1048575"
        assert asked.headers["host"] == f"127.0.0.1:{trade.shop.port}"


def test_parameters_by_themselves() -> None:
    assert headers_of([("A", "1"), ("b", "2")], [("a", "3")]) == {"a": "3", "b": "2"}
    assert with_query("http://h/p", []) == "http://h/p"
    assert with_query("http://h/p?a=1&b=2&a=3#f", [("a", "ä")], [("c", "")]) == "http://h/p?b=2&a=%C3%A4&c=#f"
    assert with_path_values("http://h*/a/*/b/*?q=*", ["x/y"]) == "http://h*/a/x%2Fy/b/*?q=*"
    assert with_path_values("http://h/a", ["x"]) == "http://h/a"
    assert with_body_parameters('["a"]', [("x", "1")]) == '["a"]'
    assert with_body_parameters("text", [("x", "1")]) == "text"
    assert with_body_parameters('{"x":2,"y":3}', [("x", "1")]) == '{"x":"1","y":3}'


# what comes of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Outcome(None)),
        (204, {"retry-after": "9"}, Outcome(None)),
        (302, {}, Outcome(REFUSED, "HTTP 302", ERROR_FROM_TARGET)),
        (400, {}, Outcome(REFUSED, "HTTP 400", ERROR_FROM_TARGET)),
        (401, {}, Outcome(UNAVAILABLE, "HTTP 401", ERROR_FROM_TARGET)),
        (403, {"retry-after": "9"}, Outcome(REFUSED, "HTTP 403", ERROR_FROM_TARGET, 9_000)),
        (407, {}, Outcome(UNAVAILABLE, "HTTP 407", ERROR_FROM_TARGET)),
        (409, {}, Outcome(UNAVAILABLE, "HTTP 409", ERROR_FROM_TARGET)),
        (429, {"retry-after": "9"}, Outcome(UNAVAILABLE, "HTTP 429", THROTTLING, 9_000)),
        (500, {"retry-after": "soon"}, Outcome(UNAVAILABLE, "HTTP 500", ERROR_FROM_TARGET)),
        (503, {"retry-after": "-1"}, Outcome(REFUSED, "HTTP 503", ERROR_FROM_TARGET)),
        (503, {"retry-after": IN_40_S}, Outcome(UNAVAILABLE, "HTTP 503", ERROR_FROM_TARGET, 40_000)),
        (503, {"retry-after": LONG_AGO}, Outcome(UNAVAILABLE, "HTTP 503", ERROR_FROM_TARGET)),
        (599, {}, Outcome(UNAVAILABLE, "HTTP 599", ERROR_FROM_TARGET)),
    ],
)
def test_what_an_answer_means(status: int, headers: dict[str, str], outcome: Outcome) -> None:
    assert api_destination.outcome(Answer(status, headers), NOW_MS) == outcome


@pytest.mark.trio
async def test_five_seconds_to_answer_and_no_more() -> None:
    async with trading() as trade:
        trade.shop.answers["/orders"] = lambda asked: None
        trade.send(trade.destination(trade.connect()), RetryPolicy={"MaximumRetryAttempts": 1})
        await trade.advance(4.999)
        assert len(trade.shop.asked) == 1
        await trade.advance(60)
        assert len(trade.shop.asked) == 2
        assert trade.letters() == [("TIMEOUT", "no answer within 5 s", "1")]


@pytest.mark.trio
async def test_retry_after_is_heeded() -> None:
    async with trading() as trade:
        trade.shop.answer("orders", (503, {"Retry-After": "90"}, ""), (200, {}, ""))
        trade.send(trade.destination(trade.connect()))
        await trade.advance(89.9)
        assert len(trade.shop.asked) == 1
        await trade.advance(0.1)
        assert len(trade.shop.asked) == 2
        assert trade.letters() == []


@pytest.mark.trio
async def test_nobody_there_is_tried_again_and_no_such_host_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_such_host(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with trading() as trade:
        free = await anyio.create_tcp_listener(local_host="127.0.0.1")
        nobody = f"http://127.0.0.1:{free.extra(anyio.abc.SocketAttribute.local_port)}/"
        await free.aclose()
        arn = trade.destination(trade.connect(), InvocationEndpoint=nobody)
        trade.send(arn, RetryPolicy={"MaximumRetryAttempts": 2})
        await trade.advance(60)
        ((code, _, retries),) = trade.letters()
        assert (code, retries) == (CONNECTION_FAILURE, "2")

        monkeypatch.setattr(anyio, "connect_tcp", no_such_host)
        trade.events.api_destinations.update(WORLD, {"Name": "d", "InvocationEndpoint": "http://no-such.example/"})
        trade.send(arn)
        await trade.advance(60)
        ((code, _, retries),) = trade.letters()
        assert (code, retries) == (NO_RESOURCE, "0")


@pytest.mark.trio
async def test_what_is_gone_meanwhile() -> None:
    async with trading() as trade:
        trade.shop.answer("orders", (500, {}, ""))
        arn = trade.destination(trade.connect())
        trade.send(arn)
        await trade.advance(0)
        trade.events.connections.delete(WORLD, {"Name": "c"})
        await trade.advance(2)
        assert trade.letters() == [(NO_RESOURCE, "the API destination's connection does not exist", "1")]
        trade.send(arn)
        trade.events.api_destinations.delete(WORLD, {"Name": "d"})
        await trade.advance(2)
        assert trade.letters() == [(NO_RESOURCE, "the API destination does not exist", "0")]
        assert len(trade.shop.asked) == 1


@pytest.mark.trio
async def test_an_endpoint_and_its_rate_may_change_while_events_wait() -> None:
    async with trading() as trade:
        trade.shop.answer("orders", (500, {}, ""))
        arn = trade.destination(trade.connect(), InvocationRateLimitPerSecond=2)
        for _ in range(3):
            trade.send(arn)
        await trade.advance(0.9)
        assert len(trade.shop.at("orders")) == 2
        trade.events.api_destinations.update(WORLD, {"Name": "d", "InvocationEndpoint": trade.shop.url("new")})
        await trade.advance(30)
        assert (len(trade.shop.at("orders")), len(trade.shop.at("new"))) == (2, 3)


@pytest.mark.trio
async def test_credentials_that_are_refused_make_the_connection_deauthorized() -> None:
    """And events wait, within their retry policy, for better ones."""
    async with trading() as trade:
        trade.shop.answer("orders", (401, {}, ""), (200, {}, ""))
        trade.send(trade.destination(trade.connect()))
        await trade.advance(20)
        assert len(trade.shop.asked) == 1
        assert (trade.connection["ConnectionState"], trade.connection["StateReason"]) == (
            "DEAUTHORIZED",
            "the endpoint answered HTTP 401",
        )
        better = {"BasicAuthParameters": {"Password": "better"}}
        trade.events.connections.update(WORLD, {"Name": "c", "AuthParameters": better})
        await trade.advance(60)
        assert trade.shop.asked[1].headers["authorization"] == f"Basic {b64encode(b'Aladdin:better').decode()}"
        assert len(trade.shop.asked) == 2
        assert (trade.connection["ConnectionState"], trade.letters()) == ("AUTHORIZED", [])


# OAuth ----------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_token_is_asked_for_once_and_used_until_it_is_about_to_end() -> None:
    async with trading() as trade:
        trade.shop.answer("token", token("one", expires_in=3600), token("two", expires_in="3600"))
        connection = trade.oauth()
        assert trade.connection["ConnectionState"] == "AUTHORIZING"
        await trade.settle()
        assert trade.connection["ConnectionState"] == "AUTHORIZED"
        (asked,) = trade.shop.at("token")
        assert (asked.method, asked.path) == ("POST", "/token?tenant=1")
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded; charset=utf-8"
        assert asked.body == "grant_type=client_credentials&client_id=me&client_secret=se%26cret"

        arn = trade.destination(connection)
        for wait_s in (0, 3539, 0.999):
            await trade.advance(wait_s)
            trade.send(arn)
            await trade.settle()
        assert [asked.headers["authorization"] for asked in trade.shop.at("orders")] == ["Bearer one"] * 3
        await trade.advance(0.001)
        trade.send(arn)
        trade.send(arn)
        await trade.settle()
        assert [asked.headers["authorization"] for asked in trade.shop.at("orders")[3:]] == ["Bearer two"] * 2
        assert len(trade.shop.at("token")) == 2


@pytest.mark.trio
@pytest.mark.parametrize("status", [401, 407])
async def test_a_token_that_is_refused_is_asked_for_anew_at_the_next_attempt(status: int) -> None:
    async with trading() as trade:
        trade.shop.answer("token", token("one"), token("two"))
        trade.shop.answers["/orders"] = lambda asked: (
            (200, {}, "") if asked.headers["authorization"] == "Bearer two" else (status, {}, "")
        )
        arn = trade.destination(trade.oauth())
        for _ in range(3):  # refused all three, they ask for one new token
            trade.send(arn)
        await trade.advance(30)
        assert (len(trade.shop.at("orders")), len(trade.shop.at("token"))) == (6, 2)
        assert (trade.connection["ConnectionState"], trade.letters()) == ("AUTHORIZED", [])


@pytest.mark.trio
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((400, {}, "{}"), "the authorization endpoint answered HTTP 400"),
        ((503, {}, "{}"), "the authorization endpoint answered HTTP 503"),
        ((200, {}, "{}"), "the authorization endpoint's answer has no access_token"),
        ((200, {}, "[1"), "the authorization endpoint's answer has no access_token"),
        (token("x", expires_in={}), "the authorization endpoint's answer has no access_token"),
        (token("a\r\nb"), "the authorization endpoint's access_token is none"),
        (None, "no answer within 5 s"),
    ],
)
async def test_an_authorization_endpoint_that_gives_none(reply: Reply | None, reason: str) -> None:
    async with trading() as trade:
        trade.shop.answers["/token"] = lambda asked: reply
        trade.oauth()
        await trade.advance(10)
        assert trade.connection["ConnectionState"] == "DEAUTHORIZED"
        assert trade.connection["StateReason"] == reason
        trade.shop.answer("token", token("good"))
        trade.events.connections.update(WORLD, {"Name": "c"})
        await trade.settle()
        assert trade.connection["ConnectionState"] == "AUTHORIZED"
        assert "StateReason" not in trade.connection


@pytest.mark.trio
async def test_a_token_that_cannot_be_refreshed_ends_the_authorization() -> None:
    async with trading() as trade:
        trade.shop.answer("token", token("one", expires_in=60), (503, {}, ""), (400, {}, ""))
        arn = trade.destination(trade.oauth())
        await trade.settle()
        trade.send(arn, RetryPolicy={"MaximumRetryAttempts": 4})
        await trade.settle()
        assert trade.connection["ConnectionState"] == "AUTHORIZED"  # it may be back soon
        await trade.advance(1)
        assert trade.connection["ConnectionState"] == "DEAUTHORIZED"
        await trade.advance(60)
        assert (len(trade.shop.at("orders")), len(trade.shop.at("token"))) == (0, 3)
        ((code, message, retries),) = trade.letters()
        assert (code, retries) == (NO_PERMISSIONS, "4")
        assert message == "the connection is DEAUTHORIZED: the authorization endpoint answered HTTP 400"


@pytest.mark.trio
async def test_what_else_a_token_request_has() -> None:
    extra = {
        "HeaderParameters": [{"Key": "X-Tenant", "Value": "7"}],
        "QueryStringParameters": [{"Key": "tenant", "Value": "8"}],
        "BodyParameters": [{"Key": "grant_type", "Value": "password"}, {"Key": "scope", "Value": "a b"}],
    }
    async with trading() as trade:
        trade.shop.answer("token", token("x"))
        trade.oauth("PUT", **extra)
        await trade.settle()
        (asked,) = trade.shop.asked
        assert (asked.method, asked.path, asked.headers["x-tenant"]) == ("PUT", "/token?tenant=8", "7")
        assert dict(parse_qsl(asked.body)) == {
            "grant_type": "password",
            "client_id": "me",
            "client_secret": "se&cret",
            "scope": "a b",
        }


@pytest.mark.trio
async def test_a_token_by_get_and_by_json() -> None:
    async with trading() as trade:
        trade.shop.answer("token", token("x"))
        trade.oauth("GET")
        await trade.settle()
        query = "tenant=1&grant_type=client_credentials&client_id=me&client_secret=se%26cret"
        assert [(asked.path, asked.body) for asked in trade.shop.asked] == [(f"/token?{query}", "")]

        json_type = {"HeaderParameters": [{"Key": "content-type", "Value": "application/json"}]}
        oauth = {"HttpMethod": "POST", "OAuthHttpParameters": json_type}
        trade.events.connections.update(WORLD, {"Name": "c", "AuthParameters": {"OAuthParameters": oauth}})
        await trade.settle()
        assert json.loads(trade.shop.asked[1].body) == {
            "grant_type": "client_credentials",
            "client_id": "me",
            "client_secret": "se&cret",
        }


# Step Functions -------------------------------------------------------------------------------------


def test_where_state_machines_are_found() -> None:
    machines = StateMachines({"ship": "http://h:1", MACHINE + "2": "http://h:2"})
    assert machines.url(MACHINE) == machines.url(MACHINE + ":live") == "http://h:1"
    assert machines.url(MACHINE + "2") == "http://h:2"
    assert machines.url(MACHINE + "3") is None
    assert StateMachines({"*": "http://h:3"}).url(MACHINE + "3") == "http://h:3"
    assert StateMachines({"*": "http://h:3"}).url(MACHINE.replace("stateMachine", "activity")) is None


@pytest.mark.trio
async def test_an_execution_is_started_and_a_retry_is_the_same_one() -> None:
    async with trading() as trade:
        exists = json.dumps({"__type": "com.amazonaws.swf.base.model#ExecutionAlreadyExists", "message": "it does"})
        trade.shop.answer("states", (500, {}, ""), (400, {}, exists))
        trade.send(MACHINE, '{"order":1}')
        await trade.advance(60)
        first, second = trade.shop.asked
        assert (first.method, first.path) == ("POST", "/states")
        assert first.headers["x-amz-target"] == "AWSStepFunctions.StartExecution"
        assert first.headers["content-type"] == "application/x-amz-json-1.0"
        assert "000000000000/20000101/us-east-1/states/aws4_request" in first.headers["authorization"]
        request = json.loads(first.body)
        assert (request["stateMachineArn"], request["input"], len(request["name"])) == (MACHINE, '{"order":1}', 36)
        assert second.body == first.body
        assert trade.letters() == []


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (400, "StateMachineDoesNotExist", REFUSED, NO_RESOURCE),
        (400, "InvalidExecutionInput", REFUSED, INVALID_JSON),
        (400, "InvalidArn", REFUSED, INVALID_PARAMETER),
        (400, "AccessDeniedException", REFUSED, NO_PERMISSIONS),
        (400, "ThrottlingException", UNAVAILABLE, THROTTLING),
        (400, "ExecutionLimitExceeded", UNAVAILABLE, RESOURCE_LIMIT_EXCEEDED),
        (400, "SomethingElse", REFUSED, ERROR_FROM_TARGET),
        (500, "", UNAVAILABLE, ERROR_FROM_TARGET),
    ],
)
def test_what_start_execution_says(status: int, error: str, kind: str, code: str) -> None:
    body = json.dumps({"__type": error, "message": "why"}).encode() if error else b"<html>"
    outcome = step_functions.outcome(Answer(status, {}, body))
    assert (outcome.kind, outcome.code) == (kind, code)


@pytest.mark.trio
async def test_what_was_not_configured_is_no_resource() -> None:
    async with trading() as trade:
        trade.send(FUNCTION + "2")
        trade.send(MACHINE.replace("stateMachine", "activity"))
        await trade.settle()
        assert sorted((code, retries) for code, _, retries in trade.letters()) == [(NO_RESOURCE, "0")] * 2


# Lambda ---------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_function_gets_the_event_as_it_is() -> None:
    async with trading() as trade:
        trade.send(FUNCTION)
        await trade.settle()
        (asked,) = trade.shop.asked
        assert (asked.path, asked.body) == ("/bill", EVENT)
        policy = EventPolicy(timeout_ms=900_000)
        assert policy.timeout_kind == FUNCTION_ERROR
        attempt = Attempt(1, 1, LAMBDA, RULE, FUNCTION + "2", {}, "", policy)
        missing = await LambdaTransport(Client(), Functions({}))(attempt)
        assert (missing.kind, missing.code) == (REFUSED, NO_RESOURCE)
