"""Delivery to HTTP and HTTPS endpoints.

What an answer means: the developer guide says that a delivery fails without an answer within 15 seconds or with a
status "outside the range of 200-4xx", and that client-side errors are not retried. So 2xx is delivered; 429, 5xx and
1xx are tried again; the other 4xx, and 3xx (a redirect leads nowhere), are not.
"""

from __future__ import annotations

from broker.delivery import Attempt, Outcome
from broker.delivery_policy import REFUSED, UNAVAILABLE
from protocols.delivery.client import Client

DELIVERED = Outcome(None)


def outcome(status: int) -> Outcome:
    """What a status means."""
    if 200 <= status < 300:
        return DELIVERED
    lasting = 300 <= status < 500 and status != 429
    return Outcome(REFUSED if lasting else UNAVAILABLE, f"HTTP {status}")


class HttpTransport:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, attempt: Attempt) -> Outcome:
        answer = await self._client.post(attempt.target, attempt.headers, attempt.body.encode())
        return answer if isinstance(answer, Outcome) else outcome(answer.status)
