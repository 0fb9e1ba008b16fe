"""Delivery to Lambda functions, through the Invoke API of whatever endpoints are configured.

SNS and EventBridge invoke asynchronously: Lambda queues the event and retries. The endpoints people run here (the
runtime interface emulator, `sam local start-lambda`) have no such queue, so this broker plays it: it invokes
synchronously, which tells what came of it, and the delivery's policy says when the event is run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from broker.delivery import Attempt, Outcome
from broker.delivery_policy import FUNCTION_ERROR, REFUSED, THROTTLED
from broker.event_dead_letters import ERROR_FROM_TARGET, NO_PERMISSIONS, NO_RESOURCE, THROTTLING
from broker.names import parse_arn
from protocols.delivery.client import Client

_CODES = {403: NO_PERMISSIONS, 404: NO_RESOURCE, 429: THROTTLING}
_INVOKE_PATH = "/2015-03-31/functions/{}/invocations"


class Functions:
    """Where functions are found: `endpoints` is URL by function name or ARN.

    A URL with a path of its own is used as it is: the runtime interface emulator knows its one function by the name
    `function` only.
    """

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self._endpoints = endpoints

    def url(self, arn: str) -> str | None:
        """The URL to post an event to, or None for a function that was not configured."""
        parsed = parse_arn(arn)
        kind, _, name_and_qualifier = (parsed.resource if parsed else "").partition(":")
        if kind != "function":
            return None
        name, _, qualifier = name_and_qualifier.partition(":")
        unqualified = arn.removesuffix(f":{qualifier}") if qualifier else arn
        for key in (arn, unqualified, name_and_qualifier, name):
            endpoint = self._endpoints.get(key)
            if endpoint is not None:
                break
        else:
            return None
        if urlsplit(endpoint).path.strip("/"):
            return endpoint
        url = endpoint.rstrip("/") + _INVOKE_PATH.format(quote(name, safe=""))
        return f"{url}?Qualifier={quote(qualifier, safe='')}" if qualifier else url


class LambdaTransport:
    def __init__(self, client: Client, functions: Functions) -> None:
        self._client = client
        self._functions = functions

    async def __call__(self, attempt: Attempt) -> Outcome:
        url = self._functions.url(attempt.target)
        if url is None:
            return Outcome(
                REFUSED, f"there is no endpoint for {attempt.target}: give it with --function NAME=URL", NO_RESOURCE
            )
        headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": "RequestResponse", **attempt.headers}
        answer = await self._client.post(url, headers, attempt.body.encode())
        if isinstance(answer, Outcome):
            return answer
        error = answer.headers.get("x-amz-function-error")
        if error:
            return Outcome(FUNCTION_ERROR, f"function error: {error}", ERROR_FROM_TARGET)
        if 200 <= answer.status < 300:
            return Outcome(None)
        kind = THROTTLED if answer.status == 429 or answer.status >= 500 else REFUSED
        return Outcome(kind, f"HTTP {answer.status}", _CODES.get(answer.status, ERROR_FROM_TARGET))
