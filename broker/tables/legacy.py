"""The parameters from before there were expressions, which KCL still uses: they become the same conditions and updates.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/LegacyConditionalParameters.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.errors import ValidationException
from broker.tables.conditions import (
    ORDERED,
    All,
    Attribute,
    BeginsWith,
    Between,
    Compare,
    Condition,
    Constant,
    Contains,
    Exists,
    In,
    Not,
    Some,
    ordered,
)
from broker.tables.updates import Action, Add, Delete, Remove, Set, Update
from broker.tables.values import Value, from_document, type_of

_SIGNS = {"EQ": "=", "NE": "<>", "LE": "<=", "LT": "<", "GE": ">=", "GT": ">"}
_COUNTS = {"NULL": 0, "NOT_NULL": 0, "BETWEEN": 2}  # of arguments; IN takes one or more, all others one
_SETS = ("SS", "NS", "BS")
_TYPES = {
    **dict.fromkeys(("LE", "LT", "GE", "GT", "BETWEEN"), ORDERED),
    "BEGINS_WITH": ("S", "B"),
    "CONTAINS": ORDERED,
    "NOT_CONTAINS": ORDERED,
    "IN": ORDERED,
}


def conditions(given: Mapping[str, Any], together: str = "AND") -> Condition:
    """Of ScanFilter, QueryFilter or KeyConditions; `together` is ConditionalOperator. Raises ValidationException."""
    return _join(
        [_condition(name, c["ComparisonOperator"], c.get("AttributeValueList", [])) for name, c in given.items()],
        together,
    )


def expected(given: Mapping[str, Any], together: str = "AND") -> Condition:
    """Of Expected. Raises ValidationException."""
    return _join([_expected(name, asked) for name, asked in given.items()], together)


def _join(found: list[Condition], together: str) -> Condition:
    if len(found) == 1:
        return found[0]
    return Some(tuple(found)) if together == "OR" else All(tuple(found))


def _expected(name: str, asked: Mapping[str, Any]) -> Condition:
    comparison = asked.get("ComparisonOperator")
    if comparison is not None:
        if "Exists" in asked:
            raise _invalid(f"Exists and ComparisonOperator cannot be used together for Attribute: {name}")
        values = asked.get("AttributeValueList")
        if "Value" in asked:
            if values is not None:
                raise _invalid(f"Value and AttributeValueList cannot be used together for Attribute: {name}")
            values = [asked["Value"]]
        return _condition(name, comparison, values or [])
    if "AttributeValueList" in asked:
        raise _invalid(f"AttributeValueList can only be used with a ComparisonOperator for Attribute: {name}")
    if asked.get("Exists", True):
        if "Value" not in asked:
            given = "true" if "Exists" in asked else "null"
            raise _invalid(f"Value must be provided when Exists is {given} for Attribute: {name}")
        return Compare("=", Attribute((name,)), Constant(from_document(asked["Value"])))
    if "Value" in asked:
        raise _invalid(f"Value cannot be used when Exists is false for Attribute: {name}")
    return Not(Exists((name,)))


def _condition(name: str, comparison: str, documents: list[Any]) -> Condition:
    values = [from_document(document) for document in documents]
    count = _COUNTS.get(comparison, 1)
    if len(values) != count and not (comparison == "IN" and values):
        raise _invalid(f"Invalid number of argument(s) for the {comparison} ComparisonOperator")
    for value in values:
        if type_of(value) not in _TYPES.get(comparison, (type_of(value),)):
            raise _invalid(f"ComparisonOperator {comparison} is not valid for {type_of(value)} AttributeValue type")
    attribute, constants = Attribute((name,)), tuple(map(Constant, values))
    match comparison:
        case "NULL":
            return Not(Exists((name,)))
        case "NOT_NULL":
            return Exists((name,))
        case "IN":
            return In(attribute, constants)
        case "BEGINS_WITH":
            return BeginsWith(attribute, constants[0])
        case "CONTAINS":
            return Contains(attribute, constants[0])
        case "NOT_CONTAINS":
            return All((Exists((name,)), Not(Contains(attribute, constants[0]))))
        case "BETWEEN":
            low, high = values
            if type(low) is not type(high):
                raise _invalid("AttributeValues inside AttributeValueList must be of same type")
            if not ordered("<=", low, high):
                raise ValidationException(
                    "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
                )
            return Between(attribute, *constants)
    return Compare(_SIGNS[comparison], attribute, constants[0])


def attribute_updates(given: Mapping[str, Any]) -> Update:
    """Of AttributeUpdates. Raises ValidationException."""
    return Update(tuple(_action(name, asked) for name, asked in given.items()))


def _action(name: str, asked: Mapping[str, Any]) -> Action:
    action, document = asked.get("Action", "PUT"), asked.get("Value")
    if document is None:
        if action != "DELETE":
            raise _invalid("Only DELETE action is allowed when no attribute value is specified")
        return Remove((name,))
    value: Value = from_document(document)
    kind = type_of(value)
    if action == "PUT":
        return Set((name,), Constant(value))
    if action == "DELETE" and kind in _SETS:
        return Delete((name,), value)
    if action == "ADD" and kind in (*_SETS, "N"):
        return Add((name,), value)
    raise _invalid(f"{action} action with value is not supported for the type {kind}")


def _invalid(reason: str) -> ValidationException:
    return ValidationException(f"One or more parameter values were invalid: {reason}")
