"""Who a topic's messages are for: subscriptions without a filter policy, and those whose policy matches.

The matching engine is imported with the first filter policy: it takes a sixth of the time of a start.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from broker.errors import InvalidParameterException

if TYPE_CHECKING:
    from broker.matching import FilterPolicies, Pattern
    from broker.matching.filter_policies import Scope

K = TypeVar("K", bound=Hashable)

ATTRIBUTES, BODY = "MessageAttributes", "MessageBody"


def compiled(text: str, scope: str) -> Pattern:
    """Raises InvalidParameterException with AWS's complaint. `scope` is one of the two above."""
    from broker.matching import InvalidFilterPolicy, filter_policy

    try:
        return filter_policy(text, cast("Scope", scope))
    except InvalidFilterPolicy as error:
        raise InvalidParameterException(str(error)) from None


class Filters(Generic[K]):
    """The keys of all that get a topic's messages."""

    __slots__ = ("_policies", "unfiltered")

    def __init__(self) -> None:
        self.unfiltered: dict[K, None] = {}
        self._policies: FilterPolicies[K] | None = None

    def __len__(self) -> int:
        return len(self.unfiltered) + (len(self._policies) if self._policies else 0)

    def add(self, key: K, pattern: Pattern | None, scope: str = ATTRIBUTES) -> None:
        """A key that is there already is as if it came anew."""
        self.remove(key)
        if pattern is None:
            self.unfiltered[key] = None
        else:
            if self._policies is None:
                from broker.matching import FilterPolicies

                self._policies = FilterPolicies()
            self._policies.add(key, pattern, cast("Scope", scope))

    def remove(self, key: K) -> None:
        """A key that is not there is fine."""
        self.unfiltered.pop(key, None)
        if self._policies and key in self._policies:
            self._policies.remove(key)

    def match(self, attributes: Mapping[str, Mapping[str, Any]], body: str) -> set[K]:
        """Those whose policy the message matches."""
        return self._policies.match(attributes, body) if self._policies else set()
