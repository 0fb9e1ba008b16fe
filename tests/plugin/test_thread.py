"""A broker in a thread: it starts, or says why not; it can be called; it ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from broker.errors import BrokerFailure
from protocols.testing.sidebus import account_for, isolated
from protocols.testing.thread import BrokerThread


def test_it_ends_with_the_block_though_somebody_waits() -> None:
    with BrokerThread() as broker, isolated(broker, "a test", seed=1) as sidebus:
        sqs = sidebus.client("sqs", config=Config(retries={"total_max_attempts": 1}))
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        answers: list[object] = []
        waits = threading.Thread(
            target=lambda: answers.append(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages"))
        )
        waits.start()
        while not broker.call(lambda engine: any(queue.waiters for queue in engine.queues.flow.queues.values())):
            pass
    waits.join(5)
    assert answers == [None]
    assert not any(thread.name == "sidebus" for thread in threading.enumerate())


def test_what_is_wrong_at_the_start_is_raised_by_it(tmp_path: Path) -> None:
    with BrokerThread(tmp_path), pytest.raises(BrokerFailure, match="in use by another sidebus"):
        BrokerThread(tmp_path).start()


def test_a_call_gives_what_it_gives() -> None:
    with BrokerThread(limits="aws") as broker:
        assert broker.call(lambda engine: engine.limits.name) == "aws"
        with pytest.raises(ZeroDivisionError):
            broker.call(lambda _: 1 // 0)


def test_inside_a_running_event_loop() -> None:
    async def main() -> None:
        with BrokerThread() as broker, isolated(broker, "a test", seed=1):
            assert "QueueUrls" not in await asyncio.to_thread(boto3.client("sqs").list_queues)

    asyncio.run(main())


def test_accounts() -> None:
    accounts = {account_for(str(n)) for n in range(1000)}
    assert len(accounts) == 1000
    assert {len(account) for account in accounts} == {12}
    assert account_for("a test") == account_for("a test")
