"""Sidebus beside its peers on EventBridge: PutEvents to the target's queue, with 1 to 10,000 rules on the bus.

Events are parcels of land, as in `bench.matching` (which measures matching alone). The rules of a bus differ in one
field, each has an SQS target, and each event matches one of them: a row shows what more rules cost that do not match.
After each round the queue must hold exactly as many more messages as events were put, and what is received must be what
was put.

examples:
  python -m bench.events --quick                          a few minutes: exact and wildcard, 1, 100 and 10,000 rules
  python -m bench.events --only sidebus --workloads exact --entries 10
  python -m bench.events --json run.json                  everything: an hour, for peers are slow with many rules
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from bench import matching, run
from bench.load import Sample, Script, drive
from bench.report import Cell, Round, middle, number, ratio, table
from bench.servers import Running
from bench.wire import PROTOCOLS, Bus, Refused, Step

SERVERS = ("sidebus", "sidebus-normal", "sidebus-full", "ministack", "moto")
WORKLOADS = {
    "exact": "each rule wants another value of one field",
    "prefix": "another prefix",
    "numeric": "another range of numbers",
    "wildcard": "another 0012*034*",
    "anything-but": "in one field anything but another value, in one an exact value",
}
KINDS = {
    "exact": matching.KINDS["exact"],
    "prefix": matching.KINDS["prefix"],
    "numeric": matching.KINDS["numeric range"],
    "wildcard": matching.KINDS["wildcard 0012*034*"],
    "anything-but": matching.KINDS["anything-but, beside exact"],
}
SOURCE, DETAIL_TYPE = "bench.lots", "Lot Changed"
EVENTS = 1_000  # different ones in a round
SET_UP_CONNECTIONS = 8
SETTLE_S = 20.0
PROMISED_FLATNESS = 1.5


class LotBus(Bus):
    """A bus with one kind of rule, which only become more, and the queue that is the target of all."""

    def __init__(self, server: Running, kind: str) -> None:
        super().__init__(server.port, f"bench-{kind}")
        self.kind = kind
        self.rules = 0
        self.gave_up = False
        server.wire.use_queue(server.wire.create_queue(f"bench-{kind}", {"VisibilityTimeout": "3600"}))
        self.queue_url = server.wire.queue_url
        self.queue_arn = server.wire.queue_attributes()["QueueArn"]

    def grow(self, rules: int, limit_s: float) -> None:
        """Add rules and their targets until there are so many; `run.NotServed` if that takes longer than the limit."""
        if self.gave_up or self.rules >= rules:
            self._refuse(rules)
            return
        numbers = iter(range(self.rules, rules))
        sample = drive(self, [self._set_up(numbers) for _ in range(SET_UP_CONNECTIONS)], limit_s, count_late=True)
        self.rules += sample.deleted // 2  # not to be relied on when it gave up in the middle: then no more is asked
        self.gave_up = self.rules < rules
        for what in sample.errors:
            raise run.NotServed(f"rules cannot be made: {what}")
        self._refuse(rules)

    def _refuse(self, rules: int) -> None:
        if self.rules < rules:
            raise run.NotServed(f"not measured, it made {self.rules:,} rules in the time given")

    def _set_up(self, numbers: Iterator[int]) -> Script:
        for n in numbers:
            pattern = {"source": [SOURCE], "detail": KINDS[self.kind](matching.lot(n))}
            yield self.put_rule(f"rule-{n}", json.dumps(pattern))
            yield self.put_target(f"rule-{n}", self.queue_arn)

    def calls(self, rules: int, entries: int) -> list[Step]:
        """Requests to be sent again and again: each event matches one rule."""
        rng = Random(rules)
        texts = [json.dumps(matching.lot(rng.randrange(rules)), separators=(",", ":")) for _ in range(EVENTS)]
        return [self.put_events(SOURCE, DETAIL_TYPE, texts[at : at + entries]) for at in range(0, EVENTS, entries)]


class Benchmark(run.Comparison):
    def __init__(self, options: argparse.Namespace, data_root: Path) -> None:
        super().__init__(options, WORKLOADS, data_root)
        self._size = sum(map(len, matching.events(EVENTS))) // EVENTS
        self._buses: dict[tuple[str, str], LotBus] = {}

    def everything(self) -> None:
        options = self.options
        cells = [
            Cell(workload, options.connections, self._size, rules=rules, entries=entries)
            for workload in options.workloads
            for rules in sorted(options.rules)
            for entries in options.entries
        ]
        self.take_turns(self._size, cells)
        self.results.tables = [self._curves(entries) for entries in options.entries if len(options.rules) > 1]

    def warm_up_cell(self, size: int) -> Cell:
        return Cell(self.options.workloads[0], self.options.connections, size, rules=1, entries=10)

    def measure(self, server: Running, cell: Cell, seconds: float) -> Round:
        at_least = 2 * cell.connections
        try:
            bus = self._bus(server, cell.workload)
            bus.grow(cell.rules, self.options.set_up_seconds)
            steps = bus.calls(cell.rules, cell.entries)
            drive(bus, [_calls(steps, [0])], SETTLE_S)  # who builds an index when it is asked has built it
            server.wire.use_queue(bus.queue_url)
            before = server.wire.count_messages()
            server.settle()
            cpu_s = server.cpu_s()
            scripts = [_calls(steps, itertools.count(7 * at)) for at in range(cell.connections)]
            sample = drive(bus, scripts, seconds, at_least, count_late=True)
            server.settle(SETTLE_S)  # who delivers after the answer pays for it too
            cpu_s = server.cpu_s() - cpu_s
            if not sample.errors:
                _check(server, cell.rules, before, sample)
            server.settle(SETTLE_S)
        except (OSError, http.client.HTTPException, Refused) as error:
            sample, cpu_s = Sample.failed(error), 0.0
        return Round.of(sample, cpu_s, at_least)

    def _bus(self, server: Running, kind: str) -> LotBus:
        key = (server.server.name, kind)
        if key not in self._buses:
            self._buses[key] = LotBus(server, kind)
        return self._buses[key]

    def _curves(self, entries: int) -> str:
        """Events a second over rules: one row for each server and kind, and how much the last column costs."""
        rules = sorted(self.options.rules)
        rows = []
        for workload in self.options.workloads:
            for name, about in self.results.about.items():
                found = [self._rounds(name, workload, count, entries) for count in rules]
                rates = [middle(r.messages_per_s for r in rounds) for rounds in found]
                row = [f"{about}, {workload}", *map(number, rates), number(rates[0] / rates[-1], 2)]
                rows.append([*row, number(self._flatness(name, workload, entries), 2)])
        head = ["events/s over rules", *(f"{count:,}" for count in rules), "first / last", "by CPU"]
        return f"{entries} event{'' if entries == 1 else 's'} a call\n{table(head, rows)}"

    def _rounds(self, name: str, workload: str, rules: int, entries: int) -> list[Round]:
        cell = Cell(workload, self.options.connections, self._size, rules=rules, entries=entries)
        return self.results.cells.get(cell, {}).get(name, [])

    def _flatness(self, name: str, workload: str, entries: int) -> float:
        """How many times the processor time an event costs with the most rules that it costs with the fewest."""
        ends = (max(self.options.rules), min(self.options.rules))
        most, fewest = (
            middle(r.message_cpu_us for r in self._rounds(name, workload, count, entries)) for count in ends
        )
        return most / fewest

    def verdicts(self) -> list[tuple[str, bool]]:
        found = []
        few, most = min(self.options.rules), max(self.options.rules)
        for workload, entries in itertools.product(self.options.workloads, self.options.entries):
            flat = self._flatness("sidebus", workload, entries)
            if few < most and not math.isnan(flat):
                what = f"{workload}, {entries} a call: an event costs {flat:.2f} times as much with {most:,} rules"
                found.append((f"{what} as with {few:,} (at most {PROMISED_FLATNESS})", flat <= PROMISED_FLATNESS))
        for cell, by in self.results.cells.items():
            ours = by.get("sidebus", [])
            peers = {name: ratio(ours, r, cell.rate) for name, r in by.items() if not name.startswith("sidebus")}
            faster = {name: r for name, r in peers.items() if not math.isnan(r)}
            if faster:
                name = min(faster, key=faster.__getitem__)
                what = f"{cell.workload}, {cell.rules:,} rules, {cell.entries} a call: {faster[name]:.2f} times as fast"
                found.append((f"{what} as the fastest of its peers, {name} (more than 1)", faster[name] > 1))
        return found


def _calls(steps: list[Step], numbers: Iterable[int]) -> Script:
    for n in numbers:
        yield steps[n % len(steps)]


def _check(server: Running, rules: int, before: int, sample: Sample) -> None:
    """The queue at hand has as many more messages as events were put, and gives out events that were put."""
    expected, until = before + sample.sent, time.monotonic() + SETTLE_S
    while (held := server.wire.count_messages()) < expected and time.monotonic() < until:
        time.sleep(0.1)
    if held != expected:
        sample.errors[f"{held:,} messages in the queue where {expected:,} should be"] += 1
    bodies = server.wire.receive_bodies()
    if not bodies or not all(_is_put(json.loads(body), rules) for body in bodies):
        sample.errors["the queue gave out what was not put"] += 1


def _is_put(event: dict[str, Any], rules: int) -> bool:
    """In this round or, with fewer rules, in one before."""
    number = matching.number(event["detail"])
    whole = event["detail"] == matching.lot(number) and number < rules
    return whole and (event["source"], event["detail-type"]) == (SOURCE, DETAIL_TYPE)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = run.parser("bench.events", __doc__, SERVERS, WORKLOADS)
    add = parser.add_argument
    add("--rules", type=run.numbers, metavar="N,M", help="default 1,10,100,1000,10000")
    add("--entries", type=run.numbers, default=[1, 10], metavar="N,M", help="events of a call (default 1,10)")
    add("--connections", type=int, default=16, metavar="N", help="who puts (default 16)")
    add("--set-up-seconds", type=float, metavar="S", help="give up making rules after (default 60)")
    add("--protocol", choices=list(PROTOCOLS), default="json", help="for the queue: json (default) or query")
    return run.read_options(
        parser,
        arguments,
        workloads=(list(WORKLOADS), ["exact", "wildcard"]),
        rules=([1, 10, 100, 1_000, 10_000], [1, 100, 10_000]),
        set_up_seconds=(60.0, 20.0),
        rounds=(3, 3),
        seconds=(1.0, 0.7),
        warmup=(10.0, 2.0),
    )


def main(arguments: list[str] | None = None) -> int:
    return run.run(Benchmark, _options(arguments))


if __name__ == "__main__":
    sys.exit(main())
