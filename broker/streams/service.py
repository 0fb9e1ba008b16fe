"""All of Kinesis Data Streams, put together."""

from __future__ import annotations

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.entropy import Entropy
from broker.faults import Faults
from broker.ledger import Ledger
from broker.limits import Limits
from broker.names import World
from broker.store.port import Store
from broker.streams.account import Accounts
from broker.streams.channels import Channels
from broker.streams.consumers import Consumers
from broker.streams.cursors import Cursors
from broker.streams.definitions import Definitions
from broker.streams.faults import StreamFaults
from broker.streams.lifecycle import Lifecycle
from broker.streams.queue_records import QueueRecords
from broker.streams.queues import StreamQueues
from broker.streams.records import Records
from broker.streams.registry import Registry
from broker.streams.scaling import Scaling
from broker.streams.shards import Shards
from broker.streams.stream import Stream
from broker.streams.subscriptions import Subscriptions


class Streams:
    """The streams of a broker, and what is done with them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
        faults: Faults,
        ledger: Ledger,
    ) -> None:
        self.registry = registry = Registry(store.streams, store.queues, clock, commit, entropy, limits, faults, ledger)
        lifecycle = Lifecycle(registry)
        self.accounts = Accounts(registry)
        self.shards = Shards(registry, lifecycle)
        scaling = Scaling(registry, lifecycle, self.shards)
        self.definitions = Definitions(registry, lifecycle, self.shards, scaling, self.accounts)
        struck = StreamFaults(registry, lifecycle, self.shards)
        self.records = Records(registry, scaling, struck)
        self.consumers = Consumers(registry, lifecycle, self.shards, self.accounts)
        self.subscriptions = Subscriptions(registry, self.records, struck)
        cursors = Cursors(registry, self.records, store.stream_queues)
        self.queues = StreamQueues(
            registry, self.records, self.consumers, self.definitions, cursors, store.stream_queues
        )
        self.queue_records = QueueRecords(registry, self.queues, cursors, store.stream_queues)
        self.channels = Channels(registry, self.records, self.definitions, cursors)
        commit.before_commit.append(cursors.save)  # after the waiting receives, which move them

    def load(self) -> None:
        """Takes over what the store knows."""
        self.registry.load()

    def reset(self, account: str | None = None) -> None:
        """Forgets everything, or everything of one account: for tests."""
        self.queues.reset(account)
        self.channels.reset(account)
        self.registry.reset(account)
        self.accounts.reset(account)

    def end_waiting(self) -> None:
        """Ends the subscriptions, and answers the long polls of queues."""
        self.subscriptions.close()
        self.queue_records.end_waiting()

    def close(self) -> None:
        """The same, and nobody waits any more."""
        self.subscriptions.close()
        self.queue_records.close()

    def find(self, world: World, name: str | None = None, arn: str | None = None, id: str | None = None) -> Stream:
        """A stream by what was given of the three. Raises InvalidArgumentException, ResourceNotFoundException."""
        return self.registry.find(world, name, arn, id)

    def count_call(self, operation: str, world: World, stream: Stream | None = None) -> None:
        """For operations that only tell what is known here: DescribeStream, DescribeStreamSummary,
        ListTagsForResource. All others count themselves. Raises LimitExceededException.
        """
        self.registry.rate(operation, world, "" if stream is None else stream.arn)

    def put_event(self, arn: str, partition_key: str, data: bytes) -> str | None:
        """For targets inside the broker: None, or the error's code where it cannot be put."""
        return self.records.put_event(arn, partition_key, data)
