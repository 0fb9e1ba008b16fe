"""HTTP/1.1, byte for byte: a connection is fed whole reads, single bytes and everything between, and its writes read.

The transport here only records; the same connection on real sockets is in test_http_listener.py.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http.http1 import HTTP2_PREFACE, Http1, Limits, Shared, http_date
from protocols.http.message import Cancel, Reply, Request, Response

NOW_MS = 784_111_777_000
HEAD = b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: keep-alive\r\n"
LAST_HEAD = HEAD.replace(b"keep-alive", b"close")
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that records."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 40000)})
        self.writes: list[bytes] = []
        self.closed = self.aborted = self.eof = False
        self.reading = True
        self.unsent = 0

    def write(self, data: Any) -> None:
        assert not self.closed
        assert not self.eof
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Desk:
    """A handler that answers at once with what was asked, or, below /later, when told to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.waiting: list[tuple[Request, Reply]] = []
        self.cancelled: list[bytes] = []

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        self.requests.append(request)
        if request.target.startswith(b"/later"):
            self.waiting.append((request, reply))
            return lambda: self.cancelled.append(request.target)
        if request.target == b"/broken":
            raise ZeroDivisionError
        reply(echo(request))
        return None

    def answer(self, target: bytes) -> None:
        for request, reply in self.waiting:
            if request.target == target:
                reply(echo(request))


def echo(request: Request) -> Response:
    return Response(200, [(b"x-method", request.method.encode())], request.target + b" " + request.body)


def answer_bytes(method: bytes, target: bytes, body: bytes = b"", head: bytes = HEAD) -> bytes:
    text = target + b" " + body
    return (
        head
        + b"x-method: %s\r\ncontent-length: %d\r\n\r\n" % (method, len(text))
        + (b"" if method == b"HEAD" else text)
    )


class Bench:
    """One connection, its handler and its wire."""

    def __init__(self, **limits: Any) -> None:
        self.desk = Desk()
        self.http2: list[bytes] = []
        self.now_ms = NOW_MS
        self.shared = Shared(self.desk, Limits(**limits), lambda: self.now_ms, lambda _, data: self.http2.append(data))
        self.wire = Wire()
        self.connection = Http1(self.shared)
        self.connection.connection_made(self.wire)

    def feed(self, *reads: bytes) -> bytes:
        for read in reads:
            self.connection.data_received(read)
        return self.written

    def feed_bytewise(self, data: bytes) -> bytes:
        return self.feed(*(data[i : i + 1] for i in range(len(data))))

    @property
    def written(self) -> bytes:
        return b"".join(self.wire.writes)

    @property
    def targets(self) -> list[bytes]:
        return [request.target for request in self.desk.requests]


def parse(written: bytes) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Answers, read strictly; all have a Content-Length here."""
    answers = []
    while written:
        head, _, written = written.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        version, status, _ = status_line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        fields = dict(line.split(b": ", 1) for line in lines)
        length = int(fields[b"content-length"]) if status != b"100" else 0
        assert len(written) >= length
        answers.append((int(status), fields, written[:length]))
        written = written[length:]
    return answers


# Requests that are understood: bytes, then what the handler sees, then the answer.

Understood = tuple[bytes, tuple[str, bytes, list[tuple[bytes, bytes]], bytes], bytes]

UNDERSTOOD: dict[str, Understood] = {
    "get": (
        b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\n\r\n",
        ("GET", b"/a%20b?c=d", [(b"host", b"a")], b""),
        answer_bytes(b"GET", b"/a%20b?c=d"),
    ),
    "post": (
        b"POST / HTTP/1.1\r\nHost: a\r\nX-Amz-Target: T\r\nContent-Length: 4\r\n\r\nbody",
        ("POST", b"/", [(b"host", b"a"), (b"x-amz-target", b"T"), (b"content-length", b"4")], b"body"),
        answer_bytes(b"POST", b"/", b"body"),
    ),
    "empty body": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        ("POST", b"/", [(b"host", b"a"), (b"content-length", b"0")], b""),
        answer_bytes(b"POST", b"/"),
    ),
    "chunked, with an extension and a trailer": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'3;x="y"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nAuthorization: me\r\n\r\n',
        ("POST", b"/", [(b"host", b"a"), (b"transfer-encoding", b"Chunked")], b"abc0123456789"),
        answer_bytes(b"POST", b"/", b"abc0123456789"),
    ),
    "head": (
        b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ("HEAD", b"/x", [(b"host", b"a")], b""),
        answer_bytes(b"HEAD", b"/x"),
    ),
    "space around values, empty values, repeated fields": (
        b"GET / HTTP/1.1\r\nHost:\ta \t\r\nX: \r\nY:1\r\ny: 2 3\r\n\r\n",
        ("GET", b"/", [(b"host", b"a"), (b"x", b""), (b"y", b"1"), (b"y", b"2 3")], b""),
        answer_bytes(b"GET", b"/"),
    ),
    "empty lines before it": (
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ("GET", b"/", [(b"host", b"a")], b""),
        answer_bytes(b"GET", b"/"),
    ),
    "absolute target": (
        b"GET http://b:80/p?q HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
        ("GET", b"/p?q", [(b"host", b"b:80"), (b"x", b"y")], b""),
        answer_bytes(b"GET", b"/p?q"),
    ),
    "absolute target without a path": (
        b"GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
        ("GET", b"/?q", [(b"host", b"b")], b""),
        answer_bytes(b"GET", b"/?q"),
    ),
    "options of the server": (
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        ("OPTIONS", b"*", [(b"host", b"a")], b""),
        answer_bytes(b"OPTIONS", b"*"),
    ),
    "HTTP/1.0 that stays": (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ("GET", b"/", [(b"connection", b"keep-alive")], b""),
        answer_bytes(b"GET", b"/"),
    ),
    "HTTP/1.0 that expects what it does not know": (
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        ("POST", b"/", [(b"connection", b"keep-alive"), (b"expect", b"100-continue"), (b"content-length", b"1")], b"x"),
        answer_bytes(b"POST", b"/", b"x"),
    ),
    "upgrade to h2c, declined": (
        b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 4\r\n\r\nbody",
        (
            "POST",
            b"/u",
            [
                (b"host", b"a"),
                (b"connection", b"Upgrade, HTTP2-Settings"),
                (b"http2-settings", b"AAMAAABkAAQAoAAAAAIAAAAA"),
                (b"content-length", b"4"),
            ],
            b"body",
        ),
        answer_bytes(b"POST", b"/u", b"body"),
    ),
    "upgrade to websocket, declined, chunked": (
        b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        (
            "POST",
            b"/u",
            [(b"host", b"a"), (b"connection", b"upgrade"), (b"transfer-encoding", b"chunked")],
            b"x",
        ),
        answer_bytes(b"POST", b"/u", b"x"),
    ),
}

LAST: dict[str, bytes] = {
    "close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "close among others": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
}


def seen(request: Request) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    assert type(request.body) is bytes
    assert request.scheme == "http"
    assert request.peer == "192.0.2.7"
    return request.method, request.target, request.headers, request.body


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_request_is_read_the_same_however_it_arrives(name: str) -> None:
    data, request, answer = UNDERSTOOD[name]

    whole = Bench()
    assert whole.feed(data) == answer
    assert [seen(r) for r in whole.desk.requests] == [request]
    assert not whole.wire.closed

    bytewise = Bench()
    assert bytewise.feed_bytewise(data).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n") == answer
    assert [seen(r) for r in bytewise.desk.requests] == [request]

    trailed = Bench()
    assert trailed.feed(data + NEXT + data) == answer + answer_bytes(b"GET", b"/next") + answer
    assert [seen(r) for r in trailed.desk.requests][::2] == [request, request]
    assert len(trailed.wire.writes) == 1, "what one read asks, one write answers"

    again = Bench()
    assert again.feed(data, data) == answer * 2


@pytest.mark.parametrize("name", LAST)
def test_a_last_request_closes_the_connection(name: str) -> None:
    for feed in (Bench.feed, Bench.feed_bytewise):
        bench = Bench()
        assert feed(bench, LAST[name] + NEXT) == answer_bytes(b"GET", b"/", head=LAST_HEAD)
        assert bench.wire.is_closing()
        assert bench.targets == [b"/"]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(UNDERSTOOD)), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
)
def test_reads_may_be_cut_anywhere(names: list[str], cuts: list[int]) -> None:
    data = b"".join(UNDERSTOOD[name][0] for name in names)
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    bench = Bench()
    bench.feed(*(data[a:b] for a, b in pairwise(edges)))
    assert [seen(r) for r in bench.desk.requests] == [UNDERSTOOD[name][1] for name in names]
    assert bench.written == b"".join(UNDERSTOOD[name][2] for name in names)


# Requests that are refused.

REFUSED: dict[str, tuple[int, bytes]] = {
    "not HTTP": (400, b"hello\r\n\r\n"),
    "a TLS greeting": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "no version": (400, b"GET /\r\n\r\n"),
    "unknown version": (400, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "unknown method": (400, b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method in lower case": (400, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/2 in the middle": (400, NEXT + HTTP2_PREFACE),
    "connect": (501, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nxx"),
    "relative target": (400, b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "star target": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "raw octets in the target": (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\nX: a\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "two hosts in HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
    "bare line feeds": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare carriage return in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    "nul in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    "nameless field": (400, b"GET / HTTP/1.1\r\n: a\r\n\r\n"),
    "space before the colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "folded field": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "space before the first field": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    # What one server reads as one request and the next as two.
    "two framings": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "two framings, the other way round": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "one length twice": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    "list of lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na"),
    "signed length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
    "negative length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na"),
    "hexadecimal length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na"),
    "no length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na"),
    "length beyond 64 bits": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\na"),
    "coding before a space": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "coding after a vertical tab": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked twice": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "identity": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    "chunked, then something": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n"),
    "zipped": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunk size that is none": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
    "chunk size with 0x": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n"),
    "chunk size with a space": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n",
    ),
    "chunk longer than it says": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    ),
    "bare line feeds between chunks": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    ),
    "unknown expectation": (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracle\r\nContent-Length: 1\r\n\r\na"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_an_answer_after_which_the_connection_ends(name: str) -> None:
    expected, data = REFUSED[name]
    for feed in (Bench.feed, Bench.feed_bytewise):
        for trailer in (b"", NEXT):
            bench = Bench()
            *before, (status, fields, text) = parse(feed(bench, NEXT + data + trailer))
            assert status == expected
            assert fields[b"connection"] == b"close"
            assert fields[b"content-type"] == b"text/plain"
            assert text.endswith(b".\n")
            assert set(bench.targets) == {b"/next"}, "nothing of it reaches the handler"
            assert len(before) == len(bench.targets), "what came before it is answered"
            assert bench.wire.eof, "the client may read the answer before it is reset"
            assert not bench.wire.is_closing()


def test_the_words_of_a_refusal() -> None:
    assert Bench().feed(REFUSED["unknown expectation"][1]) == (
        b"HTTP/1.1 417 Expectation Failed\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n"
        b"content-type: text/plain\r\ncontent-length: 49\r\n\r\nThe only expectation understood is 100-continue.\n"
    )


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(UNDERSTOOD)),
    damage=st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=3)), max_size=3),
    cut=st.integers(1, 60),
)
def test_whatever_comes_the_answers_are_well_formed(name: str, damage: list[tuple[int, bytes]], cut: int) -> None:
    data = UNDERSTOOD[name][0]
    for at, junk in damage:
        data = data[:at] + junk + data[at + len(junk) :]
    data = data.replace(b"HEAD", b"HEAP")  # an answer to HEAD cannot be read without knowing so
    bench = Bench()
    answers = parse(bench.feed(*(data[i : i + cut] for i in range(0, len(data), cut))))
    statuses = [status for status, _, _ in answers if status != 100]
    assert statuses.count(200) == len(bench.desk.requests)
    assert bench.wire.eof == (statuses[-1:] > [200])


# Limits.


def only_status(bench: Bench) -> int:
    ((status, _, _),) = parse(bench.written)
    return status


def test_target_limit() -> None:
    for feed in (Bench.feed, Bench.feed_bytewise):
        bench = Bench(max_target_bytes=20)
        feed(bench, b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 19))
        assert only_status(bench) == 200
        bench = Bench(max_target_bytes=20)
        feed(bench, b"GET /%s" % (b"x" * 20))
        assert only_status(bench) == 414, "it need not end to be too long"


def test_head_limit() -> None:
    # Counted as RFC 9113, 6.5.2 counts: 4 octets beside each name and value, and the target.
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10 + b"\r\n"
    for feed in (Bench.feed, Bench.feed_bytewise):
        fits = Bench(max_head_bytes=len(head))
        assert feed(fits, head) == answer_bytes(b"GET", b"/")
        for endless in (b"X: y\r\n" * 50, b"X: " + b"y" * 300, b"X" * 300):
            bench = Bench(max_head_bytes=200)
            feed(bench, b"GET / HTTP/1.1\r\nHost: a\r\n" + endless)
            assert only_status(bench) == 431, "it need not end to be too long"
    bench = Bench(max_head_bytes=200)
    bench.feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 50 + b"\r\n")
    assert only_status(bench) == 431
    assert bench.desk.requests == []


def test_a_large_body_does_not_count_as_head() -> None:
    for cut in (1, 7, 150, 1000):
        bench = Bench(max_head_bytes=200)
        data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n" + b"x" * 999 + NEXT
        bench.feed(*(data[i : i + cut] for i in range(0, len(data), cut)))
        assert bench.targets == [b"/", b"/next"]


@pytest.mark.parametrize("cut", [1, 100])
def test_what_surrounds_chunks_is_limited(cut: int) -> None:
    for flood in (b"0\r\n" + b"X: y\r\n" * 100, b"1;" + b"x" * 600, b"0\r\nX: " + b"y" * 600):
        bench = Bench(max_head_bytes=200)
        data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + flood
        bench.feed(*(data[i : i + cut] for i in range(0, len(data), cut)))
        assert only_status(bench) == 431


def test_body_limit() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    for feed in (Bench.feed, Bench.feed_bytewise):
        for data in (
            b"Content-Length: 8\r\n\r\n12345678",
            b"Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n",
        ):
            bench = Bench(max_body_bytes=8)
            assert feed(bench, head + data) == answer_bytes(b"POST", b"/", b"12345678")
        for data in (b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n6789"):
            bench = Bench(max_body_bytes=8)
            feed(bench, head + data)
            assert only_status(bench) == 413, "it need not arrive to be too long"
            assert bench.desk.requests == []


def test_a_body_in_small_chunks_costs_no_more_memory_than_it_has_bytes() -> None:
    bench = Bench()
    bench.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 30_000)
    assert bench.connection._body == b"x" * 30_000
    assert isinstance(bench.connection._body, bytearray)


# Expect: 100-continue.

EXPECTS = b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_continue_is_said_once_when_the_body_is_awaited() -> None:
    bench = Bench()
    assert bench.feed(EXPECTS) == CONTINUE
    assert bench.feed(b"bo") == CONTINUE
    assert bench.feed(b"dy") == CONTINUE + answer_bytes(b"POST", b"/e", b"body")
    assert bench.feed(EXPECTS) == CONTINUE + answer_bytes(b"POST", b"/e", b"body") + CONTINUE


def test_continue_is_not_said_when_the_body_is_here() -> None:
    bench = Bench()
    bench.feed(EXPECTS + b"b")
    assert bench.written == b""
    bench.feed(b"ody")
    assert bench.written == answer_bytes(b"POST", b"/e", b"body")
    assert CONTINUE not in bench.feed(NEXT[:10])


def test_continue_is_not_said_to_what_will_be_refused() -> None:
    bench = Bench(max_body_bytes=3)
    bench.feed(EXPECTS)
    assert only_status(bench) == 413


def test_continue_waits_for_the_answers_before_it() -> None:
    bench = Bench()
    bench.feed(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n" + EXPECTS)
    assert bench.written == b""
    bench.desk.answer(b"/later")
    assert bench.written == answer_bytes(b"GET", b"/later") + CONTINUE


# Answers.


def later(number: int) -> bytes:
    return b"GET /later/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(8)), split=st.integers(0, 8))
def test_answers_leave_in_the_order_of_the_requests(order: list[int], split: int) -> None:
    bench = Bench()
    bench.feed(b"".join(map(later, range(split))), b"".join(map(later, range(split, 8))))
    given_answers: set[int] = set()
    for number in order:
        bench.desk.answer(b"/later/%d" % number)
        given_answers.add(number)
        ready = next(n for n in range(9) if n not in given_answers)
        assert bench.written == b"".join(answer_bytes(b"GET", b"/later/%d" % n) for n in range(ready))


def test_an_answer_at_once_waits_for_a_later_one() -> None:
    bench = Bench()
    bench.feed(later(1) + NEXT)
    assert bench.written == b""
    bench.desk.answer(b"/later/1")
    assert bench.wire.writes == [answer_bytes(b"GET", b"/later/1") + answer_bytes(b"GET", b"/next")]


def test_the_requests_under_way_are_bounded() -> None:
    bench = Bench(max_pipelined=3)
    bench.feed(b"".join(map(later, range(3))))
    assert bench.wire.is_reading()
    bench.feed(b"".join(map(later, range(3, 9))))
    assert bench.targets == [b"/later/0", b"/later/1", b"/later/2"]
    assert not bench.wire.is_reading()
    bench.desk.answer(b"/later/1")
    assert len(bench.targets) == 3, "the first still waits"
    bench.desk.answer(b"/later/0")
    assert bench.targets[3:] == [b"/later/3", b"/later/4"]
    assert not bench.wire.is_reading()
    for number in range(2, 9):
        bench.desk.answer(b"/later/%d" % number)
    assert bench.wire.is_reading()
    assert bench.written == b"".join(answer_bytes(b"GET", b"/later/%d" % n) for n in range(9))


def test_thousands_of_requests_in_one_read() -> None:
    bench = Bench(max_pipelined=4)
    assert bench.feed(NEXT * 5000) == answer_bytes(b"GET", b"/next") * 5000
    assert bench.wire.is_reading()
    upgrade = NEXT.replace(b"Host", b"Connection: upgrade\r\nUpgrade: x\r\nHost")
    assert bench.feed(upgrade * 2000) == answer_bytes(b"GET", b"/next") * 7000


def test_a_refusal_waits_its_turn() -> None:
    bench = Bench(max_pipelined=2)
    bench.feed(later(1) + later(2) + later(3) + b"hello\r\n")
    assert bench.written == b""
    for number in (2, 1, 3):
        bench.desk.answer(b"/later/%d" % number)
    assert [status for status, _, _ in parse(bench.written)] == [200, 200, 200, 400]
    assert bench.wire.eof


def test_a_close_waits_for_the_answers_before_it() -> None:
    bench = Bench()
    bench.feed(later(1) + LAST["close"] + NEXT)
    assert not bench.wire.is_closing()
    bench.desk.answer(b"/later/1")
    assert bench.written == answer_bytes(b"GET", b"/later/1") + answer_bytes(b"GET", b"/", head=LAST_HEAD)
    assert bench.wire.is_closing()


def test_an_answer_without_a_body_has_no_length() -> None:
    for status, reason in ((204, b"No Content"), (304, b"Not Modified")):
        bench = Bench()
        bench.feed(later(1))
        bench.desk.waiting[0][1](Response(status, [(b"a", b"b")], b""))
        assert bench.written == HEAD.replace(b"200 OK", b"%d %s" % (status, reason)) + b"a: b\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_large_body_is_not_copied(method: bytes) -> None:
    """Between answers that leave with it, in order; the head stands by itself."""
    bench, large = Bench(), bytes(64 * 1024)
    bench.feed(*(b"%s /later/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (method, number) for number in (1, 2)), NEXT)
    (_, first), (_, second) = bench.desk.waiting
    second(Response(200, [], large))
    first(Response(200, [], b"first"))
    body = large if method == b"GET" else b""
    heads = [HEAD + b"content-length: %d\r\n\r\n" % length for length in (5, len(large))]
    start = heads[0] + (b"first" if body else b"")
    assert bench.written == start + heads[1] + body + answer_bytes(b"GET", b"/next")
    assert bench.wire.writes[-4:] == [start, heads[1], body, answer_bytes(b"GET", b"/next")] or not body


@pytest.mark.parametrize("status", [204, 304])
def test_a_large_body_where_there_may_be_none(status: int) -> None:
    bench = Bench()
    bench.feed(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
    bench.desk.waiting[0][1](Response(status, [], bytes(64 * 1024)))
    assert bench.written.endswith(b"keep-alive\r\n\r\n")


def test_a_status_without_a_phrase() -> None:
    bench = Bench()
    bench.feed(later(1))
    bench.desk.waiting[0][1](Response(599, [], b""))
    assert bench.written.startswith(b"HTTP/1.1 599 \r\n")


def test_a_second_answer_does_nothing() -> None:
    bench = Bench()
    bench.feed(later(1))
    bench.desk.answer(b"/later/1")
    bench.desk.answer(b"/later/1")
    assert bench.written == answer_bytes(b"GET", b"/later/1")


def test_the_date_follows_the_clock() -> None:
    bench = Bench()
    bench.feed(NEXT)
    bench.now_ms += 999
    bench.feed(NEXT)
    bench.now_ms += 1
    bench.feed(NEXT)
    bench.now_ms = 0
    bench.feed(NEXT)
    assert [fields[b"date"][-12:] for _, fields, _ in parse(bench.written)] == [
        b"08:49:37 GMT",
        b"08:49:37 GMT",
        b"08:49:38 GMT",
        b"00:00:00 GMT",
    ]
    assert http_date(951_782_400) == b"Tue, 29 Feb 2000 00:00:00 GMT"


def test_a_handler_that_fails_is_a_500_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.ERROR):
        bench.feed(NEXT.replace(b"/next", b"/broken") + NEXT)
    assert [status for status, _, _ in parse(bench.written)] == [500, 200]
    assert "ZeroDivisionError" in caplog.text


# Clients that leave.


@pytest.mark.parametrize("leave", ["eof", "lost", "both"])
def test_a_client_that_leaves_is_cancelled_once_and_never_answered(leave: str) -> None:
    bench = Bench(max_pipelined=3)
    bench.feed(later(1) + later(2) + NEXT + later(3))
    bench.desk.answer(b"/later/2")
    if leave != "lost":
        bench.connection.eof_received()  # returns None, so the transport closes
        assert bench.desk.cancelled == [b"/later/1"]
    if leave != "eof":
        bench.connection.connection_lost(None)
    assert bench.desk.cancelled == [b"/later/1"]
    assert bench.targets == [b"/later/1", b"/later/2", b"/next"], "what waited behind the bound never began"
    bench.desk.answer(b"/later/1")
    assert bench.written == b""


def test_no_cancel_after_an_answer() -> None:
    bench = Bench()
    bench.feed(later(1))
    bench.desk.answer(b"/later/1")
    bench.connection.connection_lost(ConnectionResetError())
    assert bench.desk.cancelled == []


def test_a_cancel_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    cancelled: list[int] = []

    def handler(request: Request, reply: Reply) -> Cancel:
        def cancel() -> None:
            cancelled.append(len(cancelled))
            raise ZeroDivisionError

        return cancel

    connection = Http1(Shared(handler, Limits(), lambda: 0, lambda *_: None))
    connection.connection_made(Wire())
    connection.data_received(NEXT * 3)
    with caplog.at_level(logging.ERROR):
        connection.connection_lost(None)
    assert cancelled == [0, 1, 2]
    assert caplog.text.count("Cancelling failed.") == 3


def test_a_client_that_does_not_read_is_not_read() -> None:
    bench = Bench(max_pipelined=2)
    bench.connection.pause_writing()
    assert not bench.wire.is_reading()
    bench.feed(NEXT * 5)  # was on its way
    assert len(bench.desk.requests) == 2
    bench.connection.resume_writing()
    assert len(bench.desk.requests) == 5
    assert bench.wire.is_reading()


# HTTP/2 shows itself in its first bytes.


def test_the_preface_goes_to_http2() -> None:
    for cut in (1, 5, 23, 24, 40):
        bench = Bench()
        data = HTTP2_PREFACE + b"\0\0\0\4\0\0\0\0\0"
        reads = [data[i : i + cut] for i in range(0, len(data), cut)]
        while not bench.http2:
            bench.feed(reads.pop(0))
        assert b"".join([*bench.http2, *reads]) == data
        assert len(bench.http2) == 1
        assert bench.connection not in bench.shared.connections
        assert bench.written == b""


def test_what_begins_like_the_preface_is_http1() -> None:
    for data in (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"):
        bench = Bench()
        assert bench.feed_bytewise(data) == answer_bytes(data.split()[0], b"/")


# Time.


def swept(bench: Bench, *times_s: float) -> Wire:
    for now_s in times_s:
        bench.connection.sweep(now_s)
    return bench.wire


def test_an_idle_connection_is_closed() -> None:
    for reads in ((), (NEXT,), (b"PRI",), (b"\r\n\r\n",)):
        bench = Bench(idle_timeout_s=10)
        bench.feed(*reads)
        before = bench.written
        assert not swept(bench, 100, 109.9).closed
        assert swept(bench, 110).closed
        assert bench.written == before


def test_a_busy_connection_is_not() -> None:
    bench = Bench(idle_timeout_s=10)
    for now_s in range(0, 100, 9):
        bench.feed(NEXT)
        assert not swept(bench, now_s).closed
    bench.feed(later(1))
    assert not swept(bench, 100, 1000, 10_000).closed, "an answer takes as long as it takes"
    bench.desk.answer(b"/later/1")
    assert not swept(bench, 20_000, 20_009).closed


@pytest.mark.parametrize("partial", [NEXT[:6], NEXT[:-1], NEXT + NEXT[:-1]])
def test_a_slow_head_is_refused(partial: bytes) -> None:
    bench = Bench(head_timeout_s=10)
    bench.feed(partial[:-1])
    swept(bench, 100)
    bench.feed(partial[-1:])
    assert not swept(bench, 109).eof
    assert swept(bench, 110).eof
    status, fields, text = parse(bench.written)[-1]
    assert (status, fields[b"connection"]) == (408, b"close")
    assert text == b"The request's head did not come within 10 seconds.\n"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\n123", b"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n0\r\n"]
)
def test_a_slow_body_is_refused(framing: bytes) -> None:
    bench = Bench(head_timeout_s=1, body_timeout_s=10)
    bench.feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing[:-1])
    swept(bench, 100)
    bench.feed(framing[-1:])
    assert not swept(bench, 109).eof
    assert swept(bench, 110).eof
    assert only_status(bench) == 408
    assert bench.desk.requests == []


def test_a_refused_client_has_a_while_to_stop_sending() -> None:
    bench = Bench(linger_timeout_s=5)
    bench.feed(b"hello\r\n")
    written = bench.written
    bench.feed(b"and on" * 1000)
    assert not swept(bench, 100, 104).closed
    assert swept(bench, 105).aborted
    assert bench.written == written


def test_a_client_that_does_not_read_is_cut_off() -> None:
    bench = Bench(write_timeout_s=10)
    bench.feed(NEXT, later(1))
    bench.connection.pause_writing()
    bench.wire.unsent = 5000
    swept(bench, 100, 109)
    bench.wire.unsent = 4000
    assert not swept(bench, 110, 119).aborted, "it reads"
    assert swept(bench, 120).aborted


def test_a_close_that_never_gets_through_is_cut_off() -> None:
    bench = Bench(write_timeout_s=10)
    bench.feed(LAST["close"])
    assert bench.wire.is_closing()
    assert not swept(bench, 100, 109).aborted
    assert swept(bench, 110).aborted


# The end of the listener.


def drained(bench: Bench) -> Wire:
    bench.shared.draining = True
    bench.connection.drain()
    return bench.wire


def test_draining_closes_what_is_idle() -> None:
    for reads in ((), (NEXT,)):
        bench = Bench()
        bench.feed(*reads)
        assert drained(bench).closed


def test_draining_lets_what_is_in_flight_finish() -> None:
    bench = Bench()
    bench.feed(later(1) + later(2))
    assert not drained(bench).closed
    bench.desk.answer(b"/later/1")
    assert not bench.wire.is_closing()
    bench.desk.answer(b"/later/2")
    assert bench.wire.is_closing()
    assert bench.written == answer_bytes(b"GET", b"/later/1") + answer_bytes(b"GET", b"/later/2", head=LAST_HEAD)
    assert bench.desk.cancelled == []


def test_draining_out_of_turn() -> None:
    bench = Bench()
    bench.feed(later(1) + later(2))
    bench.desk.answer(b"/later/2")
    assert not drained(bench).closed
    bench.desk.answer(b"/later/1")
    assert bench.wire.is_closing()
    assert bench.written == answer_bytes(b"GET", b"/later/1") + answer_bytes(b"GET", b"/later/2")


@pytest.mark.parametrize("cut", [6, 20, -2])
def test_draining_waits_for_a_request_that_has_begun(cut: int) -> None:
    data = UNDERSTOOD["post"][0]
    bench = Bench()
    bench.feed(NEXT + data[:cut])
    assert not drained(bench).closed
    bench.feed(data[cut:] + NEXT)
    assert bench.wire.is_closing()
    assert bench.written == answer_bytes(b"GET", b"/next") + answer_bytes(b"POST", b"/", b"body", head=LAST_HEAD)


def test_draining_says_when_it_is_over() -> None:
    bench = Bench()
    drained(bench)
    assert not bench.shared.empty.is_set()
    bench.connection.connection_lost(None)
    assert bench.shared.empty.is_set()


def test_a_connection_that_comes_while_draining_is_closed() -> None:
    bench = Bench()
    bench.shared.draining = True
    wire = Wire()
    Http1(bench.shared).connection_made(wire)
    assert wire.closed
