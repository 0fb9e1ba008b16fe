"""kill -9 during PutEvents: a call's events are with all five targets and in the archives, or nowhere; what was
acknowledged is there. And kill -9 during replays: in the end each event has come again once for each, in order.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from sidecar import seed_of_this_run

REGION = "us-east-1"
QUEUES = ["first", "second", "ordered.fifo", "subscribed", "mirrored"]
ARCHIVES = ["orders", "mirror"]
ENTRIES = 10

quick_and_slow = pytest.mark.parametrize(
    "kills", [pytest.param(2, id="quick"), pytest.param(100, id="slow", marks=pytest.mark.slow)]
)


class Aws:
    """Clients of one process, in one account."""

    def __init__(self, server: Any, connect: Callable[..., Any], account: str) -> None:
        self.account = account
        self.sqs = connect(server)
        self.sns = connect(server, "sns")
        self.events = connect(server, "events")

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{REGION}:{self.account}:{resource}"

    def rule(self, name: str, bus: str, pattern: dict[str, Any], *targets: dict[str, Any]) -> None:
        self.events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))
        named = [{"Id": str(n), **target} for n, target in enumerate(targets)]
        assert self.events.put_targets(Rule=name, EventBusName=bus, Targets=named)["FailedEntryCount"] == 0

    def set_up(self) -> None:
        """The bus `orders`: a rule with five targets, one of them the bus `mirror`; each bus has an archive."""
        fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        for name in QUEUES:
            self.sqs.create_queue(QueueName=name, Attributes=fifo if name.endswith(".fifo") else {})
        topic = self.sns.create_topic(Name="t")["TopicArn"]
        raw = {"RawMessageDelivery": "true"}
        subscribed = self.arn("sqs", "subscribed")
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=subscribed, Attributes=raw)
        for name in ARCHIVES:
            bus = self.events.create_event_bus(Name=name)["EventBusArn"]
            self.events.create_archive(ArchiveName=name, EventSourceArn=bus)
        live = {"source": ["shop"], "replay-name": [{"exists": False}]}
        self.rule(
            "five",
            "orders",
            live,
            {"Arn": self.arn("sqs", "first")},
            {"Arn": self.arn("sqs", "second")},
            {"Arn": self.arn("sqs", "ordered.fifo"), "SqsParameters": {"MessageGroupId": "g"}},
            {"Arn": topic},
            {"Arn": self.arn("events", "event-bus/mirror")},
        )
        self.rule("mirrored", "mirror", live, {"Arn": self.arn("sqs", "mirrored")})

    def put(self, call: int, size: int) -> list[str]:
        """One PutEvents; the ids of its events."""
        entry = {"EventBusName": "orders", "Source": "shop", "DetailType": "Placed"}
        entries = [{**entry, "Detail": json.dumps({"call": call, "size": size, "n": n})} for n in range(size)]
        return [outcome["EventId"] for outcome in self.events.put_events(Entries=entries)["Entries"]]


@contextlib.contextmanager
def database(data: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(data / "sidebus.db")) as connection:
        yield connection


def places(data: Path) -> dict[str, Counter[str]]:
    """For each event's id: in which queues and archives it is, and how often."""
    found: dict[str, Counter[str]] = {}
    with database(data) as connection:
        rows = connection.execute(
            "SELECT 'queue ' || name, body FROM message JOIN queue USING (shelf_no) "
            "UNION ALL SELECT 'archive ' || archive_no, event FROM archived_event"
        )
        for place, text in rows:
            found.setdefault(json.loads(text)["id"], Counter())[place] += 1
    return found


def calls(data: Path) -> dict[int, tuple[int, int]]:
    """For each call of PutEvents: how many of its events are there, and how many it had."""
    with database(data) as connection:
        rows = connection.execute(
            "SELECT json_extract(body, '$.detail.call'), count(*), max(json_extract(body, '$.detail.size')) "
            "FROM message JOIN queue USING (shelf_no) WHERE name = 'first' GROUP BY 1"
        )
        return {call: (count, size) for call, count, size in rows}


def totals(data: Path) -> tuple[list[Any], list[Any]]:
    """What the archives tell that they hold, and what they hold: by number, events and bytes."""
    with database(data) as connection:
        told = "SELECT archive_no, event_count, size_bytes FROM event_archive WHERE event_count ORDER BY 1"
        held = "SELECT archive_no, count(*), sum(length(CAST(event AS BLOB))) FROM archived_event GROUP BY 1 ORDER BY 1"
        return connection.execute(told).fetchall(), connection.execute(held).fetchall()


@quick_and_slow
def test_a_call_is_everywhere_or_nowhere(
    kills: int, start_sidebus: Callable[..., Any], connect: Callable[..., Any], tmp_path: Path, account: str
) -> None:
    data, chance = tmp_path / "data", random.Random(seed_of_this_run())
    acknowledged: set[str] = set()
    asked = iter(range(1 << 30))
    everywhere = len(QUEUES) + len(ARCHIVES)
    for kill in range(kills):
        server = start_sidebus("--data", data)
        aws = Aws(server, connect, account)
        if not kill:
            aws.set_up()

        def put(aws: Aws = aws, size: int = chance.randint(1, ENTRIES)) -> None:
            with contextlib.suppress(BotoCoreError, ClientError):
                while True:
                    acknowledged.update(aws.put(next(asked), size))

        clients = [threading.Thread(target=put) for _ in range(2)]
        for client in clients:
            client.start()
        time.sleep(chance.uniform(0.01, 0.2))
        server.stop(signal.SIGKILL)
        for client in clients:
            client.join()
        found = places(data)
        for id, where in found.items():
            assert (len(where), where.total()) == (everywhere, everywhere), f"{id} is in {where} after kill {kill}"
        assert acknowledged <= found.keys(), f"after kill {kill}"
        assert all(count == size for count, size in calls(data).values()), f"after kill {kill}"
        told, held = totals(data)
        assert told == held, f"after kill {kill}"
    assert len(acknowledged) > kills * ENTRIES


@quick_and_slow
def test_a_replay_gives_each_event_once(
    kills: int, start_sidebus: Callable[..., Any], connect: Callable[..., Any], tmp_path: Path, account: str
) -> None:
    data, chance = tmp_path / "data", random.Random(seed_of_this_run())
    count = 200 * kills
    server = start_sidebus("--data", data)
    aws = Aws(server, connect, account)
    aws.set_up()
    for call in range(count // ENTRIES):
        aws.put(call, ENTRIES)
    aws.sqs.create_queue(QueueName="again")
    aws.rule("again", "orders", {"replay-name": [{"exists": True}]}, {"Arn": aws.arn("sqs", "again")})
    for name in ("x", "y", "z"):
        aws.events.start_replay(
            ReplayName=name,
            EventSourceArn=aws.arn("events", "archive/orders"),
            EventStartTime=0,
            EventEndTime=time.time() + 3600,
            Destination={"Arn": aws.arn("events", "event-bus/orders")},
        )
    time.sleep(chance.uniform(0.0, 0.03))
    for _ in range(kills):
        server.stop(signal.SIGKILL)
        server = start_sidebus("--data", data)
        time.sleep(chance.uniform(0.95, 1.05))  # after a second it takes up its work again
    aws = Aws(server, connect, account)
    deadline_s = time.monotonic() + 60
    while any(replay["State"] != "COMPLETED" for replay in aws.events.list_replays()["Replays"]):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    server.stop()
    came: dict[str, list[int]] = {}
    with database(data) as connection:
        rows = connection.execute(
            "SELECT body FROM message JOIN queue USING (shelf_no) WHERE name = 'again' ORDER BY id"
        )
        for (text,) in rows:
            event = json.loads(text)
            came.setdefault(event["replay-name"], []).append(event["detail"]["call"] * ENTRIES + event["detail"]["n"])
    assert came == {name: list(range(count)) for name in ("x", "y", "z")}
