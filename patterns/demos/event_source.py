"""A function behind a FIFO queue that reports what failed; then behind a stream with one bad record, bisected away."""

from __future__ import annotations

import base64
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.batch_consumer import Boto3Sqs
from patterns.demos import say
from patterns.event_source import Function, SourceHappening, record_by_record
from patterns.queue_event_source import SqsEventSource, SqsSourcePolicy
from patterns.stream_batches import KinesisSourcePolicy
from patterns.stream_documents import SqsDestination
from patterns.stream_event_source import KinesisEventSource
from patterns.threads import InThreads

LIMIT_S = 60
ORDERS = ["tea paid", "cake paid", "tea packed", "cake packed", "tea sent", "cake sent"]


async def run(client: Callable[[str], Any]) -> None:
    logging.getLogger("patterns").setLevel(logging.ERROR)
    sqs, kinesis, name = client("sqs"), client("kinesis"), f"demo-{uuid.uuid4()}"
    queue = sqs.create_queue(QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    failures = sqs.create_queue(QueueName=f"{name}-failures")["QueueUrl"]
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=name)
    try:
        with anyio.fail_after(LIMIT_S):
            await _queue(sqs, queue)
            await _stream(kinesis, name, sqs, failures)
    finally:
        kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
        for url in (queue, failures):
            sqs.delete_queue(QueueUrl=url)


async def _queue(sqs: Any, url: str) -> None:
    for body in ORDERS:
        group = body.split()[0]
        sqs.send_message(
            QueueUrl=url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=body.replace(" ", "-")
        )
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    left = len(ORDERS)

    def handle(record: Any) -> None:
        say(f"the function does: {record['body']}, received {record['attributes']['ApproximateReceiveCount']} times")
        if record["body"] == "cake packed" and record["attributes"]["ApproximateReceiveCount"] == "1":
            raise RuntimeError("no box")

    def on_event(happening: SourceHappening, identifiers: Any, error: Exception | None) -> None:
        nonlocal left
        say(f"{len(identifiers)} {happening.value}{'' if error is None else f' ({error})'}")
        if happening is SourceHappening.SUCCEEDED:
            left -= len(identifiers)
            if left == 0:
                source.stop()

    policy = SqsSourcePolicy(report_batch_item_failures=True, visibility_s=2, wait_s=1)
    function = Function(record_by_record(handle), timeout_s=1)
    source = SqsEventSource(Boto3Sqs(sqs, url), arn, function, policy, on_event=on_event)
    await source.run()


async def _stream(kinesis: Any, name: str, sqs: Any, failures: str) -> None:
    for number in range(8):
        data = b"broken" if number == 5 else str(number).encode()
        kinesis.put_record(StreamName=name, PartitionKey="orders", Data=data)
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]

    async def handler(event: Any, context: Any) -> None:
        bodies = [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
        say(f"the function is given {', '.join(bodies)}")
        total = sum(map(int, bodies))
        say(f"… and adds up to {total}")
        if bodies[-1] == "7":
            source.stop()

    policy = KinesisSourcePolicy.of(
        {"StartingPosition": "TRIM_HORIZON", "BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 1}
    )
    source = KinesisEventSource(
        InThreads(kinesis), arn, Function(handler), policy, on_failure=SqsDestination(InThreads(sqs), failures)
    )
    await source.run()
    for message in sqs.receive_message(QueueUrl=failures).get("Messages", ()):
        document = json.loads(message["Body"])
        say(f"given up: {document['requestContext']['condition']}, {document['KinesisBatchInfo']['batchSize']} record")
