"""Orders of which some cannot be read: quarantined with their error, grouped, edited, and sent on at two a second."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Happening, Message, Poison
from patterns.dead_letters import DeadLetters, Drop, Keep, Quarantine, Send, entry_of, error_of, group
from patterns.demos import say
from patterns.threads import InThreads

BODIES = ['{"price": 3}', '{"price": "4,50"}', '{"price": "12,00"}', "price 5", '{"price": "0,99"}', "{}"]
LIMIT_S = 60


class NoPrice(Exception):
    pass


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    name = f"demo-{uuid.uuid4()}"
    live, dead = (sqs.create_queue(QueueName=f"{name}-{end}")["QueueUrl"] for end in ("live", "dead"))
    try:
        for body in BODIES:
            sqs.send_message(QueueUrl=live, MessageBody=body)
        with anyio.fail_after(LIMIT_S):
            await _consume(sqs, live, dead, len(BODIES))
            await _redrive(sqs, live, dead)
    finally:
        for url in (live, dead):
            sqs.delete_queue(QueueUrl=url)


async def _consume(sqs: Any, live: str, dead: str, left: int) -> None:
    async def handle(message: Message) -> None:
        try:
            order = json.loads(message.body)
        except ValueError as error:
            raise Poison(f"not JSON: {message.body}") from error
        if "price" not in order:
            raise NoPrice(message.body)
        say(f"{message.body}: costs {float(order['price']):.2f}")

    def on_event(happening: Happening, message: Message, error: Exception | None) -> None:
        nonlocal left
        if happening in (Happening.DELETED, Happening.QUARANTINED):
            left -= 1
            if error is not None:
                say(f"{message.body}: {happening.value} with {error!r}")
            if left == 0:
                consumer.stop()

    consumer = BatchConsumer(
        Boto3Sqs(sqs, live),
        handle,
        ConsumerPolicy(wait_s=1, max_receives=1),
        quarantine=Quarantine(InThreads(sqs), dead),
        on_event=on_event,
    )
    await consumer.run()


async def _redrive(sqs: Any, live: str, dead: str) -> None:
    tool = DeadLetters(InThreads(sqs), dead)
    for error, alike in group(await tool.inspect()).items():
        say(f"{alike.count} died of {error}, for example {alike.example.body}")

    def decide(message: Message) -> Send | Keep | Drop:
        if error_of(message) == "ValueError":
            say(f"{message.body}: gets a point for its comma, and is sent on")
            return Send(live, entry_of(message, live, body=message.body.replace(",", "."), attributes={}))
        return Drop() if error_of(message) == "NoPrice" else Keep()

    say(f"redriven: {await tool.redrive(decide, rate_per_s=2)}")
    await _consume(sqs, live, dead, 3)
    for message in await tool.inspect():
        say(f"{message.body}: is still there")
