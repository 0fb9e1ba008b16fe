"""Keys: which attributes of an item are its key, and their order as bytes.

`ordered_bytes` gives bytes that stand to each other as the values do, so the store can sort and cut by them. Strings
are in the order of their UTF-8; a number is its sign, its magnitude and its digits, all turned round if it is negative.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from broker.errors import ValidationException
from broker.tables.values import MISSING, Item, Value, type_of, value_bytes

MAX_HASH_BYTES, MAX_RANGE_BYTES = 2_048, 1_024

_BIAS = 130
_TURNED = bytes.maketrans(b"0123456789", b"9876543210")


class KeyAttribute(NamedTuple):
    name: str
    type: str  # S, N or B


class KeySchema(NamedTuple):
    hash: KeyAttribute
    range: KeyAttribute | None

    @property
    def attributes(self) -> list[KeyAttribute]:
        return [self.hash] if self.range is None else [self.hash, self.range]

    @property
    def names(self) -> list[str]:
        return [attribute.name for attribute in self.attributes]

    def describe(self) -> list[dict[str, Any]]:
        return [
            {"AttributeName": attribute.name, "KeyType": kind}
            for attribute, kind in zip(self.attributes, ("HASH", "RANGE"), strict=False)
        ]

    def is_in(self, item: Item) -> bool:
        """Whether an item has all that an index needs."""
        return all(
            (value := item.get(attribute.name, MISSING)) is not MISSING and type_of(value) == attribute.type
            for attribute in self.attributes
        )


class StoredKey(NamedTuple):
    hash: bytes
    range: bytes  # empty where there is none


def stored_key(schema: KeySchema, item: Item) -> StoredKey:
    """Of an item, or of a key, that has what the schema asks for."""
    range = b"" if schema.range is None else ordered_bytes(item[schema.range.name])
    return StoredKey(ordered_bytes(item[schema.hash.name]), range)


def ordered_bytes(value: Value) -> bytes:
    """Of a string, bytes or a number."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else _ordered_number(value)


def _ordered_number(value: Decimal) -> bytes:
    sign, digits, _ = value.as_tuple()
    if not value:
        return b"\x01"
    text = "".join(map(str, digits)).encode()
    magnitude = value.adjusted() + _BIAS
    if not sign:
        return bytes((2, magnitude)) + text
    return bytes((0, 255 - magnitude)) + text.translate(_TURNED) + b"~"


def check_key(schema: KeySchema, key: Item) -> None:
    """Raises ValidationException, unless that is a key and nothing else."""
    if len(key) != len(schema.attributes) or not schema.is_in(key):
        raise ValidationException("The provided key element does not match the schema")
    check_sizes(schema, key)


def check_item(schema: KeySchema, item: Item) -> None:
    """Raises ValidationException, unless the item has a key."""
    for name, kind in schema.attributes:
        value = item.get(name, MISSING)
        if value is MISSING:
            raise ValidationException(f"One or more parameter values were invalid: Missing the key {name} in the item")
        if type_of(value) != kind:
            raise ValidationException(
                f"One or more parameter values were invalid: Type mismatch for key {name} expected: {kind} "
                f"actual: {type_of(value)}"
            )
    check_sizes(schema, item)


def check_sizes(schema: KeySchema, item: Item) -> None:
    """Raises ValidationException."""
    for (name, _), kind, limit in zip(
        schema.attributes, ("hashkey", "rangekey"), (MAX_HASH_BYTES, MAX_RANGE_BYTES), strict=False
    ):
        value = item[name]
        if value in ("", b""):
            what = "string" if value == "" else "binary"
            raise ValidationException(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain "
                f"an empty {what} value. Key: {name}"
            )
        if value_bytes(value) > limit:
            raise ValidationException(
                f"One or more parameter values were invalid: Size of {kind} has exceeded the maximum size limit of"
                f"{limit} bytes"
            )


def check_index(schema: KeySchema, index_name: str, item: Item) -> None:
    """Raises ValidationException where what an index is made of has another type."""
    for name, kind in schema.attributes:
        value = item.get(name, MISSING)
        if value is MISSING:
            continue
        if type_of(value) != kind:
            raise ValidationException(
                f"One or more parameter values were invalid: Type mismatch for Index Key {name} Expected: {kind} "
                f"Actual: {type_of(value)} IndexName: {index_name}"
            )
        if value in ("", b""):
            raise ValidationException(
                "One or more parameter values are not valid. A value specified for a secondary index key is not "
                f"supported. The AttributeValue for a key attribute cannot contain an empty "
                f"{'string' if value == '' else 'binary'} value. IndexName: {index_name}, IndexKey: {name}"
            )
