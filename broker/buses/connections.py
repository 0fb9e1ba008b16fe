"""Connections: how EventBridge authorizes itself with the endpoints of API destinations.

The rule: what is secret goes in and is told to nobody but the transports that need it (`credentials`). There is no
Secrets Manager here: SecretArn is the name that AWS's would have. States follow the guide, "Connection states in
EventBridge": nothing is asked of an endpoint for BASIC and API_KEY, so these are authorized at once; for OAuth the
authorization endpoint is asked through the outbox (`on_authorize`), and says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from broker.buses.bus import events_arn
from broker.buses.notices import Notices
from broker.buses.registry import Document, Registry
from broker.errors import (
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.names import World, parse_arn, partition_of

KIND = "connection"

AUTHORIZED, AUTHORIZING, DEAUTHORIZED, ACTIVE = "AUTHORIZED", "AUTHORIZING", "DEAUTHORIZED", "ACTIVE"
USABLE = frozenset({AUTHORIZED, ACTIVE})

BASIC, API_KEY, OAUTH = "BASIC", "API_KEY", "OAUTH_CLIENT_CREDENTIALS"

_PARAMETERS = {BASIC: "BasicAuthParameters", API_KEY: "ApiKeyAuthParameters", OAUTH: "OAuthParameters"}
_REQUIRED = {  # CreateConnection, which UpdateConnection's shapes do not ask for
    BASIC: ("Username", "Password"),
    API_KEY: ("ApiKeyName", "ApiKeyValue"),
    OAUTH: ("ClientParameters", "AuthorizationEndpoint", "HttpMethod"),
}
_TIMES = ("CreationTime", "LastModifiedTime", "LastAuthorizedTime")
_STARTED = ("ConnectionArn", "ConnectionState", "CreationTime", "LastModifiedTime")  # CreateConnection
_ANSWERED = ("ConnectionArn", "ConnectionState", *_TIMES)
_LISTED = (*_ANSWERED, "AuthorizationType", "StateReason")
_DESCRIBED = (
    *_ANSWERED,
    "StateReason",
    "Description",
    "AuthorizationType",
    "KmsKeyIdentifier",
    "InvocationConnectivityParameters",
)
_SECRETS = {"Password", "ApiKeyValue", "ClientSecret"}
_MAX_REASON_CHARS = 512

# The events that tell of states (guide, "Amazon EventBridge events detail reference").
_ENTERED = {
    AUTHORIZED: "Connection Authorized",
    ACTIVE: "Connection Activated",
    AUTHORIZING: "Connection Authorization Started",
    DEAUTHORIZED: "Connection Deauthorized",
}

Parameters = Mapping[str, Any]


class Credentials(NamedTuple):
    """A connection as a transport needs it: with its secrets, for this attempt alone."""

    arn: str
    state: str
    state_reason: str
    authorization_type: str
    parameters: Parameters  # AuthParameters, empty once deauthorized
    revision: int  # another each time that the parameters change


def check_endpoint(parameter: str, url: str) -> None:
    """AWS takes HTTPS alone; here an endpoint may be a test's own server."""
    if not url.startswith(("https://", "http://")):
        raise ValidationException(f"Parameter {parameter} is not valid. Reason: The URL must use HTTPS.")


class Connections:
    """`on_authorize` is called with the ARN of a connection whose authorization endpoint is to be asked, `on_usable`
    with one that can be used from now on, or cannot any longer.
    """

    def __init__(self, registry: Registry, notices: Notices) -> None:
        self._registry = registry
        self._notices = notices
        self.on_authorize: Callable[[str], None] = lambda arn: None
        self.on_usable: Callable[[str, bool], None] = lambda arn, usable: None

    # operations

    def create(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """CreateConnection."""
        registry, name = self._registry, parameters["Name"]
        registry.commit.enter()
        items = registry.items(KIND)
        if (world, name) in items:
            raise ResourceAlreadyExistsException(f"Connection {name} already exists.")
        limit = registry.limits.event_connections
        if limit is not None and sum(owner == world for owner, _ in items) >= limit:
            raise LimitExceededException("The requested resource exceeds the maximum number allowed.")
        kind = parameters["AuthorizationType"]
        given = parameters["AuthParameters"]
        self._check(kind, given)
        secret_id = registry.entropy.uuid()
        document = {
            "ConnectionArn": events_arn(world, f"connection/{name}/{registry.entropy.uuid()}"),
            "SecretArn": f"arn:{partition_of(world.region)}:secretsmanager:{world.region}:{world.account}:secret:"
            f"events!connection/{name}/{secret_id}-{secret_id[:6]}",
            "Revision": 0,
        }
        self._set(world, document, parameters)
        document["AuthorizationType"], document["AuthParameters"] = kind, self._placed(world, given)
        self._tell(world, name, document, "Connection Creation Started")
        self._authorize(world, name, document)
        return _plain(document, *_STARTED)

    def update(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """UpdateConnection: what is not given stays, and authorization begins anew."""
        name = parameters["Name"]
        document = dict(self._find(world, name))
        kind = parameters.get("AuthorizationType", document["AuthorizationType"])
        before = document.get("AuthParameters", {})
        if kind != document["AuthorizationType"]:
            before = {key: value for key, value in before.items() if key not in _PARAMETERS.values()}
        given = parameters.get("AuthParameters", {})
        if "ConnectivityParameters" in given:
            before = {key: value for key, value in before.items() if key != "ConnectivityParameters"}
        merged = _merged(before, self._placed(world, given))
        self._check(kind, merged)
        self._set(world, document, parameters)
        document["AuthorizationType"], document["AuthParameters"] = kind, merged
        self._tell(world, name, document, "Connection Update Started")
        self._authorize(world, name, document)
        return _plain(document, *_ANSWERED)

    def deauthorize(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """DeauthorizeConnection: forgets all authorization parameters."""
        name = parameters["Name"]
        document = dict(self._find(world, name))
        document.pop("AuthParameters", None)
        document["LastModifiedTime"] = self._registry.clock.now_ms()
        document["Revision"] += 1
        self._tell(world, name, document, "Connection Deauthorization Started")
        self._enter(world, name, document, DEAUTHORIZED, "")
        return {**_plain(document, *_ANSWERED), "ConnectionState": "DEAUTHORIZING"}

    def delete(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """DeleteConnection. API destinations that use it are inactive from now on."""
        document = self._find(world, parameters["Name"])
        self._registry.remove_item(KIND, world, parameters["Name"])
        self._tell(world, parameters["Name"], document, "Connection Deletion Started")
        if document["ConnectionState"] in USABLE:
            self.on_usable(document["ConnectionArn"], False)
        return {**_plain(document, *_ANSWERED), "ConnectionState": "DELETING"}

    def describe(self, world: World, parameters: Parameters) -> dict[str, Any]:
        """DescribeConnection."""
        document = self._find(world, parameters["Name"])
        answer = {"Name": parameters["Name"], **_plain(document, *_DESCRIBED)}
        if "AuthParameters" in document:
            answer["SecretArn"] = document["SecretArn"]
            answer["AuthParameters"] = _without_secrets(document["AuthParameters"])
        return answer

    def list_connections(self, world: World, name_prefix: str = "", state: str | None = None) -> list[dict[str, Any]]:
        """ListConnections' entries in the order of their names."""
        return [
            {"Name": name, **_plain(document, *_LISTED)}
            for (owner, name), document in sorted(self._registry.items(KIND).items())
            if owner == world and name.startswith(name_prefix) and state in (None, document["ConnectionState"])
        ]

    # for API destinations and transports

    def state(self, arn: str) -> str | None:
        """ConnectionState, or None where there is no such connection."""
        found = self._named(arn)
        return None if found is None else found[2]["ConnectionState"]

    def credentials(self, arn: str) -> Credentials | None:
        """What to authorize with, secrets and all: not to be kept, not to be logged."""
        found = self._named(arn)
        if found is None:
            return None
        document = found[2]
        return Credentials(
            arn,
            document["ConnectionState"],
            document.get("StateReason", ""),
            document["AuthorizationType"],
            document.get("AuthParameters", {}),
            document["Revision"],
        )

    def authorized(self, arn: str) -> None:
        """Its authorization endpoint has given a token."""
        found = self._named(arn)
        if found is not None and found[2]["ConnectionState"] == AUTHORIZING:
            world, name, document = found
            self._enter(world, name, dict(document), _settled(document), "")

    def refused(self, credentials: Credentials, reason: str) -> None:
        """The authorization endpoint or, but for OAuth, the endpoint itself does not know these credentials.

        Guide, "De-authorizing connections in EventBridge". Those that have been changed since are none of it.
        """
        found = self._named(credentials.arn)
        if found is not None and found[2]["Revision"] == credentials.revision:
            world, name, document = found
            self._enter(world, name, dict(document), DEAUTHORIZED, reason)

    def _named(self, arn: str) -> tuple[World, str, Document] | None:
        parsed = parse_arn(arn)
        parts = parsed.resource.split("/") if parsed else []
        if parsed is None or len(parts) != 3:
            return None
        world, name = World(parsed.account, parsed.region), parts[1]
        document = self._registry.items(KIND).get((world, name))
        return None if document is None or document["ConnectionArn"] != arn else (world, name, document)

    # keeping

    def _find(self, world: World, name: str) -> Document:
        self._registry.commit.enter()
        document = self._registry.items(KIND).get((world, name))
        if document is None:
            raise ResourceNotFoundException(f"Connection {name} does not exist.")
        return document

    def _check(self, kind: str, parameters: Parameters) -> None:
        """Raises ValidationException unless these are the parameters of that type of authorization, and complete."""
        member = _PARAMETERS[kind]
        others = [name for name in _PARAMETERS.values() if name != member and name in parameters]
        if member not in parameters or others:
            raise ValidationException(f"AuthParameters must contain {member}, and no other, for {kind} authorization.")
        own = parameters[member]
        missing = [name for name in _REQUIRED[kind] if name not in own]
        if kind == OAUTH and not missing:
            missing = [name for name in ("ClientID", "ClientSecret") if name not in own["ClientParameters"]]
            check_endpoint("AuthorizationEndpoint", own["AuthorizationEndpoint"])
        if missing:
            raise ValidationException(f"Parameter {member}.{missing[0]} is missing.")

    def _set(self, world: World, document: Document, parameters: Parameters) -> None:
        for member in ("Description", "KmsKeyIdentifier"):
            if member in parameters:
                document[member] = parameters[member]
        if document.get("KmsKeyIdentifier") == "":  # AWS's own key
            del document["KmsKeyIdentifier"]
        connectivity = parameters.get("InvocationConnectivityParameters")
        if connectivity is not None:
            document.pop("InvocationConnectivityParameters", None)
            if connectivity["ResourceParameters"]["ResourceConfigurationArn"]:
                document["InvocationConnectivityParameters"] = self._associated(world, connectivity)

    def _placed(self, world: World, given: Parameters) -> Document:
        """AuthParameters with the association that a private authorization endpoint gets."""
        parameters = dict(given)
        connectivity = parameters.pop("ConnectivityParameters", None)
        if connectivity is not None and connectivity["ResourceParameters"]["ResourceConfigurationArn"]:
            parameters["ConnectivityParameters"] = self._associated(world, connectivity)
        return parameters

    def _associated(self, world: World, connectivity: Parameters) -> Document:
        identifier = self._registry.entropy.uuid().replace("-", "")[:17]
        arn = f"arn:{partition_of(world.region)}:vpc-lattice:{world.region}:{world.account}"
        association = {"ResourceAssociationArn": f"{arn}:servicenetworkresourceassociation/snra-{identifier}"}
        return {"ResourceParameters": {**connectivity["ResourceParameters"], **association}}

    def _authorize(self, world: World, name: str, document: Document) -> None:
        document["LastModifiedTime"] = now_ms = self._registry.clock.now_ms()
        document.setdefault("CreationTime", now_ms)
        document["Revision"] += 1
        oauth = document["AuthorizationType"] == OAUTH
        self._enter(world, name, document, AUTHORIZING if oauth else _settled(document), "")
        if oauth:
            self.on_authorize(document["ConnectionArn"])

    def _enter(self, world: World, name: str, document: Document, state: str, reason: str) -> None:
        """Takes on a state, is kept, and tells."""
        self._registry.commit.enter()
        before, document["ConnectionState"] = document.get("ConnectionState"), state
        document.pop("StateReason", None)
        if reason:
            document["StateReason"] = reason[:_MAX_REASON_CHARS]
        if state in USABLE:
            document["LastAuthorizedTime"] = self._registry.clock.now_ms()
        self._registry.put_item(KIND, world, name, document)
        self._tell(world, name, document, _ENTERED[state], reason)
        if (before in USABLE) != (state in USABLE):
            self.on_usable(document["ConnectionArn"], state in USABLE)

    def _tell(self, world: World, name: str, document: Document, detail_type: str, reason: str = "") -> None:
        detail = {"ConnectionName": name} | ({"StateReason": reason[:_MAX_REASON_CHARS]} if reason else {})
        self._notices.tell(world, detail_type, document["ConnectionArn"], detail)


def _settled(document: Document) -> str:
    """Guide, "Connection states": connections to private APIs are ACTIVE where others are AUTHORIZED."""
    return ACTIVE if "InvocationConnectivityParameters" in document else AUTHORIZED


def _plain(document: Document, *names: str) -> dict[str, Any]:
    return {name: document[name] for name in names if name in document}


def _merged(before: Parameters, changes: Parameters) -> Document:
    """Structures member by member; lists, like the parameters of a request, are replaced."""
    merged = dict(before)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _without_secrets(value: Any) -> Any:
    """AuthParameters as they are shown: no password, no key, no value that was said to be secret."""
    if isinstance(value, list):
        return [_without_secrets(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    hidden = _SECRETS | ({"Value"} if value.get("IsValueSecret") else set())
    return {name: _without_secrets(member) for name, member in value.items() if name not in hidden}
