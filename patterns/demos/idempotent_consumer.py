"""Payments sent twice, a consumer that dies right after a payment: each customer pays once."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Message
from patterns.demos import say
from patterns.idempotency_stores import SqliteRecords
from patterns.idempotent_consumer import IdempotencyPolicy, Idempotent, Recovered, by_path
from patterns.retry import Fixed

LIMIT_S = 60


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}")["QueueUrl"]
    paid: Counter[str] = Counter()
    dying = anyio.CancelScope()

    async def pay(message: Message) -> str:
        key = order_of(message)
        paid[key] += 1
        say(f"order {key} is paid")
        if key == "2" and paid[key] == 1:
            say("… and the consumer dies before it can write that down")
            dying.cancel()
        await anyio.sleep(0.05)
        return f"receipt of order {key}"

    async def was_it_paid(key: str) -> Recovered | None:
        say(f"order {key} was begun by somebody who died: {'it is paid' if paid[key] else 'it is not paid'}")
        return Recovered(f"receipt of order {key}") if paid[key] else None

    order_of = by_path("order")
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with aiosqlite.connect(Path(folder, "records")) as connection:
                records = SqliteRecords(connection)
                await records.create_table()
                policy = IdempotencyPolicy(handler_timeout_s=1, lease_s=2)
                idempotent = Idempotent(records, pay, order_of, policy, recover=was_it_paid)

                async def handle(message: Message) -> None:
                    count = paid.total()
                    receipt = await idempotent(message)
                    if paid.total() == count:
                        say(f"{receipt}: replayed")

                for order in (1, 2, 3):
                    for _ in range(2):
                        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"order": order}))
                say("sent 3 orders, each twice")
                numbers = ConsumerPolicy(concurrency=1, visibility_s=3, wait_s=1, backoff=Fixed(1), max_receives=20)
                with anyio.fail_after(LIMIT_S):
                    with dying:
                        await BatchConsumer(Boto3Sqs(sqs, url), handle, numbers).run()
                    say("another consumer takes over")
                    consumer = BatchConsumer(Boto3Sqs(sqs, url), handle, numbers)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(consumer.run)
                        while not _is_empty(sqs, url):  # noqa: ASYNC110 nobody could tell us
                            await anyio.sleep(0.5)
                        consumer.stop()
        say(f"paid: {', '.join(f'order {key} {times}x' for key, times in sorted(paid.items()))}")
    finally:
        sqs.delete_queue(QueueUrl=url)


def _is_empty(sqs: Any, url: str) -> bool:
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    names = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
    return all(attributes[name] == "0" for name in names)
