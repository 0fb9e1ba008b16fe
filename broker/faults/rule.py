"""One rule of a plan at work: does it match, does it strike, how often has it.

The order, which a seed's replay depends on. A rule that is exhausted (struck `count` times) sees nothing any more. What
fits all of service, operation, account, window, resource, client and message counts as matched. A burst under way
strikes without asking further. Else only each n-th match (`every`) goes on, and of those a draw decides; the draw is
made only where `probability` is below 1. A strike begins a burst of the next n-1 matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.entropy import Entropy
from broker.faults import latency

if TYPE_CHECKING:
    from broker.faults.kinds import Kind
    from broker.matching import Index

DELIVER = "Deliver"
"""The operation of what the broker does by itself: a copy of a fan-out into a queue, a delivery to a remote end."""


class Occasion(NamedTuple):
    """Something that may go wrong, as a rule sees it."""

    service: str  # "sqs"
    operation: str  # the API's name; for what the broker does by itself "Deliver"
    resource: str  # its ARN; "" where there is none
    account: str
    client: str  # access key and User-Agent, with a space in between
    content: Callable[[], object] | None = None  # for patterns: {"body": …, "attributes": {…}}, or a list of such


class Hit(NamedTuple):
    """A rule struck."""

    rule: str  # its name
    kind: str  # of kinds.py
    parameters: Mapping[str, Any]  # checked, with their defaults; lengths of time in ms under names ending in _ms
    chance: Entropy  # the rule's own
    matches: Callable[[object], bool] = lambda _: (
        True
    )  # whether one of an occasion's messages is what the rule looks for


class Where(NamedTuple):
    """What a rule looks for; None is anything."""

    services: frozenset[str] | None = None
    operations: frozenset[str] | None = None
    accounts: frozenset[str] | None = None
    resource: Callable[[str], bool] | None = None
    client: Callable[[str], object] | None = None
    message: Index[str] | None = None
    from_ms: int | None = None
    until_ms: int | None = None

    def fits(self, occasion: Occasion, now_ms: int) -> bool:
        return (
            (self.services is None or occasion.service in self.services)
            and (self.operations is None or occasion.operation in self.operations)
            and (self.accounts is None or occasion.account in self.accounts)
            and (self.from_ms is None or now_ms >= self.from_ms)
            and (self.until_ms is None or now_ms < self.until_ms)
            and (self.resource is None or self.resource(occasion.resource))
            and (self.client is None or bool(self.client(occasion.client)))
            and (self.message is None or self._sees(occasion))
        )

    def _sees(self, occasion: Occasion) -> bool:
        content = None if occasion.content is None else occasion.content()
        return any(map(self.sees, content)) if isinstance(content, list) else self.sees(content)

    def sees(self, message: object) -> bool:
        """Whether one message, {"body": …, "attributes": {…}}, is what the pattern looks for."""
        return self.message is None or (isinstance(message, dict) and bool(self.message.match(message)))


@dataclass(slots=True)
class HowOften:
    every: int = 1
    probability: float = 1.0
    count: int | None = None
    burst: int = 1


class Rule:
    """`shown` is the rule as it can be given again."""

    __slots__ = (
        "_burst_left",
        "_parameters",
        "at_ms",
        "chance",
        "how_often",
        "kind",
        "matched",
        "name",
        "points",
        "shown",
        "struck",
        "where",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        points: tuple[str, ...],
        parameters: Mapping[str, Any],
        where: Where,
        how_often: HowOften,
        at_ms: int | None,
        shown: dict[str, Any],
        chance: Entropy,
    ) -> None:
        self.name = name
        self.kind = kind
        self.points = points
        self.where = where
        self.how_often = how_often
        self.at_ms = at_ms
        self.shown = shown
        self.chance = chance
        self.matched = self.struck = self._burst_left = 0
        self._parameters = parameters

    @property
    def is_spent(self) -> bool:
        """It has struck as often as it may."""
        return self.how_often.count is not None and self.struck >= self.how_often.count

    def is_exhausted(self, now_ms: int) -> bool:
        """Nothing more is to be expected of it."""
        return self.is_spent or (self.where.until_ms is not None and now_ms >= self.where.until_ms)

    def strikes(self, occasion: Occasion, now_ms: int) -> bool:
        """Counts the occasion if it matches, and the strike if it is one."""
        if self.is_spent or not self.where.fits(occasion, now_ms):
            return False
        self.matched += 1
        often = self.how_often
        if self._burst_left:
            self._burst_left -= 1
        elif self.matched % often.every or (often.probability < 1 and self.chance.random() >= often.probability):
            return False
        else:
            self._burst_left = often.burst - 1
        self.struck += 1
        return True

    def keep_appointment(self) -> Hit:
        """Strikes because its time has come."""
        self.matched += 1
        self.struck += 1
        return self.hit()

    def hit(self) -> Hit:
        parameters = self._parameters
        if self.kind.name == "latency":
            parameters = {**parameters, "delay_ms": latency.draw_ms(parameters, self.chance)}
        return Hit(self.name, self.kind.name, parameters, self.chance, self.where.sees)
