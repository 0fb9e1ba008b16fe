"""The handler as an ASGI application: under asyncio and trio, alone and in Hypercorn, mounted, and left by clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.abc
import pytest
import trio

from protocols.http.asgi import asgi_app
from protocols.http.message import Cancel, Reply, Request, Response


class Desk:
    """Answers at once, or, below /later, when told to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.reply: Reply = lambda response: None
        self.arrived = anyio.Event()
        self.cancelled: list[bytes] = []
        self.has_cancelled = anyio.Event()

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        self.requests.append(request)
        if request.target.startswith(b"/later"):
            self.reply = reply
            self.arrived.set()
            return self.cancel
        if request.target == b"/none":
            reply(Response(204, [], b""))
        else:
            reply(Response(200, [(b"X-Amzn-RequestId", b"1")], request.target + b" " + request.body))
        return None

    def cancel(self) -> None:
        self.cancelled.append(self.requests[-1].target)
        self.has_cancelled.set()


class Server:
    """An ASGI server without a network: what it sends and what it was told."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.sent: list[Any] = []
        self._send, self._receive = anyio.create_memory_object_stream[Any](100)
        for message in messages:
            self.say(message)

    def say(self, message: dict[str, Any]) -> None:
        self._send.send_nowait(message)

    async def receive(self) -> Any:
        return await self._receive.receive()

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        with self._send, self._receive:
            await app(scope, self.receive, self.send)


def http(target: str = "/", method: str = "POST", **more: Any) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [[b"host", b"a"]],
        "client": ("192.0.2.7", 4000),
        "server": ("127.0.0.1", 80),
        **more,
    }


def piece(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT = {"type": "http.disconnect"}


def both_loops(test: Any) -> Any:
    return pytest.mark.anyio(pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])(test))


async def ask(desk: Desk, scope: dict[str, Any], *messages: dict[str, Any], **options: Any) -> list[Any]:
    server = Server(*(messages or (piece(b""),)))
    with anyio.fail_after(10):
        await server.run(asgi_app(desk, **options), scope)
    return server.sent


def answer(status: int, body: bytes, *headers: tuple[bytes, bytes], sends: bytes | None = None) -> list[Any]:
    return [
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        },
        {"type": "http.response.body", "body": body if sends is None else sends},
    ]


ID = (b"x-amzn-requestid", b"1")
PLAIN = (b"content-type", b"text/plain")


@both_loops
async def test_a_request_and_its_answer() -> None:
    desk = Desk()
    sent = await ask(desk, http("/a%20b?c=d"), piece(b"bo", more=True), piece(b"dy"))
    assert sent == answer(200, b"/a%20b?c=d body", ID)
    (request,) = desk.requests
    assert (request.method, request.headers, request.scheme, request.peer) == (
        "POST",
        [(b"host", b"a")],
        "https",
        "192.0.2.7",
    )


@both_loops
async def test_answers_without_a_body() -> None:
    assert await ask(Desk(), http(method="HEAD")) == answer(200, b"/ ", ID, sends=b"")
    assert await ask(Desk(), http("/none")) == [
        {"type": "http.response.start", "status": 204, "headers": []},
        {"type": "http.response.body", "body": b""},
    ]


@both_loops
async def test_what_a_scope_may_lack() -> None:
    scope = http("/", path="/a b/é")
    for name in ("raw_path", "root_path", "scheme", "client"):
        del scope[name]
    desk = Desk()
    server = Server({"type": "http.request"})
    await server.run(asgi_app(desk), scope)
    (request,) = desk.requests
    assert (request.target, request.scheme, request.peer) == (b"/a%20b/%C3%A9", "http", "")


@both_loops
@pytest.mark.parametrize(
    ("root_path", "path", "raw_path", "seen"),
    [
        ("", "/queue", b"/queue", b"/queue"),
        ("/aws", "/aws/queue", b"/aws/queue", b"/queue"),
        ("/aws/", "/aws/queue", b"/aws/queue", b"/queue"),
        ("/aws", "/aws", b"/aws", b"/"),
        ("/aws", "/aws/", b"/aws/", b"/"),
        ("/aws", "/aws/aws", b"/aws/aws", b"/aws"),
        ("/aws", "/awsome", b"/awsome", b"/awsome"),
        ("/a b", "/a b/c/d", b"/a%20b/c%2Fd", b"/c%2Fd"),
        # Cut off by whoever mounts: from `path`, from both.
        ("/aws", "/a b", b"/aws/a%20b", b"/a%20b"),
        ("", "/a b", b"/aws/a%20b", b"/a%20b"),
        ("/aws", "/a b", b"/a%20b", b"/a%20b"),
    ],
)
async def test_mounted_below_a_root_path(root_path: str, path: str, raw_path: bytes, seen: bytes) -> None:
    desk = Desk()
    await ask(desk, http("/?x", root_path=root_path, path=path, raw_path=raw_path))
    assert desk.requests[0].target == seen + b"?x"


@both_loops
async def test_body_limit() -> None:
    desk = Desk()
    fits = [piece(b"123", more=True), piece(b"45")]
    assert await ask(desk, http(), *fits, max_body_bytes=5) == answer(200, b"/ 12345", ID)
    too_long = [piece(b"123", more=True), piece(b"456", more=True), piece(b"7")]
    assert await ask(desk, http(), *too_long, max_body_bytes=5) == answer(
        413, b"The request's body is longer than 5 bytes.\n", PLAIN
    )
    assert len(desk.requests) == 1


@both_loops
async def test_a_slow_body() -> None:
    desk = Desk()
    assert await ask(desk, http(), piece(b"1", more=True), body_timeout_s=0.01) == answer(
        408, b"The request's body did not come within 0.01 seconds.\n", PLAIN
    )
    assert desk.requests == []


@both_loops
async def test_a_client_that_leaves_before_its_request_is_whole() -> None:
    desk = Desk()
    assert await ask(desk, http(), piece(b"1", more=True), DISCONNECT) == []
    assert desk.requests == []


@both_loops
async def test_a_later_answer() -> None:
    desk, server = Desk(), Server(piece(b""))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, asgi_app(desk), http("/later"))
            await desk.arrived.wait()
            assert server.sent == []
            desk.reply(Response(200, [], b"one"))
            desk.reply(Response(200, [], b"two"))
    assert server.sent == answer(200, b"one")
    assert desk.cancelled == []


@both_loops
async def test_a_client_that_leaves_is_cancelled_once() -> None:
    desk, server = Desk(), Server(piece(b""))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, asgi_app(desk), http("/later"))
            await desk.arrived.wait()
            server.say(DISCONNECT)
    assert desk.cancelled == [b"/later"]
    desk.reply(Response(200, [], b"too late"))
    assert server.sent == []


@both_loops
async def test_a_server_that_stops_cancels() -> None:
    desk, server = Desk(), Server(piece(b""))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, asgi_app(desk), http("/later"))
            await desk.arrived.wait()
            tasks.cancel_scope.cancel()
    assert desk.cancelled == [b"/later"]
    assert server.sent == []


@both_loops
async def test_lifespan() -> None:
    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await server.run(asgi_app(Desk()), {"type": "lifespan"})
    assert server.sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


@both_loops
async def test_other_scopes() -> None:
    with pytest.raises(NotImplementedError, match="websocket"):
        await Server().run(asgi_app(Desk()), {"type": "websocket"})


# In Hypercorn.


async def read_answer(stream: anyio.abc.ByteStream) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive()
    return head.split(b"\r\n")[0], body


async def talk(port: int, desk: Desk, root: bytes) -> None:
    post = b"POST %s%s HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(post % (root, b"/a%20b?c"))
        assert await read_answer(stream) == (b"HTTP/1.1 200 ", b"/a%20b?c body")
        await stream.send(post % (root, b"/later"))
        await desk.arrived.wait()
        desk.reply(Response(200, [], b"later"))
        assert await read_answer(stream) == (b"HTTP/1.1 200 ", b"later")
        desk.arrived = anyio.Event()
        await stream.send(post % (root, b"/later"))
        await desk.arrived.wait()
    await desk.has_cancelled.wait()
    assert desk.cancelled == [b"/later"]


def serving(module: Any, app: Any, stop: Any) -> tuple[Callable[..., Any], int]:
    from hypercorn.config import Config

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.graceful_timeout = 1
    (bound,) = config.create_sockets().insecure_sockets
    port = bound.getsockname()[1]
    bound.listen()
    config.bind = [f"fd://{bound.detach()}"]
    return partial(module.serve, app, config, shutdown_trigger=stop.wait, mode="asgi"), port


@pytest.mark.parametrize("root", [b"", b"/aws"])
@pytest.mark.trio
async def test_in_hypercorn_on_trio(root: bytes) -> None:
    import hypercorn.trio
    from hypercorn.middleware.dispatcher import TrioDispatcherMiddleware

    desk = Desk()
    app: Any = asgi_app(desk)
    if root:
        app = TrioDispatcherMiddleware({root.decode(): app})
    stop = trio.Event()
    serve, port = serving(hypercorn.trio, app, stop)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            await talk(port, desk, root)
            stop.set()


@pytest.mark.parametrize("root", [b"", b"/aws"])
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})])
@pytest.mark.anyio
async def test_in_hypercorn_on_asyncio(root: bytes) -> None:
    import hypercorn.asyncio
    from hypercorn.middleware.dispatcher import AsyncioDispatcherMiddleware

    desk = Desk()
    app: Any = asgi_app(desk)
    if root:
        app = AsyncioDispatcherMiddleware({root.decode(): app})
    stop = anyio.Event()
    serve, port = serving(hypercorn.asyncio, app, stop)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await talk(port, desk, root)
            stop.set()
