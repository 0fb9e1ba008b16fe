"""Twenty consumers that wait for a message each, and a hundred messages, in aioboto3. A program, not a test."""

import asyncio
import contextlib
import re

import aioboto3
import aiobotocore
from aiobotocore.config import AioConfig

assert tuple(map(int, re.findall(r"\d+", aiobotocore.__version__)[:2])) >= (2, 20), aiobotocore.__version__


async def main():
    # A connection for each that waits, and some: the others must not stand in line behind them.
    async with aioboto3.Session().client("sqs", config=AioConfig(max_pool_connections=30)) as sqs:
        assert sqs.meta.service_model.protocol == "json"
        url = (await sqs.create_queue(QueueName="q"))["QueueUrl"]
        received = []

        async def consume():
            while len(received) < 100:
                answer = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=3)
                for message in answer.get("Messages", []):
                    received.append(message["Body"])
                    await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

        async def produce():
            for start in range(0, 100, 10):
                entries = [{"Id": str(n), "MessageBody": str(start + n)} for n in range(10)]
                assert len((await sqs.send_message_batch(QueueUrl=url, Entries=entries))["Successful"]) == 10

        consumers = [asyncio.create_task(consume()) for _ in range(20)]
        await produce()
        await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
        for consumer in consumers:
            consumer.cancel()  # those who still wait: their connections close, and nobody is handed a message
        await asyncio.wait(consumers)
        assert sorted(map(int, received)) == list(range(100))

        pages = [page async for page in sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1})]
        assert [page.get("QueueUrls") for page in pages] == [[url]]
        with contextlib.suppress(sqs.exceptions.QueueDoesNotExist):
            await sqs.get_queue_url(QueueName="none")
            raise AssertionError("a queue that is not there was found")
    async with aioboto3.Session().resource("sqs") as resource:
        queue = await resource.get_queue_by_name(QueueName="q")
        await queue.send_message(MessageBody="by resource")
        (message,) = await queue.receive_messages()
        assert await message.body == "by resource"
        await message.delete()


asyncio.run(asyncio.wait_for(main(), 60))
