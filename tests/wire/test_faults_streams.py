"""Faults at streams as boto3's users see them: throttled shards, old iterators, records twice, reshards, lag, cuts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EventStreamError
from virtual_faults import Chaos

if TYPE_CHECKING:
    from conftest import Connect, Sidebus, StartSidebus

REGION = "us-east-1"
SHARD = "shardId-000000000000"


@pytest.fixture(scope="module")
def bent(start_sidebus: StartSidebus) -> Sidebus:
    """A process of this module's own: it bends its time."""
    return start_sidebus()


@pytest.fixture
def chaos(bent: Sidebus, account: str) -> Iterator[Chaos]:
    chaos = Chaos(bent, account)
    yield chaos
    chaos.end()


@pytest.fixture
def kinesis(bent: Sidebus, connect: Connect) -> Any:
    client = connect(bent, "kinesis")
    client.create_stream(StreamName="s", ShardCount=2)
    return client


@pytest.fixture
def arn(kinesis: Any, account: str) -> str:
    return f"arn:aws:kinesis:{REGION}:{account}:stream/s"


KEYS = ("a", "e")
"""Their hashes lie in the first and the second of two shards: md5("a") begins with 0c, md5("e") with e1."""


def put(kinesis: Any, *texts: str, key: str = "a") -> list[str]:
    """The records' numbers."""
    return [
        kinesis.put_record(StreamName="s", Data=text.encode(), PartitionKey=key)["SequenceNumber"] for text in texts
    ]


def iterator(kinesis: Any, shard: str = SHARD, kind: str = "TRIM_HORIZON", **given: Any) -> str:
    answer = kinesis.get_shard_iterator(StreamName="s", ShardId=shard, ShardIteratorType=kind, **given)
    return str(answer["ShardIterator"])


def data(answer: Any) -> list[str]:
    return [record["Data"].decode() for record in answer["Records"]]


def shards(kinesis: Any) -> dict[str, Any]:
    return {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName="s")["Shards"]}


# throttled


def test_a_throttled_shard_refuses_a_record(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "shard-throttle", "operation": "PutRecord", "count": 1})
    with pytest.raises(kinesis.exceptions.ProvisionedThroughputExceededException, match=f"for shard {SHARD} in"):
        put(kinesis, "a")
    put(kinesis, "b")
    assert data(kinesis.get_records(ShardIterator=iterator(kinesis))) == ["b"]


def test_single_entries_of_put_records_are_throttled_and_the_others_keep_their_places(
    kinesis: Any, chaos: Chaos
) -> None:
    chaos.plan({"fault": "shard-throttle", "operation": "PutRecords", "every": 2})
    entries = [{"Data": text.encode(), "PartitionKey": key} for text, key in zip("12345", "aeaea", strict=True)]
    answer = kinesis.put_records(StreamName="s", Records=entries)
    assert answer["FailedRecordCount"] == 2
    codes = [record.get("ErrorCode") for record in answer["Records"]]
    assert codes == [None, "ProvisionedThroughputExceededException"] * 2 + [None]
    assert "Rate exceeded for shard shardId-000000000001" in answer["Records"][1]["ErrorMessage"]
    read = kinesis.get_records(ShardIterator=iterator(kinesis))["Records"]
    assert [(record["SequenceNumber"], record["Data"]) for record in read] == [
        (answer["Records"][number]["SequenceNumber"], str(number + 1).encode()) for number in (0, 2, 4)
    ]


def test_all_of_put_records_may_be_throttled(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "shard-throttle"})
    answer = kinesis.put_records(StreamName="s", Records=[{"Data": b"1", "PartitionKey": "a"}] * 3)
    assert answer["FailedRecordCount"] == 3


def test_a_throttled_shard_refuses_a_reader_who_may_try_again(kinesis: Any, chaos: Chaos) -> None:
    put(kinesis, "a")
    chaos.plan({"fault": "shard-throttle", "operation": "GetRecords", "count": 1})
    first = iterator(kinesis)
    with pytest.raises(kinesis.exceptions.ProvisionedThroughputExceededException):
        kinesis.get_records(ShardIterator=first)
    assert data(kinesis.get_records(ShardIterator=first)) == ["a"]


# iterators


def test_an_iterator_has_expired_and_a_new_one_goes_on_where_it_was(kinesis: Any, chaos: Chaos) -> None:
    numbers = put(kinesis, "a", "b")
    page = kinesis.get_records(ShardIterator=iterator(kinesis), Limit=1)
    chaos.plan({"fault": "expired-iterator", "resource": "s", "count": 1})
    with pytest.raises(kinesis.exceptions.ExpiredIteratorException, match="Iterator expired"):
        kinesis.get_records(ShardIterator=page["NextShardIterator"])
    again = iterator(kinesis, kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[0])
    assert data(kinesis.get_records(ShardIterator=again)) == ["b"]


# twice


def test_a_record_is_there_twice_under_two_numbers(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "repeat-record", "message": {"body": {"n": [2]}}})
    told = put(kinesis, '{"n": 1}', '{"n": 2}', '{"n": 3}')
    read = kinesis.get_records(ShardIterator=iterator(kinesis))["Records"]
    assert [record["Data"] for record in read] == [b'{"n": 1}', b'{"n": 2}', b'{"n": 2}', b'{"n": 3}']
    numbers = [record["SequenceNumber"] for record in read]
    assert sorted(set(numbers), key=int) == numbers
    assert told == [numbers[0], numbers[2], numbers[3]]  # the producer knows of its retry


def test_an_entry_of_put_records_is_there_twice(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "repeat-record", "every": 2})
    answer = kinesis.put_records(
        StreamName="s", Records=[{"Data": text.encode(), "PartitionKey": "a"} for text in "123"]
    )
    assert len(answer["Records"]) == 3
    assert data(kinesis.get_records(ShardIterator=iterator(kinesis))) == ["1", "2", "2", "3"]


def test_an_event_is_put_twice_into_the_stream_that_is_its_target(
    kinesis: Any, bent: Sidebus, connect: Connect, chaos: Chaos, arn: str
) -> None:
    events = connect(bent, "events")
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    target = {"Id": "t", "Arn": arn, "RoleArn": "arn:aws:iam::111111111111:role/r", "InputPath": "$.detail.n"}
    events.put_targets(Rule="r", Targets=[target])
    chaos.plan({"fault": "repeat-record", "operation": "Deliver", "count": 1})
    for number in (1, 2):
        events.put_events(Entries=[{"Source": "shop", "DetailType": "d", "Detail": f'{{"n": {number}}}'}])
    pages = [kinesis.get_records(ShardIterator=iterator(kinesis, shard)) for shard in shards(kinesis)]
    assert sorted(data(pages[0]) + data(pages[1])) == ["1", "1", "2"]


def test_a_dry_run_is_never_struck(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "reshard"}, {"fault": "repeat-record"}, {"fault": "shard-throttle"})
    place = iterator(kinesis)
    for dry_run in (
        lambda: kinesis.put_record(StreamName="s", Data=b"a", PartitionKey="a", DryRun=True),
        lambda: kinesis.get_records(ShardIterator=place, DryRun=True),
    ):
        with pytest.raises(kinesis.exceptions.DryRunOperationException):
            dry_run()
    assert set(chaos.struck().values()) == {0}


# reshards


def test_a_shard_is_split_under_its_reader(kinesis: Any, chaos: Chaos) -> None:
    put(kinesis, "a", "b")
    chaos.plan({"fault": "reshard", "operation": "GetRecords", "count": 1})
    page = kinesis.get_records(ShardIterator=iterator(kinesis), Limit=1)
    assert data(page) == ["a"]
    page = kinesis.get_records(ShardIterator=page["NextShardIterator"])
    assert data(page) == ["b"]
    assert "NextShardIterator" not in page
    children = [child["ShardId"] for child in page["ChildShards"]]
    assert len(children) == 2
    assert all(shards(kinesis)[child]["ParentShardId"] == SHARD for child in children)
    assert "EndingSequenceNumber" in shards(kinesis)[SHARD]["SequenceNumberRange"]
    put(kinesis, "c")
    assert [data(kinesis.get_records(ShardIterator=iterator(kinesis, child))) for child in children] == [["c"], []]


def test_a_shard_is_split_under_its_producer_and_no_record_is_lost(kinesis: Any, chaos: Chaos) -> None:
    put(kinesis, "1")
    chaos.plan({"fault": "reshard", "operation": "PutRecords", "count": 1})
    entries = [{"Data": text.encode(), "PartitionKey": key} for text, key in zip("2345", "aeae", strict=True)]
    answer = kinesis.put_records(StreamName="s", Records=entries)
    assert answer["FailedRecordCount"] == 0
    assert SHARD not in {record["ShardId"] for record in answer["Records"]}
    page = kinesis.get_records(ShardIterator=iterator(kinesis))
    assert data(page) == ["1"]
    found = [data(kinesis.get_records(ShardIterator=iterator(kinesis, s["ShardId"]))) for s in page["ChildShards"]]
    assert sorted(found) == [[], ["2", "4"]]


def test_a_shard_is_merged_with_its_neighbour(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "reshard", "how": "merge", "count": 1})
    put(kinesis, "a")
    parents = [(shard.get("ParentShardId"), shard.get("AdjacentParentShardId")) for shard in shards(kinesis).values()]
    assert parents == [(None, None), (None, None), (SHARD, "shardId-000000000001")]


# lag


def test_a_reader_falls_further_and_further_behind(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "lag", "growth_per_s": 500})
    put(kinesis, "a")
    answer = kinesis.get_records(ShardIterator=iterator(kinesis))
    assert (data(answer), answer["MillisBehindLatest"]) == (["a"], 0)
    behind = []
    for _ in range(3):
        chaos.advance("2s")
        answer = kinesis.get_records(ShardIterator=answer["NextShardIterator"])
        behind.append(answer["MillisBehindLatest"])
    assert behind == [1000, 2000, 3000]
    chaos.clear()
    assert kinesis.get_records(ShardIterator=answer["NextShardIterator"])["MillisBehindLatest"] == 0


def test_a_reader_is_given_few_records_and_really_is_behind(kinesis: Any, chaos: Chaos) -> None:
    chaos.plan({"fault": "lag", "growth_per_s": 0.001, "records_per_call": 2})
    put(kinesis, *"abc")
    chaos.advance("7s")
    answer = kinesis.get_records(ShardIterator=iterator(kinesis))
    assert (data(answer), answer["MillisBehindLatest"]) == (["a", "b"], 7000)
    answer = kinesis.get_records(ShardIterator=answer["NextShardIterator"])
    assert (data(answer), answer["MillisBehindLatest"]) == (["c"], 0)


# subscriptions


@pytest.fixture
def consumer(kinesis: Any, arn: str) -> str:
    return str(kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"])


@pytest.fixture
def subscribe(kinesis: Any, consumer: str) -> Iterator[Callable[..., Any]]:
    """Events of the first shard, from its beginning unless told otherwise."""
    with contextlib.ExitStack() as opened:

        def begin(kind: str = "TRIM_HORIZON", **position: Any) -> Any:
            start = {"Type": kind, **position}
            answer = kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=SHARD, StartingPosition=start)
            return iter(opened.enter_context(contextlib.closing(answer["EventStream"])))

        yield begin


def test_a_subscription_ends_early_and_goes_on_from_where_it_was(
    kinesis: Any, chaos: Chaos, subscribe: Callable[..., Any]
) -> None:
    put(kinesis, "a")
    chaos.plan({"fault": "cut-subscription", "after": "7s", "count": 1})
    events = subscribe()
    first = next(events)["SubscribeToShardEvent"]
    assert data(first) == ["a"]
    chaos.advance("6999ms")
    chaos.advance("1ms")
    assert all(not event["SubscribeToShardEvent"]["Records"] for event in events)  # and it ends
    put(kinesis, "b")
    number = first["ContinuationSequenceNumber"]
    again = subscribe("AFTER_SEQUENCE_NUMBER", SequenceNumber=number)
    assert data(next(again)["SubscribeToShardEvent"]) == ["b"]


def test_a_subscription_ends_with_an_error(chaos: Chaos, subscribe: Callable[..., Any]) -> None:
    chaos.plan({"fault": "cut-subscription", "after": "2s", "how": "error"})
    events = subscribe()
    assert next(events)["SubscribeToShardEvent"]["Records"] == []
    chaos.advance("2s")
    with pytest.raises(EventStreamError) as ended:
        next(events)
    assert ended.value.response["Error"]["Code"] == "InternalFailureException"


# AWS-like


def test_like_aws_no_record_is_lost_and_each_shard_is_in_order(kinesis: Any, chaos: Chaos) -> None:
    chaos.profile("aws-like", seed=42)
    for first in range(0, 4_000, 500):
        entries = [
            {"Data": str(number).encode(), "PartitionKey": KEYS[number % 2]} for number in range(first, first + 500)
        ]
        assert kinesis.put_records(StreamName="s", Records=entries)["FailedRecordCount"] == 0
    for place, shard in enumerate(list(shards(kinesis))):
        read = [int(text) for text in data(kinesis.get_records(ShardIterator=iterator(kinesis, shard)))]
        assert sorted(set(read)) == list(range(place, 4_000, 2))
        assert read == sorted(read)
    assert chaos.struck()["producer-retried"] > 0


# what can match nothing


def test_a_stream_s_fault_at_a_queue_is_refused(chaos: Chaos) -> None:
    assert chaos.refusal({"fault": "shard-throttle", "service": "sqs"})
    assert chaos.refusal({"fault": "expired-iterator", "operation": "PutRecord"})
