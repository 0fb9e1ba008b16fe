"""Rules on a schedule: each has an appointment with the clock for the next moment it is to start at.

What a rule is given is committed together with the moment it was for, so that a process that is killed starts no rule
twice for one moment. What fell due while nothing ran is not made up for, except for the last minute's: that is a
restart, and not a night. A rate counts from when the rule was made or enabled; one that is put again unchanged goes on.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html
"""

from __future__ import annotations

from functools import partial

from broker.buses.bus import Rule
from broker.buses.dispatch import Dispatch
from broker.buses.envelope import Event
from broker.buses.registry import Registry
from broker.buses.rules import ANCHOR, SCHEDULED
from broker.clock import RESUME_MS
from broker.schedules import parse

LATE_MS = 60_000  # what is later than this is left out

SOURCE, DETAIL_TYPE = "aws.events", "Scheduled Event"


class Schedules:
    """Starts the rules of a broker that have a schedule."""

    def __init__(self, registry: Registry, dispatch: Dispatch) -> None:
        self._registry = registry
        self._dispatch = dispatch
        registry.on_rule.append(self._appoint)

    def _appoint(self, rule: Rule) -> None:
        text = rule.document.get("ScheduleExpression")
        if text is None or not rule.enabled:
            return
        now_ms = self._registry.clock.now_ms()
        # What lies ahead is from before the clock was set back: it counts as now, or the rule would wait until then.
        anchor_ms = min(rule.document[ANCHOR], now_ms)
        after_ms = max(min(rule.document.get(SCHEDULED, anchor_ms), now_ms), anchor_ms, now_ms - LATE_MS)
        due_ms = parse(text).next_ms(after_ms, anchor_ms)
        if due_ms is not None:
            job = partial(self._registry.commit.run, self._start, rule, due_ms)
            # What is overdue has failed, it may be on a full disk: not at once again.
            rule.timer = self._registry.clock.call_at(due_ms if due_ms > now_ms else now_ms + RESUME_MS, job)

    def _start(self, rule: Rule, due_ms: int) -> None:
        bus = rule.bus
        if self._registry.buses.get(bus.arn) is not bus or bus.rules.get(rule.name) is not rule:
            return
        if self._registry.clock.now_ms() - due_ms > LATE_MS:  # the machine was asleep
            self._appoint(rule)
            return
        event = Event.create(
            self._registry.entropy.uuid(), bus.world, SOURCE, DETAIL_TYPE, "{}", [rule.arn], due_ms, due_ms
        )
        self._dispatch.give(rule, event)
        rule.document = {**rule.document, SCHEDULED: due_ms}
        self._registry.save_rule(rule)
        self._appoint(rule)
