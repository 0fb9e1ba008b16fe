"""Text messages: settings, who has opted out, the sandbox's numbers, and what would have been sent.

Nothing is sent from here; it goes into the outbox that people read. Follows the API reference of SetSMSAttributes,
OptInPhoneNumber, CreateSMSSandboxPhoneNumber and Publish. Accounts here are out of the sandbox, so every number that
has not opted out gets messages; the sandbox's numbers can be managed all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from broker.delivery import Outbox
from broker.errors import (
    InvalidParameterException,
    OptedOutException,
    ResourceNotFoundException,
    UserErrorException,
    VerificationException,
)
from broker.limits import MAX_SMS_CHARS
from broker.names import World
from broker.store.port import MobileRecord
from broker.topics import reserved
from broker.topics.envelope import shown_attributes
from broker.topics.messages import Attributes
from broker.topics.registry import Registry

SETTINGS, OPTED_OUT, SANDBOX = "sms-settings", "opted-out", "sandbox-number"
PENDING, VERIFIED = "Pending", "Verified"
OPT_IN_AGAIN_MS = 30 * 86_400_000  # "You can opt in a phone number only once every 30 days"
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")
_SENDER_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-]{1,11}")
_DEFAULTS = {"MonthlySpendLimit": "1"}
ATTRIBUTES = frozenset(
    {
        "DefaultSMSType",
        "DefaultSenderID",
        "DeliveryStatusIAMRole",
        "DeliveryStatusSuccessSamplingRate",
        "MonthlySpendLimit",
        "UsageReportS3Bucket",
    }
)


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


class Sms:
    """What a broker keeps for text messages: documents by kind, world and name."""

    def __init__(self, registry: Registry, outbox: Outbox) -> None:
        self._registry = registry
        self._outbox = outbox
        self._items: dict[tuple[str, World, str], dict[str, Any]] = {}

    def load(self, records: Sequence[MobileRecord]) -> None:
        self._items = {
            (record.kind, World(record.account, record.region), record.name): json.loads(record.document)
            for record in records
            if record.kind in (SETTINGS, OPTED_OUT, SANDBOX)
        }

    def reset(self, account: str | None) -> None:
        for kind, world, name in list(self._items):
            if account in (None, world.account):
                self._drop(kind, world, name)

    # settings

    def attributes(self, world: World, names: Sequence[str] = ()) -> dict[str, str]:
        """Those of these names that are set, or all. Raises InvalidParameterException."""
        for name in names:
            if name not in ATTRIBUTES:
                raise _invalid(f"{name} is not a valid attribute")
        has = {**_DEFAULTS, **self._items.get((SETTINGS, world, ""), {})}
        return {name: value for name, value in has.items() if not names or name in names}

    def set_attributes(self, world: World, given: Mapping[str, str]) -> None:
        """Raises InvalidParameterException."""
        for name, value in given.items():
            if name not in ATTRIBUTES:
                raise _invalid(f"{name} is not a valid attribute")
            if name == "DefaultSMSType" and value not in ("Promotional", "Transactional"):
                raise _invalid("DefaultSMSType must be Promotional or Transactional")
            if name == "DefaultSenderID" and value and not _SENDER_ID.fullmatch(value):
                raise _invalid("DefaultSenderID must be 1 to 11 letters and digits, one letter at least")
            number = value.isascii() and value.isdigit()
            if name == "MonthlySpendLimit" and not number:
                raise _invalid("MonthlySpendLimit must be a number")
            if name == "DeliveryStatusSuccessSamplingRate" and not (number and int(value[:9]) <= 100):
                raise _invalid("DeliveryStatusSuccessSamplingRate must be an integer from 0 to 100")
        self._put(SETTINGS, world, "", {**self._items.get((SETTINGS, world, ""), {}), **given})

    # opting out

    def opted_out(self, world: World) -> list[str]:
        return [number for number in self._names(OPTED_OUT, world) if self.is_opted_out(world, number)]

    def is_opted_out(self, world: World, number: str) -> bool:
        _check_number(number)
        document = self._items.get((OPTED_OUT, world, number))
        return document is not None and bool(document["out"])

    def opt_out(self, world: World, number: str) -> None:
        """What a phone's owner does by answering STOP: AWS has no operation for it."""
        _check_number(number)
        before = self._items.get((OPTED_OUT, world, number), {"opted_in_ms": None})
        self._put(OPTED_OUT, world, number, {**before, "out": True})

    def opt_in(self, world: World, number: str) -> None:
        """Raises InvalidParameterException."""
        if not self.is_opted_out(world, number):
            return
        now_ms = self._registry.clock.now_ms()
        last_ms = self._items[OPTED_OUT, world, number]["opted_in_ms"]
        if last_ms is not None and now_ms - last_ms < OPT_IN_AGAIN_MS:
            raise _invalid("phoneNumber Reason: a phone number can be opted in only once every 30 days")
        self._put(OPTED_OUT, world, number, {"out": False, "opted_in_ms": now_ms})

    # the sandbox

    def sandbox_numbers(self, world: World) -> list[tuple[str, str]]:
        """Numbers and their status."""
        return [(number, self._items[SANDBOX, world, number]["status"]) for number in self._names(SANDBOX, world)]

    def add_sandbox_number(self, world: World, number: str, language: str) -> None:
        """Sends the one-time password. Raises OptedOutException, UserErrorException, InvalidParameterException."""
        if self.is_opted_out(world, number):
            raise OptedOutException
        known = self._items.get((SANDBOX, world, number))
        if known is not None and known["status"] == VERIFIED:
            raise UserErrorException("The phone number is verified already.")
        password = f"{self._registry.entropy.bits(64) % 1_000_000:06d}"
        self._put(SANDBOX, world, number, {"status": PENDING, "password": password})
        document = {
            "phone_number": number,
            "message": f"Your verification code is {password}.",
            "one_time_password": password,
            "language": language,
        }
        self._outbox.record("sms", world, document)

    def verify_sandbox_number(self, world: World, number: str, password: str) -> None:
        """Raises ResourceNotFoundException, VerificationException."""
        known = self._sandbox_number(world, number)
        if known["password"] != password:
            raise VerificationException
        self._put(SANDBOX, world, number, {**known, "status": VERIFIED})

    def delete_sandbox_number(self, world: World, number: str) -> None:
        """Raises ResourceNotFoundException."""
        self._sandbox_number(world, number)
        self._drop(SANDBOX, world, number)

    def _sandbox_number(self, world: World, number: str) -> dict[str, Any]:
        _check_number(number)
        known = self._items.get((SANDBOX, world, number))
        if known is None:
            raise ResourceNotFoundException("The phone number is not in the sandbox.")
        return known

    # sending

    def send(self, world: World, number: str, document: Mapping[str, Any], attributes: Attributes) -> str:
        """The id of the message. A number that has opted out gets nothing, and nobody is told so.

        `document` has at least the message. Raises InvalidParameterException.
        """
        if len(document["message"]) > MAX_SMS_CHARS:
            raise _invalid("Message too long")
        self._registry.commit.enter()
        message_id = self._registry.entropy.uuid()
        known = self._items.get((OPTED_OUT, world, number))
        if known is None or not known["out"]:
            kind = reserved.sms_type(attributes) or self.attributes(world).get("DefaultSMSType", "Promotional")
            shown = {
                "message_id": message_id,
                "phone_number": number,
                "sms_type": kind,
                "message_attributes": shown_attributes(attributes),
                **document,
            }
            self._outbox.record("sms", world, shown)
        return message_id

    # the store

    def _names(self, kind: str, world: World) -> list[str]:
        return sorted(name for of_kind, owner, name in self._items if of_kind == kind and owner == world)

    def _put(self, kind: str, world: World, name: str, document: dict[str, Any]) -> None:
        self._registry.commit.enter()
        self._items[kind, world, name] = document
        self._registry.store.put_mobile_item(MobileRecord(kind, *world, name, json.dumps(document)))

    def _drop(self, kind: str, world: World, name: str) -> None:
        self._registry.commit.enter()
        del self._items[kind, world, name]
        self._registry.store.delete_mobile_item(kind, *world, name)


def _check_number(number: str) -> None:
    if not _E164.fullmatch(number):
        raise _invalid("PhoneNumber Reason: input incorrectly formatted")
