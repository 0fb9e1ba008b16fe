"""Rates: what a shard takes and gives in a second, and how often an operation may be called.

Seconds are counted as the clock's. A record or a read that is larger than a second's share is let through once the
share is untouched, and then takes up as many seconds as it is large: so reading 10 MiB at once costs five seconds, as
GetRecords' page says. Quotas are those of "Quotas and limits" in the developer guide and of the API reference.
"""

from __future__ import annotations

from typing import Literal

Scope = Literal["account", "stream"]

API_RATES: dict[str, tuple[int, Scope]] = {
    "AddTagsToStream": (5, "account"),
    "CreateChannel": (5, "account"),
    "CreateStream": (5, "account"),
    "DecreaseStreamRetentionPeriod": (5, "stream"),
    "DeleteChannel": (5, "account"),
    "DeleteResourcePolicy": (5, "account"),
    "DeleteStream": (5, "account"),
    "DeregisterStreamConsumer": (5, "stream"),
    "DescribeAccountSettings": (5, "account"),
    "DescribeChannel": (5, "account"),
    "DescribeLimits": (1, "account"),
    "DescribeStream": (10, "account"),
    "DescribeStreamConsumer": (20, "stream"),
    "DescribeStreamSummary": (20, "account"),
    "DisableEnhancedMonitoring": (5, "stream"),
    "EnableEnhancedMonitoring": (5, "stream"),
    "GetResourcePolicy": (5, "account"),
    "IncreaseStreamRetentionPeriod": (5, "stream"),
    "ListChannels": (5, "account"),
    "ListShards": (1_000, "stream"),
    "ListStreamConsumers": (5, "stream"),
    "ListStreams": (5, "account"),
    "ListTagsForResource": (5, "account"),
    "ListTagsForStream": (5, "account"),
    "MergeShards": (5, "account"),
    "PutResourcePolicy": (5, "account"),
    "RegisterStreamConsumer": (5, "stream"),
    "RemoveTagsFromStream": (5, "account"),
    "SplitShard": (5, "account"),
    "StartStreamEncryption": (5, "stream"),
    "StopStreamEncryption": (5, "stream"),
    "TagResource": (5, "account"),
    "UntagResource": (5, "account"),
    "UpdateAccountSettings": (5, "account"),
    "UpdateChannel": (5, "account"),
    "UpdateMaxRecordSize": (5, "stream"),
    "UpdateShardCount": (10, "stream"),
    "UpdateStreamMode": (5, "stream"),
    "UpdateStreamRecordDistributionStrategy": (5, "account"),
    "UpdateStreamWarmThroughput": (5, "account"),
}
GET_SHARD_ITERATOR_PER_S = 5  # of an open shard


class WriteWindow:
    """What came in the current second."""

    __slots__ = ("bytes", "records", "second")

    def __init__(self) -> None:
        self.second = self.bytes = self.records = 0

    def turn(self, second: int, bytes_per_s: int) -> None:
        """A new second, perhaps: what one large record took of it already stays."""
        if second != self.second:
            self.bytes = max(0, self.bytes - bytes_per_s * max(1, second - self.second))
            self.records = 0
            self.second = second

    def takes(self, second: int, size: int, bytes_per_s: int, records_per_s: int) -> bool:
        self.turn(second, bytes_per_s)
        if self.records >= records_per_s or (self.bytes and self.bytes + size > bytes_per_s):
            return False
        self.bytes += size
        self.records += 1
        return True


class ReadWindow:
    """What went out in the current second, which lasts longer where that was much; and iterators asked for."""

    __slots__ = ("began_ms", "bytes", "calls", "iterators", "until_ms")

    def __init__(self) -> None:
        self.began_ms = self.until_ms = -1
        self.bytes = self.calls = self.iterators = 0

    def _turn(self, now_ms: int) -> None:
        if now_ms >= self.until_ms or now_ms < self.began_ms:
            self.began_ms, self.until_ms = now_ms, now_ms + 1000
            self.bytes = self.calls = self.iterators = 0

    def lets(self, now_ms: int, bytes_per_s: int, calls_per_s: int) -> bool:
        """Whether one more read may begin. It counts."""
        self._turn(now_ms)
        if self.calls >= calls_per_s or self.bytes >= bytes_per_s:
            return False
        self.calls += 1
        return True

    def took(self, size: int, bytes_per_s: int) -> None:
        self.bytes += size
        self.until_ms = self.began_ms + max(1000, self.bytes * 1000 // bytes_per_s)

    def lets_iterator(self, now_ms: int) -> bool:
        self._turn(now_ms)
        self.iterators += 1
        return self.iterators <= GET_SHARD_ITERATOR_PER_S


class CallRates:
    """How often each operation was called in the current second."""

    def __init__(self) -> None:
        self._second = -1
        self._calls: dict[tuple[str, str], int] = {}

    def lets(self, operation: str, owner: str, now_ms: int) -> bool:
        second = now_ms // 1000
        if second != self._second:
            self._second = second
            self._calls.clear()
        calls = self._calls[operation, owner] = self._calls.get((operation, owner), 0) + 1
        return calls <= API_RATES[operation][0]
