"""Sidebus beside its peers on Kinesis: records in, records out, ten enhanced fan-out consumers, put to push.

Each round has a stream of its own. After puts the stream must hold exactly the records that were put, shard by shard;
a reader must find all there are, and each consumer must be pushed every record. Where a request is long, as here, a
round lasts until its last answer.

examples:
  python -m bench.kinesis --quick                          a few minutes
  python -m bench.kinesis --only sidebus --workloads put-records,get-records --protocol cbor
  python -m bench.kinesis --workloads retained --retained 10000000 --only sidebus-normal,sidebus-full
  python -m bench.kinesis --json run.json                  everything: half an hour
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from bench import run
from bench.load import Sample, Script, drive
from bench.push import Pushes, Unsubscribed
from bench.report import MIB, Cell, Round, middle, number, percentile, ratio, remarks, table
from bench.servers import DidNotStart, Running
from bench.streams import PROTOCOLS, Stream
from bench.wire import GET_ITERATOR, GET_RECORDS, KINDS, PUSH, PUT_RECORD, Refused, Step

SERVERS = ("sidebus", "sidebus-normal", "sidebus-full", "kinesis-local", "kinesalite", "ministack", "moto")
WORKLOADS = {
    "put-records": "PutRecords of 500",
    "put-record": "PutRecord",
    "get-records": "GetRecords of up to 10,000, from the first record to the last and again",
    "fan-out": "ten consumers from TRIM_HORIZON, until each has been pushed all records",
    "live": "ten consumers from LATEST while PutRecords of 500 go on",
    "push": "put to push: PutRecord, one at a time, pushed to ten consumers",
    "retained": "retained: PutRecord, an iterator to any time, GetRecords of 100, while many records are retained",
}
CONNECTIONS = {"put-records": 4, "put-record": 16, "get-records": 4, "fan-out": 0, "live": 2, "push": 1}
CONSUMERS = 10
PUT_ENTRIES, GET_LIMIT = 500, 10_000
BATCHES, KEYS = 8, 256  # different requests
WARM_UP = "put-records"
FEW_RETAINED = 10_000
SETTLE_S = 20.0
FILL_SECONDS = 10.0  # for what is read in a round: who is slower reads less
READ_SECONDS = 60.0
PROMISED = {  # records a second
    ("put-records", "sidebus"): 100_000,
    ("put-records", "sidebus-full"): 50_000,
    ("get-records", "sidebus"): 200_000,
    ("fan-out", "sidebus"): 200_000,
}
PROMISED_PUSH_MS = 2.0


class Benchmark(run.Comparison):
    protocols = PROTOCOLS

    def __init__(self, options: argparse.Namespace, data_root: Path) -> None:
        super().__init__(options, WORKLOADS, data_root)
        self._names = (f"bench-{number}" for number in itertools.count(1))
        self._filled: dict[tuple[str, int], tuple[float, int]] = {}  # (server, records) -> put a second, RSS

    def everything(self) -> None:
        workloads = self.options.workloads
        cells = [self._cell(workload) for workload in workloads if workload != "retained"]
        if cells:
            self.take_turns(self.options.body, cells)
        if "retained" in workloads:
            for name in list(self.results.about):
                self._retained(name)
            self.results.tables.append(self._retained_table())

    def warm_up_cell(self, size: int) -> Cell:
        return self._cell(WARM_UP)

    def _cell(self, workload: str) -> Cell:
        records = self.options.records if workload in ("get-records", "fan-out") else 0
        shards = 1 if workload == "push" else self.options.shards
        connections = CONNECTIONS[workload] or CONSUMERS * shards
        return Cell(workload, connections, self.options.body, shards=shards, records=records)

    def measure(self, server: Running, cell: Cell, seconds: float) -> Round:
        stream = PROTOCOLS[self.options.protocol](server.port, cell.size)
        try:
            stream.create(next(self._names), cell.shards)
            found = _MEASURE[cell.workload](server, stream, cell, seconds)
            stream.drop()
            server.settle(SETTLE_S)
        except Unsubscribed as error:
            with contextlib.suppress(OSError, http.client.HTTPException, Refused):
                stream.drop()
            raise run.NotServed(str(error)) from None
        except (OSError, http.client.HTTPException, Refused) as error:
            if cell.workload in ("fan-out", "live", "push") and isinstance(error, Refused):
                raise run.NotServed(str(error)) from None
            found = Round.of(Sample.failed(error), 0.0, 1)
        return found

    # many records retained

    def _retained(self, name: str) -> None:
        """Two instances of one server, with few and with many records, measured in turn."""
        size = self.options.retained_body
        with contextlib.ExitStack() as stack:
            ready: dict[int, tuple[Running, Stream, tuple[float, float]]] = {}
            for count in sorted({FEW_RETAINED, self.options.retained}):
                try:
                    server = stack.enter_context(self.running(name, size))
                    stream = PROTOCOLS[self.options.protocol](server.port, size)
                    stream.create("bench-retained", self.options.shards)
                    started = time.time()
                    filled = _fill(stream, count, self.options.fill_seconds, self._say_filled(name, count))
                    ended = time.time()
                    server.settle(30)
                except (DidNotStart, OSError, http.client.HTTPException, Refused) as error:
                    self.results.notes.append(f"{name}, {count:,} retained: {error}")
                    continue
                for what, times in filled.errors.items():
                    self.results.notes.append(f"{name}, filling with {count:,}: {times:,} × {what}")
                server.pause()
                if filled.sent < count:
                    limit_s = self.options.fill_seconds
                    reason = f"it took {filled.sent:,} in {limit_s:.0f} s"
                    self.results.notes.append(f"{name}: not measured with {count:,} retained, {reason}")
                    continue
                self._filled[name, count] = (filled.sent / filled.seconds, server.memory()["rss"])
                ready[count] = (server, stream, (started, ended))
            for turn in range(self.options.rounds):
                for count, (server, stream, span) in ready.items():
                    self.progress.say(f"{name}, {count:,} retained, round {turn + 1}")
                    cell = self._retained_cell(count)
                    server.resume()
                    found = _measure_retained(server, stream, span, cell, self.options.seconds)
                    server.pause()
                    self.results.cells.setdefault(cell, {}).setdefault(name, []).append(found)

    def _say_filled(self, name: str, count: int) -> Callable[[Sample], None]:
        started = time.monotonic()

        def say(sample: Sample) -> None:
            rate = sample.sent / (time.monotonic() - started)
            done = 20 * sample.sent // count
            bar = "█" * done + "·" * (20 - done)
            self.progress.say(f"filling {name} {bar} {sample.sent:,} of {count:,}, {rate:,.0f} a second")

        return say

    def _retained_cell(self, count: int) -> Cell:
        return Cell("retained", 1, self.options.retained_body, shards=self.options.shards, records=count)

    def _retained_table(self) -> str:
        few, many = self._retained_cell(FEW_RETAINED), self._retained_cell(self.options.retained)
        kinds = [KINDS[kind] for kind in (PUT_RECORD, GET_ITERATOR, GET_RECORDS)]
        head = ["server, median ms", "records", *(text for kind in kinds for text in (kind, "× few"))]
        head += ["put a second", "RSS MiB", "errors"]
        rows = []
        for name, about in self.results.about.items():
            base = self.results.cells.get(few, {}).get(name, [])
            for cell in (few, many):
                rounds = self.results.cells.get(cell, {}).get(name, [])
                if not rounds:
                    continue
                row = [about, f"{cell.records:,}"]
                for kind in kinds:
                    p50 = _p50_ms(rounds, kind)
                    row += [number(p50, 3), number(p50 / _p50_ms(base, kind), 2)]
                rate, rss = self._filled[name, cell.records]
                rows.append([*row, number(rate), number(rss / MIB), str(sum(sum(r.errors.values()) for r in rounds))])
        errors = [line for cell in (few, many) for line in remarks(self.results.cells.get(cell, {}))]
        return "\n".join([WORKLOADS["retained"], table(head, rows), *errors])

    # promises

    def verdicts(self) -> list[tuple[str, bool]]:
        found = []
        for cell, by in self.results.cells.items():
            for name, rounds in by.items():
                rate = middle(r.messages_per_s for r in rounds)
                promised = PROMISED.get((cell.workload, name))
                if promised and not math.isnan(rate):
                    a_core = 1e6 / middle(r.message_cpu_us for r in rounds)
                    sentence = f"{cell.workload}, {name}: {rate:,.0f} records a second (at least {promised:,}; "
                    found.append((f"{sentence}{a_core:,.0f} in a second of processor time)", rate >= promised))
                if cell.workload == "push" and name == "sidebus" and rounds:
                    p50 = middle(r.p50_ms for r in rounds)
                    sentence = f"push: {p50:.2f} ms from put to push at the median (under {PROMISED_PUSH_MS:g})"
                    found.append((sentence, p50 < PROMISED_PUSH_MS))
            ours = by.get("sidebus", [])
            peers = {name: ratio(ours, r, cell.rate) for name, r in by.items() if not name.startswith("sidebus")}
            faster = {name: r for name, r in peers.items() if not math.isnan(r)}
            if faster and cell.workload != "retained":
                name = min(faster, key=faster.__getitem__)
                sentence = f"{cell.workload}: {faster[name]:.2f} times as fast as the fastest of its peers, {name}"
                found.append((f"{sentence} (more than 1)", faster[name] > 1))
        return found


# one round of each workload


def _put(server: Running, stream: Stream, cell: Cell, seconds: float) -> Round:
    steps = [stream.put_record(f"key-{n}") for n in range(KEYS)] if cell.workload == "put-record" else _batches(stream)
    sample, cpu_s = _drive(server, stream, [_puts(steps, at) for at in range(cell.connections)], seconds)
    if not sample.errors:
        _expect(sum(_read_all(stream)), sample.sent, sample)
    return Round.of(sample, cpu_s, 2 * cell.connections)


def _get(server: Running, stream: Stream, cell: Cell, seconds: float) -> Round:
    filled = _fill(stream, cell.records, FILL_SECONDS)
    held = _read_all(stream)
    misread = Counter[str]()

    def script(shard: int) -> Script:
        start = stream.iterator(stream.shards[shard])
        while True:
            iterator, read, more = start, 0, True
            while more and read < held[shard]:
                page = yield stream.get_records(iterator, GET_LIMIT)
                read += len(page)
                more = bool(page)
                iterator = page[0] if page else b""
            if read != held[shard]:
                misread[f"{read:,} records read of {held[shard]:,}"] += 1

    if not sum(held):
        raise Refused(f"nothing to read of {filled.sent:,} records put {dict(filled.errors) or ''}")
    shards = [n for n in range(len(held)) if held[n]]
    scripts = [script(shards[n % len(shards)]) for n in range(cell.connections)]
    sample, cpu_s = _drive(server, stream, scripts, seconds)
    sample.errors += misread + filled.errors
    _expect(sum(held), filled.sent, sample)
    return Round.of(sample, cpu_s, cell.connections)


def _fan_out(server: Running, stream: Stream, cell: Cell, seconds: float) -> Round:
    filled = _fill(stream, cell.records, FILL_SECONDS)
    consumers = [stream.register(f"consumer-{n}") for n in range(CONSUMERS)]
    server.settle()
    sample, cpu_s, started = Sample(errors=filled.errors), server.cpu_s(), time.perf_counter()
    with _subscribed(stream, consumers, "TRIM_HORIZON") as pushes:
        pushes.await_records(filled.sent * CONSUMERS, sample)
        sample.seconds = sample.wall_s = time.perf_counter() - started  # they are pushed from the first answer on
    return _pushed(sample, server.cpu_s() - cpu_s, pushes, filled.sent)


def _live(server: Running, stream: Stream, cell: Cell, seconds: float) -> Round:
    consumers = [stream.register(f"consumer-{n}") for n in range(CONSUMERS)]
    steps = _batches(stream)
    with _subscribed(stream, consumers, "LATEST") as pushes:
        server.settle()
        sample, cpu_s = Sample(), server.cpu_s()
        pushes.put_and_await(itertools.cycle(steps), cell.connections, seconds, sample)
        cpu_s = server.cpu_s() - cpu_s
    return _pushed(sample, cpu_s, pushes, sample.sent)


def _push(server: Running, stream: Stream, cell: Cell, seconds: float) -> Round:
    consumers = [stream.register(f"consumer-{n}") for n in range(CONSUMERS)]
    steps = [stream.put_record(f"key-{n}") for n in range(KEYS)]
    with _subscribed(stream, consumers, "LATEST") as pushes:
        server.settle()
        sample, cpu_s = Sample(), server.cpu_s()
        pushes.ping(itertools.cycle(steps), seconds, sample)
        cpu_s = server.cpu_s() - cpu_s
    return _pushed(sample, cpu_s, pushes, sample.sent)


_MEASURE = {"put-records": _put, "put-record": _put, "get-records": _get} | {
    "fan-out": _fan_out,
    "live": _live,
    "push": _push,
}


def _measure_retained(server: Running, stream: Stream, span: tuple[float, float], cell: Cell, seconds: float) -> Round:
    rng = Random(cell.records)
    puts = itertools.cycle([stream.put_record(f"key-{n}") for n in range(KEYS)])
    empty = Counter[str]()

    def script() -> Script:
        while True:
            yield next(puts)
            found = yield stream.get_iterator(rng.choice(stream.shards), rng.uniform(*span))
            if found:
                page = yield stream.get_records(found[0], 100)
                if not page:
                    empty["no records at a time at which there are some"] += 1

    try:
        server.settle()
        cpu_s = server.cpu_s()
        sample = drive(stream, [script() for _ in range(cell.connections)], seconds, 6)
        cpu_s = server.cpu_s() - cpu_s
        sample.errors += empty
    except (OSError, http.client.HTTPException, Refused) as error:
        sample, cpu_s = Sample.failed(error), 0.0
    return Round.of(sample, cpu_s, 6)


def _drive(server: Running, stream: Stream, scripts: list[Script], seconds: float) -> tuple[Sample, float]:
    server.settle()
    cpu_s = server.cpu_s()
    sample = drive(stream, scripts, seconds, 2 * len(scripts), count_late=True)
    return sample, server.cpu_s() - cpu_s


def _batches(stream: Stream) -> list[Step]:
    return [stream.put_records([f"key-{batch}-{n}" for n in range(PUT_ENTRIES)]) for batch in range(BATCHES)]


def _puts(steps: list[Step], at: int) -> Script:
    for n in itertools.count(at):
        yield steps[n % len(steps)]


def _fill(stream: Stream, records: int, limit_s: float, progress: Callable[[Sample], None] | None = None) -> Sample:
    """Put so many (in five hundreds), or what can be put within the limit."""
    steps, left = _batches(stream), iter(range(records // PUT_ENTRIES))

    def script() -> Script:
        for n in left:
            yield steps[n % len(steps)]

    return drive(stream, [script() for _ in range(4)], limit_s, progress=progress, count_late=True)


def _read_all(stream: Stream) -> list[int]:
    """How many records each shard holds: what a reader finds who goes from the first to an empty page."""
    held = [0] * len(stream.shards)

    def script(shard: int) -> Script:
        iterator = stream.iterator(stream.shards[shard])
        while page := (yield stream.get_records(iterator, GET_LIMIT)):
            held[shard] += len(page)
            iterator = page[0]

    sample = drive(stream, [script(shard) for shard in range(len(held))], READ_SECONDS)
    for what in sample.errors:
        raise Refused(f"reading what was put: {what}")
    return held


@contextlib.contextmanager
def _subscribed(stream: Stream, consumers: list[str], position: str) -> Iterator[Pushes]:
    pushes = Pushes(stream)
    try:
        for consumer in consumers:
            for shard in stream.shards:
                pushes.subscribe(consumer, shard, position)
        pushes.wait_for_answers()
        yield pushes
    finally:
        pushes.close()


def _pushed(sample: Sample, cpu_s: float, pushes: Pushes, records: int) -> Round:
    """A round in which every record must reach every consumer; its requests are the messages with records."""
    if pushes.fell_silent or pushes.records > records * CONSUMERS:
        _expect(pushes.records, records * CONSUMERS, sample)
    latencies = sorted(sample.latencies[PUSH])
    per_s = 1 / (sample.seconds or math.nan)
    return replace(
        Round.of(sample, cpu_s, 0),
        requests=pushes.events,
        requests_per_s=pushes.events * per_s,
        messages_per_s=pushes.records * per_s,
        message_cpu_us=1e6 * cpu_s / (pushes.records or math.nan),
        whole=pushes.records == records * CONSUMERS,
        p50_ms=percentile(latencies, 0.50) * 1e3,
        p99_ms=percentile(latencies, 0.99) * 1e3,
    )


def _expect(found: int, expected: int, sample: Sample) -> None:
    if found != expected:
        sample.errors[f"{found:,} records where {expected:,} should be"] += 1


def _p50_ms(rounds: list[Round], kind: str) -> float:
    return middle(r.by_kind.get(kind, {}).get("p50_ms", math.nan) for r in rounds)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = run.parser("bench.kinesis", __doc__, SERVERS, WORKLOADS)
    add = parser.add_argument
    add("--shards", type=int, default=4, metavar="N", help="of each stream (default 4; one for push)")
    add("--body", type=int, default=1024, metavar="N", help="bytes of a record (default 1024)")
    add("--records", type=int, metavar="N", help="in the stream to read from (default 40,000)")
    add("--retained", type=int, metavar="N", help="records to retain, beside 10,000 (default 200,000)")
    add("--retained-body", type=int, default=100, metavar="N", help="bytes of such a record (default 100)")
    add("--fill-seconds", type=float, default=60, metavar="S", help="give up filling a stream after (default 60)")
    add("--protocol", choices=list(PROTOCOLS), default="json", help="json (default) or cbor; subscriptions are json")
    return run.read_options(
        parser,
        arguments,
        workloads=(list(WORKLOADS), ["put-records", "get-records", "fan-out", "push"]),
        records=(40_000, 20_000),
        retained=(200_000, 50_000),
        rounds=(3, 2),
        seconds=(2.0, 1.0),
        warmup=(10.0, 3.0),
    )


def main(arguments: list[str] | None = None) -> int:
    return run.run(Benchmark, _options(arguments))


if __name__ == "__main__":
    sys.exit(main())
