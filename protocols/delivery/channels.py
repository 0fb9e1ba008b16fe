"""Delivers channels' records into a folder, which stands for the buckets: DIR/<bucket>/<key>.

The rule: a batch is written after the commit of its records, and reported when its files are on disk under their
names. A crash in between writes them again, under the same names; a record is delivered at least once and its
channel's position, which is in the store, never runs ahead. A folder that cannot be written is tried again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio
import anyio.to_thread

from broker.core import Broker
from broker.errors import BrokerFailure
from broker.streams import Batch
from protocols.delivery.channel_objects import objects

log = logging.getLogger("sidebus.delivery")

RETRY_MS = 5_000
NO_FOLDER = (
    "This sidebus keeps everything in memory and has no folder to deliver to: start it with --data DIR, and channels "
    "deliver to DIR/channels."
)


class ChannelDriver:
    """Delivers for a broker. Without a folder its new channels become FAILED, and their ChannelStatusReason says why.

    Nothing happens unless `run` is running.
    """

    def __init__(self, broker: Broker, folder: Path | None) -> None:
        self._broker = broker
        self._channels = broker.streams.channels
        self._folder = folder
        self._news = anyio.Event()
        self._is_held = False  # the clock, which waits for what is under way
        if folder is None:
            self._channels.no_destination = NO_FOLDER

    async def run(self) -> None:
        """Delivers until cancelled."""
        if self._folder is None:
            return
        self._news = anyio.Event()
        self._channels.wake = self._ask
        self._ask()
        try:
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                await self._deliver(self._folder)
                if not self._news.is_set():
                    self._release()
        finally:
            self._channels.wake = lambda: None
            self._release()

    def _ask(self) -> None:
        if not self._is_held:
            self._is_held = True
            self._broker.clock.hold()
        self._news.set()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._broker.clock.release()

    async def _deliver(self, folder: Path) -> None:
        """What is due, one batch after the other."""
        while (batch := await self._next_batch()) is not None:
            try:
                await anyio.to_thread.run_sync(write, folder, batch)
            except OSError as error:
                log.error("%s: cannot write to %s (%s): it is tried again", batch.channel.arn, folder, error.strerror)
                self._ask_later()
                return
            self._broker.commit.run(self._channels.delivered, batch)

    def _ask_later(self) -> None:
        clock = self._broker.clock
        clock.call_at(clock.now_ms() + RETRY_MS, self._ask)

    async def _next_batch(self) -> Batch | None:
        """Once it is committed that its records are there."""
        claimed: list[Batch] = []
        told = anyio.Event()

        def claim() -> None:
            batch = self._channels.next_batch()
            if batch is not None:
                claimed.append(batch)

        def committed(failure: BrokerFailure | None) -> None:
            if failure is not None:
                claimed.clear()
                self._ask_later()
            told.set()

        self._broker.commit.run(claim)
        self._broker.commit.then(committed)
        await told.wait()
        return claimed[0] if claimed else None


def write(folder: Path, batch: Batch) -> None:
    """The batch's objects as files, each there as a whole or not at all. Raises OSError."""
    for path, body in objects(batch):
        file = folder / path
        _make_folder(file.parent)
        part = file.with_name(file.name + ".part")
        with part.open("wb") as opened:
            opened.write(body)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
        _sync(file.parent)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """What was made or renamed in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
