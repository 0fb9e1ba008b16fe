"""The fault plan in force: rules in order, the first that strikes is the one.

The rule: without a plan a hook costs one look into an empty frozenset; with one, only the points at which a rule may
still strike are looked at. What reads plans (reading.py, kinds.py) is imported with the first. A rule that its seed
replays must be asked about the same occasions in the same order, so each has chance of its own, and rules behind the
one that struck are not asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from broker.clock import Clock, Timer
from broker.entropy import Entropy
from broker.faults.errors import PlanError, Seed
from broker.faults.rule import Hit, Occasion, Rule

log = logging.getLogger("sidebus.faults")

__all__ = ["Faults", "Hit", "Occasion", "PlanError"]

SEED_BITS = 32


class Faults:
    """The plan in force, if any. `points` has the points at which some rule of it may strike: empty without a plan."""

    def __init__(self, clock: Clock, entropy: Entropy | None = None) -> None:
        self._clock = clock
        self._entropy = entropy or Entropy()  # where the seeds of plans come from that have none
        self.points: frozenset[str] = frozenset()
        self.changed: list[Callable[[], None]] = []  # called when another plan is in force, or none
        self.operations: Callable[[], Mapping[str, Collection[str]]] | None = None
        """What operations each service has: whoever serves them says so. Unknown names are let pass without it."""
        self.seed: Seed | None = None  # of the plan in force
        self._profile: str | None = None
        self._rules: list[Rule] | None = None
        self._by_point: dict[str, list[Rule]] = {}
        self._timers: dict[str, Timer] = {}
        self._listeners: dict[str, list[Callable[[Hit], None]]] = {}

    # at work

    def hit(self, point: str, occasion: Occasion, *kinds: str) -> Hit | None:
        """The first rule of that point (of these kinds, if any are named) that strikes; it counts as having struck."""
        for rule in self._by_point.get(point, ()):
            if (not kinds or rule.kind.name in kinds) and rule.strikes(occasion, self._clock.now_ms()):
                if rule.is_spent:
                    self._look_where()
                return rule.hit()
        return None

    def on(self, kind: str, listener: Callable[[Hit], None]) -> None:
        """Has it called when a rule of this kind strikes because of its `at`."""
        self._listeners.setdefault(kind, []).append(listener)

    # the plan

    def load(self, plan: Mapping[str, Any], seed: Seed | None = None) -> None:
        """Puts a plan in force in place of the one that was. The seed is `seed`, or the plan's own, or is drawn.
        Raises PlanError, and then the old plan stays."""
        from broker.faults.reading import read_plan

        if seed is None:
            own = plan.get("seed") if isinstance(plan, Mapping) else None
            seed = self._draw_seed() if own is None else own
        read = read_plan(plan, self._clock.now_ms(), self._operations(), seed)
        self._drop()
        self._rules, self.seed, self._profile = read.rules, read.seed, read.profile
        for rule in read.rules:
            self._appoint(rule)
        self._look_where()
        self._tell()
        log.info("a fault plan is in force: %d rules, seed %s", len(read.rules), read.seed)

    def clear(self) -> None:
        """No plan any more. What has struck goes on as it must."""
        self._drop()
        self._look_where()
        self._tell()

    def add(self, rule: Mapping[str, Any]) -> str:
        """Adds a rule behind those in force, or begins a plan with it, and returns its name. Raises PlanError."""
        from broker.faults.reading import MAX_RULES, read_rule

        rules = self._rules or []
        if len(rules) >= MAX_RULES:
            raise PlanError(f"A plan has at most {MAX_RULES} rules: remove one first.")
        seed = self._draw_seed() if self.seed is None else self.seed
        read = read_rule(rule, {known.name for known in rules}, self._clock.now_ms(), self._operations(), seed)
        if self._rules is None:
            log.info("a fault plan is in force: seed %s", seed)
        self._rules, self.seed = [*rules, read], seed
        self._appoint(read)
        self._look_where()
        self._tell()
        return read.name

    def remove(self, name: str) -> None:
        """Takes a rule out; with the last one the plan is gone. Raises PlanError where there is none of that name."""
        rules = self._rules or []
        left = [rule for rule in rules if rule.name != name]
        if len(left) == len(rules):
            from broker.faults.reading import suggestion

            known = [rule.name for rule in rules]
            raise PlanError(f"There is no rule {name!r} in force.{suggestion(name, known)}")
        if not left:
            self.clear()
            return
        self._rules = left
        if timer := self._timers.pop(name, None):
            timer.cancel()
        self._look_where()
        self._tell()

    def show(self) -> dict[str, Any]:
        """`plan` can be loaded again as it is, and does the same; `rules` says how often each has struck."""
        if self._rules is None:
            return {"plan": None}
        now_ms = self._clock.now_ms()
        return {
            "plan": {"seed": self.seed, "rule": [dict(rule.shown) for rule in self._rules]},
            "seed": self.seed,
            **({"profile": self._profile} if self._profile else {}),
            "rules": [
                {
                    "name": rule.name,
                    "kind": rule.kind.name,
                    "matched": rule.matched,
                    "struck": rule.struck,
                    "exhausted": rule.is_exhausted(now_ms),
                }
                for rule in self._rules
            ],
        }

    def _draw_seed(self) -> int:
        return self._entropy.bits(SEED_BITS)

    def _operations(self) -> Mapping[str, Collection[str]] | None:
        return None if self.operations is None else self.operations()

    def _drop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._rules = self.seed = self._profile = None

    def _look_where(self) -> None:
        """Hooks look only where a rule may still strike."""
        self._by_point = {}
        for rule in self._rules or ():
            if rule.at_ms is None and not rule.is_spent:
                for point in rule.points:
                    self._by_point.setdefault(point, []).append(rule)
        self.points = frozenset(self._by_point)

    def _appoint(self, rule: Rule) -> None:
        if rule.at_ms is None:
            return

        def strike() -> None:
            self._timers.pop(rule.name, None)
            hit = rule.keep_appointment()
            for listener in self._listeners.get(hit.kind, ()):
                listener(hit)

        self._timers[rule.name] = self._clock.call_at(rule.at_ms, strike)

    def _tell(self) -> None:
        for changed in self.changed:
            changed()
