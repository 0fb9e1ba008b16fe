"""What a run found, as tables to read, as JSON, and as one SVG to look at.

Every ratio is taken within a round, between servers measured seconds apart, and the median over the rounds is shown:
what slows the whole machine for a while slows both sides of a ratio.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from bench.load import Sample
from bench.wire import KINDS, RECEIVE

MIB = 1 << 20
CEILINGS = ("constant", "sockets")  # what answers without doing anything
APART = ("backlog", "retained")  # each server against itself, in a table of its own


@dataclass(frozen=True)
class Cell:
    """One question put to every server."""

    workload: str
    connections: int
    size: int
    waiting: int = 0
    queues: int = 0  # subscribed to the topic
    deliveries: int = 0  # of each publish
    rules: int = 0  # of the bus
    entries: int = 0  # of each PutEvents
    shards: int = 0  # of the stream
    records: int = 0  # in the stream before the round

    def title(self, about: str) -> str:
        parts = [f"{self.workload}: {about}"]
        parts += [_many(n, noun) for n, noun in ((self.queues, "queue"), (self.rules, "rule")) if n]
        parts += [f"{_many(self.entries, 'event')} a call"] if self.entries else []
        parts += [_many(n, noun) for n, noun in ((self.records, "record"), (self.shards, "shard")) if n]
        parts += [f"{self.size:,} bytes", _many(self.connections, "connection")]
        return " · ".join(parts) + (f", {self.waiting:,} waiting" if self.waiting else "")

    @property
    def nouns(self) -> tuple[str, str, str] | None:
        """What requests are called, and what each of them is several of; None where the request is what counts."""
        if self.deliveries:
            return "publishes", "deliveries", "delivery"
        if self.rules:
            return "calls", "events", "event"
        return ("calls", "records", "record") if self.shards else None

    @property
    def rate(self) -> str:
        """The figure of a round that compares servers."""
        return "messages_per_s" if self.nouns else "requests_per_s"


@dataclass
class Round:
    """One server's answer to a cell, once. Rates per second, times in milliseconds, processor time in microseconds."""

    requests: int
    requests_per_s: float
    messages_per_s: float
    p50_ms: float
    p99_ms: float
    receive_p50_ms: float
    receive_p99_ms: float
    cpu_us: float  # of the server, for one request
    message_cpu_us: float  # for one message, delivery, event, record
    server_busy: float
    load_busy: float
    by_kind: dict[str, dict[str, float]]
    whole: bool  # every connection could go through its cycle
    errors: dict[str, int]

    @staticmethod
    def of(sample: Sample, server_cpu_s: float, at_least: int, deliveries: int = 0) -> Round:
        seconds, answers = sample.seconds or math.nan, sample.requests + sample.late
        messages = sample.requests * deliveries if deliveries else sample.deleted or sample.sent or sample.received
        counted = answers * deliveries if deliveries else messages
        everything = sorted(value for kind in sample.latencies for value in kind)
        receives = sorted(sample.latencies[RECEIVE])
        return Round(
            requests=sample.requests,
            requests_per_s=sample.requests / seconds,
            messages_per_s=messages / seconds,
            p50_ms=percentile(everything, 0.50) * 1e3,
            p99_ms=percentile(everything, 0.99) * 1e3,
            receive_p50_ms=percentile(receives, 0.50) * 1e3,
            receive_p99_ms=percentile(receives, 0.99) * 1e3,
            cpu_us=server_cpu_s / answers * 1e6 if answers else math.nan,
            message_cpu_us=server_cpu_s / counted * 1e6 if counted else math.nan,
            server_busy=server_cpu_s / (sample.wall_s or math.nan),
            load_busy=sample.load_busy,
            by_kind={
                KINDS[kind]: {
                    "count": len(values),
                    "p50_ms": percentile(sorted(values), 0.50) * 1e3,
                    "p99_ms": percentile(sorted(values), 0.99) * 1e3,
                }
                for kind, values in enumerate(sample.latencies)
                if values
            },
            whole=sample.requests >= at_least,
            errors=dict(sample.errors),
        )


@dataclass
class Results:
    """Everything a run found, keyed by server name in the order of measuring."""

    about: dict[str, str]
    workloads: dict[str, str]
    machine: dict[str, str]
    cells: dict[Cell, dict[str, list[Round]]] = field(default_factory=dict)
    start_s: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, dict[str, int]] = field(default_factory=dict)
    filled: dict[str, dict[int, dict[str, int]]] = field(default_factory=dict)  # waiting -> memory
    skipped: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)  # across cells, ready to print
    notes: list[str] = field(default_factory=list)
    verdicts: list[tuple[str, bool]] = field(default_factory=list)  # (a promise with the figure, kept)

    @property
    def reference(self) -> str:
        return next(iter(self.about))


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


def middle(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def ratio(these: list[Round], those: list[Round], figure: str = "requests_per_s") -> float:
    """The median over rounds of this server's figure divided by that one's in the same round."""
    pairs = [(getattr(a, figure), getattr(b, figure)) for a, b in zip(these, those, strict=False)]
    return middle(a / b for a, b in pairs if b)


def text(results: Results) -> str:
    parts = [_machine(results)]
    steady = {cell: found for cell, found in results.cells.items() if cell.workload not in APART}
    parts += [_cell(results, cell, found) for cell, found in steady.items() if any(found.values())]
    if len({cell.waiting for cell in results.cells if cell.workload == "backlog"}) > 1:
        parts.append(_backlog(results))
    if results.start_s or results.filled:
        parts.append(_footprint(results))
    parts += results.tables
    if results.verdicts:
        lines = [f"  {'yes' if good else 'NO ':4}{sentence}" for sentence, good in results.verdicts]
        parts.append("\n".join(["What Sidebus promises of itself", *lines]))
    lines = [f"  {name}: {reason}" for name, reason in results.skipped.items()]
    lines += [f"  {note}" for note in results.notes]
    if lines:
        parts.append("\n".join(["Notes", *lines]))
    return "\n\n".join(parts) + "\n"


def _machine(results: Results) -> str:
    return "\n".join(f"{key}: {value}" for key, value in results.machine.items())


def table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: list[str]) -> str:
        first, *rest = row
        return "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))])

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *(line(row).rstrip() for row in rows)])


def number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def _cell(results: Results, cell: Cell, found: dict[str, list[Round]]) -> str:
    reference = found.get(results.reference, [])
    requests, messages, costs = cell.nouns or ("req", "msg", "req")
    cpu = "message_cpu_us" if cell.nouns else "cpu_us"
    head = ["server", f"{requests}/s", "(min … max)", f"× {results.reference}", "by CPU", f"{messages}/s", "p50 ms"]
    head += ["p99 ms", f"CPU µs/{costs}", "server", "load", "errors"]
    rows = []
    for name, rounds in found.items():
        if not rounds:
            continue  # interrupted before its turn
        rates = [r.requests_per_s for r in rounds]
        rows.append(
            [
                results.about[name],
                number(middle(rates)) + ("" if all(r.whole for r in rounds) else " ~"),
                f"({number(min(rates))} … {number(max(rates))})",
                number(ratio(rounds, reference, cell.rate), 3),
                number(ratio(reference, rounds, cpu), 3),
                number(middle(r.messages_per_s for r in rounds)),
                number(middle(r.p50_ms for r in rounds), 2),
                number(middle(r.p99_ms for r in rounds), 2),
                number(middle(getattr(r, cpu) for r in rounds), 1),
                f"{middle(r.server_busy for r in rounds):.0%}",
                f"{middle(r.load_busy for r in rounds):.0%}",
                str(sum(sum(r.errors.values()) for r in rounds)),
            ]
        )
    lines = [cell.title(results.workloads[cell.workload]), table(head, rows), *remarks(found)]
    return "\n".join(lines)


def remarks(found: dict[str, list[Round]]) -> list[str]:
    """Errors, and figures that are not what they seem."""
    lines = []
    if any(not r.whole for rounds in found.values() for r in rounds):
        lines.append("  ~ too slow for the length of a round: not every connection came through its cycle")
    for name, rounds in found.items():
        if name not in CEILINGS and middle(r.load_busy for r in rounds) > 0.95:
            lines.append(f"  ! {name}: the load generator was at its limit, the server could do more")
    for name, rounds in found.items():
        total: dict[str, int] = {}
        for each in rounds:
            for what, count in each.errors.items():
                total[what] = total.get(what, 0) + count
        worst = sorted(total.items(), key=lambda item: -item[1])[:3]
        lines += [f"  ! {name}: {count:,} × {what}" for what, count in worst]
    return lines


def _backlog(results: Results) -> str:
    """Receive with N messages waiting, against the same server with none: each row is one server by itself."""
    cells = [cell for cell in results.cells if cell.workload == "backlog"]
    head = ["server", "waiting", "conns", "req/s", "× empty", "receive p50 ms", "× empty", "p99 ms", "errors"]
    rows = []
    for name in results.about:
        for cell in cells:
            rounds = results.cells[cell].get(name)
            if not rounds:
                continue
            empty = results.cells.get(Cell("backlog", cell.connections, cell.size), {}).get(name, [])
            rows.append(
                [
                    results.about[name],
                    f"{cell.waiting:,}",
                    str(cell.connections),
                    number(middle(r.requests_per_s for r in rounds)),
                    number(ratio(rounds, empty), 2),
                    number(middle(r.receive_p50_ms for r in rounds), 3),
                    number(ratio(rounds, empty, "receive_p50_ms"), 2),
                    number(middle(r.receive_p99_ms for r in rounds), 3),
                    str(sum(sum(r.errors.values()) for r in rounds)),
                ]
            )
    errors = [line for cell in cells for line in remarks(results.cells[cell])]
    title = f"{results.workloads['backlog']} · {cells[0].size:,} bytes"
    return "\n".join([title, table(head, rows), *errors])


def _footprint(results: Results) -> str:
    waiting = sorted({count for by in results.filled.values() for count in by})
    head = ["server", "first answer ms", "(min … max)", "idle RSS MiB", "idle PSS"]
    head += [f"RSS, {count:,} waiting" for count in waiting]
    rows = []
    for name, about in results.about.items():
        starts = [s * 1e3 for s in results.start_s.get(name, [])]
        idle = results.idle.get(name, {})
        if not starts and name not in results.filled:
            continue
        rows.append(
            [
                about,
                number(middle(starts)),
                f"({number(min(starts))} … {number(max(starts))})" if starts else "",
                number(idle.get("rss", math.nan) / MIB, 1),
                number(idle.get("pss", math.nan) / MIB, 1),
                *(number(results.filled.get(name, {}).get(count, {}).get("rss", math.nan) / MIB) for count in waiting),
            ]
        )
    if not results.start_s:  # only the backlog was measured
        head, *rows = [[row[0], *row[5:]] for row in (head, *rows)]
    return "\n".join(["start and memory", table(head, rows)])


def verdicts(results: Results) -> list[tuple[str, bool]]:
    """The project's own promises of SQS that this run could check: (sentence with the figure, kept)."""
    found: list[tuple[str, bool]] = []

    def say(sentence: str, value: float, good: bool) -> None:
        if not math.isnan(value):
            found.append((sentence, good))

    size = max((cell.size for cell in results.cells), default=0)
    for workload in ("mixed", "batch", "send", "drain"):
        at_64 = results.cells.get(Cell(workload, 64, size), {})
        memory = at_64.get("sidebus", [])
        peers = [name for name in at_64 if not name.startswith("sidebus") and name not in CEILINGS]
        faster = {name: r for name in peers if not math.isnan(r := ratio(memory, at_64[name]))}
        if faster:
            name = min(faster, key=faster.__getitem__)
            r = faster[name]
            say(f"{workload}: {r:.2f} times as fast as the fastest of its peers, {name} (more than 1)", r, r > 1)
        if workload == "mixed":
            r = ratio(memory, at_64.get("constant", []))
            say(f"{workload}: {r:.2f} of its own listener answering a constant (at least 0.4)", r, r >= 0.4)
            r = ratio(at_64.get("sidebus-full", []), memory)
            say(f"{workload}: with an fsync before each answer {r:.2f} of memory mode (at least 0.5)", r, r >= 0.5)
    for cell, by in results.cells.items():
        if cell.workload != "backlog" or cell.waiting < 1_000_000 or cell.connections != 1:
            continue
        for name in ("sidebus", "sidebus-normal", "sidebus-full"):
            empty = results.cells.get(Cell("backlog", cell.connections, cell.size), {}).get(name, [])
            r = ratio(by.get(name, []), empty, "receive_p50_ms")
            say(
                f"{name}: a receive at {cell.waiting:,} waiting takes {r:.2f} times one at none (at most 1.5)",
                r,
                r <= 1.5,
            )
    idle = results.idle.get("sidebus", {}).get("rss", math.nan) / MIB
    say(f"{idle:.0f} MiB of memory idle (at most 60)", idle, idle <= 60)
    for name in ("sidebus-normal", "sidebus-full"):
        full = results.filled.get(name, {}).get(1_000_000, {}).get("rss", math.nan) / MIB
        say(f"{name}: {full:.0f} MiB with 1,000,000 messages in the file (at most 200)", full, full <= 200)
    start = middle(results.start_s.get("sidebus", [])) * 1e3
    say(f"{start:.0f} ms from start to the first answer (under 300)", start, start < 300)
    return found


def write_json(results: Results, path: Path) -> None:
    cells = [
        {
            **asdict(cell),
            "servers": {
                name: {
                    "median_requests_per_s": middle(r.requests_per_s for r in rounds),
                    "ratio_to_reference": ratio(rounds, found.get(results.reference, []), cell.rate),
                    "rounds": [asdict(r) for r in rounds],
                }
                for name, rounds in found.items()
            },
        }
        for cell, found in results.cells.items()
    ]
    document = {
        "machine": results.machine,
        "reference": results.reference,
        "servers": results.about,
        "cells": cells,
        "start_s": results.start_s,
        "idle_bytes": results.idle,
        "filled_bytes": results.filled,
        "verdicts": [{"sentence": sentence, "kept": good} for sentence, good in results.verdicts],
        "skipped": results.skipped,
        "notes": results.notes,
    }
    path.write_text(json.dumps(_finite(document), indent=1, ensure_ascii=False) + "\n")


def _finite(value: object) -> object:
    """NaN is not JSON: it becomes null."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def write_svg(results: Results, path: Path) -> None:
    """Bars: requests, events, records a second in each cell; the median time of a receive with messages waiting."""
    panels = []
    for cell, found in results.cells.items():
        title = cell.title(results.workloads[cell.workload])
        reference = found.get(results.reference, [])
        unit, rate = cell.nouns[1] if cell.nouns else "req", cell.rate
        if cell.workload not in APART:
            bars = [
                (
                    name,
                    results.about[name],
                    value,
                    f"{number(value)} {unit}/s   × {number(ratio(rounds, reference, rate), 3)}",
                )
                for name, rounds in found.items()
                if not math.isnan(value := middle(getattr(r, rate) for r in rounds))
            ]
            panels.append((title, bars))
    alone = [cell for cell in results.cells if cell.workload == "backlog" and cell.connections == 1]
    bars = [
        (name, f"{about}, {cell.waiting:,}", value, f"{number(value, 3)} ms")
        for name, about in results.about.items()
        for cell in alone
        if not math.isnan(value := middle(r.receive_p50_ms for r in results.cells[cell].get(name, [])))
    ]
    panels.append(("a receive of ten with so many messages waiting, median, one connection", bars))
    path.write_text(_drawn([panel for panel in panels if panel[1]]))


def _drawn(panels: list[tuple[str, list[tuple[str, str, float, str]]]]) -> str:
    """Panels of (title, [(server, label, value, what to write at the bar)]); each is drawn to its longest bar."""
    width, label, longest, y = 900, 270, 430, 10
    body = []
    for title, bars in panels:
        body.append(f'<text x="10" y="{y + 16}" font-weight="bold">{escape(title)}</text>')
        y += 30
        most = max(value for _, _, value, _ in bars)
        for name, about, value, says in bars:
            colour = "#0b6e99" if name.startswith("sidebus") else "#999999" if name in CEILINGS else "#c4572e"
            length = max(1.0, longest * value / most)
            body += [
                f'<text x="{label - 8}" y="{y + 14}" text-anchor="end">{escape(about)}</text>',
                f'<rect x="{label}" y="{y + 2}" width="{length:.1f}" height="15" fill="{colour}"/>',
                f'<text x="{label + length + 6:.1f}" y="{y + 14}">{escape(says)}</text>',
            ]
            y += 20
        y += 12
    size = f'viewBox="0 0 {width} {y}" width="{width}" height="{y}"'
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>'
    return "\n".join([head, f'<rect width="{width}" height="{y}" fill="white"/>', *body, "</svg>"]) + "\n"
