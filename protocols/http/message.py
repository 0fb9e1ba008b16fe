"""The two values at the seam between listeners and everything behind them.

A listener makes a `Request`, calls a `Handler`, and writes the one `Response` that comes back. The answer may come
before the handler returns (most do) or later (a commit to wait for, a long poll); either way there is no task per
request.
"""

from __future__ import annotations

from collections.abc import Callable


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


Reply = Callable[[Response], None]
"""Takes the answer. Called exactly once, unless the request was cancelled first; a later call does nothing."""

Cancel = Callable[[], None]
"""Called by the listener when the client has gone before its answer."""

Handler = Callable[[Request, Reply], Cancel | None]
"""Answers a request through `Reply`; returns what to call if the client leaves first, or None."""
