"""The process: loop, store, broker, listener, signals; from the start to the first answer, from SIGTERM to the end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.application import Settings
from protocols.embedded import running
from protocols.http.cors import with_cors
from protocols.http.listener import Listener

if TYPE_CHECKING:
    from protocols.start_plan import StartPlan

log = logging.getLogger("sidebus")

DRAIN_S = 10.0


GC_THRESHOLDS = (20_000, 50, 100)
"""Nearly nothing here is a cycle, and ten thousand rules take a full collection a third of a second."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `sidebus serve` was told."""

    host: str = "127.0.0.1"
    port: int = 4566
    data: Path | None = None
    sync: str = "full"
    limits: str = "relaxed"
    stream_wait_ms: int | None = None
    log_format: str = "text"
    tls_cert: str | None = None
    tls_key: str | None = None
    settings: Settings = field(default_factory=Settings)
    seed: int | str | None = None
    plan: StartPlan | None = None


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


def _configure_log(log_format: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell of every delivery


def serve(options: ServeOptions) -> None:
    """Runs until SIGTERM or SIGINT. Raises BrokerFailure or ListenError if it cannot start."""
    _configure_log(options.log_format)
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(_serve(options))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options))


async def _serve(options: ServeOptions) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(
        options.data,
        sync=options.sync,
        limits=options.limits,
        stream_wait_ms=options.stream_wait_ms,
        settings=options.settings,
        seed=options.seed,
        plan=options.plan,
    ) as application:
        broker = application.broker
        listener = await Listener.start(
            with_cors(application),
            options.host,
            options.port,
            now_ms=broker.clock.dates_ms,
            tls_cert=options.tls_cert,
            tls_key=options.tls_key,
        )
        application.on_cut.append(lambda down_ms: listener.cut(down_ms / 1000))
        host, port = listener.address
        scheme = "https" if options.tls_cert else "http"
        where = f"[{host}]" if ":" in host else host
        gc.freeze()  # what is there now stays
        gc.set_threshold(*GC_THRESHOLDS)
        print(f"sidebus is ready on {scheme}://{where}:{port}", flush=True)
        if broker.faults.seed is not None:
            print(f"a fault plan is in force, seed {broker.faults.seed}", flush=True)
        await stop.wait()
        log.info("stopping")
        broker.end_waiting()  # the long polls are answered, so that the connections can end
        await listener.drain(DRAIN_S)
