"""What a failed test says of its broker: how to run it again, which faults struck, and what became of its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.testing.control import Verdict
    from protocols.testing.sidebus import Sidebus

MAX_QUEUES = 5  # whose verdicts are shown
MAX_ENTRIES = 1_000  # of the ledger that are looked through for them


def account_of_failure(sidebus: Sidebus, again: str = "") -> str:
    """Never raises: the broker may be what is broken."""
    lines = [f"account {sidebus.account}, region {sidebus.region}, seed {sidebus.seed!r}, {sidebus.endpoint}"]
    if again:
        lines.append(f"the same again: {again}")
    try:
        lines += _account(sidebus)
    except Exception as error:
        lines.append(f"the broker does not tell more: {type(error).__name__}: {error}")
    return "\n".join(lines)


def _account(sidebus: Sidebus) -> list[str]:
    lines = []
    plan = sidebus.faults.show()
    if plan["plan"] is not None:
        lines.append(str(plan))
    ledger = sidebus.ledger.state()
    if ledger["enabled"]:
        queues = _queues(sidebus)
        lines += [_told(sidebus.ledger.verdict(queue=name)) for name in queues[:MAX_QUEUES]]
        lines += [f"queue {name}: see the ledger" for name in queues[MAX_QUEUES:]]
    return lines


def _told(verdict: Verdict) -> str:
    """All of it where there is a defect, else the counts and what was struck."""
    text = str(verdict)
    return text.partition("\nJudged by ")[0] if verdict.passed else text


def _queues(sidebus: Sidebus) -> list[str]:
    """Those of the test that messages came to, the first first."""
    own = f":sqs:{sidebus.region}:{sidebus.account}:"
    resources = dict.fromkeys(entry["resource"] for entry in sidebus.ledger.entries(limit=MAX_ENTRIES))
    return [arn.rpartition(":")[2] for arn in resources if own in arn]
