"""Remote deliveries over real connections: every kind of endpoint under virtual time, headers, Lambda's Invoke API.

The endpoints are one trio server whose paths say how it behaves. Time is the broker's and moves from appointment to
appointment; each time all that is under way must have been answered, or be held by the server, before it moves on.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
import trio
import trio.testing
from anyio.streams.tls import TLSListener

from broker.clock import ManualClock
from broker.core import Broker
from broker.delivery import HTTP, LAMBDA, Attempt, Ended, NewDelivery, Outcome, http_headers
from broker.delivery_policy import (
    DEFAULT_HTTP_POLICY,
    FUNCTION_ERROR,
    LAMBDA_POLICY,
    REFUSED,
    THROTTLED,
    UNAVAILABLE,
    HttpPolicy,
    Phases,
)
from broker.entropy import Entropy
from broker.names import World
from broker.store.sqlite import SqliteStore
from protocols.application import Settings
from protocols.delivery.client import Client
from protocols.delivery.driver import Driver, Transport
from protocols.delivery.functions import Functions, LambdaTransport
from protocols.delivery.http import HttpTransport, outcome
from protocols.embedded import running
from protocols.signing import MessageSigner

WORLD = World("000000000000", "us-east-1")
SUBSCRIPTION = "arn:aws:sns:us-east-1:000000000000:t:1"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:thumbs"


class Endpoints:
    """Answers by the path. `requests` are as they came, `held` how many are not answered and may never be."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock
        self.requests: list[bytes] = []
        self.held = 0
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            try:
                while (request := await _read_request(stream)) is not None:
                    self.requests.append(request)
                    path = request.split(b" ", 2)[1].decode().lstrip("/")
                    if not await self._answer(stream, path, request):
                        return
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _answer(self, stream: anyio.abc.ByteStream, path: str, request: bytes) -> bool:
        behaviour, _, value = path.partition("/")
        if behaviour == "closes":
            return False
        if behaviour == "never":
            await self._hold(stream)
            return False
        if behaviour == "slow":
            if not await self._wait(stream, int(value)):
                return False
            value = "200"
        extra, body = b"", b"{}"
        if behaviour == "redirect":
            value, extra = "302", b"Location: /status/200\r\n"
        if behaviour == "large":
            value, body = "200", b"x" * 1_000_000
        if behaviour == "digest":
            value = "200" if b"Authorization: Digest " in request else "401"
            extra = b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'
        if behaviour == "2015-03-31":
            value = "200"
        if behaviour == "function-error":
            value, extra = "200", b"X-Amz-Function-Error: Unhandled\r\n"
        if value == "204":
            await stream.send(b"HTTP/1.1 204 X\r\n\r\n")
            return True
        head = b"HTTP/1.1 %s X\r\n%sContent-Length: %d\r\n\r\n" % (value.encode(), extra, len(body))
        await stream.send(head + body)
        return True

    async def _hold(self, stream: anyio.abc.ByteStream) -> None:
        """Until the client has gone."""
        self.held += 1
        try:
            await _read_request(stream)
        finally:
            self.held -= 1

    async def _wait(self, stream: anyio.abc.ByteStream, delay_ms: int) -> bool:
        """Whether the client is still there after so long."""
        assert self.clock is not None
        with anyio.CancelScope() as scope:

            def answer() -> None:
                self.held -= 1
                scope.cancel()

            timer = self.clock.call_at(self.clock.now_ms() + delay_ms, answer)
            self.held += 1
            await _read_request(stream)
            self.held -= 1
            timer.cancel()
        return scope.cancelled_caught


async def _read_request(stream: anyio.abc.ByteStream) -> bytes | None:
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            piece = await stream.receive()
            data, body = data + piece, body + piece
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return None
    return data


@asynccontextmanager
async def listening(clock: ManualClock | None = None) -> AsyncIterator[Endpoints]:
    endpoints = Endpoints(clock)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    endpoints.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, endpoints.serve)
        yield endpoints
        tasks.cancel_scope.cancel()


class Post:
    """A broker on virtual time that delivers, its endpoints, and the account of every attempt."""

    def __init__(self, broker: Broker, clock: ManualClock, endpoints: Endpoints, client: Client) -> None:
        self.broker = broker
        self.clock = clock
        self.endpoints = endpoints
        self.began_ms = clock.now_ms()
        self.account: dict[str, list[float]] = {}
        self.ended: dict[str, tuple[str, int, str]] = {}
        functions = Functions({"thumbs": endpoints.url("")})
        self.driver = Driver(
            broker,
            {
                HTTP: self._noted(HttpTransport(client)),
                LAMBDA: self._noted(LambdaTransport(client, functions)),
            },
        )
        broker.outbox.ended.append(self._note_end)

    def _noted(self, transport: Transport) -> Transport:
        async def deliver(attempt: Attempt) -> Outcome:
            self.account.setdefault(attempt.owner, []).append(self.seconds())
            return await transport(attempt)

        return deliver

    def _note_end(self, ended: Ended) -> None:
        self.ended[ended.owner] = (ended.result.removeprefix("NumberOfNotifications"), ended.attempts, ended.reason)

    def seconds(self) -> float:
        return (self.clock.now_ms() - self.began_ms) / 1000

    async def settle(self) -> None:
        """Until nothing more happens by itself."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if self.driver.under_way == self.endpoints.held:
                return
            await trio.sleep(0.001)

    async def advance(self, by_s: float) -> None:
        until_ms = self.clock.now_ms() + round(by_s * 1000)
        await self.settle()
        while (due_ms := self.clock.next_ms()) is not None and due_ms <= until_ms:
            self.clock.set(max(due_ms, self.clock.now_ms()))
            await self.settle()
        self.clock.set(until_ms)

    def put(
        self, owner: str, target: str, policy: HttpPolicy = DEFAULT_HTTP_POLICY, letters: str | None = None
    ) -> None:
        headers = http_headers("Notification", "m", "t", owner, policy)
        self.broker.outbox.put([NewDelivery(HTTP, owner, target, headers, owner, policy, letters, owner)])


@asynccontextmanager
async def posting() -> AsyncIterator[Post]:
    clock = ManualClock(soon=trio.lowlevel.current_trio_token().run_sync_soon)
    broker = Broker(SqliteStore(), clock, Entropy(1))
    client = Client()
    try:
        async with listening(clock) as endpoints, anyio.create_task_group() as tasks:
            post = Post(broker, clock, endpoints, client)
            tasks.start_soon(post.driver.run)
            yield post
            tasks.cancel_scope.cancel()
    finally:
        await client.close()
        broker.close()


# every kind of endpoint -----------------------------------------------------------------------------


@pytest.mark.trio
async def test_the_account_of_every_kind_of_endpoint() -> None:
    async with posting() as post:
        dead = post.broker.queues.create(WORLD, "dead", {})
        free = await anyio.create_tcp_listener(local_host="127.0.0.1")
        nobody = f"http://127.0.0.1:{free.extra(anyio.abc.SocketAttribute.local_port)}/"
        await free.aclose()
        targets = {name: post.endpoints.url(name) for name in ("closes", "never", "redirect", "large")}
        targets |= {f"status/{code}": post.endpoints.url(f"status/{code}") for code in (200, 204, 400, 403, 429, 500)}
        targets |= {f"slow/{ms}": post.endpoints.url(f"slow/{ms}") for ms in (10_000, 14_999, 16_000)}
        targets["nobody"] = nobody
        for owner, target in targets.items():
            post.put(owner, target, letters=dead.arn)
        await post.advance(600)

        again = [0.0, 20, 40, 60]
        too_slow = [0.0, 35, 70, 105]  # each has its 15 seconds
        assert post.account == {
            "closes": again,
            "never": too_slow,
            "redirect": [0],
            "large": [0],
            "status/200": [0],
            "status/204": [0],
            "status/400": [0],
            "status/403": [0],
            "status/429": again,
            "status/500": again,
            "slow/10000": [0],
            "slow/14999": [0],
            "slow/16000": too_slow,
            "nobody": again,
        }
        lost = {
            "closes": (4, "RemoteProtocolError: Server disconnected without sending a response."),
            "never": (4, "no answer within 15 s"),
            "redirect": (1, "HTTP 302"),
            "status/400": (1, "HTTP 400"),
            "status/403": (1, "HTTP 403"),
            "status/429": (4, "HTTP 429"),
            "status/500": (4, "HTTP 500"),
            "slow/16000": (4, "no answer within 15 s"),
            "nobody": (4, f"ConnectError: all attempts to connect to {nobody[7:-1]} failed"),
        }
        delivered = post.account.keys() - lost.keys()
        assert post.ended == {
            **dict.fromkeys(delivered, ("Delivered", 1, "")),
            **{owner: ("RedrivenToDlq", *how) for owner, how in lost.items()},
        }
        bodies = []
        while messages := post.broker.messaging.receive(dead, 10):
            assert isinstance(messages, list)
            bodies += [message.body for message in messages]
        assert sorted(bodies) == sorted(lost)
        # A redirect is not followed, and whoever answered is not asked twice.
        assert sum(b"POST /redirect" in request for request in post.endpoints.requests) == 1


@pytest.mark.trio
async def test_at_most_so_many_are_under_way_and_the_rest_follows() -> None:
    async with posting() as post:
        for number in range(150):
            post.put(f"o{number}", post.endpoints.url("slow/1000"))
        await post.settle()
        assert (post.driver.under_way, post.endpoints.held, len(post.account)) == (64, 64, 64)
        await post.advance(0.999)
        assert len(post.account) == 64
        await post.advance(0.001)
        assert len(post.account) == 128
        await post.advance(2)
        assert len(post.ended) == 150
        assert [result for result, _, _ in post.ended.values()] == ["Delivered"] * 150


@pytest.mark.trio
async def test_none_is_left_behind_whenever_the_others_end() -> None:
    async with posting() as post:
        for number in range(200):
            post.put(f"o{number}", post.endpoints.url("status/200" if number % 3 else f"slow/{number}"))
        await post.advance(30)
        assert len(post.ended) == 200


# what goes over the wire ----------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_notification_on_the_wire() -> None:
    async with posting() as post:
        post.put("s", post.endpoints.url("status/200?a=b"))
        await post.settle()
        (request,) = post.endpoints.requests
        assert (
            request
            == (
                b"POST /status/200?a=b HTTP/1.1\r\n"
                b"Host: 127.0.0.1:%d\r\n"
                b"Connection: keep-alive\r\n"
                b"x-amz-sns-message-type: Notification\r\n"
                b"x-amz-sns-message-id: m\r\n"
                b"x-amz-sns-topic-arn: t\r\n"
                b"x-amz-sns-subscription-arn: s\r\n"
                b"Content-Type: text/plain; charset=UTF-8\r\n"
                b"User-Agent: Amazon Simple Notification Service Agent\r\n"
                b"Content-Length: 1\r\n"
                b"\r\ns"
            )
            % post.endpoints.port
        )


@pytest.mark.trio
async def test_names_and_passwords_in_urls() -> None:
    async with posting() as post:
        post.put("basic", post.endpoints.url("status/200").replace("//", "//Aladdin:open%20sesame@"))
        await post.settle()
        assert b"Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in post.endpoints.requests[0]
        post.put("digest", post.endpoints.url("digest").replace("//", "//me:secret@"))
        await post.settle()
        assert post.ended == {"basic": ("Delivered", 1, ""), "digest": ("Delivered", 1, "")}


@pytest.mark.trio
@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:99999/", "http://x y/", "http://no-such-host.invalid/"])
async def test_a_url_that_leads_nowhere_is_a_failed_attempt(url: str) -> None:
    client = Client()
    try:
        answer = await client.post(url, {}, b"")
    finally:
        await client.close()
    assert isinstance(answer, Outcome)
    assert answer.kind == UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (299, None),
        (301, REFUSED),
        (400, REFUSED),
        (404, REFUSED),
        (429, UNAVAILABLE),
        (499, REFUSED),
        (500, UNAVAILABLE),
        (599, UNAVAILABLE),
    ],
)
def test_what_a_status_means(status: int, kind: str | None) -> None:
    assert outcome(status).kind == kind


# Lambda ---------------------------------------------------------------------------------------------


def test_where_functions_are_found() -> None:
    functions = Functions({"thumbs": "http://h:1", "rie": "http://h:2/2015-03-31/functions/function/invocations"})
    base = "arn:aws:lambda:us-east-1:000000000000:function:"
    assert functions.url(base + "thumbs") == "http://h:1/2015-03-31/functions/thumbs/invocations"
    assert functions.url(base + "thumbs:live") == "http://h:1/2015-03-31/functions/thumbs/invocations?Qualifier=live"
    assert functions.url(base + "rie") == "http://h:2/2015-03-31/functions/function/invocations"
    assert functions.url(base + "other") is None
    assert functions.url("thumbs") is None
    by_arn = Functions({base + "thumbs": "http://h:3/"})
    assert by_arn.url(base + "thumbs:live") == "http://h:3/2015-03-31/functions/thumbs/invocations?Qualifier=live"


@pytest.mark.trio
async def test_an_event_on_its_way_to_a_function() -> None:
    async with posting() as post:
        event = json.dumps({"Records": []})
        post.broker.outbox.put([NewDelivery(LAMBDA, "s", FUNCTION, {}, event, LAMBDA_POLICY)])
        await post.settle()
        (request,) = post.endpoints.requests
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /2015-03-31/functions/thumbs/invocations HTTP/1.1"
        assert b"X-Amz-Invocation-Type: RequestResponse" in lines
        assert b"Content-Type: application/json" in lines
        assert body == event.encode()
        assert post.ended == {"s": ("Delivered", 1, "")}


@pytest.mark.trio
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("function-error", FUNCTION_ERROR),
        ("status/429", THROTTLED),
        ("status/500", THROTTLED),
        ("status/404", REFUSED),
        ("status/202", None),
        ("closes", UNAVAILABLE),
    ],
)
async def test_what_the_invoke_api_says(path: str, kind: str | None) -> None:
    client = Client()
    async with listening() as endpoints:
        transport = LambdaTransport(client, Functions({FUNCTION: endpoints.url(path)}))
        attempt = Attempt(1, 1, LAMBDA, SUBSCRIPTION, FUNCTION, {}, "{}", LAMBDA_POLICY)
        assert (await transport(attempt)).kind == kind
        missing = await transport(attempt._replace(target=FUNCTION + "2"))
        assert (missing.kind, "--function" in missing.reason) == (REFUSED, True)
        await client.close()


# inside another program -----------------------------------------------------------------------------


async def _deliver_embedded(data: Path) -> None:
    policy = HttpPolicy(Phases(1_000, 1_000, 2, 0, 0, 0))
    async with listening() as endpoints, running(data, settings=Settings(functions={"f": endpoints.url("")})) as app:
        outbox = app.broker.outbox
        ended: list[Ended] = []
        all_ended = anyio.Event()

        def note(end: Ended) -> None:
            ended.append(end)
            if len(ended) == 3:
                all_ended.set()

        outbox.ended.append(note)
        outbox.put(
            [
                NewDelivery(HTTP, "ok", endpoints.url("status/200"), {}, "1", policy),
                NewDelivery(HTTP, "down", endpoints.url("status/503"), {}, "2", policy),
                NewDelivery(LAMBDA, "f", FUNCTION.replace("thumbs", "f"), {}, "{}", LAMBDA_POLICY),
            ]
        )
        with anyio.fail_after(10):
            await all_ended.wait()
        assert sorted((end.owner, end.attempts, end.reason) for end in ended) == [
            ("down", 3, "HTTP 503"),
            ("f", 1, ""),
            ("ok", 1, ""),
        ]


@pytest.mark.trio
async def test_under_trio(tmp_path: Path) -> None:
    await _deliver_embedded(tmp_path)


def test_under_asyncio(tmp_path: Path) -> None:
    asyncio.run(_deliver_embedded(tmp_path))


# TLS ------------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize(("verify", "kind"), [(True, UNAVAILABLE), (False, None)])
async def test_an_endpoints_certificate_must_be_good_unless_told_otherwise(
    verify: bool, kind: str | None, tmp_path: Path
) -> None:
    store = SqliteStore()
    MessageSigner(store).sign("", "2")
    file = tmp_path / "tls.pem"
    file.write_text(store.get_meta("sns_signing_key") or "")  # a key and its self-signed certificate
    store.close()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    endpoints, client = Endpoints(), Client(verify=verify)
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with tcp, anyio.create_task_group() as tasks:
        tasks.start_soon(TLSListener(tcp, context).serve, endpoints.serve)
        port = tcp.extra(anyio.abc.SocketAttribute.local_port)
        answer = await client.post(f"https://127.0.0.1:{port}/status/200", {}, b"")
        assert (answer.kind if isinstance(answer, Outcome) else outcome(answer.status).kind) == kind
        await client.close()
        tasks.cancel_scope.cancel()
