"""What comparisons have in common: servers fetched, started, warmed up and measured in turn; options; the way out.

`bench.sqs`, `.sns`, `.events` and `.kinesis` say what a round is. The rule: while one server is measured all others
are stopped, and each has its turn in each round, so that what disturbs the machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import install, report
from bench.report import Cell, Results, Round
from bench.servers import SERVERS, Cores, DidNotStart, Running
from bench.wire import PROTOCOLS, Wire


class Progress:
    """One line on stderr that overwrites itself; nothing when stderr is not a terminal."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()

    def say(self, line: str) -> None:
        if self.on:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        self.say("")


class NotServed(Exception):
    """A server that cannot answer a cell's question; the message says why."""


class Comparison:
    """One run. A subclass says what is compared, and how a server is measured."""

    protocols: Mapping[str, type[Wire]] = PROTOCOLS

    def __init__(self, options: argparse.Namespace, workloads: dict[str, str], data_root: Path) -> None:
        self.options = options
        self.data_root = data_root
        self.cores = Cores.choose(options.cores)
        self.progress = Progress()
        self.results = Results(
            about={name: SERVERS[name].about for name in options.servers},
            workloads=workloads,
            machine=_machine(options, self.cores),
        )

    def everything(self) -> None:
        raise NotImplementedError

    def measure(self, server: Running, cell: Cell, seconds: float) -> Round:
        """One round of one server, or `NotServed`. Whatever else a server does is among the round's errors."""
        raise NotImplementedError

    def warm_up_cell(self, size: int) -> Cell:
        """The load before the first round."""
        raise NotImplementedError

    def verdicts(self) -> list[tuple[str, bool]]:
        raise NotImplementedError

    def run(self) -> Results:
        """Measure; on Ctrl-C what was found until then."""
        self.cores.pin_load()
        try:
            self._fetch_peers()
            self.everything()
        except KeyboardInterrupt:
            self.results.notes.append("interrupted: the rest is missing")
        self.progress.end()
        self.results.verdicts = self.verdicts()
        return self.results

    def _fetch_peers(self) -> None:
        for name in list(self.results.about):
            peer = SERVERS[name].peer
            try:
                if peer:
                    install.ensure(peer)
            except install.Missing as reason:
                self.skip(name, f"skipped, {reason}")

    def skip(self, name: str, reason: str) -> None:
        self.results.about.pop(name, None)
        self.results.skipped[name] = reason

    def running(self, name: str, size: int) -> Running:
        return Running(SERVERS[name], self.cores, size, self.data_root, self.protocols[self.options.protocol])

    @contextlib.contextmanager
    def all_running(self, size: int) -> Iterator[dict[str, Running]]:
        """Every server started, warmed up and paused."""
        with contextlib.ExitStack() as stack:
            running: dict[str, Running] = {}
            for name in list(self.results.about):
                self.progress.say(f"starting {name}")
                try:
                    started = stack.enter_context(self.running(name, size))
                except DidNotStart as reason:
                    self.skip(name, f"did not start: {reason}")
                    continue
                self.progress.say(f"warming up {name}")
                try:
                    self.warm_up(started, size)
                    running[name] = started
                except NotServed as reason:
                    self.skip(name, str(reason))
                started.pause()
            yield running

    def warm_up(self, server: Running, size: int) -> None:
        """Load until it gets no faster, as just-in-time compilers need, or for as long as allowed."""
        best, slower, until = 0.0, 0, time.monotonic() + self.options.warmup
        while time.monotonic() < until:
            rate = self.measure(server, self.warm_up_cell(size), 1.0).requests_per_s
            slower = slower + 1 if rate < best * 1.05 else 0
            if slower == 2:
                return
            best = max(best, rate)

    def take_turns(self, size: int, cells: Sequence[Cell]) -> None:
        with self.all_running(size) as running:
            done, total = 0, len(cells) * self.options.rounds * len(running)
            for cell in cells:
                found: dict[str, list[Round]] = {name: [] for name in running}
                self.results.cells[cell] = found
                for turn in range(self.options.rounds):
                    for name, server in running.items():
                        if len(found[name]) < turn:
                            continue  # it does not serve this
                        done += 1
                        title = cell.title(cell.workload)
                        self.progress.say(f"[{done}/{total}] {title}, round {turn + 1}: {name}")
                        server.resume()
                        try:
                            found[name].append(self.measure(server, cell, self.options.seconds))
                        except NotServed as reason:
                            self.results.notes.append(f"{name}, {title}: {reason}")
                        server.pause()


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


def numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        found = text.split(",")
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known: {', '.join(known)}")
        return found

    return parse


def _cores(text: str) -> tuple[int, int]:
    server, load = numbers(text)
    return server, load


def parser(
    module: str, about: str | None, servers: Sequence[str], workloads: dict[str, str]
) -> argparse.ArgumentParser:
    """The options that all comparisons have; `read_options` fills in what depends on --quick."""
    known = "\n".join(f"  {name:16}{SERVERS[name].about}" for name in servers)
    made = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=about,
        epilog=f"servers:\n{known}\n\nworkloads:\n"
        + "\n".join(f"  {name:16}{what}" for name, what in workloads.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--quick", action="store_true", help="about a minute: less of everything")
    add("--only", type=names(servers), default=list(servers), metavar="A,B", help="these servers only")
    add("--without", type=names(servers), default=[], metavar="A,B", help="all servers but these")
    add("--workloads", type=names(list(workloads)), metavar="A,B", help="default: all")
    add("--rounds", type=int, metavar="N", help="how often each server has its turn")
    add("--seconds", type=float, metavar="S", help="length of a round")
    add("--warmup", type=float, metavar="S", help="most of the load before the first round, for JITs")
    add("--cores", type=_cores, metavar="SERVER,LOAD", help="which cores (default: the last and the first)")
    add("--data-dir", type=Path, help="where stores are written: a real disk (default: in .venvs)")
    add("--json", type=Path, metavar="FILE", help="write everything found")
    add("--svg", type=Path, metavar="FILE", help="draw it")
    made.set_defaults(known=list(servers))
    return made


def read_options(
    made: argparse.ArgumentParser, arguments: list[str] | None, **defaults: tuple[object, object]
) -> argparse.Namespace:
    """Defaults are (usual, with --quick)."""
    options = made.parse_args(arguments)
    for name, values in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, values[options.quick])
    options.servers = [name for name in options.known if name in options.only and name not in options.without]
    return options


def run(kind: Callable[[argparse.Namespace, Path], Comparison], options: argparse.Namespace) -> int:
    """Compare, print, write what is to be written; the exit code."""
    root = options.data_dir or install.CACHE
    root.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=root) as data:
        results = kind(options, Path(data)).run()
    results.machine["took"] = f"{time.monotonic() - started:.0f} s"
    print(report.text(results))
    if options.json:
        report.write_json(results, options.json)
    if options.svg:
        report.write_svg(results, options.svg)
    failed = any(r.errors for found in results.cells.values() for rounds in found.values() for r in rounds)
    return 1 if failed else 0
