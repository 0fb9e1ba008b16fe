"""The life of rules and their targets, and the trying out of patterns.

Each operation is one transaction, and refuses before it changes anything. `given` is the API's input under AWS's
names, validated by its shape; what comes back is the API's output. A rule that changes is put anew as a whole: see
registry.py. The sentences are those that users of AWS quote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import orjson

from broker import matching, policy
from broker.buses.bus import DEFAULT_BUS, DISABLED, ENABLED, Bus, Rule
from broker.buses.definitions import TOO_MANY, Given, check_unmanaged, find_bus, find_rule, merged_tags
from broker.buses.registry import Document, Registry
from broker.buses.targets import MAX_TARGETS, check_target
from broker.errors import (
    AccessDeniedException,
    InvalidEventPatternException,
    LimitExceededException,
    ValidationException,
)
from broker.names import World, partition_of
from broker.schedules import InvalidScheduleExpression, parse

# In the document of a rule with a schedule, in milliseconds; nobody is told.
ANCHOR = "ScheduledFrom"  # since when a rate counts
SCHEDULED = "LastScheduledTime"  # the last moment that it was started for

_SETTINGS = ("EventPattern", "ScheduleExpression", "Description", "RoleArn")
_LISTED = ("EventPattern", "State", "Description", "ScheduleExpression", "RoleArn", "ManagedBy")
_EVENT_FIELDS = ("id", "account", "source", "time", "region", "resources", "detail-type")  # TestEventPattern


class Rules:
    """All rules of a broker."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.on_target_gone: list[Callable[[Rule, str], None]] = []  # by RemoveTargets, with its id

    # the life of a rule

    def put(self, world: World, given: Given) -> Document:
        """PutRule: what it leaves out of a rule that is there is gone, but for targets and tags.

        Raises ResourceNotFound-, InvalidEventPattern-, ManagedRule-, LimitExceeded-, ValidationException.
        """
        registry, name = self._registry, given["Name"]
        bus = self._find_bus(world, given.get("EventBusName"), "PutRule", name)
        settings = {member: given[member] for member in _SETTINGS if given.get(member)}
        if "EventPattern" not in settings and given.get("ScheduleExpression") is None:
            raise ValidationException("Parameter(s) EventPattern or ScheduleExpression must be specified.")
        if given.get("ScheduleExpression") is not None and bus.name != DEFAULT_BUS:
            raise ValidationException("ScheduleExpression is supported only on the default event bus.")
        if "EventPattern" in settings:
            compile_pattern(settings["EventPattern"])
        if given.get("ScheduleExpression") is not None:
            _check_schedule(given["ScheduleExpression"])
        old = bus.rules.get(name)
        if old is not None:
            check_unmanaged(old)
        elif registry.limits.bus_rules is not None and len(bus.rules) >= registry.limits.bus_rules:
            raise LimitExceededException(TOO_MANY)
        kept = {"CreatedBy": world.account, "Tags": merged_tags({}, given.get("Tags") or ()), "Targets": {}}
        if old is not None:
            kept = {member: old.document[member] for member in kept}
        document = {**settings, "State": given.get("State") or ENABLED, **kept}
        registry.commit.enter()
        rule = registry.put_rule(bus, name, self._anchored(document, old))
        return {"RuleArn": rule.arn}

    def delete(self, world: World, given: Given) -> None:
        """DeleteRule; one that is not there is fine. Raises ResourceNotFound-, ManagedRule-, ValidationException."""
        bus = self._find_bus(world, given.get("EventBusName"), "DeleteRule", given["Name"])
        rule = bus.rules.get(given["Name"])
        if rule is None:
            return
        if not given.get("Force"):
            check_unmanaged(rule)
        if rule.document["Targets"]:
            raise ValidationException("Rule can't be deleted since it has targets.")
        self._registry.commit.enter()
        self._registry.remove_rule(rule)

    def enable(self, world: World, given: Given) -> None:
        """EnableRule. Raises ResourceNotFoundException, ManagedRuleException."""
        self._set_state(world, given, ENABLED, "EnableRule")

    def disable(self, world: World, given: Given) -> None:
        """DisableRule. Raises ResourceNotFoundException, ManagedRuleException."""
        self._set_state(world, given, DISABLED, "DisableRule")

    def _set_state(self, world: World, given: Given, state: str, operation: str) -> None:
        rule = self._find_rule(world, given["Name"], given.get("EventBusName"), operation)
        check_unmanaged(rule)
        if rule.enabled == (state != DISABLED):  # one that has management events keeps them
            return
        self._registry.commit.enter()
        document = {**rule.document, "State": state}
        self._registry.put_rule(rule.bus, rule.name, self._anchored(document, rule))

    def _anchored(self, document: Document, old: Rule | None) -> Document:
        """A rate counts from the moment at which it began to hold; one that held before goes on counting."""
        if "ScheduleExpression" not in document:
            return {name: value for name, value in document.items() if name not in (ANCHOR, SCHEDULED)}
        same = old is not None and old.document.get("ScheduleExpression") == document["ScheduleExpression"]
        if old is not None and same and old.enabled and document["State"] != DISABLED:
            return {**document, **{name: old.document[name] for name in (ANCHOR, SCHEDULED) if name in old.document}}
        return {**document, ANCHOR: self._registry.clock.now_ms()}

    # telling

    def describe(self, world: World, name: str, bus_name: str | None = None) -> Document:
        """DescribeRule. Raises ResourceNotFoundException."""
        rule = self._find_rule(world, name, bus_name, "DescribeRule")
        return {**_listed(rule), **_members(rule, ("CreatedBy",))}

    def list_rules(
        self,
        world: World,
        bus_name: str | None = None,
        name_prefix: str = "",
        after: str = "",
        limit: int | None = None,
    ) -> list[Document]:
        """ListRules' entries in the order of their names, those after a name only. Raises ResourceNotFoundException."""
        bus = self._find_bus(world, bus_name, "ListRules")
        names = sorted(name for name in bus.rules if name > after and name.startswith(name_prefix))
        return [_listed(bus.rules[name]) for name in names[:limit]]

    def list_rule_names_by_target(
        self, world: World, target_arn: str, bus_name: str | None = None, after: str = "", limit: int | None = None
    ) -> list[str]:
        """ListRuleNamesByTarget: in order, those after a name only. Raises ResourceNotFoundException."""
        bus = self._find_bus(world, bus_name, "ListRuleNamesByTarget")
        return sorted(
            name
            for name, rule in bus.rules.items()
            if name > after and any(target["Arn"] == target_arn for target in rule.document["Targets"].values())
        )[:limit]

    # targets

    def put_targets(self, world: World, given: Given) -> Document:
        """PutTargets: all of them or none. (On AWS an entry fails alone only where two calls meet.)

        Raises ResourceNotFound-, ManagedRule-, LimitExceeded-, ValidationException.
        """
        rule = self._find_rule(world, given["Rule"], given.get("EventBusName"), "PutTargets")
        check_unmanaged(rule)
        for target in given["Targets"]:
            check_target(target, rule.bus.world.account)
        targets = {**rule.document["Targets"], **{target["Id"]: dict(target) for target in given["Targets"]}}
        if len(targets) > MAX_TARGETS:
            raise LimitExceededException(TOO_MANY)
        self._registry.commit.enter()
        self._registry.put_rule(rule.bus, rule.name, {**rule.document, "Targets": targets})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def remove_targets(self, world: World, given: Given) -> Document:
        """RemoveTargets; ids that are not there are fine. Raises ResourceNotFoundException, ManagedRuleException."""
        rule = self._find_rule(world, given["Rule"], given.get("EventBusName"), "RemoveTargets")
        if not given.get("Force"):
            check_unmanaged(rule)
        gone = set(given["Ids"])
        targets = {id: target for id, target in rule.document["Targets"].items() if id not in gone}
        self._registry.commit.enter()
        self._registry.put_rule(rule.bus, rule.name, {**rule.document, "Targets": targets})
        for id in gone & rule.document["Targets"].keys():
            for tell in self.on_target_gone:
                tell(rule, id)
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def list_targets(
        self, world: World, name: str, bus_name: str | None = None, after: str = "", limit: int | None = None
    ) -> list[Document]:
        """ListTargetsByRule's entries in the order of their ids, those after an id only.

        Raises ResourceNotFoundException.
        """
        rule = self._find_rule(world, name, bus_name, "ListTargetsByRule")
        found = (target for id, target in sorted(rule.document["Targets"].items()) if id > after)
        return [dict(target) for target in islice(found, limit)]

    # trying out

    def test_event_pattern(self, pattern: str, event: str) -> bool:
        """TestEventPattern. Raises InvalidEventPatternException, ValidationException."""
        compiled = compile_pattern(pattern)
        try:
            document = orjson.loads(event)
        except orjson.JSONDecodeError as error:
            raise ValidationException(f"Parameter Event is not valid. Reason: {error}") from None
        if not isinstance(document, dict):
            raise ValidationException("Parameter Event is not valid. Reason: It is not a JSON object.")
        missing = [name for name in _EVENT_FIELDS if name not in document]
        if missing:
            raise ValidationException(f"Parameter Event is not valid. Reason: Missing fields: {', '.join(missing)}.")
        index: matching.Index[str] = matching.Index()
        index.add("", compiled)
        return bool(index.match(event))

    # whose they are

    def _find_rule(self, world: World, name: str, bus_name: str | None, operation: str) -> Rule:
        return find_rule(self._find_bus(world, bus_name, operation, name), name)

    def _find_bus(self, world: World, name: str | None, operation: str, rule_name: str = "*") -> Bus:
        """Another account's bus must let this one do so by its policy, if policies are enforced.

        Raises AccessDeniedException, ResourceNotFoundException.
        """
        bus = find_bus(self._registry, world, name)
        if self._registry.enforce_policies and bus.world.account != world.account:
            action, arn = f"events:{operation}", Rule(bus, rule_name, {}).arn
            if not policy.allows(bus.policy, world.account, action, arn):
                user = f"arn:{partition_of(world.region)}:iam::{world.account}:user/sidebus"
                raise AccessDeniedException(
                    f"User: {user} is not authorized to perform: {action} on resource: {arn} because no resource-based "
                    f"policy allows the {action} action"
                )
        return bus


def compile_pattern(text: str) -> matching.Pattern:
    """Raises InvalidEventPatternException."""
    try:
        return matching.event_pattern(text)
    except matching.InvalidEventPattern as error:
        raise InvalidEventPatternException(str(error)) from None


def _check_schedule(text: str) -> None:
    try:
        parse(text)
    except InvalidScheduleExpression as error:
        raise ValidationException(str(error)) from None


def _listed(rule: Rule) -> Document:
    return {
        "Name": rule.name,
        "Arn": rule.arn,
        **_members(rule, _LISTED),
        "EventBusName": rule.bus.name,
    }


def _members(rule: Rule, names: Iterable[str]) -> Mapping[str, Any]:
    return {name: rule.document[name] for name in names if name in rule.document}
