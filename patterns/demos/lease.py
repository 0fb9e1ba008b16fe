"""Three workers read a stream that is split meanwhile; one of them dies. Leases in DynamoDB, or in Sidebus's tables.

Each reads in its own way, which a real application would not do: ann polls, in order; bob polls and handles keys beside
each other; cid is pushed to.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio

from patterns.demos import say
from patterns.lease import HeldLease, LeaseHappening, LeaseKeeper, LeasePolicy
from patterns.lease_readers import FanOutReader, ShardReader, Shards
from patterns.lease_records import PerKey, Records
from patterns.lease_stores import DynamoDbLeases
from patterns.threads import InThreads

ROUNDS, KEYS = 20, 8


async def run(client: Callable[[str], Any]) -> None:
    logging.getLogger("patterns").setLevel(logging.ERROR)
    kinesis, dynamodb, name = client("kinesis"), client("dynamodb"), f"demo-{uuid.uuid4()}"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName=name)
    store = DynamoDbLeases(InThreads(dynamodb), name)
    await store.create_table()
    threads = InThreads(kinesis)
    seen: Counter[tuple[str, str]] = Counter()
    by_worker: Counter[str] = Counter()
    scopes: dict[str, anyio.CancelScope] = {}

    async def work(worker: str) -> None:
        async def handle(held: HeldLease, records: Records) -> None:
            for record in records:
                seen[record["PartitionKey"], record["Data"].decode()] += 1
            by_worker[worker] += len(records)

        def tell(happening: LeaseHappening, key: str, error: Exception | None) -> None:
            say(f"{worker}: shard {int(key[-12:])} {happening.value}")

        how = PerKey(handle, concurrency=4) if worker == "bob" else handle
        reader = (
            FanOutReader(threads, name, "demo", how) if worker == "cid" else ShardReader(threads, name, how, poll_s=0.2)
        )
        policy = LeasePolicy(lease_s=3.0)
        keeper = LeaseKeeper(store, worker, Shards(threads, name), reader, policy, on_event=tell)
        with anyio.CancelScope() as scopes[worker]:
            await keeper.run()

    try:
        async with anyio.create_task_group() as tasks:
            for worker in ("ann", "bob", "cid"):
                tasks.start_soon(work, worker)
            for step in range(ROUNDS):
                records = [{"PartitionKey": f"key-{key}", "Data": str(step).encode()} for key in range(KEYS)]
                kinesis.put_records(StreamName=name, Records=records)
                if step == ROUNDS // 3:
                    say("the stream is split")
                    kinesis.update_shard_count(StreamName=name, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
                if step == ROUNDS // 2:
                    say("ann dies")
                    scopes["ann"].cancel()
                await anyio.sleep(0.5)
            with anyio.move_on_after(30):
                while len(seen) < ROUNDS * KEYS:  # noqa: ASYNC110 a demo may look now and then
                    await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()
        say(f"records handled: {dict(by_worker)}")
        say(f"{len(seen)} of {ROUNDS * KEYS} records were seen, {sum(seen.values()) - len(seen)} of them again")
    finally:
        kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
        dynamodb.delete_table(TableName=name)
