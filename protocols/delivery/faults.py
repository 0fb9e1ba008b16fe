"""What goes wrong with endpoints when the plan says so: unreachable, slow, answering a status.

The rule: a fault happens where a request would leave, so whatever is made of it (the outcome, the retries, the dead
letter) is what the transport makes of a real endpoint that behaves so. A rule's resource is compared with everything
that a delivery is known by: the URL that is asked, the ARN of the function, state machine or API destination, and the
subscription or rule that it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from broker.faults import Hit, Occasion
from broker.faults.rule import DELIVER
from broker.names import parse_arn
from broker.queues.faults import content
from protocols.delivery.driver import Delivering, pause, under_way

_asking_for: ContextVar[str | None] = ContextVar("asking_for", default=None)


@contextmanager
def asking_for(connection_arn: str) -> Iterator[None]:
    """What is asked in here is asked for a connection (an OAuth token), not for the delivery that waits for it."""
    token = _asking_for.set(connection_arn)
    try:
        yield
    finally:
        _asking_for.reset(token)


async def interfere(url: str) -> int | None:
    """Before a request goes out: the status that it gets for an answer instead, if any. It may take its time.

    Raises httpx.ConnectError as the client does where nobody listens.
    """
    delivering = under_way.get()
    if delivering is None:
        return None
    faults, occasion = delivering.broker.faults, _occasion(delivering, url)
    if (hit := faults.hit("delivery", occasion, "slow-endpoint")) is not None:
        _note(delivering, hit, url)
        await pause(delivering.broker.clock, hit.parameters["delay_ms"])
    hit = faults.hit("delivery", occasion, "unreachable", "endpoint-status")
    if hit is None:
        return None
    _note(delivering, hit, url)
    if hit.kind == "unreachable":
        import httpx

        raise httpx.ConnectError("All connection attempts failed")
    status: int = hit.parameters["status"]
    return status


def _note(delivering: Delivering, hit: Hit, url: str) -> None:
    broker, attempt = delivering
    detail = {"attempt": attempt.number, "url": url}
    broker.commit.run(broker.ledger.fault, hit, attempt.owner, attempt.message_id, detail)


def _occasion(delivering: Delivering, url: str) -> Occasion:
    attempt = delivering.attempt
    owner = attempt.owner.partition("#")[0]  # a rule's has the target's id behind it
    connection_arn = _asking_for.get()
    names = (url, attempt.target, owner) if connection_arn is None else (url, connection_arn)
    arn = parse_arn(owner)
    service, account = ("", "") if arn is None else (arn.service, arn.account)
    return Occasion(service, DELIVER, " ".join(dict.fromkeys(names)), account, "", lambda: message(attempt.body))


def message(body: str) -> object:
    """A delivery's message as a rule's pattern sees it: as it was published or put, where what is sent tells that."""
    document = content(body, {})["body"]
    if isinstance(document, dict):
        match document:
            case {"Records": [{"Sns": {"Message": str(text)} as notification}]}:
                return content(text, _attributes(notification))
            case {"Type": "Notification", "Message": str(text)}:
                return content(text, _attributes(document))
            case {"detail": detail, "detail-type": kind, "source": source}:
                return {"body": detail, "attributes": {"Source": source, "DetailType": kind}}
    return {"body": document, "attributes": {}}


def _attributes(notification: dict[str, Any]) -> dict[str, dict[str, str]]:
    given = notification.get("MessageAttributes") or {}
    return {name: {"DataType": one["Type"], "StringValue": one["Value"]} for name, one in given.items()}
