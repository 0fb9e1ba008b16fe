"""Work for leases of Kinesis shards: `ShardReader` polls, `FanOutReader` is pushed to by enhanced fan-out.

Both read from the lease's checkpoint on, hand records to a handler as lease_records.py does, finish the lease at the
shard's end, and stop when they are asked to. The rule: what a subscription or an iterator missed is read again from the
last record that the handler's side was given. `Shards` lists what there is to read, as leases.
Ugly: botocore's event streams block a thread each, and closing one under its reader would wait for the next event.
"""

from __future__ import annotations

import inspect
import logging
import math
import random as chance_source
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from patterns.aws_errors import error_code
from patterns.lease import HeldLease, Lease
from patterns.lease_records import Handler, PerKey, Records, Sink, sink
from patterns.retry import Backoff, FullJitter

log = logging.getLogger("patterns.lease_readers")

_BUSY = {"ResourceInUseException", "LimitExceededException"}


class Shards:
    """A `Source` of a Kinesis stream: its shards, closed ones too as long as they have records.

    `client` is one of aiobotocore or aioboto3, or boto3's through patterns.threads.InThreads.
    """

    def __init__(self, client: Any, stream: str) -> None:
        self._client = client
        self._stream = stream

    async def __call__(self) -> Sequence[Lease]:
        asked: dict[str, Any] = {"StreamName": self._stream}
        shards: list[dict[str, Any]] = []
        while asked:
            answer = await self._client.list_shards(**asked)
            shards += answer["Shards"]
            asked = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        return [
            Lease(
                shard["ShardId"],
                tuple(shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in shard),
            )
            for shard in shards
        ]


@dataclass(slots=True)
class _Place:
    """Where a reader is: the last record that it was given, and from where a subscription goes on."""

    read: str | None
    continuation: str | None = None

    def passed(self, records: Records, continuation: str | None = None) -> None:
        if records:
            self.read = records[-1]["SequenceNumber"]
        self.continuation = continuation


class ShardReader:
    """A `Work`: reads a Kinesis shard from its checkpoint on, and saves after each batch that `handler` has taken.

    With `PerKey` keys are handled beside each other, and it saves up to where all is done. `lag_ms` has how far behind
    each shard is. A read that fails is tried again `attempts` times in a row.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        handler: Handler | PerKey,
        *,
        limit: int = 1000,
        poll_s: float = 1.0,
        attempts: int = 5,
        backoff: Backoff | None = None,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.lag_ms: dict[str, int] = {}
        self._client = client
        self._stream = stream
        self._handler = handler
        self._limit = limit
        self._poll_s = poll_s
        self._attempts = attempts
        self._backoff = backoff or FullJitter(0.2, 5.0)
        self._random = random

    async def __call__(self, held: HeldLease) -> None:
        into, place = sink(self._handler, held), _Place(held.checkpoint)
        try:
            if await into.run(partial(self._read, held, into, place)):
                await held.finish()
        finally:
            self.lag_ms.pop(held.key, None)

    async def _read(self, held: HeldLease, into: Sink, place: _Place) -> bool:
        """True at the shard's end."""
        return await self._poll(held, into, place, math.inf)

    async def _poll(self, held: HeldLease, into: Sink, place: _Place, until_s: float) -> bool:
        iterator: str | None = None
        failures = 0
        while not held.is_stopping and anyio.current_time() < until_s:
            try:
                if iterator is None:
                    iterator = await self._iterator(held, place)
                answer = await self._client.get_records(ShardIterator=iterator, Limit=self._limit)
            except Exception as error:  # throttled, or the iterator has expired
                iterator, failures = None, failures + 1
                if failures >= self._attempts:
                    raise
                log.warning("%s not read: %r", held.key, error)
                await self._pause(held, self._backoff.delay_s(failures, 0.0, self._random()))
                continue
            failures = 0
            records: Records = answer["Records"]
            self.lag_ms[held.key] = answer.get("MillisBehindLatest", 0)
            await into.put(records)
            place.passed(records)
            iterator = answer.get("NextShardIterator")
            if iterator is None:
                return True
            if not records:
                await self._pause(held, min(self._poll_s, until_s - anyio.current_time()))
        return False

    async def _iterator(self, held: HeldLease, place: _Place) -> str:
        position: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if place.read is not None:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": place.read}
        answer = await self._client.get_shard_iterator(StreamName=self._stream, ShardId=held.key, **position)
        return str(answer["ShardIterator"])

    @staticmethod
    async def _pause(held: HeldLease, delay_s: float) -> None:
        with anyio.move_on_after(delay_s):
            await held.stopping.wait()


class FanOutReader(ShardReader):
    """A ShardReader that is pushed to: enhanced fan-out, with a throughput of its own for the consumer `consumer`.

    The consumer is registered by whoever comes first; all workers share it. A subscription lasts five minutes, and is
    renewed from where it was; so is one that was silent for `silence_s`, as AWS tells of itself every few seconds.
    Where the shard or the consumer is in use, or no further consumer may be registered, it polls for `retry_s`, and
    tries again. With threads each shard holds one, and a connection: see max_pool_connections.
    https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        consumer: str,
        handler: Handler | PerKey,
        *,
        retry_s: float = 5.0,
        silence_s: float = 35.0,
        limit: int = 1000,
        poll_s: float = 1.0,
        attempts: int = 5,
        backoff: Backoff | None = None,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        super().__init__(
            client,
            stream,
            handler,
            limit=limit,
            poll_s=poll_s,
            attempts=attempts,
            backoff=backoff,
            random=random,
        )
        self._consumer = consumer
        self._consumer_arn: str | None = None
        self._retry_s = retry_s
        self._silence_s = silence_s
        self._registering = anyio.Lock()

    async def deregister(self) -> None:
        """Deletes the consumer, if it is there: when nobody reads with it any more."""
        try:
            await self._client.deregister_stream_consumer(
                StreamARN=await self._stream_arn(), ConsumerName=self._consumer
            )
        except Exception as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
        self._consumer_arn = None

    async def _read(self, held: HeldLease, into: Sink, place: _Place) -> bool:
        failures = 0
        while not held.is_stopping:
            try:
                events = await self._subscribe(held, place)
            except Exception as error:
                if error_code(error) in _BUSY:
                    log.info("%s is polled: %r", held.key, error)
                    if await self._poll(held, into, place, anyio.current_time() + self._retry_s):
                        return True
                    continue
                failures = await self._failed(held, error, failures)
                continue
            ended: Exception | None = ConnectionError("it ended without an event")
            try:
                while not held.is_stopping:
                    event, raised = await self._next(held, events)
                    if event is None:
                        ended = raised or ended
                        break
                    failures, ended = 0, None
                    if await self._take(held, into, place, event):
                        return True
            finally:
                await events.close()
            if ended is not None and error_code(ended) not in _BUSY and not held.is_stopping:
                failures = await self._failed(held, ended, failures)
        return False

    async def _failed(self, held: HeldLease, error: Exception, failures: int) -> int:
        if error_code(error) == "ResourceNotFoundException":
            self._consumer_arn = None  # perhaps it was deleted
        if failures + 1 >= self._attempts:
            raise error
        log.warning("%s not subscribed to: %r", held.key, error)
        await self._pause(held, self._backoff.delay_s(failures + 1, 0.0, self._random()))
        return failures + 1

    async def _subscribe(self, held: HeldLease, place: _Place) -> _Events:
        position = {"Type": "TRIM_HORIZON"}
        after = place.continuation or place.read
        if after is not None:
            position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        answer = await self._client.subscribe_to_shard(
            ConsumerARN=await self._registered(), ShardId=held.key, StartingPosition=position
        )
        return _Events(answer["EventStream"])

    async def _next(self, held: HeldLease, events: _Events) -> tuple[Mapping[str, Any] | None, Exception | None]:
        """None is the end: of the subscription, by an error, by silence, or because we are asked to stop."""
        event: Mapping[str, Any] | None = None
        raised: Exception | None = None
        async with anyio.create_task_group() as either:

            async def pull() -> None:
                nonlocal event, raised
                with anyio.move_on_after(self._silence_s) as waiting:
                    try:
                        event = await events.next()
                    except Exception as error:
                        raised = error
                if waiting.cancelled_caught:
                    raised = TimeoutError(f"silent for {self._silence_s} s")
                either.cancel_scope.cancel()

            either.start_soon(pull)
            await held.stopping.wait()
            either.cancel_scope.cancel()
        return event, raised

    async def _take(self, held: HeldLease, into: Sink, place: _Place, event: Mapping[str, Any]) -> bool:
        told = event.get("SubscribeToShardEvent")
        if told is None:
            return False
        self.lag_ms[held.key] = told.get("MillisBehindLatest", 0)
        continuation = told.get("ContinuationSequenceNumber")
        await into.put(told["Records"])
        place.passed(told["Records"], continuation)
        return continuation is None

    async def _registered(self) -> str:
        async with self._registering:
            if self._consumer_arn is None:
                asked = {"StreamARN": await self._stream_arn(), "ConsumerName": self._consumer}
                try:
                    found = (await self._client.describe_stream_consumer(**asked))["ConsumerDescription"]
                except Exception as error:
                    if error_code(error) != "ResourceNotFoundException":
                        raise
                    found = (await self._client.register_stream_consumer(**asked))["Consumer"]
                self._consumer_arn = str(found["ConsumerARN"])
            return self._consumer_arn

    async def _stream_arn(self) -> str:
        answer = await self._client.describe_stream_summary(StreamName=self._stream)
        return str(answer["StreamDescriptionSummary"]["StreamARN"])


class _Events:
    """The events of an answer, of botocore or of aiobotocore."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_async = hasattr(stream, "__aiter__")
        self._events = aiter(stream) if self._is_async else iter(stream)
        self._thread = anyio.CapacityLimiter(1)  # not of those that all share: it is held as long as we are subscribed
        self._guard = threading.Lock()
        self._is_pulling = self._is_left = False

    async def next(self) -> Mapping[str, Any] | None:
        """None at the end."""
        event: Mapping[str, Any] | None
        if self._is_async:
            event = await anext(self._events, None)
        else:
            self._is_pulling = True
            event = await anyio.to_thread.run_sync(self._pull, abandon_on_cancel=True, limiter=self._thread)
        return event

    def _pull(self) -> Mapping[str, Any] | None:
        try:
            event: Mapping[str, Any] | None = next(self._events, None)
            return event
        finally:
            with self._guard:
                self._is_pulling = False
                if self._is_left:
                    self._stream.close()

    async def close(self) -> None:
        """Who waits for an event in a thread closes when it has it: to close under a reader would wait for it too."""
        with anyio.CancelScope(shield=True):
            if self._is_async:
                if hasattr(self._events, "aclose"):
                    await self._events.aclose()
                closing = self._stream.close()
                if inspect.isawaitable(closing):
                    await closing
            else:
                with self._guard:
                    self._is_left = True
                    if not self._is_pulling:
                        self._stream.close()
