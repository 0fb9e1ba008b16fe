"""HTTP/2: a connection whose first bytes, or whose TLS handshake, ask for it is handed to Hypercorn.

The rule: Hypercorn is imported when the first such connection comes, so that nobody else waits for it or keeps it in
memory; and it serves `asgi_app` of the same handler, with our limits and our Date.

What is ugly about it: we take Hypercorn's `TCPServer` from under its `serve`, which wants to own the sockets. Left
alone it keeps a connection that has gone until its idle time is over, and its tasks cannot be cancelled; so each
connection has a `WorkerContext` to itself, which is told to end, and `close` aborts the transport. For streaming
answers we go behind its back to the objects that its `send` is a method of: its buffers take any amount while a
client's window is shut, at a drain it closes before the end of a stream is sent, and it cannot break a stream off.
And a client that says it will ask no more (GOAWAY) is hung up on, though it waits for its answers: we do not tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from protocols.http.asgi import BrokenOff, Silence, Stream, asgi_app
from protocols.http.http1 import HTTP2_PREFACE, Limits, http_date
from protocols.http.message import Handler

if TYPE_CHECKING:
    from hypercorn.config import Config

_GOAWAY, _NO_ERROR = b"\x07", bytes(4)  # RFC 9113, 6.8
_LONGEST_GOODBYE = 4096

_log = logging.getLogger("sidebus.http")


class Http2:
    """The HTTP/2 connections of one listener."""

    def __init__(self, handler: Handler, limits: Limits, now_ms: Callable[[], int]) -> None:
        self._streams: set[Stream | Silence] = set()
        self._app = asgi_app(
            handler,
            max_body_bytes=limits.max_body_bytes,
            body_timeout_s=limits.body_timeout_s,
            write_timeout_s=limits.write_timeout_s,
            streams=self._streams,
        )
        self._limits = limits
        self._now_ms = now_ms
        self._config: Config | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._draining = False

    def take(self, transport: asyncio.Transport, received: bytes) -> None:
        """Goes on with a connection of which `received` has been read."""
        if self._draining:
            transport.close()
            return
        connection = _Connection(transport, received)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)

    async def drain(self) -> None:
        """Returns when the requests in flight are answered and the connections closed."""
        self._draining = True
        for stream in tuple(self._streams):
            stream.drain()
        for connection in self._connections.values():
            connection.ending.set()
        if self._connections:
            await asyncio.wait(self._connections)

    def cut(self) -> None:
        """Cuts every connection off, which cancels what is in flight."""
        for connection in self._connections.values():
            connection.transport.abort()

    async def close(self) -> None:
        """Cuts every connection off for good."""
        self._draining = True
        self.cut()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, connection: _Connection) -> None:
        from hypercorn.app_wrappers import ASGIWrapper
        from hypercorn.asyncio.tcp_server import TCPServer
        from hypercorn.asyncio.worker_context import WorkerContext

        if self._config is None:
            self._config = _config(self._limits, self._now_ms)
        loop = asyncio.get_running_loop()
        context = WorkerContext(None)
        server = TCPServer(
            ASGIWrapper(self._run_app), loop, self._config, context, {}, connection.reader, connection.writer
        )
        serving = loop.create_task(server.run())
        await connection.ending.wait()
        await context.terminated.set()
        try:
            await serving
        except* OSError:
            pass  # the client has gone
        except* Exception:
            _log.exception("An HTTP/2 connection failed.")

    async def _run_app(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_and_wait(message: Any) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            stream = send.__self__
            buffer = stream.send.__self__.stream_buffers.get(stream.stream_id)
            if message.get("more_body"):
                await send(message)
                if buffer is not None:
                    await buffer.drain()
            else:
                if buffer is not None:
                    await buffer._is_empty.clear()  # or it would not wait until the end has gone out
                await send(message)

        try:
            await self._app(scope, receive, send_and_wait)
        except BrokenOff:
            await _reset(send.__self__)


async def _reset(stream: Any) -> None:
    from h2.errors import ErrorCodes
    from h2.exceptions import ProtocolError

    protocol = stream.send.__self__
    with contextlib.suppress(ProtocolError):  # it has ended already
        protocol.connection.reset_stream(stream.stream_id, ErrorCodes.INTERNAL_ERROR)
        await protocol._flush()


class _Connection(asyncio.StreamReaderProtocol):
    """The streams that Hypercorn wants, and an event for when it should come to an end."""

    def __init__(self, transport: asyncio.Transport, received: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(loop=loop)
        super().__init__(self.reader, loop=loop)
        self.transport = transport
        self.ending = asyncio.Event()
        self._frames = _Frames()
        transport.set_protocol(self)
        self.connection_made(transport)
        self.writer = asyncio.StreamWriter(transport, self, self.reader, loop)
        if received:
            self.data_received(received)

    def data_received(self, data: bytes) -> None:
        super().data_received(self._frames.without_goodbyes(data))

    def eof_received(self) -> bool | None:
        self.ending.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ending.set()
        super().connection_lost(exc)


class _Frames:
    """What a client sends. A GOAWAY without an error is left out: it closes the connection itself when it is done."""

    def __init__(self) -> None:
        self._passing_bytes = len(HTTP2_PREFACE)  # of what is known to stay
        self._kept = b""  # the beginning of a frame

    def without_goodbyes(self, data: bytes) -> bytes:
        if len(data) <= self._passing_bytes:
            self._passing_bytes -= len(data)
            return data
        data = self._kept + data
        passed, at = [], 0
        while True:
            end = at + self._passing_bytes
            passed.append(data[at:end])
            at = min(end, len(data))
            self._passing_bytes = end - at
            frame_bytes = 9 + int.from_bytes(data[at : at + 3], "big")
            is_goodbye = data[at + 3 : at + 4] == _GOAWAY and 17 <= frame_bytes <= _LONGEST_GOODBYE
            if self._passing_bytes or len(data) - at < (frame_bytes if is_goodbye else 9):
                break
            if is_goodbye and data[at + 13 : at + 17] == _NO_ERROR:
                at += frame_bytes
            else:
                self._passing_bytes = frame_bytes
        self._kept = data[at:]
        return b"".join(passed)


def _config(limits: Limits, now_ms: Callable[[], int]) -> Config:
    from hypercorn.config import Config

    class Ours(Config):
        def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
            return [(b"date", http_date(now_ms() // 1000))]

    config = Ours()
    config.errorlog = _log
    config.h2_max_concurrent_streams = limits.max_streams
    config.h2_max_header_list_size = limits.max_head_bytes
    config.keep_alive_timeout = limits.idle_timeout_s
    config.keep_alive_max_requests = sys.maxsize
    return config
