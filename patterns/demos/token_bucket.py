"""Twenty messages at once, at five at first and ten a second from then on."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.demos import say
from patterns.threads import InThreads
from patterns.token_bucket import RateLimiter


async def run(client: Callable[[str], Any]) -> None:
    sqs = InThreads(client("sqs"))
    url = (await sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}"))["QueueUrl"]
    limiter = RateLimiter(rate_per_s=10, burst=5)

    async def send(number: int) -> None:
        await limiter.acquire()
        await sqs.send_message(QueueUrl=url, MessageBody=str(number))
        say(f"message {number} is sent")

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(send, number)
    finally:
        await sqs.delete_queue(QueueUrl=url)
