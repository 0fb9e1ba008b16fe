"""`python -m patterns.demo batch_consumer`: a pattern at work against AWS_ENDPOINT_URL, told line by line.

It makes a queue of its own and deletes it in the end. Without AWS_ENDPOINT_URL it refuses to start: it would be AWS.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Happening, Message
from patterns.retry import Fixed

LIMIT_S = 60


def say(text: str, start_s: float) -> None:
    print(f"{anyio.current_time() - start_s:6.2f} s  {text}", flush=True)


async def batch_consumer(sqs: Any) -> None:
    """Three groups of a FIFO queue: one in peace, one with a hiccup, one with a poison message in the middle."""
    start_s = anyio.current_time()
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    try:
        bodies = [f"{order} {step}" for step in ("paid", "packed", "sent") for order in ("tea", "cake", "soup")]
        for body in bodies:
            order, step = body.split()
            sqs.send_message(
                QueueUrl=url, MessageBody=body, MessageGroupId=order, MessageDeduplicationId=f"{order}-{step}"
            )
        say(f"sent {len(bodies)} messages in 3 groups; 2 handlers", start_s)
        left = len(bodies)

        async def handle(message: Message) -> None:
            await anyio.sleep(0.3)
            if message.body == "cake packed" and message.receive_count == 1:
                raise RuntimeError("the oven was busy")
            if message.body == "soup packed":
                raise ValueError("soup does not fit in a box")

        async def quarantine(message: Message, error: Exception) -> None:
            say(f"{message.body}: put aside after {message.receive_count} attempts: {error!r}", start_s)

        def on_event(happening: Happening, message: Message, error: Exception | None) -> None:
            nonlocal left
            say(f"{message.body}: {happening.value}{'' if error is None else f' ({error})'}", start_s)
            if happening in (Happening.DELETED, Happening.QUARANTINED):
                left -= 1
                if left == 0:
                    say("nothing is left: stop", start_s)
                    consumer.stop()

        policy = ConsumerPolicy(concurrency=2, handler_timeout_s=5, wait_s=1, backoff=Fixed(1), max_receives=3)
        consumer = BatchConsumer(Boto3Sqs(sqs, url), handle, policy, quarantine=quarantine, on_event=on_event)
        with anyio.fail_after(LIMIT_S):
            await consumer.run()
    finally:
        sqs.delete_queue(QueueUrl=url)


DEMOS: dict[str, Callable[[Any], Awaitable[None]]] = {"batch_consumer": batch_consumer}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in DEMOS:
        print(f"usage: python -m patterns.demo {'|'.join(DEMOS)}", file=sys.stderr)
        return 2
    if not os.environ.get("AWS_ENDPOINT_URL"):
        print("Set AWS_ENDPOINT_URL, for example to http://127.0.0.1:4566 after `sidebus serve`.", file=sys.stderr)
        return 2
    try:
        import boto3  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        print("The demos talk through boto3: pip install boto3", file=sys.stderr)
        return 2
    options = {"region_name": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        options |= {"aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
    anyio.run(DEMOS[arguments[0]], boto3.client("sqs", **options))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
