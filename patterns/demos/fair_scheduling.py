"""Three tenants with a queue each: one floods, one pays for more, one has a slow job; and who is noisy is told."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio

from patterns.batch_consumer import Boto3Sqs, Message
from patterns.demos import say
from patterns.fair_scheduling import FairConsumer, FairPolicy, Usage

COUNTS = {"flood": 400, "gold": 60, "small": 15}
WEIGHTS = {"gold": 3.0}
WORK_S = 0.05
LIMIT_S = 60


async def run(client: Callable[[str], Any]) -> None:
    sqs, name = client("sqs"), uuid.uuid4()
    urls = {tenant: sqs.create_queue(QueueName=f"demo-{name}-{tenant}")["QueueUrl"] for tenant in COUNTS}
    try:
        for tenant, count in COUNTS.items():
            for first in range(0, count, 10):
                entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(first, min(first + 10, count))]
                sqs.send_message_batch(QueueUrl=urls[tenant], Entries=entries)
        say(f"sent {COUNTS}; gold has the weight 3, the others 1; 5 handlers")
        done: Counter[str] = Counter()

        async def handle(tenant: str, message: Message) -> None:
            await anyio.sleep(4.0 if message.body.startswith("slow") else WORK_S)
            done[tenant] += 1
            if done[tenant] == COUNTS[tenant]:
                say(f"{tenant} has all its {COUNTS[tenant]}; {dict(done)} till now")

        def on_noisy(tenant: str, usage: Usage) -> None:
            share = f"{usage.work_share:.0%} of the work, {usage.fair_share:.0%} would be fair"
            say(f"{tenant} {'is noisy' if usage.is_noisy else 'is not noisy any more'}: {share}")

        policy = FairPolicy(concurrency=5, prefetch=10, wait_s=1, weights=WEIGHTS, window_s=5.0, noisy_wait_s=1.5)
        clients = {tenant: Boto3Sqs(sqs, url) for tenant, url in urls.items()}
        consumer = FairConsumer(clients, handle, policy, on_noisy=on_noisy)
        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consumer.run)
                while done.total() < sum(COUNTS.values()):  # noqa: ASYNC110 a demo may look now and then
                    await anyio.sleep(0.1)
                say("a window later small sends 10 that take 4 s each, and the others go on as ever")
                await anyio.sleep(policy.window_s)
                for number in range(10):
                    sqs.send_message(QueueUrl=urls["small"], MessageBody=f"slow {number}")
                for _ in range(16):
                    for tenant in ("flood", "gold"):
                        sqs.send_message(QueueUrl=urls[tenant], MessageBody="again")
                    await anyio.sleep(0.5)
                for tenant, usage in consumer.usage().items():
                    say(f"{tenant}: {usage.work_s:.1f} s of work and {usage.wait_s:.1f} s of waiting in the last 5 s")
                consumer.stop()
    finally:
        for url in urls.values():
            sqs.delete_queue(QueueUrl=url)
