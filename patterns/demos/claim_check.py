"""A body of three mebibytes through a queue that takes one: it waits in a folder, and is gone in the end."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Message
from patterns.batch_producer import BatchProducer, SqsTarget
from patterns.claim_check import ClaimCheck, ClaimCheckPolicy, ClaimCheckSqs, FolderBlobs
from patterns.demos import say
from patterns.retry import Fixed
from patterns.threads import InThreads

LIMIT_S = 60


def count_files(folder: str) -> int:
    return sum(path.is_file() for path in Path(folder).rglob("*"))


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}")["QueueUrl"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            check = ClaimCheck(FolderBlobs(folder), ClaimCheckPolicy(bucket="bodies"))
            async with BatchProducer(SqsTarget(InThreads(sqs), url)) as producer:
                for body in ("small", "big " * 786_432):
                    entry = await check.leave({"MessageBody": body})
                    say(f"a body of {len(body)} bytes is sent as: {entry['MessageBody']}")
                    await producer.send(entry)
            handled: list[str] = []

            async def handle(message: Message) -> None:
                files = count_files(folder)
                say(f"received {len(message.body)} bytes: {message.body[:12]}; {files} files in the folder")
                if len(message.body) > 5 and message.receive_count == 1:
                    raise RuntimeError("not at the first time")
                handled.append(message.body)
                if len(handled) == 2:
                    consumer.stop()

            numbers = ConsumerPolicy(wait_s=1, backoff=Fixed(1))
            consumer = BatchConsumer(ClaimCheckSqs(Boto3Sqs(sqs, url), check), handle, numbers)
            with anyio.fail_after(LIMIT_S):
                await consumer.run()
            files = count_files(folder)
            say(f"both are deleted; {files} files in the folder")
    finally:
        sqs.delete_queue(QueueUrl=url)
