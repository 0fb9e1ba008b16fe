"""Sidebus beside its peers on SQS: who answers how many requests, how fast, with how much memory.

Each server gets one core and the load generator another. All servers are started, and measured in turn in short rounds
(A B C A B C …), so that what disturbs the machine disturbs them alike; ratios are taken within a round. Only figures of
one run belong side by side.

examples:
  python -m bench.sqs --quick                          one minute, the main mix
  python -m bench.sqs --only sidebus,fauxqs --connections 64
  python -m bench.sqs --workloads backlog --waiting 0,1000000 --only sidebus,sidebus-full
  python -m bench.sqs --json run.json --svg run.svg    everything: half an hour
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import install, report
from bench.load import Sample, Script, drive
from bench.report import Cell, Results, Round
from bench.servers import SERVERS, Cores, DidNotStart, Running
from bench.wire import PROTOCOLS, Refused
from bench.workloads import STEADY, drain, fill, mixed

FILL_CONNECTIONS = 16
WORKLOADS = {name: about for name, (about, *_) in STEADY.items()} | {
    "backlog": "backlog: the main mix while messages wait, each server against itself",
    "start": "start: time to the first answer, and memory when idle",
}


class Progress:
    """One line on stderr that overwrites itself; nothing when stderr is not a terminal."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()

    def say(self, line: str) -> None:
        if self.on:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        self.say("")


class Benchmark:
    def __init__(self, options: argparse.Namespace, servers: list[str], data_root: Path) -> None:
        self.options = options
        self.data_root = data_root
        self.cores = Cores.choose(options.cores)
        self.progress = Progress()
        self.results = Results(
            about={name: SERVERS[name].about for name in servers},
            workloads=WORKLOADS,
            machine=_machine(options, self.cores),
        )

    def run(self) -> Results:
        """Measure; on Ctrl-C what was found until then."""
        self.cores.pin_load()
        try:
            self._everything()
        except KeyboardInterrupt:
            self.results.notes.append("interrupted: the rest is missing")
        self.progress.end()
        return self.results

    def _everything(self) -> None:
        for name in list(self.results.about):
            peer = SERVERS[name].peer
            try:
                if peer:
                    install.ensure(peer)
            except install.Missing as reason:
                self._skip(name, f"skipped, {reason}")
        wanted = self.options.workloads
        if "start" in wanted:
            self._start_times()
        for size in self.options.bodies:
            cells = self._cells(size)
            if cells:
                self._steady(size, cells)
        if "backlog" in wanted:
            for name in list(self.results.about):
                if SERVERS[name].keeps_messages:
                    self._backlog(name)

    def _cells(self, size: int) -> list[Cell]:
        """Only the main mix, with the main body, is measured with every number of connections."""
        counts: list[int] = self.options.connections
        usual = 64 if 64 in counts else counts[-1]
        main_body = size == self.options.bodies[-1]
        cells = []
        for workload in self.options.workloads:
            if workload == "mixed":
                cells += [Cell(workload, count, size) for count in (counts if main_body else [usual])]
            elif workload in STEADY and main_body:
                cells.append(Cell(workload, usual, size))
        return cells

    def _skip(self, name: str, reason: str) -> None:
        self.results.about.pop(name, None)
        self.results.skipped[name] = reason

    def _running(self, name: str, size: int) -> Running:
        return Running(SERVERS[name], self.cores, size, self.data_root, self.options.protocol)

    def _start_times(self) -> None:
        size = self.options.bodies[-1]
        for turn in range(self.options.rounds):
            for name in list(self.results.about):
                self.progress.say(f"start {turn + 1}/{self.options.rounds}: {name}")
                try:
                    with self._running(name, size) as running:
                        self.results.start_s.setdefault(name, []).append(running.start_s)
                        if turn == 0:
                            running.new_queue()
                            running.settle()
                            self.results.idle[name] = running.memory()
                except DidNotStart as reason:
                    self._skip(name, f"did not start: {reason}")
                except (OSError, http.client.HTTPException, Refused) as reason:
                    self._skip(name, f"failed: {reason}")

    @contextlib.contextmanager
    def _all_running(self, size: int) -> Iterator[dict[str, Running]]:
        """Every server started, warmed up and paused."""
        with contextlib.ExitStack() as stack:
            running: dict[str, Running] = {}
            for name in list(self.results.about):
                self.progress.say(f"starting {name}")
                try:
                    started = stack.enter_context(self._running(name, size))
                except DidNotStart as reason:
                    self._skip(name, f"did not start: {reason}")
                    continue
                self.progress.say(f"warming up {name}")
                self._warm_up(started, size)
                started.pause()
                running[name] = started
            yield running

    def _warm_up(self, server: Running, size: int) -> None:
        """Load until it gets no faster, as just-in-time compilers need, or for as long as allowed."""
        best, slower, until = 0.0, 0, time.monotonic() + self.options.warmup
        while time.monotonic() < until:
            rate = self._measure(server, Cell("mixed", 64, size), 1.0).requests_per_s
            slower = slower + 1 if rate < best * 1.05 else 0
            if slower == 2:
                return
            best = max(best, rate)

    def _steady(self, size: int, cells: list[Cell]) -> None:
        with self._all_running(size) as running:
            done, total = 0, len(cells) * self.options.rounds * len(running)
            for cell in cells:
                found: dict[str, list[Round]] = {name: [] for name in running}
                self.results.cells[cell] = found
                for turn in range(self.options.rounds):
                    for name, server in running.items():
                        done += 1
                        self.progress.say(
                            f"[{done}/{total}] {cell.workload}, {cell.connections} connections, {size} bytes, "
                            f"round {turn + 1}: {name}"
                        )
                        server.resume()
                        found[name].append(self._measure(server, cell, self.options.seconds))
                        server.pause()

    def _measure(self, server: Running, cell: Cell, seconds: float) -> Round:
        """One round in a queue of its own, and the check of what it left behind."""
        _, workload, cycle = STEADY[cell.workload]
        at_least = cell.connections if workload is drain else 2 * cycle * cell.connections
        try:
            server.new_queue()
            before = Sample()
            if workload is drain:
                before = self._fill(server, 1_000_000, seconds)
            server.settle()
            sample, cpu_s = self._drive(server, workload(server.wire, cell.connections), seconds, at_least)
            self._check_what_is_left(server, before.sent, sample)
            server.wire.delete_queue()
            server.settle()
        except (OSError, http.client.HTTPException, Refused) as error:
            sample, cpu_s = Sample(), 0.0
            sample.errors[f"{type(error).__name__}: {error}"] += 1
        return Round.of(sample, cpu_s, at_least)

    def _drive(self, server: Running, scripts: list[Script], seconds: float, at_least: int) -> tuple[Sample, float]:
        cpu_s = server.cpu_s()
        sample = drive(server.wire, scripts, seconds, at_least)
        return sample, server.cpu_s() - cpu_s

    def _check_what_is_left(self, server: Running, before: int, sample: Sample) -> int:
        """Sent and not deleted must be there still, to the message. Returns how many are there."""
        if not server.server.keeps_messages:
            return 0
        expected = before + sample.sent - sample.deleted
        left = server.wire.count_messages()
        if left != expected and not sample.errors:
            sample.errors[f"{left:,} messages left in the queue where {expected:,} should be"] += 1
        return left

    def _fill(self, server: Running, messages: int, seconds: float, what: str = "") -> Sample:
        def progress(sample: Sample) -> None:
            if what:
                self.progress.say(f"{what}: {sample.sent:,} of {messages:,}")

        return drive(server.wire, fill(server.wire, FILL_CONNECTIONS, messages), seconds, progress=progress)

    def _backlog(self, name: str) -> None:
        """One instance for each length of the queue, all of the same server, measured in turn."""
        size = self.options.bodies[-1]
        with contextlib.ExitStack() as stack:
            ready: dict[int, tuple[Running, int]] = {}
            for waiting in self.options.waiting:
                try:
                    server = stack.enter_context(self._running(name, size))
                    self._warm_up(server, size)
                    server.new_queue()
                    filled = self._fill(server, waiting, self.options.fill_seconds, f"filling {name} with {waiting:,}")
                    server.settle(30)
                    self.results.filled.setdefault(name, {})[waiting] = server.memory()
                    left = self._check_what_is_left(server, 0, filled)
                except (DidNotStart, OSError, http.client.HTTPException, Refused) as error:
                    self.results.notes.append(f"{name}, {waiting:,} waiting: {error}")
                    continue
                for what, count in filled.errors.items():
                    self.results.notes.append(f"{name}, filling with {waiting:,}: {count:,} × {what}")
                if filled.sent < waiting:
                    self.results.notes.append(
                        f"{name}: not measured with {waiting:,} waiting, it took {filled.sent:,} "
                        f"in {self.options.fill_seconds:.0f} s"
                    )
                    self.results.filled[name].pop(waiting)
                    continue
                server.pause()
                ready[waiting] = (server, left)
            for connections in (1, 64):
                for turn in range(self.options.rounds):
                    for waiting, (server, left) in ready.items():
                        self.progress.say(f"{name}, {waiting:,} waiting, {connections} connections, round {turn + 1}")
                        cell = Cell("backlog", connections, size, waiting)
                        server.resume()
                        found, left = self._measure_backlog(server, connections, left)
                        server.pause()
                        ready[waiting] = (server, left)
                        self.results.cells.setdefault(cell, {}).setdefault(name, []).append(found)

    def _measure_backlog(self, server: Running, connections: int, left: int) -> tuple[Round, int]:
        at_least = 2 * STEADY["mixed"][2] * connections
        try:
            server.settle()
            scripts = mixed(server.wire, connections)
            sample, cpu_s = self._drive(server, scripts, self.options.seconds, at_least)
            left = self._check_what_is_left(server, left, sample)
        except (OSError, http.client.HTTPException, Refused) as error:
            sample, cpu_s = Sample(), 0.0
            sample.errors[f"{type(error).__name__}: {error}"] += 1
        return Round.of(sample, cpu_s, at_least), left


def _machine(options: argparse.Namespace, cores: Cores) -> dict[str, str]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    pinned = "servers and load share cores: not pinned"
    if cores.server is not None:
        pinned = f"servers on core {cores.server}, load on core {cores.load}"
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, load {load}",
        "python": platform.python_version(),
        "cores": pinned,
        "protocol": options.protocol,
        "rounds": f"{options.rounds} of {options.seconds:g} s, servers in turn",
    }


def _numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def _names(known: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    return parse


def _options(arguments: list[str] | None) -> argparse.Namespace:
    known = "\n".join(f"  {name:16}{server.about}" for name, server in SERVERS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench.sqs",
        description=__doc__,
        epilog=f"servers:\n{known}\n\nworkloads:\n"
        + "\n".join(f"  {name:16}{about}" for name, about in WORKLOADS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="about a minute: mixed at 1 and 64 connections, and start")
    add("--only", type=_names(list(SERVERS)), default=list(SERVERS), metavar="A,B", help="these servers only")
    add("--without", type=_names(list(SERVERS)), default=[], metavar="A,B", help="all servers but these")
    add("--workloads", type=_names(list(WORKLOADS)), metavar="A,B", help="default: all")
    add("--connections", type=_numbers, metavar="N,M", help="default 1,4,16,64,256; all but mixed use 64, or the last")
    add("--bodies", type=_numbers, metavar="N,M", help="bytes; default 256,1024; all but mixed use the last")
    add("--waiting", type=_numbers, default=[0, 100_000, 1_000_000], metavar="N,M", help="default: 0,100000,1000000")
    add("--rounds", type=int, metavar="N", help="how often each server has its turn (default 5)")
    add("--seconds", type=float, metavar="S", help="length of a round (default 1)")
    add("--warmup", type=float, metavar="S", help="most of the load before the first round, for JITs (default 15)")
    add("--fill-seconds", type=float, default=60, metavar="S", help="give up filling a queue after (default 60)")
    add("--protocol", choices=list(PROTOCOLS), default="json", help="json (default) or query")
    add("--cores", type=_cores, metavar="SERVER,LOAD", help="which cores (default: the last and the first)")
    add("--data-dir", type=Path, help="where stores are written: a real disk (default: in .venvs)")
    add("--json", type=Path, metavar="FILE", help="write everything found")
    add("--svg", type=Path, metavar="FILE", help="draw it")
    options = parser.parse_args(arguments)
    quick = options.quick
    options.workloads = options.workloads or (["start", "mixed"] if quick else list(WORKLOADS))
    options.connections = options.connections or ([1, 64] if quick else [1, 4, 16, 64, 256])
    options.bodies = options.bodies or ([1024] if quick else [256, 1024])
    options.rounds = options.rounds or (2 if quick else 5)
    options.seconds = options.seconds or (0.7 if quick else 1.0)
    options.warmup = options.warmup or (3.0 if quick else 15.0)
    return options


def _cores(text: str) -> tuple[int, int]:
    server, load = _numbers(text)
    return server, load


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    servers = [name for name in SERVERS if name in options.only and name not in options.without]
    root = options.data_dir or install.CACHE
    root.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=root) as data:
        results = Benchmark(options, servers, Path(data)).run()
    results.machine["took"] = f"{time.monotonic() - started:.0f} s"
    print(report.text(results))
    if options.json:
        report.write_json(results, options.json)
    if options.svg:
        report.write_svg(results, options.svg)
    failed = any(r.errors for found in results.cells.values() for rounds in found.values() for r in rounds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
