"""Kinesis Data Streams: streams and their shards, records, registered consumers and their subscriptions."""

from broker.streams.account import Commitment
from broker.streams.records import Page, Put, Putting, Refused
from broker.streams.segments import Record
from broker.streams.service import Streams
from broker.streams.stream import Consumer, Shard, Stream
from broker.streams.subscriptions import Event, Subscription

__all__ = [
    "Commitment",
    "Consumer",
    "Event",
    "Page",
    "Put",
    "Putting",
    "Record",
    "Refused",
    "Shard",
    "Stream",
    "Streams",
    "Subscription",
]
