"""CREATING, UPDATING, DELETING: what a stream or consumer is becoming, and when it is.

A change is written down with its operation and takes effect at the end of its time, as AWS's do, also when the broker
was restarted meanwhile. Where the limits give it no time, it is done at once. Whoever offers an operation says what it
does at the end, in `on_update`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.errors import LimitExceededException
from broker.streams.registry import Registry, check_active
from broker.streams.stream import ACTIVE, CREATING, DELETING, UPDATING, Consumer, Stream

DAY_MS = 86_400_000

Apply = Callable[[Stream, dict[str, Any], int], None]
"""Does a change to a stream: what was asked, and when it is done."""


class Lifecycle:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._clock = registry.clock
        self.on_update: dict[str, Apply] = {}
        registry.on_load.append(self._resume)

    # streams

    def create(self, stream: Stream, asked: dict[str, Any]) -> None:
        stream.update = {"operation": "CreateStream", **asked}
        self._begin(stream, CREATING, self._registry.limits.stream_create_ms)

    def update(self, stream: Stream, operation: str, **asked: Any) -> None:
        """Raises ResourceInUseException, unless the stream is ACTIVE."""
        check_active(stream)
        stream.update = {"operation": operation, **asked}
        self._begin(stream, UPDATING, self._registry.limits.stream_update_ms)

    def delete(self, stream: Stream) -> None:
        stream.update = None
        self._begin(stream, DELETING, self._registry.limits.stream_delete_ms)

    def count(self, stream: Stream, operation: str, limit: int | None) -> None:
        """Counts an operation that a stream has only so often in 24 hours. Raises LimitExceededException."""
        now_ms = self._clock.now_ms()
        done = [moment_ms for moment_ms in stream.history.get(operation, ()) if moment_ms > now_ms - DAY_MS]
        if limit is not None:
            if len(done) >= limit:
                raise LimitExceededException(
                    f"{operation} can be called {limit} times in 24 hours for stream {stream.name} "
                    f"under account {stream.world.account}."
                )
            stream.history[operation] = [*done, now_ms]

    def _begin(self, stream: Stream, status: str, takes_ms: int) -> None:
        stream.status = status
        stream.until_ms = self._clock.now_ms() + takes_ms
        if takes_ms == 0:
            self._finish(stream)
        else:
            self._registry.put(stream)
            self._appoint(stream)

    def _appoint(self, stream: Stream) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.until_ms is not None:
            stream.timer = self._registry.call_at(stream.until_ms, self._when_due, stream)

    def _when_due(self, stream: Stream) -> None:
        if self._registry.by_arn.get(stream.arn) is stream and stream.until_ms is not None:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        if stream.status == DELETING:
            self._registry.remove_stream(stream)
            return
        asked, stream.update, stream.until_ms = stream.update, None, None
        stream.status = ACTIVE
        if asked is not None:
            self.on_update[asked["operation"]](stream, asked, self._clock.now_ms())
        self._registry.put(stream)

    # consumers

    def create_consumer(self, consumer: Consumer) -> None:
        self._begin_consumer(consumer, CREATING, self._registry.limits.consumer_create_ms)

    def delete_consumer(self, consumer: Consumer) -> None:
        self._begin_consumer(consumer, DELETING, self._registry.limits.consumer_delete_ms)

    def _begin_consumer(self, consumer: Consumer, status: str, takes_ms: int) -> None:
        consumer.status = status
        consumer.until_ms = self._clock.now_ms() + takes_ms
        if takes_ms == 0:
            self._finish_consumer(consumer)
        else:
            self._registry.put(consumer)
            self._appoint_consumer(consumer)

    def _appoint_consumer(self, consumer: Consumer) -> None:
        if consumer.timer is not None:
            consumer.timer.cancel()
        if consumer.until_ms is not None:
            consumer.timer = self._registry.call_at(consumer.until_ms, self._when_consumer_due, consumer)

    def _when_consumer_due(self, consumer: Consumer) -> None:
        if self._registry.consumers.get(consumer.arn) is consumer and consumer.until_ms is not None:
            self._finish_consumer(consumer)

    def _finish_consumer(self, consumer: Consumer) -> None:
        if consumer.status == DELETING:
            self._registry.remove_consumer(consumer)
        else:
            consumer.status, consumer.until_ms = ACTIVE, None
            self._registry.put(consumer)

    def _resume(self) -> None:
        for stream in self._registry.streams.values():
            self._appoint(stream)
        for consumer in self._registry.consumers.values():
            self._appoint_consumer(consumer)
