"""A broker without sockets and threads, for unit tests: boto3's requests are handed to it as they are sent.

The rule: an answer is there when the call returns. The clock moves only when told to, or when somebody waits and
nothing else can happen: then it jumps to the next appointment. So a long poll of twenty seconds ends at once, twenty
seconds later by the broker's clock, or as soon as a delayed message is due.

Ugly: botocore has no public place for a handler that every session gets; its own list of them, BUILTIN_HANDLERS, has
been where test doubles go for years. Remote endpoints (HTTP, functions) are not delivered to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from broker.clock import ClockRefusal, ManualClock, SystemClock, iso_8601_ms
from broker.core import Broker
from broker.entropy import Entropy
from broker.limits import PROFILES
from broker.store.sqlite import SqliteStore
from protocols.application import Application, Settings
from protocols.control.answer import Answer as PageAnswer
from protocols.control.clock import ClockPage
from protocols.http.http1 import http_date
from protocols.http.message import Answer, NoResponse, Request, Response, StreamingResponse
from protocols.signing import MessageSigner
from protocols.testing.control import Control
from protocols.testing.environment import environment
from protocols.testing.sidebus import REGION, Plan, Sidebus, account_for

ENDPOINT = "http://sidebus.in-process.localhost"
_HOST = urlsplit(ENDPOINT).netloc


class StandingClock(ManualClock):
    """A clock that obeys the page /_sidebus/clock as far as one can that stands by itself."""

    def state(self) -> dict[str, Any]:
        now_ms = self.now_ms()
        return {
            "now": iso_8601_ms(now_ms),
            "now_ms": now_ms,
            "frozen": True,
            "speed": 1.0,
            "offset_ms": now_ms - _machine_ms(),
            "dates": "broker",
            "travelling_to": None,
        }

    def freeze(self) -> None:
        """It always is."""

    def travel(self, to_ms: int, arrived: Callable[[], None]) -> None:
        self.set(to_ms)
        self.soon(arrived)

    def restore(self) -> None:
        self.set(_machine_ms())

    def resume(self) -> None:
        raise ClockRefusal("The clock of a broker without sockets moves when it is told to or somebody waits.")

    def set_speed(self, speed: float) -> None:
        self.resume()

    def set_dates(self, dates: str) -> None:
        if dates != "broker":
            raise ClockRefusal("A broker without sockets has dates by its own clock.")


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000


class InProcess:
    """A broker that is called. It may be called from several threads; they take turns."""

    def __init__(
        self,
        *,
        limits: str = "relaxed",
        settings: Settings | None = None,
        seed: int | str | None = None,
        now_ms: int | None = None,
    ) -> None:
        """The clock begins at `now_ms`, or at the machine's time."""
        self.clock = StandingClock(_machine_ms() if now_ms is None else now_ms)
        store = SqliteStore(None)
        settings = settings or Settings()
        signer = MessageSigner(store, settings.sns_cert_host, seed)
        self.broker = Broker(store, self.clock, Entropy(seed), PROFILES[limits], signer)
        self.broker.commit.after_rollback.append(signer.forget)
        self._application = Application(self.broker, settings, signer)
        self._clock_page = ClockPage(cast(SystemClock, self.clock))
        self._lock = RLock()
        self._open = True

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open = False
                self.broker.close()

    def answer(self, request: Request) -> Answer:
        """Whatever the answer waits for has happened then."""
        answers: list[Answer] = []
        with self._lock:
            self._application(request, answers.append)
            self.clock.settle()
            while not answers:
                self._jump()
        return answers[0]

    def pieces(self, answer: StreamingResponse) -> Iterator[bytes]:
        """The body of a streaming answer. Time passes whenever there is nothing to read yet."""
        sink = _Sink()
        with self._lock:
            leave = answer.start(sink)
            self.clock.settle()
        try:
            while True:
                with self._lock:
                    while not sink.gathered and not sink.ended and self._open:
                        self._jump()
                    piece, sink.gathered = sink.gathered, b""
                if piece:
                    yield piece
                elif sink.broken and answer.length is None:  # else botocore takes what there is for all of it
                    raise ConnectionResetError("the answer breaks off")
                else:
                    return
        finally:
            with self._lock:
                if self._open and not sink.ended:
                    leave()
                    self.clock.settle()

    def _jump(self) -> None:
        next_ms = self.clock.next_ms()
        if next_ms is None:
            raise RuntimeError("the answer waits for nothing that could happen")
        self.clock.set(max(next_ms, self.clock.now_ms()))

    # botocore's side

    def before_send(self, request: Any, **_: object) -> Any:
        """botocore's event of that name: the AWSResponse, or None for requests to others. Raises as its HTTP does."""
        url = urlsplit(request.url)
        if url.netloc != _HOST or not self._open:
            return None
        from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]
        from botocore.exceptions import ConnectionClosedError, ReadTimeoutError  # type: ignore[import-untyped]

        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = [(b"host", _HOST.encode())]
        headers += [(_bytes(name).lower(), _bytes(value)) for name, value in request.headers.items()]
        body = request.body
        if hasattr(body, "read"):
            body = body.read()
        answer = self.answer(Request(request.method, target.encode(), headers, _bytes(body or b"")))
        if isinstance(answer, NoResponse):
            if answer.silent:
                raise ReadTimeoutError(endpoint_url=request.url)
            raise ConnectionClosedError(endpoint_url=request.url)
        fields = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
        fields["date"] = http_date(self.clock.now_ms() // 1000).decode()
        raw = _Body(iter((answer.body,)) if isinstance(answer, Response) else self.pieces(answer))
        response = AWSResponse(request.url, answer.status, fields, raw)
        if not request.stream_output:
            try:
                response.content  # noqa: B018  # is read here
            except ConnectionResetError:
                raise ConnectionClosedError(endpoint_url=request.url) from None
        return response

    def send(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """A request of the control client's."""
        request = Request(method, target.encode(), [(b"host", _HOST.encode())], body)
        if target == "/_sidebus/clock":
            return self._move_clock(request)
        answer = self.answer(request)
        assert isinstance(answer, Response)
        return answer.status, answer.body

    def _move_clock(self, request: Request) -> tuple[int, bytes]:
        answers: list[PageAnswer] = []
        with self._lock:
            page = self._clock_page
            answer = page.get(request) if request.method == "GET" else page.post(request)
            if isinstance(answer, tuple):
                answers.append(answer)
            else:
                answer(answers.append)
                self.clock.settle()
        status, document = answers[0]
        return status, orjson.dumps(document)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


class _Sink:
    """Takes what there is: a `Sink` whose reader is never slow."""

    def __init__(self) -> None:
        self.gathered = b""
        self.ended = self.broken = False

    def write(self, data: bytes) -> bool:
        self.gathered += data
        return True

    def on_ready(self, ready: Callable[[], None]) -> None:
        pass

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = self.broken = True


class _Body:
    """What botocore reads an answer from, as from urllib3's."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        return self._pieces

    def read(self, *_: object) -> bytes:
        return b"".join(self._pieces)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


class SidebusInProcess(Sidebus):
    """The same as over a socket. `advance` and the like move the clock of this broker alone."""

    def __init__(self, broker: InProcess, account: str, region: str, seed: int | str, control: Control) -> None:
        super().__init__(ENDPOINT, account, region, seed, control)
        self.broker = broker
        self._own_session: Any = None

    def _boto3(self) -> Any:
        if self._own_session is None:
            import boto3  # type: ignore[import-untyped]

            self._own_session = boto3.Session()  # made within `in_process`, so that it has the handler
        return self._own_session


@contextmanager
def in_process(
    name: str,
    *,
    seed: int | str,
    limits: str = "relaxed",
    region: str = REGION,
    plan: Plan | None = None,
    ledger: bool = True,
    now_ms: int | None = None,
) -> Iterator[SidebusInProcess]:
    """A broker for one test, and the environment for it: boto3 sessions made within reach it, whoever makes them."""
    from botocore.handlers import BUILTIN_HANDLERS  # type: ignore[import-untyped]

    broker = InProcess(limits=limits, seed=seed, now_ms=now_ms)
    account = account_for(name)
    control = Control(ENDPOINT, broker.send, account=account, region=region)
    sidebus = SidebusInProcess(broker, account, region, seed, control)
    handler = ("before-send", broker.before_send)
    BUILTIN_HANDLERS.append(handler)
    try:
        with environment(ENDPOINT, account, region):
            if ledger:
                control.ledger.on()
            if plan is not None:
                control.faults.load(plan)
            yield sidebus
    finally:
        BUILTIN_HANDLERS.remove(handler)
        sidebus.close()
        broker.close()
