"""Delivery to Step Functions: StartExecution at whatever endpoints are configured, for both types of workflow.

An execution is named when its delivery is put in, so a retry of one that did start is told that it exists, which is as
good as started. The signature that goes with a request is none, but shows the region and the account in their place.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from broker.delivery import Attempt, Outcome
from broker.delivery_policy import REFUSED, UNAVAILABLE
from broker.event_dead_letters import (
    ERROR_FROM_TARGET,
    INVALID_JSON,
    INVALID_PARAMETER,
    NO_PERMISSIONS,
    NO_RESOURCE,
    RESOURCE_LIMIT_EXCEEDED,
    THROTTLING,
)
from broker.names import Arn, parse_arn
from protocols.delivery.client import Answer, Client

_REFUSALS = {  # StartExecution's errors, API reference of Step Functions
    "AccessDeniedException": NO_PERMISSIONS,
    "InvalidArn": INVALID_PARAMETER,
    "InvalidExecutionInput": INVALID_JSON,
    "InvalidName": INVALID_PARAMETER,
    "StateMachineDeleting": NO_RESOURCE,
    "StateMachineDoesNotExist": NO_RESOURCE,
    "ValidationException": INVALID_PARAMETER,
}
_FOR_NOW = {
    "ExecutionLimitExceeded": RESOURCE_LIMIT_EXCEEDED,
    "ThrottlingException": THROTTLING,
}


class StateMachines:
    """Where state machines are found: `endpoints` is URL by name or ARN; `*` stands for all others."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self._endpoints = endpoints

    def url(self, arn: str) -> str | None:
        """The endpoint of Step Functions to ask, or None for a state machine that was not configured."""
        parsed = parse_arn(arn)
        kind, _, name_and_version = (parsed.resource if parsed else "").partition(":")
        if kind != "stateMachine":
            return None
        name, _, version = name_and_version.partition(":")
        unversioned = arn.removesuffix(f":{version}") if version else arn
        for key in (arn, unversioned, name_and_version, name, "*"):
            if key in self._endpoints:
                return self._endpoints[key]
        return None


class StateMachineTransport:
    def __init__(self, client: Client, state_machines: StateMachines) -> None:
        self._client = client
        self._state_machines = state_machines

    async def __call__(self, attempt: Attempt) -> Outcome:
        url, arn = self._state_machines.url(attempt.target), parse_arn(attempt.target)
        if url is None or arn is None:
            reason = f"there is no endpoint for {attempt.target}: give it with --state-machine NAME=URL"
            return Outcome(REFUSED, reason, NO_RESOURCE)
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "AWSStepFunctions.StartExecution",
            "Authorization": _scope(arn),
        }
        request = {"stateMachineArn": attempt.target, "name": attempt.headers["name"], "input": attempt.body}
        answer = await self._client.request("POST", url, headers, orjson.dumps(request), read=True)
        return answer if isinstance(answer, Outcome) else outcome(answer)


def outcome(answer: Answer) -> Outcome:
    """What an answer to StartExecution means."""
    if 200 <= answer.status < 300:
        return Outcome(None)
    name, message = _error(answer)
    if name == "ExecutionAlreadyExists":
        return Outcome(None)
    reason = f"HTTP {answer.status} {name} {message}".rstrip()
    if answer.status >= 500 or answer.status == 429 or name in _FOR_NOW:
        return Outcome(UNAVAILABLE, reason, _FOR_NOW.get(name, ERROR_FROM_TARGET))
    return Outcome(REFUSED, reason, _REFUSALS.get(name, ERROR_FROM_TARGET))


def _error(answer: Answer) -> tuple[str, str]:
    try:
        document = orjson.loads(answer.body)
        name = str(document["__type"]).rpartition("#")[2]
        return name, str(document.get("message") or document.get("Message") or "")
    except (ValueError, TypeError, LookupError, AttributeError):
        return "", ""


def _scope(arn: Arn) -> str:
    credential = f"{arn.account}/20000101/{arn.region}/states/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={'0' * 64}"
