"""Delivery to API destinations: the event as a request of the endpoint's own kind, with what its connection adds.

Guide, "API destinations as targets in Amazon EventBridge". 401, 407, 409, 429 and 5xx are tried again; other answers
but 2xx are not. `Retry-After` is heeded where it asks for more patience than the retry policy has, and ends it all
where it is negative. A 401 or 407 also says that the connection's credentials are no good: an OAuth token is asked for
anew at the next attempt, other credentials make the connection DEAUTHORIZED.

The rule: endpoint and credentials are looked up at each attempt, and kept nowhere.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from broker.buses.api_destinations import ApiDestinations
from broker.buses.connections import API_KEY, AUTHORIZING, BASIC, OAUTH, USABLE, Connections, Credentials
from broker.clock import Clock
from broker.commit import GroupCommit
from broker.delivery import Attempt, Outcome
from broker.delivery_policy import REFUSED, UNAVAILABLE
from broker.event_dead_letters import ERROR_FROM_TARGET, NO_PERMISSIONS, NO_RESOURCE, THROTTLING
from protocols.delivery.client import Answer, Client
from protocols.delivery.http_parameters import (
    headers_of,
    pairs,
    with_body_parameters,
    with_path_values,
    with_query,
    without,
)
from protocols.delivery.oauth import USER_AGENT, Tokens

CONTENT_TYPE = "application/json; charset=utf-8"
RETRIED = frozenset({401, 407, 409, 429})

# Nobody else's to set: what EventBridge sends itself, and what belongs to the connection that carries the request.
_OWN = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "max-forwards",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
    }
)
_FIXED = (
    ("User-Agent", USER_AGENT),
    ("Range", "bytes=0-1048575"),
    ("Accept-Encoding", "gzip,deflate"),
    ("Connection", "close"),
)


class ApiDestinationTransport:
    def __init__(
        self,
        client: Client,
        tokens: Tokens,
        clock: Clock,
        commit: GroupCommit,
        connections: Connections,
        api_destinations: ApiDestinations,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._clock = clock
        self._commit = commit
        self._connections = connections
        self._api_destinations = api_destinations

    async def __call__(self, attempt: Attempt) -> Outcome:
        invocation = self._api_destinations.invocation(attempt.target)
        if invocation is None:
            return Outcome(REFUSED, "the API destination does not exist", NO_RESOURCE)
        credentials = self._connections.credentials(invocation.connection_arn)
        if credentials is None:
            return Outcome(REFUSED, "the API destination's connection does not exist", NO_RESOURCE)
        if credentials.state not in USABLE and credentials.state != AUTHORIZING:
            reason = f"the connection is {credentials.state}: {credentials.state_reason}".rstrip(": ")
            return Outcome(UNAVAILABLE, reason, NO_PERMISSIONS)
        authorization = await self._authorization(credentials)
        if isinstance(authorization, Outcome):
            return authorization

        added = credentials.parameters.get("InvocationHttpParameters", {})
        url = with_query(
            with_path_values(invocation.endpoint, attempt.headers["PathParameterValues"]),
            attempt.headers["QueryStringParameters"].items(),
            pairs(added, "QueryStringParameters"),
        )
        given = headers_of(
            [("Content-Type", CONTENT_TYPE)],
            attempt.headers["HeaderParameters"].items(),
            pairs(added, "HeaderParameters"),
            [authorization],
        )
        body = with_body_parameters(attempt.body, pairs(added, "BodyParameters"))
        headers = headers_of(without(given, _OWN).items(), _FIXED)
        answer = await self._client.request(invocation.method, url, headers, body.encode())
        if isinstance(answer, Outcome):  # an address that leads nowhere is not tried again
            return answer._replace(kind=REFUSED) if answer.code == NO_RESOURCE else answer
        if answer.status in (401, 407):
            self._refused(credentials, authorization[1].removeprefix("Bearer "), answer.status)
        return outcome(answer, self._clock.now_ms())

    async def _authorization(self, credentials: Credentials) -> tuple[str, str] | Outcome:
        """The header that authorizes."""
        if credentials.authorization_type == BASIC:
            basic = credentials.parameters["BasicAuthParameters"]
            both = f"{basic['Username']}:{basic['Password']}".encode()
            return "Authorization", f"Basic {b64encode(both).decode()}"
        if credentials.authorization_type == API_KEY:
            key = credentials.parameters["ApiKeyAuthParameters"]
            return key["ApiKeyName"], key["ApiKeyValue"]
        token = await self._tokens.get(credentials)
        if isinstance(token, Outcome):
            if token.kind == REFUSED:
                self._commit.run(self._connections.refused, credentials, token.reason)
            return token._replace(kind=UNAVAILABLE)
        return "Authorization", f"Bearer {token}"

    def _refused(self, credentials: Credentials, token: str, status: int) -> None:
        if credentials.authorization_type == OAUTH:
            self._tokens.forget(credentials.arn, token)
        else:
            self._commit.run(self._connections.refused, credentials, f"the endpoint answered HTTP {status}")


def outcome(answer: Answer, now_ms: int) -> Outcome:
    """What an answer means."""
    status = answer.status
    if 200 <= status < 300:
        return Outcome(None)
    retry_after_ms = _retry_after_ms(answer.headers.get, now_ms)
    lasting = (status < 500 and status not in RETRIED) or retry_after_ms < 0
    code = THROTTLING if status == 429 else ERROR_FROM_TARGET
    return Outcome(REFUSED if lasting else UNAVAILABLE, f"HTTP {status}", code, max(retry_after_ms, 0))


def _retry_after_ms(header: Callable[[str, str], str], now_ms: int) -> int:
    """Of a number of seconds, or of a date; 0 where there is nothing of sense."""
    text = header("retry-after", "").strip()
    try:
        return int(text) * 1000
    except ValueError:
        pass
    try:
        return max(round(parsedate_to_datetime(text).timestamp() * 1000) - now_ms, 0)
    except ValueError:
        return 0
