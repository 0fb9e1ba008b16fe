"""kill -9 while producers put, readers read, a subscriber is pushed to and shards split, again and again on one
directory: every answer ever given must stay true.

After each restart all shards are read from their beginnings, and that must hold: what was acknowledged is there under
its number; whatever any reader saw is there; each reader, which goes on from the last number it saw, has seen exactly
the beginning of its shard: nothing skipped, nothing twice, nothing out of order.

    SIM_SEED=… repeats a run's choices and moments. Not its races: those are the machine's.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from base64 import b64decode, b64encode
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from sidecar import TIMEOUT_S, Sidecar, seed_of_this_run

from protocols.wire import eventstream

STREAM = "s"
MAX_SHARDS = 12
SPLIT_CHANCE = 0.4  # of a round
BROKEN = (OSError, http.client.HTTPException)

Seen = list[tuple[str, str]]
"""Numbers and texts, in the order of a shard."""


class Refused(Exception):
    pass


class Client:
    """Kinesis in JSON over one connection. Raises one of BROKEN when the sidecar is dead."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._connection = http.client.HTTPConnection(sidecar.host, sidecar.port, timeout=TIMEOUT_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, operation: str, members: dict[str, Any]) -> http.client.HTTPResponse:
        headers = {"X-Amz-Target": f"Kinesis_20131202.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        self._connection.request("POST", "/", orjson.dumps(members), headers)
        return self._connection.getresponse()

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        response = self.ask(operation, members)
        body = response.read()
        if response.status == 400:
            raise Refused(body)
        assert response.status == 200, body
        document: dict[str, Any] = orjson.loads(body) if body else {}
        return document

    def shards(self) -> list[str]:
        return [shard["ShardId"] for shard in self.call("ListShards", StreamName=STREAM)["Shards"]]

    def iterator(self, shard: str, seen: Seen) -> str:
        """From where a reader is."""
        where = {"ShardIteratorType": "TRIM_HORIZON"}
        if seen:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": seen[-1][0]}
        answer = self.call("GetShardIterator", StreamName=STREAM, ShardId=shard, **where)
        return str(answer["ShardIterator"])

    def read_all(self, shard: str) -> Seen:
        found: Seen = []
        iterator: str | None = self.iterator(shard, [])
        while iterator is not None:
            page = self.call("GetRecords", ShardIterator=iterator)
            found += read(page)
            iterator = page.get("NextShardIterator") if page["MillisBehindLatest"] or page["Records"] else None
        return found


def read(page: dict[str, Any]) -> Seen:
    return [(record["SequenceNumber"], b64decode(record["Data"]).decode()) for record in page["Records"]]


class Run:
    def __init__(self, data: Path, log: Path, sync: str, seed: int) -> None:
        self._options = ("--data", data, "--sync", sync)
        self._log = log
        self.chance = random.Random(seed)
        self.acknowledged: dict[str, dict[str, str]] = defaultdict(dict)  # by shard: texts by their numbers
        self.readers: list[dict[str, Seen]] = [defaultdict(list) for _ in range(3)]  # the last is the subscriber
        self._put = 0
        self._lock = threading.Lock()
        self.failures: list[BaseException] = []

    def start(self) -> Sidecar:
        return Sidecar(*self._options, log=self._log)

    def prepare(self) -> None:
        with self.start() as sidecar, Client(sidecar.ready()) as client:
            client.call("CreateStream", StreamName=STREAM, ShardCount=2)
            arn = client.call("DescribeStreamSummary", StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
            made = client.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")
            self._consumer = made["Consumer"]["ConsumerARN"]
            sidecar.kill()

    def round(self) -> None:
        with self.start() as sidecar:
            sidecar.ready()
            self.check(sidecar)
            work = [
                *[(self._produce, random.Random(self.chance.random())) for _ in range(2)],
                *[(self._follow, reader) for reader in self.readers[:-1]],
                (self._subscribe, self.readers[-1]),
            ]
            threads = [threading.Thread(target=self._work, args=(sidecar, *job)) for job in work]
            if self.chance.random() < SPLIT_CHANCE:
                chance = random.Random(self.chance.random())
                threads.append(threading.Thread(target=self._work, args=(sidecar, self._split, chance)))
            for thread in threads:
                thread.start()
            time.sleep(self.chance.uniform(0.02, 0.3))
            sidecar.kill()
            for thread in threads:
                thread.join(2 * TIMEOUT_S)
                assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]

    def _work(self, sidecar: Sidecar, job: Any, given: Any) -> None:
        try:
            with contextlib.suppress(*BROKEN), Client(sidecar) as client:
                job(client, given)
        except BaseException as failure:
            self.failures.append(failure)

    def _produce(self, client: Client, chance: random.Random) -> None:
        while True:
            size = chance.choice((1, 1, 5, 50, 500))
            with self._lock:
                first = self._put
                self._put += size
            texts = [f"{number}{' ' * chance.randrange(200)}" for number in range(first, first + size)]
            records = [{"Data": b64encode(text.encode()).decode(), "PartitionKey": text} for text in texts]
            if size == 1:
                entries = [client.call("PutRecord", StreamName=STREAM, **records[0])]
            else:
                entries = client.call("PutRecords", StreamName=STREAM, Records=records)["Records"]
            for text, entry in zip(texts, entries, strict=True):
                self.acknowledged[entry["ShardId"]][entry["SequenceNumber"]] = text

    def _follow(self, client: Client, seen: dict[str, Seen]) -> None:
        iterators: dict[str, str | None] = {}
        while True:
            for shard in client.shards():
                iterator = iterators[shard] if shard in iterators else client.iterator(shard, seen[shard])
                if iterator is not None:
                    page = client.call("GetRecords", ShardIterator=iterator, Limit=300)
                    seen[shard] += read(page)
                    iterators[shard] = page.get("NextShardIterator")

    def _subscribe(self, client: Client, seen: dict[str, Seen]) -> None:
        shard = self.chance.choice(client.shards())
        position = {"Type": "TRIM_HORIZON"}
        if seen[shard]:
            position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": seen[shard][-1][0]}
        asked = {"ConsumerARN": self._consumer, "ShardId": shard, "StartingPosition": position}
        response = client.ask("SubscribeToShard", asked)
        assert response.status == 200
        data = b""
        while piece := response.read1(1 << 20):
            data += piece
            while len(data) >= 4 and len(data) >= (size := int.from_bytes(data[:4], "big")):
                message, _ = eventstream.decode_one(data[:size])
                data = data[size:]
                if message.headers[":event-type"] == "SubscribeToShardEvent":
                    seen[shard] += read(orjson.loads(message.payload))

    def _split(self, client: Client, chance: random.Random) -> None:
        time.sleep(chance.uniform(0, 0.1))
        asked = {"StreamName": STREAM, "ShardFilter": {"Type": "AT_LATEST"}}
        opened = client.call("ListShards", **asked)["Shards"]
        if len(opened) < MAX_SHARDS:
            shard = chance.choice(opened)
            keys = shard["HashKeyRange"]
            middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2 + 1
            client.call("SplitShard", StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))

    def check(self, sidecar: Sidecar) -> None:
        with Client(sidecar) as client:
            found = {shard: client.read_all(shard) for shard in client.shards()}
        texts = [text for shard in found.values() for _, text in shard]
        assert len(texts) == len(set(texts)), "a record is there twice"
        for shard, records in found.items():
            numbers = [int(number) for number, _ in records]
            assert all(before < after for before, after in pairwise(numbers)), f"{shard} is out of order"
            there = dict(records)
            lost = {n: text for n, text in self.acknowledged[shard].items() if there.get(n) != text}
            assert not lost, f"{shard} lost {list(lost.items())[:5]}"
            for reader in self.readers:
                seen = reader[shard]
                assert seen == records[: len(seen)], f"a reader saw something else in {shard}"
        for known in (self.acknowledged, *self.readers):
            assert {shard for shard, records in known.items() if records} <= found.keys(), "a shard is lost"


@pytest.mark.parametrize(
    ("sync", "kills"),
    [
        ("full", 3),
        pytest.param("full", 100, marks=pytest.mark.slow),
        pytest.param("normal", 40, marks=pytest.mark.slow),
    ],
)
def test_what_was_acknowledged_or_read_survives_kill_9(tmp_path: Path, sync: str, kills: int) -> None:
    run = Run(tmp_path / "data", tmp_path / "log", sync, seed_of_this_run())
    run.prepare()
    for _ in range(kills):
        run.round()
    with run.start() as sidecar:
        run.check(sidecar.ready())
        assert sidecar.stop() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
    put = sum(map(len, run.acknowledged.values()))
    seen = [sum(map(len, reader.values())) for reader in run.readers]
    print(f"{put} acknowledged, {seen} seen, {len(run.acknowledged)} shards")
    assert put > 20 * kills
    assert min(seen) > 0
