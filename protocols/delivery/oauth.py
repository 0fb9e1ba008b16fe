"""OAuth client credentials: asks authorization endpoints for access tokens, and keeps them while they last.

Guide, "Authorization methods for connections": a token is asked for anew when less than 60 seconds are left of it, and
after a 401 or 407. Tokens are kept in RAM only.

Ugly: AWS does not say how it sends the client's id and secret. Here they go as RFC 6749, section 2.3.1, has them in a
request's body (by GET in the query string), with a grant_type unless the connection brings its own.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

import anyio
import orjson

from broker.buses.connections import Connections, Credentials
from broker.clock import Clock
from broker.delivery import Attempt, Outcome
from broker.delivery_policy import REFUSED, UNAVAILABLE
from broker.event_dead_letters import NO_PERMISSIONS, NO_RESOURCE
from protocols.delivery.client import Answer, Client
from protocols.delivery.faults import asking_for
from protocols.delivery.http_parameters import headers_of, pairs, with_query

USER_AGENT = "Amazon/EventBridge/ApiDestinations"
REFRESH_MS = 60_000

_FORM, _JSON = "application/x-www-form-urlencoded; charset=utf-8", "application/json"


class _Token(NamedTuple):
    text: str
    revision: int  # of the connection it was given for
    refresh_ms: int | None  # None: when somebody refuses it


class Tokens:
    """Access tokens by connection. One request at a time for each."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._locks: dict[str, anyio.Lock] = {}

    async def get(self, credentials: Credentials) -> str | Outcome:
        """A token, or why there is none: REFUSED where the endpoint does not know these credentials."""
        async with self._locks.setdefault(credentials.arn, anyio.Lock()):
            token = self._tokens.get(credentials.arn)
            if token is not None and token.revision == credentials.revision:
                if token.refresh_ms is None or self._clock.now_ms() < token.refresh_ms:
                    return token.text
                del self._tokens[credentials.arn]
            with asking_for(credentials.arn):
                answer = await self._ask(credentials)
            return answer if isinstance(answer, Outcome) else self._read(credentials, answer)

    def forget(self, arn: str, text: str | None = None) -> None:
        """Somebody refused this token; None stands for any."""
        token = self._tokens.get(arn)
        if token is not None and text in (None, token.text):
            del self._tokens[arn]

    async def _ask(self, credentials: Credentials) -> Answer | Outcome:
        oauth = credentials.parameters["OAuthParameters"]
        extra = oauth.get("OAuthHttpParameters", {})
        fields = {
            "grant_type": "client_credentials",
            "client_id": oauth["ClientParameters"]["ClientID"],
            "client_secret": oauth["ClientParameters"]["ClientSecret"],
            **dict(pairs(extra, "BodyParameters")),
        }
        url = with_query(oauth["AuthorizationEndpoint"], pairs(extra, "QueryStringParameters"))
        headers = headers_of([("Content-Type", _FORM)], pairs(extra, "HeaderParameters"), [("User-Agent", USER_AGENT)])
        method = oauth["HttpMethod"]
        if method == "GET":
            return await self._client.request(method, with_query(url, fields.items()), headers, b"", read=True)
        kind = next(value for name, value in headers.items() if name.lower() == "content-type")
        body = orjson.dumps(fields) if kind.lower().startswith(_JSON) else urlencode(fields).encode()
        return await self._client.request(method, url, headers, body, read=True)

    def _read(self, credentials: Credentials, answer: Answer) -> str | Outcome:
        if answer.status == 429 or answer.status >= 500:
            return Outcome(UNAVAILABLE, f"the authorization endpoint answered HTTP {answer.status}", NO_PERMISSIONS)
        if not 200 <= answer.status < 300:
            return Outcome(REFUSED, f"the authorization endpoint answered HTTP {answer.status}", NO_PERMISSIONS)
        try:
            document = orjson.loads(answer.body)
            text, lasts_s = document["access_token"], document.get("expires_in")
            refresh_ms = None if lasts_s is None else self._clock.now_ms() + int(lasts_s) * 1000 - REFRESH_MS
        except (ValueError, TypeError, LookupError, AttributeError):
            return Outcome(REFUSED, "the authorization endpoint's answer has no access_token", NO_PERMISSIONS)
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            return Outcome(REFUSED, "the authorization endpoint's access_token is none", NO_PERMISSIONS)
        self._tokens[credentials.arn] = _Token(text, credentials.revision, refresh_ms)
        return text


class AuthorizationTransport:
    """Authorizes a connection that was made or changed: its ARN is the attempt's target."""

    def __init__(self, tokens: Tokens, connections: Connections) -> None:
        self._tokens = tokens
        self._connections = connections

    async def __call__(self, attempt: Attempt) -> Outcome:
        credentials = self._connections.credentials(attempt.target)
        if credentials is None or "OAuthParameters" not in credentials.parameters:
            return Outcome(REFUSED, "there is nothing to authorize", NO_RESOURCE)
        token = await self._tokens.get(credentials)
        return token if isinstance(token, Outcome) else Outcome(None)
