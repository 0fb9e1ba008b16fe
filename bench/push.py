"""Subscriptions to shards held open, and what comes through them: enhanced fan-out, over HTTP/1.1.

An answer is chunked and its body is an event stream: messages that begin with their length. Chunks need not be
messages, so both are taken apart; of a message only the records' marks are looked for. One thread puts and reads.
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import time
from collections.abc import Iterable, Iterator

from bench.load import BUFFER_BYTES, STALL_S, Sample
from bench.streams import Stream
from bench.wire import PUSH, Step

QUIET_S = 10.0  # what has not been pushed by then never is
LIMIT_S = 20.0  # who is slow but not quiet is left after so long


class Unsubscribed(Exception):
    """The server does not answer with an event stream, or ended it; the message says what it said."""


class Subscription:
    """One consumer's to one shard. `feed` it what came; it counts."""

    def __init__(self, stream: Stream, consumer: str, shard: str, position: str) -> None:
        self.mark = stream.mark
        self.records = 0
        self.events = 0  # messages that hold records
        self.open = False  # its header has come
        self._head = bytearray()
        self._chunked = False
        self._rest = bytearray()  # a line of the chunks' framing that has not come whole
        self._left = 0  # bytes to come of this chunk
        self._body = bytearray()
        self.sock = socket.create_connection(("127.0.0.1", stream.port), timeout=STALL_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(stream.subscribe(consumer, shard, position))

    def feed(self, data: memoryview) -> None:
        """Raises `Unsubscribed`."""
        if not data:
            raise Unsubscribed("the connection was closed")
        if not self.open:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            status, head = self._head[9:12], self._head[:end].lower()
            data = memoryview(bytes(self._head[end + 4 :]))
            if status != b"200" or b"eventstream" not in head:
                said = " ".join(bytes(data).decode(errors="replace").split())
                raise Unsubscribed(f"SubscribeToShard: {status.decode(errors='replace')} {said[:100]}")
            self.open, self._chunked = True, b"transfer-encoding: chunked" in head
        if self._chunked:
            self._feed_chunks(data)
        else:
            self._body += data
        self._take_events()

    def _feed_chunks(self, data: memoryview) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                self._body += data[at : at + size]
                self._left -= size
                at += size
                continue
            # A chunk's size stands on a line of its own; the line break that ends the chunk before makes an empty one.
            piece = bytes(data[at : at + 64])
            line = piece.find(b"\n")
            self._rest += piece[: line + 1] if line >= 0 else piece
            at += line + 1 if line >= 0 else len(piece)
            if line >= 0:
                size_text = bytes(self._rest.partition(b";")[0]).strip()
                self._rest.clear()
                if size_text:
                    self._left = int(size_text, 16)
                    if not self._left:
                        raise Unsubscribed("the event stream ended")

    def _take_events(self) -> None:
        body, at = self._body, 0
        while len(body) - at >= 4:
            end = at + int.from_bytes(body[at : at + 4])
            if end > len(body):
                break
            count = body.count(self.mark, at, end)
            if count:
                self.events += 1
                self.records += count
            elif body.find(b":exception-type", at, end) >= 0:
                raise Unsubscribed(bytes(body[at:end]).decode(errors="replace")[-100:])
            at = end
        del body[:at]


class Pushes:
    """Many subscriptions and the connections that put, driven by one epoll loop."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.subscriptions: dict[int, Subscription] = {}
        self.fell_silent = False
        self.poller = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    def subscribe(self, consumer: str, shard: str, position: str) -> None:
        subscription = Subscription(self.stream, consumer, shard, position)
        self.subscriptions[subscription.sock.fileno()] = subscription
        self.poller.register(subscription.sock.fileno(), select.EPOLLIN)

    def wait_for_answers(self) -> None:
        """Until each has its header; raises `Unsubscribed`."""
        for subscription in self.subscriptions.values():
            while not subscription.open:
                subscription.feed(self._view[: subscription.sock.recv_into(self._buffer)])

    def close(self) -> None:
        self.poller.close()
        for subscription in self.subscriptions.values():
            subscription.sock.close()

    @property
    def records(self) -> int:
        return sum([subscription.records for subscription in self.subscriptions.values()])

    @property
    def events(self) -> int:
        return sum([subscription.events for subscription in self.subscriptions.values()])

    def await_records(self, records: int, sample: Sample) -> None:
        """Read until the subscriptions have had so many together, or nothing comes any more, or it takes too long."""
        started = now = last = time.perf_counter()
        with self._timed(sample):
            while self.records < records and self._goes_on(now, last, started):
                for fd, _ in self.poller.poll(1.0):
                    self._read(fd)
                    last = time.perf_counter()
                now = time.perf_counter()

    def put_and_await(self, puts: Iterator[Step], connections: int, seconds: float, sample: Sample) -> None:
        """Put one after another on each connection for so long, while reading; then read what is to come yet."""
        putters: dict[int, tuple[socket.socket, Step]] = {}
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", self.stream.port), timeout=STALL_S)
            putters[sock.fileno()] = (sock, next(puts))
            self.poller.register(sock.fileno(), select.EPOLLIN)
        consumers = len(self.subscriptions) // len(self.stream.shards)
        try:
            with self._timed(sample):
                for sock, step in putters.values():
                    sock.sendall(step[1])
                started = now = last = time.perf_counter()
                while (putters or self.records < sample.sent * consumers) and self._goes_on(now, last, started):
                    for fd, _ in self.poller.poll(1.0):
                        last = time.perf_counter()
                        if fd in self.subscriptions:
                            self._read(fd)
                            continue
                        sock, step = putters[fd]
                        self._check_answer(sock, step, sample)
                        if last - started < seconds:
                            putters[fd] = (sock, next(puts))
                            sock.sendall(putters[fd][1][1])
                        else:
                            self.poller.unregister(fd)
                            putters.pop(fd)[0].close()
                    now = time.perf_counter()
        finally:
            for sock, _ in putters.values():
                sock.close()

    def ping(self, steps: Iterable[Step], seconds: float, sample: Sample) -> None:
        """Put one record, wait until each subscription has it, put the next: the time from put to push is the latency.

        It is counted to when the kernel says that there is something to read, so the subscriptions wait for their turn
        to be read at nobody's cost.
        """
        address = ("127.0.0.1", self.stream.port)
        with socket.create_connection(address, timeout=STALL_S) as sock, self._timed(sample):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.poller.register(sock.fileno(), select.EPOLLIN)
            started = time.perf_counter()
            for step in steps:
                expected = {fd: subscription.records + 1 for fd, subscription in self.subscriptions.items()}
                answered = False
                put_at = now = time.perf_counter()
                sock.sendall(step[1])
                while (expected or not answered) and now - put_at < QUIET_S:
                    ready = self.poller.poll(1.0)
                    now = time.perf_counter()
                    for fd, _ in ready:
                        if fd == sock.fileno():
                            self._check_answer(sock, step, sample)
                            answered = True
                            continue
                        self._read(fd)
                        if self.subscriptions[fd].records >= expected.get(fd, 1 << 60):
                            del expected[fd]
                            sample.latencies[PUSH].append(now - put_at)
                if expected:
                    self.fell_silent = True
                    break
                if now - started > seconds:
                    break

    def _goes_on(self, now: float, last: float, started: float) -> bool:
        self.fell_silent = now - last > QUIET_S
        return not self.fell_silent and now - started < LIMIT_S

    @contextlib.contextmanager
    def _timed(self, sample: Sample) -> Iterator[None]:
        cpu, started = time.process_time(), time.perf_counter()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            sample.seconds = sample.wall_s = time.perf_counter() - started
            sample.load_cpu_s = time.process_time() - cpu
            sample.received = self.records

    def _read(self, fd: int) -> None:
        subscription = self.subscriptions[fd]
        subscription.feed(self._view[: subscription.sock.recv_into(self._buffer)])

    def _check_answer(self, sock: socket.socket, step: Step, sample: Sample) -> None:
        """Read a put's answer, which is small enough to be waited for."""
        kind, _, entries = step
        buffer = self._buffer
        have, total = 0, 1 << 60
        while have < total:
            size = sock.recv_into(self._view[have:])
            if not size:
                raise Unsubscribed("the connection was closed before the answer to a put")
            have += size
            head = buffer.find(b"\r\n\r\n", 0, have)
            if head >= 0:
                at = buffer[:head].lower().find(b"content-length:") + 15
                total = head + 4 + int(buffer[at : buffer.find(b"\r", at)])
        if buffer[9:12] == b"200" and self.stream.checks[kind](buffer, head + 4, total, entries) is not None:
            sample.sent += entries
        else:
            sample.errors["a put was refused, or its answer is wrong"] += 1
