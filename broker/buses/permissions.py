"""A bus's resource policy: written by PutPermission, asked when another account's events come.

Conditions on what an event says of itself (`events:source`, `events:detail-type`) are evaluated, as are the sender's
account and rule; all accounts of a broker count as members of whatever organization a policy asks for. A statement
with any other condition allows nothing and, if it denies, denies: that part is broker/policy.py's.
See "Permissions for event buses in Amazon EventBridge" in the guide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from broker import policy
from broker.buses.bus import Bus
from broker.errors import PolicyLengthExceededException, ResourceNotFoundException, ValidationException
from broker.names import parse_arn, partition_of

MAX_POLICY_BYTES = 10_240  # PutPermission: 10 KB

_STATEMENT = ("StatementId", "Action", "Principal")
_ANY_ORGANIZATION = "aws:principalorgid"


def with_statement(before: str | None, bus_arn: str, given: Mapping[str, Any]) -> str:
    """The policy after PutPermission. Raises ValidationException, PolicyLengthExceededException."""
    if given.get("Policy") is not None:
        if any(given.get(name) is not None for name in (*_STATEMENT, "Condition")):
            raise ValidationException(
                "Parameter(s) StatementId, Action, Principal and Condition must not be specified together with Policy."
            )
        text = _checked(given["Policy"], bus_arn)
    else:
        statement = _statement(bus_arn, given)
        kept = [entry for entry in policy.statements(before) if entry.get("Sid") != statement["Sid"]]
        text = _dumped([*kept, statement])
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise PolicyLengthExceededException("The policy on the event bus exceeds the size limit of 10 KB.")
    return text


def without_statement(before: str | None, given: Mapping[str, Any]) -> str | None:
    """The policy after RemovePermission. Raises ResourceNotFoundException, ValidationException."""
    if given.get("RemoveAllPermissions"):
        return None
    label = given.get("StatementId")
    if label is None:
        raise ValidationException("Parameter(s) StatementId must be specified.")
    if before is None:
        raise ResourceNotFoundException("EventBus does not have a policy.")
    entries = policy.statements(before)
    kept = [entry for entry in entries if entry.get("Sid") != label]
    if len(kept) == len(entries):
        raise ResourceNotFoundException("Statement with the provided id does not exist.")
    return _dumped(kept) if kept else None


def lets_in(bus: Bus, account: str, source: str, detail_type: str, rule_arn: str = "") -> bool:
    """Whether the bus takes such an event: always of its own account, of another one by its policy."""
    if account == bus.world.account:
        return True
    if bus.policy is None:
        return False
    facts = {
        "events:source": source,
        "events:detail-type": detail_type,
        "aws:sourceaccount": account,
        "aws:sourcearn": rule_arn,
        "events:eventbusinvocation": "true" if rule_arn else "false",
    }
    entries = []
    for entry in policy.statements(bus.policy):
        met = _met(entry.get("Condition") or {}, facts)
        if met is None:
            entries.append(entry)
        elif met:
            entries.append({name: value for name, value in entry.items() if name != "Condition"})
    return policy.allows(_dumped(entries), account, "events:PutEvents", bus.arn)


def _statement(bus_arn: str, given: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in _STATEMENT if given.get(name) is None]
    if missing:
        raise ValidationException(f"Parameter(s) {', '.join(missing)} must be specified.")
    if given["Action"] != "events:PutEvents":
        raise ValidationException("Provided value in parameter 'action' is not supported.")
    principal, condition = given["Principal"], given.get("Condition")
    arn = parse_arn(bus_arn)
    assert arn is not None
    statement = {
        "Sid": given["StatementId"],
        "Effect": "Allow",
        "Principal": "*" if principal == "*" else {"AWS": f"arn:{partition_of(arn.region)}:iam::{principal}:root"},
        "Action": given["Action"],
        "Resource": bus_arn,
    }
    if condition is not None:
        if principal != "*":
            raise ValidationException("Parameter Condition is not valid. Reason: Principal must be '*'.")
        if condition["Type"] != "StringEquals" or condition["Key"] != "aws:PrincipalOrgID":
            raise ValidationException(
                "Parameter Condition is not valid. Reason: Only StringEquals on aws:PrincipalOrgID is supported."
            )
        statement["Condition"] = {condition["Type"]: {condition["Key"]: condition["Value"]}}
    return statement


def _checked(text: str, bus_arn: str) -> str:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    listed = document.get("Statement") if isinstance(document, dict) else None
    entries = [listed] if isinstance(listed, dict) else listed
    if not isinstance(entries, list) or not entries or not all(_is_statement(entry) for entry in entries):
        raise ValidationException("Parameter Policy is not valid. Reason: It is not a resource policy in JSON.")
    return text


def _is_statement(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("Effect") in ("Allow", "Deny")
        and ("Principal" in entry or "NotPrincipal" in entry)
        and _names_events(entry.get("Action", entry.get("NotAction")))
        and _is_condition(entry.get("Condition", {}))
    )


def _names_events(actions: Any) -> bool:
    listed = [actions] if isinstance(actions, str) else actions
    return (
        isinstance(listed, list)
        and bool(listed)
        and all(isinstance(name, str) and (name == "*" or name.lower().startswith("events:")) for name in listed)
    )


def _is_condition(condition: Any) -> bool:
    return isinstance(condition, dict) and all(
        isinstance(asked, dict) and all(isinstance(value, str | bool | list) for value in asked.values())
        for asked in condition.values()
    )


def _met(condition: dict[str, Any], facts: Mapping[str, str]) -> bool | None:
    """Whether the condition holds; None where it asks for what nobody here knows."""
    unknown = False
    for operator, asked in condition.items():
        name = operator.lower().rpartition(":")[2].removesuffix("ifexists")
        for key, values in asked.items():
            fact = facts.get(key.lower())
            if key.lower() == _ANY_ORGANIZATION and name in ("stringequals", "stringlike"):
                continue
            listed = [str(value) for value in (values if isinstance(values, list) else [values])]
            if fact is None or name not in _OPERATORS:
                unknown = True
            elif not _OPERATORS[name](fact, listed):
                return False
    return None if unknown else True


def _equals(fact: str, values: list[str]) -> bool:
    return fact in values


def _equals_ignoring_case(fact: str, values: list[str]) -> bool:
    return fact.lower() in [value.lower() for value in values]


def _like(fact: str, values: list[str]) -> bool:
    return any(fnmatchcase(fact, value) for value in values)


_OPERATORS: dict[str, Callable[[str, list[str]], bool]] = {
    "stringequals": _equals,
    "stringnotequals": lambda fact, values: not _equals(fact, values),
    "stringequalsignorecase": _equals_ignoring_case,
    "stringnotequalsignorecase": lambda fact, values: not _equals_ignoring_case(fact, values),
    "stringlike": _like,
    "stringnotlike": lambda fact, values: not _like(fact, values),
    "arnequals": _like,
    "arnlike": _like,
    "arnnotequals": lambda fact, values: not _like(fact, values),
    "arnnotlike": lambda fact, values: not _like(fact, values),
    "bool": lambda fact, values: fact in [value.lower() for value in values],
}


def _dumped(entries: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": entries}, separators=(",", ":"))
