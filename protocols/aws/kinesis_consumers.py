"""Kinesis's registered consumers, and SubscribeToShard: an answer that goes on for five minutes.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html
"""

from __future__ import annotations

from broker.errors import DomainError
from broker.streams import Consumer, Event, Subscription
from broker.streams.stream import CREATING
from protocols.aws.call import Call, EventSink, Operation, Result, Streaming
from protocols.aws.kinesis_access import find_consumer, find_stream, moment_ms
from protocols.aws.kinesis_records import shown_children, shown_records
from protocols.http.message import Cancel


def register_stream_consumer(call: Call) -> Result:
    given = call.parameters
    consumer = call.broker.streams.consumers.register(find_stream(call), given["ConsumerName"], given.get("Tags"))
    # AWS answers before the consumer is made, however quick that is.
    return {"Consumer": {**_shown(consumer), "ConsumerStatus": CREATING}}


def deregister_stream_consumer(call: Call) -> Result:
    call.broker.streams.consumers.deregister(find_consumer(call))
    return {}


def describe_stream_consumer(call: Call) -> Result:
    consumer = call.broker.streams.consumers.describe(find_consumer(call))
    return {"ConsumerDescription": {**_shown(consumer), "StreamARN": consumer.stream.arn}}


def list_stream_consumers(call: Call) -> Result:
    given = call.parameters
    created = given.get("StreamCreationTimestamp")
    consumers, token = call.broker.streams.consumers.list_consumers(
        call.world,
        find_stream(call),
        token=given.get("NextToken"),
        limit=given.get("MaxResults"),
        created_ms=None if created is None else moment_ms(created),
    )
    result: Result = {"Consumers": [_shown(consumer) for consumer in consumers]}
    if token is not None:
        result["NextToken"] = token
    return result


def _shown(consumer: Consumer) -> Result:
    return {
        "ConsumerName": consumer.name,
        "ConsumerARN": consumer.arn,
        "ConsumerStatus": consumer.status,
        "ConsumerCreationTimestamp": consumer.created_ms // 1000,
    }


# subscriptions ------------------------------------------------------------------------------------


class _Feed:
    """From a subscription to its client. Nothing comes before `start`, which lets the subscription begin."""

    __slots__ = ("_sink", "_subscription")

    def __init__(self) -> None:
        self._sink: EventSink
        self._subscription: Subscription

    def subscribe(self, call: Call) -> Streaming:
        given = call.parameters
        position = given["StartingPosition"]
        moment = position.get("Timestamp")
        self._subscription = call.broker.streams.subscriptions.subscribe(
            find_consumer(call),
            given["ShardId"],
            position["Type"],
            position.get("SequenceNumber"),
            None if moment is None else moment_ms(moment),
            push=self._push,
            end=self._end,
            dry_run=given.get("DryRun", False),
        )
        return Streaming(self._start)

    def _start(self, sink: EventSink) -> Cancel:
        self._sink = sink
        sink.on_ready(self._subscription.resume)
        self._subscription.resume()
        return self._subscription.cancel

    def _push(self, event: Event) -> bool:
        sink = self._sink
        message = event.encoded.get(sink.content_type)
        if message is None:
            message = event.encoded[sink.content_type] = sink.encode("SubscribeToShardEvent", _shown_event(event))
        return sink.send_encoded(message)

    def _end(self, error: DomainError | None) -> None:
        if error is None:
            self._sink.end()
        else:
            self._sink.fail(error)


def subscribe_to_shard(call: Call) -> Streaming:
    return _Feed().subscribe(call)


def _shown_event(event: Event) -> Result:
    shown: Result = {"Records": shown_records(event.records), "MillisBehindLatest": event.behind_ms}
    if event.continuation_sequence_number is None:
        shown["ChildShards"] = shown_children(event.child_shards)
    else:
        shown["ContinuationSequenceNumber"] = event.continuation_sequence_number
    return shown


OPERATIONS: dict[str, Operation] = {
    "DeregisterStreamConsumer": deregister_stream_consumer,
    "DescribeStreamConsumer": describe_stream_consumer,
    "ListStreamConsumers": list_stream_consumers,
    "RegisterStreamConsumer": register_stream_consumer,
    "SubscribeToShard": subscribe_to_shard,
}
