"""AWS's quotas as data, each with the page it comes from; two profiles.

`relaxed` lifts quotas of scale and waiting times (None, 0); what is a matter of form (a name's length, a message's
size) holds always and stands here too.

Pages: [1] SQS Developer Guide, "Amazon SQS message quotas"; [2] "Amazon SQS FIFO queue quotas"; [3] API reference
SetQueueAttributes; [4] PurgeQueue; [5] DeleteQueue; [6] StartMessageMoveTask; [7] ListQueues; [8] TagQueue.
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
)

PROFILES = {"relaxed": RELAXED, "aws": AWS}
