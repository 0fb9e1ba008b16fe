"""Orders of three versions in one queue: the reader knows two of them, and sees one kind. Needs `jsonschema`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Message
from patterns.batch_producer import BatchProducer, SqsTarget
from patterns.contracts import Contract, ContractViolation, Document
from patterns.demos import say
from patterns.threads import InThreads

LIMIT_S = 60
FIRST = {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
SECOND = {
    "type": "object",
    "properties": {"cents": {"type": "integer", "minimum": 0}},
    "required": ["cents"],
    "additionalProperties": False,
}


def in_cents(old: Document) -> Document:
    return {"cents": round(old["sum"] * 100)}


async def run(client: Callable[[str], Any]) -> None:
    orders = Contract("order", {1: FIRST, 2: SECOND}, {1: in_cents})
    for wrong in ({"cents": "5"}, {"cents": 5, "curency": "EUR"}):
        try:
            orders.write(wrong)
        except ContractViolation as error:
            say(f"not written: {error}")
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}")["QueueUrl"]
    bodies = ['{"sum": 2.5}', orders.write({"cents": 300}), '{"version": 3, "cents": 5, "tip": 1}', '{"cents": -1}']
    left = len(bodies)

    def one_less() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            consumer.stop()

    async def handle(order: Document, message: Message) -> None:
        say(f"{message.body} is read as {order}")
        one_less()

    async def quarantine(message: Message, error: Exception) -> None:
        say(f"{message.body} is put aside: {error}")
        one_less()

    try:
        async with BatchProducer(SqsTarget(InThreads(sqs), url)) as producer:
            for body in bodies:
                await producer.put({"MessageBody": body})
        policy = ConsumerPolicy(wait_s=1)
        consumer = BatchConsumer(Boto3Sqs(sqs, url), orders.handler(handle), policy, quarantine=quarantine)
        with anyio.fail_after(LIMIT_S):
            await consumer.run()
    finally:
        sqs.delete_queue(QueueUrl=url)
