"""The life of queues: creation, attributes, tags, permissions, purge, deletion.

Each operation is one transaction, and refuses before it changes anything.
Names and errors are the API reference's. What is checked here is what depends on a queue or on AWS's rules of
content; that a parameter is there and of its type was checked by whoever decoded the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from broker import policy
from broker.clock import Clock, Resumption
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.errors import (
    InvalidAttributeName,
    InvalidParameterValue,
    OverLimit,
    PurgeQueueInProgress,
    QueueDeletedRecently,
    QueueDoesNotExist,
    QueueNameExists,
)
from broker.faults import Faults
from broker.ledger import Ledger
from broker.limits import MAX_POLICY_ACTIONS, MAX_TAGS, Limits
from broker.names import World, is_account, is_queue_name
from broker.queues import attributes as attribute_rules
from broker.queues.flow import Flow
from broker.queues.move_tasks import MoveTasks
from broker.queues.queue import PendingChange, Queue
from broker.store.port import QueueStore

_EMPTY: Mapping[str, str] = {}

SHAREABLE_ACTIONS = frozenset(
    {
        "*",
        "SendMessage",
        "ReceiveMessage",
        "DeleteMessage",
        "ChangeMessageVisibility",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "PurgeQueue",
    }
)
"""What AddPermission may grant: AWS keeps the administration of a queue to its owner."""


class Queues:
    """All queues of a broker, of every account and region."""

    def __init__(
        self,
        store: QueueStore,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
        faults: Faults,
        ledger: Ledger,
    ) -> None:
        self._store = store
        self._clock = clock
        self._commit = commit
        self._entropy = entropy
        self.limits = limits
        self.flow = Flow(store, clock, commit, faults, ledger)
        self.move_tasks = MoveTasks(self.flow, entropy)
        self._tombstones: dict[tuple[World, str], int] = {}
        self._resumption = Resumption(clock, self._resume)
        commit.after_rollback.append(self._reload)

    # the life of queues

    def load(self) -> None:
        """Takes over what the store knows, and makes all appointments."""
        self._take_over()
        self._resume()

    def _reload(self) -> None:
        """After a transaction that did not happen."""
        self._take_over()
        self._resumption.appoint()  # appointments were kept in it or made for it: they are made anew

    def _take_over(self) -> None:
        flow = self.flow
        records = {record.queue_no: record for record in self._store.load_queues()}
        for queue in list(flow.queues.values()):
            record = records.pop(queue.queue_no, None)
            if record is not None:
                queue.restore(record)
            else:
                flow.remove(queue)
        for record in records.values():
            flow.add(Queue.from_record(record))
        self._tombstones = {
            (World(account, region), name): free_ms for account, region, name, free_ms in self._store.load_tombstones()
        }
        self.move_tasks.load()

    def _resume(self) -> None:
        for queue in list(self.flow.queues.values()):  # one that cannot be read does not keep back the others
            self._commit.run(self._resume_queue, queue)
        self.move_tasks.resume()
        self._commit.run(self.flow.resume_sweeps)

    def _resume_queue(self, queue: Queue) -> None:
        for change in queue.pending:
            self._appoint(change.effective_ms, self._apply_pending, queue)
        if queue.purge_sequence is not None and queue.purged_ms is not None:
            self._appoint(queue.purged_ms + self.limits.purge_delay_ms, self.flow.purge_step, queue)
        if queue.deleted_ms is not None:  # which lies further ahead where the clock was set back
            delayed_ms = self._clock.now_ms() + self.limits.delete_delay_ms
            self._appoint(min(queue.deleted_ms, delayed_ms), self._remove, queue)
        if queue.message_count:
            self.flow.expire(queue)
        self.flow.touch(queue)

    def _appoint(self, when_ms: int, job: Callable[[Queue], None], queue: Queue) -> None:
        self._clock.call_at(when_ms, partial(self._commit.run, job, queue))

    def find(self, world: World, name: str) -> Queue:
        """Raises QueueDoesNotExist."""
        queue = self.flow.queues.get((world, name))
        if queue is None:
            raise QueueDoesNotExist
        return queue

    def find_arn(self, arn: str) -> Queue | None:
        return self.flow.by_arn.get(arn)

    def create(self, world: World, name: str, given: Mapping[str, str], tags: Mapping[str, str] = _EMPTY) -> Queue:
        """Raises InvalidParameterValue, InvalidAttribute…, QueueNameExists, QueueDeletedRecently."""
        is_fifo = given.get("FifoQueue", "").lower() == "true"
        if not is_queue_name(name, fifo=is_fifo):
            raise InvalidParameterValue(
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end "
                "with .fifo suffix and be 1 to 80 in length."
                if is_fifo
                else "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            )
        changes = attribute_rules.validated(given, fifo=is_fifo)
        existing = self.flow.queues.get((world, name))
        if existing is not None and existing.deleted_ms is None:
            self._refuse_difference(existing, changes)
            return existing
        now_ms = self._clock.now_ms()
        free_in_ms = self._tombstones.get((world, name), 0) - now_ms
        if existing is not None or 0 < free_in_ms <= self.limits.name_reuse_ms:  # longer, if the clock was set back
            raise QueueDeletedRecently
        declared = attribute_rules.merged({}, changes)
        self._check_tags(name, tags)
        self._commit.enter()
        queue = Queue(self._store.next_no(), self._store.next_no(), world, name, self._entropy.bits(32), now_ms)
        self._check_redrive(queue, declared)
        queue.attributes = queue.effective = declared
        queue.settings = attribute_rules.read_settings(declared)
        queue.tags = dict(tags)
        self._store.put_queue(queue.record())
        self.flow.add(queue)
        return queue

    def _refuse_difference(self, existing: Queue, changes: Mapping[str, str]) -> None:
        has = attribute_rules.with_defaults(existing.attributes, fifo=existing.fifo)
        for name, value in changes.items():
            if has.get(name, "") != value:
                raise QueueNameExists(
                    f"A queue already exists with the same name and a different value for attribute {name}"
                )

    def _check_redrive(self, queue: Queue, declared: Mapping[str, str]) -> None:
        text = declared.get("RedrivePolicy")
        if text is None:
            return
        target = self.flow.by_arn.get(json.loads(text)["deadLetterTargetArn"])

        def refuse(reason: str) -> InvalidParameterValue:
            return InvalidParameterValue(f"Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}")

        if target is None or target.world != queue.world:
            raise refuse("Dead letter target does not exist.")
        if target.fifo != queue.fifo:
            raise refuse("Dead-letter queue must be same type of queue as the source.")
        if not attribute_rules.allows_source(target.attributes.get("RedriveAllowPolicy"), queue.arn):
            raise refuse("The dead-letter queue's RedriveAllowPolicy does not allow this source queue.")

    def delete(self, queue: Queue) -> None:
        now_ms = self._clock.now_ms()
        if queue.deleted_ms is not None:
            return
        self._commit.enter()
        if self.limits.name_reuse_ms:
            self._tombstones[queue.world, queue.name] = now_ms + self.limits.name_reuse_ms
            self._store.delete_tombstones(now_ms)
            self._store.put_tombstone(*queue.world, queue.name, now_ms + self.limits.name_reuse_ms)
        if self.limits.delete_delay_ms:
            queue.deleted_ms = now_ms + self.limits.delete_delay_ms
            self._store.put_queue(queue.record())
            self._appoint(queue.deleted_ms, self._remove, queue)
        else:
            self._remove(queue)

    def _remove(self, queue: Queue) -> None:
        if self.flow.by_arn.get(queue.arn) is not queue:
            return
        self._commit.enter()
        self.flow.remove(queue)
        self.move_tasks.queue_deleted(queue)
        self._store.delete_queue(queue.queue_no)
        self._store.discard_shelf(queue.shelf_no)
        if self.flow.ledger.is_on:
            self.flow.ledger.purged(queue.arn)
        self.flow.sweep_soon()

    def reset(self, account: str | None = None) -> None:
        """Forgets everything, or everything of one account: for tests."""
        self._commit.enter()
        for queue in list(self.flow.queues.values()):
            if account in (None, queue.world.account):
                self._remove(queue)
        for world, name in list(self._tombstones):
            if account in (None, world.account):
                del self._tombstones[world, name]
                self._store.put_tombstone(*world, name, 0)
        self._store.delete_tombstones(0)

    def close(self) -> None:
        """Ends the long polls: each is answered with nothing, and so is any that comes after."""
        self.flow.ending = True
        self.end_waiting()

    def end_waiting(self) -> None:
        """Answers the long polls with nothing."""
        for queue in self.flow.queues.values():
            for waiter in list(queue.waiters):
                waiter.give_up()

    def list_queues(self, world: World, prefix: str = "") -> list[Queue]:
        """The queues of a world by name."""
        return sorted(
            (q for (owner, name), q in self.flow.queues.items() if owner == world and name.startswith(prefix)),
            key=lambda queue: queue.name,
        )

    def dead_letter_sources(self, queue: Queue) -> list[Queue]:
        return [
            source
            for source in self.list_queues(queue.world)
            if source.settings.redrive and source.settings.redrive.dead_letter_target_arn == queue.arn
        ]

    # attributes, tags, permissions

    def get_attributes(self, queue: Queue, names: Sequence[str]) -> dict[str, str]:
        """Raises InvalidAttributeName. Counts are exact."""
        for name in names:
            if name not in attribute_rules.READABLE:
                raise InvalidAttributeName(f"Unknown Attribute {name}.")
        wanted = None if "All" in names else set(names)
        shown = {"QueueArn": queue.arn}
        if wanted is None or not wanted.isdisjoint(attribute_rules.COUNTS):
            self._commit.enter()
            in_flight, delayed = self._store.unavailable_counts(queue.shelf_no, self._clock.now_ms())
            counts = (queue.message_count - in_flight - delayed, in_flight, delayed)
            shown |= zip(attribute_rules.COUNTS, map(str, counts), strict=True)
        shown["CreatedTimestamp"] = str(queue.created_s)
        shown["LastModifiedTimestamp"] = str(queue.modified_s)
        shown |= attribute_rules.with_defaults(queue.attributes, fifo=queue.fifo)
        return shown if wanted is None else {name: value for name, value in shown.items() if name in wanted}

    def set_attributes(self, queue: Queue, given: Mapping[str, str]) -> None:
        """Raises InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue."""
        changes = attribute_rules.validated(given, fifo=queue.fifo)
        declared = attribute_rules.merged(queue.attributes, changes)
        if changes.get("RedrivePolicy"):
            self._check_redrive(queue, declared)
        self._commit.enter()
        now_ms = self._clock.now_ms()
        queue.attributes = declared
        queue.modified_s = now_ms // 1000
        slow = {name: value for name, value in changes.items() if name == "MessageRetentionPeriod"}
        quick = {name: value for name, value in changes.items() if name not in slow}
        for change, delay_ms in ((quick, self.limits.attribute_delay_ms), (slow, self.limits.retention_delay_ms)):
            if change:
                queue.pending.append(PendingChange(now_ms + delay_ms, change))
                if delay_ms:
                    self._appoint(now_ms + delay_ms, self._apply_pending, queue)
        self._apply_pending(queue)

    def _apply_pending(self, queue: Queue) -> None:
        if self.flow.by_arn.get(queue.arn) is not queue:
            return
        self._commit.enter()
        now_ms = self._clock.now_ms()
        retention_ms = queue.settings.retention_ms
        effective = queue.effective
        for change in [change for change in queue.pending if change.effective_ms <= now_ms]:
            effective = {n: v for n, v in {**effective, **change.attributes}.items() if v}
            queue.pending.remove(change)
        queue.effective = effective if queue.pending else queue.attributes
        queue.settings = attribute_rules.read_settings(queue.effective)
        self._store.put_queue(queue.record())
        if queue.settings.retention_ms != retention_ms:
            self.flow.expire(queue)

    def tag(self, queue: Queue, tags: Mapping[str, str]) -> None:
        merged = {**queue.tags, **tags}
        self._check_tags(queue.name, merged)
        self._commit.enter()
        queue.tags = merged
        self._store.put_queue(queue.record())

    def untag(self, queue: Queue, keys: Sequence[str]) -> None:
        self._commit.enter()
        queue.tags = {key: value for key, value in queue.tags.items() if key not in keys}
        self._store.put_queue(queue.record())

    def _check_tags(self, name: str, tags: Mapping[str, str]) -> None:
        if len(tags) > MAX_TAGS:
            raise InvalidParameterValue(f"Too many tags added for queue {name}.")
        for key, value in tags.items():
            if not 1 <= len(key) <= 128 or len(value) > 256:
                raise InvalidParameterValue("Tag keys must be between 1 and 128 characters, values at most 256.")
            if key.lower().startswith("aws:"):
                raise InvalidParameterValue("Tag keys must not start with the reserved prefix aws:.")

    def add_permission(self, queue: Queue, label: str, accounts: Sequence[str], actions: Sequence[str]) -> None:
        """Raises InvalidParameterValue, OverLimit, MissingParameter."""
        if not is_queue_name(label, fifo=False):
            raise InvalidParameterValue(f"Value {label} for parameter Label is invalid.")
        entries = policy.statements(queue.attributes.get("Policy"))
        if any(entry.get("Sid") == label for entry in entries):
            raise InvalidParameterValue(f"Value {label} for parameter Label is invalid. Reason: Already exists.")
        for account in accounts:
            if not is_account(account):
                raise InvalidParameterValue(
                    f"Value {account} for parameter PrincipalId is invalid. Reason: Unable to verify."
                )
        if len(actions) > MAX_POLICY_ACTIONS:
            raise OverLimit(f"{len(actions)} Actions were found, maximum allowed is {MAX_POLICY_ACTIONS}.")
        for action in actions:
            if action not in SHAREABLE_ACTIONS:
                raise InvalidParameterValue(
                    f"Value SQS:{action} for parameter ActionName is invalid. "
                    "Reason: Only the queue owner is allowed to invoke this action."
                )
        named = [f"SQS:{action}" for action in actions]
        entries.append(policy.statement(label, accounts, named, queue.arn, queue.world.region))
        self._put_policy(queue, entries)

    def remove_permission(self, queue: Queue, label: str) -> None:
        """Raises InvalidParameterValue."""
        entries = policy.statements(queue.attributes.get("Policy"))
        kept = [entry for entry in entries if entry.get("Sid") != label]
        if len(kept) == len(entries):
            raise InvalidParameterValue(
                f"Value {label} for parameter Label is invalid. Reason: can't find label on existing policy."
            )
        self._put_policy(queue, kept)

    def _put_policy(self, queue: Queue, entries: Sequence[Mapping[str, Any]]) -> None:
        before = queue.attributes.get("Policy")
        document = json.loads(before) if before else {"Version": "2008-10-17", "Id": f"{queue.arn}/SQSDefaultPolicy"}
        document["Statement"] = entries
        self.set_attributes(queue, {"Policy": json.dumps(document, separators=(",", ":")) if entries else ""})

    def purge(self, queue: Queue) -> None:
        """Raises PurgeQueueInProgress."""
        now_ms = self._clock.now_ms()
        since_ms = None if queue.purged_ms is None else now_ms - queue.purged_ms
        if since_ms is not None and 0 <= since_ms < self.limits.purge_interval_ms:
            raise PurgeQueueInProgress(f"Only one PurgeQueue operation on {queue.name} is allowed every 60 seconds.")
        self._commit.enter()
        queue.purged_ms = now_ms
        if self.limits.purge_delay_ms:
            queue.purge_sequence = queue.last_sequence
            self._store.put_queue(queue.record())
            self._appoint(now_ms + self.limits.purge_delay_ms, self.flow.purge_step, queue)
        else:
            self.flow.empty(queue)
