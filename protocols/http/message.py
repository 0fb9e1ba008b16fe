"""The values at the seam between listeners and everything behind them.

A listener makes a `Request`, calls a `Handler`, and writes the one answer that comes back: a `Response`, a
`StreamingResponse` whose body comes piece by piece, or `NoResponse`: the client is left without one. The answer may
come before the handler returns (most do) or later (a commit to wait for, a long poll); either way there is no task per
request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final


class Request:
    """One HTTP request, whole. Header names are lower case; header values and the target are as received.

    `headers` has every header in order, `fields` the first value of each name.
    """

    __slots__ = ("_fields", "body", "headers", "method", "peer", "scheme", "target")

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes = b"",
        scheme: str = "http",
        peer: str = "",
    ) -> None:
        self.method = method
        self.target = target  # path and query string, still percent-encoded
        self.headers = headers
        self._fields: dict[bytes, bytes] | None = None
        self.body = body
        self.scheme = scheme
        self.peer = peer

    @property
    def fields(self) -> dict[bytes, bytes]:
        if self._fields is None:
            self._fields = dict(self.headers[::-1])
        return self._fields

    def header(self, name: bytes) -> str | None:
        """The first value of the header with this lower-case name, or None."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")


class Response:
    """One HTTP response, whole. The listener adds Content-Length, Date and Connection."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Sink(Protocol):
    """Takes the body of a `StreamingResponse`, in the event loop's thread. After `end`, `abort`, or the client's
    leaving, every call does nothing."""

    def write(self, data: bytes) -> bool:
        """Takes all of `data`. False: the client is slow, or gone; pause until `on_ready` is called."""
        ...

    def on_ready(self, ready: Callable[[], None]) -> None:
        """Has `ready` called whenever the client has caught up after a False."""
        ...

    def end(self) -> None:
        """The body is complete."""
        ...

    def abort(self) -> None:
        """The body breaks off, in a way that the client notices: HTTP/1.1 closes the connection, HTTP/2 resets the
        stream."""
        ...


@final
class StreamingResponse:
    """A response that comes piece by piece. The listener adds Date, Connection and the framing of the body.

    `start` is called exactly once, when it is this answer's turn, and returns what to call if the client leaves, or
    the server drains, before `end` or `abort`. Where nobody is there to read a body, that happens at once.

    With a `length` the client is told it, as of a whole `Response`; a body that ends before it is broken off.
    """

    __slots__ = ("headers", "length", "start", "status")

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        start: Callable[[Sink], Cancel],
        length: int | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.start = start
        self.length = length


@final
class NoResponse:
    """The client gets no answer. HTTP/1.1 resets the connection (RST), which loses what else is under way on it;
    HTTP/2 resets the stream alone; an ASGI server is told by `BrokenOff`, and does what it does.

    If `silent`, not a byte comes, and the connection stays until the client leaves or the server drains.
    """

    __slots__ = ("silent",)

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent


Answer = Response | StreamingResponse | NoResponse

Reply = Callable[[Answer], None]
"""Takes the answer. Called exactly once, unless the request was cancelled first; a later call does nothing."""

Cancel = Callable[[], None]
"""Called by the listener when the client has gone before its answer, or before the end of a stream."""

Handler = Callable[[Request, Reply], Cancel | None]
"""Answers a request through `Reply`; returns what to call if the client leaves first, or None."""
