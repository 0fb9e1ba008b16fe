"""A record on its way in, and what its producer is told of it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from broker.streams.stream import Shard

THROTTLED = "ProvisionedThroughputExceededException"


class Putting(NamedTuple):
    """A record on its way in."""

    data: bytes
    partition_key: str | None
    explicit_hash_key: str | None = None


class Put(NamedTuple):
    shard_id: str
    sequence_number: str


new_put = partial(tuple.__new__, Put)  # half the time of Put(...), on the hot path


class Refused(NamedTuple):
    """An entry of PutRecords that was not taken."""

    error_code: str
    error_message: str


def throttled(shard: Shard) -> Refused:
    return Refused(THROTTLED, exceeded(shard))


def exceeded(shard: Shard) -> str:
    stream = shard.stream
    return f"Rate exceeded for shard {shard.shard_id} in stream {stream.name} under account {stream.world.account}."
