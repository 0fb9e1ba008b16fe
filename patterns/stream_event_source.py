"""Lambda's poller for streams: `KinesisEventSource` as work for lease's `LeaseKeeper`.

A shard that is ours has one reader and as many lanes as the parallelization factor; a lane has the records of some
partition keys, and one invocation at a time. The rule: a checkpoint passes a record only when it and all before it are
done, and those of a tumbling window only when the window is over. What to do is stream_batches.py's to say.
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
"""

from __future__ import annotations

import math
import random as chance_source
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from patterns.event_filter import stream_filter
from patterns.event_source import (
    CALL_BACKOFF,
    Function,
    FunctionError,
    OnSource,
    SourceHappening,
    event_of,
    log,
    log_source,
    reported,
    text_of,
)
from patterns.lease import HeldLease, Lease, LeaseKeeper, LeasePolicy, LeaseStore
from patterns.lease_readers import Shards
from patterns.lease_stores import MemoryLeases
from patterns.outbox import wall_ms
from patterns.retry import RetryPolicy, retry
from patterns.stream_batches import Batch, KinesisSourcePolicy, Progress, StreamRecord, Verdict, Window
from patterns.stream_documents import (
    Discard,
    OnFailure,
    arrival_ms,
    invocation_record,
    kinesis_event_record,
    window_members,
)

CLOCK_MARGIN_MS = 1_000  # by which Kinesis's clock may be behind ours when a tumbling window ends


class KinesisEventSource:
    """Reads a stream and invokes the function with batches of its shards. At least once, in order per partition key.

    With a `store` that workers share, they share the shards; MemoryLeases forgets where it was. `work` and `shards` are
    for a LeaseKeeper of your own. `client` is one of aiobotocore or aioboto3, or boto3's through InThreads.
    What the policy gives up goes to `on_failure`; while that raises, the shard waits. A tumbling window is checkpointed
    when it is over: after a crash it begins anew, with an empty state. `now_ms` is the time of day.
    """

    def __init__(
        self,
        client: Any,
        stream_arn: str,
        function: Function,
        policy: KinesisSourcePolicy,
        *,
        store: LeaseStore | None = None,
        worker: str | None = None,
        leases: LeasePolicy | None = None,
        on_failure: OnFailure | None = None,
        role_arn: str | None = None,
        on_event: OnSource = log_source,
        now_ms: Callable[[], int] = wall_ms,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy
        self.lag_ms: dict[str, int] = {}
        self.client = client
        self.stream_arn = stream_arn
        self.stream = stream_arn.rpartition("/")[2]
        self.function = function
        self.on_failure = on_failure
        self.role_arn = role_arn
        self.tell = on_event
        self.now_ms = now_ms
        self.random = random
        self.keep = stream_filter(policy.filter_criteria)
        self._shards = Shards(client, self.stream)
        self._store = store or MemoryLeases()
        self._keeper = LeaseKeeper(
            self._store, worker or str(uuid.uuid4()), self.shards, self.work, leases, random=random
        )

    def stop(self) -> None:
        """Begins a graceful end: what was invoked comes to its end, leases are released, and `run` returns."""
        self._keeper.stop()

    async def run(self) -> None:
        """Until `stop`."""
        await self._keeper.run()

    async def shards(self) -> Sequence[Lease]:
        listed = await self._shards()
        known = {lease.key: lease for lease in await self._store.all()}
        return [
            replace(
                lease,
                checkpoint=self.policy.begin([known[key] for key in lease.parents if key in known], self.now_ms()),
            )
            for lease in listed
        ]

    async def work(self, held: HeldLease) -> None:
        try:
            await _Shard(self, held).run()
        finally:
            self.lag_ms.pop(held.key, None)


class _Lane:
    """Records of some partition keys, in order, and one invocation at a time."""

    def __init__(self) -> None:
        self.waiting: deque[StreamRecord] = deque()
        self.since_s = 0.0  # when the first of them was read
        self.window: Window | None = None
        self.of_window: list[str] = []  # what is done but for the end of its window


class _Shard:
    """One shard, while its lease is ours."""

    def __init__(self, source: KinesisEventSource, held: HeldLease) -> None:
        self._source = source
        self._policy = source.policy
        self._held = held
        self._lanes = [_Lane() for _ in range(source.policy.parallelization_factor)]
        self._progress = Progress()
        self._saved: str | None = None
        self._saving = anyio.Lock()
        self._read_up_to: str | None = None
        self._seen_ms = 0  # up to when all records have been read
        self._is_over = False
        self._changed = anyio.Event()

    async def run(self) -> None:
        async with anyio.create_task_group() as around:
            around.start_soon(self._wake_to_stop)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read)
                for lane in self._lanes:
                    tasks.start_soon(self._serve, lane)
            around.cancel_scope.cancel()
        if self._is_over and self._progress.is_complete:
            await self._held.finish()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _wake_to_stop(self) -> None:
        await self._held.stopping.wait()
        self._wake()

    async def _pause(self, delay_s: float) -> None:
        with anyio.move_on_after(delay_s):
            await self._held.stopping.wait()

    # Reading

    async def _read(self) -> None:
        source, policy = self._source, self._policy
        most = policy.batch_size * policy.parallelization_factor
        iterator: str | None = None
        failures = 0
        while not self._held.is_stopping:
            if sum(len(lane.waiting) for lane in self._lanes) >= most:
                await self._changed.wait()
                continue
            asked_ms = source.now_ms()
            try:
                if iterator is None:
                    iterator = await self._iterator()
                answer = await source.client.get_records(ShardIterator=iterator, Limit=min(10_000, most))
            except Exception as error:  # throttled, or the iterator has expired
                iterator, failures = None, failures + 1
                if failures >= policy.call_attempts:
                    raise
                log.warning("%s not read: %r", self._held.key, error)
                await self._pause(CALL_BACKOFF.delay_s(failures, 0.0, source.random()))
                continue
            failures = 0
            behind_ms = source.lag_ms[self._held.key] = answer.get("MillisBehindLatest", 0)
            await self._take(answer["Records"])
            if not behind_ms:
                self._seen_ms = asked_ms - CLOCK_MARGIN_MS
            iterator = answer.get("NextShardIterator")
            self._is_over = iterator is None
            self._wake()
            if self._is_over:
                return
            if not answer["Records"]:
                await self._pause(policy.poll_s)

    async def _iterator(self) -> str:
        after = self._read_up_to or self._held.checkpoint
        position: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None and after.startswith("@"):
            position = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": int(after[1:]) / 1000}
        elif after is not None:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        source = self._source
        answer = await source.client.get_shard_iterator(StreamName=source.stream, ShardId=self._held.key, **position)
        return str(answer["ShardIterator"])

    async def _take(self, records: Sequence[Mapping[str, Any]]) -> None:
        source = self._source
        skipped = []
        for record in records:
            shape = kinesis_event_record(record, source.stream_arn, self._held.key, source.role_arn)
            number, key = record["SequenceNumber"], record["PartitionKey"]
            self._progress.take(number)
            self._read_up_to = number
            if not source.keep(shape):
                skipped.append(number)
                continue
            lane = self._lanes[self._policy.lane(key)]
            if not lane.waiting:
                lane.since_s = anyio.current_time()
            lane.waiting.append(StreamRecord(number, key, arrival_ms(record), text_of(shape)))
        if skipped:
            source.tell(SourceHappening.FILTERED, skipped, None)
            await self._done(skipped)

    # Invoking

    async def _serve(self, lane: _Lane) -> None:
        while True:
            records = await self._gather(lane)
            if lane.window is not None and (not records or not lane.window.has(records[0].arrival_ms)):
                if not await self._close(lane.window, is_early=False):
                    return
                await self._done(lane.of_window)
                lane.window, lane.of_window = None, []
            if records:
                await self._work(lane, records)
            elif self._is_finished(lane):
                return

    def _is_finished(self, lane: _Lane) -> bool:
        return self._held.is_stopping or (self._is_over and not lane.waiting)

    async def _gather(self, lane: _Lane) -> Sequence[StreamRecord]:
        """A batch; none at the end, and where nothing more can come into the tumbling window."""
        policy = self._policy
        while not self._is_finished(lane):
            changed, left_s = self._changed, math.inf
            count, is_full = policy.cut(lane.waiting)
            if count:
                left_s = lane.since_s + policy.maximum_batching_window_s - anyio.current_time()
                if is_full or self._is_over or left_s <= 0:
                    records = [lane.waiting.popleft() for _ in range(count)]
                    lane.since_s = anyio.current_time()
                    self._wake()
                    return records
            elif lane.window is not None and self._seen_ms >= lane.window.end_ms:
                return []
            with anyio.move_on_after(left_s):
                await changed.wait()
        return []

    async def _work(self, lane: _Lane, records: Sequence[StreamRecord]) -> None:
        """A batch and what it falls apart into, in order, until each record has come to its end."""
        todo, failures = deque([Batch(tuple(records))]), 0
        while todo and not self._held.is_stopping:
            old, batch = self._policy.aged(todo.popleft(), self._source.now_ms())
            finished = await self._discard(old, Discard.AGE) if old.records else []
            verdict = await self._invoke(lane, batch) if batch.records else Verdict()
            todo.extendleft(reversed(verdict.again))
            finished += [record.sequence_number for record in verdict.done]
            if verdict.discarded is not None:
                finished += await self._discard(verdict.discarded, Discard.RETRIES)
            failures = failures + 1 if verdict.again and not verdict.done else 0
            if lane.window is None:
                await self._done(finished)
            else:
                lane.of_window += finished
                if lane.window.is_too_big and await self._close(lane.window, is_early=True):
                    lane.window = replace(lane.window, state={})
            if todo and (verdict.again or verdict.discarded is not None):
                await self._pause(self._policy.backoff.delay_s(max(1, failures), 0.0, self._source.random()))

    async def _invoke(self, lane: _Lane, batch: Batch) -> Verdict:
        source, policy = self._source, self._policy
        numbers = [record.sequence_number for record in batch.records]
        more = None
        if policy.tumbling_window_s:
            lane.window = lane.window or Window.of(batch.records[0].arrival_ms, policy.tumbling_window_s)
            more = window_members(lane.window, self._held.key, source.stream_arn, is_final=False, is_early=False)
        try:
            event = event_of((record.text for record in batch.records), more)
            answer = await source.function.invoke(event, source.function.new_id())
            failed = reported(answer, numbers) if policy.report_batch_item_failures else frozenset()
            if lane.window is not None:  # last: what failed as a whole has no state
                lane.window = replace(lane.window, state=_state(answer))
        except FunctionError as error:
            source.tell(SourceHappening.FAILED, numbers, error)
            return policy.after(batch, 0, is_error=True)
        failed_at = next((at for at, number in enumerate(numbers) if number in failed), None)
        if numbers[:failed_at]:
            source.tell(SourceHappening.SUCCEEDED, numbers[:failed_at], None)
        if failed_at is not None:
            source.tell(SourceHappening.FAILED, numbers[failed_at:], FunctionError("batchItemFailures"))
        return policy.after(batch, failed_at)

    async def _close(self, window: Window, *, is_early: bool) -> bool:
        """The final invocation, until it succeeds: whether it has."""
        source, failures = self._source, 0
        more = window_members(window, self._held.key, source.stream_arn, is_final=True, is_early=is_early)
        while not self._held.is_stopping:
            try:
                _state(await source.function.invoke(event_of((), more), source.function.new_id()))
                return True
            except FunctionError as error:
                source.tell(SourceHappening.FAILED, [], error)
            failures += 1
            await self._pause(self._policy.backoff.delay_s(failures, 0.0, source.random()))
        return False

    async def _discard(self, batch: Batch, why: Discard) -> list[str]:
        source = self._source
        numbers = [record.sequence_number for record in batch.records]
        source.tell(SourceHappening.DISCARDED, numbers, FunctionError(why.value))
        if source.on_failure is not None:
            document = invocation_record(
                batch,
                why,
                request_id=source.function.new_id(),
                function_arn=source.function.arn,
                stream_arn=source.stream_arn,
                shard_id=self._held.key,
                now_ms=source.now_ms(),
            )
            await retry(
                partial(source.on_failure, document),
                RetryPolicy(CALL_BACKOFF, attempts=self._policy.call_attempts),
                random=source.random,
            )
        return numbers

    async def _done(self, sequence_numbers: Iterable[str]) -> None:
        self._progress.done(sequence_numbers)
        async with self._saving:
            position = self._progress.position
            if position is not None and position != self._saved:
                await self._held.save(position)
                self._saved = position


def _state(answer: Any) -> Any:
    if not isinstance(answer, dict) or "state" not in answer:
        raise FunctionError("the answer has no state")
    return answer["state"]
