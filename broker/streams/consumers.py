"""Registered consumers: each reads a stream at a rate of its own, by SubscribeToShard."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from broker.errors import (
    InvalidArgumentException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from broker.limits import ADVANTAGE_CONSUMERS, MAX_CONSUMERS_LISTED
from broker.names import World
from broker.streams import tokens
from broker.streams.account import Accounts
from broker.streams.definitions import check_tags
from broker.streams.lifecycle import Lifecycle
from broker.streams.registry import Registry, check_usable
from broker.streams.shards import Shards, check_created
from broker.streams.stream import CREATING, DELETING, ON_DEMAND, Consumer, Stream

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_TOKEN = "ListStreamConsumers"


class Consumers:
    """The consumers of all streams."""

    def __init__(self, registry: Registry, lifecycle: Lifecycle, shards: Shards, accounts: Accounts) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._shards = shards
        self._accounts = accounts
        self._limits = registry.limits
        self.count_others: list[Callable[[Stream], int]] = []  # queues count as consumers

    def find(
        self, world: World, *, arn: str | None = None, stream: Stream | None = None, name: str | None = None
    ) -> Consumer:
        """By its ARN, or by its stream and name, or all that agrees. Raises ResourceNotFound…, InvalidArgument…."""
        if arn is not None:
            consumer = self._registry.consumers.get(arn)
            if consumer is None:
                raise ResourceNotFoundException(f"Consumer {arn}, account {world.account} not found.")
        elif stream is not None and name is not None:
            consumer = next((one for one in stream.consumers.values() if one.name == name), None)
            if consumer is None:
                raise ResourceNotFoundException(
                    f"Consumer {name} under stream {stream.name}, account {stream.world.account} not found."
                )
        else:
            raise InvalidArgumentException("Either ConsumerARN or both StreamARN and ConsumerName must be specified.")
        if stream not in (None, consumer.stream) or name not in (None, consumer.name):
            raise InvalidArgumentException("ConsumerARN does not match StreamARN and ConsumerName.")
        return consumer

    def register(self, stream: Stream, name: str, tags: Mapping[str, str] | None = None) -> Consumer:
        """Raises InvalidArgument…, ResourceInUse…, LimitExceededException."""
        self._registry.rate("RegisterStreamConsumer", stream.world, stream.arn)
        if not _NAME.fullmatch(name):
            raise InvalidArgumentException(f"ConsumerName {name} does not match [a-zA-Z0-9_.-]+ or is too long.")
        check_tags({}, tags or {})
        self._registry.commit.enter()
        check_usable(stream)
        if any(consumer.name == name for consumer in stream.consumers.values()):
            raise ResourceInUseException(
                f"Consumer {name} under stream {stream.name} already exists for account {stream.world.account}."
            )
        self._check_quota(stream)
        consumer = Consumer(stream, name, self._registry.clock.now_ms())
        consumer.tags = dict(tags or {})
        self._registry.add_consumer(consumer)
        self._lifecycle.create_consumer(consumer)
        return consumer

    def _check_quota(self, stream: Stream) -> None:
        creating, limit = self._limits.consumers_creating, self.quota(stream)
        if creating is not None and sum(c.status == CREATING for c in stream.consumers.values()) >= creating:
            raise LimitExceededException(f"Limit of {creating} consumers in CREATING status exceeded.")
        if limit is not None and self.count(stream) >= limit:
            raise LimitExceededException(
                f"Limit of {limit} registered consumers exceeded for stream {stream.name} "
                f"under account {stream.world.account}."
            )

    def quota(self, stream: Stream) -> int | None:
        """How many consumers, with queues, a stream may have."""
        if self._limits.stream_consumers is None:
            return None
        is_advantage = stream.mode == ON_DEMAND and self._accounts.is_committed(stream.world)
        return ADVANTAGE_CONSUMERS if is_advantage else self._limits.stream_consumers

    def count(self, stream: Stream) -> int:
        """With queues."""
        return len(stream.consumers) + sum(count(stream) for count in self.count_others)

    def deregister(self, consumer: Consumer) -> None:
        """Raises LimitExceededException, ResourceInUseException."""
        self._registry.rate("DeregisterStreamConsumer", consumer.stream.world, consumer.stream.arn)
        self._registry.commit.enter()
        if consumer.status == DELETING:
            raise ResourceInUseException(f"Consumer {consumer.name} is already being deleted.")
        for tell in self._registry.on_deregister:
            tell(consumer)
        self._lifecycle.delete_consumer(consumer)

    def describe(self, consumer: Consumer) -> Consumer:
        """Raises LimitExceededException."""
        self._registry.rate("DescribeStreamConsumer", consumer.stream.world, consumer.stream.arn)
        return consumer

    def list_consumers(
        self,
        world: World,
        stream: Stream,
        *,
        token: str | None = None,
        limit: int | None = None,
        created_ms: int | None = None,
    ) -> tuple[list[Consumer], str | None]:
        """A page in the order of registration, and the next token.

        Raises InvalidArgument…, ResourceNotFound…, ResourceInUse…, LimitExceeded…, ExpiredNextTokenException.
        """
        self._registry.rate("ListStreamConsumers", stream.world, stream.arn)
        after: tuple[int, str] = (-1, "")
        if token is not None:
            if created_ms is not None:
                raise InvalidArgumentException("NextToken and StreamCreationTimestamp cannot be provided together.")
            owner, asked = self._shards.read_token(world, token, _TOKEN)
            if owner is not stream:
                raise InvalidArgumentException("The provided NextToken is of another stream.")
            after = tuple(asked["after"])
        check_created(stream, created_ms)
        check_usable(stream)
        found = sorted(
            (c for c in stream.consumers.values() if (c.created_ms, c.arn) > after),
            key=lambda c: (c.created_ms, c.arn),
        )
        count = min(limit or MAX_CONSUMERS_LISTED, MAX_CONSUMERS_LISTED)
        if len(found) <= count:
            return found, None
        last = found[count - 1]
        asked = {"mark": tokens.mark_of(stream.secret), "after": [last.created_ms, last.arn]}
        return found[:count], tokens.make_list_token(_TOKEN, asked, stream.secret, self._registry.clock.now_ms())
