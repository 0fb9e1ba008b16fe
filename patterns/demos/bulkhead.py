"""Ten want to do something slow at once: three may, four wait for their turn, three are refused at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.bulkhead import Bulkhead, BulkheadFull
from patterns.demos import say
from patterns.threads import InThreads


async def run(client: Callable[[str], Any]) -> None:
    sqs = InThreads(client("sqs"))
    url = (await sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}"))["QueueUrl"]
    bulkhead = Bulkhead(limit=3, max_waiting=4)

    async def poll(number: int) -> None:
        try:
            async with bulkhead.place():
                say(f"{number} is in")
                await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
            say(f"{number} is done")
        except BulkheadFull:
            say(f"{number} is refused")

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(poll, number)
    finally:
        await sqs.delete_queue(QueueUrl=url)
