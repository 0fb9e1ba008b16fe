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
import http.client
import sys
from pathlib import Path

from bench import report, run
from bench.load import Sample, Script, drive
from bench.report import Cell, Round
from bench.servers import SERVERS, DidNotStart, Running
from bench.wire import PROTOCOLS, Refused
from bench.workloads import STEADY, drain, fill, mixed

FILL_CONNECTIONS = 16
WORKLOADS = {name: about for name, (about, *_) in STEADY.items()} | {
    "backlog": "backlog: the main mix while messages wait, each server against itself",
    "start": "start: time to the first answer, and memory when idle",
}


class Benchmark(run.Comparison):
    def __init__(self, options: argparse.Namespace, data_root: Path) -> None:
        super().__init__(options, WORKLOADS, data_root)

    def everything(self) -> None:
        wanted = self.options.workloads
        if "start" in wanted:
            self._start_times()
        for size in self.options.bodies:
            cells = self._cells(size)
            if cells:
                self.take_turns(size, cells)
        if "backlog" in wanted:
            for name in list(self.results.about):
                if SERVERS[name].keeps_messages:
                    self._backlog(name)

    def warm_up_cell(self, size: int) -> Cell:
        return Cell("mixed", 64, size)

    def verdicts(self) -> list[tuple[str, bool]]:
        return report.verdicts(self.results)

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

    def _start_times(self) -> None:
        size = self.options.bodies[-1]
        for turn in range(self.options.rounds):
            for name in list(self.results.about):
                self.progress.say(f"start {turn + 1}/{self.options.rounds}: {name}")
                try:
                    with self.running(name, size) as running:
                        self.results.start_s.setdefault(name, []).append(running.start_s)
                        if turn == 0:
                            running.new_queue()
                            running.settle()
                            self.results.idle[name] = running.memory()
                except DidNotStart as reason:
                    self.skip(name, f"did not start: {reason}")
                except (OSError, http.client.HTTPException, Refused) as reason:
                    self.skip(name, f"failed: {reason}")

    def measure(self, server: Running, cell: Cell, seconds: float) -> Round:
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
            sample, cpu_s = Sample.failed(error), 0.0
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
                    server = stack.enter_context(self.running(name, size))
                    self.warm_up(server, size)
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
            sample, cpu_s = Sample.failed(error), 0.0
        return Round.of(sample, cpu_s, at_least), left


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = run.parser("bench.sqs", __doc__, list(SERVERS), WORKLOADS)
    add = parser.add_argument
    add(
        "--connections",
        type=run.numbers,
        metavar="N,M",
        help="default 1,4,16,64,256; all but mixed use 64, or the last",
    )
    add("--bodies", type=run.numbers, metavar="N,M", help="bytes; default 256,1024; all but mixed use the last")
    add("--waiting", type=run.numbers, default=[0, 100_000, 1_000_000], metavar="N,M", help="default: 0,100000,1000000")
    add("--fill-seconds", type=float, default=60, metavar="S", help="give up filling a queue after (default 60)")
    add("--protocol", choices=list(PROTOCOLS), default="json", help="json (default) or query")
    return run.read_options(
        parser,
        arguments,
        workloads=(list(WORKLOADS), ["start", "mixed"]),
        connections=([1, 4, 16, 64, 256], [1, 64]),
        bodies=([256, 1024], [1024]),
        rounds=(5, 2),
        seconds=(1.0, 0.7),
        warmup=(15.0, 3.0),
    )


def main(arguments: list[str] | None = None) -> int:
    return run.run(Benchmark, _options(arguments))


if __name__ == "__main__":
    sys.exit(main())
