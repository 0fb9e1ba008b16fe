"""Broken answers, byte for byte, as each protocol has them: HTTP/1.1 on a recorded wire and on real sockets, HTTP/2,
ASGI. Time is virtual: a stall ends when the clock is advanced.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from functools import partial

import pytest
from test_http1 import HEAD, LAST_HEAD, NEXT, NOW_MS, Bench, Wire
from test_http_asgi import DISCONNECT, Server, both_loops, http, piece
from test_http_streaming import connect_by_2

from broker.clock import ManualClock
from protocols.faults import bodies
from protocols.http.asgi import BrokenOff, asgi_app
from protocols.http.cors import with_cors
from protocols.http.listener import Listener
from protocols.http.message import Answer, Cancel, NoResponse, Reply, Request, Response, Sink, StreamingResponse

BODY = b"0123456789"
WHOLE = HEAD + b"content-length: 10\r\n\r\n" + BODY
GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"


class Breaking:
    """Answers by the target: /stall, /truncate, /slow, /empty-stall, /reset, /silent, else whole."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_MS)
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        self.requests.append(request.target)
        self.asked.set()
        reply(self.answer(request.target))
        return None

    def answer(self, target: bytes) -> Answer:
        make: dict[bytes, bodies.Break] = {
            b"/stall": partial(bodies.Stalling, clock=self.clock, after_bytes=3, for_ms=1000),
            b"/truncate": partial(bodies.Truncated, clock=self.clock, after_bytes=3),
            b"/truncate-at-once": partial(bodies.Truncated, clock=self.clock, after_bytes=0),
            b"/slow": partial(bodies.Slow, clock=self.clock, bytes_per_s=20),
        }
        if target == b"/reset":
            return NoResponse()
        if target == b"/silent":
            return NoResponse(silent=True)
        whole = Response(200, [], BODY)
        return bodies.broken(whole, make[target]) if target in make else whole


def bench() -> tuple[Bench, Breaking]:
    made, desk = Bench(), Breaking()
    made.shared.handler = desk
    return made, desk


def test_a_stall() -> None:
    one, desk = bench()
    assert one.feed(GET % b"stall") == HEAD + b"content-length: 10\r\n\r\n012"
    desk.clock.advance(999)
    assert one.written == HEAD + b"content-length: 10\r\n\r\n012"
    desk.clock.advance(1)
    assert one.written == WHOLE
    assert one.feed(NEXT) == WHOLE * 2, "the connection is as good as before"
    assert not one.wire.closed


def test_what_is_asked_after_a_stall_waits() -> None:
    one, desk = bench()
    assert one.feed(GET % b"stall" + NEXT) == HEAD + b"content-length: 10\r\n\r\n012"
    desk.clock.advance(1000)
    assert one.written == WHOLE * 2


@pytest.mark.parametrize(("target", "body"), [(b"truncate", b"012"), (b"truncate-at-once", b"")])
def test_a_truncated_body_has_its_whole_length_promised(target: bytes, body: bytes) -> None:
    one, desk = bench()
    assert one.feed(NEXT + GET % target + NEXT) == WHOLE + HEAD + b"content-length: 10\r\n\r\n" + body
    assert one.wire.closed
    assert not one.wire.aborted
    assert desk.requests == [b"/next", b"/" + target], "what comes after it is not done"


def test_slow_bytes() -> None:
    one, desk = bench()
    seen = [one.feed(GET % b"slow")[len(HEAD) + 22 :]]
    while len(one.written) < len(WHOLE):
        desk.clock.advance(100)
        seen.append(one.written[len(HEAD) + 22 :])
    assert seen == [BODY[:n] for n in (2, 4, 6, 8, 10)]
    assert one.written == WHOLE
    desk.clock.advance(1000)
    assert one.feed(NEXT) == WHOLE * 2


def test_a_reset_writes_nothing() -> None:
    one, desk = bench()
    assert one.feed(GET % b"reset" + NEXT) == b""
    assert one.wire.aborted
    assert desk.requests == [b"/reset"]


def test_silence_ends_when_the_server_drains() -> None:
    one, _ = bench()
    assert one.feed(GET % b"silent" + NEXT) == b""
    assert not one.wire.closed
    one.shared.draining = True
    one.connection.drain()
    assert one.wire.closed
    assert one.written == b""
    two, _ = bench()
    two.feed(GET % b"stall")
    two.shared.draining = True
    two.connection.drain()
    assert two.wire.closed


@pytest.mark.parametrize("target", [b"stall", b"slow", b"silent"])
def test_a_client_that_leaves_is_forgotten(target: bytes) -> None:
    one, desk = bench()
    before = one.feed(GET % target)
    one.connection.connection_lost(None)
    desk.clock.advance(10_000)
    assert one.written == before


@pytest.mark.parametrize("target", [b"stall", b"slow", b"truncate"])
def test_a_head_has_no_body_to_break(target: bytes) -> None:
    one, desk = bench()
    assert one.feed(b"HEAD /%s HTTP/1.1\r\nHost: a\r\n\r\n" % target) == HEAD + b"content-length: 10\r\n\r\n"
    desk.clock.advance(10_000)
    assert not one.wire.closed


def test_a_last_request_closes_all_the_same() -> None:
    one, desk = bench()
    last = b"GET /stall HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    one.feed(last)
    desk.clock.advance(1000)
    assert one.written == WHOLE.replace(HEAD, LAST_HEAD)
    assert one.wire.closed


def test_a_process_that_is_down_resets_who_comes() -> None:
    one, _ = bench()
    one.shared.down = True
    wire = Wire()
    type(one.connection)(one.shared).connection_made(wire)
    assert wire.aborted


# a streaming answer


class Source:
    """Two pieces, and the end when told."""

    def __init__(self) -> None:
        self.sink: Sink
        self.gone = 0
        self.readied = 0

    def start(self, sink: Sink) -> Cancel:
        self.sink = sink
        sink.on_ready(self.ready)
        return self.leave

    def ready(self) -> None:
        self.readied += 1

    def leave(self) -> None:
        self.gone += 1


def streamed(make: Callable[[ManualClock], bodies.Break]) -> tuple[Bench, ManualClock, Source]:
    one, clock, source = Bench(), ManualClock(NOW_MS), Source()

    def handler(request: Request, reply: Reply) -> None:
        reply(bodies.broken(StreamingResponse(200, [], source.start), make(clock)))

    one.shared.handler = handler
    one.feed(GET % b"")
    return one, clock, source


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def test_a_stream_stalls_and_holds_its_maker_back() -> None:
    one, clock, source = streamed(lambda clock: partial(bodies.Stalling, clock=clock, after_bytes=7, for_ms=1000))
    assert source.sink.write(b"hello")
    assert not source.sink.write(b"world")
    assert one.written == CHUNKED + b"5\r\nhello\r\n2\r\nwo\r\n"
    assert source.readied == 0
    clock.advance(1000)
    assert one.written == CHUNKED + b"5\r\nhello\r\n2\r\nwo\r\n3\r\nrld\r\n"
    assert source.readied == 1
    assert source.sink.write(b"!")
    source.sink.end()
    assert one.written.endswith(b"1\r\n!\r\n0\r\n\r\n")
    assert source.gone == 0


def test_a_stream_is_truncated() -> None:
    one, _, source = streamed(lambda clock: partial(bodies.Truncated, clock=clock, after_bytes=7))
    assert source.sink.write(b"hello")
    assert not source.sink.write(b"world")
    assert one.written == CHUNKED + b"5\r\nhello\r\n2\r\nwo\r\n"
    assert one.wire.closed
    assert not source.sink.write(b"late")
    source.sink.end()
    one.connection.connection_lost(None)
    assert one.written == CHUNKED + b"5\r\nhello\r\n2\r\nwo\r\n"


def test_a_stream_trickles() -> None:
    one, clock, source = streamed(lambda clock: partial(bodies.Slow, clock=clock, bytes_per_s=10))
    assert not source.sink.write(b"abc")
    clock.advance(300)
    assert one.written == CHUNKED + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"
    assert source.readied == 1
    source.sink.write(b"d")
    source.sink.end()
    assert one.written.endswith(b"1\r\nd\r\n0\r\n\r\n")


def test_a_stream_that_nobody_will_read_is_left() -> None:
    source = Source()
    bodies.left(StreamingResponse(200, [], source.start))
    assert source.gone == 1
    assert not source.sink.write(b"x")


# real sockets


@pytest.mark.anyio
@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})], ids=["uvloop", "asyncio"]
)
async def test_a_reset_is_a_rst() -> None:
    desk = Breaking()
    async with await Listener.start(with_cors(desk), now_ms=desk.clock.now_ms) as listener:
        for target in (b"reset", b"truncate"):
            client = socket.create_connection(listener.address)
            with contextlib.closing(client):
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, b"GET /%s HTTP/1.1\r\nHost: a\r\nOrigin: b\r\n\r\n" % target)
                got = b""
                if target == b"reset":
                    with pytest.raises(ConnectionResetError) as caught:
                        await loop.sock_recv(client, 1000)
                    assert caught.value.errno == errno.ECONNRESET
                else:
                    while data := await loop.sock_recv(client, 1000):
                        got += data
                    assert got.endswith(b"content-length: 10\r\n\r\n012")


@pytest.mark.anyio
async def test_a_cut_resets_all_and_whoever_comes_for_a_while() -> None:
    desk = Breaking()
    loop = asyncio.get_running_loop()
    async with await Listener.start(desk, now_ms=desk.clock.now_ms) as listener:
        with contextlib.closing(socket.create_connection(listener.address)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, GET % b"silent")
            await desk.asked.wait()
            listener.cut(0.05)
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(client, 1000)
        with contextlib.closing(socket.create_connection(listener.address)) as client:
            client.setblocking(False)
            with pytest.raises(ConnectionError):
                await asyncio.gather(loop.sock_sendall(client, NEXT), loop.sock_recv(client, 1000))
        await asyncio.sleep(0.06)
        with contextlib.closing(socket.create_connection(listener.address)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, NEXT)
            assert (await loop.sock_recv(client, 1000)).endswith(BODY)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# HTTP/2: the stream is reset, the others on the connection go on


@pytest.mark.anyio
@pytest.mark.parametrize("target", [b"/reset", b"/truncate"])
async def test_http2_resets_the_stream_alone(target: bytes) -> None:
    desk = Breaking()
    async with await Listener.start(desk, now_ms=desk.clock.now_ms) as listener, connect_by_2(listener) as client:
        stream = await client.send(target)
        while stream not in client.resets:
            await client.pump()
        assert client.resets == {stream: 2}
        assert await client.answer(await client.send(b"/whole")) == (b"200", BODY)


@pytest.mark.anyio
async def test_http2_stalls_and_is_silent() -> None:
    desk = Breaking()
    async with await Listener.start(desk, now_ms=desk.clock.now_ms) as listener, connect_by_2(listener) as client:
        stalled, silent = await client.send(b"/stall"), await client.send(b"/silent")
        await client.body(stalled, 3)
        desk.clock.advance(1000)
        assert await client.answer(stalled) == (b"200", BODY)
        async with asyncio.timeout(5):
            await listener.drain(2)
        assert silent not in client.ended


# ASGI


@both_loops
async def test_asgi_breaks_off() -> None:
    desk = Breaking()
    for target, sent in (("/reset", []), ("/truncate", [b"012"])):
        server = Server(piece(b""))
        with pytest.raises(BrokenOff):
            await server.run(asgi_app(desk), http(target))
        assert [message["body"] for message in server.sent if message["type"] == "http.response.body"] == sent


@both_loops
async def test_asgi_is_silent_until_the_client_leaves() -> None:
    server = Server(piece(b""), DISCONNECT)
    await server.run(asgi_app(Breaking()), http("/silent"))
    assert server.sent == []
