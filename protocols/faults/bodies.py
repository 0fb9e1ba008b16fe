"""Answers that arrive broken: the body stops and goes on later, ends too early, or trickles.

Each is a `Sink` between an answer and the listener's: what it lets through, and when, is all there is to it. A whole
`Response` becomes a stream that has told its length. Time is the broker's clock, so a clock that is advanced ends a
stall. What has no body cannot break in the middle of it: where it should end early there is no answer at all.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.clock import Clock, Timer
from protocols.http.message import Answer, Cancel, NoResponse, Response, Sink, StreamingResponse

_STEP_MS = 100


class Held:
    """A sink that keeps back what it may not let through yet."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._held = bytearray()
        self._ends = False
        self._is_over = False
        self._ready: Callable[[], None] | None = None
        self._timer: Timer | None = None

    def write(self, data: bytes) -> bool:
        if self._is_over:
            return False
        self._held += data
        return self._pass() and not self._held

    def _pass(self) -> bool:
        """Lets through what may go now; whether the client keeps up."""
        raise NotImplementedError

    def on_ready(self, ready: Callable[[], None]) -> None:
        self._ready = ready
        self._sink.on_ready(self._caught_up)

    def _caught_up(self) -> None:
        if self._ready is not None and not self._held and not self._is_over:
            self._ready()

    def end(self) -> None:
        self._ends = True
        self._end_if_empty()

    def abort(self) -> None:
        self._sink.abort()
        self.leave()

    def leave(self) -> None:
        """Nobody is there to read it."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def _end_if_empty(self) -> None:
        if self._ends and not self._held and not self._is_over:
            self._is_over = True
            self._sink.end()

    def _in(self, delay_ms: int, then: Callable[[], None]) -> None:
        self._timer = self._clock.call_at(self._clock.now_ms() + delay_ms, then)


class Stalling(Held):
    """Lets `after_bytes` through, and all that follows when the stall is over."""

    def __init__(self, sink: Sink, clock: Clock, after_bytes: int, for_ms: int) -> None:
        super().__init__(sink, clock)
        self._left_bytes: int | None = after_bytes  # None: it is over
        self._for_ms = for_ms

    def _pass(self) -> bool:
        left = self._left_bytes
        now = bytes(self._held if left is None else self._held[:left])
        del self._held[: len(now)]
        if left is not None:
            self._left_bytes = left - len(now)
            if self._held and self._timer is None:
                self._in(self._for_ms, self._go_on)
        return self._sink.write(now) if now else True

    def _go_on(self) -> None:
        self._left_bytes = None
        if self._pass():
            self._caught_up()
        self._end_if_empty()


class Truncated(Held):
    """Lets `after_bytes` through, and no more."""

    def __init__(self, sink: Sink, clock: Clock, after_bytes: int) -> None:
        super().__init__(sink, clock)
        self._left_bytes = after_bytes

    def _pass(self) -> bool:
        now = bytes(self._held[: self._left_bytes])
        self._left_bytes -= len(now)
        if now:
            self._sink.write(now)
        if len(now) < len(self._held):
            self._is_over = True
            self._held.clear()
            self._sink.abort()
            return False
        self._held.clear()
        return True


class Slow(Held):
    """Lets so many bytes through a second."""

    def __init__(self, sink: Sink, clock: Clock, bytes_per_s: int) -> None:
        super().__init__(sink, clock)
        self._step_ms = max(_STEP_MS, 1000 // bytes_per_s)
        self._step_bytes = max(1, bytes_per_s * self._step_ms // 1000)

    def _pass(self) -> bool:
        if self._held and self._timer is None:
            self._step()
        return True

    def _step(self) -> None:
        self._timer = None
        piece = bytes(self._held[: self._step_bytes])
        del self._held[: len(piece)]
        if piece:
            self._sink.write(piece)
            self._in(self._step_ms, self._step)
        elif not self._ends:
            self._caught_up()
        self._end_if_empty()


Break = Callable[[Sink], Held]


def broken(answer: Answer, make: Break) -> Answer:
    """The answer with its body behind the sink that `make` makes."""
    if isinstance(answer, NoResponse):
        return answer
    if isinstance(answer, Response):
        body = answer.body

        def start_whole(sink: Sink) -> Cancel:
            held = make(sink)
            held.write(body)
            held.end()
            return held.leave

        return StreamingResponse(answer.status, answer.headers, start_whole, len(body))
    start = answer.start

    def start_stream(sink: Sink) -> Cancel:
        held = make(sink)
        cancel = start(held)

        def leave() -> None:
            held.leave()
            cancel()

        return leave

    return StreamingResponse(answer.status, answer.headers, start_stream, answer.length)


def left(answer: Answer) -> None:
    """Tells the maker of an answer that nobody will read it."""
    if isinstance(answer, StreamingResponse):
        answer.start(_Nobody())()


class _Nobody:
    """The sink of a client that has gone."""

    def write(self, data: bytes) -> bool:
        return False

    def on_ready(self, ready: Callable[[], None]) -> None:
        pass

    def end(self) -> None:
        pass

    def abort(self) -> None:
        pass
