"""Queues, topics and rules that belong together, made by plain functions that can be called again and again.

`fan_out`, `bus_to_queues`, `queue_per_tenant` and `dead_letters_everywhere` make what is missing, mend what differs and
report each thing; with `only_look` they only report. `teardown` takes down what a report lists. The rule: what is made
carries the topology's name in a tag from its first moment, and only what carries it is ever deleted; links (policy
statements, subscriptions, targets, redrive policies) are put up after both their ends, and taken down before them.
Ugly: AWS has no compare-and-set on a queue's policy, so two who change one at once may undo each other: call it again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import anyio

TAG = "topology"
DEAD = "-dead"
RETENTION_S = 1_209_600  # of dead letters: as long as SQS keeps anything
NAME_LENGTH = 80  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
TARGET_ID_LENGTH = 64  # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Target.html
TENANTS_AT_ONCE = 8

_NOT_THERE = {
    "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}
_JSON_ATTRIBUTES = {"Policy", "RedrivePolicy", "RedriveAllowPolicy", "FilterPolicy", "DeliveryPolicy"}


class State(Enum):
    """What a report says of a thing."""

    CREATED = "created"
    CHANGED = "changed"  # it was there, but different
    THERE = "there"
    MISSING = "missing"  # only looked at, or taken down before
    DIFFERENT = "different"  # only looked at
    DELETED = "deleted"
    KEPT = "kept"  # by teardown: somebody else's, or not empty


class Kind(Enum):
    QUEUE = "queue"
    TOPIC = "topic"
    BUS = "bus"
    RULE = "rule"
    STATEMENT = "statement"  # of a queue's policy
    REDRIVE = "redrive policy"
    SUBSCRIPTION = "subscription"
    TARGET = "target"
    TARGET_DEAD_LETTERS = "dead letters of a target"
    SUBSCRIPTION_DEAD_LETTERS = "dead letters of a subscription"


@dataclass(frozen=True, slots=True)
class Resource:
    """`id` is what its service calls it, and `parent` what it is part of; both are empty if it is missing.
    `is_ours`: it has the topology's tag, or is a link."""

    kind: Kind
    name: str
    state: State
    id: str = ""
    parent: str = ""
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """Things in the order of their making. `queue_urls` by name, or by tenant where there are tenants; without dead
    letters' queues."""

    resources: Sequence[Resource]
    queue_urls: Mapping[str, str] = field(default_factory=dict)
    topic_arn: str | None = None

    @property
    def is_complete(self) -> bool:
        """Everything is there as it should be."""
        return all(one.state not in (State.MISSING, State.DIFFERENT) for one in self.resources)

    @property
    def has_changed(self) -> bool:
        """Something was made, mended or deleted."""
        return any(one.state in (State.CREATED, State.CHANGED, State.DELETED) for one in self.resources)


class Site:
    """Where to build: a name for the tags, and clients of aiobotocore or aioboto3, or of boto3 in
    patterns.threads.InThreads. `only_look` reports what a build would find, and changes nothing."""

    def __init__(self, name: str, *, sqs: Any, sns: Any = None, events: Any = None, only_look: bool = False) -> None:
        self.name = name
        self.sqs = sqs
        self.sns = sns
        self.events = events
        self.only_look = only_look

    def looking(self) -> Site:
        return Site(self.name, sqs=self.sqs, sns=self.sns, events=self.events, only_look=True)


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
    log = _Log(site)
    made = {name: await _queue(log, name, wanted.queue) for name, wanted in queues.items()}
    topic_arn = await _topic(log, topic, topic_attributes or {})
    await _subscriptions(log, topic, topic_arn, {made[name]: wanted for name, wanted in queues.items()})
    return log.report({name: queue.url for name, queue in made.items()}, topic_arn)


async def bus_to_queues(site: Site, bus: str, rules: Mapping[str, Rule]) -> Report:
    """A bus (`default` is there already) and rules by name, each with a queue and a dead-letter queue.

    What EventBridge cannot deliver to a FIFO queue has a standard dead-letter queue of its own: it takes no other.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    log = _Log(site)
    urls: dict[str, str] = {}
    found_bus = await _bus(log, bus)
    for name, wanted in rules.items():
        shape = wanted.shape
        if wanted.group_id is not None:  # EventBridge gives no deduplication identifier
            shape = replace(shape, attributes={**shape.attributes, "ContentBasedDeduplication": "true"})
        queue = await _queue(log, wanted.queue, shape)
        urls[wanted.queue] = queue.url
        dead = queue.dead
        if dead is None or dead.name.endswith(".fifo"):
            dead = await _dead_queue(log, wanted.queue.removesuffix(".fifo"))
        rule_arn = await _rule(log, bus, name, wanted.pattern, found_bus)
        for end in (queue, dead):
            await _statement(log, end, "events.amazonaws.com", rule_arn, name)
        target: dict[str, Any] = {"Id": _short(wanted.queue, TARGET_ID_LENGTH), "Arn": queue.arn}
        if wanted.group_id is not None:
            target["SqsParameters"] = {"MessageGroupId": wanted.group_id}
        await _target(log, bus, name, rule_arn, target | {"DeadLetterConfig": {"Arn": dead.arn}})
    return log.report(urls)


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
    wanted, shape = list(dict.fromkeys(tenants)), shape or QueueShape()
    logs = {tenant: _Log(site) for tenant in wanted}
    made: dict[str, _Queue] = {}
    places = anyio.Semaphore(TENANTS_AT_ONCE)

    async def make(tenant: str) -> None:
        async with places:
            made[tenant] = await _queue(logs[tenant], tenant_queue(prefix, tenant, fifo=fifo), shape)

    async with anyio.create_task_group() as tasks:
        for tenant in wanted:
            tasks.start_soon(make, tenant)
    log = _Log(site)
    log.resources = [one for tenant in wanted for one in logs[tenant].resources]
    topic_arn: str | None = None
    if topic is not None:
        topic_arn = await _topic(log, topic, {})
        filters = {made[tenant]: Subscription(filter_policy={attribute: [tenant]}, queue=shape) for tenant in wanted}
        await _subscriptions(log, topic, topic_arn, filters)
    return log.report({tenant: made[tenant].url for tenant in wanted}, topic_arn)


async def dead_letters_everywhere(
    site: Site, prefix: str = "", *, bus: str = "default", max_receives: int = 5
) -> Report:
    """Dead-letter queues for all that has none: queues, subscriptions of topics (if the site has `sns`) and targets of
    the bus's rules (if it has `events`) whose names begin with `prefix`. What has one is left as it is.

    Subscriptions to a topic share one, and so do a rule's targets. Dead-letter queues have none.
    """
    log = _Log(site)
    urls: dict[str, str] = {}
    queues: list[_Queue] = []
    asked: dict[str, Any] = {"QueueNamePrefix": prefix} if prefix else {}
    for url in await _all(site.sqs.list_queues, "QueueUrls", MaxResults=1000, **asked):
        queue = await _look_at_queue(site, _end(url))
        if queue is not None:
            queues.append(queue)
    targets = {_dead_of(queue.attributes) for queue in queues}
    for queue in queues:
        if queue.arn in targets or queue.name.removesuffix(".fifo").endswith(DEAD):
            continue
        urls[queue.name] = queue.url
        if not _dead_of(queue.attributes):
            await _redrive(log, queue, await _dead_queue(log, queue.name), max_receives)
        elif dead := await _our_dead_queue(log, queue.name, _dead_of(queue.attributes)):
            log.add(Kind.REDRIVE, f"{queue.name} to {dead.name}", State.THERE, dead.arn, queue.url)
    if site.sns is not None:
        await _dead_letters_of_topics(log, prefix)
    if site.events is not None:
        await _dead_letters_of_rules(log, prefix, bus)
    return log.report(urls)


async def teardown(site: Site, report: Report, *, even_with_messages: bool = False) -> Report:
    """Takes down what a report of the same site lists, the last first: a build's own, or that of a look.

    Links go, and what has the site's tag; what has not stays, and so does a queue with messages (and what dead letters
    it has), unless `even_with_messages`. What is not there any more is no error: call it again after one.
    """
    kept = set() if even_with_messages else await _with_messages(site, report)
    # The dead letters of a queue that stays, stay.
    kept |= {_end(one.id) for one in report.resources if one.kind is Kind.REDRIVE and _end(one.parent) in kept}
    done: list[Resource] = []
    for one in reversed(report.resources):
        name = {Kind.QUEUE: one.name, Kind.REDRIVE: _end(one.parent)}.get(one.kind)
        if one.state is State.MISSING:
            state = State.MISSING
        elif not one.is_ours or name in kept:
            state = State.KEPT
        elif site.only_look:
            state = one.state
        else:
            try:
                state = await _TAKE_DOWN[one.kind](site, one)
            except Exception as error:
                if _code(error) not in _NOT_THERE:
                    raise
                state = State.MISSING
        done.append(replace(one, state=state))
    return Report(tuple(done))


def tenant_queue(prefix: str, tenant: str, *, fifo: bool = False) -> str:
    """A queue's name that no other tenant's queue has: its own where SQS takes it, else with a hash of it."""
    name = f"{prefix}-{tenant}"
    room = NAME_LENGTH - len(DEAD) - len(".fifo")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain != name or len(name) > room or plain.endswith(DEAD):
        plain = f"{plain[: room - 13]}-{_hash(name)}"
    return plain + (".fifo" if fifo else "")


# One thing each ------------------------------------------------------------------------------------


class _Log:
    """What a build has found and done so far."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.resources: list[Resource] = []

    def add(self, kind: Kind, name: str, state: State, id: str = "", parent: str = "", is_ours: bool = True) -> None:
        new = Resource(kind, name, state, id, parent, is_ours)
        if not any((old.kind, old.name, old.parent) == (kind, name, parent) for old in self.resources):
            self.resources.append(new)

    def report(self, queue_urls: Mapping[str, str], topic_arn: str | None = None) -> Report:
        return Report(tuple(self.resources), {name: url for name, url in queue_urls.items() if url}, topic_arn or None)


@dataclass(eq=False, slots=True)
class _Queue:
    """Without a URL it is missing, and we only look."""

    name: str
    url: str = ""
    arn: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    is_ours: bool = True
    dead: _Queue | None = None


async def _look_at_queue(site: Site, name: str) -> _Queue | None:
    try:
        url = (await site.sqs.get_queue_url(QueueName=name))["QueueUrl"]
        answer = await site.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    except Exception as error:
        if _code(error) in _NOT_THERE:
            return None
        raise
    attributes = answer["Attributes"]
    return _Queue(name, url, attributes["QueueArn"], dict(attributes))


async def _made_queue(log: _Log, name: str, attributes: Mapping[str, str]) -> _Queue:
    """The queue alone."""
    site = log.site
    queue = await _look_at_queue(site, name)
    if queue is None:
        if site.only_look:
            log.add(Kind.QUEUE, name, State.MISSING)
            return _Queue(name)
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        await site.sqs.create_queue(QueueName=name, Attributes={**attributes, **fifo}, tags={TAG: site.name})
        queue = await _look_at_queue(site, name)
        if queue is None:
            raise LookupError(f"the queue {name} was deleted while it was made")
        log.add(Kind.QUEUE, name, State.CREATED, queue.url)
        return queue
    tags = (await site.sqs.list_queue_tags(QueueUrl=queue.url)).get("Tags", {})
    queue.is_ours = tags.get(TAG) == site.name
    log.add(Kind.QUEUE, name, await _attributes(site, queue, attributes), queue.url, is_ours=queue.is_ours)
    return queue


async def _attributes(site: Site, queue: _Queue, wanted: Mapping[str, str]) -> State:
    """THERE, DIFFERENT or CHANGED."""
    wrong = {name: value for name, value in wanted.items() if not _is_same(name, queue.attributes.get(name, ""), value)}
    if wrong and not site.only_look:
        await site.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes=wrong)
        queue.attributes |= wrong
    return _state(site, is_there=True, is_wrong=bool(wrong))


def _dead_name(name: str) -> str:
    stem, fifo = name.removesuffix(".fifo"), ".fifo" if name.endswith(".fifo") else ""
    return _short(stem, NAME_LENGTH - len(DEAD) - len(fifo)) + DEAD + fifo


async def _dead_queue(log: _Log, name: str) -> _Queue:
    return await _made_queue(log, _dead_name(name), {"MessageRetentionPeriod": str(RETENTION_S)})


async def _queue(log: _Log, name: str, shape: QueueShape) -> _Queue:
    """A queue with its dead letters."""
    dead = None if shape.max_receives is None else await _dead_queue(log, name)
    queue = await _made_queue(log, name, shape.attributes)
    if dead is not None and shape.max_receives is not None:
        await _redrive(log, queue, dead, shape.max_receives)
    queue.dead = dead
    return queue


async def _redrive(log: _Log, queue: _Queue, dead: _Queue, max_receives: int) -> None:
    name = f"{queue.name} to {dead.name}"
    if not (queue.url and dead.url):
        log.add(Kind.REDRIVE, name, State.MISSING)
        return
    is_there = bool(queue.attributes.get("RedrivePolicy"))
    allowed = _loaded(dead.attributes.get("RedriveAllowPolicy"))
    sources: list[str] = allowed.get("sourceQueueArns", [])
    allow = dead.attributes.get("RedriveAllowPolicy", "")
    if queue.arn not in sources and (dead.is_ours or allowed.get("redrivePermission") == "byQueue"):
        allow = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": sorted([*sources, queue.arn])})
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": max_receives})
    states = [
        await _attributes(log.site, dead, {"RedriveAllowPolicy": allow}),
        await _attributes(log.site, queue, {"RedrivePolicy": policy}),
    ]
    state = _state(log.site, is_there=is_there, is_wrong=states != [State.THERE, State.THERE])
    log.add(Kind.REDRIVE, name, state, dead.arn, queue.url)


async def _topic(log: _Log, name: str, attributes: Mapping[str, str]) -> str:
    site = log.site

    def is_it(topic: Mapping[str, Any]) -> bool:
        return bool(_end(topic["TopicArn"]) == name)

    for topic in filter(is_it, await _all(site.sns.list_topics, "Topics", is_it)):
        arn = str(topic["TopicArn"])
        tags = (await site.sns.list_tags_for_resource(ResourceArn=arn)).get("Tags", [])
        found = (await site.sns.get_topic_attributes(TopicArn=arn))["Attributes"]
        wrong = {one: value for one, value in attributes.items() if not _is_same(one, found.get(one, ""), value)}
        if not site.only_look:
            for one, value in wrong.items():
                await site.sns.set_topic_attributes(TopicArn=arn, AttributeName=one, AttributeValue=value)
        state = _state(site, is_there=True, is_wrong=bool(wrong))
        log.add(Kind.TOPIC, name, state, arn, is_ours={"Key": TAG, "Value": site.name} in tags)
        return arn
    if site.only_look:
        log.add(Kind.TOPIC, name, State.MISSING)
        return ""
    given = {**attributes, **({"FifoTopic": "true"} if name.endswith(".fifo") else {})}
    answer = await site.sns.create_topic(Name=name, Attributes=given, Tags=[{"Key": TAG, "Value": site.name}])
    log.add(Kind.TOPIC, name, State.CREATED, answer["TopicArn"])
    return str(answer["TopicArn"])


async def _statement(log: _Log, queue: _Queue, service: str, source_arn: str, source: str) -> None:
    """Lets this source, and nobody else of the service's customers, send to the queue; others' statements stay.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    """
    name = f"{source} may send to {queue.name}"
    if not (queue.url and source_arn):
        log.add(Kind.STATEMENT, name, State.MISSING)
        return
    sid = f"{TAG}{_hash(source_arn)}"  # letters and digits: it takes no others
    wanted = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": queue.arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}},
    }
    policy = _loaded(queue.attributes.get("Policy")) or {"Version": "2012-10-17", "Id": TAG}
    statements = _listed(policy.get("Statement", []))
    others = [one for one in statements if one.get("Sid") != sid]
    mine = [one for one in statements if one.get("Sid") == sid]
    is_wrong = _plain(mine) != _plain([wanted])
    if is_wrong:
        await _attributes(log.site, queue, {"Policy": json.dumps({**policy, "Statement": [*others, wanted]})})
    log.add(Kind.STATEMENT, name, _state(log.site, is_there=bool(mine), is_wrong=is_wrong), sid, queue.url)


async def _subscriptions(log: _Log, topic: str, topic_arn: str, wanted: Mapping[_Queue, Subscription]) -> None:
    site = log.site
    there: dict[str, str] = {}
    if topic_arn:
        for one in await _all(site.sns.list_subscriptions_by_topic, "Subscriptions", TopicArn=topic_arn):
            if one["Protocol"] == "sqs":
                there[one["Endpoint"]] = one["SubscriptionArn"]
    for queue, subscription in wanted.items():
        for end in (queue, queue.dead):
            if end is not None:
                await _statement(log, end, "sns.amazonaws.com", topic_arn, topic)
        name = f"{topic} to {queue.name}"
        if not (topic_arn and queue.arn):
            log.add(Kind.SUBSCRIPTION, name, State.MISSING)
            continue
        attributes = {
            "RawMessageDelivery": str(subscription.raw).lower(),
            "FilterPolicyScope": subscription.filter_scope,
            "FilterPolicy": json.dumps(subscription.filter_policy or {}),
        }
        if queue.dead is not None and queue.dead.arn:
            attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": queue.dead.arn})
        arn = there.get(queue.arn, "")
        if arn:
            state = await _subscription_attributes(site, arn, attributes)
        elif site.only_look:
            state = State.MISSING
        else:
            given = {name: value for name, value in attributes.items() if value != "{}"}
            if "FilterPolicy" not in given:
                del given["FilterPolicyScope"]
            answer = await site.sns.subscribe(
                TopicArn=topic_arn, Protocol="sqs", Endpoint=queue.arn, Attributes=given, ReturnSubscriptionArn=True
            )
            arn, state = answer["SubscriptionArn"], State.CREATED
        log.add(Kind.SUBSCRIPTION, name, state, arn, topic_arn)


async def _subscription_attributes(site: Site, arn: str, wanted: Mapping[str, str]) -> State:
    found = (await site.sns.get_subscription_attributes(SubscriptionArn=arn))["Attributes"]
    defaults = {"FilterPolicy": "{}", "FilterPolicyScope": "MessageAttributes", "RawMessageDelivery": "false"}
    if wanted.get("FilterPolicy") == "{}":  # then there is no scope either
        wanted = {name: value for name, value in wanted.items() if name != "FilterPolicyScope"}
    wrong = {
        name: value
        for name, value in wanted.items()
        if not _is_same(name, found.get(name, defaults.get(name, "")), value)
    }
    if wrong and not site.only_look:
        for name, value in wrong.items():
            await site.sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)
    return _state(site, is_there=True, is_wrong=bool(wrong))


async def _bus(log: _Log, name: str) -> bool:
    site = log.site
    if name == "default":
        return True
    try:
        arn = (await site.events.describe_event_bus(Name=name))["Arn"]
    except Exception as error:
        if _code(error) not in _NOT_THERE:
            raise
    else:
        tags = (await site.events.list_tags_for_resource(ResourceARN=arn)).get("Tags", [])
        log.add(Kind.BUS, name, State.THERE, name, is_ours={"Key": TAG, "Value": site.name} in tags)
        return True
    if site.only_look:
        log.add(Kind.BUS, name, State.MISSING)
        return False
    await site.events.create_event_bus(Name=name, Tags=[{"Key": TAG, "Value": site.name}])
    log.add(Kind.BUS, name, State.CREATED, name)
    return True


async def _rule(log: _Log, bus: str, name: str, pattern: Mapping[str, Any], is_there: bool) -> str:
    site, found = log.site, None
    try:
        found = await site.events.describe_rule(Name=name, EventBusName=bus) if is_there else None
    except Exception as error:
        if _code(error) not in _NOT_THERE:
            raise
    if found is None:
        if site.only_look:
            log.add(Kind.RULE, name, State.MISSING)
            return ""
        tags = [{"Key": TAG, "Value": site.name}]
        answer = await site.events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern), Tags=tags)
        log.add(Kind.RULE, name, State.CREATED, name, bus)
        return str(answer["RuleArn"])
    arn = str(found["Arn"])
    is_wrong = _loaded(found.get("EventPattern")) != pattern or found.get("State") != "ENABLED"
    if is_wrong and not site.only_look:
        await site.events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern), State="ENABLED")
    tags = (await site.events.list_tags_for_resource(ResourceARN=arn)).get("Tags", [])
    is_ours = {"Key": TAG, "Value": site.name} in tags
    log.add(Kind.RULE, name, _state(site, is_there=True, is_wrong=is_wrong), name, bus, is_ours)
    return arn


async def _target(log: _Log, bus: str, rule: str, rule_arn: str, wanted: dict[str, Any]) -> None:
    site, name = log.site, f"{rule} to {wanted['Id']}"
    parent = f"{bus}/{rule}"
    before: list[dict[str, Any]] = []
    if rule_arn:
        targets = await _all(site.events.list_targets_by_rule, "Targets", Rule=rule, EventBusName=bus)
        before = [one for one in targets if one["Id"] == wanted["Id"]]
    if before != [wanted] and not site.only_look:
        await _put_targets(site, bus, rule, [wanted])
    state = _state(site, is_there=bool(before), is_wrong=before != [wanted])
    log.add(Kind.TARGET, name, state, wanted["Id"], parent)


async def _put_targets(site: Site, bus: str, rule: str, targets: Sequence[Mapping[str, Any]]) -> None:
    answer = await site.events.put_targets(Rule=rule, EventBusName=bus, Targets=targets)
    for failed in answer.get("FailedEntries", ()):
        raise RuntimeError(f"PutTargets: {failed['TargetId']}: {failed['ErrorCode']}: {failed.get('ErrorMessage')}")


# Dead letters of what is there already


async def _dead_letters_of_topics(log: _Log, prefix: str) -> None:
    site = log.site
    for topic in await _all(site.sns.list_topics, "Topics"):
        topic_arn = topic["TopicArn"]
        topic_name = _end(topic_arn)
        if not topic_name.startswith(prefix):
            continue
        for one in await _all(site.sns.list_subscriptions_by_topic, "Subscriptions", TopicArn=topic_arn):
            arn, endpoint = one["SubscriptionArn"], one["Endpoint"]
            if not arn.startswith("arn:"):
                continue  # nobody has confirmed it
            found = (await site.sns.get_subscription_attributes(SubscriptionArn=arn))["Attributes"]
            dead_arn = _dead_of(found)
            # A FIFO queue's must be FIFO too: https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html
            stem, fifo = topic_name.removesuffix(".fifo"), ".fifo" if endpoint.endswith(".fifo") else ""
            if dead_arn:
                dead = await _our_dead_queue(log, stem + fifo, dead_arn)
            else:
                dead = await _dead_queue(log, stem + fifo)
            if dead is None:
                continue
            await _statement(log, dead, "sns.amazonaws.com", topic_arn, topic_name)
            if not dead_arn and not site.only_look:
                await site.sns.set_subscription_attributes(
                    SubscriptionArn=arn,
                    AttributeName="RedrivePolicy",
                    AttributeValue=json.dumps({"deadLetterTargetArn": dead.arn}),
                )
            state = _state(site, is_there=bool(dead_arn), is_wrong=not dead_arn)
            log.add(Kind.SUBSCRIPTION_DEAD_LETTERS, f"{topic_name} to {endpoint}", state, arn, dead.arn)


async def _dead_letters_of_rules(log: _Log, prefix: str, bus: str) -> None:
    site = log.site
    for rule in await _all(site.events.list_rules, "Rules", EventBusName=bus):
        if not rule["Name"].startswith(prefix) or "ManagedBy" in rule:
            continue
        queue_name = _short(rule["Name"].replace(".", "_"), NAME_LENGTH - len(DEAD))
        for target in await _all(site.events.list_targets_by_rule, "Targets", Rule=rule["Name"], EventBusName=bus):
            dead_arn = target.get("DeadLetterConfig", {}).get("Arn", "")
            if dead_arn:
                dead = await _our_dead_queue(log, queue_name, dead_arn)
            else:
                dead = await _dead_queue(log, queue_name)
            if dead is None:
                continue
            await _statement(log, dead, "events.amazonaws.com", rule["Arn"], rule["Name"])
            if not dead_arn and not site.only_look:
                await _put_targets(site, bus, rule["Name"], [target | {"DeadLetterConfig": {"Arn": dead.arn}}])
            name, parent = f"{rule['Name']} to {target['Id']}", f"{bus}/{rule['Name']}"
            state = _state(site, is_there=bool(dead_arn), is_wrong=not dead_arn)
            log.add(Kind.TARGET_DEAD_LETTERS, name, state, target["Id"], parent)


def _dead_of(attributes: Mapping[str, str]) -> str:
    return str(_loaded(attributes.get("RedrivePolicy")).get("deadLetterTargetArn", ""))


async def _our_dead_queue(log: _Log, name: str, arn: str) -> _Queue | None:
    """What was made here before, to be reported; None is somebody else's."""
    if _end(arn) != _dead_name(name):
        return None
    dead = await _look_at_queue(log.site, _dead_name(name))
    if dead is None:
        return None
    tags = (await log.site.sqs.list_queue_tags(QueueUrl=dead.url)).get("Tags", {})
    return await _dead_queue(log, name) if tags.get(TAG) == log.site.name else None


# Taking down


async def _with_messages(site: Site, report: Report) -> set[str]:
    """The names of its queues that are not empty, as far as SQS knows."""
    asked = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    found: set[str] = set()
    for one in report.resources:
        if one.kind is Kind.QUEUE and one.id:
            try:
                answer = await site.sqs.get_queue_attributes(QueueUrl=one.id, AttributeNames=asked)
            except Exception as error:
                if _code(error) not in _NOT_THERE:
                    raise
            else:
                if any(map(int, answer["Attributes"].values())):
                    found.add(one.name)
    return found


async def _delete_queue(site: Site, one: Resource) -> State:
    await site.sqs.delete_queue(QueueUrl=one.id)
    return State.DELETED


async def _delete_topic(site: Site, one: Resource) -> State:
    await site.sns.get_topic_attributes(TopicArn=one.id)  # deleting is never an error
    await site.sns.delete_topic(TopicArn=one.id)
    return State.DELETED


async def _delete_bus(site: Site, one: Resource) -> State:
    await site.events.describe_event_bus(Name=one.id)  # as above
    await site.events.delete_event_bus(Name=one.id)
    return State.DELETED


async def _delete_rule(site: Site, one: Resource) -> State:
    if (await site.events.list_targets_by_rule(Rule=one.id, EventBusName=one.parent))["Targets"]:
        return State.KEPT  # somebody else has put them there
    await site.events.delete_rule(Name=one.id, EventBusName=one.parent)
    return State.DELETED


async def _delete_statement(site: Site, one: Resource) -> State:
    answer = await site.sqs.get_queue_attributes(QueueUrl=one.parent, AttributeNames=["Policy"])
    policy = _loaded(answer.get("Attributes", {}).get("Policy"))
    statements = _listed(policy.get("Statement", []))
    left = [statement for statement in statements if statement.get("Sid") != one.id]
    if len(left) == len(statements):
        return State.MISSING
    value = json.dumps({**policy, "Statement": left}) if left else ""
    await site.sqs.set_queue_attributes(QueueUrl=one.parent, Attributes={"Policy": value})
    return State.DELETED


async def _delete_redrive(site: Site, one: Resource) -> State:
    answer = await site.sqs.get_queue_attributes(QueueUrl=one.parent, AttributeNames=["RedrivePolicy"])
    policy = _loaded(answer.get("Attributes", {}).get("RedrivePolicy"))
    if policy.get("deadLetterTargetArn") != one.id:
        return State.MISSING
    await site.sqs.set_queue_attributes(QueueUrl=one.parent, Attributes={"RedrivePolicy": ""})
    return State.DELETED


async def _unsubscribe(site: Site, one: Resource) -> State:
    await site.sns.get_subscription_attributes(SubscriptionArn=one.id)  # as above
    await site.sns.unsubscribe(SubscriptionArn=one.id)
    return State.DELETED


async def _remove_target(site: Site, one: Resource) -> State:
    bus, _, rule = one.parent.partition("/")
    await site.events.remove_targets(Rule=rule, EventBusName=bus, Ids=[one.id])
    return State.DELETED


async def _clear_subscription(site: Site, one: Resource) -> State:
    found = (await site.sns.get_subscription_attributes(SubscriptionArn=one.id))["Attributes"]
    if _dead_of(found) != one.parent:
        return State.MISSING
    # Without a value: it takes no empty one.
    await site.sns.set_subscription_attributes(SubscriptionArn=one.id, AttributeName="RedrivePolicy")
    return State.DELETED


async def _clear_target(site: Site, one: Resource) -> State:
    bus, _, rule = one.parent.partition("/")
    for target in await _all(site.events.list_targets_by_rule, "Targets", Rule=rule, EventBusName=bus):
        if target["Id"] == one.id and target.pop("DeadLetterConfig", None) is not None:
            await _put_targets(site, bus, rule, [target])
            return State.DELETED
    return State.MISSING


_TAKE_DOWN: Mapping[Kind, Callable[[Site, Resource], Awaitable[State]]] = {
    Kind.QUEUE: _delete_queue,
    Kind.TOPIC: _delete_topic,
    Kind.BUS: _delete_bus,
    Kind.RULE: _delete_rule,
    Kind.STATEMENT: _delete_statement,
    Kind.REDRIVE: _delete_redrive,
    Kind.SUBSCRIPTION: _unsubscribe,
    Kind.TARGET: _remove_target,
    Kind.TARGET_DEAD_LETTERS: _clear_target,
    Kind.SUBSCRIPTION_DEAD_LETTERS: _clear_subscription,
}


# Comparing ----------------------------------------------------------------------------------------


def _state(site: Site, *, is_there: bool, is_wrong: bool) -> State:
    if not is_wrong:
        return State.THERE
    if site.only_look:
        return State.DIFFERENT if is_there else State.MISSING
    return State.CHANGED if is_there else State.CREATED


def _is_same(name: str, found: str, wanted: str) -> bool:
    if name in _JSON_ATTRIBUTES:
        return bool(_plain(_loaded(found)) == _plain(_loaded(wanted)))
    return found == wanted


def _plain(value: Any) -> Any:
    """A JSON document in which one thing and a list of it are the same, as in a policy, and so are 5 and "5"."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else [_plain(member) for member in value]
    return value if isinstance(value, bool) or value is None else str(value)


def _loaded(text: str | None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text) if text else {}
    return document


def _listed(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else [value]


def _end(name: str) -> str:
    """A queue's name, of its URL or its ARN."""
    return re.split("[/:]", name)[-1]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 13]}-{_hash(name)}"


async def _all(
    call: Callable[..., Awaitable[Mapping[str, Any]]],
    name: str,
    is_last: Callable[[Any], bool] | None = None,
    **asked: Any,
) -> list[Any]:
    """Of all pages, or as far as one that is the last."""
    found: list[Any] = []
    while True:
        answer = await call(**asked)
        found += answer.get(name, ())
        if not answer.get("NextToken") or (is_last is not None and any(map(is_last, found))):
            return found
        asked["NextToken"] = answer["NextToken"]


def _code(error: Exception) -> str | None:
    """What AWS calls an error, of a botocore ClientError."""
    response: Any = getattr(error, "response", {})
    code: str | None = response.get("Error", {}).get("Code")
    return code
