"""Sidebus beside its peers on SNS: one Publish to 1, 10, 100 queues, as it is or enveloped, with and without filters.

Each server gets one core and the load generator another; servers take turns in short rounds, and ratios are taken
within a round. Each round has a topic and queues of its own. After it each queue must hold exactly as many messages as
were published to it, the queues whose filter does not match none, and what is received must be what was published.

examples:
  python -m bench.sns --quick                          a few minutes, 100 queues only
  python -m bench.sns --only sidebus,sidebus-full --workloads raw
  python -m bench.sns --json run.json                  everything: a quarter of an hour
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import sys
from itertools import count
from pathlib import Path

from bench import run
from bench.load import Sample, Script, drive
from bench.report import Cell, Round, middle, ratio
from bench.servers import Running
from bench.wire import PROTOCOLS, Attributes, Refused, Step, Topic

SERVERS = ("sidebus", "sidebus-normal", "sidebus-full", "fauxqs", "ministack", "moto")
WORKLOADS = {
    "raw": "publish, raw delivery",
    "enveloped": "publish, delivery in SNS's envelope",
    "matching": "publish, raw delivery, each subscription with a filter policy that matches",
    "selective": "publish, raw delivery, filter policies of which one in ten matches",
}
ATTRIBUTES: Attributes = {"kind": "order.placed", "region": "3"}  # of each message, filtered or not
PROMISED_DELIVERIES_PER_S = 15_000
SETTLE_S = 20.0


class Benchmark(run.Comparison):
    def __init__(self, options: argparse.Namespace, data_root: Path) -> None:
        super().__init__(options, WORKLOADS, data_root)
        self._names = (f"bench-{number}" for number in count(1))

    def everything(self) -> None:
        options = self.options
        cells = []
        for workload in options.workloads:
            filtered = workload in ("matching", "selective")
            for queues in options.queues[-1:] if filtered else options.queues:
                cells.append(_cell(workload, options.connections, options.body, queues))
        self.take_turns(options.body, [cell for cell in cells if cell.deliveries])

    def warm_up_cell(self, size: int) -> Cell:
        return _cell("enveloped", self.options.connections, size, 10)

    def measure(self, server: Running, cell: Cell, seconds: float) -> Round:
        at_least = 2 * cell.connections
        try:
            name = next(self._names)
            topic = Topic(server.port, cell.size, name)
            queues = [self._subscribe(server, cell, topic, f"{name}-{number}", number) for number in range(cell.queues)]
            server.settle()
            cpu_s = server.cpu_s()
            publish = topic.publish(ATTRIBUTES)
            sample = drive(topic, [_again(publish) for _ in range(cell.connections)], seconds, at_least)
            server.settle(SETTLE_S)  # who delivers after the answer pays for it too
            cpu_s = server.cpu_s() - cpu_s
            for number, url in enumerate(queues):
                server.wire.use_queue(url)
                if not sample.errors:
                    self._check(server, cell, topic, number, sample)
                server.wire.delete_queue()
            topic.delete_topic()
            server.settle(SETTLE_S)
        except (OSError, http.client.HTTPException, Refused) as error:
            sample, cpu_s = Sample.failed(error), 0.0
        return Round.of(sample, cpu_s, at_least, cell.deliveries)

    def _subscribe(self, server: Running, cell: Cell, topic: Topic, name: str, number: int) -> str:
        """A new queue on the topic; its URL."""
        server.wire.use_queue(server.wire.create_queue(name, {}))
        attributes = {} if cell.workload == "enveloped" else {"RawMessageDelivery": "true"}
        if cell.workload == "matching":
            attributes["FilterPolicy"] = json.dumps({"kind": ["order.placed", "order.paid"]})
        elif cell.workload == "selective":
            attributes["FilterPolicy"] = json.dumps({"region": [str(number % 10)]})
        topic.subscribe(server.wire.queue_attributes()["QueueArn"], attributes)
        return server.wire.queue_url

    def _check(self, server: Running, cell: Cell, topic: Topic, number: int, sample: Sample) -> None:
        """The queue at hand holds every message published, or none if its filter does not match."""
        expected = sample.sent if _matches(cell.workload, number) else 0
        held = server.wire.count_messages()
        if held != expected:
            sample.errors[f"{held:,} messages in a queue where {expected:,} should be"] += 1
        bodies = server.wire.receive_bodies()
        if bool(bodies) != bool(expected) or not all(_is_published(cell.workload, topic, body) for body in bodies):
            sample.errors["a queue gave out what was not published"] += 1

    def verdicts(self) -> list[tuple[str, bool]]:
        found = []
        for cell, by in self.results.cells.items():
            what = f"{cell.workload}, {cell.queues} queue{'' if cell.queues == 1 else 's'}"
            rounds = by.get("sidebus-full", [])
            rate = middle(r.messages_per_s for r in rounds)
            if cell.deliveries >= 100 and not math.isnan(rate):
                on_a_core = 1e6 * cell.deliveries / middle(r.cpu_us for r in rounds)
                sentence = (
                    f"{what}: {rate:,.0f} deliveries a second with an fsync before each answer "
                    f"(at least {PROMISED_DELIVERIES_PER_S:,}; {on_a_core:,.0f} in a second of processor time)"
                )
                found.append((sentence, rate >= PROMISED_DELIVERIES_PER_S))
            ours = by.get("sidebus", [])
            peers = {name: ratio(ours, r) for name, r in by.items() if not name.startswith("sidebus")}
            faster = {name: r for name, r in peers.items() if not math.isnan(r)}
            if faster:
                name = min(faster, key=faster.__getitem__)
                sentence = f"{what}: {faster[name]:.2f} times as fast as the fastest of its peers, {name} (more than 1)"
                found.append((sentence, faster[name] > 1))
        return found


def _cell(workload: str, connections: int, size: int, queues: int) -> Cell:
    deliveries = sum(_matches(workload, number) for number in range(queues))
    return Cell(workload, connections, size, queues=queues, deliveries=deliveries)


def _matches(workload: str, number: int) -> bool:
    return workload != "selective" or str(number % 10) == ATTRIBUTES["region"]


def _again(publish: Step) -> Script:
    while True:
        yield publish


def _is_published(workload: str, topic: Topic, body: str) -> bool:
    if workload != "enveloped":
        return body == topic.body
    envelope = json.loads(body)
    attributes = {name: value["Value"] for name, value in envelope["MessageAttributes"].items()}
    return (envelope["Message"], envelope["TopicArn"], attributes) == (topic.body, topic.arn, ATTRIBUTES)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = run.parser("bench.sns", __doc__, SERVERS, WORKLOADS)
    add = parser.add_argument
    add("--queues", type=run.numbers, metavar="N,M", help="default 1,10,100; with filter policies only the last")
    add("--connections", type=int, default=16, metavar="N", help="publishers (default 16)")
    add("--body", type=int, default=1024, metavar="N", help="bytes of a message (default 1024)")
    add("--protocol", choices=list(PROTOCOLS), default="json", help="for the queues: json (default) or query")
    return run.read_options(
        parser,
        arguments,
        workloads=(list(WORKLOADS), list(WORKLOADS)),
        queues=([1, 10, 100], [100]),
        rounds=(3, 2),
        seconds=(1.0, 0.7),
        warmup=(10.0, 2.0),
    )


def main(arguments: list[str] | None = None) -> int:
    return run.run(Benchmark, _options(arguments))


if __name__ == "__main__":
    sys.exit(main())
