"""AWS's quotas as data, each with the page it comes from; two profiles.

`relaxed` lifts quotas of scale and waiting times (None, 0); what is a matter of form (a name's length, a message's
size) holds always and stands here too.

Pages: [1] SQS Developer Guide, "Amazon SQS message quotas"; [2] "Amazon SQS FIFO queue quotas"; [3] API reference
SetQueueAttributes; [4] PurgeQueue; [5] DeleteQueue; [6] StartMessageMoveTask; [7] ListQueues; [8] TagQueue;
[9] AWS General Reference, "Amazon SNS endpoints and quotas"; [10] SNS's API reference, at the operation.
"""

from __future__ import annotations

from dataclasses import dataclass

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
)

PROFILES = {"relaxed": RELAXED, "aws": AWS}
