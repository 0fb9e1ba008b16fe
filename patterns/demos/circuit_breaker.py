"""A dependency gone for two seconds: after three failures it is left alone, then a probe finds it well again."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.circuit_breaker import CircuitBreaker, CircuitOpen, CircuitPolicy
from patterns.demos import say
from patterns.threads import InThreads


async def run(client: Callable[[str], Any]) -> None:
    sqs = InThreads(client("sqs"))
    name = f"demo-{uuid.uuid4()}"
    breaker = CircuitBreaker(CircuitPolicy(failures=3, window=5, open_s=0.8))

    async def find() -> str:
        return str((await sqs.get_queue_url(QueueName=name))["QueueUrl"])

    url = None
    for turn in range(30):
        if turn == 20:
            await sqs.create_queue(QueueName=name)
            say("the queue is there now")
        try:
            url = await breaker.call(find)
            outcome = "it answers"
        except CircuitOpen as refused:
            outcome = f"open: not called, for {refused.retry_after_s:.1f} s more"
        except Exception as error:
            outcome = f"called, and failed: {type(error).__name__}"
        say(outcome)
        await anyio.sleep(0.1)
    if url is not None:
        await sqs.delete_queue(QueueUrl=url)
