"""Push: platform applications, their endpoints, and what would have been pushed.

Nothing is pushed from here; it goes into the outbox that people read. Follows the API reference of
CreatePlatformApplication, SetPlatformApplicationAttributes, CreatePlatformEndpoint and SetEndpointAttributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from broker.delivery import Outbox
from broker.errors import (
    EndpointDisabledException,
    InvalidParameterException,
    NotFoundException,
    PlatformApplicationDisabledException,
)
from broker.limits import MAX_CUSTOM_USER_DATA_BYTES
from broker.names import World, is_account, parse_arn, topic_arn
from broker.store.port import MobileRecord
from broker.topics import reserved
from broker.topics.envelope import shown_attributes
from broker.topics.messages import Attributes
from broker.topics.registry import Registry

PLATFORMS = frozenset(
    {"ADM", "APNS", "APNS_SANDBOX", "APNS_VOIP", "APNS_VOIP_SANDBOX", "BAIDU", "GCM", "MACOS", "MACOS_SANDBOX", "MPNS"}
    | {"WNS"}
)
_NO_PRINCIPAL = frozenset({"GCM"})
_APPLICATION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_CREDENTIALS = ("PlatformCredential", "PlatformPrincipal")  # never shown
APPLICATION_ATTRIBUTES = frozenset(
    {
        *_CREDENTIALS,
        "ApplePlatformBundleID",
        "ApplePlatformTeamID",
        "Enabled",
        "EventDeliveryFailure",
        "EventEndpointCreated",
        "EventEndpointDeleted",
        "EventEndpointUpdated",
        "FailureFeedbackRoleArn",
        "SuccessFeedbackRoleArn",
        "SuccessFeedbackSampleRate",
    }
)
ENDPOINT_ATTRIBUTES = frozenset({"CustomUserData", "Enabled", "Token", "ChannelId", "UserId"})
APPLICATION, ENDPOINT = "application", "endpoint"


class Item(NamedTuple):
    """An application or an endpoint, by its ARN."""

    arn: str
    attributes: dict[str, str]


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: {reason}")


class Mobile:
    """The applications and endpoints of a broker."""

    def __init__(self, registry: Registry, outbox: Outbox) -> None:
        self._registry = registry
        self._outbox = outbox
        self._applications: dict[str, Item] = {}
        self._endpoints: dict[str, Item] = {}

    def load(self, records: Sequence[MobileRecord]) -> None:
        self._applications, self._endpoints = {}, {}
        for record in records:
            if record.kind in (APPLICATION, ENDPOINT):
                those = self._applications if record.kind == APPLICATION else self._endpoints
                those[record.name] = Item(record.name, json.loads(record.document))

    def reset(self, account: str | None) -> None:
        for kind, those in ((APPLICATION, self._applications), (ENDPOINT, self._endpoints)):
            for item in list(those.values()):
                if account in (None, _world(item.arn).account):
                    self._drop(kind, those, item)

    # applications

    def create_application(self, world: World, name: str, platform: str, attributes: Mapping[str, str]) -> str:
        """Idempotent. Raises InvalidParameterException."""
        if not _APPLICATION_NAME.fullmatch(name):
            raise _invalid("Name Reason: must be 1 to 256 letters, digits, underscores, hyphens and periods")
        if platform not in PLATFORMS:
            raise _invalid(f"Platform Reason: {platform} is not supported")
        self._check_application_attributes(attributes)
        for attribute in _CREDENTIALS:
            if not attributes.get(attribute) and not (attribute == "PlatformPrincipal" and platform in _NO_PRINCIPAL):
                raise _invalid(f"Attributes Reason: {attribute} is required for {platform}")
        arn = topic_arn(world, f"app/{platform}/{name}")
        if arn not in self._applications:
            self._put(APPLICATION, self._applications, Item(arn, {"Enabled": "true", **attributes}))
        elif any(self._applications[arn].attributes.get(key) != value for key, value in attributes.items()):
            raise _invalid("Attributes Reason: Application already exists with different attributes")
        return arn

    def _check_application_attributes(self, attributes: Mapping[str, str]) -> None:
        for name, value in attributes.items():
            if name not in APPLICATION_ATTRIBUTES:
                raise _invalid(f"Attributes Reason: Unknown attribute: {name}")
            if name == "Enabled" and value.lower() not in ("true", "false"):
                raise _invalid("Attributes Reason: Enabled must be true or false")
            if name == "SuccessFeedbackSampleRate" and not (value.isascii() and value.isdigit() and int(value) <= 100):
                raise _invalid("Attributes Reason: SuccessFeedbackSampleRate must be an integer from 0 to 100")
            if name.startswith("Event") and value and value not in self._registry.topics:
                raise _invalid(f"Attributes Reason: {name}: topic does not exist")

    def application(self, arn: str) -> Item:
        """Raises InvalidParameterException, NotFoundException."""
        _check_arn(arn, "PlatformApplicationArn", "app/")
        if arn not in self._applications:
            raise NotFoundException("PlatformApplication does not exist")
        return self._applications[arn]

    def applications(self, world: World) -> list[Item]:
        return [item for arn, item in sorted(self._applications.items()) if _world(arn) == world]

    def set_application_attributes(self, arn: str, attributes: Mapping[str, str]) -> None:
        item = self.application(arn)
        self._check_application_attributes(attributes)
        self._put(APPLICATION, self._applications, Item(arn, {**item.attributes, **attributes}))

    def delete_application(self, arn: str) -> None:
        """Idempotent; its endpoints go with it."""
        _check_arn(arn, "PlatformApplicationArn", "app/")
        item = self._applications.get(arn)
        if item is not None:
            for endpoint in self.endpoints(arn):
                self._drop(ENDPOINT, self._endpoints, endpoint)
            self._drop(APPLICATION, self._applications, item)

    # endpoints

    def create_endpoint(self, application_arn: str, token: str, user_data: str, attributes: Mapping[str, str]) -> str:
        """Idempotent for the same token and attributes. Raises InvalidParameterException, NotFoundException."""
        self.application(application_arn)
        if not token:
            raise _invalid("Token Reason: no value for required parameter")
        wanted = {"Enabled": "true", **attributes, "Token": attributes.get("Token", token)}
        if user_data:
            wanted["CustomUserData"] = user_data
        self._check_endpoint_attributes(wanted)
        for item in self.endpoints(application_arn):
            if item.attributes["Token"] == token:
                if item.attributes != wanted:
                    raise _invalid(
                        f"Token Reason: Endpoint {item.arn} already exists with the same Token, but different "
                        "attributes."
                    )
                return item.arn
        arn = application_arn.replace(":app/", ":endpoint/", 1) + f"/{self._registry.entropy.uuid()}"
        self._put(ENDPOINT, self._endpoints, Item(arn, wanted))
        self._announce(application_arn, "EventEndpointCreated", arn)
        return arn

    def _check_endpoint_attributes(self, attributes: Mapping[str, str]) -> None:
        for name, value in attributes.items():
            if name not in ENDPOINT_ATTRIBUTES:
                raise _invalid(f"Attributes Reason: Unknown attribute: {name}")
            if name == "Enabled" and value.lower() not in ("true", "false"):
                raise _invalid("Attributes Reason: Enabled must be true or false")
            if name == "CustomUserData" and len(value.encode()) > MAX_CUSTOM_USER_DATA_BYTES:
                raise _invalid("CustomUserData Reason: must be at most 2048 bytes long in UTF-8 encoding")

    def endpoint(self, arn: str, parameter: str = "EndpointArn") -> Item:
        """Raises InvalidParameterException, NotFoundException."""
        _check_arn(arn, parameter, "endpoint/")
        if arn not in self._endpoints:
            raise NotFoundException("Endpoint does not exist")
        return self._endpoints[arn]

    def is_endpoint(self, arn: str) -> bool:
        return arn in self._endpoints

    def endpoints(self, application_arn: str) -> list[Item]:
        prefix = application_arn.replace(":app/", ":endpoint/", 1) + "/"
        return [item for arn, item in sorted(self._endpoints.items()) if arn.startswith(prefix)]

    def set_endpoint_attributes(self, arn: str, attributes: Mapping[str, str]) -> None:
        item = self.endpoint(arn)
        self._check_endpoint_attributes(attributes)
        self._put(ENDPOINT, self._endpoints, Item(arn, {**item.attributes, **attributes}))
        self._announce(_application_arn(arn), "EventEndpointUpdated", arn)

    def delete_endpoint(self, arn: str) -> None:
        """Idempotent."""
        _check_arn(arn, "EndpointArn", "endpoint/")
        item = self._endpoints.get(arn)
        if item is not None:
            self._drop(ENDPOINT, self._endpoints, item)
            self._announce(_application_arn(arn), "EventEndpointDeleted", arn)

    def _announce(self, application_arn: str, event: str, endpoint_arn: str) -> None:
        """Events go to topics on AWS; here they are for people to read."""
        application = self._applications.get(application_arn)
        target = application.attributes.get(event) if application else None
        if target:
            document = {"topic_arn": target, "event": event, "endpoint_arn": endpoint_arn}
            self._outbox.record("application", _world(endpoint_arn), document)

    # pushing

    def push(
        self, arn: str, document: Mapping[str, Any], attributes: Attributes, parameter: str = "EndpointArn"
    ) -> str:
        """The id of the message. Raises NotFoundException, EndpointDisabledException, PlatformApplication…"""
        item = self.endpoint(arn, parameter)
        application = self._applications[_application_arn(arn)]
        if application.attributes["Enabled"].lower() != "true":
            raise PlatformApplicationDisabledException
        if item.attributes["Enabled"].lower() != "true":
            raise EndpointDisabledException
        self._registry.commit.enter()
        message_id = self._registry.entropy.uuid()
        shown = {
            "message_id": message_id,
            "endpoint_arn": arn,
            "token": item.attributes["Token"],
            "ttl_s": reserved.ttl_s(attributes, platform_of(arn)),
            "message_attributes": shown_attributes(attributes),
            **document,
        }
        self._outbox.record("application", _world(arn), shown)
        return message_id

    # the store

    def _put(self, kind: str, those: dict[str, Item], item: Item) -> None:
        self._registry.commit.enter()
        those[item.arn] = item
        world = _world(item.arn)
        self._registry.store.put_mobile_item(MobileRecord(kind, *world, item.arn, json.dumps(item.attributes)))

    def _drop(self, kind: str, those: dict[str, Item], item: Item) -> None:
        self._registry.commit.enter()
        del those[item.arn]
        self._registry.store.delete_mobile_item(kind, *_world(item.arn), item.arn)


def shown_application(item: Item) -> dict[str, str]:
    return {name: value for name, value in item.attributes.items() if name not in _CREDENTIALS}


def platform_of(arn: str) -> str:
    """APNS, GCM, …: the name under which a message's JSON has what is for it."""
    return arn.rpartition(":")[2].split("/")[1]


def _world(arn: str) -> World:
    parts = arn.split(":", 5)
    return World(parts[4], parts[3])


def _application_arn(endpoint_arn: str) -> str:
    return endpoint_arn.replace(":endpoint/", ":app/", 1).rpartition("/")[0]


def _check_arn(arn: str, parameter: str, prefix: str) -> None:
    elements = arn.split(":")
    if len(elements) < 6:
        raise _invalid(f"{parameter} Reason: An ARN must have at least 6 elements, not {len(elements)}")
    parsed = parse_arn(arn)
    if parsed is None or parsed.service != "sns" or not is_account(parsed.account):
        raise _invalid(parameter)
    if not parsed.resource.startswith(prefix) or parsed.resource.count("/") != (2 if prefix == "app/" else 3):
        raise _invalid(f"{parameter} Reason: Wrong number of slashes in relative portion of the ARN.")
