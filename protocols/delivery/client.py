"""The HTTP client of all remote deliveries: httpx, imported and made at the first delivery, on a thread.

The rule: a request goes out with the headers it was given and no others of the client's, to the URL it was given:
redirects are not followed (SNS does not), proxies and credentials of the environment are not used. It has no timeouts
of its own: the driver ends what takes too long.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from broker.delivery import Outcome
from broker.delivery_policy import UNAVAILABLE
from broker.event_dead_letters import CONNECTION_FAILURE, NO_RESOURCE
from protocols.delivery import faults
from protocols.delivery.driver import CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

MAX_ANSWER_BYTES = 65_536  # of a longer one nobody reads more: the connection is closed instead of used again
IDLE_S = 4.0  # shorter than servers keep an idle connection, so that none is used while it is being closed


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # whatever the case of their names
    body: bytes = b""  # where it was asked for


class Client:
    """Makes requests. Usable by one event loop at a time; `close` it there. `verify` False trusts any certificate."""

    def __init__(self, *, verify: bool = True) -> None:
        self._verify = verify
        self._lock = threading.Lock()
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer | Outcome:
        """The answer, or why there is none."""
        return await self.request("POST", url, headers, body)

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, read: bool = False
    ) -> Answer | Outcome:
        """The same by any method; with `read` the answer has the beginning of its body."""
        client = self._client
        if client is None:
            client = await anyio.to_thread.run_sync(self._make)
        import httpx

        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            request = client.build_request(method, url, headers=fields, content=body)
            if (status := await faults.interfere(url)) is not None:
                return Answer(status, httpx.Headers())
            answer = await self._send(client, request, None, read)
            challenge = answer.headers.get("www-authenticate", "")
            if answer.status == 401 and request.url.username and challenge[:7].lower() == "digest ":
                digest = httpx.DigestAuth(request.url.username, request.url.password)
                again = client.build_request(method, url, headers=fields, content=body)
                answer = await self._send(client, again, digest, read)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            code = NO_RESOURCE if _leads_nowhere(error) else CONNECTION_FAILURE
            return Outcome(UNAVAILABLE, f"{type(error).__name__}: {error}".rstrip(": "), code)
        return answer

    async def _send(
        self, client: httpx.AsyncClient, request: httpx.Request, auth: httpx.Auth | None, read: bool
    ) -> Answer:
        # Where no auth is given, httpx takes name and password from the URL, for Basic.
        response = await (
            client.send(request, stream=True) if auth is None else client.send(request, auth=auth, stream=True)
        )
        content = b""
        try:
            if read:
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MAX_ANSWER_BYTES:
                        break
            elif int(response.headers.get("content-length", MAX_ANSWER_BYTES + 1)) <= MAX_ANSWER_BYTES:
                async for _ in response.aiter_raw():
                    pass
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        return Answer(response.status_code, response.headers, content)

    def _make(self) -> httpx.AsyncClient:
        with self._lock:
            if self._client is None:
                import httpx

                client = httpx.AsyncClient(
                    verify=self._verify,
                    trust_env=False,
                    follow_redirects=False,
                    timeout=None,
                    limits=httpx.Limits(
                        max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY, keepalive_expiry=IDLE_S
                    ),
                )
                for name in ("accept", "accept-encoding", "user-agent"):
                    del client.headers[name]
                self._client = client
                return client
            return self._client

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()


def _leads_nowhere(error: BaseException | None) -> bool:
    """Whether it is not a URL, or its host is known to be none."""
    import httpx

    while error is not None:
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return True
        if isinstance(error, socket.gaierror):
            return error.errno == socket.EAI_NONAME
        error = error.__cause__ or error.__context__
    return False
