"""Attribute values: what a table's items are made of, and the JSON that clients and the store see of them.

In the engine a value is None, a bool, str, bytes or Decimal, a frozenset of one of the last three, a list or a dict.
Python holds True for 1 and "a" for nothing else, so compare with `same`, never with `==`. Numbers are exact to 38
digits. MISSING is an attribute that is not there, which NULL is not.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException, Inexact, InvalidOperation
from enum import Enum
from typing import Any, Final

from broker.errors import ValidationException

Value = Any
Item = dict[str, Value]


class Missing(Enum):
    MISSING = "missing"


MISSING: Final = Missing.MISSING

TYPES = ("S", "N", "B", "SS", "NS", "BS", "M", "L", "NULL", "BOOL")
MAX_DIGITS, MAX_EXPONENT, MIN_EXPONENT = 38, 125, -130
MAX_DEPTH = 32

_EXACT = Context(prec=MAX_DIGITS, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Inexact])


def type_of(value: Value) -> str:
    """One of `TYPES`."""
    if isinstance(value, frozenset):
        return f"{type_of(next(iter(value)))}S"
    return _TYPES[type(value)]


_TYPES: dict[type, str] = {
    str: "S",
    Decimal: "N",
    bytes: "B",
    dict: "M",
    list: "L",
    type(None): "NULL",
    bool: "BOOL",
}


def same(one: Value, other: Value) -> bool:
    """Whether two values are equal; what is missing equals nothing."""
    if type(one) is not type(other) or one is MISSING:
        return False
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return bool(one == other)


# numbers ------------------------------------------------------------------------------------------


def number(text: str) -> Decimal:
    """Raises ValidationException."""
    try:
        exact = Decimal(text)
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or text != text.strip() or "_" in text:
        raise ValidationException(f"The parameter cannot be converted to a numeric value: {text}")
    return _in_range(exact)


def add(one: Decimal, other: Decimal) -> Decimal:
    """Raises ValidationException."""
    try:
        return _in_range(_EXACT.add(one, other))
    except DecimalException:
        raise _too_precise() from None


def subtract(one: Decimal, other: Decimal) -> Decimal:
    """Raises ValidationException."""
    return add(one, other.copy_negate())


def number_text(value: Decimal) -> str:
    """Without an exponent, and without zeros that mean nothing."""
    return format(value, "f")


def _in_range(value: Decimal) -> Decimal:
    """In its one normal form."""
    if not value:
        return Decimal(0)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).strip("0")
    if len(text) > MAX_DIGITS:
        raise _too_precise()
    if value.adjusted() > MAX_EXPONENT:
        raise ValidationException(
            "Number overflow. Attempting to store a number with magnitude larger than supported range"
        )
    if value.adjusted() < MIN_EXPONENT:
        raise ValidationException(
            "Number underflow. Attempting to store a number with magnitude smaller than supported range"
        )
    return Decimal((sign, tuple(map(int, text)), value.adjusted() - len(text) + 1))


def _too_precise() -> ValidationException:
    return ValidationException(f"Attempting to store more than {MAX_DIGITS} significant digits in a Number")


# JSON ---------------------------------------------------------------------------------------------


def from_document(document: Any, depth: int = 0) -> Value:
    """The value that DynamoDB's JSON says: {"S": "x"}, {"N": "1"}, … Raises ValidationException."""
    if depth > MAX_DEPTH:
        raise ValidationException("Nesting Levels have exceeded supported limits")
    members = document if type(document) is dict else {}
    given = [(kind, part) for kind, part in members.items() if part is not None and kind in _READERS]
    if len(given) != 1:
        fault = "has more than one datatypes set" if given else "is empty"
        raise ValidationException(
            f"Supplied AttributeValue {fault}, must contain exactly one of the supported datatypes"
        )
    kind, part = given[0]
    expected, read = _READERS[kind]
    if type(part) is not expected:
        raise ValidationException(f"The value of the datatype {kind} is not a {expected.__name__}")
    return read(part, depth)


def item_from_document(document: Mapping[str, Any], depth: int = 0) -> Item:
    """Raises ValidationException."""
    return {name: from_document(value, depth) for name, value in document.items()}


def _string(part: Any, depth: int = 0) -> str:
    if type(part) is not str:
        raise ValidationException("The value of the datatype S is not a str")
    return part


def _number(part: Any, depth: int = 0) -> Decimal:
    return number(_string(part))


def _bytes(part: Any, depth: int = 0) -> bytes:
    try:
        return b64decode(_string(part), validate=True)
    except (Base64Error, ValueError):
        raise ValidationException(f"'{part}' can not be converted to a Blob: Invalid Base64 content") from None


def _null(part: bool, depth: int) -> None:
    if not part:
        raise ValidationException(
            "One or more parameter values were invalid: Null attribute value types must have the value of true"
        )


def _set(kind: str, element: Callable[[Any], Value]) -> Callable[[list[Any], int], Value]:
    def read(part: list[Any], depth: int) -> Value:
        if not part:
            raise ValidationException(f"One or more parameter values were invalid: An {kind} set  may not be empty")
        found = frozenset(map(element, part))
        if len(found) < len(part):
            raise ValidationException(
                "One or more parameter values were invalid: Input collection "
                f"[{', '.join(map(str, part))}] contains duplicates."
            )
        return found

    return read


_READERS: dict[str, tuple[type, Callable[[Any, int], Value]]] = {
    "S": (str, _string),
    "N": (str, _number),
    "B": (str, _bytes),
    "SS": (list, _set("string", _string)),
    "NS": (list, _set("number", _number)),
    "BS": (list, _set("binary", _bytes)),
    "M": (dict, lambda part, depth: item_from_document(part, depth + 1)),
    "L": (list, lambda part, depth: [from_document(element, depth + 1) for element in part]),
    "NULL": (bool, _null),
    "BOOL": (bool, lambda part, depth: part),
}


def to_document(value: Value) -> dict[str, Any]:
    """The value as DynamoDB's JSON. Sets have no order; here they are sorted."""
    kind = type_of(value)
    match kind:
        case "N":
            return {kind: number_text(value)}
        case "B":
            return {kind: b64encode(value).decode()}
        case "SS":
            return {kind: sorted(value)}
        case "NS":
            return {kind: [number_text(element) for element in sorted(value)]}
        case "BS":
            return {kind: [b64encode(element).decode() for element in sorted(value)]}
        case "M":
            return {kind: item_to_document(value)}
        case "L":
            return {kind: [to_document(element) for element in value]}
        case "NULL":
            return {kind: True}
    return {kind: value}


def item_to_document(item: Item) -> dict[str, Any]:
    return {name: to_document(value) for name, value in item.items()}


# sizes --------------------------------------------------------------------------------------------


def item_bytes(item: Item) -> int:
    """An item's size as AWS counts it, but for numbers, which it says are "approximately" that.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def value_bytes(value: Value) -> int:
    match type_of(value):
        case "S":
            return len(value.encode())
        case "N":
            return (len(value.as_tuple().digits) + 1) // 2 + 1
        case "B":
            return len(value)
        case "M":
            return 3 + len(value) + item_bytes(value)
        case "L":
            return 3 + len(value) + _total(value)
        case "SS" | "NS" | "BS":
            return _total(value)
    return 1


def _total(values: Iterable[Value]) -> int:
    return sum(map(value_bytes, values))
