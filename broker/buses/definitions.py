"""The life of buses: creation, settings, permissions, deletion; and the tags of buses and rules.

Each operation is one transaction, and refuses before it changes anything. `given` is the API's input under AWS's
names, validated by its shape; what comes back is the API's output, its moments in milliseconds. The sentences are
those that users of AWS quote; where nobody did, the API reference's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from broker.buses import permissions
from broker.buses.bus import DEFAULT_BUS, Bus, Rule
from broker.buses.registry import Document, Registry
from broker.errors import (
    LimitExceededException,
    ManagedRuleException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import MAX_TAGS
from broker.names import World, is_queue_name, parse_arn

Given = Mapping[str, Any]

TOO_MANY = "The requested resource exceeds the maximum number allowed."

_SETTINGS = ("Description", "KmsKeyIdentifier", "DeadLetterConfig", "LogConfig")


class Buses:
    """All buses of a broker, of every account and region."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # Takes hold of a partner's event source for the bus of its name; raises ResourceNotFoundException.
        self.claim_source: Callable[[World, str], None] = _no_source

    # the life of a bus

    def create(self, world: World, given: Given) -> Document:
        """CreateEventBus. Raises ResourceAlreadyExists-, ResourceNotFound-, LimitExceeded-, ValidationException."""
        registry, name = self._registry, given["Name"]
        source = given.get("EventSourceName")
        if source is None and name.startswith("aws."):
            raise ValidationException("EventBus name starting with 'aws.' is not valid.")
        if source is None and "/" in name:
            raise ValidationException("Event bus name must not contain '/'.")
        if source is not None and source != name:
            raise ValidationException("Event bus name must match the name of the partner event source.")
        if registry.find_bus(world, name) is not None:
            raise ResourceAlreadyExistsException(f"Event bus {name} already exists.")
        limit = registry.limits.event_buses
        if limit is not None and len(registry.buses_of(world)) >= limit:
            raise LimitExceededException(TOO_MANY)
        settings = _without_nothing(_settings(given))
        tags = merged_tags({}, given.get("Tags") or ())
        if source is not None:
            self.claim_source(world, source)
        registry.commit.enter()
        now_ms = registry.clock.now_ms()
        document = {**settings, "CreationTime": now_ms, "LastModifiedTime": now_ms, "Tags": tags}
        if source is not None:
            document["EventSourceName"] = source
        bus = Bus(world, name, document)
        registry.put_bus(bus)
        return {"EventBusArn": bus.arn, **settings}

    def update(self, world: World, given: Given) -> Document:
        """UpdateEventBus: what is left out stays, what is empty goes. Raises ResourceNotFound-, ValidationException."""
        bus = find_bus(self._registry, world, given["Name"])
        self._change(bus, _without_nothing({**bus.document, **_settings(given)}))
        return {"Arn": bus.arn, "Name": bus.name, **_shown(bus, _SETTINGS)}

    def delete(self, world: World, name: str) -> None:
        """DeleteEventBus; one that is not there is fine. Raises ValidationException."""
        if name == DEFAULT_BUS:
            raise ValidationException("Cannot delete event bus default.")
        bus = self._registry.find_bus(world, name)
        if bus is None:
            return
        if any("ManagedBy" not in rule.document for rule in bus.rules.values()):  # an archive outlives its bus
            raise ValidationException("Event bus can't be deleted since it has rules.")
        self._registry.commit.enter()
        self._registry.remove_bus(bus)

    def describe(self, world: World, name: str | None = None) -> Document:
        """DescribeEventBus, by name or ARN. Raises ResourceNotFoundException."""
        bus = find_bus(self._registry, world, name)
        return {"Name": bus.name, "Arn": bus.arn, **_shown(bus, (*_SETTINGS, "Policy", *_MOMENTS))}

    def list_buses(
        self, world: World, name_prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Document]:
        """ListEventBuses' entries in the order of their names, those after a name only."""
        found = (bus for bus in self._registry.buses_of(world) if bus.name > after and bus.name.startswith(name_prefix))
        return [
            {"Name": bus.name, "Arn": bus.arn, **_shown(bus, ("Description", "Policy", *_MOMENTS))}
            for bus in islice(found, limit)
        ]

    # permissions

    def put_permission(self, world: World, given: Given) -> None:
        """PutPermission. Raises ResourceNotFound-, PolicyLengthExceeded-, ValidationException."""
        bus = find_bus(self._registry, world, given.get("EventBusName"))
        self._change(bus, {**bus.document, "Policy": permissions.with_statement(bus.policy, bus.arn, given)})

    def remove_permission(self, world: World, given: Given) -> None:
        """RemovePermission. Raises ResourceNotFoundException, ValidationException."""
        bus = find_bus(self._registry, world, given.get("EventBusName"))
        policy = permissions.without_statement(bus.policy, given)
        document = {name: value for name, value in bus.document.items() if name != "Policy"}
        self._change(bus, document if policy is None else {**document, "Policy": policy})

    # tags

    def tag(self, world: World, arn: str, tags: Sequence[Mapping[str, str]]) -> None:
        """TagResource, of a bus or a rule. Raises ResourceNotFound-, ManagedRule-, ValidationException."""
        resource = self._find_tagged(world, arn)
        self._put_tags(resource, merged_tags(resource.document["Tags"], tags))

    def untag(self, world: World, arn: str, keys: Iterable[str]) -> None:
        """UntagResource. Raises ResourceNotFoundException, ManagedRuleException."""
        resource, gone = self._find_tagged(world, arn), set(keys)
        kept = {key: value for key, value in resource.document["Tags"].items() if key not in gone}
        self._put_tags(resource, kept)

    def tags(self, world: World, arn: str) -> list[dict[str, str]]:
        """ListTagsForResource. Raises ResourceNotFoundException."""
        resource = self._find_tagged(world, arn)
        return [{"Key": key, "Value": value} for key, value in resource.document["Tags"].items()]

    def _put_tags(self, resource: Bus | Rule, tags: dict[str, str]) -> None:
        document = {**resource.document, "Tags": tags}
        if isinstance(resource, Rule):
            check_unmanaged(resource)
            self._registry.commit.enter()
            self._registry.put_rule(resource.bus, resource.name, document)
        else:
            self._change(resource, document, modified=False)

    def _find_tagged(self, world: World, text: str) -> Bus | Rule:
        arn = parse_arn(text)
        if arn is None or arn.service != "events":
            raise ValidationException(f"Parameter {text} is not valid. Reason: Provided Arn is not in correct format.")
        kind, _, name = arn.resource.partition("/")
        owner = World(arn.account, arn.region)
        if owner != world or kind not in ("event-bus", "rule"):
            raise ResourceNotFoundException(f"Resource {text} does not exist.")
        if kind == "event-bus":
            return find_bus(self._registry, owner, name)
        bus_name, _, rule_name = name.rpartition("/")
        return find_rule(find_bus(self._registry, owner, bus_name or DEFAULT_BUS), rule_name)

    def _change(self, bus: Bus, document: Document, *, modified: bool = True) -> None:
        registry = self._registry
        registry.commit.enter()
        if modified:
            document["LastModifiedTime"] = registry.clock.now_ms()
        bus.document = document
        registry.put_bus(bus)


_MOMENTS = ("CreationTime", "LastModifiedTime")


def find_bus(registry: Registry, world: World, name: str | None) -> Bus:
    """A bus by its name or ARN; None is the default bus. Raises ResourceNotFoundException."""
    place, plain = locate(world, name)
    bus = registry.find_bus(place, plain)
    if bus is None:
        raise ResourceNotFoundException(f"Event bus {plain} does not exist.")
    return bus


def locate(world: World, name: str | None) -> tuple[World, str]:
    """The account, region and plain name of a bus that is called by its name or ARN from this world."""
    if name is None:
        return world, DEFAULT_BUS
    if not name.startswith("arn:"):
        return world, name
    arn = parse_arn(name)
    if arn is None:
        return world, name
    return World(arn.account, arn.region), arn.resource.removeprefix("event-bus/")


def find_rule(bus: Bus, name: str) -> Rule:
    """Raises ResourceNotFoundException."""
    rule = bus.rules.get(name)
    if rule is None:
        raise ResourceNotFoundException(f"Rule {name} does not exist on EventBus {bus.name}.")
    return rule


def check_unmanaged(rule: Rule) -> None:
    """Raises ManagedRuleException."""
    if "ManagedBy" in rule.document:
        raise ManagedRuleException(
            f"Rule {rule.name} was created by an AWS service on behalf of your account. It is managed by that service."
        )


def merged_tags(before: Mapping[str, str], tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Raises ValidationException."""
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            raise ValidationException("Tag keys must not start with the reserved prefix aws:")
    merged = {**before, **{tag["Key"]: tag["Value"] for tag in tags}}
    if len(merged) > MAX_TAGS:
        raise ValidationException(f"A resource can have at most {MAX_TAGS} tags.")
    return merged


def check_dead_letter_queue(arn: str) -> None:
    """Raises ValidationException for what is not a standard queue's ARN."""
    parsed = parse_arn(arn)
    if parsed is None:
        raise ValidationException(f"Parameter {arn} is not valid. Reason: Provided Arn is not in correct format.")
    if parsed.service != "sqs" or not is_queue_name(parsed.resource, fifo=False):
        raise ValidationException(
            f"Parameter {arn} is not valid. Reason: The dead-letter queue must be a standard Amazon SQS queue."
        )


def _settings(given: Given) -> Document:
    settings = {name: given[name] for name in _SETTINGS if given.get(name) is not None}
    arn = (settings.get("DeadLetterConfig") or {}).get("Arn")
    if arn is not None:
        check_dead_letter_queue(arn)
    return settings


def _without_nothing(document: Document) -> Document:
    """No key is AWS's own one, and a dead-letter queue without an ARN is none."""
    nothing = {"KmsKeyIdentifier": "", "DeadLetterConfig": {}}
    return {name: value for name, value in document.items() if nothing.get(name) != value}


def _shown(bus: Bus, names: Iterable[str]) -> Document:
    return {name: bus.document[name] for name in names if name in bus.document}


def _no_source(world: World, name: str) -> None:
    raise ResourceNotFoundException(f"Event source {name} does not exist.")
