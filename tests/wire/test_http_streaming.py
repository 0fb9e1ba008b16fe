"""Answers that come piece by piece, on real sockets: framing, order, back-pressure, and every way in which one ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import h2.events
import pytest
import test_http2
from hypothesis import given
from hypothesis import strategies as st
from test_http_asgi import Server, http

from protocols.http.asgi import BrokenOff, asgi_app
from protocols.http.cors import with_cors
from protocols.http.http1 import Limits
from protocols.http.http2 import _Frames
from protocols.http.listener import Listener
from protocols.http.message import Cancel, Handler, Reply, Request, Response, Sink, StreamingResponse

NOW_MS = 784_111_777_000
HEAD = b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: %s\r\nx: y\r\n"
CHUNKED = HEAD % b"keep-alive" + b"transfer-encoding: chunked\r\n\r\n"
MIB = 1024 * 1024

on_both_loops = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})], ids=["uvloop", "asyncio"]
)
pytestmark = pytest.mark.anyio


class Source:
    """One stream: writes what it is told to, and keeps a diary."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.cancelled = 0
        self.gone = asyncio.Event()
        self.readied = asyncio.Event()
        sink.on_ready(self.readied.set)

    def cancel(self) -> None:
        self.cancelled += 1
        self.gone.set()

    async def fill(self, piece: bytes = b"x" * 65536, at_most: int = 64 * MIB) -> int:
        """Writes until the sink has had enough; returns how much that was."""
        written = 0
        while written < at_most:
            written += len(piece)
            if not self.sink.write(piece):
                return written
            await asyncio.sleep(0)
        raise AssertionError("nothing held the stream back")


class Desk:
    """/stream answers with a stream, /later/stream when told to, /broken with one that fails; the rest at once."""

    def __init__(self) -> None:
        self.sources: asyncio.Queue[Source] = asyncio.Queue()
        self.later: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self.cancelled = 0

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        if request.target.startswith(b"/stream"):
            reply(StreamingResponse(200, [(b"x", b"y")], self.start))
        elif request.target.startswith(b"/later/stream"):
            self.later.put_nowait(lambda: reply(StreamingResponse(200, [(b"x", b"y")], self.start)))
        elif request.target.startswith(b"/later"):
            self.later.put_nowait(lambda: reply(Response(200, [], request.target)))
        elif request.target.startswith(b"/broken"):
            reply(StreamingResponse(200, [(b"x", b"y")], self.fail))
        elif request.target.startswith(b"/short"):
            reply(StreamingResponse(200, [(b"x", b"y")], self.write_and_end))
        else:
            reply(Response(200, [], request.target))
        return self.cancel

    def cancel(self) -> None:
        self.cancelled += 1

    def start(self, sink: Sink) -> Cancel:
        source = Source(sink)
        self.sources.put_nowait(source)
        return source.cancel

    def fail(self, sink: Sink) -> Cancel:
        raise ZeroDivisionError

    def write_and_end(self, sink: Sink) -> Cancel:
        source = Source(sink)
        sink.write(b"short")
        sink.end()
        self.sources.put_nowait(source)
        return source.cancel


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, target: bytes, more: bytes = b"", method: bytes = b"GET", version: bytes = b"1.1") -> None:
        self.writer.write(b"%s %s HTTP/%s\r\nHost: a\r\n%s\r\n" % (method, target, version, more))

    async def read(self, expected: bytes) -> None:
        assert await self.reader.readexactly(len(expected)) == expected

    async def ended(self) -> None:
        assert await self.reader.read() == b""

    async def answer(self, expected: bytes) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % len(expected) in head
        await self.read(expected)


@contextlib.asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[Listener]:
    async with asyncio.timeout(20), await Listener.start(handler, now_ms=lambda: NOW_MS, **options) as listener:
        yield listener


@contextlib.asynccontextmanager
async def connect(listener: Listener, **options: Any) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(*listener.address, **options)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is somebody else's
            await asyncio.sleep(0.001)


# -- HTTP/1.1


@on_both_loops
async def test_chunks_as_they_are_written_and_the_connection_goes_on() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.ask(b"/stream")
        source = await desk.sources.get()
        await client.read(CHUNKED)
        assert source.sink.write(b"hello")
        await client.read(b"5\r\nhello\r\n")
        assert source.sink.write(b""), "nothing is not the end"
        assert source.sink.write(b"x" * 300)
        await client.read(b"12c\r\n" + b"x" * 300 + b"\r\n")
        source.sink.write(b"x" * 65536)
        await client.read(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        source.sink.end()
        await client.read(b"0\r\n\r\n")
        client.ask(b"/whole")
        await client.answer(b"/whole")
        assert not source.sink.write(b"too late")
        source.sink.end()
        source.sink.abort()
        client.ask(b"/whole")
        await client.answer(b"/whole")
    assert source.cancelled == desk.cancelled == 0


@on_both_loops
@pytest.mark.parametrize("keep_alive", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_reads_to_the_end_of_the_connection(keep_alive: bytes) -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.ask(b"/stream", keep_alive, version=b"1.0")
        source = await desk.sources.get()
        source.sink.write(b"one")
        source.sink.write(b"two")
        source.sink.end()
        await client.read(HEAD % b"close" + b"\r\nonetwo")
        await client.ended()
    assert source.cancelled == 0


@on_both_loops
@pytest.mark.parametrize(("field", "connection"), [(b"Keep-Alive", b"keep-alive"), (b"Close", b"close")])
async def test_what_the_client_says_of_the_connection(field: bytes, connection: bytes) -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.ask(b"/stream", b"Connection: %s\r\n" % field)
        source = await desk.sources.get()
        source.sink.end()
        await client.read(HEAD % connection + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        client.ask(b"/whole")
        if connection == b"close":
            await client.ended()
        else:
            await client.answer(b"/whole")


@on_both_loops
async def test_answers_keep_the_order_of_their_requests() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        for target in (b"/later/1", b"/stream", b"/2", b"/later/stream", b"/short", b"/3"):
            client.ask(target)
        answer, second_stream = await desk.later.get(), await desk.later.get()
        second_stream()
        assert desk.sources.empty(), "a stream begins when it is its turn"
        answer()
        await client.answer(b"/later/1")
        await client.read(CHUNKED)
        first = await desk.sources.get()
        assert desk.sources.empty()
        first.sink.write(b"first")
        await client.read(b"5\r\nfirst\r\n")
        first.sink.end()
        await client.read(b"0\r\n\r\n")
        await client.answer(b"/2")
        await client.read(CHUNKED)
        second = await desk.sources.get()
        second.sink.end()
        await client.read(b"0\r\n\r\n" + CHUNKED + b"5\r\nshort\r\n0\r\n\r\n")
        await client.answer(b"/3")
    assert desk.cancelled == 0


@on_both_loops
async def test_head_has_no_body() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.ask(b"/stream", method=b"HEAD")
        await client.read(CHUNKED)
        source = await desk.sources.get()
        assert source.cancelled == 1
        assert not source.sink.write(b"body")
        client.ask(b"/whole")
        await client.answer(b"/whole")


@on_both_loops
async def test_a_slow_client_holds_the_stream_back() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener, limit=65536) as client:
        client.ask(b"/stream")
        source = await desk.sources.get()
        await client.read(CHUNKED)
        for _ in range(3):
            source.readied.clear()
            written = await source.fill()
            assert not source.readied.is_set()
            assert not source.sink.write(b"x" * 65536)
            written += 65536
            await client.read((b"10000\r\n" + b"x" * 65536 + b"\r\n") * (written // 65536))
            await source.readied.wait()
        source.sink.end()
        await client.read(b"0\r\n\r\n")


@on_both_loops
@pytest.mark.parametrize("leave", ["close", "abort", "half"])
async def test_a_client_that_leaves(leave: str) -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.ask(b"/stream")
        client.ask(b"/stream")
        source = await desk.sources.get()
        await client.read(CHUNKED)
        if leave == "abort":
            client.writer.transport.abort()
        elif leave == "close":
            client.writer.close()
        else:
            client.writer.write_eof()
        await source.gone.wait()
        assert not source.sink.write(b"x")
        source.sink.end()
        second = await desk.sources.get()
        assert (source.cancelled, second.cancelled) == (1, 1), "what waited for its turn is told too"
        assert not second.sink.write(b"x")


@on_both_loops
async def test_a_stream_given_after_the_client_has_left_is_not_started() -> None:
    desk = Desk()
    async with listening(desk) as listener:
        async with connect(listener) as client:
            client.ask(b"/later/stream")
            answer = await desk.later.get()
        await until(lambda: desk.cancelled == 1)
        answer()
        assert desk.sources.empty()


@on_both_loops
async def test_a_stream_that_breaks_off() -> None:
    desk = Desk()
    async with listening(desk) as listener:
        async with connect(listener) as client:
            client.ask(b"/stream")
            source = await desk.sources.get()
            await client.read(CHUNKED)
            source.sink.abort()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.read(b"0\r\n\r\n")
            assert source.cancelled == 0
        async with connect(listener) as client:
            client.ask(b"/broken")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.read(CHUNKED + b"0\r\n\r\n")


@on_both_loops
async def test_draining_ends_streams_in_good_order() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client, connect(listener) as second:
        client.ask(b"/stream")
        client.ask(b"/stream")
        source = await desk.sources.get()
        second.ask(b"/later/stream")
        late = await desk.later.get()
        source.sink.write(b"hello")
        draining = asyncio.create_task(listener.drain(10))
        await client.read(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
        await client.read(CHUNKED + b"0\r\n\r\n")
        await client.ended()
        late()
        await second.read(HEAD % b"close" + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        await second.ended()
        await draining
        sources = [source, await desk.sources.get(), await desk.sources.get()]
        assert [source.cancelled for source in sources] == [1, 1, 1]


@on_both_loops
async def test_only_a_client_that_does_not_read_runs_out_of_time() -> None:
    desk = Desk()
    limits = Limits(idle_timeout_s=1, head_timeout_s=1, body_timeout_s=1, write_timeout_s=100)
    async with listening(desk, limits=limits, sweep_s=1000) as listener:
        now_s = asyncio.get_running_loop().time()
        async with connect(listener) as idle, connect(listener) as slow:
            idle.ask(b"/stream")
            quiet = await desk.sources.get()
            slow.ask(b"/stream")
            source = await desk.sources.get()
            written = await source.fill()
            listener.sweep(now_s)
            listener.sweep(now_s + 99)
            assert source.cancelled == 0
            await slow.reader.readexactly(len(CHUNKED) + written // 2)
            await until(lambda: source.readied.is_set() or source.sink.write(b"") or True)
            source.readied.clear()
            await source.fill()
            listener.sweep(now_s + 101)
            listener.sweep(now_s + 200)
            assert source.cancelled == 0, "it has read in the meantime"
            for _ in range(10):
                source.sink.write(b"more, though nobody reads")
                listener.sweep(now_s + 202)
            await source.gone.wait()
            assert quiet.cancelled == 0
            quiet.sink.end()
            await idle.read(CHUNKED + b"0\r\n\r\n")


@on_both_loops
async def test_cors() -> None:
    desk = Desk()
    async with listening(with_cors(desk)) as listener, connect(listener) as client:
        client.ask(b"/short", b"Origin: http://a\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"x: y\r\naccess-control-allow-origin: *\r\n" in head
        await client.read(b"5\r\nshort\r\n0\r\n\r\n")


# -- HTTP/2


class Http2Client(test_http2.Client):
    """Grants no more window for the streams in `held`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.held: set[int] = set()
        self.resets: dict[int, int] = {}

    async def pump(self) -> None:
        await self.flush()
        data = await self.reader.read(65536)
        if not data:
            raise EOFError
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.headers[event.stream_id] = list(event.headers)
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                    size = event.flow_controlled_length
                    if event.stream_id in self.held:
                        self.h2.increment_flow_control_window(size)  # of the connection alone
                    else:
                        self.h2.acknowledge_received_data(size, event.stream_id)
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)
                case h2.events.StreamReset():
                    self.resets[event.stream_id] = event.error_code
                case h2.events.ConnectionTerminated():
                    self.terminated = True
        await self.flush()

    async def body(self, stream: int, size: int) -> bytes:
        while len(self.bodies.get(stream, b"")) < size:
            await self.pump()
        return self.bodies[stream]


@contextlib.asynccontextmanager
async def connect_by_2(listener: Listener) -> AsyncIterator[Http2Client]:
    reader, writer = await asyncio.open_connection(*listener.address)
    try:
        yield Http2Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@on_both_loops
async def test_http2_pieces_as_they_are_written() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect_by_2(listener) as client:
        stream = await client.send(b"/stream")
        source = await desk.sources.get()
        assert source.sink.write(b"hello")
        assert await client.body(stream, 5) == b"hello"
        assert client.headers[stream] == [
            (b":status", b"200"),
            (b"x", b"y"),
            (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ]
        assert source.sink.write(b" world")
        assert await client.body(stream, 11) == b"hello world"
        assert stream not in client.ended
        source.sink.end()
        assert await client.answer(stream) == (b"200", b"hello world")
        short = await client.send(b"/short")
        assert await client.answer(short) == (b"200", b"short")
        head = await client.send(b"/stream", method=b"HEAD")
        assert await client.answer(head) == (b"200", b"")
        assert source.cancelled == 0


@on_both_loops
async def test_http2_one_slow_stream_of_several_holds_back_itself_alone() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect_by_2(listener) as client:
        slow = await client.send(b"/stream/slow")
        client.held.add(slow)
        slow_source = await desk.sources.get()
        quick = [await client.send(b"/stream/%d" % n) for n in range(5)]
        sources = [await desk.sources.get() for _ in quick]
        reading = asyncio.create_task(client.pump_to_the_end())
        held = await slow_source.fill(b"s" * 10_000)
        assert held < 300_000, "the window, and what two buffers hold"
        pieces = [bytes([97 + n]) * 40_000 for n in range(5)]
        for _ in range(5):
            for source, piece in zip(sources, pieces, strict=True):
                source.readied.clear()
                if not source.sink.write(piece):
                    await source.readied.wait()
        for source in sources:
            source.sink.end()
        await until(lambda: client.ended >= set(quick))
        assert [client.bodies[stream] for stream in quick] == [piece * 5 for piece in pieces]
        assert not slow_source.readied.is_set()
        client.held.clear()
        client.h2.increment_flow_control_window(1_000_000, slow)
        await client.flush()
        await slow_source.readied.wait()
        slow_source.sink.end()
        await until(lambda: slow in client.ended)
        assert client.bodies[slow] == b"s" * held
        reading.cancel()


@on_both_loops
async def test_http2_a_client_that_leaves_a_stream_or_all() -> None:
    desk = Desk()
    async with listening(desk) as listener:
        async with connect_by_2(listener) as client:
            first = await client.send(b"/stream")
            await client.send(b"/stream")
            blocked = await client.send(b"/stream")
            client.held.add(blocked)
            sources = [await desk.sources.get() for _ in range(3)]
            await sources[2].fill()
            client.h2.reset_stream(first)
            await client.flush()
            await sources[0].gone.wait()
            assert not sources[0].sink.write(b"x")
            assert await client.answer(await client.send(b"/whole")) == (b"200", b"/whole")
            assert [source.cancelled for source in sources] == [1, 0, 0]
        await sources[1].gone.wait()
        await sources[2].gone.wait()
        assert [source.cancelled for source in sources] == [1, 1, 1]


@on_both_loops
async def test_http2_a_stream_that_breaks_off_is_reset() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect_by_2(listener) as client:
        stream = await client.send(b"/stream")
        source = await desk.sources.get()
        source.sink.write(b"hello")
        await client.body(stream, 5)
        source.sink.abort()
        while stream not in client.resets:
            await client.pump()
        assert client.resets == {stream: 2}
        assert stream not in client.ended
        assert await client.answer(await client.send(b"/whole")) == (b"200", b"/whole")
        assert source.cancelled == 0


@on_both_loops
async def test_http2_a_client_that_does_not_read_runs_out_of_time() -> None:
    desk = Desk()
    async with listening(desk, limits=Limits(write_timeout_s=0.05)) as listener, connect_by_2(listener) as client:
        idle, slow = await client.send(b"/stream"), await client.send(b"/stream")
        client.held.add(slow)
        quiet, source = await desk.sources.get(), await desk.sources.get()
        await source.fill()
        while slow not in client.resets:
            await client.pump()
        assert (quiet.cancelled, source.cancelled) == (0, 1)
        quiet.sink.end()
        assert await client.answer(idle) == (b"200", b"")


@on_both_loops
async def test_http2_draining_ends_streams_in_good_order() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect_by_2(listener) as client:
        streams = [await client.send(b"/stream") for _ in range(3)]
        sources = [await desk.sources.get() for _ in streams]
        for source in sources:
            source.sink.write(b"x" * 50_000)
        draining = asyncio.create_task(listener.drain(10))
        for stream in streams:
            assert await client.answer(stream) == (b"200", b"x" * 50_000)
        await client.pump_to_the_end()
        await draining
        assert [source.cancelled for source in sources] == [1, 1, 1]


@on_both_loops
async def test_http2_a_client_that_will_ask_no_more_gets_what_it_asked_for() -> None:
    """The SDK for JavaScript says so as soon as it has the head of a stream."""
    desk = Desk()
    async with listening(desk) as listener, connect_by_2(listener) as client:
        later, stream = await client.send(b"/later"), await client.send(b"/stream")
        client.writer.write(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))
        source, answer = await desk.sources.get(), await desk.later.get()
        for n in range(20):
            source.sink.write(b"piece")
            await client.body(stream, 5 * (n + 1))
        answer()
        source.sink.end()
        assert await client.answer(later) == (b"200", b"/later")
        assert await client.answer(stream) == (b"200", b"piece" * 20)
        assert (source.cancelled, desk.cancelled) == (0, 0)


@on_both_loops
async def test_http2_a_client_that_gives_up() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect_by_2(listener) as client:
        await client.send(b"/stream")
        source = await desk.sources.get()
        client.h2.close_connection(error_code=1)
        await client.flush()
        await source.gone.wait()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 4, 7, 7]), st.sampled_from([b"", bytes(8), bytes(7) + b"\1", b"why"]) | st.binary()
    )
)


@given(FRAMES, st.lists(st.integers(1, 30)))
def test_only_a_goaway_without_an_error_is_left_out(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    written = [(kind, len(load).to_bytes(3, "big") + bytes([kind]) + bytes(5) + load) for kind, load in frames]
    data = PREFACE + b"".join(frame for _, frame in written)
    kept = [f for (kind, f) in written if not (kind == 7 and f[13:17] == bytes(4))]
    passing, passed = _Frames(), b""
    for cut in cuts:
        passed += passing.without_goodbyes(data[:cut])
        data = data[cut:]
    assert passed + passing.without_goodbyes(data) == PREFACE + b"".join(kept)


# -- ASGI, under asyncio and trio


class Slow(Server):
    """Takes a piece of a body when it is allowed to."""

    def __init__(self) -> None:
        super().__init__({"type": "http.request"})
        self.may_send = anyio.Event()

    async def send(self, message: Any) -> None:
        if message.get("body"):
            await self.may_send.wait()
        await super().send(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


both_libraries = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


def streaming(start: Callable[[Sink], Cancel]) -> Handler:
    def handler(request: Request, reply: Reply) -> None:
        reply(StreamingResponse(200, [(b"X", b"y")], start))

    return handler


@both_libraries
async def test_asgi_a_slow_server_holds_the_stream_back() -> None:
    server = Slow()
    readied = anyio.Event()
    sinks: list[Sink] = []
    cancelled: list[None] = []

    def start(sink: Sink) -> Cancel:
        sinks.append(sink)
        sink.on_ready(readied.set)
        assert sink.write(b"x" * 60_000)
        assert not sink.write(b"x" * 60_000)
        return lambda: cancelled.append(None)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, asgi_app(streaming(start)), http("/"))
            await anyio.wait_all_tasks_blocked()
            assert not readied.is_set()
            server.may_send.set()
            await readied.wait()
            sinks[0].write(b"last")
            sinks[0].end()
    assert server.sent[0] == {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]}
    assert server.body == b"x" * 120_000 + b"last"
    assert [message.get("more_body", False) for message in server.sent[1:]] == [True] * (len(server.sent) - 2) + [False]
    assert not cancelled


@both_libraries
async def test_asgi_a_client_that_leaves() -> None:
    server = Slow()
    cancelled: list[None] = []

    def start(sink: Sink) -> Cancel:
        sink.write(b"x")
        return lambda: cancelled.append(None)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, asgi_app(streaming(start)), http("/"))
            await anyio.wait_all_tasks_blocked()
            server.say({"type": "http.disconnect"})
    assert cancelled == [None]


@both_libraries
async def test_asgi_a_stream_that_breaks_off_ends_the_application() -> None:
    def start(sink: Sink) -> Cancel:
        sink.abort()
        return lambda: None

    with pytest.raises(BrokenOff):
        await Slow().run(asgi_app(streaming(start)), http("/"))
    server = Slow()
    cancelled: list[None] = []

    def start_to_write(sink: Sink) -> Cancel:
        sink.write(b"x")
        return lambda: cancelled.append(None)

    with pytest.raises(BrokenOff):
        await server.run(asgi_app(streaming(start_to_write), write_timeout_s=0.01), http("/"))
    assert cancelled == [None]
