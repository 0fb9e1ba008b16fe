"""Kinesis Data Streams: streams and their shards, records, registered consumers and their subscriptions."""

from broker.streams.account import Commitment
from broker.streams.channels import Batch, Channel
from broker.streams.putting import Put, Putting, Refused
from broker.streams.queue_records import Received
from broker.streams.queues import DeadLetters, StreamQueue
from broker.streams.records import Page
from broker.streams.segments import Record
from broker.streams.service import Streams
from broker.streams.stream import Consumer, Shard, Stream
from broker.streams.subscriptions import Event, Subscription

__all__ = [
    "Batch",
    "Channel",
    "Commitment",
    "Consumer",
    "DeadLetters",
    "Event",
    "Page",
    "Put",
    "Putting",
    "Received",
    "Record",
    "Refused",
    "Shard",
    "Stream",
    "StreamQueue",
    "Streams",
    "Subscription",
]
