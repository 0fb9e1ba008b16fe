"""HTTP/2 by prior knowledge and by ALPN, with the `h2` library as the client on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from protocols.http.http1 import Limits
from protocols.http.listener import Listener
from protocols.http.message import Cancel, Reply, Request, Response

pytestmark = pytest.mark.anyio
NOW_MS = 784_111_777_000


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Desk:
    """Answers at once, or, below /later, when `reply` is called."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: asyncio.Queue[tuple[bytes, Reply]] = asyncio.Queue()
        self.cancelled: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        self.requests.append(request)
        if request.target.startswith(b"/later"):
            self.replies.put_nowait((request.target, reply))
            return lambda: self.cancelled.put_nowait(request.target)
        reply(Response(200, [(b"X-Amzn-RequestId", b"1")], b"%d" % len(request.body)))
        return None


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.headers: dict[int, list[tuple[bytes, bytes]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.terminated = False
        self.h2.initiate_connection()

    async def send(self, path: bytes, body: bytes = b"", method: bytes = b"POST") -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"a:1")]
        self.h2.send_headers(stream, fields, end_stream=not body)
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0:
                await self.pump()
                continue
            self.h2.send_data(stream, body[:room], end_stream=len(body) <= room)
            body = body[room:]
        await self.flush()
        return stream

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def pump(self) -> None:
        """Sends what is due and takes in one read."""
        await self.flush()
        data = await self.reader.read(65536)
        if not data:
            raise EOFError
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers[event.stream_id] = list(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.terminated = True
        await self.flush()

    async def pump_to_the_end(self) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self.pump()

    async def answer(self, stream: int) -> tuple[bytes, bytes]:
        while stream not in self.ended:
            await self.pump()
        return dict(self.headers[stream])[b":status"], self.bodies.get(stream, b"")


@contextlib.asynccontextmanager
async def connect(listener: Listener, **options: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*listener.address, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def listening(desk: Desk, **options: Any) -> AsyncIterator[Listener]:
    async with asyncio.timeout(20), await Listener.start(desk, now_ms=lambda: NOW_MS, **options) as listener:
        yield listener


async def test_by_prior_knowledge() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        stream = await client.send(b"/a%20b?c", b"body")
        assert await client.answer(stream) == (b"200", b"4")
        assert client.headers[stream] == [
            (b":status", b"200"),
            (b"x-amzn-requestid", b"1"),
            (b"content-length", b"1"),
            (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ]
        (request,) = desk.requests
        assert (request.method, request.target, request.scheme, request.peer, request.body) == (
            "POST",
            b"/a%20b?c",
            "http",
            "127.0.0.1",
            b"body",
        )
        assert request.headers == [(b"host", b"a:1")]


async def test_the_preface_byte_by_byte() -> None:
    async with listening(Desk()) as listener, connect(listener) as client:
        client.h2.send_headers(
            1,
            [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")],
            end_stream=True,
        )
        for byte in client.h2.data_to_send():
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.answer(1) == (b"200", b"0")


async def test_head() -> None:
    async with listening(Desk()) as listener, connect(listener) as client:
        stream = await client.send(b"/", method=b"HEAD")
        assert await client.answer(stream) == (b"200", b"")
        assert dict(client.headers[stream])[b"content-length"] == b"1"


async def test_polls_pending_on_many_streams() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        streams = [await client.send(b"/later/%d" % n) for n in range(200)]
        replies = dict([await desk.replies.get() for _ in streams])
        assert await client.answer(await client.send(b"/", b"meanwhile")) == (b"200", b"9")
        for n in reversed(range(200)):
            replies[b"/later/%d" % n](Response(200, [], b"answer %d" % n))
        for n, stream in enumerate(streams):
            assert await client.answer(stream) == (b"200", b"answer %d" % n)
        assert desk.cancelled.empty()


async def test_more_requests_than_hypercorn_would_allow_a_connection() -> None:
    async with listening(Desk()) as listener, connect(listener) as client:
        for _ in range(22):
            for stream in [await client.send(b"/") for _ in range(50)]:
                assert await client.answer(stream) == (b"200", b"0")
        assert not client.terminated


async def test_bodies_up_to_the_limit() -> None:
    desk = Desk()
    async with listening(desk, limits=Limits(max_body_bytes=300_000)) as listener, connect(listener) as client:
        poll = await client.send(b"/later")
        assert await client.answer(await client.send(b"/", b"x" * 300_000)) == (b"200", b"300000")
        status, text = await client.answer(await client.send(b"/", b"x" * 300_001))
        assert (status, text) == (b"413", b"The request's body is longer than 300000 bytes.\n")
        _, reply = await desk.replies.get()
        reply(Response(200, [], b"still here"))
        assert await client.answer(poll) == (b"200", b"still here"), "other streams are not disturbed"


async def test_a_large_answer() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        stream = await client.send(b"/later")
        body = bytes(range(256)) * 4000
        (await desk.replies.get())[1](Response(200, [], body))
        assert await client.answer(stream) == (b"200", body)


async def test_a_slow_body_is_refused() -> None:
    async with listening(Desk(), limits=Limits(body_timeout_s=0.02)) as listener, connect(listener) as client:
        client.h2.send_headers(
            1, [(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")]
        )
        assert (await client.answer(1))[0] == b"408"


async def test_a_reset_stream_is_cancelled_and_the_others_are_not() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        one, two = await client.send(b"/later/1"), await client.send(b"/later/2")
        replies = dict([await desk.replies.get(), await desk.replies.get()])
        client.h2.reset_stream(one)
        await client.flush()
        assert await desk.cancelled.get() == b"/later/1"
        for reply in replies.values():
            reply(Response(200, [], b"x"))
        assert await client.answer(two) == (b"200", b"x")
        assert desk.cancelled.empty()


@pytest.mark.parametrize("how", ["close", "abort", "half"])
async def test_a_client_that_leaves_is_cancelled(how: str, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        for n in range(3):
            await client.send(b"/later/%d" % n)
        replies = [await desk.replies.get() for _ in range(3)]
        if how == "abort":
            client.writer.transport.abort()
        elif how == "half":
            client.writer.write_eof()
        else:
            client.writer.close()
        cancelled = {await desk.cancelled.get() for _ in range(3)}
        assert cancelled == {b"/later/0", b"/later/1", b"/later/2"}
        for _, reply in replies:
            reply(Response(200, [], b"too late"))
        await listener.drain()
        assert desk.cancelled.empty()
    assert caplog.text == ""


async def test_what_is_not_quite_http2(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(Desk()) as listener, connect(listener) as client:
        data_on_no_stream = b"\0\0\0\0\0\0\0\0\0"
        client.writer.write(client.h2.data_to_send() + data_on_no_stream)
        await client.pump_to_the_end()
    assert caplog.text == ""


async def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request, reply: Reply) -> Cancel | None:
        raise ZeroDivisionError

    async with (
        asyncio.timeout(20),
        await Listener.start(handler, now_ms=lambda: 0) as listener,
        connect(listener) as client,
    ):
        for _ in range(2):
            assert (await client.answer(await client.send(b"/")))[0] == b"500"
    assert "ZeroDivisionError" in caplog.text


async def test_an_idle_connection_is_closed() -> None:
    async with listening(Desk(), limits=Limits(idle_timeout_s=0.05)) as listener, connect(listener) as client:
        assert await client.answer(await client.send(b"/")) == (b"200", b"0")
        await client.pump_to_the_end()


async def test_drain_lets_streams_finish() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client, connect(listener) as idle:
        await idle.answer(await idle.send(b"/"))
        stream = await client.send(b"/later")
        _, reply = await desk.replies.get()
        draining = asyncio.create_task(listener.drain())
        await idle.pump_to_the_end()
        assert not draining.done()
        reply(Response(200, [], b"done"))
        assert await client.answer(stream) == (b"200", b"done")
        await draining
        assert desk.cancelled.empty()


async def test_close_cancels() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        await client.send(b"/later")
        await desk.replies.get()
        await listener.drain(timeout_s=0.01)
        assert desk.cancelled.get_nowait() == b"/later"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {cert}"
        " -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


async def test_over_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    context = ssl.create_default_context(cafile=cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    desk = Desk()
    async with listening(desk, tls_cert=cert, tls_key=key) as listener:
        async with connect(listener, ssl=context) as client:
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            assert await client.answer(await client.send(b"/", b"x" * 200_000)) == (b"200", b"200000")
            assert desk.requests[0].scheme == "https"
            await client.send(b"/later")
            await desk.replies.get()
        assert await desk.cancelled.get() == b"/later"


def test_hypercorn_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, protocols.http.listener; sys.exit(any(m in sys.modules for m in ('hypercorn', 'h2', 'h11')))"
    subprocess.run([sys.executable, "-c", code], check=True)
