"""Message move tasks: a dead-letter queue's messages go back to where they came from, or to another queue.

A step moves some messages in one transaction and makes the appointment for the next, so a task goes on where it was
after a restart. Moved messages are new ones to AWS: a new id, a new age. Follows StartMessageMoveTask,
CancelMessageMoveTask, ListMessageMoveTasks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker.clock import Timer
from broker.entropy import Entropy
from broker.errors import InvalidParameterValue, ResourceNotFoundException, UnsupportedOperation
from broker.limits import MAX_LISTED_MOVE_TASKS, MAX_MOVE_RATE_PER_S
from broker.names import World, parse_arn
from broker.queues import fifo
from broker.queues.queue import Queue
from broker.store.port import MoveTaskRecord, StoredMessage

if TYPE_CHECKING:
    from broker.queues.flow import Flow

STEP_MESSAGES = 100
RATE_STEP_MS = 100

RUNNING, COMPLETED, CANCELLED, FAILED = "RUNNING", "COMPLETED", "CANCELLED", "FAILED"


@dataclass(slots=True)
class MoveTask:
    """One task. Counts are of messages."""

    task_id: str
    source_arn: str
    started_ms: int
    destination_arn: str | None
    rate_per_s: int | None
    to_move: int
    moved: int = 0
    status: str = RUNNING
    failure_reason: str | None = None

    def record(self) -> MoveTaskRecord:
        document = {
            name: getattr(self, name)
            for name in ("destination_arn", "rate_per_s", "to_move", "moved", "status", "failure_reason")
        }
        return MoveTaskRecord(self.task_id, self.source_arn, self.started_ms, json.dumps(document))

    @classmethod
    def from_record(cls, record: MoveTaskRecord) -> MoveTask:
        return cls(record.task_id, record.source_arn, record.started_ms, **json.loads(record.document))


class MoveTasks:
    """The tasks of a broker."""

    def __init__(self, flow: Flow, entropy: Entropy) -> None:
        self._flow = flow
        self._entropy = entropy
        self._tasks: dict[str, MoveTask] = {}
        self._steps: dict[str, Timer] = {}

    def load(self) -> None:
        """Takes over what the store knows."""
        self._tasks = {r.task_id: MoveTask.from_record(r) for r in self._flow.store.load_move_tasks()}

    def resume(self) -> None:
        """What was running goes on."""
        for task in self._tasks.values():
            if task.status == RUNNING:
                self._appoint(task, 0)

    def start(self, world: World, source_arn: str, destination_arn: str | None, rate_per_s: int | None) -> MoveTask:
        """Raises ResourceNotFoundException, InvalidParameterValue, UnsupportedOperation."""
        if rate_per_s is not None and not 1 <= rate_per_s <= MAX_MOVE_RATE_PER_S:
            raise InvalidParameterValue(
                f"Value {rate_per_s} for parameter MaxNumberOfMessagesPerSecond is invalid. "
                f"Reason: You must specify a value between 1 and {MAX_MOVE_RATE_PER_S}."
            )
        source = self._queue(world, source_arn, "SourceArn")
        if destination_arn is not None:
            destination = self._queue(world, destination_arn, "DestinationArn")
            if destination is source:
                raise InvalidParameterValue("Source queue arn and destination queue arn cannot be the same.")
            if destination.fifo != source.fifo:
                raise InvalidParameterValue("Source queue and destination queue must be of the same type.")
        if not any(
            queue.settings.redrive and queue.settings.redrive.dead_letter_target_arn == source_arn
            for queue in self._flow.queues.values()
        ):
            raise InvalidParameterValue("Source queue must be configured as a Dead Letter Queue.")
        if any(task.status == RUNNING for task in self._of(source_arn)):
            raise UnsupportedOperation(
                "There is already a task running. Only one active task is allowed for a source queue arn at a given "
                "time."
            )
        self._flow.commit.enter()
        now_ms = self._flow.clock.now_ms()
        task = MoveTask(
            self._entropy.uuid(), source_arn, now_ms, destination_arn, rate_per_s, to_move=source.message_count
        )
        self._tasks[task.task_id] = task
        for old in self._of(source_arn)[MAX_LISTED_MOVE_TASKS:]:
            del self._tasks[old.task_id]
            self._flow.store.delete_move_task(old.task_id)
        self._flow.store.put_move_task(task.record())
        self._appoint(task, 0)
        return task

    def cancel(self, task_id: str, source_arn: str) -> MoveTask:
        """Raises ResourceNotFoundException, UnsupportedOperation."""
        task = self._tasks.get(task_id)
        if task is None or task.source_arn != source_arn:
            raise ResourceNotFoundException("Task does not exist.")
        if task.status != RUNNING:
            raise UnsupportedOperation("Only active tasks can be cancelled.")
        self._flow.commit.enter()
        self._end(task, CANCELLED)
        return task

    def newest(self, world: World, source_arn: str, limit: int) -> list[MoveTask]:
        """The newest tasks of a queue first."""
        self._queue(world, source_arn, "SourceArn")
        return self._of(source_arn)[:limit]

    def queue_deleted(self, queue: Queue) -> None:
        for task in self._of(queue.arn):
            del self._tasks[task.task_id]
            self._flow.store.delete_move_task(task.task_id)

    def _of(self, source_arn: str) -> list[MoveTask]:
        # Of those started in the same millisecond, too, the last comes first.
        tasks = [task for task in reversed(self._tasks.values()) if task.source_arn == source_arn]
        return sorted(tasks, key=lambda task: task.started_ms, reverse=True)

    def _queue(self, world: World, arn: str, parameter: str) -> Queue:
        parsed = parse_arn(arn)
        queue = self._flow.by_arn.get(arn)
        if parsed is None or parsed.service != "sqs":
            raise InvalidParameterValue(f"Value {arn} for parameter {parameter} is invalid. Reason: Invalid ARN.")
        if queue is None or queue.world != world:
            raise ResourceNotFoundException(
                f"The resource that you specified for the {parameter} parameter doesn't exist."
            )
        return queue

    def _appoint(self, task: MoveTask, delay_ms: int) -> None:
        if task.task_id in self._steps:
            self._steps[task.task_id].cancel()
        self._steps[task.task_id] = self._flow.clock.call_at(
            self._flow.clock.now_ms() + delay_ms, partial(self._flow.commit.run, self._step, task.task_id)
        )

    def _end(self, task: MoveTask, status: str, reason: str | None = None) -> None:
        task.status, task.failure_reason = status, reason
        self._flow.store.put_move_task(task.record())

    def _step(self, task_id: str) -> None:
        self._steps.pop(task_id, None)
        task = self._tasks.get(task_id)
        if task is None or task.status != RUNNING:
            return
        flow = self._flow
        source = flow.by_arn.get(task.source_arn)
        if source is None:
            self._end(task, FAILED, "AWS.SimpleQueueService.NonExistentQueue")
            return
        batch, delay_ms = STEP_MESSAGES, 1
        if task.rate_per_s is not None:
            batch = max(1, task.rate_per_s * RATE_STEP_MS // 1000)
            delay_ms = -(-1000 * batch // task.rate_per_s)
        now_ms = flow.clock.now_ms()
        messages = (
            fifo.look(flow, source, batch, now_ms)
            if source.fifo
            else flow.store.take_for_move(source.shelf_no, now_ms, batch)
        )
        if not messages:
            self._end(task, COMPLETED)
            return
        for message in messages:
            destination_arn = task.destination_arn or message.dead_letter_source
            if destination_arn is None:
                self._end(task, FAILED, "CouldNotDetermineMessageSource")
                return
            destination = flow.by_arn.get(destination_arn)
            if destination is None or destination.fifo != source.fifo:
                self._end(task, FAILED, "AWS.SimpleQueueService.NonExistentQueue")
                return
            self._move(source, destination, message)
            task.moved += 1
        flow.store.put_move_task(task.record())
        self._appoint(task, delay_ms)

    def _move(self, source: Queue, destination: Queue, message: StoredMessage) -> None:
        flow = self._flow
        flow.delete(source, [message.id])
        copy = flow.copied(message, destination, flow.clock.now_ms())
        new = copy._replace(message_id=self._entropy.uuid())
        flow.insert(destination, [new])
        if flow.ledger.is_on:
            flow.ledger.redriven(source.arn, destination.arn, message, new)
