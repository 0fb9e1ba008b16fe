"""Message attributes that mean something to SNS itself: how long a push is good for, what kind of text message it is.

Guide: "Message attributes", "Using TTL", "Publishing to a mobile phone". Whoever is not a telephone gets them as they
are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from broker.errors import InvalidParameterException

_SMS, _MOBILE = "AWS.SNS.SMS.", "AWS.SNS.MOBILE."
SMS_TYPE = _SMS + "SMSType"
_RULES = {
    SMS_TYPE: "Promotional|Transactional",
    _SMS + "SenderID": "(?=.*[A-Za-z])[A-Za-z0-9-]{1,11}",
    _SMS + "MaxPrice": r"\d+(\.\d+)?|\.\d+",
    "AWS.MM.SMS.OriginationNumber": r"\+?[0-9]{5,15}",
    "AWS.MM.SMS.EntityId": "[A-Za-z0-9_-]{1,50}",
    "AWS.MM.SMS.TemplateId": "[A-Za-z0-9_-]{1,50}",
    _MOBILE + "APNS.PRIORITY": "5|10",
    _MOBILE + "APNS.PUSH_TYPE": "alert|background|voip|complication|fileprovider|mdm|location|liveactivity",
    _MOBILE + "WNS.Type": r"wns/(toast|tile|badge|raw)",
    _MOBILE + "MPNS.Type": "token|toast|raw",
}
_TTL = re.compile(r"AWS\.SNS\.MOBILE\.([A-Z_]+)\.TTL")
_SECONDS = re.compile("[0-9]{1,9}")

Attributes = Mapping[str, Mapping[str, Any]]


def check(attributes: Attributes) -> None:
    """Raises InvalidParameterException for a value that the attribute cannot have."""
    for name, attribute in attributes.items():
        if not name.startswith("AWS."):
            continue
        value = attribute.get("StringValue") or ""
        rule = _SECONDS.pattern if _TTL.fullmatch(name) else _RULES.get(name)
        if rule is not None and not re.fullmatch(rule, value):
            raise InvalidParameterException(f"Invalid parameter: {name} Reason: {value} is not valid for it")


def ttl_s(attributes: Attributes, platform: str) -> int | None:
    """How long a push to this platform is good for, if the publisher has said so."""
    attribute = attributes.get(f"{_MOBILE}{platform}.TTL")
    return None if attribute is None else int(attribute["StringValue"])


def sms_type(attributes: Attributes) -> str | None:
    attribute = attributes.get(SMS_TYPE)
    return None if attribute is None else str(attribute["StringValue"])
