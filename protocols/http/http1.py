"""HTTP/1.1 on one connection: bytes in, requests to the handler, answers out in the order of the requests.

The rules: work per request is counted in microseconds, so there is no task, no timer and no await for one; the socket
is written once for everything that one read answered; no clock is read but the one that dates the answers, and what
is too slow is found by `sweep`, which the listener calls now and then.

What is ugly about it: httptools cannot be paused in the middle of a read, so requests beyond `max_pipelined` wait
parsed in `_backlog`, and a client that leaves while reading is stopped is noticed late. A client that closes its
sending side is taken to have left: over TCP the two look the same. httptools stops at the head of a request that asks
for an upgrade; as we never grant one, that head is parsed again without its `Upgrade` field.

A streaming answer (`_Stream`) is written as it comes, past `_out`; what was asked after it waits for its end. Where
there is to be no answer, a `_Silence` stands in its place.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

from protocols.http.message import Answer, Cancel, Handler, NoResponse, Request, Response, Sink, StreamingResponse

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_HEAD_TOO_LONG = "The request's header fields are too long."
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
_ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?]+)(.*)")
_BODILESS = (204, 304)
_NO_LINGER = struct.pack("ii", 1, 0)  # what is unsent is lost, and the kernel sends a RST
_JOINED_BYTES = 64 * 1024  # what is larger is not copied to stand behind its head
_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_log = logging.getLogger("sidebus.http")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take of us."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_head_bytes: int = 64 * 1024  # as AWS's load balancers have it, and so the next
    max_target_bytes: int = 16 * 1024
    max_pipelined: int = 64  # requests of one connection that wait for their answers
    max_streams: int = 256  # the same of an HTTP/2 connection
    head_timeout_s: float = 30.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 120.0  # longer than clients keep an unused connection (Go: 90 s)
    write_timeout_s: float = 60.0  # without the client reading a byte
    linger_timeout_s: float = 5.0  # for a refused client to stop sending, lest a reset destroys our answer


class Shared:
    """What the connections of one listener have in common."""

    __slots__ = (
        "_heads",
        "_now_ms",
        "_second",
        "connections",
        "down",
        "draining",
        "empty",
        "handler",
        "limits",
        "to_http2",
    )

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        now_ms: Callable[[], int],
        to_http2: Callable[[asyncio.Transport, bytes], None],
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.to_http2 = to_http2  # takes a transport over, with what was read of it
        self.connections: set[Http1] = set()
        self.down = False  # who connects is reset
        self.draining = False
        self.empty = asyncio.Event()  # set when draining and no connection is left
        self._now_ms = now_ms
        self._second: int | None = None
        self._heads: dict[int, bytes] = {}  # of this second

    def head(self, status: int, closes: bool) -> bytes:
        """Status line, Date and Connection of an answer."""
        second = self._now_ms() // 1000
        if second != self._second:
            self._second = second
            self._heads.clear()
        key = -status if closes else status
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = b"HTTP/1.1 %d %s\r\ndate: %s\r\nconnection: %s\r\n" % (
                status,
                _REASONS.get(status, b""),
                http_date(second),
                b"close" if closes else b"keep-alive",
            )
        return head

    def forget(self, connection: Http1) -> None:
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self.empty.set()


def http_date(second: int) -> bytes:
    """A moment, in seconds since 1970, as RFC 9110, 5.6.7 has it: `Sun, 06 Nov 1994 08:49:37 GMT`."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(second)
    text = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    return text.encode()


class _Refusal(Exception):
    """A request that is answered here, after which the connection closes."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text


class _Exchange:
    """One request on its way to its answer."""

    __slots__ = ("answer", "cancel", "connection", "keep_alive", "refusal", "request", "stream")

    def __init__(
        self, connection: Http1, request: Request | None, keep_alive: bool, refusal: Response | None = None
    ) -> None:
        self.connection: Http1 | None = connection  # None once answered or cancelled
        self.request = request  # None if refused
        self.keep_alive = keep_alive
        self.refusal = refusal
        self.cancel: Cancel | None = None
        self.answer: list[bytes] | None = None
        self.stream: _Stream | _Silence | None = None

    def reply(self, response: Answer) -> None:
        connection = self.connection
        if connection is None:
            return
        if not isinstance(response, Response):
            self._reply_otherwise(connection, response)
            return
        status, body = response.status, response.body
        closes = not self.keep_alive or (connection.shared.draining and connection.ends_with(self))
        parts = [connection.shared.head(status, closes)]
        for name, value in response.headers:
            parts += (name, b": ", value, b"\r\n")
        if status in _BODILESS:
            parts.append(b"\r\n")
            body = b""
        else:
            parts.append(b"content-length: %d\r\n\r\n" % len(body))
            if self.request is not None and self.request.method == "HEAD":
                body = b""
        if len(body) < _JOINED_BYTES:
            parts.append(body)
            self.answer = [b"".join(parts)]
        else:
            self.answer = [b"".join(parts), body]
        self.connection = self.cancel = None
        connection.answered(closes)

    def _reply_otherwise(self, connection: Http1, response: StreamingResponse | NoResponse) -> None:
        assert self.request is not None
        if isinstance(response, NoResponse):
            self.connection = self.cancel = None
            self.stream = _Silence(connection, resets=not response.silent)
            connection.answered(closes=False)
            return
        length = response.length
        chunked = length is None and connection.understands_chunks()
        closes = (
            not self.keep_alive
            or (length is None and not chunked)
            or (connection.shared.draining and connection.ends_with(self))
        )
        parts = [connection.shared.head(response.status, closes)]
        for name, value in response.headers:
            parts += (name, b": ", value, b"\r\n")
        if length is not None:
            parts.append(b"content-length: %d\r\n\r\n" % length)
        else:
            parts.append(b"transfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n")
        head = b"".join(parts)
        self.connection = self.cancel = None
        self.stream = stream = _Stream(connection, response, head, chunked, closes)
        if self.request.method == "HEAD":
            stream.leave()
            self.stream, self.answer = None, [head]
        connection.answered(closes)


class _Stream:
    """The body of a streaming answer: its `Sink`. `begin` when it is its turn."""

    __slots__ = (
        "_cancel",
        "_chunked",
        "_closes",
        "_connection",
        "_head",
        "_missing_bytes",
        "_paused",
        "_ready",
        "_start",
    )

    def __init__(
        self, connection: Http1, response: StreamingResponse, head: bytes, chunked: bool, closes: bool
    ) -> None:
        self._connection: Http1 | None = connection  # None once over
        self._start: Callable[[Sink], Cancel] | None = response.start  # None once begun
        self._cancel: Cancel | None = None
        self._ready: Callable[[], None] | None = None
        self._head = head
        self._chunked = chunked
        self._missing_bytes = response.length or 0  # of what the head has promised
        self._closes = closes
        self._paused = False

    def begin(self) -> None:
        start, connection = self._start, self._connection
        if start is None or connection is None:
            return
        connection.write(self._head)
        self._call_start(start)
        if connection.shared.draining:
            self.drain()

    def write(self, data: bytes) -> bool:
        connection = self._connection
        if connection is None:
            return False
        if data:
            if not self._chunked:
                self._missing_bytes -= len(data)
                connection.write(data)
            elif len(data) < _JOINED_BYTES:
                connection.write(b"%x\r\n%b\r\n" % (len(data), data))
            else:
                connection.write(b"%x\r\n" % len(data), data, b"\r\n")
        self._paused = not connection.is_writable
        return not self._paused

    def on_ready(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def resume(self) -> None:
        """The client has caught up."""
        if self._paused and self._ready is not None:
            self._paused = False
            try:
                self._ready()
            except Exception:
                _log.exception("A stream could not go on.")
                self.abort()

    def end(self) -> None:
        connection = self._connection
        if connection is not None:
            self._connection = self._cancel = self._ready = None
            if self._missing_bytes > 0:
                connection.break_off()
                return
            if self._chunked:
                connection.write(b"0\r\n\r\n")
            connection.stream_ended(self._closes)

    def abort(self) -> None:
        connection = self._connection
        if connection is not None:
            self._connection = self._cancel = self._ready = None
            connection.break_off()

    def drain(self) -> None:
        """Ends in good order a stream that has begun, though its maker had more to say."""
        self._call_cancel()
        self.end()

    def leave(self) -> None:
        """Nobody is there to read it."""
        self._connection = self._ready = None
        if self._start is not None:
            self._call_start(self._start)
        self._call_cancel()

    def _call_start(self, start: Callable[[Sink], Cancel]) -> None:
        self._start = None
        was_open = self._connection is not None
        try:
            cancel = start(self)
        except Exception:
            _log.exception("A stream could not be started.")
            self.abort()
        else:
            if not was_open or self._connection is not None:  # or it has come to its end already
                self._cancel = cancel

    def _call_cancel(self) -> None:
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            try:
                cancel()
            except Exception:
                _log.exception("Cancelling failed.")


class _Silence:
    """Instead of an answer, when it is its turn."""

    __slots__ = ("_connection", "_resets")

    def __init__(self, connection: Http1, *, resets: bool) -> None:
        self._connection = connection
        self._resets = resets

    def begin(self) -> None:
        if self._resets:
            self._connection.reset()
        elif self._connection.shared.draining:
            self.drain()

    def resume(self) -> None:
        pass

    def drain(self) -> None:
        self._connection.break_off()

    def leave(self) -> None:
        pass


class Http1(asyncio.Protocol):
    """One connection. Everything happens in the event loop's thread."""

    __slots__ = (
        "_backlog",
        "_body",
        "_exchanges",
        "_expects_continue",
        "_headers",
        "_holding",
        "_last",
        "_limits",
        "_lingers",
        "_out",
        "_parser",
        "_peer",
        "_preface",
        "_reading",
        "_request",
        "_requests",
        "_scheme",
        "_state",
        "_state_since_s",
        "_streamed_bytes",
        "_target",
        "_transport",
        "_unread_bytes",
        "is_writable",
        "shared",
    )

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._limits = shared.limits
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._scheme = "http"
        self._peer = ""
        # What is being read.
        self._parser = httptools.HttpRequestParser(self)
        self._preface: bytes | None = b""  # as long as this may yet become HTTP/2
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: Request | None = None  # has its head, waits for its body
        self._body: bytes | bytearray = b""
        self._unread_bytes = 0  # came since the last whole head or piece of a body
        self._expects_continue = False
        self._requests = 0
        # What is being answered.
        self._exchanges: deque[_Exchange] = deque()  # with the handler, or answered out of turn
        self._backlog: deque[_Exchange] = deque()  # not yet with the handler
        self._out: list[bytes] = []
        self._holding = False  # answers gather in _out, to be written together
        self._last = False  # nothing more is read; after the last answer we close
        self._lingers = False  # the client may still be sending
        self._reading = True
        self.is_writable = True
        self._streamed_bytes = 0
        # What the sweep saw.
        self._state: tuple[str, int] = ("", 0)
        self._state_since_s = 0.0

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.shared.down:
            self.reset()
            return
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self._peer = peername[0]
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self._scheme = "https"
            if ssl_object.selected_alpn_protocol() == "h2":
                self._leave_to_http2(b"")
                return
        self.shared.connections.add(self)
        if self.shared.draining:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_all()
        self._drop_parser()
        self.shared.forget(self)

    def eof_received(self) -> None:
        self._cancel_all()

    def pause_writing(self) -> None:
        self.is_writable = False
        self._pause_reading()

    def resume_writing(self) -> None:
        self.is_writable = True
        self._settle()
        if self._exchanges and (stream := self._exchanges[0].stream) is not None:
            stream.resume()

    def data_received(self, data: bytes) -> None:
        if self._preface is not None:
            data = self._sniff(data)
        if self._last or not data:
            return
        self._unread_bytes += len(data)
        self._holding = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._broken(error)
        if self._unread_bytes > self._limits.max_head_bytes and not self._last:
            self._refuse(_Refusal(431, _HEAD_TOO_LONG))
        self._holding = False
        self._settle()

    def _sniff(self, data: bytes) -> bytes:
        """What there is to parse: nothing as long as this looks like HTTP/2, or once it is."""
        assert self._preface is not None
        data = self._preface + data
        if not HTTP2_PREFACE.startswith(data[: len(HTTP2_PREFACE)]):
            self._preface = None
            return data
        if len(data) < len(HTTP2_PREFACE):
            self._preface = data
        else:
            self._leave_to_http2(data)
        return b""

    def _leave_to_http2(self, data: bytes) -> None:
        self._drop_parser()
        self.shared.forget(self)
        self.shared.to_http2(self._transport, data)

    def _drop_parser(self) -> None:
        self._parser = None  # type: ignore[assignment]  # it holds us, and we hold it

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    # The parser's side

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > self._limits.max_target_bytes:
            raise _Refusal(414, "The request's target is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        method = parser.get_method().decode()
        if self._unread_bytes > self._limits.max_head_bytes:  # perhaps: it counts all that came with the head
            head_bytes = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
            if head_bytes > self._limits.max_head_bytes:
                raise _Refusal(431, _HEAD_TOO_LONG)
        self._unread_bytes = 0
        self._body = b""
        self._expects_continue = False
        hosts = 0
        for name, value in headers:
            if name in _FRAMING:
                if name == b"host":
                    hosts += 1
                else:
                    self._heed(name, value)
        # RFC 9112, 3.2: exactly one Host, except that HTTP/1.0 had none.
        if hosts != 1 and (hosts or parser.get_http_version() != "1.0"):
            raise _Refusal(400, "The request needs one Host header field.")
        if target[0] != 0x2F:
            target = _origin_form(method, target, headers)
        self._request = Request(method, target, headers, b"", self._scheme, self._peer)

    def _heed(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if int(value) > self._limits.max_body_bytes:
                raise self._too_large()
        elif name == b"transfer-encoding":
            if self._parser.get_http_version() == "1.0":
                raise _Refusal(400, "HTTP/1.0 has no Transfer-Encoding.")  # RFC 9112, 6.1
            if value.lower() != b"chunked":
                raise _Refusal(501, "The only transfer coding understood is chunked.")
        elif self._parser.get_http_version() != "1.0":
            if value.lower() != b"100-continue":
                raise _Refusal(417, "The only expectation understood is 100-continue.")
            self._expects_continue = True

    def _too_large(self) -> _Refusal:
        return _Refusal(413, f"The request's body is longer than {self._limits.max_body_bytes} bytes.")

    def on_body(self, piece: bytes) -> None:
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytearray):
            self._body += piece
        else:
            self._body = bytearray(self._body) + piece
        self._unread_bytes = 0
        if len(self._body) > self._limits.max_body_bytes:
            raise self._too_large()

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        parser = self._parser
        if parser.should_upgrade():
            return  # its head is read again
        self._request = None
        if self._last:
            return  # came together with the request we closed after
        request.body = self._body if type(self._body) is bytes else bytes(self._body)
        if self._headers:
            self._headers = []  # trailers
        self._requests += 1
        exchange = _Exchange(self, request, parser.should_keep_alive())
        if not exchange.keep_alive:
            self._last = True
        if self._backlog or len(self._exchanges) + len(self._out) >= self._limits.max_pipelined:
            self._backlog.append(exchange)
            self._pause_reading()
        else:
            self._dispatch(exchange)

    def _broken(self, error: httptools.HttpParserError) -> None:
        if self._last:
            return  # what follows a `Connection: close` is nobody's
        cause = error.__context__
        if isinstance(cause, _Refusal):
            self._refuse(cause)
        elif isinstance(error, httptools.HttpParserCallbackError):
            raise error
        else:
            self._refuse(_Refusal(400, f"The request is malformed: {error}."))

    def _read_without_upgrade(self, rest: memoryview) -> None:
        """Reads on where the parser stopped: after the head of a request that asks to upgrade."""
        parser = self._parser
        while self._request is not None:
            request, self._request = self._request, None
            version = parser.get_http_version().encode()
            head = [b"%s %s HTTP/%s\r\n" % (request.method.encode(), request.target, version)]
            head += [b"%s: %s\r\n" % field for field in request.headers if field[0] != b"upgrade"]
            head.append(b"\r\n")
            try:
                parser.feed_data(b"".join(head))
                parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self._broken(error)
                return

    # The handler's side

    def _dispatch(self, exchange: _Exchange) -> None:
        self._exchanges.append(exchange)
        request = exchange.request
        if request is None:
            assert exchange.refusal is not None
            exchange.reply(exchange.refusal)
            return
        try:
            cancel = self.shared.handler(request, exchange.reply)
        except Exception:
            _log.exception("The handler failed on %s %r.", request.method, request.target)
            exchange.reply(Response(500, []))
        else:
            if exchange.connection is not None:
                exchange.cancel = cancel

    def ends_with(self, exchange: _Exchange) -> bool:
        """Whether this is the last request that is known of."""
        return self._exchanges[-1] is exchange and self._between_requests()

    def _between_requests(self) -> bool:
        return not (self._backlog or self._request or self._target)

    def answered(self, closes: bool) -> None:
        if closes:
            self._last = True
        exchanges = self._exchanges
        while exchanges and (answer := exchanges[0].answer) is not None:
            exchanges.popleft()
            self._out += answer
        if exchanges and (stream := exchanges[0].stream) is not None:
            stream.begin()
        if not self._holding:
            self._settle()

    def understands_chunks(self) -> bool:
        return self._parser.get_http_version() != "1.0"  # of the last request it read, but clients do not change it

    def write(self, *data: bytes) -> None:
        """Writes a piece of a stream, after the answers that may still wait."""
        if self._out:
            self._write_out()
        self._streamed_bytes += sum(map(len, data))
        self._transport.writelines(data)

    def _write_out(self) -> None:
        out = self._out
        if len(out) == 1:
            self._transport.write(out.pop())
            return
        pieces = out.copy()
        out.clear()
        if sum(map(len, pieces)) < _JOINED_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def stream_ended(self, closes: bool) -> None:
        self._exchanges.popleft()
        self.answered(closes)

    def break_off(self) -> None:
        """Closes in the middle of an answer, or before it: what was asked after it has none."""
        self._last = True
        self._cancel_all()
        if self._out:
            self._write_out()
        self._transport.close()

    def reset(self) -> None:
        """Closes with a RST: to the client it is as if we had crashed."""
        self._last = True
        self._out.clear()
        accepted = self._transport.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def _refuse(self, refusal: _Refusal) -> None:
        """Answers, in its turn, what cannot be read to its end; after that the connection closes."""
        self._last = self._lingers = True
        response = Response(refusal.status, [(b"content-type", b"text/plain")], refusal.text.encode() + b"\n")
        self._backlog.append(_Exchange(self, None, False, response))

    def _settle(self) -> None:
        """After a read, or an answer that took its time: writes what is ready and does what comes next."""
        limits, exchanges, backlog, out = self._limits, self._exchanges, self._backlog, self._out
        while True:
            if out:
                self._write_out()
            if not backlog or not self.is_writable or len(exchanges) >= limits.max_pipelined:
                break
            self._holding = True
            while backlog and len(exchanges) + len(out) < limits.max_pipelined:
                self._dispatch(backlog.popleft())
            self._holding = False
        if exchanges or backlog:
            pass
        elif self._last or (self.shared.draining and self._between_requests()):
            self._finish()
            return
        elif self._expects_continue and self._request is not None:
            self._expects_continue = False
            if not self._body:
                self._transport.write(_CONTINUE)
        if not self._reading and self.is_writable and not backlog:
            self._reading = True
            self._transport.resume_reading()

    def _finish(self) -> None:
        if not self._lingers:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def _cancel_all(self) -> None:
        lost = [*self._exchanges, *self._backlog]
        self._exchanges.clear()
        self._backlog.clear()
        for exchange in lost:
            cancel = exchange.cancel if exchange.stream is None else exchange.stream.leave
            exchange.connection = exchange.cancel = exchange.stream = None
            if cancel is not None:
                try:
                    cancel()
                except Exception:
                    _log.exception("Cancelling failed.")

    # The listener's side

    def sweep(self, now_s: float) -> None:
        """Ends what has been in one state for too long. Times are as fine as the sweeps are frequent."""
        limits = self._limits
        if self._transport.is_closing() or not self.is_writable:
            unread_bytes = self._transport.get_write_buffer_size() - self._streamed_bytes
            state, timeout_s = ("writing", unread_bytes), limits.write_timeout_s
        elif self._exchanges or self._backlog:
            self._state = ("answering", self._requests)
            return
        elif self._last:
            state, timeout_s = ("lingering", 0), limits.linger_timeout_s
        elif self._request is not None:
            state, timeout_s = ("body", self._requests), limits.body_timeout_s
        elif self._target:
            state, timeout_s = ("head", self._requests), limits.head_timeout_s
        else:
            state, timeout_s = ("idle", self._requests), limits.idle_timeout_s
        if state != self._state:
            self._state, self._state_since_s = state, now_s
        elif now_s - self._state_since_s < timeout_s:
            pass
        elif state[0] == "idle":
            self._transport.close()
        elif state[0] in ("head", "body"):
            self._refuse(_Refusal(408, f"The request's {state[0]} did not come within {timeout_s:g} seconds."))
            self._settle()
        else:
            self._transport.abort()

    def drain(self) -> None:
        """Closes if idle; otherwise `shared.draining` closes it after the last answer. A stream ends here."""
        if self._exchanges and (stream := self._exchanges[0].stream) is not None:
            stream.drain()
        self._settle()

    def abort(self) -> None:
        self._transport.abort()

    def cut(self) -> None:
        """As if we had crashed: what is in flight is cancelled now, before anybody could answer it."""
        self._cancel_all()
        self.reset()


def _origin_form(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The path of an absolute target, whose authority replaces Host (RFC 9112, 3.2)."""
    if method == "CONNECT":
        raise _Refusal(501, "CONNECT is not served.")
    if method == "OPTIONS" and target == b"*":
        return target
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise _Refusal(400, "The request's target is neither a path nor a URL.")
    authority, path = absolute.groups()
    headers[:] = [(b"host", authority), *(field for field in headers if field[0] != b"host")]
    return path if path.startswith(b"/") else b"/" + path
