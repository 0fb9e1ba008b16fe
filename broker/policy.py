"""Resource policies: made by AddPermission, asked when another account comes with a verified signature.

Evaluation follows "Policy evaluation logic" of the IAM guide for what a resource policy can say by itself: a Deny
wins, else one Allow is needed. Conditions are not evaluated: a statement with a condition allows nothing and, if it
denies, denies.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from broker.names import partition_of


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def statement(label: str, accounts: Iterable[str], actions: Iterable[str], arn: str, region: str) -> dict[str, Any]:
    """The statement that AddPermission writes."""
    principals = [f"arn:{partition_of(region)}:iam::{account}:root" for account in accounts]
    listed = list(actions)
    return {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": principals[0] if len(principals) == 1 else principals},
        "Action": listed[0] if len(listed) == 1 else listed,
        "Resource": arn,
    }


def statements(policy: str | None) -> list[dict[str, Any]]:
    """The statements of a policy that has been accepted before."""
    if not policy:
        return []
    listed = json.loads(policy)["Statement"]
    return [listed] if isinstance(listed, dict) else [entry for entry in listed if isinstance(entry, dict)]


def allows(policy: str | None, account: str, action: str, arn: str) -> bool:
    """Whether the policy lets that account do `service:Operation` on the resource."""
    allowed = False
    for entry in statements(policy):
        if not (_names_principal(entry, account) and _names_action(entry, action) and _names_resource(entry, arn)):
            continue
        if entry.get("Effect") == "Deny":
            return False
        allowed = allowed or (entry.get("Effect") == "Allow" and not entry.get("Condition"))
    return allowed


def _names_principal(entry: dict[str, Any], account: str) -> bool:
    principal = entry.get("Principal")
    names = _listed(principal.get("AWS") if isinstance(principal, dict) else principal)
    return any(name == "*" or name == account or f"::{account}:" in name for name in names)


def _names_action(entry: dict[str, Any], action: str) -> bool:
    if "NotAction" in entry:
        return not any(fnmatchcase(action.lower(), name.lower()) for name in _listed(entry["NotAction"]))
    return any(fnmatchcase(action.lower(), name.lower()) for name in _listed(entry.get("Action")))


def _names_resource(entry: dict[str, Any], arn: str) -> bool:
    if "Resource" not in entry:
        return True
    return any(fnmatchcase(arn, name) for name in _listed(entry["Resource"]))


def allows_service(
    policy: str | None, service: str, action: str, arn: str, source_arn: str, source_account: str
) -> bool:
    """Whether the policy lets a service of AWS do that on the resource for something of its own.

    Conditions on `aws:SourceArn` and `aws:SourceAccount` are evaluated, which is what such policies are made of; a
    statement with any other allows nothing and, if it denies, denies.
    """
    facts = {"aws:sourcearn": source_arn, "aws:sourceaccount": source_account, "aws:sourceowner": source_account}
    allowed = False
    for entry in statements(policy):
        if not (_names_service(entry, service) and _names_action(entry, action) and _names_resource(entry, arn)):
            continue
        met = _met(entry.get("Condition") or {}, facts)
        if entry.get("Effect") == "Deny" and met is not False:
            return False
        allowed = allowed or (entry.get("Effect") == "Allow" and met is True)
    return allowed


def _names_service(entry: dict[str, Any], service: str) -> bool:
    principal = entry.get("Principal")
    if isinstance(principal, dict):
        return service in _listed(principal.get("Service")) or "*" in _listed(principal.get("AWS"))
    return principal == "*"


def _met(condition: dict[str, Any], facts: dict[str, str]) -> bool | None:
    """Whether the condition holds; None where it asks for what nobody here knows."""
    for operator, asked in condition.items():
        name = operator.lower().removesuffix("ifexists")
        for key, values in asked.items():
            fact = facts.get(key.lower())
            if fact is None or name not in ("arnequals", "arnlike", "stringequals", "stringlike"):
                return None
            exact = name == "stringequals"
            if not any(fact == value if exact else fnmatchcase(fact, value) for value in _listed(values)):
                return False
    return True
