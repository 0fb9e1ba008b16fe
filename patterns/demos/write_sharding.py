"""One hot customer among cold ones: the records go to as many shards as they need, and come back in order."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio

from patterns.batch_producer import BatchProducer, KinesisTarget
from patterns.demos import say
from patterns.threads import InThreads
from patterns.write_sharding import Gap, HotKeyPolicy, KeyReader, KeyWriter, kinesis_record

RECORDS = 300


async def run(client: Callable[[str], Any]) -> None:
    kinesis = client("kinesis")
    stream = f"demo-{uuid.uuid4()}"
    kinesis.create_stream(StreamName=stream, ShardCount=4)
    try:
        kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1})
        places: dict[str, Counter[str]] = {}
        async with BatchProducer(KinesisTarget(InThreads(kinesis), stream)) as producer:
            writer = KeyWriter(producer, HotKeyPolicy(records_per_s=50, over_s=1))  # low, to see it soon
            sent = []
            for number in range(RECORDS):
                sent.append(("hot", await writer.put("hot", str(number).encode())))
                if number % 50 == 0:
                    sent.append(("cold", await writer.put("cold", str(number // 50).encode())))
                await anyio.sleep(0.005)
        for key, one in sent:
            places.setdefault(key, Counter())[(await one.outcome())["ShardId"]] += 1
        for key, shards in places.items():
            say(f"{key}: {', '.join(f'{count} in {shard[-1]}' for shard, count in sorted(shards.items()))}")

        records = []
        for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
            iterator = kinesis.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            records += kinesis.get_records(ShardIterator=iterator)["Records"]
        lost = records.pop(random.randrange(len(records)))
        random.shuffle(records)
        say(f"{len(records)} records are read in any order; one more comes only after the others")
        got: dict[str, list[int]] = {}

        async def handle(key: str, data: bytes) -> None:
            got.setdefault(key, []).append(int(data))

        async def late(key: str, data: bytes) -> None:
            say(f"{key} {data.decode()} came after its gap was given up")

        def on_gap(gap: Gap) -> None:
            say(f"{gap.key} {gap.first} did not come in time")

        reader = KeyReader(handle, gap_s=1.0, on_gap=on_gap, late=late)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            for record in records:
                await reader.give(*kinesis_record(record))
            await anyio.sleep(1.5)
            await reader.give(*kinesis_record(lost))
            tasks.cancel_scope.cancel()
        for key, numbers in got.items():
            say(f"{key}: {len(numbers)} records, {'in order' if numbers == sorted(set(numbers)) else 'NOT in order'}")
    finally:
        kinesis.delete_stream(StreamName=stream)
