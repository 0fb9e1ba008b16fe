"""All of SNS, put together."""

from __future__ import annotations

from broker.clock import Clock
from broker.commit import GroupCommit
from broker.delivery import Outbox, Signer
from broker.entropy import Entropy
from broker.limits import Limits
from broker.queues import Messaging, Queues
from broker.store.port import Store
from broker.topics.archive import Archives
from broker.topics.definitions import Topics
from broker.topics.fanout import Fanout
from broker.topics.mobile import Mobile
from broker.topics.publishing import Publisher
from broker.topics.registry import Registry
from broker.topics.remote import Remote
from broker.topics.sms import Sms
from broker.topics.subscriptions import Subscriptions


class Notifications:
    """The topics of a broker, and what is done with them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        commit: GroupCommit,
        entropy: Entropy,
        limits: Limits,
        queues: Queues,
        messaging: Messaging,
        outbox: Outbox,
        signer: Signer,
    ) -> None:
        self._registry = registry = Registry(store.topics, store.queues, clock, commit, entropy, limits)
        self.mobile = Mobile(registry, outbox)
        self.sms = Sms(registry, outbox)
        remote = Remote(registry, messaging, outbox, signer, self.mobile, self.sms)
        self._outbox = outbox
        self._fanout = fanout = Fanout(registry, messaging, remote, signer)
        self._archives = archives = Archives(registry, fanout.deliver_to)
        self.topics = Topics(registry, archives)
        self.subscriptions = Subscriptions(registry, archives, remote, self.mobile.is_endpoint)
        self.publisher = Publisher(registry, queues.flow, archives, fanout)
        commit.after_rollback.append(self._load_mobile)
        registry.on_unsubscribe.append(lambda subscription: outbox.drop(subscription.arn))

    def enforce_policies(self) -> None:
        """From now on a queue must let a topic in by its policy, as on AWS."""
        self._fanout.enforce_policies = self._outbox.enforce_policies = True

    def load(self) -> None:
        """Takes over what the store knows."""
        self._registry.load()
        self._archives.sweep_soon()
        self._load_mobile()

    def _load_mobile(self) -> None:
        records = self._registry.store.load_mobile_items()
        self.mobile.load(records)
        self.sms.load(records)

    def reset(self, account: str | None = None) -> None:
        """Forgets everything, or everything of one account: for tests."""
        self._registry.reset(account)
        self._archives.sweep_soon()
        self.mobile.reset(account)
        self.sms.reset(account)
