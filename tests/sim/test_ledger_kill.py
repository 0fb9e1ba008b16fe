"""The ledger of a broker that is killed again and again says what its queue holds: no entry without what it tells of,
and nothing without its entry."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

from sidecar import Client, Refused, Sidecar, seed_of_this_run

from protocols.testing.control import Control

KILLS, CLIENTS = 4, 4


class Told:
    """What a client was answered, across all kills."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.deleted: set[str] = set()
        self.received: dict[str, int] = {}  # the highest receive number

    def work(self, sidecar: Sidecar, url: str, chance: random.Random) -> None:
        try:
            with sidecar.client() as client:
                while True:
                    self.step(client, url, chance)
        except (OSError, AssertionError, Refused):
            pass  # killed

    def step(self, client: Client, url: str, chance: random.Random) -> None:
        if chance.random() < 0.5:
            entries = [{"Id": str(n), "MessageBody": "x" * 100} for n in range(5)]
            answer = client.call("SendMessageBatch", QueueUrl=url, Entries=entries)
            self.sent.update(done["MessageId"] for done in answer["Successful"])
            return
        asked: dict[str, Any] = {"AttributeNames": ["ApproximateReceiveCount"], "MaxNumberOfMessages": 5}
        messages = client.call("ReceiveMessage", QueueUrl=url, VisibilityTimeout=1, **asked).get("Messages", [])
        for message in messages:
            id, number = message["MessageId"], int(message["Attributes"]["ApproximateReceiveCount"])
            self.received[id] = max(number, self.received.get(id, 0))
            if chance.random() < 0.8:
                client.call("DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                self.deleted.add(id)


def test_the_ledger_tells_what_is_there_after_each_kill(tmp_path: Path) -> None:
    chance = random.Random(seed_of_this_run())
    told = [Told() for _ in range(CLIENTS)]
    for kill in range(KILLS + 1):
        options = ["--ledger"] if kill == 0 else []  # it stays on
        with Sidecar("--data", tmp_path / "data", *options, log=tmp_path / "log") as sidecar:
            sidecar.ready()
            with sidecar.client() as client, Control(sidecar.url) as control:
                url = client.queue("orders")
                check(client, control, url, told)
                if kill == KILLS:
                    return
                threads = [
                    threading.Thread(target=one.work, args=(sidecar, url, random.Random(chance.random())))
                    for one in told
                ]
                for thread in threads:
                    thread.start()
                time.sleep(0.3 + chance.random() * 0.4)
                sidecar.kill()
                for thread in threads:
                    thread.join()


def check(client: Client, control: Control, url: str, told: list[Told]) -> None:
    entries = list(control.ledger.entries(limit=1_000_000))
    ids = [entry["id"] for entry in entries]
    assert ids == list(range(1, len(ids) + 1))  # none is missing
    noted: dict[str, set[str]] = {"sent": set(), "acknowledged": set(), "delivered": set(), "stale": set()}
    numbers: dict[str, int] = {}
    for entry in entries:
        noted[entry["event"]].add(entry["message_id"])
        if entry["event"] == "delivered":
            numbers[entry["message_id"]] = entry["number"]
    for one in told:
        assert one.sent <= noted["sent"]
        assert one.deleted <= noted["acknowledged"] | noted["stale"]
        assert all(numbers[id] >= number for id, number in one.received.items())
    assert client.count(url) == len(noted["sent"]) - len(noted["acknowledged"])
    if entries:
        counts = control.ledger.verdict(queue="orders").counts
        assert (counts["sent"], counts["acknowledged"]) == (len(noted["sent"]), len(noted["acknowledged"]))
