"""On-demand streams follow their load: room for twice what came in the busiest second, as the developer guide has it.

Only where the limits hold; elsewhere a shard takes all there is. Scaling down is left to `UpdateStreamWarmThroughput`:
AWS's own takes a day and keeps what the last thirty needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.limits import ON_DEMAND_SHARDS
from broker.streams.lifecycle import Lifecycle
from broker.streams.registry import Registry
from broker.streams.shards import Shards
from broker.streams.stream import ACTIVE, ON_DEMAND, Stream

MAX_SHARDS = 200  # "Quotas and limits": 200 MiB/s, where nobody asked for more


class Scaling:
    def __init__(self, registry: Registry, lifecycle: Lifecycle, shards: Shards) -> None:
        self._limits = registry.limits
        self._lifecycle = lifecycle
        self._shards = shards
        lifecycle.on_update["Scale"] = self._apply

    def watch(self, stream: Stream, entries: Sequence[tuple[bytes, Any, Any]], now_ms: int) -> None:
        """Counts what comes to an on-demand stream, taken or not, and doubles it when half its room is used."""
        if stream.mode != ON_DEMAND:
            return
        bytes_per_s, records_per_s = self._limits.shard_write_bytes_per_s, self._limits.shard_write_records_per_s
        assert bytes_per_s is not None
        assert records_per_s is not None
        window, second = stream.writes, now_ms // 1000
        if second != window.second:
            window.second, window.bytes, window.records = second, 0, 0
        window.records += len(entries)
        window.bytes += sum(len(entry[0]) for entry in entries)
        count = len(stream.open_shards)
        if (
            stream.status == ACTIVE
            and count < MAX_SHARDS
            and (2 * window.bytes > count * bytes_per_s or 2 * window.records > count * records_per_s)
        ):
            self._lifecycle.update(stream, "Scale", target=min(2 * count, MAX_SHARDS))

    def warm(self, stream: Stream, mibps: int, now_ms: int) -> None:
        """As many shards as the throughput that was asked for needs."""
        self._shards.scale(stream, max(ON_DEMAND_SHARDS, mibps), now_ms)

    def _apply(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        self._shards.scale(stream, asked["target"], now_ms)
