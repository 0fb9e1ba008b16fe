"""Connections and API destinations: their lives, their states, and that no secret ever comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.delivery import AUTHORIZATION, Outcome
from broker.delivery_policy import REFUSED
from broker.errors import (
    BrokerFailure,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import AWS, RELAXED, Limits
from broker.names import World
from broker.queues import Queue
from engine.bus_support import Bridge
from engine.support import START_MS, WORLD, Engine
from engine.test_delivery import Postman

NewEngine = Callable[..., Engine]
Api = Any

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
BASIC = {"BasicAuthParameters": {"Username": "me", "Password": "pw-secret"}}
KEY = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Key", "ApiKeyValue": "key-secret"}}
OAUTH = {
    "OAuthParameters": {
        "ClientParameters": {"ClientID": "id", "ClientSecret": "client-secret"},
        "AuthorizationEndpoint": "https://auth.example/token",
        "HttpMethod": "POST",
        "OAuthHttpParameters": {
            "BodyParameters": [
                {"Key": "audience", "Value": "open", "IsValueSecret": False},
                {"Key": "pin", "Value": "body-secret", "IsValueSecret": True},
            ]
        },
    }
}
TYPES = {"BASIC": BASIC, "API_KEY": KEY, "OAUTH_CLIENT_CREDENTIALS": OAUTH}
PRIVATE = {
    "ResourceParameters": {
        "ResourceConfigurationArn": "arn:aws:vpc-lattice:us-east-1:000000000000:resourceconfiguration/"
        "rcfg-0123456789abcdefg"
    }
}


@pytest.fixture
def connections(engine: Engine) -> Api:
    return engine.broker.events.connections


@pytest.fixture
def destinations(engine: Engine) -> Api:
    return engine.broker.events.api_destinations


def create(connections: Api, name: str = "c", kind: str = "BASIC", world: World = WORLD, **more: Any) -> dict[str, Any]:
    given = {"Name": name, "AuthorizationType": kind, "AuthParameters": TYPES[kind], **more}
    return connections.create(world, given)  # type: ignore[no-any-return]


def describe(connections: Api, name: str = "c") -> dict[str, Any]:
    return connections.describe(WORLD, {"Name": name})  # type: ignore[no-any-return]


def destination(destinations: Api, arn: str, name: str = "d", **more: Any) -> dict[str, Any]:
    given = {"Name": name, "ConnectionArn": arn, "InvocationEndpoint": "https://api.example/*", "HttpMethod": "PUT"}
    return destinations.create(WORLD, {**given, **more})  # type: ignore[no-any-return]


# connections ----------------------------------------------------------------------------------------


def test_a_connections_life(engine: Engine, connections: Api) -> None:
    created = create(connections, Description="to the shop")
    arn = created["ConnectionArn"]
    assert re.fullmatch(rf"arn:aws:events:us-east-1:000000000000:connection/c/{UUID}", arn)
    now_ms = START_MS
    assert created == {
        "ConnectionArn": arn,
        "ConnectionState": "AUTHORIZED",
        "CreationTime": now_ms,
        "LastModifiedTime": now_ms,
    }
    described = describe(connections)
    secret_arn = described.pop("SecretArn")
    pattern = rf"arn:aws:secretsmanager:us-east-1:000000000000:secret:events!connection/c/{UUID}-[0-9a-f]{{6}}"
    assert re.fullmatch(pattern, secret_arn)
    assert described == {
        **created,
        "Name": "c",
        "Description": "to the shop",
        "AuthorizationType": "BASIC",
        "AuthParameters": {"BasicAuthParameters": {"Username": "me"}},
        "LastAuthorizedTime": now_ms,
    }
    with pytest.raises(ResourceAlreadyExistsException):
        create(connections)

    engine.advance(1.5)
    updated = connections.update(WORLD, {"Name": "c", "AuthParameters": {"BasicAuthParameters": {"Password": "new"}}})
    assert updated == {**created, "LastModifiedTime": now_ms + 1_500, "LastAuthorizedTime": now_ms + 1_500}
    assert connections.credentials(arn).parameters == {"BasicAuthParameters": {"Username": "me", "Password": "new"}}

    gone = connections.deauthorize(WORLD, {"Name": "c"})
    assert gone["ConnectionState"] == "DEAUTHORIZING"
    described = describe(connections)
    assert described["ConnectionState"] == "DEAUTHORIZED"
    assert "AuthParameters" not in described
    assert "SecretArn" not in described
    connections.update(WORLD, {"Name": "c", "AuthParameters": BASIC})
    assert describe(connections)["ConnectionState"] == "AUTHORIZED"

    assert connections.delete(WORLD, {"Name": "c"})["ConnectionState"] == "DELETING"
    for operation in (connections.describe, connections.update, connections.deauthorize, connections.delete):
        with pytest.raises(ResourceNotFoundException):
            operation(WORLD, {"Name": "c"})
    assert connections.credentials(arn) is None


@pytest.mark.parametrize("kind", TYPES)
def test_no_secret_comes_out(connections: Api, kind: str) -> None:
    headers = [
        {"Key": "X-Open", "Value": "seen", "IsValueSecret": False},
        {"Key": "X-Hidden", "Value": "header-secret", "IsValueSecret": True},
        {"Key": "X-Unsaid", "Value": "seen too"},
    ]
    given = {**TYPES[kind], "InvocationHttpParameters": {"HeaderParameters": headers}}
    answers = [create(connections, kind=kind, AuthParameters=given), describe(connections)]
    answers += connections.list_connections(WORLD)
    assert "secret" not in json.dumps(answers).replace("secretsmanager", "").replace(":secret:", "")
    shown = answers[1]["AuthParameters"]["InvocationHttpParameters"]["HeaderParameters"]
    assert shown == [headers[0], {"Key": "X-Hidden", "IsValueSecret": True}, headers[2]]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("BASIC", {}),
        ("BASIC", KEY),
        ("BASIC", {**BASIC, **KEY}),
        ("API_KEY", OAUTH),
        ("OAUTH_CLIENT_CREDENTIALS", {"OAuthParameters": {**OAUTH["OAuthParameters"], "AuthorizationEndpoint": "x"}}),
    ],
)
def test_parameters_must_be_those_of_the_type(connections: Api, kind: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationException):
        create(connections, kind=kind, AuthParameters=parameters)
    assert connections.list_connections(WORLD) == []


def test_another_type_needs_all_its_parameters_and_drops_the_old_ones(connections: Api) -> None:
    shared = {"HeaderParameters": [{"Key": "X-A", "Value": "1"}]}
    arn = create(connections, AuthParameters={**BASIC, "InvocationHttpParameters": shared})["ConnectionArn"]
    partly = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Key"}}
    with pytest.raises(ValidationException):
        connections.update(WORLD, {"Name": "c", "AuthorizationType": "API_KEY", "AuthParameters": partly})
    assert describe(connections)["AuthorizationType"] == "BASIC"
    connections.update(WORLD, {"Name": "c", "AuthorizationType": "API_KEY", "AuthParameters": KEY})
    assert connections.credentials(arn).parameters == {**KEY, "InvocationHttpParameters": shared}
    replaced = {"HeaderParameters": [{"Key": "X-B", "Value": "2"}]}
    connections.update(WORLD, {"Name": "c", "AuthParameters": {"InvocationHttpParameters": replaced}})
    assert connections.credentials(arn).parameters == {**KEY, "InvocationHttpParameters": replaced}


def test_a_private_connection_in_form(connections: Api) -> None:
    created = create(connections, InvocationConnectivityParameters=PRIVATE, KmsKeyIdentifier="alias/k")
    assert created["ConnectionState"] == "ACTIVE"
    described = describe(connections)
    resource = described["InvocationConnectivityParameters"]["ResourceParameters"]
    assert resource["ResourceConfigurationArn"] == PRIVATE["ResourceParameters"]["ResourceConfigurationArn"]
    assert re.fullmatch(
        "arn:aws:vpc-lattice:us-east-1:000000000000:servicenetworkresourceassociation/snra-[0-9a-z]{17}",
        resource["ResourceAssociationArn"],
    )
    assert described["KmsKeyIdentifier"] == "alias/k"
    connections.update(WORLD, {"Name": "c", "AuthParameters": {"ConnectivityParameters": PRIVATE}})
    assert describe(connections)["AuthParameters"]["ConnectivityParameters"]["ResourceParameters"].keys() == {
        "ResourceConfigurationArn",
        "ResourceAssociationArn",
    }
    none = {"ResourceParameters": {"ResourceConfigurationArn": ""}}
    connections.update(WORLD, {"Name": "c", "AuthParameters": {"ConnectivityParameters": none}})
    assert "ConnectivityParameters" not in describe(connections)["AuthParameters"]
    connections.update(WORLD, {"Name": "c", "InvocationConnectivityParameters": none, "KmsKeyIdentifier": ""})
    described = describe(connections)
    assert "KmsKeyIdentifier" not in described
    assert "InvocationConnectivityParameters" not in described
    assert described["ConnectionState"] == "AUTHORIZED"


def test_lists_are_by_prefix_and_state(engine: Engine, connections: Api) -> None:
    for name in ("b1", "a2", "a1", "a3"):
        create(connections, name)
    create(connections, "a4", "OAUTH_CLIENT_CREDENTIALS")
    create(connections, "a5", world=World(WORLD.account, "eu-west-1"))

    def names(*filters: str) -> list[str]:
        return [entry["Name"] for entry in connections.list_connections(WORLD, *filters)]

    assert names() == ["a1", "a2", "a3", "a4", "b1"]
    assert names("a", "AUTHORIZED") == ["a1", "a2", "a3"]
    assert names("", "AUTHORIZING") == ["a4"]
    assert set(connections.list_connections(WORLD)[0]) == {
        "Name",
        "ConnectionArn",
        "ConnectionState",
        "AuthorizationType",
        "CreationTime",
        "LastModifiedTime",
        "LastAuthorizedTime",
    }


def test_connections_are_kept_and_come_back_after_a_rollback(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path)
    create(engine.broker.events.connections)
    engine.restart()
    before = describe(engine.broker.events.connections)
    connections: Api = engine.broker.events.connections
    connections.update(WORLD, {"Name": "c", "Description": "never"})
    create(connections, "other")
    engine.broker.commit.abort(BrokerFailure("the disk is full"))
    assert describe(connections) == before
    assert len(connections.list_connections(WORLD)) == 1
    engine.broker.reset("111111111111")
    assert len(connections.list_connections(WORLD)) == 1
    engine.broker.reset()
    assert connections.list_connections(WORLD) == []


def test_there_are_only_so_many(new_engine: NewEngine) -> None:
    limits = type(AWS)(**{name: getattr(AWS, name) for name in AWS.__slots__} | {"event_connections": 2})
    connections: Api = new_engine(limits=limits).broker.events.connections
    create(connections, "a")
    create(connections, "b")
    create(connections, "a", world=World(WORLD.account, "eu-west-1"))
    with pytest.raises(LimitExceededException):
        create(connections, "c")


# OAuth ----------------------------------------------------------------------------------------------


def test_oauth_is_authorized_by_what_comes_of_asking(engine: Engine, connections: Api) -> None:
    created = create(connections, kind="OAUTH_CLIENT_CREDENTIALS")
    arn = created["ConnectionArn"]
    assert created["ConnectionState"] == "AUTHORIZING"
    postman = Postman(engine, {arn: [Outcome(None)]})
    engine.advance(0)
    described = describe(connections)
    assert (described["ConnectionState"], "LastAuthorizedTime" in described) == ("AUTHORIZED", True)

    postman.script[arn] = [Outcome(REFUSED, "HTTP 400")]
    assert connections.update(WORLD, {"Name": "c", "Description": "x"})["ConnectionState"] == "AUTHORIZING"
    engine.advance(60)
    described = describe(connections)
    assert (described["ConnectionState"], described["StateReason"]) == ("DEAUTHORIZED", "HTTP 400")
    assert len(postman.account) == 2


def test_an_answer_that_comes_too_late_changes_nothing(engine: Engine, connections: Api) -> None:
    arn = create(connections, kind="OAUTH_CLIENT_CREDENTIALS")["ConnectionArn"]
    postman = Postman(engine, {arn: [None]})
    engine.advance(0)
    connections.update(WORLD, {"Name": "c", "Description": "x"})
    engine.broker.outbox.report(postman.unreported[0], Outcome(REFUSED, "HTTP 400"))
    engine.settle()
    assert describe(connections)["ConnectionState"] == "AUTHORIZING"
    connections.deauthorize(WORLD, {"Name": "c"})
    for attempt in postman.unreported:
        engine.broker.outbox.report(attempt, Outcome(None))
    assert describe(connections)["ConnectionState"] == "DEAUTHORIZED"


def test_who_is_to_be_asked_is_not_forgotten(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path)
    create(engine.broker.events.connections, kind="OAUTH_CLIENT_CREDENTIALS")
    engine.restart()
    (attempt,) = engine.broker.outbox.due(10)
    assert (attempt.channel, "secret" in repr(attempt)) == (AUTHORIZATION, False)


# API destinations -----------------------------------------------------------------------------------


def test_an_api_destinations_life(engine: Engine, connections: Api, destinations: Api) -> None:
    connection_arn = create(connections)["ConnectionArn"]
    created = destination(destinations, connection_arn, Description="the shop", InvocationRateLimitPerSecond=5)
    arn = created["ApiDestinationArn"]
    assert re.fullmatch(rf"arn:aws:events:us-east-1:000000000000:api-destination/d/{UUID}", arn)
    now_ms = START_MS
    assert created == {
        "ApiDestinationArn": arn,
        "ApiDestinationState": "ACTIVE",
        "CreationTime": now_ms,
        "LastModifiedTime": now_ms,
    }
    settings = {
        "ConnectionArn": connection_arn,
        "InvocationEndpoint": "https://api.example/*",
        "HttpMethod": "PUT",
        "InvocationRateLimitPerSecond": 5,
    }
    described = {"Name": "d", "Description": "the shop", **created, **settings}
    assert destinations.describe(WORLD, {"Name": "d"}) == described
    assert destinations.list_api_destinations(WORLD) == [described]
    with pytest.raises(ResourceAlreadyExistsException):
        destination(destinations, connection_arn)

    engine.advance(2)
    updated = destinations.update(WORLD, {"Name": "d", "HttpMethod": "PATCH"})
    assert updated == {**created, "LastModifiedTime": now_ms + 2_000}
    assert destinations.invocation(arn) == ("https://api.example/*", "PATCH", connection_arn)
    assert destinations.rate(arn) == 5

    connections.deauthorize(WORLD, {"Name": "c"})
    assert destinations.describe(WORLD, {"Name": "d"})["ApiDestinationState"] == "INACTIVE"
    assert destinations.delete(WORLD, {"Name": "d"}) == {}
    for operation in (destinations.describe, destinations.update, destinations.delete):
        with pytest.raises(ResourceNotFoundException):
            operation(WORLD, {"Name": "d"})
    assert destinations.invocation(arn) is None


def test_an_api_destination_needs_a_connection_and_an_endpoint(connections: Api, destinations: Api) -> None:
    arn = create(connections)["ConnectionArn"]
    with pytest.raises(ResourceNotFoundException):
        destination(destinations, arn[:-1] + ("0" if arn[-1] != "0" else "1"))
    with pytest.raises(ValidationException):
        destination(destinations, arn, InvocationEndpoint="ftp://api.example/")
    assert destinations.list_api_destinations(WORLD) == []


def test_api_destinations_by_connection_and_prefix(connections: Api, destinations: Api) -> None:
    one, two = (create(connections, name)["ConnectionArn"] for name in ("c1", "c2"))
    for name, arn in (("c", one), ("b", two), ("a", one)):
        destination(destinations, arn, name)

    def names(*filters: str) -> list[str]:
        return [entry["Name"] for entry in destinations.list_api_destinations(WORLD, *filters)]

    assert names() == ["a", "b", "c"]
    assert names("", one) == ["a", "c"]
    assert names("b") == ["b"]


@pytest.mark.parametrize(("limits", "kept_to"), [(RELAXED, None), (AWS, 300)])
def test_aws_own_rate_is_shown_where_none_is_given(new_engine: NewEngine, limits: Limits, kept_to: int | None) -> None:
    events: Any = new_engine(limits=limits).broker.events
    arn = destination(events.api_destinations, create(events.connections)["ConnectionArn"])["ApiDestinationArn"]
    assert events.api_destinations.describe(WORLD, {"Name": "d"})["InvocationRateLimitPerSecond"] == 300
    assert events.api_destinations.rate(arn) == kept_to


# the events that tell of states ---------------------------------------------------------------------


def told(bridge: Bridge, queue: Queue) -> list[tuple[str, dict[str, str]]]:
    """The events that came, but for their Timestamp."""
    events = [json.loads(message.body) for message in bridge.engine.receive(queue)]
    assert all(event["detail"].pop("Timestamp") for event in events)
    return [(event["detail-type"], event["detail"]) for event in events]


def test_states_are_told_on_the_default_bus(engine: Engine, connections: Api, destinations: Api) -> None:
    bridge, queue = Bridge(engine), engine.create("q")
    bridge.connect({"source": ["aws.events"]}, queue)
    c, d = {"ConnectionName": "c"}, {"ApiDestinationName": "d"}
    arn = create(connections)["ConnectionArn"]
    created, authorized = bridge.received(queue)
    assert (created["detail-type"], created["resources"]) == ("Connection Creation Started", [arn])
    assert (created["source"], created["account"], created["region"]) == ("aws.events", *WORLD)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC", created["detail"].pop("Timestamp"))
    assert created["detail"] == c
    assert authorized["detail-type"] == "Connection Authorized"

    destination_arn = destination(destinations, arn)["ApiDestinationArn"]
    [event] = bridge.received(queue)
    assert (event["detail-type"], event["resources"]) == ("API Destination Activated", [destination_arn])
    destinations.update(WORLD, {"Name": "d", "Description": "new"})
    connections.update(WORLD, {"Name": "c", "Description": "new"})
    assert told(bridge, queue) == [("Connection Update Started", c), ("Connection Authorized", c)]
    connections.refused(connections.credentials(arn), "HTTP 401")
    assert told(bridge, queue) == [
        ("Connection Deauthorized", {**c, "StateReason": "HTTP 401"}),
        ("API Destination Deactivated", d),
    ]
    connections.update(WORLD, {"Name": "c", "InvocationConnectivityParameters": PRIVATE})
    assert told(bridge, queue) == [
        ("Connection Update Started", c),
        ("Connection Activated", c),
        ("API Destination Activated", d),
    ]
    connections.deauthorize(WORLD, {"Name": "c"})
    assert told(bridge, queue) == [
        ("Connection Deauthorization Started", c),
        ("Connection Deauthorized", c),
        ("API Destination Deactivated", d),
    ]
    connections.delete(WORLD, {"Name": "c"})
    assert told(bridge, queue) == [("Connection Deletion Started", c)]


def test_asking_for_a_token_is_told(engine: Engine, connections: Api) -> None:
    bridge, queue = Bridge(engine), engine.create("q")
    bridge.connect({"detail-type": [{"prefix": "Connection Auth"}]}, queue)
    arn = create(connections, kind="OAUTH_CLIENT_CREDENTIALS")["ConnectionArn"]
    Postman(engine, {arn: [Outcome(None)]})
    engine.advance(0)
    assert [name for name, _ in told(bridge, queue)] == ["Connection Authorization Started", "Connection Authorized"]
