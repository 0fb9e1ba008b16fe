"""A queue that is not there yet: asked for again and again, later each time and never at the same moment as others."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.demos import say
from patterns.retry import FullJitter, RetryBudget, RetryPolicy, retry
from patterns.threads import InThreads


async def run(client: Callable[[str], Any]) -> None:
    sqs = InThreads(client("sqs"))
    name = f"demo-{uuid.uuid4()}"
    budget = RetryBudget()

    async def find() -> str:
        try:
            answer = await sqs.get_queue_url(QueueName=name)
        except Exception as error:
            say(type(error).__name__)
            raise
        return str(answer["QueueUrl"])

    async def somebody_makes_it() -> None:
        await anyio.sleep(1.5)
        await sqs.create_queue(QueueName=name)
        say("somebody has made the queue")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(somebody_makes_it)
        url = await retry(find, RetryPolicy(FullJitter(0.2, 2.0), attempts=20, deadline_s=30.0), budget=budget)
    say("found")
    await sqs.delete_queue(QueueUrl=url)
