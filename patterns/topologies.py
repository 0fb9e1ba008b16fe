"""Queues, topics and rules that belong together, made by plain functions that can be called again and again.

`fan_out`, `bus_to_queues`, `queue_per_tenant` and `dead_letters_everywhere` make what is missing, mend what differs and
report each thing; of a site that is `looking` they only report. `teardown` takes down what a report lists. The rule:
what is made carries the site's name in a tag from its first moment, and only what carries it is ever deleted; links
(policy statements, subscriptions, targets, redrive policies) are put up after both their ends, and taken down before
them. How one thing is found, made and deleted is in topology_parts.py.
Ugly: AWS has no compare-and-set on a queue's policy, so two who change one at once may undo each other: call it again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from patterns import topology_parts as parts
from patterns.topology_parts import (
    DEAD,
    NAME_LENGTH,
    Build,
    Kind,
    Queue,
    Report,
    Resource,
    Site,
    State,
    all_of,
    dead_of,
    end_of,
    if_there,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueShape:
    """Attributes as CreateQueue has them. Without `max_receives` there is no dead-letter queue."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    max_receives: int | None = 5

    def __post_init__(self) -> None:
        if self.max_receives is not None and not 1 <= self.max_receives <= 1000:
            raise ValueError("max_receives is from 1 to 1000")
        if managed := {"Policy", "RedrivePolicy", "RedriveAllowPolicy", "FifoQueue"} & set(self.attributes):
            raise ValueError(f"the topology sets {', '.join(sorted(managed))} itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One queue's part of a topic. `raw`: the message as it was published, without SNS's envelope."""

    filter_policy: Mapping[str, Any] | None = None
    filter_scope: str = "MessageAttributes"
    raw: bool = True
    queue: QueueShape = field(default_factory=QueueShape)

    @property
    def attributes(self) -> Mapping[str, str]:
        wanted = {"RawMessageDelivery": str(self.raw).lower()}
        if self.filter_policy:  # else it has no scope; which goes first, for it says what a policy may be
            wanted["FilterPolicyScope"] = self.filter_scope
        return {**wanted, "FilterPolicy": json.dumps(self.filter_policy or {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What goes from a bus to a queue. A FIFO queue needs `group_id`."""

    queue: str
    pattern: Mapping[str, Any]
    group_id: str | None = None
    shape: QueueShape = field(default_factory=QueueShape)

    def __post_init__(self) -> None:
        if (self.group_id is None) == self.queue.endswith(".fifo"):
            raise ValueError("a FIFO queue has a group_id, and no other one")


# The topologies -----------------------------------------------------------------------------------


async def fan_out(
    site: Site,
    topic: str,
    queues: Mapping[str, Subscription],
    *,
    topic_attributes: Mapping[str, str] | None = None,
) -> Report:
    """A topic, and queues that each get what their filters let through. FIFO by names that end with `.fifo`.

    A queue has a dead-letter queue for what is received too often, which also takes what SNS cannot deliver.
    https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
    """
    build = Build(site)
    made = {name: await _queue_and_dead(build, name, wanted.queue) for name, wanted in queues.items()}
    topic_arn = await parts.ensure_topic(build, topic, topic_attributes or {})
    await _subscriptions(build, topic, topic_arn, [(*made[name], wanted) for name, wanted in queues.items()])
    return build.report({name: queue.url for name, (queue, _) in made.items()}, topic_arn)


async def bus_to_queues(site: Site, bus: str, rules: Mapping[str, Rule]) -> Report:
    """A bus (`default` is there already) and rules by name, each with a queue and a dead-letter queue.

    What EventBridge cannot deliver to a FIFO queue has a standard dead-letter queue of its own: it takes no other.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    build = Build(site)
    urls: dict[str, str] = {}
    await parts.ensure_bus(build, bus)
    for name, wanted in rules.items():
        shape = wanted.shape
        if wanted.group_id is not None:  # EventBridge gives no deduplication identifier
            shape = replace(shape, attributes={**shape.attributes, "ContentBasedDeduplication": "true"})
        queue, dead = await _queue_and_dead(build, wanted.queue, shape)
        if dead is None or dead.name.endswith(".fifo"):
            dead = await parts.ensure_dead_queue(build, wanted.queue.removesuffix(".fifo"))
        rule_arn = await parts.ensure_rule(build, bus, name, wanted.pattern)
        for end in (queue, dead):
            await parts.ensure_statement(build, end, "events.amazonaws.com", rule_arn, name)
        await parts.ensure_target(build, bus, name, rule_arn, queue, dead, wanted.group_id)
        urls[wanted.queue] = queue.url
    return build.report(urls)


async def queue_per_tenant(
    site: Site,
    prefix: str,
    tenants: Iterable[str],
    *,
    shape: QueueShape | None = None,
    topic: str | None = None,
    attribute: str = "tenant",
    fifo: bool = False,
) -> Report:
    """A queue for each tenant, with a dead-letter queue each. With `topic`, what is published there with the message
    attribute `attribute` goes to its tenant's queue (a topic takes 200 filter policies, unless AWS raises that).

    Tenants that have gone: `teardown(site, await queue_per_tenant(site.looking(), prefix, gone))`.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-noisy-neighbor.html
    """
    build, shape = Build(site), shape or QueueShape()
    names = {tenant: tenant_queue(prefix, tenant, fifo=fifo) for tenant in tenants}
    made = {tenant: await _queue_and_dead(build, name, shape) for tenant, name in names.items()}
    topic_arn = ""
    if topic is not None:
        topic_arn = await parts.ensure_topic(build, topic, {})
        filters = [(*made[tenant], Subscription(filter_policy={attribute: [tenant]})) for tenant in made]
        await _subscriptions(build, topic, topic_arn, filters)
    return build.report({tenant: queue.url for tenant, (queue, _) in made.items()}, topic_arn)


async def dead_letters_everywhere(
    site: Site, prefix: str = "", *, bus: str = "default", max_receives: int = 5
) -> Report:
    """Dead-letter queues for all that has none: queues, subscriptions of topics (if the site has `sns`) and targets of
    the bus's rules (if it has `events`) whose names begin with `prefix`. What has one is left as it is.

    Subscriptions to a topic share one, and so do a rule's targets. Dead-letter queues have none.
    """
    build = Build(site)
    asked: dict[str, Any] = {"QueueNamePrefix": prefix} if prefix else {}
    found = await all_of(site.sqs.list_queues, "QueueUrls", MaxResults=1000, **asked)
    queues = [queue for queue in [await parts.find_queue(site, end_of(url)) for url in found] if queue.url]
    dead_arns = {queue.dead_arn for queue in queues}
    sources = [queue for queue in queues if queue.arn not in dead_arns and not queue.stem.endswith(DEAD)]
    for queue in sources:
        dead = await _dead_queue_unless(build, queue.name, queue.dead_arn)
        if dead is not None:
            await parts.ensure_redrive(build, queue, dead, queue.max_receives or max_receives)
    if site.sns is not None:
        for topic in await all_of(site.sns.list_topics, "Topics"):
            if end_of(topic["TopicArn"]).startswith(prefix):
                await _dead_letters_of_topic(build, topic["TopicArn"])
    if site.events is not None:
        for rule in await all_of(site.events.list_rules, "Rules", EventBusName=bus):
            if rule["Name"].startswith(prefix) and "ManagedBy" not in rule:
                await _dead_letters_of_rule(build, bus, rule["Name"], rule["Arn"])
    return build.report({queue.name: queue.url for queue in sources})


async def teardown(site: Site, report: Report, *, even_with_messages: bool = False) -> Report:
    """Takes down what a report of the same site lists, the last first: a build's own, or that of a look.

    Links go, and what has the site's tag; what has not stays, and so does a queue with messages (and what dead letters
    it has), unless `even_with_messages`. What is not there any more is no error: call it again after one.
    """
    kept: set[str] = set()
    for one in report.resources:
        if one.kind is Kind.QUEUE and not even_with_messages and await parts.has_messages(site, one.id):
            kept.add(one.name)
    for one in report.resources:  # the dead letters of a queue that stays, stay
        if one.kind is Kind.REDRIVE and end_of(one.parent) in kept:
            kept.add(end_of(one.id))
    done: list[Resource] = []
    for one in reversed(report.resources):
        name = {Kind.QUEUE: one.name, Kind.REDRIVE: end_of(one.parent)}.get(one.kind)
        if one.state is State.MISSING:
            state = State.MISSING
        elif not one.is_ours or name in kept:
            state = State.KEPT
        elif site.only_look:
            state = one.state
        else:
            state = await if_there(parts.take_down(site, one)) or State.MISSING
        done.append(replace(one, state=state))
    return Report(tuple(done))


def tenant_queue(prefix: str, tenant: str, *, fifo: bool = False) -> str:
    """A queue's name that no other tenant's queue has: its own where SQS takes it, else with a hash of it."""
    name = f"{prefix}-{tenant}"
    room = NAME_LENGTH - len(DEAD) - len(".fifo")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain != name or len(name) > room or plain.endswith(DEAD):
        plain = f"{plain[: room - 13]}-{parts.hash_of(name)}"
    return plain + (".fifo" if fifo else "")


# What they have in common -------------------------------------------------------------------------


async def _queue_and_dead(build: Build, name: str, shape: QueueShape) -> tuple[Queue, Queue | None]:
    if shape.max_receives is None:
        return await parts.ensure_queue(build, name, shape.attributes), None
    dead = await parts.ensure_dead_queue(build, name)
    queue = await parts.ensure_queue(build, name, shape.attributes)
    await parts.ensure_redrive(build, queue, dead, shape.max_receives)
    return queue, dead


async def _dead_queue_unless(build: Build, name: str, found_arn: str) -> Queue | None:
    """None: there is one already, which was not made here."""
    if found_arn:
        found = await parts.find_queue(build.site, parts.dead_name(name))
        if found.arn != found_arn or not found.is_ours:
            return None
    return await parts.ensure_dead_queue(build, name)


async def _subscriptions(
    build: Build, topic: str, topic_arn: str, wanted: Iterable[tuple[Queue, Queue | None, Subscription]]
) -> None:
    there = await parts.confirmed_subscriptions(build.site, topic_arn) if topic_arn else []
    arns = {one["Endpoint"]: one["SubscriptionArn"] for one in there if one["Protocol"] == "sqs"}
    for queue, dead, subscription in wanted:
        attributes = dict(subscription.attributes)
        if dead is not None:
            attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": dead.arn})
        for end in (queue, dead):
            if end is not None:
                await parts.ensure_statement(build, end, "sns.amazonaws.com", topic_arn, topic)
        name = f"{topic} to {queue.name}"
        await parts.ensure_subscription(build, name, topic_arn, arns.get(queue.arn, ""), queue.arn, attributes)


async def _dead_letters_of_topic(build: Build, topic_arn: str) -> None:
    topic = end_of(topic_arn)
    for one in await parts.confirmed_subscriptions(build.site, topic_arn):
        arn, endpoint = one["SubscriptionArn"], one["Endpoint"]
        found = dead_of((await build.site.sns.get_subscription_attributes(SubscriptionArn=arn))["Attributes"])
        # A FIFO queue's must be FIFO too: https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html
        fifo = ".fifo" if endpoint.endswith(".fifo") else ""
        dead = await _dead_queue_unless(build, topic.removesuffix(".fifo") + fifo, found)
        if dead is not None:
            await parts.ensure_statement(build, dead, "sns.amazonaws.com", topic_arn, topic)
            await parts.ensure_subscription_dead_letters(build, f"{topic} to {endpoint}", arn, found, dead)


async def _dead_letters_of_rule(build: Build, bus: str, rule: str, rule_arn: str) -> None:
    queue_name = rule.replace(".", "_")
    for target in await all_of(build.site.events.list_targets_by_rule, "Targets", Rule=rule, EventBusName=bus):
        dead = await _dead_queue_unless(build, queue_name, target.get("DeadLetterConfig", {}).get("Arn", ""))
        if dead is not None:
            await parts.ensure_statement(build, dead, "events.amazonaws.com", rule_arn, rule)
            await parts.ensure_target_dead_letters(build, bus, rule, target, dead)
