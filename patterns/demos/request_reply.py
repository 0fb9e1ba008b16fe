"""One question with its answer, one to three shops of which one is closed, and two queues read as one sequence."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from patterns.batch_consumer import AioSqs, BatchConsumer, Boto3Sqs, ConsumerPolicy, Message
from patterns.demos import say
from patterns.request_reply import OrderedFanIn, Requester, RequestFailed, Responder
from patterns.threads import InThreads

LIMIT_S = 60


def shop(name: str, price: float | None, takes_s: float) -> Callable[[Message], Awaitable[str]]:
    async def quote(message: Message) -> str:
        await anyio.sleep(takes_s)
        if price is None:
            raise RequestFailed(f"no {message.body} today")
        return f"{message.body} for {price:.2f}"

    return quote


async def run(client: Callable[[str], Any]) -> None:
    sqs, name, urls = client("sqs"), f"demo-{uuid.uuid4()}", dict[str, str]()
    try:
        for shop_name in ("quick", "slow", "sold-out", "closed"):
            urls[shop_name] = sqs.create_queue(QueueName=f"{name}-{shop_name}")["QueueUrl"]
        with anyio.fail_after(LIMIT_S):
            await _ask(sqs, urls)
        fifos = {end: f"{name}-{end}.fifo" for end in ("odd", "even")}
        for end, queue in fifos.items():
            urls[end] = sqs.create_queue(QueueName=queue, Attributes={"FifoQueue": "true"})["QueueUrl"]
        with anyio.fail_after(LIMIT_S):
            await _merge(sqs, {end: urls[end] for end in fifos})
    finally:
        for url in urls.values():
            sqs.delete_queue(QueueUrl=url)


async def _ask(sqs: Any, urls: dict[str, str]) -> None:
    threads = InThreads(sqs)
    quotes = {"quick": shop("quick", 3.5, 0), "slow": shop("slow", 2.9, 0.7), "sold-out": shop("sold-out", None, 0)}
    consumers = [
        BatchConsumer(Boto3Sqs(sqs, urls[name]), Responder(threads, quote, name=name), ConsumerPolicy(wait_s=1))
        for name, quote in quotes.items()
    ]
    async with anyio.create_task_group() as tasks:
        for consumer in consumers:
            tasks.start_soon(consumer.run)
        async with Requester(threads, name="demo-", wait_s=1) as requester:
            say(f"answers come to {requester.queue_url.rpartition('/')[2]}")
            say(f"quick says: {await requester.request(urls['quick'], 'cake')}")
            say("all are asked, for 2 s at most")
            gathered = await requester.gather(list(urls.values()), "cake", timeout_s=2)
            for answer in gathered.answers.values():
                say(f"{answer.responder} says: {answer.body}")
            for name, failure in gathered.failures.items():
                say(f"{name} cannot: {failure}")
            silent = urls.keys() - gathered.answers.keys() - gathered.failures.keys()
            say(f"{', '.join(silent)} said nothing")
        for consumer in consumers:
            consumer.stop()


async def _merge(sqs: Any, urls: dict[str, str]) -> None:
    numbers = [1, 3, 4, 5, 6, 8, 9]
    for number in numbers:
        url = urls["odd" if number % 2 else "even"]
        sqs.send_message(
            QueueUrl=url, MessageBody=str(number), MessageGroupId="numbers", MessageDeduplicationId=str(number)
        )
    read = list[str]()

    async def handle(message: Message) -> None:
        read.append(message.body)
        if len(read) == len(numbers):
            fan_in.stop()

    sources = {name: AioSqs(InThreads(sqs), url) for name, url in urls.items()}
    fan_in = OrderedFanIn(sources, lambda message: int(message.body), handle, idle_s=1)
    await fan_in.run()
    say(f"two queues as one: {' '.join(read)}")
