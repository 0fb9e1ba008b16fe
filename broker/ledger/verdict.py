"""Verdicts: counts of what happened, and checks, each with a name, a sentence, a count and some message ids.

A verdict can be read (`text`), is a JSON document (`document`) and a JUnit test suite with a test case for each check
(`junit`): <testsuites>, <testsuite>, <testcase>, <failure>, <system-out>, as Jenkins's schema has them and GitLab,
GitHub's reporters, Azure and CircleCI read them.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Any

from broker.clock import iso_8601_ms

MAX_IDS = 20
SLOWEST = 5

EFFECTS, DELETES, READS, DELIVERIES = "effects", "deletes", "reads", "deliveries"
_JUDGED_BY = {
    EFFECTS: "Judged by the work that consumers reported (POST /_sidebus/ledger/effects).",
    DELETES: "Judged by receives and deletes: what consumers do in between, they may report, and have not "
    "(POST /_sidebus/ledger/effects).",
    DELIVERIES: "Judged by the outcome of each attempt.",
    READS: "Judged by what was read: what readers do with records, they may report, and have not "
    "(POST /_sidebus/ledger/effects).",
}
_SPANS = {"queue": "send to delete", "topic": "publish to delivery"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Check:
    """Something that must not happen. It fails with a count above zero."""

    name: str
    explanation: str
    count: int = 0
    message_ids: list[str] = field(default_factory=list)  # some of them
    named: int = 0  # so many these are

    def found(self, message_id: str, times: int = 1) -> None:
        self.count += times
        if len(self.message_ids) < MAX_IDS:
            self.message_ids.append(message_id)
            self.named += times

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "explanation": self.explanation,
            "count": self.count,
            "message_ids": self.message_ids,
        }


class Times:
    """Spans of time in ms, and whose the longest were."""

    def __init__(self) -> None:
        self._all = array("q")
        self._slowest: list[tuple[int, str]] = []

    def add(self, span_ms: int, message_id: str) -> None:
        self._all.append(span_ms)
        if len(self._slowest) < SLOWEST:
            heappush(self._slowest, (span_ms, message_id))
        elif span_ms > self._slowest[0][0]:
            heappushpop(self._slowest, (span_ms, message_id))

    def document(self) -> dict[str, Any] | None:
        """None where there are none. A percentile is the least span that so many are no longer than."""
        if not self._all:
            return None
        ordered = sorted(self._all)

        def percentile(percent: int) -> int:
            return ordered[-(-len(ordered) * percent // 100) - 1]

        slowest = [{"message_id": id, "ms": span_ms} for span_ms, id in sorted(self._slowest, reverse=True)]
        return {
            "median": percentile(50),
            "p90": percentile(90),
            "p99": percentile(99),
            "max": ordered[-1],
            "slowest": slowest,
        }


@dataclass(slots=True)
class Verdict:
    """What is said of a resource. `passed` unless a check has found something."""

    resource: str  # its ARN
    kind: str  # queue, stream, topic
    at_ms: int
    judged_by: str
    counts: Mapping[str, int]
    checks: list[Check]
    lines: list[str]  # the counts as sentences
    dead_lettered: Mapping[str, int] = field(default_factory=Counter)  # by why
    faults: Mapping[str, int] = field(default_factory=Counter)  # by kind
    times: Times | None = None  # from send to delete, or from publish to delivery
    readers: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0  # entries that are gone, the oldest

    @property
    def passed(self) -> bool:
        return not self.defects

    @property
    def defects(self) -> list[Check]:
        return [check for check in self.checks if check.count]

    @property
    def name(self) -> str:
        return self.resource.rpartition(":")[2].rpartition("/")[2]

    def document(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "resource": self.resource,
            "kind": self.kind,
            "time": iso_8601_ms(self.at_ms),
            "judged_by": self.judged_by,
            "counts": dict(self.counts),
            "defects": [check.document() for check in self.defects],
            "checks": [check.document() for check in self.checks],
            "dead_lettered": [{"why": why, "count": count} for why, count in sorted(self.dead_lettered.items())],
            "faults": dict(sorted(self.faults.items())),
            "send_to_delete_ms": None if self.times is None else self.times.document(),
            "readers": self.readers,
            "dropped": self.dropped,
            "text": str(self),
        }

    def __str__(self) -> str:
        found = len(self.defects)
        verdict = "passes" if self.passed else "1 defect" if found == 1 else f"{found} defects"
        lines = [f"{self.kind.capitalize()} {self.name}: {verdict}.", ""]
        lines += [f"  {line}" for line in self.lines]
        if self.dead_lettered:
            lines += ["", "Dead-lettered, and why:" if self.kind == "queue" else "Given up, and why:"]
            lines += [f"  {count:>9,}  {why}" for why, count in sorted(self.dead_lettered.items())]
        if self.faults:
            lines += ["", "Faults that struck:"]
            lines += [f"  {count:>9,}  {kind}" for kind, count in sorted(self.faults.items())]
        times = None if self.times is None else self.times.document()
        if times is not None:
            lines += [
                "",
                f"From {_SPANS[self.kind]}: median {_seconds(times['median'])}, 90 % within {_seconds(times['p90'])}, "
                f"99 % within {_seconds(times['p99'])}. The slowest:",
            ]
            lines += [f"  {_seconds(slow['ms']):>9}  {slow['message_id']}" for slow in times["slowest"]]
        lines += ["", _JUDGED_BY[self.judged_by]]
        if self.dropped:
            lines.append(f"The oldest {self.dropped:,} entries of the ledger are gone: what they told is not in here.")
        lines.append("")
        for check in self.checks:
            lines += _told(check)
        return "\n".join(lines) + "\n"

    def junit(self) -> str:
        """One test suite."""
        from xml.etree import ElementTree  # not at every start of the broker

        passed = [check for check in self.checks if not check.count]
        about = {
            "name": f"sidebus.{self.kind}.{self.name}",
            "tests": str(len(self.checks)),
            "failures": str(len(self.checks) - len(passed)),
            "errors": "0",
            "skipped": "0",
            "time": "0",
        }
        suites = ElementTree.Element("testsuites", {n: v for n, v in about.items() if n != "skipped"})
        suite = ElementTree.SubElement(
            suites, "testsuite", {**about, "timestamp": iso_8601_ms(self.at_ms)[:19], "hostname": "localhost"}
        )
        for check in self.checks:
            case = ElementTree.SubElement(
                suite, "testcase", {"classname": about["name"], "name": check.name, "time": "0"}
            )
            if check.count:
                failure = ElementTree.SubElement(
                    case, "failure", {"type": check.name, "message": _xml(f"{check.count} times: {check.explanation}")}
                )
                failure.text = _xml("\n".join(_told(check)))
        output = ElementTree.SubElement(suite, "system-out")
        output.text = _xml(str(self))
        ElementTree.indent(suites)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _told(check: Check) -> list[str]:
    if not check.count:
        return [f"passed  {check.name}"]
    lines = [f"FAILED  {check.name}, {check.count:,} of them", f"        {check.explanation}"]
    lines += [f"        {id}" for id in check.message_ids]
    if check.count > check.named:
        lines.append(f"        and {check.count - check.named:,} more")
    return lines


def short(by: str) -> str:
    """Of who asked, the access key and the product of the User-Agent: the whole is in the document."""
    key, _, agent = by.partition(" ")
    return f"{key} ({agent.split(' ')[0]})" if agent else key


def _seconds(ms: int) -> str:
    return f"{ms / 1000:,.3f} s"


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
