"""The load generator: one thread, many connections, one request outstanding on each, every answer checked.

A script is a generator: it yields a `Step`, gets the receipt handles of the answer, and yields the next. The driver
sends, waits with epoll, reads, checks, and counts. It must stay faster than any server it measures, so it parses
nothing but the status, Content-Length and what a check looks for; `Sample.load_busy` says how much of its core it
needed, and near 1 the figure is the generator's and not the server's. Ugly: the inner loop is one long function,
because a call per request costs a tenth of what there is.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from bench.wire import GET_RECORDS, KINDS, PUT_RECORDS, Step, Wire

Script = Generator[Step, list[bytes], None]

BUFFER_BYTES = 4 << 20
STALL_S = 30.0
_ERROR_CODE = re.compile(rb'(?:"__type" ?: ?"(?:[^"#]*#)?|<Code>)([\w.]+)')
_LENGTH = re.compile(rb"\r\n(content-length: *)(\d+)", re.IGNORECASE)


@dataclass
class Sample:
    """What one round did. Latencies are in seconds, by kind; only answers that passed their check are counted."""

    seconds: float = 0.0  # in which answers counted
    wall_s: float = 0.0  # until the last outstanding answer
    load_cpu_s: float = 0.0
    late: int = 0  # answers after `seconds`
    sent: int = 0
    received: int = 0
    deleted: int = 0
    latencies: list[list[float]] = field(default_factory=lambda: [[] for _ in KINDS])
    errors: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def failed(error: Exception) -> Sample:
        """Nothing was measured, because of this."""
        return Sample(errors=Counter({f"{type(error).__name__}: {error}": 1}))

    @property
    def requests(self) -> int:
        return sum(map(len, self.latencies))

    @property
    def load_busy(self) -> float:
        return self.load_cpu_s / self.wall_s if self.wall_s else 0.0


class _Connection:
    __slots__ = ("partial", "script", "sent_at", "sock", "step")

    sock: socket.socket
    step: Step
    sent_at: float

    def __init__(self, script: Script) -> None:
        self.script = script
        self.partial: bytearray | None = None  # what has come of an answer so far


def drive(
    wire: Wire,
    scripts: Sequence[Script],
    seconds: float,
    at_least: int = 0,
    progress: Callable[[Sample], None] | None = None,
    count_late: bool = False,
) -> Sample:
    """Run each script on a connection of its own until it ends or the time is up; then wait for what is outstanding.

    A slow server gets up to three times the time to answer `at_least` requests, so that all kinds are in the sample.
    With `count_late` the sample ends with the last outstanding answer: right where a request takes long.
    Never raises for what a server does: that is counted in `Sample.errors`.
    """
    sample = Sample()
    gc.collect()
    gc.disable()
    try:
        _Drive(wire, sample, seconds, at_least, progress, count_late).run(scripts)
    finally:
        gc.enable()
    return sample


class _Drive:
    def __init__(
        self,
        wire: Wire,
        sample: Sample,
        seconds: float,
        at_least: int,
        progress: Callable[[Sample], None] | None,
        count_late: bool,
    ) -> None:
        self.wire = wire
        self.sample = sample
        self.seconds = seconds
        self.at_least = at_least
        self.progress = progress
        self.count_late = count_late
        self.poller = select.epoll()
        self.open: dict[int, _Connection] = {}
        self.length_label = b""  # "Content-Length: " as this server writes it

    def run(self, scripts: Sequence[Script]) -> None:
        sample = self.sample
        connections = [_Connection(script) for script in scripts]
        try:
            for connection in connections:
                self._connect(connection)
            cpu, started = time.process_time(), time.perf_counter()
            for connection in connections:
                self._start(connection)
            sample.seconds = self._loop(started) - started
            sample.wall_s = time.perf_counter() - started
            sample.load_cpu_s = time.process_time() - cpu
        except OSError as error:
            sample.errors[f"connection failed: {error.strerror or error}"] += 1
        finally:
            for connection in self.open.values():
                connection.sock.close()
            self.poller.close()

    def _connect(self, connection: _Connection) -> None:
        sock = socket.create_connection(("127.0.0.1", self.wire.port), timeout=STALL_S)
        # Blocking, with the kernel's own timeouts: Python's would cost one more system call for each request.
        sock.settimeout(None)
        limit = struct.pack("ll", int(STALL_S), 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = sock
        connection.partial = None
        self.open[sock.fileno()] = connection
        self.poller.register(sock.fileno(), select.EPOLLIN)

    def _disconnect(self, connection: _Connection) -> None:
        self.poller.unregister(connection.sock.fileno())
        del self.open[connection.sock.fileno()]
        connection.sock.close()

    def _start(self, connection: _Connection) -> None:
        try:
            connection.step = next(connection.script)
        except StopIteration:
            self._disconnect(connection)
            return
        connection.sent_at = time.perf_counter()
        connection.sock.sendall(connection.step[1])

    def _loop(self, started: float) -> float:
        """Answers until there is nothing outstanding; returns when the last counted one came."""
        sample, latencies, checks, count_late = self.sample, self.sample.latencies, self.wire.checks, self.count_late
        deadline, limit = started + self.seconds, started + 3 * self.seconds
        open_, poll, clock = self.open, self.poller.poll, time.perf_counter
        shared = bytearray(BUFFER_BYTES)
        now = last_event = clock()
        next_progress = now + 0.5
        while open_:
            events = poll(1.0)
            now = clock()
            if not events and now - last_event > STALL_S:
                sample.errors[f"no answer in {STALL_S:.0f} s"] += len(open_)
                return now
            if events:
                last_event = now
            if now > deadline and now < limit and sample.requests < self.at_least:
                deadline = now + 0.2
            if self.progress is not None and now >= next_progress:
                self.progress(sample)
                next_progress = now + 0.5
            for fd, _ in events:
                connection = open_[fd]
                sock = connection.sock
                try:
                    size = sock.recv_into(shared)
                except OSError:
                    size = 0
                partial = connection.partial
                if partial is None:
                    data = shared
                else:
                    partial += memoryview(shared)[:size]
                    data = partial
                kind, _request, entries = connection.step
                handles: list[bytes] | None = None
                closes = True
                if size:
                    total = size if partial is None else len(partial)
                    head = data.find(b"\r\n\r\n", 0, total)
                    end = self._end(data, head) if head >= 0 else total + 1
                    if end > total:
                        if partial is None:
                            connection.partial = bytearray(memoryview(shared)[:size])
                        continue
                    closes = data.find(b"lose\r\n", 0, head + 2) >= 0  # Connection: close
                    if data[9:12] == b"200":
                        handles = checks[kind](data, head + 4, end, entries)
                        if handles is None:
                            sample.errors[f"{KINDS[kind]}: a wrong answer"] += 1
                    else:
                        sample.errors[f"{KINDS[kind]}: {_refusal(data, end)}"] += 1
                else:
                    sample.errors[f"{KINDS[kind]}: connection closed before the answer"] += 1
                connection.partial = None

                now = clock()
                if handles is not None:
                    if now <= deadline or count_late:
                        latencies[kind].append(now - connection.sent_at)
                    else:
                        sample.late += 1
                    if kind <= PUT_RECORDS:  # the kinds that send come first, then those that receive
                        sample.sent += entries
                    elif kind <= GET_RECORDS:
                        sample.received += len(handles)
                    else:
                        sample.deleted += entries
                if now > deadline:
                    self._disconnect(connection)
                    continue
                if closes:
                    self._disconnect(connection)
                    self._connect(connection)
                    sock = connection.sock
                try:
                    connection.step = step = connection.script.send(handles or [])
                except StopIteration:
                    self._disconnect(connection)
                    continue
                connection.sent_at = now
                sock.sendall(step[1])
        return now if count_late else min(now, deadline)

    def _end(self, data: bytearray, head: int) -> int:
        """Where the answer whose header ends at `head` ends."""
        label = self.length_label
        if label:
            at = data.find(label, 0, head)
            if at >= 0:
                at += len(label)
                return head + 4 + int(data[at : data.find(b"\r", at)])
        found = _LENGTH.search(data, 0, head)
        if found is None:
            self.sample.errors["an answer without Content-Length"] += 1
            return head + 4
        self.length_label = b"\r\n" + found[1]
        return head + 4 + int(found[2])


def _refusal(data: bytearray, end: int) -> str:
    """The status, and AWS's error code if there is one."""
    code = _ERROR_CODE.search(data, 0, end)
    return data[9:12].decode(errors="replace") + (f" {code[1].decode(errors='replace')}" if code else "")
