"""Three groups of a FIFO queue: one in peace, one with a hiccup, one with a poison message in the middle."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Happening, Message
from patterns.demos import say
from patterns.retry import Fixed

LIMIT_S = 60


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    try:
        bodies = [f"{order} {step}" for step in ("paid", "packed", "sent") for order in ("tea", "cake", "soup")]
        for body in bodies:
            order, step = body.split()
            sqs.send_message(
                QueueUrl=url, MessageBody=body, MessageGroupId=order, MessageDeduplicationId=f"{order}-{step}"
            )
        say(f"sent {len(bodies)} messages in 3 groups; 2 handlers")
        left = len(bodies)

        async def handle(message: Message) -> None:
            await anyio.sleep(0.3)
            if message.body == "cake packed" and message.receive_count == 1:
                raise RuntimeError("the oven was busy")
            if message.body == "soup packed":
                raise ValueError("soup does not fit in a box")

        async def quarantine(message: Message, error: Exception) -> None:
            say(f"{message.body}: put aside after {message.receive_count} attempts: {error!r}")

        def on_event(happening: Happening, message: Message, error: Exception | None) -> None:
            nonlocal left
            say(f"{message.body}: {happening.value}{'' if error is None else f' ({error})'}")
            if happening in (Happening.DELETED, Happening.QUARANTINED):
                left -= 1
                if left == 0:
                    say("nothing is left: stop")
                    consumer.stop()

        policy = ConsumerPolicy(concurrency=2, handler_timeout_s=5, wait_s=1, backoff=Fixed(1), max_receives=3)
        consumer = BatchConsumer(Boto3Sqs(sqs, url), handle, policy, quarantine=quarantine, on_event=on_event)
        with anyio.fail_after(LIMIT_S):
            await consumer.run()
    finally:
        sqs.delete_queue(QueueUrl=url)
