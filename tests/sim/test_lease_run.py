"""Ten workers read a stream that is resharded five times, and come and go: some say so, some are killed with -9.

Workers are processes with leases in DynamoDB's tables, each reading in its own way: polled or pushed to, in order or
per key. A worker writes down what it has handled and when, before it is saved. In the end each record was handled at
least once, and those of a key in their order the first time, and every time within one holding of a lease.

    SIM_SEED=… repeats a run's choices. Not its races: those are the machine's.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import boto3
import pytest
from anyio.abc import TaskStatus
from botocore.config import Config
from sidecar import seed_of_this_run

from patterns.lease import HeldLease, LeaseKeeper, LeasePolicy
from patterns.lease_readers import FanOutReader, ShardReader, Shards
from patterns.lease_records import PerKey, Records
from patterns.lease_stores import DynamoDbLeases
from patterns.threads import InThreads

STREAM, TABLE, CONSUMER = "s", "leases", "fan"
SHARDS = [4, 3, 6, 3, 5]  # from 2, one after the other
READINGS = ["polled", "polled per key", "pushed", "pushed per key"]
POLICY = LeasePolicy(lease_s=1.5, handover_s=1.0, sync_s=5.0)
CRASH_CHANCE = 0.6  # of who goes
SLOW_S = 0.08  # at most, that a handler takes for one record in ten
LIMIT_S = 120.0  # for what is left when all has been put
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["anyio._backends._asyncio", "boto3", "patterns", "pytest"])  # a second of importing


class Handled(NamedTuple):
    at_ns: int  # by the machine's clock, which all processes share
    key: str
    number: int
    holding: str  # the worker, the shard and the fence


# The worker's process


def work(url: str, account: str, name: str, reading: str, log: Path, seed: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # with whoever started us
    config = Config(max_pool_connections=50, proxies={}, retries={"total_max_attempts": 1})
    session = boto3.Session(aws_access_key_id=account, aws_secret_access_key="any", region_name="us-east-1")
    clients = (InThreads(session.client(one, endpoint_url=url, config=config)) for one in ("kinesis", "dynamodb"))
    anyio.run(_work, *clients, name, reading, log, random.Random(seed))


async def _work(
    kinesis: InThreads, dynamodb: InThreads, name: str, reading: str, log: Path, chance: random.Random
) -> None:
    handled = -1

    async def handle(held: HeldLease, records: Records) -> None:
        lines = []
        for record in records:
            lines.append(
                f"{time.monotonic_ns()} {record['PartitionKey']} {record['Data'].decode()} {held.key}/{held.fence}\n"
            )
            if chance.random() < 0.1:
                await anyio.sleep(chance.uniform(0, SLOW_S))
        os.write(handled, "".join(lines).encode())

    how = PerKey(handle, concurrency=4, in_hand=200, of_a_key=10) if "per key" in reading else handle
    if "pushed" in reading:
        reader: ShardReader = FanOutReader(kinesis, STREAM, CONSUMER, how, poll_s=0.2, retry_s=1.0)
    else:
        reader = ShardReader(kinesis, STREAM, how, poll_s=0.2)
    keeper = LeaseKeeper(DynamoDbLeases(dynamodb, TABLE), name, Shards(kinesis, STREAM), reader, POLICY)
    async with anyio.create_task_group() as tasks:

        async def wait_for_the_end(*, task_status: TaskStatus[None]) -> None:
            nonlocal handled
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                handled = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # we can be asked to go
                task_status.started()
                async for _ in signals:
                    keeper.stop()

        await tasks.start(wait_for_the_end)
        await keeper.run()
        tasks.cancel_scope.cancel()


# The run


class Fleet:
    """The workers, and what they have written."""

    def __init__(self, url: str, account: str, folder: Path, chance: random.Random) -> None:
        self._url = url
        self._account = account
        self._folder = folder
        self._chance = chance
        self.alive: list[tuple[Any, Path]] = []
        self._all: list[Any] = []
        self.crashes = self.ends = 0

    def start(self) -> None:
        number = len(self._all)
        log, reading = self._folder / f"{number}", READINGS[number % len(READINGS)]
        given = (self._url, self._account, f"worker-{number}", reading, log, self._chance.randrange(1 << 32))
        process = CONTEXT.Process(target=work, args=given, daemon=True)
        process.start()
        self.alive.append((process, log))
        self._all.append(process)

    def wait(self) -> None:
        """Until half of them are at it."""
        while sum(log.exists() for _, log in self.alive) < len(self.alive) / 2:
            time.sleep(0.05)

    def replace_one(self) -> None:
        process, log = self.alive.pop(self._chance.randrange(len(self.alive)))
        if self._chance.random() < CRASH_CHANCE or not log.exists():
            self.crashes += 1
            process.kill()
        else:
            self.ends += 1
            process.terminate()
        self.start()

    def end(self) -> None:
        """Who was asked to go has gone in peace; the others are killed."""
        for process, _ in self.alive:
            process.kill()
        for process in self._all:
            process.join(20)
        exits = Counter(process.exitcode for process in self._all)
        assert exits[0] == self.ends
        assert exits[-signal.SIGKILL] == self.crashes + len(self.alive)

    def kill(self) -> None:
        for process in self._all:
            process.kill()
            process.join()

    def handled(self) -> Iterator[Handled]:
        for log in sorted(self._folder.iterdir(), key=lambda path: int(path.name)):
            *lines, torn = log.read_text().split("\n")
            assert not torn, log
            for line in lines:
                at_ns, key, number, holding = line.split()
                yield Handled(int(at_ns), key, int(number), f"{log.name}/{holding}")


def put(kinesis: Any, number: int, keys: Sequence[str]) -> None:
    """One record of each key, answered before the next."""
    left = [{"PartitionKey": key, "Data": str(number).encode()} for key in keys]
    while left:
        answer = kinesis.put_records(StreamName=STREAM, Records=left[:500])
        failed = [one for one, told in zip(left, answer["Records"], strict=False) if "ErrorCode" in told]
        left = failed + left[500:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "keys", "rounds", "pause_s"),
    [(4, 30, 6, 0.05), (10, 300, 60, 0.2)],
)
def test_each_record_is_handled_and_in_order_whoever_comes_and_goes(
    workers: int,
    keys: int,
    rounds: int,
    pause_s: float,
    start_sidebus: Callable[..., Any],
    connect: Any,
    account: str,
    tmp_path: Path,
) -> None:
    chance = random.Random(seed_of_this_run())
    server = start_sidebus("--data", tmp_path / "data")
    kinesis, dynamodb = connect(server, "kinesis"), connect(server, "dynamodb")
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName=STREAM)
    anyio.run(DynamoDbLeases(InThreads(dynamodb), TABLE).create_table)
    logs = tmp_path / "handled"
    logs.mkdir()
    names = [f"key-{number}" for number in range(keys)]
    fleet = Fleet(server.url, account, logs, chance)
    number = 0
    try:
        for _ in range(workers):
            fleet.start()
        fleet.wait()
        for shards in SHARDS:
            for step in range(rounds):
                put(kinesis, number, names)
                number += 1
                if step == rounds // 2:
                    kinesis.update_shard_count(
                        StreamName=STREAM, TargetShardCount=shards, ScalingType="UNIFORM_SCALING"
                    )
                if chance.random() < 0.2:
                    fleet.replace_one()
                time.sleep(chance.uniform(0, 2 * pause_s))
        put_s = time.monotonic()
        while len({(one.key, one.number) for one in fleet.handled()}) < number * keys:
            assert time.monotonic() - put_s < LIMIT_S, "what was put is not handled"
            time.sleep(0.2)
        rest_s = time.monotonic() - put_s
        fleet.end()
    finally:
        fleet.kill()

    handled = sorted(fleet.handled())
    first: dict[str, dict[int, None]] = defaultdict(dict)
    last: dict[tuple[str, str], int] = {}
    for one in handled:
        first[one.key].setdefault(one.number)
        assert last.get((one.holding, one.key), -1) < one.number, f"{one} came after {last[one.holding, one.key]}"
        last[one.holding, one.key] = one.number
    assert set(first) == set(names)
    for key in names:
        assert list(first[key]) == list(range(number)), f"{key}'s were not first seen in their order"
    leases = dynamodb.scan(TableName=TABLE)["Items"]
    opened = kinesis.list_shards(StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    assert {lease["leaseKey"]["S"] for lease in leases if not lease["isDone"]["BOOL"]} == {
        shard["ShardId"] for shard in opened
    }
    assert len(opened) == SHARDS[-1]
    ways = Counter(READINGS[int(one.holding.split("/")[0]) % len(READINGS)] for one in handled)
    print(
        f"{number * keys} records, {len(handled) - number * keys} handled again; {len(leases)} shards; {fleet.crashes} "
        f"workers killed, {fleet.ends} asked to go; the last was handled {rest_s:.1f} s after it was put; {dict(ways)}"
    )
