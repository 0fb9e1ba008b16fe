"""An account's settings in a region: the commitment to a minimum of throughput, which warm throughput needs."""

from __future__ import annotations

import json
from typing import NamedTuple

from broker.errors import InvalidArgumentException
from broker.limits import COMMITMENT_MS
from broker.names import World
from broker.store.port import StreamItem
from broker.streams.registry import Registry

ENABLED, DISABLED = "ENABLED", "DISABLED"
UNTIL_END = "ENABLED_UNTIL_EARLIEST_ALLOWED_END"


class Commitment(NamedTuple):
    """`ended_ms` may lie ahead, where a commitment was disabled before its first day was over."""

    started_ms: int | None = None
    ended_ms: int | None = None

    def status(self, now_ms: int) -> str:
        if self.started_ms is None:
            return DISABLED
        if self.ended_ms is None:
            return ENABLED
        return UNTIL_END if now_ms < self.ended_ms else DISABLED

    @property
    def earliest_end_ms(self) -> int | None:
        return None if self.started_ms is None else self.started_ms + COMMITMENT_MS


class Accounts:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._commitments: dict[World, Commitment] = {}
        registry.on_load.append(self._load)

    def _load(self) -> None:
        self._commitments = {
            World(item.account, item.region): Commitment(*json.loads(item.document))
            for item in self._registry.store.load_items("account")
        }

    def describe(self, world: World) -> tuple[Commitment, str]:
        """The commitment and its status. Raises LimitExceededException."""
        self._registry.rate("DescribeAccountSettings", world)
        commitment = self._commitments.get(world, Commitment())
        return commitment, commitment.status(self._registry.clock.now_ms())

    def is_committed(self, world: World) -> bool:
        return self._commitments.get(world, Commitment()).status(self._registry.clock.now_ms()) != DISABLED

    def update(self, world: World, status: str) -> tuple[Commitment, str]:
        """Enables or disables the commitment. Raises InvalidArgumentException, LimitExceededException."""
        self._registry.rate("UpdateAccountSettings", world)
        if status not in (ENABLED, DISABLED):
            raise InvalidArgumentException(f"Status {status} is not valid.")
        self._registry.commit.enter()
        now_ms = self._registry.clock.now_ms()
        commitment = self._commitments.get(world, Commitment())
        now = commitment.status(now_ms)
        if status == ENABLED and now != ENABLED:
            commitment = Commitment(commitment.started_ms if now == UNTIL_END else now_ms)
        elif status == DISABLED and now == ENABLED:
            assert commitment.earliest_end_ms is not None
            commitment = commitment._replace(ended_ms=max(now_ms, commitment.earliest_end_ms))
        self._commitments[world] = commitment
        self._registry.store.put_item(StreamItem("account", *world, "", json.dumps(commitment)))
        return commitment, commitment.status(now_ms)

    def reset(self, account: str | None) -> None:
        for world in [world for world in self._commitments if account in (None, world.account)]:
            del self._commitments[world]
            self._registry.store.delete_item("account", *world, "")
