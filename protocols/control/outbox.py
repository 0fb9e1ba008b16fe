"""`/_sidebus/sns/outbox`: what would have gone to telephones, mailboxes and Firehose, and to those targets of rules
that nobody can call from here, for people and tests to read.

    GET    ?channel=sms&account=123456789012&region=us-east-1&after=0&limit=100    the oldest first
    DELETE ?channel=…                                                              clears what fits, or all

Channels: sms, application, email, email-json, firehose. For targets of rules: logs, firehose, ecs and all
other services. `next` is what to give as `after` for more, or null.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import orjson

from broker.clock import iso_8601_ms
from broker.delivery import Outbox
from protocols.http.message import Request

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000

Page = tuple[int, dict[str, Any]]


class OutboxPage:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def get(self, request: Request) -> Page:
        given = _parameters(request)
        try:
            after, limit = int(given.get("after", "0")), int(given.get("limit", str(DEFAULT_LIMIT)))
            if not (0 <= after < 1 << 63 and 1 <= limit <= MAX_LIMIT):
                raise ValueError
        except ValueError:
            return 400, {"error": f"after takes a number, and limit one from 1 to {MAX_LIMIT}."}
        kept = self._outbox.read(*_which(given), after, limit)
        messages = [
            {
                "id": record.id,
                "channel": record.channel,
                "account": record.account,
                "region": record.region,
                "time": iso_8601_ms(record.recorded_ms),
                "message": orjson.loads(record.document),
            }
            for record in kept
        ]
        return 200, {"messages": messages, "next": kept[-1].id if len(kept) == limit else None}

    def delete(self, request: Request) -> Page:
        return 200, {"deleted": self._outbox.clear(*_which(_parameters(request)))}


def _parameters(request: Request) -> dict[str, str]:
    query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
    return {name: values[0] for name, values in query.items()}


def _which(given: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    return given.get("channel"), given.get("account"), given.get("region")
