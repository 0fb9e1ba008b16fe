"""Shards: made, split, merged, listed. A reshard closes parents and opens children in one transaction.

Only two things ever happen to shards, and uniform scaling is made of them: one is split in two, or two neighbours
become one. So UpdateShardCount makes shards that are closed at once, as AWS's does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from broker.errors import (
    ExpiredNextTokenException,
    InvalidArgumentException,
    LimitExceededException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import MAX_SHARDS_DESCRIBED, MAX_SHARDS_LISTED, SHARD_QUOTA, STREAM_TOKEN_MS
from broker.names import World
from broker.streams import tokens
from broker.streams.lifecycle import Lifecycle
from broker.streams.registry import Registry, check_active, check_usable
from broker.streams.stream import CREATING, MAX_HASH_KEY, PROVISIONED, Shard, Stream, index_of

MAX_SHARDS = 10_000  # UpdateShardCount: of one stream
_TOKEN = "ListShards"


def uniform(count: int) -> list[tuple[int, int]]:
    """The hash keys of so many equal shards."""
    bounds = [number * (MAX_HASH_KEY + 1) // count for number in range(count + 1)]
    return [(first, end - 1) for first, end in pairwise(bounds)]


class Shards:
    """The shards of all streams."""

    def __init__(self, registry: Registry, lifecycle: Lifecycle) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._clock = registry.clock
        lifecycle.on_update["SplitShard"] = self._apply_split
        lifecycle.on_update["MergeShards"] = self._apply_merge
        lifecycle.on_update["UpdateShardCount"] = self._apply_count

    # operations

    def split(self, stream: Stream, shard_id: str, new_starting_hash_key: str) -> None:
        """Raises ResourceNotFound…, InvalidArgument…, ResourceInUse…, LimitExceeded…, ValidationException."""
        self._registry.rate("SplitShard", stream.world)
        _check_provisioned(stream, "SplitShard")
        self._registry.commit.enter()
        check_active(stream)
        shard = self._find_open(stream, shard_id, "split")
        key = int(new_starting_hash_key)
        if not shard.starting_hash_key + 1 < key < shard.ending_hash_key:
            raise InvalidArgumentException(
                f"NewStartingHashKey {key} used in SplitShard() on shard {shard.shard_id} in stream {stream.name} "
                f"under account {stream.world.account} is not both greater than one plus the shard's StartingHashKey "
                f"{shard.starting_hash_key} and less than the shard's EndingHashKey {shard.ending_hash_key}."
            )
        self.check_quota(stream.world, 1)
        self._lifecycle.update(stream, "SplitShard", shard=shard.index, hash_key=str(key))

    def merge(self, stream: Stream, shard_id: str, adjacent_shard_id: str) -> None:
        """Raises ResourceNotFound…, InvalidArgument…, ResourceInUse…, LimitExceeded…, ValidationException."""
        self._registry.rate("MergeShards", stream.world)
        _check_provisioned(stream, "MergeShards")
        self._registry.commit.enter()
        check_active(stream)
        shard = self._find_open(stream, shard_id, "merged")
        adjacent = self._find_open(stream, adjacent_shard_id, "merged")
        if shard.ending_hash_key + 1 != adjacent.starting_hash_key and adjacent.ending_hash_key + 1 != (
            shard.starting_hash_key
        ):
            raise InvalidArgumentException(
                f"Shards {shard.shard_id} and {adjacent.shard_id} in stream {stream.name} under account "
                f"{stream.world.account} are not an adjacent pair of shards eligible for merging"
            )
        self._lifecycle.update(stream, "MergeShards", shard=shard.index, adjacent=adjacent.index)

    def update_count(self, stream: Stream, target: int, scaling_type: str = "UNIFORM_SCALING") -> tuple[int, int]:
        """The count as it is and as it will be. Raises as `split` does."""
        self._registry.rate("UpdateShardCount", stream.world, stream.arn)
        _check_provisioned(stream, "UpdateShardCount")
        if scaling_type != "UNIFORM_SCALING":
            raise InvalidArgumentException(f"ScalingType {scaling_type} is not supported.")
        self._registry.commit.enter()
        check_active(stream)
        current = len(stream.open_shards)
        limits = self._registry.limits
        if target > MAX_SHARDS:
            raise LimitExceededException(f"Target shard count {target} is above the limit of {MAX_SHARDS} of a stream.")
        if limits.shard_count_factor is not None:
            asked = f"Current open shard count: {current} Target shard count: {target}"
            if target > current * limits.shard_count_factor:
                raise InvalidArgumentException(
                    f"UpdateShardCount cannot scale up over double your current open shard count. {asked}"
                )
            if target * limits.shard_count_factor < current:
                raise InvalidArgumentException(
                    f"UpdateShardCount cannot scale down below half your current open shard count. {asked}"
                )
        self.check_quota(stream.world, target - current)
        self._lifecycle.count(stream, "UpdateShardCount", limits.shard_count_updates)
        self._lifecycle.update(stream, "UpdateShardCount", target=target)
        return current, target

    def page(self, stream: Stream, after: str | None, limit: int | None) -> tuple[list[Shard], bool]:
        """DescribeStream's list, and whether there are more."""
        first = -1 if after is None else index_of(after)
        if first is None:
            raise InvalidArgumentException(f"ExclusiveStartShardId {after} is not a shard's id.")
        found = [shard for index, shard in sorted(stream.shards.items()) if index > first]
        count = min(limit or MAX_SHARDS_DESCRIBED, MAX_SHARDS_DESCRIBED)
        return found[:count], len(found) > count

    def list_shards(
        self,
        world: World,
        stream: Stream | None,
        *,
        token: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        created_ms: int | None = None,
        filter_type: str | None = None,
        filter_shard_id: str | None = None,
        filter_timestamp_ms: int | None = None,
    ) -> tuple[Stream, list[Shard], str | None]:
        """ListShards: the stream, some of its shards, and the next token.

        Raises InvalidArgument…, ResourceNotFound…, ResourceInUse…, LimitExceeded…, ExpiredNextTokenException.
        """
        asked: dict[str, Any] = {
            "filter": filter_type or "FROM_TRIM_HORIZON",
            "shard_id": filter_shard_id,
            "timestamp_ms": filter_timestamp_ms,
        }
        if token is not None:
            if after is not None or created_ms is not None:
                raise InvalidArgumentException(
                    "NextToken and ExclusiveStartShardId or StreamCreationTimestamp cannot be provided together."
                )
            named = stream
            stream, asked = self.read_token(world, token)
            if named not in (None, stream):
                raise InvalidArgumentException("NextToken and StreamName cannot be provided together.")
            after = asked["after"]
        if stream is None:
            raise InvalidArgumentException("Either NextToken or StreamName should be provided.")
        self._registry.rate("ListShards", world, stream.arn)
        check_created(stream, created_ms)
        check_usable(stream)
        self._registry.commit.enter()
        if after is not None and asked["filter"] == "AFTER_SHARD_ID" and token is None:
            raise InvalidArgumentException("ExclusiveStartShardId and ShardFilter AFTER_SHARD_ID are the same.")
        first = -1 if after is None else index_of(after)
        if first is None:
            raise InvalidArgumentException(f"ExclusiveStartShardId {after} is not a shard's id.")
        found = [
            shard
            for shard in sorted(self._filtered(stream, asked), key=lambda shard: shard.index)
            if shard.index > first
        ]
        count = min(limit or MAX_SHARDS_LISTED, MAX_SHARDS_LISTED)
        if len(found) <= count:
            return stream, found, None
        asked |= {"mark": tokens.mark_of(stream.secret), "after": found[count - 1].shard_id}
        return stream, found[:count], tokens.make_list_token(_TOKEN, asked, stream.secret, self._clock.now_ms())

    def read_token(self, world: World, token: str, kind: str = _TOKEN) -> tuple[Stream, dict[str, Any]]:
        """Raises InvalidArgumentException, ExpiredNextTokenException."""
        read = tokens.read_list_token(kind, token)
        stream = None if read is None else self._registry.by_mark.get(read[0].get("mark", 0))
        if read is None or stream is None or not tokens.is_signed_list(read[2], stream.secret):
            raise InvalidArgumentException("The provided NextToken is invalid.")
        if self._clock.now_ms() > read[1] + STREAM_TOKEN_MS:
            raise ExpiredNextTokenException("The provided NextToken has expired.")
        return stream, read[0]

    def _filtered(self, stream: Stream, asked: dict[str, Any]) -> Iterable[Shard]:
        kind = asked["filter"]
        shards = stream.shards.values()
        if kind == "AFTER_SHARD_ID":
            if asked["shard_id"] is None:
                raise InvalidArgumentException("ShardId must be provided when ShardFilter type is AFTER_SHARD_ID.")
            first = index_of(asked["shard_id"])
            if first is None:
                raise InvalidArgumentException(f"ShardId {asked['shard_id']} is not a shard's id.")
            return [shard for shard in shards if shard.index > first]
        if kind == "FROM_TRIM_HORIZON":
            return shards
        if kind == "AT_LATEST":
            return stream.open_shards
        moment_ms = max(stream.created_ms, stream.horizon_ms(self._clock.now_ms()))
        if kind != "AT_TRIM_HORIZON":
            if asked["timestamp_ms"] is None:
                raise InvalidArgumentException(f"Timestamp must be provided when ShardFilter type is {kind}.")
            moment_ms = max(moment_ms, asked["timestamp_ms"])
        # A stream's first shards are older than it is ACTIVE.
        return [
            shard
            for shard in shards
            if (shard.closed_ms is None or shard.closed_ms >= moment_ms)
            and (kind == "FROM_TIMESTAMP" or shard.created_ms <= moment_ms or not shard.parent_ids)
        ]

    # quotas

    def open_count(self, world: World) -> int:
        """Of provisioned streams, with those that are being made."""
        count = 0
        for stream in self._registry.of_world(world):
            if stream.mode == PROVISIONED:
                asked = stream.update or {}
                count += max(
                    len(stream.open_shards) + (asked.get("operation") == "SplitShard"),
                    asked.get("shards", 0) if stream.status == CREATING else asked.get("target", 0),
                )
        return count

    def check_quota(self, world: World, more: int) -> None:
        """Raises LimitExceededException."""
        limit = self._registry.limits.shards
        if limit is not None and more > 0 and (current := self.open_count(world)) + more > limit:
            raise LimitExceededException(
                f"This request would exceed the shard limit for the account {world.account} in {world.region}. "
                f"Current shard count for the account: {current}. Limit: {limit}. Number of additional shards that "
                f"would have resulted from this request: {more}. Refer to the AWS Service Limits page "
                "(http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to "
                "request higher limits."
            )

    @property
    def quota(self) -> int:
        return self._registry.limits.shards or SHARD_QUOTA

    # changes

    def make_first(self, stream: Stream, count: int) -> None:
        """The shards that a stream begins with. They are as old as it."""
        for hash_keys in uniform(count):
            self._make(stream, hash_keys, stream.created_ms, [])
        stream.index_shards()

    def _make(self, stream: Stream, hash_keys: tuple[int, int], now_ms: int, parents: list[Shard]) -> Shard:
        index = stream.next_index
        stream.next_index += 1
        shard = Shard(
            stream,
            self._registry.next_no(),
            index,
            hash_keys,
            max([now_ms, *(parent.closed_ms or 0 for parent in parents)]),
            max([now_ms // 1000, *(parent.born_s + 1 for parent in parents)]),
            *(parent.shard_id for parent in parents),
        )
        self._registry.add_shard(shard)
        return shard

    def _split(self, shard: Shard, key: int, now_ms: int) -> tuple[Shard, Shard]:
        self._registry.close_shard(shard, now_ms)
        lower = self._make(shard.stream, (shard.starting_hash_key, key - 1), now_ms, [shard])
        return lower, self._make(shard.stream, (key, shard.ending_hash_key), now_ms, [shard])

    def _merge(self, shard: Shard, adjacent: Shard, now_ms: int) -> Shard:
        hash_keys = (
            min(shard.starting_hash_key, adjacent.starting_hash_key),
            max(shard.ending_hash_key, adjacent.ending_hash_key),
        )
        self._registry.close_shard(shard, now_ms)
        self._registry.close_shard(adjacent, now_ms)
        return self._make(shard.stream, hash_keys, now_ms, [shard, adjacent])

    def _apply_split(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        self._split(stream.shards[asked["shard"]], int(asked["hash_key"]), now_ms)
        stream.index_shards()

    def _apply_merge(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        self._merge(stream.shards[asked["shard"]], stream.shards[asked["adjacent"]], now_ms)
        stream.index_shards()

    def _apply_count(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        self.scale(stream, asked["target"], now_ms)

    def scale(self, stream: Stream, target: int, now_ms: int) -> None:
        """Splits at the new bounds, then merges what lies between them, in rounds of pairs."""
        ranges = uniform(target)
        bounds = [first for first, _ in ranges]
        pieces: deque[Shard] = deque()
        for shard in stream.open_shards:
            inside = bounds[bisect_right(bounds, shard.starting_hash_key) : bisect_right(bounds, shard.ending_hash_key)]
            pieces += self._split_at(shard, inside, now_ms)
        for _, last in ranges:
            group = []
            while pieces and pieces[0].ending_hash_key <= last:
                group.append(pieces.popleft())
            while len(group) > 1:
                pairs = [group[number : number + 2] for number in range(0, len(group), 2)]
                group = [self._merge(pair[0], pair[1], now_ms) if len(pair) == 2 else pair[0] for pair in pairs]
        stream.index_shards()

    def _split_at(self, shard: Shard, keys: list[int], now_ms: int) -> list[Shard]:
        if not keys:
            return [shard]
        middle = len(keys) // 2
        lower, upper = self._split(shard, keys[middle], now_ms)
        return self._split_at(lower, keys[:middle], now_ms) + self._split_at(upper, keys[middle + 1 :], now_ms)

    def _find_open(self, stream: Stream, shard_id: str, verb: str) -> Shard:
        shard = stream.shard(shard_id)
        if shard is None:
            raise ResourceNotFoundException(
                f"Could not find shard {shard_id} in stream {stream.name} under account {stream.world.account}."
            )
        if not shard.is_open:
            raise InvalidArgumentException(
                f"Shard {shard.shard_id} in stream {stream.name} under account {stream.world.account} has already been "
                f"merged or split, and thus is not eligible for being {verb}."
            )
        return shard


def check_created(stream: Stream, created_ms: int | None) -> None:
    """Raises ResourceNotFoundException where the client means an earlier stream of that name."""
    if created_ms is not None and created_ms // 1000 != stream.created_ms // 1000:
        raise ResourceNotFoundException(
            f"Stream {stream.name} under account {stream.world.account} with that creation timestamp not found."
        )


def _check_provisioned(stream: Stream, operation: str) -> None:
    if stream.mode != PROVISIONED:
        raise ValidationException(
            f"Request is invalid. Stream {stream.name} under account {stream.world.account} is in On-Demand mode: "
            f"{operation} is only supported for the provisioned mode."
        )
