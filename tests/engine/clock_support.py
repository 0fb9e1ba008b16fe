"""A SystemClock under trio and asyncio, on a machine whose time a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import trio

from broker.clock import Soon, SystemClock

BACKENDS = ["asyncio", "trio"]
START_MS = 1_700_000_000_000


class Machine:
    """Its time stands until a test moves it."""

    def __init__(self) -> None:
        self.now_ns = START_MS * 1_000_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, by_ms: float) -> None:
        self.now_ns += round(by_ms * 1_000_000)


def loop_soon(backend: str) -> Soon:
    if backend == "trio":
        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon


def run_on(backend: str, main: Callable[[SystemClock, Machine], Awaitable[None]]) -> None:
    """Runs `main` beside a clock that keeps appointments."""

    async def beside() -> None:
        machine = Machine()
        clock = SystemClock(loop_soon(backend), machine)
        async with anyio.create_task_group() as group:
            group.start_soon(clock.run)
            with anyio.fail_after(5):
                await main(clock, machine)
            group.cancel_scope.cancel()

    anyio.run(beside, backend=backend)


async def travel(clock: SystemClock, to_ms: int) -> None:
    """Returns when it has arrived."""
    arrived = anyio.Event()
    clock.travel(to_ms, arrived.set)
    await arrived.wait()


async def advance(clock: SystemClock, by_ms: int) -> None:
    await travel(clock, clock.now_ms() + by_ms)


async def settled(clock: SystemClock) -> None:
    """Returns when what was to run soon has run."""
    through = anyio.Event()
    clock.soon(through.set)
    await through.wait()
