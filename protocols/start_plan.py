"""What a broker begins with: the file of `sidebus serve --plan FILE`.

    seed = 42                       # of the broker and of the faults
    profile = "aws-like"            # faults: a profile, rules, or both
    [[rule]]
    fault = "throttle"

    [clock]
    at = "2026-12-01T00:00:00Z"     # also: frozen = true, speed = 60, dates = "machine"

    [ledger]
    enabled = true                  # also: capacity = 1000000

A file without [clock] and [ledger] is what `sidebus faults load` takes, so one file serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import anyio

from broker.clock import FASTEST, ClockRefusal, SystemClock, parse_iso_8601
from broker.core import Broker
from broker.faults import PlanError
from broker.faults.errors import Seed
from broker.faults.reading import check_seed, suggestion
from broker.ledger.ledger import is_capacity
from protocols.plan_file import read_plan_file

_SECTIONS = ("seed", "profile", "rule", "rules", "clock", "ledger")
_CLOCK = ("at", "frozen", "speed", "dates")
_LEDGER = ("enabled", "capacity")


@dataclass(frozen=True, slots=True)
class ClockStart:
    at_ms: int | None = None
    frozen: bool = False
    speed: float = 1.0
    dates: str = "broker"  # or "machine"


@dataclass(frozen=True, slots=True)
class LedgerStart:
    enabled: bool = True
    capacity: int | None = None  # None: the ledger's own


@dataclass(frozen=True, slots=True)
class StartPlan:
    """The sections of the file; None for what it does not say. `seed` is the broker's too."""

    seed: Seed | None = None
    faults: Mapping[str, Any] | None = None
    clock: ClockStart | None = None
    ledger: LedgerStart | None = None

    async def apply(self, broker: Broker, clock: SystemClock, seed: Seed | None = None) -> None:
        """Puts it in force; `seed` goes before the plan's own. The clock must be running and the application made,
        which tells the faults what operations there are. Raises PlanError."""
        if self.clock is not None:
            if self.clock.frozen:  # before it goes there, so that it stands at that very moment
                clock.freeze()
            if self.clock.at_ms is not None:
                arrived = anyio.Event()
                try:
                    clock.travel(self.clock.at_ms, arrived.set)
                except ClockRefusal as refusal:
                    raise PlanError(f"[clock] at: {refusal}") from None
                await arrived.wait()
            if self.clock.speed != 1.0:
                clock.set_speed(self.clock.speed)
            clock.set_dates(self.clock.dates)
        if self.ledger is not None and self.ledger.enabled:
            broker.ledger.enable(self.ledger.capacity)
        if self.faults is not None:
            broker.faults.load(self.faults, self.seed if seed is None else seed)

    def with_ledger(self) -> StartPlan:
        """The same with the ledger on."""
        return replace(self, ledger=LedgerStart(True, self.ledger.capacity if self.ledger else None))


def read_start_plan(path: str | PathLike[str]) -> StartPlan:
    """Raises PlanError or PlanFileError, each with a sentence. The rules are checked when it is applied."""
    return start_plan(read_plan_file(path))


def start_plan(document: Mapping[str, Any]) -> StartPlan:
    """Of what would be in the file. Raises PlanError."""
    _known(document, _SECTIONS, "A plan")
    faults = {key: document[key] for key in ("profile", "rule", "rules") if key in document}
    seed = document.get("seed")
    return StartPlan(
        None if seed is None else check_seed(seed),
        faults or None,
        _clock(document["clock"]) if "clock" in document else None,
        _ledger(document["ledger"]) if "ledger" in document else None,
    )


def _clock(given: Any) -> ClockStart:
    _known(given, _CLOCK, "[clock]")
    at_ms = None
    if "at" in given:
        at_ms = parse_iso_8601(given["at"]) if isinstance(given["at"], str) else None
        if at_ms is None or at_ms < 0:
            raise PlanError(f"[clock] at takes a moment such as 2026-12-01T00:00:00Z, not {given['at']!r}.")
    frozen, speed, dates = given.get("frozen", False), given.get("speed", 1.0), given.get("dates", "broker")
    if not isinstance(frozen, bool):
        raise PlanError(f"[clock] frozen takes true or false, not {frozen!r}.")
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed <= FASTEST:
        raise PlanError(f"[clock] speed takes a number above 0 and at most {FASTEST:.0f}, not {speed!r}.")
    if dates not in ("broker", "machine"):
        raise PlanError(f"[clock] dates takes broker or machine, not {dates!r}.")
    return ClockStart(at_ms, frozen, float(speed), dates)


def _ledger(given: Any) -> LedgerStart:
    _known(given, _LEDGER, "[ledger]")
    enabled, capacity = given.get("enabled", True), given.get("capacity")
    if not isinstance(enabled, bool):
        raise PlanError(f"[ledger] enabled takes true or false, not {enabled!r}.")
    if not is_capacity(capacity):
        raise PlanError(f"[ledger] capacity takes a whole number of entries, not {capacity!r}.")
    return LedgerStart(enabled, capacity)


def _known(given: Any, names: tuple[str, ...], what: str) -> None:
    if not isinstance(given, Mapping):
        raise PlanError(f"{what} is a table with {', '.join(names)}.")
    for key in given:
        if key not in names:
            raise PlanError(f"{what} has {', '.join(names)}, not {key!r}.{suggestion(key, names)}")
