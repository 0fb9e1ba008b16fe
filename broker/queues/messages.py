"""What a message may be, and its digests.

Follows SendMessage in the API reference, and "Amazon SQS message metadata" of the developer guide for the MD5 of
attributes.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import md5
from typing import Any

import orjson

from broker.errors import InvalidMessageContents, InvalidParameterValue
from broker.limits import MAX_MESSAGE_ATTRIBUTES

Attributes = Mapping[str, Mapping[str, Any]]
"""Name -> {"DataType": str, "StringValue": str} or {"DataType": str, "BinaryValue": bytes}."""

_CONTROLS = bytes(code for code in range(0x20) if code not in b"\t\n\r")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\.[^\x00-\x1f]+)?")
GROUP_OR_DEDUPLICATION_ID = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")


def check_body(body: str) -> None:
    """Raises InvalidMessageContents for characters that XML 1.0 cannot have."""
    try:
        encoded = body.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        forbidden = True
    else:
        # Deleting what is forbidden and comparing lengths is several times as fast as a regular expression.
        forbidden = len(encoded.translate(None, _CONTROLS)) != len(encoded) or (
            not body.isascii() and (b"\xef\xbf\xbe" in encoded or b"\xef\xbf\xbf" in encoded)  # U+FFFE, U+FFFF
        )
    if forbidden:
        raise InvalidMessageContents(
            "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | "
            "#xE000 to #xFFFD | #x10000 to #x10FFFF"
        )


def fits(body: str, attributes: Attributes) -> bool:
    """Whether another service's message can be one of SQS's: so many attributes, and these characters."""
    try:
        check_body(body)
    except InvalidMessageContents:
        return False
    return bool(body) and len(attributes) <= MAX_MESSAGE_ATTRIBUTES


def check_attributes(attributes: Attributes) -> None:
    """Raises InvalidParameterValue (or InvalidMessageContents) for what SendMessage refuses."""
    if len(attributes) > MAX_MESSAGE_ATTRIBUTES:
        raise InvalidParameterValue(
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{MAX_MESSAGE_ATTRIBUTES}]."
        )
    for name, attribute in attributes.items():
        _check_attribute(name, attribute)


def _check_attribute(name: str, attribute: Mapping[str, Any]) -> None:
    if not name:
        raise InvalidParameterValue("Message (user) attribute name can not be empty.")
    if not _ATTRIBUTE_NAME.fullmatch(name) or name[0] == "." or name[-1] == "." or ".." in name:
        raise InvalidParameterValue(
            f"Invalid attribute name: {name}. Attribute names can contain A-Z, a-z, 0-9, underscore (_), hyphen (-) "
            "and period (.), can not start or end with a period or have successive periods, and can be up to 256 "
            "characters long."
        )
    if name.lower().startswith(("aws.", "amazon.")):
        raise InvalidParameterValue(f"You can't use message attribute names beginning with 'AWS.' or 'Amazon.': {name}")
    data_type = attribute.get("DataType", "")
    if not data_type:
        raise InvalidParameterValue(f"The message attribute '{name}' must contain non-empty message attribute type.")
    if len(data_type) > 256 or not _DATA_TYPE.fullmatch(data_type):
        raise InvalidParameterValue(
            f"The type of message (user) attribute '{name}' is invalid. You must use only the following supported "
            "type prefixes: Binary, Number, String."
        )
    if attribute.get("StringListValues") or attribute.get("BinaryListValues"):
        raise InvalidParameterValue("Message attribute list values in SendMessage operation are not supported.")
    kind = data_type.split(".", 1)[0]
    member, other = ("BinaryValue", "StringValue") if kind == "Binary" else ("StringValue", "BinaryValue")
    value = attribute.get(member)
    if not value:
        raise InvalidParameterValue(
            f"The message attribute '{name}' must contain non-empty message attribute value for message attribute "
            f"type '{kind}'."
        )
    if attribute.get(other):
        raise InvalidParameterValue(
            f"Message attribute '{name}' has multiple values: {member} and {other} were both given."
        )
    if kind == "Number" and not _NUMBER.fullmatch(value):
        raise InvalidParameterValue(f"Can't cast the value of message (user) attribute '{name}' to a number.")
    if kind != "Binary":
        check_body(value)


def size_bytes(body: str, attributes: Attributes) -> int:
    """What counts against the limits: body, and of each attribute its name, type and value."""
    total = len(body) if body.isascii() else len(body.encode())
    for name, attribute in attributes.items():
        total += len(name) + len(attribute["DataType"].encode())
        value = attribute.get("BinaryValue")
        total += len(value) if value else len(attribute["StringValue"].encode())
    return total


def md5_of_text(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Attributes) -> str:
    """The digest that SDKs check: names in order; name, type, transport type and value, each with its length."""
    digest = md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        binary = attribute.get("BinaryValue")
        for part in (name.encode(), attribute["DataType"].encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        value = binary if binary else attribute["StringValue"].encode()
        digest.update((b"\x02" if binary else b"\x01") + len(value).to_bytes(4, "big") + value)
    return digest.hexdigest()


def dump_attributes(attributes: Attributes) -> str:
    """As the store keeps them: JSON, binary values in base64."""
    return orjson.dumps(
        {
            name: {"DataType": attribute["DataType"], "BinaryValue": b64encode(attribute["BinaryValue"]).decode()}
            if attribute.get("BinaryValue")
            else {"DataType": attribute["DataType"], "StringValue": attribute["StringValue"]}
            for name, attribute in attributes.items()
        }
    ).decode()


def load_attributes(document: str) -> dict[str, dict[str, Any]]:
    attributes: dict[str, dict[str, Any]] = orjson.loads(document)
    for attribute in attributes.values():
        if "BinaryValue" in attribute:
            attribute["BinaryValue"] = b64decode(attribute["BinaryValue"])
    return attributes
