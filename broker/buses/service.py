"""All of EventBridge, put together."""

from __future__ import annotations

from broker.buses.api_destinations import ApiDestinations
from broker.buses.archives import Archives
from broker.buses.connections import Connections
from broker.buses.definitions import Buses
from broker.buses.dispatch import Dispatch, Streams
from broker.buses.endpoints import Endpoints
from broker.buses.notices import Notices
from broker.buses.partners import Partners
from broker.buses.publishing import Publisher
from broker.buses.registry import Registry
from broker.buses.remote import RemoteTargets
from broker.buses.replays import Replays
from broker.buses.rules import Rules
from broker.buses.scheduled import Schedules
from broker.clock import Clock
from broker.commit import GroupCommit
from broker.delivery import Outbox
from broker.entropy import Entropy
from broker.limits import Limits
from broker.queues import Messaging
from broker.store.port import Store
from broker.topics import Notifications


class Events:
    """The buses of a broker, and what is done with them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
        messaging: Messaging,
        notifications: Notifications,
        outbox: Outbox,
        streams: Streams | None = None,
    ) -> None:
        self.registry = registry = Registry(store.buses, store.queues, clock, commit, entropy, limits)
        notices = Notices(registry)
        self.connections = connections = Connections(registry, notices)
        self.api_destinations = ApiDestinations(registry, connections, notices)
        self.remote = RemoteTargets(registry, outbox, connections, self.api_destinations)
        self.dispatch = dispatch = Dispatch(registry, messaging, notifications, self.remote, streams)
        notices.deliver = dispatch.deliver
        self.buses = Buses(registry)
        self.rules = Rules(registry)
        self.rules.on_target_gone.append(lambda rule, id: self.remote.drop(rule.arn, id))
        self.publisher = Publisher(registry, dispatch)
        self.schedules = Schedules(registry, dispatch)
        self.archives = Archives(registry, dispatch)
        self.replays = Replays(registry, self.archives, dispatch)
        self.endpoints = Endpoints(registry)
        self.partners = Partners(registry)
        self.buses.claim_source = self.partners.claim
        self.publisher.buses_for = self.endpoints.buses_for

    def enforce_policies(self) -> None:
        """From now on queues, topics and other accounts' buses must let somebody in by their policies, as on AWS."""
        self.registry.enforce_policies = True

    def load(self) -> None:
        """Takes over what the store knows."""
        self.registry.load()

    def reset(self, account: str | None = None) -> None:
        """Forgets everything, or everything of one account: for tests."""
        self.registry.reset(account)
