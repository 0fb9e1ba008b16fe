"""Targets outside the broker: functions, state machines and API destinations through the outbox, others for people.

When what is sent and sent again is broker/delivery.py's; here is what each kind of target is given, and what becomes
of a delivery's end. A rule or target that goes takes with it what waits for it: "removed targets might continue to be
invoked" for "a short period", says RemoveTargets, and not for a day of retries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from broker.buses.api_destinations import ApiDestinations
from broker.buses.bus import DEFAULT_BUS, Rule
from broker.buses.connections import Connections
from broker.buses.registry import Registry
from broker.delivery import (
    API_DESTINATION,
    AUTHORIZATION,
    DELIVERED,
    FAILED_TO_REDRIVE,
    LAMBDA,
    REDRIVEN,
    STATE_MACHINE,
    Ended,
    NewDelivery,
    Outbox,
)
from broker.delivery_policy import (
    API_DESTINATION_TIMEOUT_MS,
    EXECUTION_TIMEOUT_MS,
    FUNCTION_TIMEOUT_MS,
    MAX_RETRY_AGE_S,
    MAX_RETRY_ATTEMPTS,
    EventPolicy,
)
from broker.event_dead_letters import EVENTS_SENDER_ID, NO_RESOURCE
from broker.matching.json_path import MISSING, InvalidPath, compile_path
from broker.names import World, parse_arn

_TIMEOUTS_MS = {
    LAMBDA: FUNCTION_TIMEOUT_MS,
    STATE_MACHINE: EXECUTION_TIMEOUT_MS,
    API_DESTINATION: API_DESTINATION_TIMEOUT_MS,
}
_ASK_ONCE = EventPolicy(max_retries=0, timeout_ms=API_DESTINATION_TIMEOUT_MS)

Target = Mapping[str, Any]


class RemoteTargets:
    """Sends to every target that is not the broker's own: all but queues, topics, streams and buses."""

    def __init__(
        self, registry: Registry, outbox: Outbox, connections: Connections, api_destinations: ApiDestinations
    ) -> None:
        self._registry = registry
        self._outbox = outbox
        self._connections = connections
        self._api_destinations = api_destinations
        connections.on_authorize = self._authorize
        outbox.rates[API_DESTINATION] = api_destinations.rate
        outbox.ended.append(self._ended)
        registry.on_rule_gone.append(self._rule_gone)

    def send(self, rule_arn: str, target: Target, body: str, event_text: str, event_id: str = "") -> str | None:
        """Puts a delivery into the outbox, in the current transaction; its metrics are counted when it ends.

        `target` is the API's Target (its RetryPolicy, DeadLetterConfig and HttpParameters are read from it), `body`
        what its input came to, `event_text` the whole event. Where the target cannot exist nothing is put in, and
        one of the error codes of broker/event_dead_letters.py is returned: the caller's to dead-letter at once.
        """
        arn = target["Arn"]
        channel = _channel(arn)
        headers: dict[str, Any] = {}
        if channel is None:
            return self._record(rule_arn, target, body)
        if channel == API_DESTINATION:
            if self._api_destinations.invocation(arn) is None:
                return NO_RESOURCE
            headers = _resolved(target.get("HttpParameters", {}), event_text)
        elif channel == STATE_MACHINE:
            headers["name"] = self._registry.entropy.uuid()  # of the execution: a retry does not start a second one
        retry, letters = target.get("RetryPolicy", {}), target.get("DeadLetterConfig", {})
        policy = EventPolicy(
            retry.get("MaximumRetryAttempts", MAX_RETRY_ATTEMPTS),
            retry.get("MaximumEventAgeInSeconds", MAX_RETRY_AGE_S),
            _TIMEOUTS_MS[channel],
        )
        delivery = NewDelivery(
            channel,
            _owner(rule_arn, target["Id"]),
            arn,
            headers,
            body,
            policy,
            letters.get("Arn"),
            event_text,
            dead_letter_sender_id=EVENTS_SENDER_ID,
            dead_letter_rule=(rule_arn, arn),
            message_id=event_id,
        )
        self._outbox.put([delivery])
        return None

    def drop(self, rule_arn: str, target_id: str) -> None:
        """A target was removed from its rule: what waits for it goes. (A rule that goes is seen to here.)"""
        self._outbox.drop(_owner(rule_arn, target_id))

    def _rule_gone(self, rule: Rule) -> None:
        for target in rule.document["Targets"].values():
            if _channel(target["Arn"]) is not None:
                self.drop(rule.arn, target["Id"])

    def _record(self, rule_arn: str, target: Target, body: str) -> str | None:
        """What nobody can deliver from here is kept for people, as it would have been sent."""
        arn, rule = parse_arn(target["Arn"]), parse_arn(rule_arn)
        if arn is None or rule is None:
            return NO_RESOURCE
        document = {"rule_arn": rule_arn, "target_id": target["Id"], "target_arn": target["Arn"], "input": body}
        self._outbox.record(arn.service, World(rule.account, rule.region), document)
        self._count(rule_arn, Invocations=1)
        return None

    def _ended(self, ended: Ended) -> None:
        if ended.channel == AUTHORIZATION:
            self._authorization_ended(ended)
            return
        rule_arn, separator, _ = ended.owner.rpartition("#")
        if separator:
            self._count(
                rule_arn,
                Invocations=min(ended.attempts, 1),
                RetryInvocationAttempts=max(ended.attempts - 1, 0),
                FailedInvocations=int(ended.result != DELIVERED),
                InvocationsSentToDlq=int(ended.result == REDRIVEN),
                InvocationsFailedToBeSentToDlq=int(ended.result == FAILED_TO_REDRIVE),
            )

    def _count(self, rule_arn: str, **counts: int) -> None:
        """Under the names of the guide, "Monitoring Amazon EventBridge"."""
        arn = parse_arn(rule_arn)
        if arn is not None:
            bus_name, _, name = arn.resource.removeprefix("rule/").rpartition("/")
            bus = self._registry.find_bus(World(arn.account, arn.region), bus_name or DEFAULT_BUS)
            if bus is not None and name in bus.rules:
                bus.rules[name].counts.update({metric: count for metric, count in counts.items() if count})

    # authorization

    def _authorize(self, connection_arn: str) -> None:
        self._outbox.drop(connection_arn)
        self._outbox.put([NewDelivery(AUTHORIZATION, connection_arn, connection_arn, {}, "", _ASK_ONCE)])

    def _authorization_ended(self, ended: Ended) -> None:
        if ended.result == DELIVERED:
            self._connections.authorized(ended.owner)
            return
        credentials = self._connections.credentials(ended.owner)
        if credentials is not None:
            self._connections.refused(credentials, ended.reason)


def _owner(rule_arn: str, target_id: str) -> str:
    return f"{rule_arn}#{target_id}"


def _channel(arn: str) -> str | None:
    """By which a target is delivered to, or None where nobody can from here."""
    parsed = parse_arn(arn)
    if parsed is None:
        return None
    if parsed.service == "events" and parsed.resource.startswith("api-destination/"):
        return API_DESTINATION
    if parsed.service == "lambda" and parsed.resource.startswith("function:"):
        return LAMBDA
    return STATE_MACHINE if parsed.service == "states" else None


def _resolved(parameters: Mapping[str, Any], event_text: str) -> dict[str, Any]:
    """HttpParameters whose dynamic values are the event's.

    Guide, "Target parameters": a value that as a whole is a JSON path stands for what it finds in the event.
    """
    event: list[Any] = []  # parsed at most once, and only if asked for

    def resolve(value: str) -> str | None:
        find = _path(value)
        if find is None:
            return value
        if not event:
            event.append(json.loads(event_text))
        found = find(event[0])
        if found is MISSING:
            return None
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))

    resolved: dict[str, Any] = {}
    for member in ("HeaderParameters", "QueryStringParameters"):
        pairs = [(name, resolve(value)) for name, value in parameters.get(member, {}).items()]
        resolved[member] = {name: value for name, value in pairs if value is not None}
    resolved["PathParameterValues"] = [resolve(value) or "" for value in parameters.get("PathParameterValues", ())]
    return resolved


def _path(value: str) -> Callable[[Any], Any] | None:
    if not value.startswith(("$.", "$[")):
        return None
    try:
        return compile_path(value).find
    except InvalidPath:
        return None
