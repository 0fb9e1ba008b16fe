"""Key conditions: what a Query's condition says of hash and range key, as a range of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broker.errors import ValidationException
from broker.tables.conditions import (
    All,
    Attribute,
    BeginsWith,
    Between,
    Compare,
    Condition,
    Constant,
    Exists,
    HasType,
    In,
    Not,
    Some,
)
from broker.tables.keys import KeyAttribute, KeySchema, ordered_bytes
from broker.tables.queries import KeyRange
from broker.tables.values import Value, type_of

_FLIPPED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def key_range(schema: KeySchema, condition: Condition) -> KeyRange:
    """Raises ValidationException."""
    asked: dict[str, tuple[str, list[Value]]] = {}
    for part in _conjuncts(condition):
        name, sign, values = _simple(part)
        if name in asked:
            raise ValidationException("KeyConditionExpressions must only contain one condition per key")
        asked[name] = sign, values
    sign, values = asked.pop(schema.hash.name, ("", []))
    if not sign:
        raise ValidationException(f"Query condition missed key schema element: {schema.hash.name}")
    if sign != "=":
        raise _unsupported()
    hash_key = _bytes(schema.hash, values[0])
    if not asked:
        return KeyRange(hash_key)
    if schema.range is None or len(asked) > 1:
        raise _unsupported()
    sign, values = asked.pop(schema.range.name, ("", []))
    if not sign:
        raise ValidationException(f"Query condition missed key schema element: {schema.range.name}")
    return KeyRange(hash_key, *_bounds(sign, [_bytes(schema.range, value) for value in values]))


def _bounds(sign: str, keys: list[bytes]) -> tuple[bytes, bytes | None]:
    key = keys[0]
    match sign:
        case "<":
            return b"", key
        case "<=":
            return b"", key + b"\0"
        case ">":
            return key + b"\0", None
        case ">=":
            return key, None
        case "BETWEEN":
            return key, keys[1] + b"\0"
        case "begins_with":
            before = key.rstrip(b"\xff")
            return key, before[:-1] + bytes((before[-1] + 1,)) if before else None
    return key, key + b"\0"


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, All):
        for part in condition.conditions:
            yield from _conjuncts(part)
    else:
        yield condition


def _simple(condition: Condition) -> tuple[str, str, list[Value]]:
    """The attribute, the sign and the values. Raises ValidationException."""
    match condition:
        case Compare("<>"):
            raise _invalid_operator("<>")
        case Compare(sign, Attribute((str(name),)), Constant(value)):
            return name, sign, [value]
        case Compare(sign, Constant(value), Attribute((str(name),))):
            return name, _FLIPPED[sign], [value]
        case Between(Attribute((str(name),)), Constant(low), Constant(high)):
            return name, "BETWEEN", [low, high]
        case BeginsWith(Attribute((str(name),)), Constant(value)):
            return name, "begins_with", [value]
        case Some() | Not() | In():
            raise _invalid_operator({Some: "OR", Not: "NOT", In: "IN"}[type(condition)])
    raise _unsupported()


def _bytes(attribute: KeyAttribute, value: Value) -> bytes:
    if type_of(value) != attribute.type:
        raise ValidationException(
            "One or more parameter values were invalid: Condition parameter type does not match schema type"
        )
    if value in ("", b""):
        raise ValidationException(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an "
            f"empty {'string' if value == '' else 'binary'} value. Key: {attribute.name}"
        )
    return ordered_bytes(value)


def _invalid_operator(name: str) -> ValidationException:
    return ValidationException(f"Invalid operator used in KeyConditionExpression: {name}")


def _unsupported() -> ValidationException:
    return ValidationException("Query key condition not supported")


def check_filter(schema: KeySchema, condition: Condition | None) -> None:
    """A Query's filter may not ask for the key. Raises ValidationException."""
    for name in _names_in(condition):
        if name in schema.names:
            raise ValidationException(
                f"Filter Expression can only contain non-primary key attributes: Primary key attribute: {name}"
            )


def _names_in(node: Any) -> Iterator[str]:
    """The attributes that a condition looks at."""
    if isinstance(node, Attribute | Exists | HasType):
        yield str(node.path[0])
    elif isinstance(node, tuple) and not isinstance(node, Constant):
        for part in node:
            yield from _names_in(part)
