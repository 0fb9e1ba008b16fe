"""Records: where they go, who reads what, what is refused and in which words, how long they stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from broker.errors import DomainError
from broker.limits import AWS, RELAXED
from broker.streams import Putting, Refused, segments
from engine.stream_support import HOUR_MS, START_MS, WORLD, StreamEngine, outcome_of, texts

FAST_AWS = replace(AWS, stream_create_ms=0, stream_update_ms=0, stream_api_rates=False)


@pytest.fixture
def engine() -> Iterator[StreamEngine]:
    engine = StreamEngine()
    yield engine
    engine.close()


@pytest.fixture
def aws() -> Iterator[StreamEngine]:
    """With AWS's quotas of throughput."""
    engine = StreamEngine(limits=FAST_AWS)
    yield engine
    engine.close()


def test_a_record_goes_where_the_md5_of_its_key_says(engine: StreamEngine) -> None:
    stream = engine.create(shards=7)
    for number in range(50):
        key = f"ключ-{number}"
        hash_key = int(md5(key.encode()).hexdigest(), 16)
        put = engine.put(stream, "x", key=key)[0]
        shard = stream.shard(put.shard_id)
        assert shard is not None
        assert shard.starting_hash_key <= hash_key <= shard.ending_hash_key


def test_an_explicit_hash_key_goes_before_the_key(engine: StreamEngine) -> None:
    stream = engine.create(shards=2)
    half = 1 << 127
    for hash_key, index in ((0, 0), (half - 1, 0), (half, 1), (2 * half - 1, 1)):
        put = engine.put(stream, "x", explicit_hash_key=str(hash_key))[0]
        assert put.shard_id == f"shardId-{index:012d}"
    assert outcome_of(engine.put, stream, "x", explicit_hash_key=str(2 * half)) == (
        "InvalidArgumentException: Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. "
        f"Specified value was {2 * half}"
    )


def test_auto_ignores_keys_and_spreads_records(engine: StreamEngine) -> None:
    stream = engine.create(shards=None, mode="ON_DEMAND", distribution="AUTO")
    puts = engine.put(stream, *"abcdefgh", key="same", explicit_hash_key="0") + engine.put(stream, *"ijkl", key=None)
    assert sorted(put.shard_id for put in puts) == [f"shardId-{n:012d}" for n in range(4) for _ in range(3)]
    page = engine.records.get_records(engine.iterator(stream.shards[0]))
    assert [record.partition_key for record in page.records] == ["same", "same", None]
    engine.definitions.update_distribution(stream, "USER_PARTITION_KEY")
    assert len({put.shard_id for put in engine.put(stream, *"mnop", key="same")}) == 1
    assert "'partitionKey' failed" in outcome_of(engine.put, stream, "x", key=None)


def test_iterators_of_all_five_types(engine: StreamEngine) -> None:
    stream = engine.create()
    shard = stream.shards[0]
    puts = []
    for text in "abcdef":
        puts += engine.put(stream, text)
        engine.advance(10)
    assert engine.read(shard, "TRIM_HORIZON") == [*"abcdef"]
    assert engine.read(shard, "LATEST") == []
    assert engine.read(shard, "AT_SEQUENCE_NUMBER", puts[2].sequence_number) == [*"cdef"]
    assert engine.read(shard, "AFTER_SEQUENCE_NUMBER", puts[2].sequence_number) == [*"def"]
    assert engine.read(shard, "AFTER_SEQUENCE_NUMBER", puts[5].sequence_number) == []
    assert engine.read(shard, "AT_SEQUENCE_NUMBER", shard.starting_sequence_number) == [*"abcdef"]
    for moment_ms, expected in ((-1, "abcdef"), (0, "abcdef"), (1, "bcdef"), (20, "cdef"), (21, "def"), (51, "")):
        assert engine.read(shard, "AT_TIMESTAMP", None, START_MS + moment_ms) == [*expected]
    latest = engine.iterator(shard, "LATEST")
    engine.put(stream, "g")
    assert texts(engine.records.get_records(latest)) == ["g"]


def test_reads_end_at_the_limit_and_go_on_there(engine: StreamEngine) -> None:
    stream = engine.create()
    shard = stream.shards[0]
    for text in "abcdefghij":
        engine.put(stream, text)
        if text in "cdg":
            engine.advance(1000)
    seen: list[list[str]] = []
    iterator: str | None = engine.iterator(shard)
    behind = []
    for _ in range(5):
        assert iterator is not None
        page = engine.records.get_records(iterator, 3)
        seen.append(texts(page))
        behind.append(page.behind_ms)
        iterator = page.next_iterator
    assert seen == [[*"abc"], [*"def"], [*"ghi"], ["j"], []]
    assert behind == [3000, 1000, 1, 0, 0]  # "0 is caught up", and "j" was still to come


def test_a_read_gives_ten_mebibytes_at_most(engine: StreamEngine) -> None:
    stream = engine.create(max_record_kib=10_240)
    shard = stream.shards[0]
    for size_kib in (9000, 1000, 500, 10_239, 1):
        engine.records.put_record(stream, Putting(bytes(size_kib * 1024), "k"))
    iterator: str | None = engine.iterator(shard)
    counts = []
    for _ in range(4):
        page = engine.records.get_records(iterator or "")
        counts.append([len(record.data) // 1024 for record in page.records])
        iterator = page.next_iterator
    assert counts == [[9000, 1000], [500], [10_239], [1]] or counts == [[9000, 1000], [500], [10_239, 1], []]


def test_large_puts_are_several_segments_and_read_as_one(engine: StreamEngine) -> None:
    stream = engine.create()
    entries = [(f"k{number}", f"{number:04}" * 500) for number in range(500)]
    engine.put_all(stream, *entries)
    engine.settle()
    assert engine.store._connection.execute("SELECT count(*) FROM segment").fetchone()[0] > 2
    assert (
        max(size for (size,) in engine.store._connection.execute("SELECT length(data) FROM segment"))
        < segments.SEGMENT_BYTES + 2000
    )
    assert engine.read(stream.shards[0]) == [text for _, text in entries]


def test_records_of_a_group_are_one_segment(engine: StreamEngine) -> None:
    stream = engine.create()
    for number in range(64):
        engine.put(stream, str(number))
    engine.settle()
    assert engine.store._connection.execute("SELECT record_count FROM segment").fetchall() == [(64,)]


def test_readers_see_what_their_own_group_has_put(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.put(stream, "a")
    assert engine.read(stream.shards[0]) == ["a"]
    engine.put(stream, "b")
    assert engine.read(stream.shards[0]) == ["a", "b"]
    assert engine.read(stream.shards[0], "AT_TIMESTAMP", None, START_MS) == ["a", "b"]
    engine.settle()
    assert engine.read(stream.shards[0]) == ["a", "b"]


def test_a_lost_group_leaves_nothing(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.put(stream, "a")
    engine.settle()
    lost = engine.put(stream, "lost")[0]
    engine.read(stream.shards[0])
    engine.fail_commit()
    stream = engine.find()
    assert engine.read(stream.shards[0]) == ["a"]
    assert engine.put(stream, "b")[0].sequence_number == lost.sequence_number
    assert engine.read(stream.shards[0]) == ["a", "b"]


def test_what_is_committed_survives_a_crash(tmp_path: Path) -> None:
    engine = StreamEngine(tmp_path)
    stream = engine.create(shards=2)
    engine.shards.split(stream, "shardId-000000000001", str(3 << 126))
    for number in range(20):
        engine.put(stream, str(number), key=str(number))
    before = {index: engine.read(shard) for index, shard in stream.shards.items()}
    numbers = [put.sequence_number for put in engine.put(stream, "last", key="0")]
    engine.settle()
    engine.put(stream, "lost", key="0")
    engine.restart(crash=True)
    stream = engine.find()
    last = next(shard for shard in stream.open_shards if "last" in engine.read(shard))
    assert engine.read(last, "AT_SEQUENCE_NUMBER", numbers[0]) == ["last"]
    before[last.index].append("last")
    assert {index: engine.read(shard) for index, shard in stream.shards.items()} == before
    engine.close()


def test_encryption_is_told_of_each_record(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.put(stream, "plain")
    engine.definitions.start_encryption(stream, "KMS", "alias/aws/kinesis")
    assert (stream.encryption, stream.key_id) == ("KMS", "alias/aws/kinesis")
    engine.put(stream, "secret")
    page = engine.records.get_records(engine.iterator(stream.shards[0]))
    assert [(record.data, record.is_encrypted) for record in page.records] == [(b"plain", False), (b"secret", True)]
    engine.definitions.stop_encryption(stream, "KMS", "alias/aws/kinesis")
    assert (stream.encryption, stream.key_id) == ("NONE", None)


# time


def test_records_expire_to_the_millisecond(engine: StreamEngine) -> None:
    stream = engine.create()
    shard = stream.shards[0]
    for text in "abc":
        engine.put(stream, text)
        engine.advance(1)
    engine.advance(24 * HOUR_MS - 4)
    assert engine.read(shard) == [*"abc"]
    for expected in ("bc", "c", ""):
        engine.advance(1)
        assert engine.read(shard) == [*expected]
    assert engine.store._connection.execute("SELECT count(*) FROM segment").fetchone() == (0,)
    assert texts(engine.records.get_records(engine.iterator(shard))) == []


def test_a_reader_in_the_expired_part_goes_on_at_the_oldest(engine: StreamEngine) -> None:
    stream = engine.create()
    shard = stream.shards[0]
    first = engine.put(stream, *"ab")[0].sequence_number
    engine.advance(23 * HOUR_MS)
    engine.put(stream, *"cd")
    engine.advance(2 * HOUR_MS)
    assert engine.read(shard, "AT_SEQUENCE_NUMBER", first) == [*"cd"]
    assert engine.read(shard, "AT_TIMESTAMP", None, START_MS) == [*"cd"]


def test_a_longer_retention_does_not_bring_back_what_was_expired(engine: StreamEngine) -> None:
    stream = engine.create()
    shard = stream.shards[0]
    engine.put(stream, "a")
    engine.definitions.increase_retention(stream, 48)
    engine.advance(30 * HOUR_MS)
    engine.put(stream, "b")
    engine.definitions.decrease_retention(stream, 24)
    assert engine.read(shard) == ["b"]
    engine.definitions.increase_retention(stream, 8760)
    assert engine.read(shard) == ["b"]
    engine.advance(8000 * HOUR_MS)
    assert engine.read(shard) == ["b"]


def test_long_expiry_goes_in_steps(engine: StreamEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine.create(shards=1)
    for number in range(1200):
        engine.put(stream, str(number))
        engine.settle()
    commits = 0
    commit = engine.store.commit

    def counted() -> None:
        nonlocal commits
        commits += 1
        commit()

    monkeypatch.setattr(engine.store, "commit", counted)
    engine.advance(24 * HOUR_MS)
    assert commits >= 3
    assert engine.store._connection.execute("SELECT count(*) FROM segment").fetchone() == (0,)


def test_arrivals_keep_their_order_when_the_clock_is_set_back(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.put(stream, "a")
    engine.clock.set(START_MS - 5000)
    engine.put(stream, "b")
    engine.clock.set(START_MS + 5000)
    engine.put(stream, "c")
    page = engine.records.get_records(engine.iterator(stream.shards[0]))
    assert [record.arrival_ms for record in page.records] == [START_MS, START_MS, START_MS + 5000]
    assert engine.read(stream.shards[0], "AT_TIMESTAMP", None, START_MS) == [*"abc"]


def test_an_iterator_is_good_for_five_minutes(engine: StreamEngine) -> None:
    iterator = engine.iterator(engine.create().shards[0])
    engine.advance(300_000)
    assert engine.records.get_records(iterator).records == []
    engine.advance(1)
    assert outcome_of(engine.records.get_records, iterator) == (
        "ExpiredIteratorException: Iterator expired. The iterator was created at time Tue Nov 14 22:13:20 UTC 2023 "
        "while right now it is Tue Nov 14 22:18:20 UTC 2023 which is further in the future than the tolerated delay of "
        "300000 milliseconds."
    )


# refusals


def test_what_is_not_there(engine: StreamEngine) -> None:
    stream = engine.create()
    iterator = engine.iterator(stream.shards[0])
    for id in ("shardId-000000000001", "shardId-x", "0", "x"):
        assert outcome_of(engine.records.get_shard_iterator, stream, id, "LATEST") == (
            f"ResourceNotFoundException: Shard {id} in stream s under account 111122223333 does not exist"
        )
    missing = "ResourceNotFoundException: Stream orders under account 111122223333 not found."
    assert outcome_of(engine.streams.find, WORLD, "orders") == missing
    assert outcome_of(engine.streams.find, WORLD, arn="arn:aws:kinesis:us-east-1:111122223333:stream/orders") == missing
    engine.definitions.delete(stream)
    assert outcome_of(engine.records.get_records, iterator).startswith("ResourceNotFoundException: ")


def test_numbers_that_did_not_come_from_the_shard(engine: StreamEngine) -> None:
    stream = engine.create(shards=2)
    first, second = stream.open_shards
    number = engine.put(stream, "x", explicit_hash_key="0")[0].sequence_number
    for given in ("1", "9" * 56, number.replace("4", "5", 1)):
        assert outcome_of(engine.iterator, first, "AT_SEQUENCE_NUMBER", given) == (
            f"InvalidArgumentException: StartingSequenceNumber {given} used in GetShardIterator on shard "
            f"{first.shard_id} in stream s under account 111122223333 is invalid because it did not come from this "
            "stream."
        )
    assert outcome_of(engine.iterator, second, "AT_SEQUENCE_NUMBER", number) == (
        "InvalidArgumentException: Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was used "
        "in a call to a shard with shardId-000000000001"
    )
    assert outcome_of(engine.iterator, first, "AT_TIMESTAMP", None, START_MS + 1) == (
        "InvalidArgumentException: The timestampInMillis parameter cannot be greater than the "
        f"currentTimestampInMillis. timestampInMillis: {START_MS + 1}, currentTimestampInMillis: {START_MS}"
    )
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP", "NO_TYPE"):
        assert outcome_of(engine.iterator, first, kind).startswith("InvalidArgumentException: ")
    for kind in ("LATEST", "TRIM_HORIZON"):
        assert outcome_of(engine.iterator, first, kind, number).startswith("InvalidArgumentException: ")


def test_the_number_for_ordering_must_be_the_streams(engine: StreamEngine) -> None:
    stream = engine.create()
    number = None
    for text in "abc":
        number = engine.records.put_record(stream, Putting(text.encode(), "k"), number).sequence_number
    assert engine.read(stream.shards[0]) == [*"abc"]
    assert outcome_of(engine.records.put_record, stream, Putting(b"x", "k"), "12") == (
        "InvalidArgumentException: ExclusiveMinimumSequenceNumber 12 used in PutRecord on stream s under account "
        "111122223333 is invalid."
    )


def test_sizes(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.records.put_record(stream, Putting(bytes((1 << 20) - 2), "é"))
    assert "maximum record size" in outcome_of(engine.records.put_record, stream, Putting(bytes((1 << 20) - 1), "é"))
    megabyte = Putting(bytes((1 << 20) - 1), "k")
    assert len(engine.records.put_records(stream, [megabyte] * 10)) == 10
    assert outcome_of(engine.records.put_records, stream, [megabyte] * 10 + [Putting(b"", "k")]) == (
        "InvalidArgumentException: Records size exceeds 10 MB limit"
    )
    for count in (0, 501):
        assert outcome_of(engine.records.put_records, stream, [Putting(b"", "k")] * count).startswith("InvalidArg")
    engine.definitions.update_max_record_size(stream, 10_240)
    engine.records.put_record(stream, Putting(bytes((10 << 20) - 1), "k"))


def test_a_refused_put_leaves_nothing(engine: StreamEngine) -> None:
    stream = engine.create()
    outcome_of(engine.records.put_records, stream, [Putting(b"good", "k"), Putting(b"bad", "k", "9" * 39)])
    assert engine.read(stream.shards[0]) == []


def test_a_dry_run_changes_nothing(engine: StreamEngine) -> None:
    stream = engine.create()
    shard = stream.shards[0]
    for call in (
        lambda: engine.records.put_record(stream, Putting(b"x", "k"), dry_run=True),
        lambda: engine.records.put_records(stream, [Putting(b"x", "k")], dry_run=True),
        lambda: engine.records.get_shard_iterator(stream, shard.shard_id, "LATEST", dry_run=True),
        lambda: engine.records.get_records(engine.iterator(shard), dry_run=True),
    ):
        assert outcome_of(call).startswith("DryRunOperationException: ")
    assert engine.read(shard) == []


def test_events_of_other_services_come_in_by_arn(engine: StreamEngine) -> None:
    stream = engine.create()
    assert engine.streams.put_event(stream.arn, "event-id", b"{}") is None
    assert engine.read(stream.shards[0]) == ["{}"]
    assert engine.streams.put_event(stream.arn + "x", "event-id", b"{}") == "ResourceNotFoundException"
    assert engine.streams.put_event(stream.arn, "event-id", bytes(2 << 20)) == "ValidationException"


# AWS's quotas


def test_a_shard_takes_a_thousand_records_a_second(aws: StreamEngine) -> None:
    stream = aws.create(shards=2)
    entries = [Putting(b"x", "k", "0")] * 500
    outcomes = [outcome for _ in range(3) for outcome in aws.records.put_records(stream, entries)]
    assert sum(type(outcome) is not Refused for outcome in outcomes) == 1000
    assert outcomes[-1] == (
        "ProvisionedThroughputExceededException",
        "Rate exceeded for shard shardId-000000000000 in stream s under account 111122223333.",
    )
    aws.put(stream, "other shard", explicit_hash_key=str((1 << 128) - 1))
    assert outcome_of(aws.put, stream, "x", explicit_hash_key="0") == (
        "ProvisionedThroughputExceededException: "
        "Rate exceeded for shard shardId-000000000000 in stream s under account 111122223333."
    )
    aws.advance(1000)
    assert all(type(outcome) is not Refused for outcome in aws.records.put_records(stream, entries))


def test_a_shard_takes_a_mebibyte_a_second(aws: StreamEngine) -> None:
    stream = aws.create(max_record_kib=10_240)
    half = Putting(bytes(1 << 19), "")
    outcomes = aws.records.put_records(stream, [half, half, half, Putting(b"", "")])
    assert [type(outcome) is Refused for outcome in outcomes] == [False, False, True, False]
    aws.advance(1000)
    aws.records.put_record(stream, Putting(bytes(4 << 20), ""))  # a large one takes up seconds to come
    for _ in range(3):
        aws.advance(1000)
        assert outcome_of(aws.put, stream, "x").startswith("ProvisionedThroughput")
    aws.advance(1000)
    aws.put(stream, "x")


def test_a_shard_is_read_five_times_a_second(aws: StreamEngine) -> None:
    stream = aws.create()
    iterator = aws.iterator(stream.shards[0])
    for _ in range(5):
        aws.records.get_records(iterator)
    assert outcome_of(aws.records.get_records, iterator).startswith("ProvisionedThroughputExceededException: Rate")
    aws.advance(999)
    assert outcome_of(aws.records.get_records, iterator).startswith("ProvisionedThroughputExceededException: Rate")
    aws.advance(1)
    aws.records.get_records(iterator)


def test_reading_ten_mebibytes_takes_five_seconds(aws: StreamEngine) -> None:
    stream = aws.create(max_record_kib=10_240)
    aws.records.put_record(stream, Putting(bytes((10 << 20) - 1), "k"))
    iterator = aws.iterator(stream.shards[0])
    aws.records.get_records(iterator)
    aws.advance(4990)
    assert outcome_of(aws.records.get_records, iterator).startswith("ProvisionedThroughput")
    aws.advance(10)
    aws.records.get_records(iterator)


def test_an_on_demand_stream_follows_its_load(aws: StreamEngine) -> None:
    stream = aws.create(shards=None, mode="ON_DEMAND")
    assert len(stream.open_shards) == 4
    for second in range(5):
        for number in range(3000):
            outcome_of(aws.put, stream, "x", key=f"{second}-{number}")
        aws.advance(1000)
    assert len(stream.open_shards) == 8
    assert stream.status == "ACTIVE"


def test_relaxed_has_no_quotas(engine: StreamEngine) -> None:
    assert RELAXED.shard_write_bytes_per_s is None
    stream = engine.create()
    for _ in range(3):
        outcomes = engine.records.put_records(stream, [Putting(bytes(4000), "k")] * 500)
        assert not any(type(outcome) is Refused for outcome in outcomes)
    for _ in range(20):
        engine.read(stream.shards[0])


def test_errors_are_the_domains(engine: StreamEngine) -> None:
    with pytest.raises(DomainError):
        engine.streams.find(WORLD)


def test_a_full_disk_costs_no_appointment(engine: StreamEngine) -> None:
    """Expiry and the end of an update: what could not be done is done when there is room, and not tried in a whirl."""
    stream = engine.create()
    engine.put(stream, "a")
    engine.definitions.increase_retention(stream, 25)
    engine.advance(1)
    works, tries = engine.store.streams._execute, 0

    def full(sql: str, *parameters: Any) -> sqlite3.Cursor:
        nonlocal tries
        if sql.startswith(("INSERT", "DELETE", "UPDATE")):
            tries += 1
            raise sqlite3.OperationalError("database or disk is full")
        return works(sql, *parameters)

    engine.store.streams._execute = full
    engine.advance(25 * HOUR_MS)
    assert 0 < tries < 10
    assert engine.store._connection.execute("SELECT count(*) FROM segment").fetchone() == (1,)
    assert engine.read(engine.find().shards[0]) == [], "expired it is all the same"
    engine.store.streams._execute = works
    engine.advance(2000)
    assert engine.store._connection.execute("SELECT count(*) FROM segment").fetchone() == (0,)


def test_a_damaged_page_ends_who_is_to_be_given_it(engine: StreamEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine.create()
    engine.put(stream, "a")
    client = engine.subscribe(engine.consumers.register(stream, "c"), stream.shards[0], "LATEST")
    engine.settle()

    def damaged(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with monkeypatch.context() as patch:
        patch.setattr(engine.store.streams, "segments", damaged)
        engine.put(stream, "b")
        engine.advance(10_000)
    assert (client.ended, client.texts) == ([None], [])
    engine.put(engine.find(), "c")
    engine.settle()
    assert engine.read(engine.find().shards[0]) == ["a", "c"]
