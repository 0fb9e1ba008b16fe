"""The pages under `/_sidebus/`: health, metrics, reset for tests, and what SNS would have sent (outbox.py).

Answers are JSON. An unknown page is a 404 that lists the known ones; a wrong method is a 405.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson

from broker import __version__
from broker.clock import SystemClock
from broker.core import Broker
from broker.errors import BrokerFailure
from broker.names import World, is_account
from protocols.control.answer import Answer, Later, Text
from protocols.control.clock import ClockPage
from protocols.control.faults import FaultsPage
from protocols.control.ledger import LedgerPage
from protocols.control.opted_out import OptedOutPage
from protocols.control.outbox import OutboxPage
from protocols.http.message import Reply, Request, Response

Page = Callable[[Request], Answer | Later]

_MESSAGE = "/_sidebus/ledger/messages/ID"


class Control:
    """A `Handler` for the control pages."""

    def __init__(self, broker: Broker, services: Sequence[str], default: World) -> None:
        self._broker = broker
        self._services = list(services)
        outbox = OutboxPage(broker.outbox)
        faults = FaultsPage(broker.faults, self._services)
        ledger = LedgerPage(broker, default)
        self._pages: dict[tuple[str, str], Page] = {
            ("GET", "/_sidebus/health"): self._health,
            ("GET", "/_sidebus/metrics"): self._metrics,
            ("POST", "/_sidebus/reset"): self._reset,
            ("GET", "/_sidebus/sns/outbox"): outbox.get,
            ("DELETE", "/_sidebus/sns/outbox"): outbox.delete,
            ("POST", "/_sidebus/sns/opted-out"): OptedOutPage(broker, default).post,
            ("GET", "/_sidebus/faults"): faults.get,
            ("PUT", "/_sidebus/faults"): faults.put,
            ("DELETE", "/_sidebus/faults"): faults.delete,
            ("POST", "/_sidebus/faults/rules"): faults.add,
            ("DELETE", "/_sidebus/faults/rules"): faults.remove,
            ("GET", "/_sidebus/faults/profiles"): faults.profiles,
            ("GET", "/_sidebus/faults/kinds"): faults.kinds,
            ("GET", "/_sidebus/ledger"): ledger.get,
            ("POST", "/_sidebus/ledger"): ledger.post,
            ("DELETE", "/_sidebus/ledger"): ledger.delete,
            ("GET", "/_sidebus/ledger/entries"): ledger.entries,
            ("GET", _MESSAGE): ledger.message,
            ("GET", "/_sidebus/ledger/verdict"): ledger.verdict,
            ("POST", "/_sidebus/ledger/effects"): ledger.effects,
        }
        if isinstance(broker.clock, SystemClock):
            clock = ClockPage(broker.clock)
            self._pages["GET", "/_sidebus/clock"] = clock.get
            self._pages["POST", "/_sidebus/clock"] = clock.post

    def __call__(self, request: Request, reply: Reply) -> None:
        path = request.target.partition(b"?")[0].decode("latin-1")
        method = "GET" if request.method == "HEAD" else request.method
        if path.startswith(_MESSAGE.removesuffix("ID")):
            path = _MESSAGE
        page = self._pages.get((method, path))
        headers = [(b"content-type", b"application/json")]
        answer: Answer | Later
        if method != "GET" and _is_foreign(request):
            answer = 403, {"error": "A page of another site may not do this."}
        elif page is None:
            allowed = [known for known, known_path in self._pages if known_path == path]
            if allowed:
                headers.append((b"allow", ", ".join(allowed).encode()))
                answer = 405, {"error": f"{path} answers {', '.join(allowed)} only."}
            else:
                known = sorted({known_path for _, known_path in self._pages})
                answer = 404, {"error": f"There is no page {path}.", "pages": known}
        else:
            try:
                answer = page(request)
            except Exception as error:
                failure = self._broker.failed(error)
                answer = 503, {"error": str(failure)}

        def finish(answer: Answer) -> None:
            status, document = answer

            def after_commit(failure: BrokerFailure | None) -> None:
                if failure is None and isinstance(document, Text):
                    reply(Response(status, [(b"content-type", document.content_type)], document.text.encode()))
                    return
                body = orjson.dumps(document if failure is None else {"error": str(failure)})
                reply(Response(status if failure is None else 503, headers, body))

            self._broker.commit.then(after_commit)

        if isinstance(answer, tuple):
            finish(answer)
        else:
            answer(finish)

    def _health(self, _request: Request) -> tuple[int, dict[str, Any]]:
        return 200, {
            "status": "ready",
            "version": __version__,
            "services": self._services,
            "store": self._broker.store.describe(),
            "limits": self._broker.limits.name,
        }

    def _metrics(self, _request: Request) -> tuple[int, dict[str, Any]]:
        """Since the start: each topic's counts under CloudWatch's names, and what its delivery status would log."""
        topics = self._broker.notifications.topics.all()
        return 200, {"sns": {t.arn: {"counts": t.counts, "delivery_status": t.feedback} for t in topics}}

    def _reset(self, request: Request) -> tuple[int, dict[str, Any]]:
        query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
        account = query.get("account", [None])[0]
        if account is not None and not is_account(account):
            return 400, {"error": f"{account} is not an account: give twelve digits, or none for all accounts."}
        self._broker.reset(account)
        return 200, {"reset": account or "all accounts"}


def _is_foreign(request: Request) -> bool:
    """Whether a browser sends it from another site: AWS's APIs are open to all origins, these pages are not."""
    origin = request.header(b"origin")
    return origin is not None and origin.partition("://")[2] != request.header(b"host")
