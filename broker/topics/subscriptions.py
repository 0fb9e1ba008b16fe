"""The life of subscriptions: subscribe, confirm, unsubscribe, attributes.

Who must confirm, by the API reference of Subscribe: the owner of an HTTP or e-mail endpoint, and of one in another
account than the caller's. A token holds for two days; then the subscription that waited for it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from broker import delivery_policy
from broker.errors import (
    AuthorizationErrorException,
    FilterPolicyLimitExceededException,
    InvalidParameterException,
    NotFoundException,
    SubscriptionLimitExceededException,
)
from broker.limits import CONFIRMATION_TOKEN_MS, DEFAULT_TOPIC_MESSAGE_BYTES, MAX_LARGE_TOPIC_SUBSCRIPTIONS
from broker.names import parse_arn
from broker.topics import filters
from broker.topics import subscription_attributes as attribute_rules
from broker.topics.archive import Archives
from broker.topics.definitions import LARGE_MESSAGE_PROTOCOLS
from broker.topics.messages import PROTOCOLS
from broker.topics.registry import Registry
from broker.topics.remote import Remote
from broker.topics.topic import Subscription, Topic

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE = re.compile(r"\+?[0-9]{1,15}")
_SERVICES = {"sqs": "SQS endpoint ARN", "lambda": "Lambda endpoint ARN", "firehose": "Firehose endpoint ARN"}
_TOKEN_BITS = 800
_MAX_ENDPOINT_CHARS = 2_048


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


class Subscriber(NamedTuple):
    """Who calls. `origin` is how the caller reaches this broker; links in messages begin with it."""

    account: str
    principal: str
    origin: str


class Subscriptions:
    """All subscriptions of a broker."""

    def __init__(
        self,
        registry: Registry,
        archives: Archives,
        remote: Remote,
        is_endpoint: Callable[[str], bool],
    ) -> None:
        self._registry = registry
        self._archives = archives
        self._remote = remote
        self._is_endpoint = is_endpoint
        registry.on_load.append(self._resume)

    def find(self, arn: str) -> Subscription:
        """Raises InvalidParameterException, NotFoundException."""
        subscription = self._registry.subscriptions.get(arn)
        if subscription is None:
            _check_arn(arn)
            raise NotFoundException("Subscription does not exist")
        return subscription

    def list_subscriptions(
        self, owner: tuple[str, str] | None, topic: Topic | None, after: int, limit: int
    ) -> tuple[list[Subscription], bool]:
        """A page in the order they were made, of a topic or of an (account, region); and whether there are more."""
        those = topic.subscriptions if topic is not None else self._registry.subscriptions
        found = [
            subscription
            for subscription in those.values()
            if subscription.subscription_no > after
            and (owner is None or (subscription.owner, subscription.topic.world.region) == owner)
        ]
        return found[:limit], len(found) > limit

    def subscribe(
        self, topic: Topic, protocol: str, endpoint: str, given: Mapping[str, str], caller: Subscriber
    ) -> Subscription:
        """Raises InvalidParameterException, the exceptions of limits."""
        self._check_endpoint(topic, protocol, endpoint)
        for name in given:
            if name not in attribute_rules.SETTABLE:
                raise _invalid("Attributes Reason: Unknown attribute: " + name)
        changes = attribute_rules.validated(given, protocol, fifo=topic.fifo)
        existing = self._same(topic, protocol, endpoint)
        if existing is not None:
            return self._again(existing, changes)
        attributes = attribute_rules.merged({}, changes)
        self._check_attributes(topic, protocol, attributes, attributes)
        self._check_quotas(topic, caller.account, attributes)
        replay = attribute_rules.read_settings(attributes).replay
        if replay is not None:
            self._archives.check_window(topic, replay)
        self._registry.commit.enter()
        now_ms = self._registry.clock.now_ms()
        confirmed = self._needs_no_asking(protocol, endpoint, caller.account)
        subscription = self._registry.add_subscription(
            topic,
            f"{topic.arn}:{self._registry.entropy.uuid()}",
            {
                "owner": caller.account,
                "principal": caller.principal,
                "protocol": protocol,
                "endpoint": endpoint,
                "origin": caller.origin,
                "token": self._token(),
                "pending_since_ms": None if confirmed else now_ms,
                "authenticated": confirmed,
                "authenticate_on_unsubscribe": False,
                "replay": None,
                "attributes": attributes,
            },
        )
        if confirmed:
            if replay is not None:
                self._archives.start_replay(subscription, replay)
        else:
            self._remote.ask(subscription)
            self._resume(subscription)
        return subscription

    def _token(self) -> str:
        return f"{self._registry.entropy.bits(_TOKEN_BITS):0{_TOKEN_BITS // 4}x}"

    def _same(self, topic: Topic, protocol: str, endpoint: str) -> Subscription | None:
        for subscription in topic.subscriptions.values():
            if subscription.endpoint == endpoint and subscription.protocol == protocol:
                return subscription
        return None

    def _again(self, existing: Subscription, changes: Mapping[str, str]) -> Subscription:
        """Idempotent: only the attributes that are given must be as they are. Asks again where it was asked."""
        has = {
            "RawMessageDelivery": "false",
            "FilterPolicyScope": filters.ATTRIBUTES,
            **existing.attributes,
        }
        if any(has.get(name, "") != value for name, value in changes.items()):
            raise _invalid("Attributes Reason: Subscription already exists with different attributes")
        if existing.pending:
            self._registry.commit.enter()
            self._remote.ask(existing)
        return existing

    def _needs_no_asking(self, protocol: str, endpoint: str, caller: str) -> bool:
        if protocol in ("http", "https", "email", "email-json"):
            return False
        arn = parse_arn(endpoint)
        return arn is None or arn.account == caller  # a phone number is its owner's business

    def _check_endpoint(self, topic: Topic, protocol: str, endpoint: str) -> None:
        if protocol not in PROTOCOLS:
            raise _invalid(f"Amazon SNS does not support this protocol string: {protocol}")
        if not endpoint or len(endpoint) > _MAX_ENDPOINT_CHARS:
            raise _invalid("Endpoint")
        arn = parse_arn(endpoint)
        if protocol in ("http", "https"):
            if not endpoint.startswith(f"{protocol}://") or len(endpoint) == len(protocol) + 3:
                raise _invalid("Endpoint must match the specified protocol")
        elif protocol in ("email", "email-json"):
            if not _EMAIL.fullmatch(endpoint):
                raise _invalid("Email address")
        elif protocol == "sms":
            if not _PHONE.fullmatch(re.sub(r"[ ()./-]", "", endpoint)):
                raise _invalid(f"Invalid SMS endpoint: {endpoint}")
        elif protocol == "application":
            if arn is None or arn.service != "sns" or not self._is_endpoint(endpoint):
                raise _invalid(f"Application endpoint arn invalid:{endpoint}")
        elif arn is None or arn.service != protocol or not arn.resource:
            raise _invalid(_SERVICES[protocol])
        elif protocol == "sqs" and arn.resource.endswith(".fifo") and not topic.fifo:
            raise _invalid(
                "Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics"
            )
        if topic.fifo and protocol != "sqs":
            raise _invalid(f"Endpoint Reason: FIFO topics deliver to Amazon SQS queues only, not by {protocol}")
        if topic.settings.maximum_message_bytes > DEFAULT_TOPIC_MESSAGE_BYTES and (
            protocol not in LARGE_MESSAGE_PROTOCOLS or len(topic.subscriptions) >= MAX_LARGE_TOPIC_SUBSCRIPTIONS
        ):
            raise _invalid(
                "Protocol Reason: a topic whose MaximumMessageSize is above 256 KiB can have "
                f"{MAX_LARGE_TOPIC_SUBSCRIPTIONS} subscriptions, by SQS, Firehose or Lambda"
            )

    def _check_attributes(
        self, topic: Topic, protocol: str, attributes: Mapping[str, str], changes: Mapping[str, str]
    ) -> None:
        """What depends on several attributes, or is another's to check."""
        if protocol == "firehose" and "SubscriptionRoleArn" not in attributes:
            raise _invalid("Attributes Reason: SubscriptionRoleArn is required for Firehose subscriptions")
        if changes.get("DeliveryPolicy"):
            delivery_policy.check(changes["DeliveryPolicy"], of_topic=False)
        if "FilterPolicy" in attributes:
            filters.compiled(attributes["FilterPolicy"], attributes.get("FilterPolicyScope", filters.ATTRIBUTES))

    def _check_quotas(self, topic: Topic, owner: str, attributes: Mapping[str, str]) -> None:
        limits = self._registry.limits
        limit = limits.fifo_topic_subscriptions if topic.fifo else None
        if limit is not None and len(topic.subscriptions) >= limit:
            raise SubscriptionLimitExceededException("Subscription limit exceeded for this topic")
        if limits.pending_subscriptions is not None:
            pending = sum(s.owner == owner and s.pending for s in self._registry.subscriptions.values())
            if pending >= limits.pending_subscriptions:
                raise SubscriptionLimitExceededException("Too many subscriptions are pending confirmation")
        if "FilterPolicy" in attributes:
            self._check_filter_quota(topic, owner)

    def _check_filter_quota(self, topic: Topic, owner: str) -> None:
        limits = self._registry.limits
        of_topic = sum("FilterPolicy" in s.attributes for s in topic.subscriptions.values())
        if limits.topic_filter_policies is not None and of_topic >= limits.topic_filter_policies:
            raise FilterPolicyLimitExceededException(
                f"Filter policy limit exceeded: {limits.topic_filter_policies} policies a topic"
            )
        if limits.filter_policies is None:
            return
        owned = sum(s.owner == owner and "FilterPolicy" in s.attributes for s in self._registry.subscriptions.values())
        if owned >= limits.filter_policies:
            raise FilterPolicyLimitExceededException(
                f"Filter policy limit exceeded: {limits.filter_policies} policies an account"
            )

    # confirmation

    def confirm(
        self, topic: Topic, token: str, *, authenticated: bool, authenticate_on_unsubscribe: str
    ) -> Subscription:
        """Idempotent while the subscription is there. Raises InvalidParameterException."""
        if authenticate_on_unsubscribe.lower() not in ("", "true", "false"):
            raise _invalid("AuthenticateOnUnsubscribe")
        if authenticate_on_unsubscribe.lower() == "true" and not authenticated:
            raise AuthorizationErrorException("AuthenticateOnUnsubscribe needs a signed request")
        parted = topic.parted.get(token)
        if parted is not None:
            return self._restore(parted)
        subscription = next((s for s in topic.subscriptions.values() if s.token == token), None)
        if subscription is None:
            raise _invalid("Token")
        if not subscription.pending:
            return subscription
        self._registry.commit.enter()
        subscription.pending_since_ms = None
        subscription.authenticated = authenticated
        subscription.authenticate_on_unsubscribe = authenticate_on_unsubscribe.lower() == "true"
        if subscription.expiry is not None:
            subscription.expiry.cancel()
        self._registry.put_subscription(subscription)
        if subscription.settings.replay is not None:
            self._archives.start_replay(subscription, subscription.settings.replay)
        return subscription

    def _restore(self, parted: Subscription) -> Subscription:
        """Whoever was unsubscribed by a stranger comes back by the link in the message that said so."""
        existing = self._same(parted.topic, parted.protocol, parted.endpoint)
        self._registry.commit.enter()
        if existing is not None:  # it has subscribed anew meanwhile
            self._registry.forget_subscription(parted)
            return existing
        self._registry.restore_subscription(parted)
        return parted

    def _resume(self, subscription: Subscription | Topic) -> None:
        if isinstance(subscription, Topic):
            return
        since_ms = subscription.pending_since_ms if subscription.parted_ms is None else subscription.parted_ms
        if since_ms is not None:
            subscription.expiry = self._registry.clock.call_at(
                since_ms + CONFIRMATION_TOKEN_MS, lambda: self._registry.commit.run(self._expire, subscription)
            )

    def _expire(self, subscription: Subscription) -> None:
        if subscription.topic.parted.get(subscription.token) is subscription:
            self._registry.forget_subscription(subscription)
        elif subscription.pending and self._registry.subscriptions.get(subscription.arn) is subscription:
            self._registry.remove_subscription(subscription)

    def unsubscribe(self, arn: str, caller: str | None, *, only_owners: bool = False) -> None:
        """What is not there is fine. `caller` is an account, None where the request was not signed.

        Raises InvalidParameterException, AuthorizationErrorException.
        """
        subscription = self._registry.subscriptions.get(arn)
        if subscription is None:
            _check_arn(arn)
            return
        if subscription.pending and caller not in (subscription.owner, subscription.topic.world.account):
            raise _invalid("SubscriptionArn Reason: the subscription is pending confirmation")
        owners = (subscription.owner, subscription.topic.world.account)
        if subscription.authenticate_on_unsubscribe and caller is None:
            raise AuthorizationErrorException("This subscription can be deleted by a signed request only")
        if only_owners and caller is not None and caller not in owners:
            raise AuthorizationErrorException("Only the owner of the subscription or of its topic can delete it")
        self._registry.commit.enter()
        if caller is not None:
            self._registry.remove_subscription(subscription)
            return
        self._registry.remove_subscription(subscription, self._registry.clock.now_ms())
        self._resume(subscription)
        self._remote.farewell(subscription)

    # attributes

    def get_attributes(self, subscription: Subscription) -> dict[str, str]:
        shown = {
            "SubscriptionArn": subscription.arn,
            "Endpoint": subscription.endpoint,
            "Protocol": subscription.protocol,
            "Owner": subscription.owner,
            "TopicArn": subscription.topic.arn,
            "ConfirmationWasAuthenticated": "true" if subscription.authenticated else "false",
            "PendingConfirmation": "true" if subscription.pending else "false",
            "SubscriptionPrincipal": subscription.principal,
            "RawMessageDelivery": "false",
        }
        if subscription.protocol in ("http", "https"):
            shown["EffectiveDeliveryPolicy"] = delivery_policy.effective_of_subscription(
                subscription.topic.attributes.get("DeliveryPolicy"), subscription.attributes.get("DeliveryPolicy")
            )
        if "FilterPolicy" in subscription.attributes:
            shown["FilterPolicyScope"] = filters.ATTRIBUTES
        shown |= subscription.attributes
        if subscription.replay is not None:
            shown["ReplayStatus"] = subscription.replay.status
        return shown

    def set_attribute(self, subscription: Subscription, name: str, value: str) -> None:
        """Raises InvalidParameterException, FilterPolicyLimitExceededException, ReplayLimitExceededException."""
        topic = subscription.topic
        changes = attribute_rules.validated({name: value}, subscription.protocol, fifo=topic.fifo)
        attributes = attribute_rules.merged(subscription.attributes, changes)
        self._check_attributes(topic, subscription.protocol, attributes, changes)
        if changes.get("FilterPolicy") and "FilterPolicy" not in subscription.attributes:
            self._check_filter_quota(topic, subscription.owner)
        replay = attribute_rules.read_settings(attributes).replay
        if name == "ReplayPolicy" and replay is not None:
            self._archives.check_window(topic, replay, subscription)
        self._registry.commit.enter()
        subscription.set_attributes(attributes)
        self._registry.put_subscription(subscription)
        if name == "ReplayPolicy" and not subscription.pending:
            if replay is not None:
                self._archives.start_replay(subscription, replay)
            else:
                self._archives.stop_replay(subscription)


def _check_arn(arn: str) -> None:
    elements = arn.split(":")
    if len(elements) < 6:
        raise _invalid(f"SubscriptionArn Reason: An ARN must have at least 6 elements, not {len(elements)}")
    if elements[0] != "arn" or elements[2] != "sns" or len(elements) != 7:
        raise _invalid("SubscriptionArn")


def listed(subscription: Subscription) -> dict[str, Any]:
    """A subscription as the List operations have it."""
    return {
        "SubscriptionArn": "PendingConfirmation" if subscription.pending else subscription.arn,
        "Owner": subscription.owner,
        "Protocol": subscription.protocol,
        "Endpoint": subscription.endpoint,
        "TopicArn": subscription.topic.arn,
    }
