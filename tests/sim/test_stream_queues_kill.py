"""kill -9 while a queue on a stream is put into, received from and acknowledged: nothing is lost, nothing comes again.

What an answer said holds after the kill: a record put is delivered, one acknowledged is not, and no receive count is
lower than one that was told. What was under way when it was killed may have happened or not.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

KILLS = 100


class Account:
    """What was answered."""

    def __init__(self) -> None:
        self.put: set[bytes] = set()
        self.asked: set[bytes] = set()  # acknowledged, but perhaps unanswered
        self.acknowledged: set[bytes] = set()
        self.counts: dict[bytes, int] = {}
        self.serial = 0
        self.wrong: list[str] = []

    def produce(self, kinesis: Any) -> None:
        with contextlib.suppress(BotoCoreError, ClientError):
            while True:
                texts = [b"%d" % (self.serial + number) for number in range(5)]
                self.serial += 5
                records = [{"Data": text, "PartitionKey": text.decode()} for text in texts]
                kinesis.put_records(StreamName="s", Records=records)
                self.put.update(texts)

    def consume(self, kinesis: Any, queue: str) -> None:
        with contextlib.suppress(BotoCoreError, ClientError):
            while True:
                self.handle(kinesis, queue, every=2)

    def handle(self, kinesis: Any, queue: str, every: int) -> int:
        """Receives some and acknowledges one of so many; how many were received."""
        given = {"QueueARN": queue, "WaitTimeSeconds": 1, "VisibilityTimeoutSeconds": 0}
        records = kinesis.receive_queue_records(**given)["QueueRecords"]
        for record in records:
            text = record["Data"]
            if text in self.acknowledged:
                self.wrong.append(f"{text!r} came again")
            if record["ReceiveCount"] <= self.counts.get(text, 0):
                self.wrong.append(f"{text!r} had been received more often")
            self.counts[text] = record["ReceiveCount"]
        chosen = records[::every]
        if chosen:
            self.asked.update(record["Data"] for record in chosen)
            entries = [{"ReceiptHandle": record["ReceiptHandle"]} for record in chosen]
            assert not kinesis.acknowledge_queue_records(QueueARN=queue, Entries=entries)["Failed"]
            self.acknowledged.update(record["Data"] for record in chosen)
        return len(records)


@pytest.fixture
def running() -> Iterator[Callable[..., threading.Thread]]:
    threads: list[threading.Thread] = []

    def run(*arguments: Any) -> threading.Thread:
        threads.append(threading.Thread(target=arguments[0], args=arguments[1:]))
        threads[-1].start()
        return threads[-1]

    yield run
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_what_a_queue_on_a_stream_said_holds_after_a_kill(
    start_sidebus: Callable[..., Any],
    connect: Callable[..., Any],
    running: Callable[..., threading.Thread],
    tmp_path: Path,
) -> None:
    account, chance, queue = Account(), random.Random(1), ""
    for _ in range(KILLS):
        server = start_sidebus("--data", tmp_path / "data")
        kinesis = connect(server, "kinesis")
        if not queue:
            kinesis.create_stream(StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
            stream = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
            made = kinesis.create_queue(
                QueueName="q",
                StreamConfigurationList=[{"StreamARN": stream}],
                QueueAttributes={"DeadLetterConfiguration": {"TargetType": "NONE"}},
            )
            queue = made["QueueDescription"]["QueueARN"]
        workers = [
            running(account.produce, connect(server, "kinesis")),
            running(account.consume, connect(server, "kinesis"), queue),
        ]
        time.sleep(chance.uniform(0.01, 0.15))
        server.stop(signal.SIGKILL)
        for worker in workers:
            worker.join()
        assert not account.wrong
    server = start_sidebus("--data", tmp_path / "data")
    kinesis = connect(server, "kinesis")
    while account.handle(kinesis, queue, every=1):
        pass
    assert not account.wrong
    assert account.put <= account.asked, "all that was put was received"
    assert len(account.acknowledged) > KILLS
