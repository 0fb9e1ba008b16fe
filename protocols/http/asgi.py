"""A handler as an ASGI 3 application, for whoever wants to mount it in a server of their own.

The rule: it runs under asyncio and trio alike; the whole request is read before the handler is called, and a client
that leaves before its answer is cancelled. `Reply` may be called in the event loop's thread only.

https://asgi.readthedocs.io/en/stable/specs/www.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

import anyio

from protocols.http.message import Handler, Request, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def asgi_app(handler: Handler, *, max_body_bytes: int = 16 * 1024 * 1024, body_timeout_s: float = 60.0) -> ASGIApp:
    """Serves `http` and `lifespan` scopes; mounted below a `root_path`, the handler sees what comes after it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            body = await _read(receive, max_body_bytes, body_timeout_s)
            if body is None:
                return
            response: Response | None
            if isinstance(body, Response):
                response = body
            else:
                response = await _answer(handler, _request(scope, body), receive)
            if response is not None:
                await _send(send, scope["method"], response)
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


async def _answer(handler: Handler, request: Request, receive: Receive) -> Response | None:
    """The handler's answer, or None when the client left before it."""
    answer: Response | None = None
    waits = True
    answered = anyio.Event()

    def reply(response: Response) -> None:
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
