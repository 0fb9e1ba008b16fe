"""A handler as an ASGI 3 application, for whoever wants to mount it in a server of their own.

The rule: it runs under asyncio and trio alike; the whole request is read before the handler is called, and a client
that leaves before its answer is cancelled. `Reply` and `Sink` may be called in the event loop's thread only.

A streaming answer is held back by the server's `send`, which waits as long as the client does not read; what comes
meanwhile gathers here. To break one off, or to give none, the application raises `BrokenOff`: ASGI has no other way.
Before the head most servers make a 500 of it; Hypercorn resets an HTTP/2 stream here, because http2.py sees to it.

https://asgi.readthedocs.io/en/stable/specs/www.html
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

import anyio

from protocols.http.message import Answer, Cancel, Handler, Request, Response, StreamingResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_HIGH_WATER_BYTES = 64 * 1024

_log = logging.getLogger("sidebus.http")


class BrokenOff(Exception):
    """An answer ended before its end, or before its beginning."""


def asgi_app(
    handler: Handler,
    *,
    max_body_bytes: int = 16 * 1024 * 1024,
    body_timeout_s: float = 60.0,
    write_timeout_s: float = 60.0,
    streams: set[Stream | Silence] | None = None,
) -> ASGIApp:
    """Serves `http` and `lifespan` scopes; mounted below a `root_path`, the handler sees what comes after it.

    `streams` holds the streaming answers under way, and the silent ones, for whoever wants to `drain` them.
    """
    live: set[Stream | Silence] = set() if streams is None else streams

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            body = await _read(receive, max_body_bytes, body_timeout_s)
            if body is None:
                return
            answer: Answer | None
            if isinstance(body, Response):
                answer = body
            else:
                answer = await _answer(handler, _request(scope, body), receive)
            if isinstance(answer, Response):
                await _send(send, scope["method"], answer)
            elif answer is not None:
                stream: Stream | Silence
                if isinstance(answer, StreamingResponse):
                    stream = Stream(answer, scope["method"] == "HEAD", write_timeout_s)
                elif answer.silent:
                    stream = Silence()
                else:
                    raise BrokenOff
                live.add(stream)
                try:
                    await stream.run(receive, send)
                finally:
                    live.discard(stream)
        elif scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        else:
            raise NotImplementedError(f"Sidebus does not speak {scope['type']}.")

    return app


async def _read(receive: Receive, max_body_bytes: int, timeout_s: float) -> bytes | Response | None:
    """The request's body, or its refusal, or None when the client has gone."""
    body = bytearray()
    too_large = False
    with anyio.move_on_after(timeout_s):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            # What is too long is read to its end nevertheless: servers differ in what they do with an early answer.
            too_large = too_large or len(body) + len(piece) > max_body_bytes
            if too_large:
                body.clear()
            else:
                body += piece
            if not message.get("more_body", False):
                if too_large:
                    return _refusal(413, f"The request's body is longer than {max_body_bytes} bytes.")
                return bytes(body)
    return _refusal(408, f"The request's body did not come within {timeout_s:g} seconds.")


def _refusal(status: int, text: str) -> Response:
    return Response(status, [(b"content-type", b"text/plain")], text.encode() + b"\n")


def _request(scope: Scope, body: bytes) -> Request:
    target = _local_path(scope)
    if scope.get("query_string"):
        target += b"?" + scope["query_string"]
    headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    client = scope.get("client")
    return Request(scope["method"], target, headers, body, scope.get("scheme", "http"), client[0] if client else "")


def _local_path(scope: Scope) -> bytes:
    """The path below where we are mounted, still percent-encoded."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    # By the specification `path` begins with `root_path`, but some that mount cut it off; few touch `raw_path`.
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :] or "/"
    raw = scope.get("raw_path") or b""
    start = raw.find(b"/")
    while start >= 0:
        if unquote(raw[start:]) == path:
            return bytes(raw[start:])
        start = raw.find(b"/", start + 1)
    return quote(path).encode()


async def _answer(handler: Handler, request: Request, receive: Receive) -> Answer | None:
    """The handler's answer, or None when the client left before it."""
    answer: Answer | None = None
    waits = True
    answered = anyio.Event()

    def reply(response: Answer) -> None:
        nonlocal answer, waits
        if waits:
            answer, waits = response, False
            answered.set()

    cancel = handler(request, reply)
    try:
        if waits:
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                await answered.wait()
                tasks.cancel_scope.cancel()
    finally:
        if waits:
            waits = False
            if cancel is not None:
                cancel()
    return answer


async def _send(send: Send, method: str, response: Response) -> None:
    headers = [(name.lower(), value) for name, value in response.headers]
    body = response.body
    if response.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


class Silence:
    """Instead of an answer, until the client leaves."""

    def __init__(self) -> None:
        self._drained = anyio.Event()

    async def run(self, receive: Receive, _send: Send) -> None:
        """Raises BrokenOff where the server drains before."""
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            await self._drained.wait()
            tasks.cancel_scope.cancel()
        if self._drained.is_set():
            raise BrokenOff

    def drain(self) -> None:
        self._drained.set()


class Stream:
    """A streaming answer on its way: the `Sink` of its body."""

    def __init__(self, response: StreamingResponse, is_head: bool, write_timeout_s: float) -> None:
        self._response = response
        self._write_timeout_s = write_timeout_s
        self._cancel: Cancel | None = None
        self._ready: Callable[[], None] | None = None
        self._gathered = bytearray()
        self._missing_bytes = 0 if is_head else response.length or 0  # of what the head has promised
        self._paused = False
        self._is_open = not is_head  # takes more
        self._ends_early = False
        self._broken = False
        self._wake = anyio.Event()

    async def run(self, receive: Receive, send: Send) -> None:
        """Sends it to its end, or until the client has gone. Raises BrokenOff."""
        response = self._response
        was_open = self._is_open
        cancel = response.start(self)
        if self._is_open or not was_open:  # or it has come to its end already
            self._cancel = cancel
        try:
            if not was_open:
                self._leave()
            headers = [(name.lower(), value) for name, value in response.headers]
            if response.length is not None:
                headers.append((b"content-length", b"%d" % response.length))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                await self._send_all(send)
                tasks.cancel_scope.cancel()
        finally:
            self._leave()
        if self._broken:
            raise BrokenOff

    async def _send_all(self, send: Send) -> None:
        while not self._broken:
            if self._gathered:
                piece = bytes(self._gathered)
                self._gathered.clear()
                with anyio.move_on_after(self._write_timeout_s) as waiting:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                if waiting.cancelled_caught:
                    self._broken = True
                elif self._paused and not self._gathered:
                    self._resume()
            elif self._is_open:
                self._wake = anyio.Event()
                await self._wake.wait()
            elif self._ends_early or self._missing_bytes > 0:
                self._broken = True
            else:
                await send({"type": "http.response.body", "body": b""})
                return

    def _resume(self) -> None:
        self._paused = False
        if self._ready is not None:
            try:
                self._ready()
            except Exception:
                _log.exception("A stream could not go on.")
                self._broken = True

    def write(self, data: bytes) -> bool:
        if not self._is_open:
            return False
        self._gathered += data
        self._missing_bytes -= len(data)
        self._wake.set()
        self._paused = len(self._gathered) >= _HIGH_WATER_BYTES
        return not self._paused

    def on_ready(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def end(self) -> None:
        self._is_open = False
        self._cancel = self._ready = None
        self._wake.set()

    def abort(self) -> None:
        if self._is_open:
            self._ends_early = True
            self.end()

    def drain(self) -> None:
        """Ends it in good order, though its maker had more to say."""
        self._leave()
        self._wake.set()

    def _leave(self) -> None:
        self._is_open = False
        cancel, self._cancel, self._ready = self._cancel, None, None
        if cancel is not None:
            try:
                cancel()
            except Exception:
                _log.exception("Cancelling failed.")
