"""kill -9 while somebody publishes to fifty queues: each publish is in all fifty or in none, acknowledged in all."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

QUEUES, KILLS = 50, 100


@pytest.mark.slow
def test_a_publish_is_in_all_queues_or_in_none(
    start_sidebus: Callable[..., Any], connect: Callable[..., Any], tmp_path: Path, account: str
) -> None:
    data = tmp_path / "data"
    acknowledged: set[str] = set()
    topic = ""
    chance = random.Random(1)
    for kill in range(KILLS):
        server = start_sidebus("--data", data)
        sns = connect(server, "sns")
        if not topic:
            sqs = connect(server)
            topic = sns.create_topic(Name="t")["TopicArn"]
            for n in range(QUEUES):
                sqs.create_queue(QueueName=f"q{n}")
                sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{account}:q{n}")

        def publish(sns: Any = sns, topic: str = topic) -> None:
            with contextlib.suppress(BotoCoreError, ClientError):
                while True:
                    acknowledged.add(sns.publish(TopicArn=topic, Message="x")["MessageId"])

        publisher = threading.Thread(target=publish)
        publisher.start()
        time.sleep(chance.uniform(0.01, 0.15))
        server.stop(signal.SIGKILL)
        publisher.join()
        with contextlib.closing(sqlite3.connect(data / "sidebus.db")) as database:
            found = dict(database.execute("SELECT json_extract(body, '$.MessageId'), count(*) FROM message GROUP BY 1"))
        assert set(found.values()) <= {QUEUES}, f"after kill {kill}"
        assert acknowledged <= found.keys(), f"after kill {kill}"
    assert len(acknowledged) > KILLS
