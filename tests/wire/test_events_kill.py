"""kill -9 during PutEvents to a rule with five targets and an archive: each event is in all six or in none."""

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

TARGETS, KILLS = 5, 100
ENTRY = {"Source": "s", "DetailType": "d", "Detail": "{}"}


@pytest.mark.slow
def test_an_event_is_with_all_targets_or_with_none(
    start_sidebus: Callable[..., Any], connect: Callable[..., Any], tmp_path: Path, account: str
) -> None:
    data = tmp_path / "data"
    acknowledged: set[str] = set()
    chance = random.Random(1)
    for kill in range(KILLS):
        server = start_sidebus("--data", data)
        events = connect(server, "events")
        if not kill:
            sqs = connect(server)
            for n in range(TARGETS):
                sqs.create_queue(QueueName=f"q{n}")
            events.put_rule(Name="r", EventPattern='{"source": ["s"]}')
            queues = [f"arn:aws:sqs:us-east-1:{account}:q{n}" for n in range(TARGETS)]
            events.put_targets(Rule="r", Targets=[{"Id": queue[-2:], "Arn": queue} for queue in queues])
            bus = f"arn:aws:events:us-east-1:{account}:event-bus/default"
            events.create_archive(ArchiveName="a", EventSourceArn=bus)

        def put(events: Any = events) -> None:
            with contextlib.suppress(BotoCoreError, ClientError):
                while True:
                    answer = events.put_events(Entries=[ENTRY] * 3)
                    acknowledged.update(entry["EventId"] for entry in answer["Entries"])

        publisher = threading.Thread(target=put)
        publisher.start()
        time.sleep(chance.uniform(0.01, 0.15))
        server.stop(signal.SIGKILL)
        publisher.join()
        with contextlib.closing(sqlite3.connect(data / "sidebus.db")) as database:
            found = dict(database.execute("SELECT json_extract(body, '$.id'), count(*) FROM message GROUP BY 1"))
            archived = {id for (id,) in database.execute("SELECT json_extract(event, '$.id') FROM archived_event")}
        assert set(found.values()) <= {TARGETS}, f"after kill {kill}"
        assert acknowledged <= found.keys() == archived, f"after kill {kill}"
    assert len(acknowledged) > KILLS
