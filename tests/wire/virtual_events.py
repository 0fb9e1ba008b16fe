"""EventBridge without a socket, and with a clock that stands still: requests straight to the application."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from broker.clock import ManualClock
from broker.core import Broker
from broker.entropy import Entropy
from broker.limits import RELAXED, Limits
from broker.store.sqlite import SqliteStore
from protocols.application import Application
from protocols.http.message import Request, Response

ACCOUNT = "111111111111"
START_MS = 1_700_000_000_000


class VirtualEvents:
    def __init__(self, limits: Limits = RELAXED) -> None:
        self.clock = ManualClock(START_MS)
        self._store = SqliteStore(None)
        self.broker = Broker(self._store, self.clock, Entropy(1), limits)
        self._application = Application(self.broker)

    def close(self) -> None:
        self.broker.close()
        self._store.close()

    def __call__(self, operation: str, given: dict[str, Any], account: str = ACCOUNT) -> Any:
        """What it answers, read as JSON; `__type` is an error's name."""
        (answer,) = self.together([(operation, given)], account)
        return answer

    def together(self, calls: Sequence[tuple[str, dict[str, Any]]], account: str = ACCOUNT) -> list[Any]:
        """Several operations in one turn of the event loop, and so in one transaction."""
        answers: list[Any] = []
        for operation, given in calls:
            self._send(operation, json.dumps(given).encode(), account, answers)
        self.clock.settle()
        assert len(answers) == len(calls)
        return [json.loads(answer.body) if answer.body else {} for answer in answers]

    def raw(self, operation: str, body: bytes, account: str = ACCOUNT) -> Response:
        answers: list[Any] = []
        self._send(operation, body, account, answers)
        self.clock.settle()
        (answer,) = answers
        assert isinstance(answer, Response)
        return answer

    def _send(self, operation: str, body: bytes, account: str, answers: list[Any]) -> None:
        headers = [
            (b"x-amz-target", f"AWSEvents.{operation}".encode()),
            (b"content-type", b"application/x-amz-json-1.1"),
            (
                b"authorization",
                f"AWS4-HMAC-SHA256 Credential={account}/20261121/us-east-1/events/aws4_request, "
                "SignedHeaders=host, Signature=0".encode(),
            ),
        ]
        self._application(Request("POST", b"/", headers, body), answers.append)
