"""One thing of a topology: found, made or mended, written down, taken down. topologies.py puts them together.

Each `ensure_…` reads what is there and says what would be right; `Build.settle` is the one place that decides whether
anything is changed, and what the report says. The rule: a thing that is not there has no identifier, and what needs one
of it is not there either; so a look goes the same way as a build.
Ugly: policies come back in another shape than they went in: comparing takes one thing for a list of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from patterns.aws_errors import error_code

T = TypeVar("T")

TAG = "topology"
DEAD = "-dead"
RETENTION_S = 1_209_600  # of dead letters: as long as SQS keeps anything
NAME_LENGTH = 80  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
TARGET_ID_LENGTH = 64  # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Target.html

_NOT_THERE = {
    "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "ResourceNotFoundException",
}
_JSON_ATTRIBUTES = {"Policy", "RedrivePolicy", "RedriveAllowPolicy", "FilterPolicy", "DeliveryPolicy"}
_SUBSCRIPTION_DEFAULTS = {"FilterPolicy": "{}", "FilterPolicyScope": "MessageAttributes", "RawMessageDelivery": "false"}


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


class Build:
    """What a run has found and done so far."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.tag = {"Key": TAG, "Value": site.name}
        self._resources: list[Resource] = []

    async def settle(
        self,
        kind: Kind,
        name: str,
        found: str,
        change: Callable[[], Awaitable[str]],
        *,
        is_right: bool = True,
        parent: str = "",
        is_ours: bool = True,
    ) -> str:
        """One thing: `found` is what its service calls it, empty if it is not there. Where we may, and it is not there
        or not right, `change` makes or mends it, and returns what its service calls it. So does this."""
        if found and is_right:
            state = State.THERE
        elif self.site.only_look:
            state = State.DIFFERENT if found else State.MISSING
        else:
            state = State.CHANGED if found else State.CREATED
            found = await change()
        new = Resource(kind, name, state, found, parent if found else "", is_ours)
        if not any((old.kind, old.name, old.parent) == (kind, name, new.parent) for old in self._resources):
            self._resources.append(new)
        return found

    def report(self, queue_urls: Mapping[str, str], topic_arn: str = "") -> Report:
        urls = {name: url for name, url in queue_urls.items() if url}
        return Report(tuple(self._resources), urls, topic_arn or None)


@dataclass(slots=True)
class Queue:
    """Without a URL it is missing, and we only look."""

    name: str
    url: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    is_ours: bool = True

    @property
    def arn(self) -> str:
        return self.attributes.get("QueueArn", "")

    @property
    def stem(self) -> str:
        return self.name.removesuffix(".fifo")

    @property
    def dead_arn(self) -> str:
        return dead_of(self.attributes)

    @property
    def max_receives(self) -> int | None:
        return _loaded(self.attributes.get("RedrivePolicy")).get("maxReceiveCount")


async def _read_queue(site: Site, name: str, url: str) -> Queue:
    attributes = (await site.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    tags = (await site.sqs.list_queue_tags(QueueUrl=url)).get("Tags", {})
    return Queue(name, url, dict(attributes), tags.get(TAG) == site.name)


async def find_queue(site: Site, name: str) -> Queue:
    async def find() -> Queue:
        return await _read_queue(site, name, (await site.sqs.get_queue_url(QueueName=name))["QueueUrl"])

    return await if_there(find()) or Queue(name)


async def _set_queue(site: Site, queue: Queue, attributes: Mapping[str, str]) -> None:
    if attributes:
        await site.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes=attributes)
        queue.attributes |= attributes


async def ensure_queue(build: Build, name: str, attributes: Mapping[str, str]) -> Queue:
    site = build.site
    queue = await find_queue(site, name)
    wrong = _wrong(queue.attributes, attributes)

    async def change() -> str:
        nonlocal queue
        if queue.url:
            await _set_queue(site, queue, wrong)
        else:
            given = {**attributes, **({"FifoQueue": "true"} if name.endswith(".fifo") else {})}
            answer = await site.sqs.create_queue(QueueName=name, Attributes=given, tags={TAG: site.name})
            queue = await _read_queue(site, name, answer["QueueUrl"])
        return queue.url

    await build.settle(Kind.QUEUE, name, queue.url, change, is_right=not wrong, is_ours=queue.is_ours)
    return queue


def dead_name(name: str) -> str:
    fifo = ".fifo" if name.endswith(".fifo") else ""
    return _short(name.removesuffix(".fifo"), NAME_LENGTH - len(DEAD) - len(fifo)) + DEAD + fifo


async def ensure_dead_queue(build: Build, name: str) -> Queue:
    return await ensure_queue(build, dead_name(name), {"MessageRetentionPeriod": str(RETENTION_S)})


async def ensure_redrive(build: Build, queue: Queue, dead: Queue, max_receives: int) -> None:
    policy = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": max_receives})}
    allow: dict[str, str] = {}
    allowed = _loaded(dead.attributes.get("RedriveAllowPolicy"))
    sources: list[str] = allowed.get("sourceQueueArns", [])
    if queue.arn not in sources and (dead.is_ours or allowed.get("redrivePermission") == "byQueue"):
        sources = sorted([*sources, queue.arn])
        allow["RedriveAllowPolicy"] = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": sources})
    wrong = _wrong(queue.attributes, policy)

    async def change() -> str:
        await _set_queue(build.site, dead, allow)
        await _set_queue(build.site, queue, wrong)
        return dead.arn

    found = dead.arn if queue.dead_arn else ""
    is_right = not (wrong or allow)
    name = f"{queue.name} to {dead.name}"
    await build.settle(Kind.REDRIVE, name, found, change, is_right=is_right, parent=queue.url)


async def ensure_statement(build: Build, queue: Queue, service: str, source_arn: str, source: str) -> None:
    """Lets this source, and nobody else of the service's customers, send to the queue; others' statements stay.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    """
    sid = f"{TAG}{hash_of(source_arn)}"  # letters and digits: it takes no others
    wanted = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": queue.arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}},
    }
    policy = _loaded(queue.attributes.get("Policy")) or {"Version": "2012-10-17", "Id": TAG}
    mine, others = _by_sid(policy, sid)

    async def change() -> str:
        document = json.dumps({**policy, "Statement": [*others, wanted]})
        await _set_queue(build.site, queue, {"Policy": document})
        return sid

    name = f"{source} may send to {queue.name}"
    is_right = _plain(mine) == _plain([wanted])
    await build.settle(Kind.STATEMENT, name, sid if mine else "", change, is_right=is_right, parent=queue.url)


async def ensure_topic(build: Build, name: str, attributes: Mapping[str, str]) -> str:
    sns = build.site.sns
    topics = [topic["TopicArn"] for topic in await all_of(sns.list_topics, "Topics")]
    arn = next((arn for arn in topics if end_of(arn) == name), "")
    wrong: Mapping[str, str] = {}
    tags = [build.tag]
    if arn:
        wrong = _wrong((await sns.get_topic_attributes(TopicArn=arn))["Attributes"], attributes)
        tags = (await sns.list_tags_for_resource(ResourceArn=arn)).get("Tags", [])

    async def change() -> str:
        if not arn:
            given = {**attributes, **({"FifoTopic": "true"} if name.endswith(".fifo") else {})}
            return str((await sns.create_topic(Name=name, Attributes=given, Tags=[build.tag]))["TopicArn"])
        for one, value in wrong.items():
            await sns.set_topic_attributes(TopicArn=arn, AttributeName=one, AttributeValue=value)
        return arn

    return await build.settle(Kind.TOPIC, name, arn, change, is_right=not wrong, is_ours=build.tag in tags)


async def confirmed_subscriptions(site: Site, topic_arn: str) -> list[Mapping[str, str]]:
    found = await all_of(site.sns.list_subscriptions_by_topic, "Subscriptions", TopicArn=topic_arn)
    return [one for one in found if one["SubscriptionArn"].startswith("arn:")]


async def ensure_subscription(
    build: Build, name: str, topic_arn: str, arn: str, endpoint: str, wanted: Mapping[str, str]
) -> None:
    """`arn`: empty if it is not there."""
    sns = build.site.sns
    wrong: Mapping[str, str] = {}
    if arn:
        found = (await sns.get_subscription_attributes(SubscriptionArn=arn))["Attributes"]
        wrong = _wrong(_SUBSCRIPTION_DEFAULTS | found, wanted)

    async def change() -> str:
        if not arn:
            given = {name: value for name, value in wanted.items() if value != "{}"}
            asked = {"TopicArn": topic_arn, "Protocol": "sqs", "Endpoint": endpoint, "ReturnSubscriptionArn": True}
            return str((await sns.subscribe(**asked, Attributes=given))["SubscriptionArn"])
        for name, value in wrong.items():
            await sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)
        return arn

    await build.settle(Kind.SUBSCRIPTION, name, arn, change, is_right=not wrong, parent=topic_arn)


async def ensure_subscription_dead_letters(build: Build, name: str, arn: str, found: str, dead: Queue) -> None:
    async def change() -> str:
        policy = json.dumps({"deadLetterTargetArn": dead.arn})
        await build.site.sns.set_subscription_attributes(
            SubscriptionArn=arn, AttributeName="RedrivePolicy", AttributeValue=policy
        )
        return arn

    await build.settle(Kind.SUBSCRIPTION_DEAD_LETTERS, name, arn if found else "", change, parent=dead.arn)


async def ensure_bus(build: Build, name: str) -> None:
    events = build.site.events
    if name == "default":
        return
    found = await if_there(events.describe_event_bus(Name=name))
    tags = (await events.list_tags_for_resource(ResourceARN=found["Arn"])).get("Tags", []) if found else [build.tag]

    async def change() -> str:
        await events.create_event_bus(Name=name, Tags=[build.tag])
        return name

    await build.settle(Kind.BUS, name, name if found else "", change, is_ours=build.tag in tags)


async def ensure_rule(build: Build, bus: str, name: str, pattern: Mapping[str, Any]) -> str:
    events, arn = build.site.events, ""
    is_right, tags = False, [build.tag]
    found = await if_there(events.describe_rule(Name=name, EventBusName=bus))
    if found:
        arn = str(found["Arn"])
        is_right = _loaded(found.get("EventPattern")) == pattern and found.get("State") == "ENABLED"
        tags = (await events.list_tags_for_resource(ResourceARN=arn)).get("Tags", [])

    async def change() -> str:
        nonlocal arn
        asked = {"Name": name, "EventBusName": bus, "EventPattern": json.dumps(pattern), "State": "ENABLED"}
        new = {} if arn else {"Tags": [build.tag]}
        arn = (await events.put_rule(**asked, **new))["RuleArn"]
        return name

    found_name = name if arn else ""
    is_ours = build.tag in tags
    await build.settle(Kind.RULE, name, found_name, change, is_right=is_right, parent=bus, is_ours=is_ours)
    return arn


async def ensure_target(
    build: Build, bus: str, rule: str, rule_arn: str, queue: Queue, dead: Queue, group_id: str | None
) -> None:
    events = build.site.events
    wanted: dict[str, Any] = {"Id": _short(queue.name, TARGET_ID_LENGTH), "Arn": queue.arn}
    if group_id is not None:
        wanted["SqsParameters"] = {"MessageGroupId": group_id}
    wanted["DeadLetterConfig"] = {"Arn": dead.arn}
    there = await all_of(events.list_targets_by_rule, "Targets", Rule=rule, EventBusName=bus) if rule_arn else []
    found = [one for one in there if one["Id"] == wanted["Id"]]

    async def change() -> str:
        await _put_target(build.site, bus, rule, wanted)
        return str(wanted["Id"])

    name, found_id = f"{rule} to {wanted['Id']}", wanted["Id"] if found else ""
    await build.settle(Kind.TARGET, name, found_id, change, is_right=found == [wanted], parent=f"{bus}/{rule}")


async def _put_target(site: Site, bus: str, rule: str, target: Mapping[str, Any]) -> None:
    answer = await site.events.put_targets(Rule=rule, EventBusName=bus, Targets=[target])
    for failed in answer.get("FailedEntries", ()):
        raise RuntimeError(f"PutTargets: {failed['TargetId']}: {failed['ErrorCode']}: {failed.get('ErrorMessage')}")


async def ensure_target_dead_letters(build: Build, bus: str, rule: str, target: Mapping[str, Any], dead: Queue) -> None:
    name, found = str(target["Id"]), "DeadLetterConfig" in target

    async def change() -> str:
        await _put_target(build.site, bus, rule, {**target, "DeadLetterConfig": {"Arn": dead.arn}})
        return name

    parent = f"{bus}/{rule}"
    await build.settle(Kind.TARGET_DEAD_LETTERS, f"{rule} to {name}", name if found else "", change, parent=parent)


# Taking down --------------------------------------------------------------------------------------


async def has_messages(site: Site, url: str) -> bool:
    """As far as SQS knows."""
    asked = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    found = await if_there(site.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=asked)) if url else None
    return found is not None and any(map(int, found["Attributes"].values()))


async def take_down(site: Site, one: Resource) -> State:
    """Raises what its service says of what is not there. Deleting a topic, a subscription or a bus is no error then:
    so they are looked at first."""
    sqs, sns, events = site.sqs, site.sns, site.events
    match one.kind:
        case Kind.QUEUE:
            await sqs.delete_queue(QueueUrl=one.id)
        case Kind.STATEMENT:
            policy = await _queue_policy(site, one.parent, "Policy")
            mine, others = _by_sid(policy, one.id)
            if not mine:
                return State.MISSING
            document = json.dumps({**policy, "Statement": others}) if others else ""
            await sqs.set_queue_attributes(QueueUrl=one.parent, Attributes={"Policy": document})
        case Kind.REDRIVE:
            policy = await _queue_policy(site, one.parent, "RedrivePolicy")
            if policy.get("deadLetterTargetArn") != one.id:
                return State.MISSING
            await sqs.set_queue_attributes(QueueUrl=one.parent, Attributes={"RedrivePolicy": ""})
        case Kind.TOPIC:
            await sns.get_topic_attributes(TopicArn=one.id)
            await sns.delete_topic(TopicArn=one.id)
        case Kind.SUBSCRIPTION:
            await sns.get_subscription_attributes(SubscriptionArn=one.id)
            await sns.unsubscribe(SubscriptionArn=one.id)
        case Kind.SUBSCRIPTION_DEAD_LETTERS:
            if dead_of((await sns.get_subscription_attributes(SubscriptionArn=one.id))["Attributes"]) != one.parent:
                return State.MISSING
            # Without a value: it takes no empty one.
            await sns.set_subscription_attributes(SubscriptionArn=one.id, AttributeName="RedrivePolicy")
        case Kind.BUS:
            await events.describe_event_bus(Name=one.id)
            await events.delete_event_bus(Name=one.id)
        case Kind.RULE:
            if (await events.list_targets_by_rule(Rule=one.id, EventBusName=one.parent))["Targets"]:
                return State.KEPT  # somebody else has put them there
            await events.delete_rule(Name=one.id, EventBusName=one.parent)
        case Kind.TARGET:
            bus, _, rule = one.parent.partition("/")
            await events.remove_targets(Rule=rule, EventBusName=bus, Ids=[one.id])
        case Kind.TARGET_DEAD_LETTERS:
            bus, _, rule = one.parent.partition("/")
            targets = await all_of(events.list_targets_by_rule, "Targets", Rule=rule, EventBusName=bus)
            found: dict[str, Any] = next((target for target in targets if target["Id"] == one.id), {})
            if found.pop("DeadLetterConfig", None) is None:
                return State.MISSING
            await _put_target(site, bus, rule, found)
    return State.DELETED


async def _queue_policy(site: Site, url: str, name: str) -> dict[str, Any]:
    answer = await site.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    return _loaded(answer.get("Attributes", {}).get(name))


# Reading and comparing ----------------------------------------------------------------------------


async def if_there(call: Awaitable[T]) -> T | None:
    """None if its service says that there is no such thing."""
    try:
        return await call
    except Exception as error:
        if error_code(error) in _NOT_THERE:
            return None
        raise


async def all_of(call: Callable[..., Awaitable[Mapping[str, Any]]], name: str, **asked: Any) -> list[Any]:
    """Of all pages."""
    found: list[Any] = []
    while True:
        answer = await call(**asked)
        found += answer.get(name, ())
        if not answer.get("NextToken"):
            return found
        asked["NextToken"] = answer["NextToken"]


def _wrong(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Attributes that are not as they should be."""

    def plain(name: str, value: str) -> Any:
        return _plain(_loaded(value)) if name in _JSON_ATTRIBUTES else value

    return {name: value for name, value in wanted.items() if plain(name, found.get(name, "")) != plain(name, value)}


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


def dead_of(attributes: Mapping[str, str]) -> str:
    return str(_loaded(attributes.get("RedrivePolicy")).get("deadLetterTargetArn", ""))


def _by_sid(policy: Mapping[str, Any], sid: str) -> tuple[list[Any], list[Any]]:
    """Its statements with this identifier, and the others."""
    found = policy.get("Statement", [])
    statements = found if isinstance(found, list) else [found]
    return [one for one in statements if one.get("Sid") == sid], [one for one in statements if one.get("Sid") != sid]


def end_of(name: str) -> str:
    """A queue's or a topic's name, of its URL or its ARN."""
    return re.split("[/:]", name)[-1]


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 13]}-{hash_of(name)}"


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
