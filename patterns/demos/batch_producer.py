"""Thirty messages of three groups: how few requests it takes, and that each group is in order though one is lost."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from patterns.batch_producer import BatchProducer, ProducerPolicy, SqsTarget
from patterns.demos import say
from patterns.threads import InThreads


class Counted:
    """The client, telling what it is asked. Its second request is sent, and its answer lost."""

    def __init__(self, client: InThreads) -> None:
        self._client = client
        self._requests = 0

    async def send_message_batch(self, **parameters: Any) -> Any:
        self._requests += 1
        number = self._requests
        say(f"request {number}: {', '.join(entry['MessageBody'] for entry in parameters['Entries'])}")
        answer = await self._client.send_message_batch(**parameters)
        if number == 2:
            say("request 2: its answer is lost, so it is sent again; SQS knows its MessageDeduplicationIds")
            raise ConnectionError("lost")
        return answer


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    try:
        policy = ProducerPolicy(linger_ms=20, of_a_lane=4, requests=1)
        async with BatchProducer(SqsTarget(Counted(InThreads(sqs)), url), policy) as producer:

            async def told(sent: Any) -> None:
                answer: Mapping[str, Any] = await sent.outcome()
                numbers.append(int(answer["SequenceNumber"]))

            numbers: list[int] = []
            async with anyio.create_task_group() as tasks:
                for step in range(10):
                    for order in ("tea", "cake", "soup"):
                        body = f"{order}-{step}"
                        entry = {"MessageBody": body, "MessageGroupId": order, "MessageDeduplicationId": body}
                        tasks.start_soon(told, await producer.put(entry))
        say(f"{len(numbers)} messages were answered")
        arrived: dict[str, list[str]] = {}
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                order, step = message["Body"].split("-")
                arrived.setdefault(order, []).append(step)
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        for order, steps in arrived.items():
            say(f"received of {order}: {' '.join(steps)}")
    finally:
        sqs.delete_queue(QueueUrl=url)
