"""The life of topics: creation, attributes, tags, permissions, policies, deletion.

Each operation is one transaction, and refuses before it changes anything. Names and errors are the API reference's;
the sentences are those that users of AWS quote.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broker import delivery_policy, policy
from broker.clock import iso_8601_ms
from broker.errors import (
    InvalidParameterException,
    InvalidStateException,
    NotFoundException,
    ResourceNotFoundException,
    TagLimitExceededException,
    TopicLimitExceededException,
)
from broker.limits import (
    DEFAULT_TOPIC_MESSAGE_BYTES,
    MAX_DATA_PROTECTION_POLICY_CHARS,
    MAX_LARGE_TOPIC_SUBSCRIPTIONS,
    MAX_TAGS,
)
from broker.names import World, is_account, is_topic_name, parse_arn
from broker.topics import attributes as attribute_rules
from broker.topics.archive import Archives
from broker.topics.registry import Registry
from broker.topics.topic import Topic

LARGE_MESSAGE_PROTOCOLS = ("sqs", "firehose", "lambda")

_EMPTY: Mapping[str, str] = {}

SHAREABLE_ACTIONS = frozenset(attribute_rules.OWNER_ACTIONS) | {"Receive", "ListTagsForResource", "*"}


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


def check_topic_arn(arn: str, parameter: str = "TopicArn") -> None:
    """Raises InvalidParameterException for what cannot be a topic's ARN."""
    elements = arn.split(":")
    if len(elements) < 6:
        raise _invalid(f"{parameter} Reason: An ARN must have at least 6 elements, not {len(elements)}")
    parsed = parse_arn(arn)
    if parsed is None or parsed.service != "sns" or not parsed.region or not is_account(parsed.account):
        raise _invalid(parameter)


class Topics:
    """All topics of a broker, of every account and region."""

    def __init__(self, registry: Registry, archives: Archives) -> None:
        self._registry = registry
        self._archives = archives

    def get(self, arn: str) -> Topic | None:
        return self._registry.topics.get(arn)

    def find(self, arn: str, parameter: str = "TopicArn") -> Topic:
        """Raises InvalidParameterException, NotFoundException."""
        topic = self._registry.topics.get(arn)
        if topic is None:
            check_topic_arn(arn, parameter)
            raise NotFoundException
        return topic

    def find_resource(self, arn: str) -> Topic:
        """For tags, which miss a topic in their own words. Raises InvalidParameterException, ResourceNotFound…"""
        topic = self._registry.topics.get(arn)
        if topic is None:
            check_topic_arn(arn, "ResourceArn")
            raise ResourceNotFoundException("Resource does not exist")
        return topic

    def all(self) -> list[Topic]:
        """Those of every account and region, in the order of their ARNs."""
        return sorted(self._registry.topics.values(), key=lambda topic: topic.arn)

    def list_topics(self, world: World, after: str, limit: int) -> tuple[list[Topic], bool]:
        """A page of topics in the order of their ARNs, and whether there are more."""
        found = sorted(
            (topic for topic in self._registry.topics.values() if topic.world == world and topic.arn > after),
            key=lambda topic: topic.arn,
        )
        return found[:limit], len(found) > limit

    def create(
        self,
        world: World,
        name: str,
        given: Mapping[str, str],
        tags: Sequence[tuple[str, str]] = (),
        data_protection_policy: str = "",
    ) -> Topic:
        """Raises InvalidParameterException, TopicLimitExceededException, TagLimitExceededException."""
        chosen = given.get("FifoTopic", "false").lower()
        if chosen not in ("true", "false"):
            raise _invalid("FifoTopic")
        fifo = chosen == "true"
        if not is_topic_name(name, fifo=fifo):
            if fifo:
                raise _invalid(
                    "Fifo Topic names must end with .fifo and must be made up of only uppercase and lowercase ASCII "
                    "letters, numbers, underscores, and hyphens, and must be between 1 and 256 characters long."
                )
            raise _invalid("Topic Name")
        settings = {attribute: value for attribute, value in given.items() if attribute != "FifoTopic"}
        for attribute in settings:
            if attribute not in attribute_rules.SETTABLE:
                raise _invalid(f"Attributes Reason: Unknown attribute: {attribute}")
        changes = attribute_rules.validated(settings, fifo=fifo)
        self._check_changes(changes)
        wanted_tags = self._merge_tags({}, tags)
        topic = Topic(0, world, name)
        existing = self._registry.topics.get(topic.arn)
        if existing is not None:
            self._refuse_difference(existing, changes, wanted_tags if tags else None)
            return existing
        self._check_quota(world, fifo)
        self._check_data_protection_policy(data_protection_policy)
        self._registry.commit.enter()
        topic = Topic(self._registry.next_no(), world, name)
        topic.set_attributes(attribute_rules.merged({}, changes))
        topic.tags = wanted_tags
        topic.data_protection_policy = data_protection_policy
        self._archives.follow_policy(topic)
        self._registry.add_topic(topic)
        return topic

    def _refuse_difference(self, existing: Topic, changes: Mapping[str, str], tags: dict[str, str] | None) -> None:
        has = {**attribute_rules.DEFAULTS, **existing.attributes}
        if any(has.get(name, "") != value for name, value in changes.items()):
            raise _invalid("Attributes Reason: Topic already exists with different attributes")
        if tags is not None and tags != existing.tags:
            raise _invalid("Tags Reason: Topic already exists with different tags")

    def _check_quota(self, world: World, fifo: bool) -> None:
        limits = self._registry.limits
        limit = limits.fifo_topics if fifo else limits.topics
        if limit is None:
            return
        owned = sum(topic.world == world and topic.fifo == fifo for topic in self._registry.topics.values())
        if owned >= limit:
            raise TopicLimitExceededException(f"Topic limit exceeded: {limit} {'FIFO ' if fifo else ''}topics")

    def _check_changes(self, changes: Mapping[str, str]) -> None:
        if changes.get("DeliveryPolicy"):
            delivery_policy.check(changes["DeliveryPolicy"], of_topic=True)

    def delete(self, arn: str) -> None:
        """Deleting what is not there is fine. Raises InvalidParameterException, InvalidStateException."""
        topic = self._registry.topics.get(arn)
        if topic is None:
            check_topic_arn(arn)
            return
        if topic.archive_no is not None:
            raise InvalidStateException(
                "Invalid state: Cannot delete a topic with an active ArchivePolicy. Deactivate the ArchivePolicy first."
            )
        self._registry.commit.enter()
        self._registry.remove_topic(topic)

    # attributes

    def get_attributes(self, topic: Topic) -> dict[str, str]:
        confirmed, pending = topic.count_subscriptions()
        shown = {
            "Policy": topic.attributes.get("Policy") or self._policy_text(topic),
            "Owner": topic.world.account,
            "SubscriptionsPending": str(pending),
            "TopicArn": topic.arn,
            "EffectiveDeliveryPolicy": delivery_policy.effective_of_topic(topic.attributes.get("DeliveryPolicy")),
            "SubscriptionsConfirmed": str(confirmed),
            "DisplayName": "",
            "SubscriptionsDeleted": str(topic.deleted_count),
        }
        if topic.fifo:
            shown |= {"FifoTopic": "true"} | {
                name: attribute_rules.DEFAULTS[name] for name in attribute_rules.FIFO_SHOWN
            }
        shown |= {name: value for name, value in topic.attributes.items() if name != "Policy"}
        if topic.archive_no is not None:
            shown["BeginningArchiveTime"] = iso_8601_ms(self._archives.beginning_ms(topic))
        return shown

    def _policy_text(self, topic: Topic) -> str:
        document = attribute_rules.default_policy(topic.arn, topic.world.account)
        return json.dumps(document, separators=(",", ":"))

    def set_attribute(self, topic: Topic, name: str, value: str) -> None:
        """Raises InvalidParameterException."""
        if name == "FifoTopic":
            raise _invalid("AttributeName Reason: FifoTopic cannot be changed once the topic is created")
        if name not in attribute_rules.SETTABLE:
            raise _invalid("AttributeName")
        changes = attribute_rules.validated({name: value}, fifo=topic.fifo)
        self._check_changes(changes)
        if name == "MaximumMessageSize":
            self._check_size_fits(topic, int(changes[name]))
        self._registry.commit.enter()
        topic.set_attributes(attribute_rules.merged(topic.attributes, changes))
        if name == "ArchivePolicy":
            self._archives.follow_policy(topic)
        self._registry.put_topic(topic)

    def _check_size_fits(self, topic: Topic, size_bytes: int) -> None:
        if size_bytes <= DEFAULT_TOPIC_MESSAGE_BYTES:
            return
        if len(topic.subscriptions) > MAX_LARGE_TOPIC_SUBSCRIPTIONS or any(
            subscription.protocol not in LARGE_MESSAGE_PROTOCOLS for subscription in topic.subscriptions.values()
        ):
            raise _invalid(
                f"MaximumMessageSize Reason: A topic with messages above {DEFAULT_TOPIC_MESSAGE_BYTES} bytes must have "
                f"{MAX_LARGE_TOPIC_SUBSCRIPTIONS} or fewer subscriptions, all of them SQS, Firehose or Lambda"
            )

    def put_data_protection_policy(self, topic: Topic, text: str) -> None:
        """Raises InvalidParameterException."""
        self._check_data_protection_policy(text)
        self._registry.commit.enter()
        topic.data_protection_policy = text
        self._registry.put_topic(topic)

    def _check_data_protection_policy(self, text: str) -> None:
        if not text:
            return
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or len(text) > MAX_DATA_PROTECTION_POLICY_CHARS:
            raise _invalid("DataProtectionPolicy")

    # tags

    def tag(self, topic: Topic, tags: Sequence[tuple[str, str]]) -> None:
        """Raises InvalidParameterException, TagLimitExceededException."""
        merged = self._merge_tags(topic.tags, tags)
        self._registry.commit.enter()
        topic.tags = merged
        self._registry.put_topic(topic)

    def untag(self, topic: Topic, keys: Iterable[str]) -> None:
        self._registry.commit.enter()
        gone = set(keys)
        topic.tags = {key: value for key, value in topic.tags.items() if key not in gone}
        self._registry.put_topic(topic)

    def _merge_tags(self, before: Mapping[str, str], tags: Sequence[tuple[str, str]]) -> dict[str, str]:
        if len({key for key, _ in tags}) != len(tags):
            raise _invalid("Duplicated keys are not allowed.")
        for key, _ in tags:
            if key.lower().startswith("aws:"):
                raise _invalid("Tag keys must not start with the reserved prefix aws:")
        merged = {**before, **dict(tags)}
        if len(merged) > MAX_TAGS:
            raise TagLimitExceededException
        return merged

    # permissions

    def add_permission(self, topic: Topic, label: str, accounts: Sequence[str], actions: Sequence[str]) -> None:
        """Raises InvalidParameterException."""
        document = self._policy(topic)
        entries = policy.statements(json.dumps(document))
        if any(entry.get("Sid") == label for entry in entries):
            raise _invalid("Statement already exists")
        for account in accounts:
            if not is_account(account):
                raise _invalid("Policy Error: PrincipalNotFound")
        for action in actions:
            if action not in SHAREABLE_ACTIONS:
                raise _invalid("Policy statement action out of service scope!")
        named = [f"SNS:{action}" for action in actions]
        entries.append(policy.statement(label, accounts, named, topic.arn, topic.world.region))
        self._put_policy(topic, document, entries)

    def remove_permission(self, topic: Topic, label: str) -> None:
        """A label that is not there is fine: AWS documents no error for it."""
        document = self._policy(topic)
        entries = [entry for entry in policy.statements(json.dumps(document)) if entry.get("Sid") != label]
        self._put_policy(topic, document, entries)

    def _policy(self, topic: Topic) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(topic.attributes.get("Policy") or self._policy_text(topic))
        return document

    def _put_policy(self, topic: Topic, document: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        self._registry.commit.enter()
        text = json.dumps({**document, "Statement": entries}, separators=(",", ":"))
        topic.set_attributes({**topic.attributes, "Policy": text})
        self._registry.put_topic(topic)
