"""Short forms for tests of the ledger: what was noted of a message, and how a queue is judged."""

from __future__ import annotations

from broker.ledger.queue_verdict import judge
from broker.ledger.timeline import TimeLine, show
from broker.ledger.verdict import Verdict
from broker.queues import Queue
from engine.support import Engine


def events_of(engine: Engine, message_id: str) -> list[str]:
    """The events of a message's life, in order, with those that follow from the clock."""
    line = show(engine.broker.ledger, message_id)
    return [] if line is None else [moment.event for moment in line.moments]


def life(engine: Engine, message_id: str) -> TimeLine:
    line = show(engine.broker.ledger, message_id)
    assert line is not None
    return line


def verdict(engine: Engine, queue: Queue) -> Verdict:
    return judge(engine.broker.ledger, queue.arn)


def defects(engine: Engine, queue: Queue) -> dict[str, int]:
    return {check.name: check.count for check in verdict(engine, queue).defects}
