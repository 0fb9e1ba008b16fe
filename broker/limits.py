"""AWS's quotas as data, each with the page it comes from; two profiles.

`relaxed` lifts quotas of scale and waiting times (None, 0); what is a matter of form (a name's length, a message's
size) holds always and stands here too.

Pages: [1] SQS Developer Guide, "Amazon SQS message quotas"; [2] "Amazon SQS FIFO queue quotas"; [3] API reference
SetQueueAttributes; [4] PurgeQueue; [5] DeleteQueue; [6] StartMessageMoveTask; [7] ListQueues; [8] TagQueue;
[9] AWS General Reference, "Amazon SNS endpoints and quotas"; [10] SNS's API reference, at the operation;
[11] EventBridge User Guide, "Amazon EventBridge quotas".
[K1] Kinesis Data Streams Developer Guide, "Quotas and limits"; [K2] Kinesis's API reference, at the operation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_MESSAGE_BYTES = 1_048_576  # [1] also of a whole batch
MIN_MAXIMUM_MESSAGE_BYTES = 1_024  # [3]
MAX_BATCH_ENTRIES = 10  # [1]
MAX_MESSAGE_ATTRIBUTES = 10  # [1]
MAX_VISIBILITY_TIMEOUT_S = 43_200  # [1] also from the receive to the end of the last extension
MAX_DELAY_S = 900  # [1]
MAX_WAIT_TIME_S = 20  # [3]
MIN_RETENTION_S, MAX_RETENTION_S = 60, 1_209_600  # [1]
DEDUPLICATION_MS = 300_000  # [2]
RECEIVE_ATTEMPT_MS = 300_000  # ReceiveMessage, ReceiveRequestAttemptId
MAX_RECEIVE_COUNT = 1_000  # dead-letter queues guide
MAX_TAGS = 50  # [8]
MAX_REDRIVE_SOURCES = 10  # [3] sourceQueueArns
MAX_LIST_RESULTS = 1_000  # [7]
MAX_MOVE_RATE_PER_S = 500  # [6]
MAX_LISTED_MOVE_TASKS = 10  # ListMessageMoveTasks
MAX_POLICY_ACTIONS = 7  # AddPermission

MIN_TOPIC_MESSAGE_BYTES = 1_024  # [10] CreateTopic, MaximumMessageSize
MAX_TOPIC_MESSAGE_BYTES = 1_048_576  # [10] the same
DEFAULT_TOPIC_MESSAGE_BYTES = 262_144  # [10] Publish; also of a whole batch
MAX_LARGE_TOPIC_SUBSCRIPTIONS = 100  # [10] CreateTopic, MaximumMessageSize above 256 KiB
MAX_SUBJECT_CHARS = 100  # [10] Publish
MAX_TOPIC_PAGE = 100  # [10] the List operations
MAX_DATA_PROTECTION_POLICY_CHARS = 30_720  # [10] PutDataProtectionPolicy
MAX_ARCHIVE_DAYS = 365  # SNS guide, "Message archiving for FIFO topic owners"
CONFIRMATION_TOKEN_MS = 172_800_000  # [10] Subscribe: two days
MAX_CUSTOM_USER_DATA_BYTES = 2_048  # [10] CreatePlatformEndpoint
MAX_SMS_CHARS = 1_600  # [10] Publish


KIB, MIB = 1_024, 1_048_576
MAX_PUT_RECORDS = 500  # [K2] PutRecords
MAX_PUT_BYTES = 10 * MIB  # [K2] PutRecords, with the partition keys
MAX_GET_RECORDS = 10_000  # [K2] GetRecords
MAX_GET_BYTES = 10 * MIB  # [K2] GetRecords
DEFAULT_RECORD_KIB, MAX_RECORD_KIB = 1_024, 10_240  # [K2] UpdateMaxRecordSize
MIN_STREAM_RETENTION_H, MAX_STREAM_RETENTION_H = 24, 8_760  # [K2] Increase-, DecreaseStreamRetentionPeriod
SHARD_ITERATOR_MS = 300_000  # [K2] GetShardIterator
STREAM_TOKEN_MS = 300_000  # [K2] ListShards, NextToken
SUBSCRIPTION_MS = 300_000  # [K2] SubscribeToShard
RESUBSCRIBE_MS = 5_000  # [K2] SubscribeToShard: until the next may take over
MAX_SHARDS_LISTED = 1_000  # [K2] ListShards
MAX_SHARDS_DESCRIBED = 100  # [K2] DescribeStream
MAX_STREAMS_LISTED = MAX_CONSUMERS_LISTED = 100  # [K2] ListStreams, ListStreamConsumers
ON_DEMAND_SHARDS = 4  # [K1] 4 MiB/s of a new on-demand stream
COMMITMENT_MS = 86_400_000  # [K2] UpdateAccountSettings
ADVANTAGE_CONSUMERS = 50  # [K2] RegisterStreamConsumer, with MinimumThroughputBillingCommitment
SHARD_QUOTA = 20_000  # [K1] us-east-1; DescribeLimits shows it also where it does not hold
ON_DEMAND_STREAM_QUOTA = 50  # [K1] the same
CHANNEL_QUOTA = 100  # ours, as AWS gives no figure; DescribeLimits shows it
DEFAULT_RECEIVE_WAIT_S = 9  # [K2] ReceiveQueueRecords
DEFAULT_QUEUE_VISIBILITY_S, DEFAULT_QUEUE_MAX_RECEIVES = 30, 6  # [K2] CreateQueue
MAX_QUEUES_LISTED = MAX_CHANNELS_LISTED = 100  # [K2] ListChannels; ListQueues gives no figure
DEFAULT_FRESHNESS_S = 300  # [K2] CreateChannel


@dataclass(frozen=True, slots=True)
class Limits:
    """One profile. None means no limit."""

    name: str
    in_flight: int | None  # [1] 120,000 for either kind of queue
    fifo_calls_per_s: int | None  # [2] each of send, receive, delete, by queue or by group
    fifo_high_throughput_calls_per_s: int | None  # [2] the same with FifoThroughputLimit=perMessageGroupId, by queue
    purge_interval_ms: int  # [4]
    purge_delay_ms: int  # [4] until the messages are gone
    delete_delay_ms: int  # [5] until the queue is gone
    name_reuse_ms: int  # [5] until its name is free again
    attribute_delay_ms: int  # [3] until a changed attribute takes effect
    retention_delay_ms: int  # [3] the same for MessageRetentionPeriod
    topics: int | None  # [9] of an account in a region
    fifo_topics: int | None  # [9]
    fifo_topic_subscriptions: int | None  # [9] of one FIFO topic
    pending_subscriptions: int | None  # [9] of an account
    topic_filter_policies: int | None  # [9] of one topic
    filter_policies: int | None  # [9] of an account
    topic_replays: int | None  # [9] running at once, of one topic
    event_buses: int | None  # [11] of an account in a region, and so the next
    bus_rules: int | None  # [11] of one bus
    event_connections: int | None  # [11]
    api_destinations: int | None  # [11]
    api_destination_rate_per_s: int | None  # [11] of one that names none: invocations
    event_endpoints: int | None  # [11]
    event_replays: int | None  # [11] running at once
    replay_start_ms: int  # STARTING, so long that a client can cancel one; AWS gives no figure
    shards: int | None  # [K1] open ones of an account in a region, and so the next
    on_demand_streams: int | None  # [K1]
    streams_creating: int | None  # [K2] CreateStream: at once
    stream_consumers: int | None  # [K2] RegisterStreamConsumer: of one stream
    consumers_creating: int | None  # [K2] the same: at once
    shard_count_updates: int | None  # [K2] UpdateShardCount: of one stream in 24 hours
    stream_mode_updates: int | None  # [K1] UpdateStreamMode: of one stream in 24 hours
    encryption_updates: int | None  # [K2] Start-, StopStreamEncryption: each, of one stream in 24 hours
    shard_count_factor: int | None  # [K2] UpdateShardCount: up by it at most, or down
    shard_write_bytes_per_s: int | None  # [K1] with it go 1,000 records
    shard_write_records_per_s: int | None  # [K1]
    shard_read_bytes_per_s: int | None  # [K1] by all GetRecords together, and by each subscription
    shard_reads_per_s: int | None  # [K1]
    stream_api_rates: bool  # [K2] at each operation; they stand in streams/throughput.py
    stream_create_ms: int  # [K2] CREATING; AWS gives no figures for these five, the console takes about so long
    stream_update_ms: int  # [K2] UPDATING
    stream_delete_ms: int  # [K2] DELETING
    consumer_create_ms: int
    consumer_delete_ms: int
    channels: int | None  # [K2] DescribeLimits; AWS gives no figure, nor for the next two
    queue_change_ms: int  # [K2] CreateQueue: CREATING, UPDATING, DELETING
    channel_change_ms: int  # [K2] CreateChannel


RELAXED = Limits(
    name="relaxed",
    in_flight=None,
    fifo_calls_per_s=None,
    fifo_high_throughput_calls_per_s=None,
    purge_interval_ms=0,
    purge_delay_ms=0,
    delete_delay_ms=0,
    name_reuse_ms=0,
    attribute_delay_ms=0,
    retention_delay_ms=0,
    topics=None,
    fifo_topics=None,
    fifo_topic_subscriptions=None,
    pending_subscriptions=None,
    topic_filter_policies=None,
    filter_policies=None,
    topic_replays=None,
    event_buses=None,
    bus_rules=None,
    event_connections=None,
    api_destinations=None,
    api_destination_rate_per_s=None,
    event_endpoints=None,
    event_replays=None,
    replay_start_ms=500,
    shards=None,
    on_demand_streams=None,
    streams_creating=None,
    stream_consumers=None,
    consumers_creating=None,
    shard_count_updates=None,
    stream_mode_updates=None,
    encryption_updates=None,
    shard_count_factor=2,  # a program that asks for more would fail at AWS each time
    shard_write_bytes_per_s=None,
    shard_write_records_per_s=None,
    shard_read_bytes_per_s=None,
    shard_reads_per_s=None,
    stream_api_rates=False,
    stream_create_ms=0,
    stream_update_ms=0,
    stream_delete_ms=0,
    consumer_create_ms=0,
    consumer_delete_ms=0,
    channels=None,
    queue_change_ms=0,
    channel_change_ms=0,
)

AWS = Limits(
    name="aws",
    in_flight=120_000,
    fifo_calls_per_s=300,
    fifo_high_throughput_calls_per_s=70_000,
    purge_interval_ms=60_000,
    purge_delay_ms=60_000,
    delete_delay_ms=60_000,
    name_reuse_ms=60_000,
    attribute_delay_ms=60_000,
    retention_delay_ms=900_000,
    topics=100_000,
    fifo_topics=1_000,
    fifo_topic_subscriptions=100,
    pending_subscriptions=5_000,
    topic_filter_policies=200,
    filter_policies=10_000,
    topic_replays=10,
    event_buses=100,
    bus_rules=300,
    event_connections=3_000,
    api_destinations=3_000,
    api_destination_rate_per_s=300,
    event_endpoints=100,
    event_replays=10,
    replay_start_ms=5_000,
    shards=SHARD_QUOTA,
    on_demand_streams=ON_DEMAND_STREAM_QUOTA,
    streams_creating=5,
    stream_consumers=20,
    consumers_creating=5,
    shard_count_updates=10,
    stream_mode_updates=2,
    encryption_updates=25,
    shard_count_factor=2,
    shard_write_bytes_per_s=MIB,
    shard_write_records_per_s=1_000,
    shard_read_bytes_per_s=2 * MIB,
    shard_reads_per_s=5,
    stream_api_rates=True,
    stream_create_ms=10_000,
    stream_update_ms=30_000,
    stream_delete_ms=10_000,
    consumer_create_ms=5_000,
    consumer_delete_ms=5_000,
    channels=CHANNEL_QUOTA,
    queue_change_ms=5_000,
    channel_change_ms=10_000,
)

PROFILES = {"relaxed": RELAXED, "aws": AWS}


def with_stream_wait(limits: Limits, wait_ms: int) -> Limits:
    """The same, but that a stream, a consumer, a queue on a stream or a channel takes so long for each change."""
    return replace(
        limits,
        stream_create_ms=wait_ms,
        stream_update_ms=wait_ms,
        stream_delete_ms=wait_ms,
        consumer_create_ms=wait_ms,
        consumer_delete_ms=wait_ms,
        queue_change_ms=wait_ms,
        channel_change_ms=wait_ms,
    )
