"""A broker in a thread of this process, with an event loop of its own: whatever loop the caller runs, or none, is free.

The rule: `start` returns when the port answers, `stop` when the thread has ended; what goes wrong in between is raised
where the block is left. Nothing of the process is touched: no signal, no logging, no collector of garbage.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from protocols.application import Application, Settings
from protocols.embedded import running
from protocols.http.cors import with_cors
from protocols.http.listener import Listener

if TYPE_CHECKING:
    from broker.core import Broker

DRAIN_S = 1.0
"""How long requests in flight have at the end: a test's threads may still be asking."""

T = TypeVar("T")


class BrokerThread:
    """`with BrokerThread() as broker:` has `broker.url` answer on a free port of 127.0.0.1.

    The options are those of `protocols.embedded.running`. Raises BrokerFailure where the store cannot be opened.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        sync: str = "full",
        limits: str = "relaxed",
        stream_wait_ms: int | None = None,
        settings: Settings | None = None,
        seed: int | str | None = None,
    ) -> None:
        self._data = data
        self._sync = sync
        self._limits = limits
        self._stream_wait_ms = stream_wait_ms
        self._settings = settings
        self._seed = seed
        self._ready: Future[Application] = Future()
        self._thread = threading.Thread(target=self._run, name="sidebus", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.url = ""
        self.application: Application

    def start(self) -> Self:
        self._thread.start()
        self.application = self._ready.result()
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, function: Callable[[Broker], T]) -> T:
        """What it returns, called in the broker's thread between two requests. What it changes is committed then."""
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(function(self.application.broker))
            except BaseException as error:
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise  # threading.excepthook tells of it, and pytest
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with running(
            self._data,
            sync=self._sync,
            limits=self._limits,
            stream_wait_ms=self._stream_wait_ms,
            settings=self._settings,
            seed=self._seed,
        ) as application:
            now_ms = application.broker.clock.dates_ms
            async with await Listener.start(with_cors(application), now_ms=now_ms) as listener:
                application.on_cut.append(lambda down_ms: listener.cut(down_ms / 1000))
                self.url = "http://{}:{}".format(*listener.address)
                self._ready.set_result(application)
                await self._stop.wait()
                application.broker.end_waiting()
                await listener.drain(DRAIN_S)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
