"""What may be published: message, subject, attributes, one text for each protocol; and what AWS says of the rest.

Follows Publish in the API reference, and "Amazon SNS message attributes" in the developer guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from broker.errors import DomainError, InvalidParameterException, InvalidParameterValueException
from broker.limits import MAX_SUBJECT_CHARS
from broker.queues.messages import GROUP_OR_DEDUPLICATION_ID
from broker.topics import reserved

Attributes = Mapping[str, Mapping[str, Any]]
"""Name -> {"DataType": str, "StringValue": str} or {"DataType": str, "BinaryValue": bytes}."""

_EMPTY: Attributes = {}
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\.[^\x00-\x1f]+)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]")
PROTOCOLS = ("http", "https", "email", "email-json", "sms", "sqs", "application", "lambda", "firehose")
_MAX_UTF8_BYTES = 4


class Publishing(NamedTuple):
    """One message as a publisher gives it. `structure` is "json" where `message` has a text for each protocol."""

    message: str
    subject: str | None = None
    attributes: Attributes = _EMPTY
    structure: str | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    trace_header: str | None = None


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


def check(publishing: Publishing, maximum_bytes: int) -> None:
    """Raises InvalidParameterException, InvalidParameterValueException."""
    if not publishing.message:
        raise _invalid("Empty message")
    if publishing.subject is not None:
        check_subject(publishing.subject)
    if publishing.attributes:
        check_attributes(publishing.attributes)
    # No character takes more than four bytes: most messages need not be measured.
    measured = publishing.attributes or len(publishing.message) * _MAX_UTF8_BYTES > maximum_bytes
    if measured and size_bytes(publishing) > maximum_bytes:
        raise _invalid("Message too long")


def check_subject(subject: str) -> None:
    """AWS: no line breaks or control characters, shorter than 100 characters, beginning like a word does."""
    if not subject or len(subject) > MAX_SUBJECT_CHARS or _CONTROL.search(subject) or subject[0].isspace():
        raise _invalid("Subject")


def check_group(name: str, value: str) -> None:
    if not GROUP_OR_DEDUPLICATION_ID.fullmatch(value):
        raise _invalid(
            f"{name} Reason: Value {value} for parameter {name} is invalid. "
            f"{name} can only include alphanumeric and punctuation characters. 1 to 128 in length."
        )


def check_attributes(attributes: Attributes) -> None:
    for name, attribute in attributes.items():
        _check_attribute(name, attribute)
    reserved.check(attributes)


def _refused(text: str) -> DomainError:
    return InvalidParameterValueException(text)


def _check_attribute(name: str, attribute: Mapping[str, Any]) -> None:
    if not name:
        raise _refused("The message attribute name can not be empty.")
    if not _ATTRIBUTE_NAME.fullmatch(name) or name[0] == "." or name[-1] == "." or ".." in name:
        raise _refused(
            f"The message attribute name '{name}' is invalid. Attribute names can contain A-Z, a-z, 0-9, underscore "
            "(_), hyphen (-) and period (.), can not start or end with a period or have successive periods, and can "
            "be up to 256 characters long."
        )
    data_type = attribute.get("DataType") or ""
    if not data_type:
        raise _refused(f"The message attribute '{name}' must contain non-empty message attribute type.")
    if len(data_type) > 256 or not _DATA_TYPE.fullmatch(data_type):
        raise _refused(
            f"The message attribute '{name}' has an invalid message attribute type, the set of supported type "
            "prefixes is Binary, Number, and String."
        )
    kind = data_type.split(".", 1)[0]
    member, other = ("BinaryValue", "StringValue") if kind == "Binary" else ("StringValue", "BinaryValue")
    value = attribute.get(member)
    if attribute.get(other):
        raise _refused(
            f"The message attribute '{name}' with type '{kind}' must use field '{member}'."
            if not value
            else f"The message attribute '{name}' has multiple values: {member} and {other} were both given."
        )
    if not value:
        raise _refused(
            f"The message attribute '{name}' must contain non-empty message attribute value for message attribute "
            f"type '{kind}'."
        )
    if kind == "Number" and not _NUMBER.fullmatch(value):
        raise _refused(f"Could not cast message attribute '{name}' value to number.")


def size_bytes(publishing: Publishing) -> int:
    """What counts against the limits: the message, and of each attribute its name, type and value."""
    message = publishing.message
    total = len(message) if message.isascii() else len(message.encode())
    for name, attribute in publishing.attributes.items():
        total += len(name.encode()) + len((attribute.get("DataType") or "").encode())
        value = attribute.get("BinaryValue")
        total += len(value) if value else len((attribute.get("StringValue") or "").encode())
    return total


def texts(publishing: Publishing) -> Mapping[str, str]:
    """The text for each protocol that has its own, and for all others under "default"."""
    if publishing.structure is None:
        return {"default": publishing.message}
    if publishing.structure != "json":
        raise _invalid("MessageStructure Reason: Valid value is json")
    try:
        document = orjson.loads(publishing.message)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise _invalid("Message Structure - JSON message body failed to parse")
    if not isinstance(document.get("default"), str):
        raise _invalid("Message Structure - No default entry in JSON message body")
    return {name: text for name, text in document.items() if isinstance(text, str)}
