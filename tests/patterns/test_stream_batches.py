"""What follows from a function's answer for the records of a stream, by table and against naive models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patterns import Fixed, Lease
from patterns.stream_batches import Batch, KinesisSourcePolicy, Progress, StartingPosition, StreamRecord, Window

ARN = "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"
BEGIN = StartingPosition.TRIM_HORIZON


def policy_of(**options: Any) -> KinesisSourcePolicy:
    options = {"starting_position": BEGIN, "backoff": Fixed(0.5), **options}
    return KinesisSourcePolicy(**options)


def records_of(*numbers: int, key: str = "k", arrival_ms: int = 0) -> tuple[StreamRecord, ...]:
    return tuple(StreamRecord(str(number), key, arrival_ms or number, "{}") for number in numbers)


def test_a_policy_is_what_aws_accepts() -> None:
    mapping = {
        "EventSourceArn": ARN,
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": datetime.fromtimestamp(1541139109, UTC),
        "BatchSize": 500,
        "MaximumBatchingWindowInSeconds": 2,
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 2,
        "MaximumRecordAgeInSeconds": 3600,
        "ParallelizationFactor": 5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }
    policy = KinesisSourcePolicy.of(mapping)
    assert policy.starting_position_timestamp_s == 1541139109
    assert policy.batch_size == 500
    assert policy.maximum_batching_window_s == 2
    assert policy.bisect_batch_on_function_error
    assert policy.maximum_retry_attempts == 2
    assert policy.maximum_record_age_s == 3600
    assert policy.parallelization_factor == 5
    assert policy.report_batch_item_failures
    plain = KinesisSourcePolicy.of({"StartingPosition": "LATEST"})
    defaults = (
        plain.batch_size,
        plain.maximum_retry_attempts,
        plain.maximum_record_age_s,
        plain.parallelization_factor,
    )
    assert defaults == (100, -1, -1, 1)
    wrongs: tuple[dict[str, Any], ...] = (
        {"StartingPosition": None},
        {"StartingPosition": "AT_TIMESTAMP"},
        {"StartingPosition": "AFTER"},
        {"StartingPositionTimestamp": 5},
        {"BatchSize": 10_001},
        {"MaximumRetryAttempts": 10_001},
        {"MaximumRecordAgeInSeconds": 59},
        {"MaximumRecordAgeInSeconds": 604_801},
        {"ParallelizationFactor": 11},
        {"TumblingWindowInSeconds": 901},
        {"TumblingWindowInSeconds": 60, "ParallelizationFactor": 2},
        {"ScalingConfig": {}},
        {"DestinationConfig": {}},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"from|required|has|valid|not of|one state"):
            KinesisSourcePolicy.of({"StartingPosition": "LATEST", **wrong})


ABCDE = records_of(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("options", "batch", "failed_at", "done", "again", "discarded"),
    [
        # a success, and a failure without bisecting
        ({}, Batch(ABCDE), None, 5, [], None),
        ({}, Batch(ABCDE), 0, 0, [(5, 1)], None),
        ({}, Batch(ABCDE, failures=10_000), 0, 0, [(5, 10_001)], None),
        ({"maximum_retry_attempts": 2}, Batch(ABCDE, failures=1), 0, 0, [(5, 2)], None),
        ({"maximum_retry_attempts": 2}, Batch(ABCDE, failures=2), 0, 0, [], 5),
        ({"maximum_retry_attempts": 0}, Batch(ABCDE), 0, 0, [], 5),
        # a partial success: the rest is a retry of its first record
        ({}, Batch(ABCDE, failures=7), 2, 2, [(3, 1)], None),
        ({"maximum_retry_attempts": 0}, Batch(ABCDE), 2, 2, [], 3),
        # bisecting does not count
        ({"bisect_batch_on_function_error": True}, Batch(ABCDE), 0, 0, [(3, 0), (2, 0)], None),
        (
            {"bisect_batch_on_function_error": True, "maximum_retry_attempts": 0},
            Batch(ABCDE),
            0,
            0,
            [(3, 0), (2, 0)],
            None,
        ),
        ({"bisect_batch_on_function_error": True}, Batch(ABCDE), 2, 2, [(3, 0)], None),
        ({"bisect_batch_on_function_error": True, "maximum_retry_attempts": 0}, Batch(ABCDE), 2, 2, [(3, 0)], None),
        ({"bisect_batch_on_function_error": True, "maximum_retry_attempts": 1}, Batch(ABCDE[:1]), 0, 0, [(1, 1)], None),
        ({"bisect_batch_on_function_error": True, "maximum_retry_attempts": 1}, Batch(ABCDE[:1], 1), 0, 0, [], 1),
    ],
)
def test_what_follows_from_an_answer(
    options: dict[str, Any],
    batch: Batch,
    failed_at: int | None,
    done: int,
    again: list[tuple[int, int]],
    discarded: int | None,
) -> None:
    step = policy_of(**options).after(batch, failed_at)
    assert len(step.done) == done
    assert [(len(one.records), one.failures) for one in step.again] == again
    assert (step.discarded and len(step.discarded.records)) == discarded
    rest = [record for one in step.again for record in one.records]
    given_up = list(step.discarded.records) if step.discarded else []
    assert [*step.done, *rest, *given_up] == list(batch.records)
    assert {one.invokes for one in step.again} <= {batch.invokes + 1}


@given(
    count=st.integers(1, 20),
    bad=st.sets(st.integers(0, 19)),
    bisect=st.booleans(),
    attempts=st.integers(0, 3),
    reports=st.booleans(),
)
def test_a_batch_comes_to_its_end_in_order(
    count: int, bad: set[int], bisect: bool, attempts: int, reports: bool
) -> None:
    """The function stops at the first bad record, and reports it if it may. The naive model: what may become of a
    record, by what is beside it."""
    policy = policy_of(bisect_batch_on_function_error=bisect, maximum_retry_attempts=attempts)
    todo = [Batch(records_of(*range(count)))]
    ends: list[tuple[int, str]] = []
    invocations: dict[int, int] = dict.fromkeys(range(count), 0)
    while todo:
        batch = todo.pop(0)
        numbers = [int(record.sequence_number) for record in batch.records]
        first_bad = next((at for at, number in enumerate(numbers) if number in bad), None)
        for number in numbers[: None if first_bad is None else first_bad + 1]:
            invocations[number] += 1
        step = policy.after(batch, first_bad if reports or first_bad is None else 0)
        ends += [(int(record.sequence_number), "done") for record in step.done]
        ends += [(int(record.sequence_number), "lost") for record in (step.discarded.records if step.discarded else ())]
        todo[:0] = step.again
    assert [number for number, _ in ends] == list(range(count)), "each once, in order"
    lost = {number for number, end in ends if end == "lost"}
    wrong = {number for number in bad if number < count}
    assert wrong <= lost
    if bisect:
        assert lost == wrong, "bisecting isolates"
        assert all(invocations[number] >= attempts + 1 for number in wrong), "and each has its retries"
    elif reports:
        assert lost == (set(range(min(wrong), count)) if wrong else set())
    else:
        assert lost == (set(range(count)) if wrong else set())
        assert not wrong or invocations[0] == attempts + 1


@given(st.lists(st.integers(0, 200), min_size=1, max_size=10), st.integers(0, 400))
def test_what_is_too_old_is_given_up_before_the_function_sees_it(arrivals_s: list[int], now_s: int) -> None:
    records = [StreamRecord(str(at), "k", arrival * 1000, "") for at, arrival in enumerate(sorted(arrivals_s))]
    old, rest = policy_of(maximum_record_age_s=60).aged(Batch(tuple(records), 3, 4, True), now_s * 1000)
    assert [record.arrival_ms < (now_s - 60) * 1000 for record in records] == [True] * len(old.records) + [False] * len(
        rest.records
    )
    assert (old.invokes, old.is_error) == (4, True)
    assert rest.failures == (0 if old.records else 3), "the first record is another one"
    assert policy_of().aged(Batch(tuple(records)), now_s * 1000)[0].records == ()


@given(st.lists(st.integers(0, 9), max_size=30))
def test_a_checkpoint_passes_nothing_that_is_not_done(order: list[int]) -> None:
    progress, taken, done = Progress(), 0, set[int]()
    for number in order:
        if number >= taken:
            progress.take(str(taken))
            taken += 1
        elif number not in done:
            done.add(number)
            progress.done([str(number)])
        reached = next((at for at in range(taken) if at not in done), taken)
        assert progress.position == (str(reached - 1) if reached else None)
        assert progress.is_complete == (reached == taken)


def test_a_batch_ends_at_its_size_its_payload_and_its_window() -> None:
    assert policy_of(batch_size=3).cut(ABCDE) == (3, True)
    assert policy_of(batch_size=6).cut(ABCDE) == (5, False)
    assert policy_of().cut([]) == (0, False)
    large = [StreamRecord(str(at), "k", 0, "x" * 1_400_000) for at in range(6)]
    assert policy_of().cut(large) == (4, True)
    assert policy_of().cut([StreamRecord("0", "k", 0, "x" * 7_000_000), *large]) == (1, True)
    minutes = [StreamRecord(str(at), "k", at * 25_000, "") for at in range(4)]
    assert policy_of(tumbling_window_s=60).cut(minutes) == (3, True)
    assert policy_of(tumbling_window_s=60).cut(minutes[3:]) == (1, False)


def test_a_window_begins_where_the_clock_says_and_has_room_for_so_much() -> None:
    window = Window.of(1607497475000, 120)
    assert (window.start_ms, window.end_ms) == (1607497440000, 1607497560000)
    assert [window.has(at_ms) for at_ms in (1607497439999, 1607497440000, 1607497559999, 1607497560000)] == [
        False,
        True,
        True,
        False,
    ]
    assert not Window(0, 1, "x" * (1024 * 1024 - 2)).is_too_big
    assert Window(0, 1, "x" * (1024 * 1024 - 1)).is_too_big


def test_where_a_new_shard_begins() -> None:
    def begin(policy: KinesisSourcePolicy, *parents: str | None) -> str | None:
        return policy.begin([Lease("p", checkpoint=parent) for parent in parents], 5000)

    latest = policy_of(starting_position=StartingPosition.LATEST)
    timed = policy_of(starting_position=StartingPosition.AT_TIMESTAMP, starting_position_timestamp_s=1.5)
    assert [begin(policy_of()), begin(policy_of(), "17")] == [None, None]
    assert [begin(latest), begin(latest, "17"), begin(latest, None)] == ["@5000", None, None]
    assert [begin(latest, "@1000"), begin(latest, "@3000", "@200"), begin(latest, "@1000", "17")] == [
        "@1000",
        "@200",
        None,
    ]
    assert [begin(timed), begin(timed, "17")] == ["@1500", "@1500"]
