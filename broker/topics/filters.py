"""Who a topic's messages are for: subscriptions without a filter policy, and those whose policy matches."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar, cast

from broker.errors import InvalidParameterException
from broker.matching import FilterPolicies, InvalidFilterPolicy, Pattern, filter_policy
from broker.matching.filter_policy import Scope

K = TypeVar("K", bound=Hashable)

ATTRIBUTES, BODY = "MessageAttributes", "MessageBody"


def compiled(text: str, scope: str) -> Pattern:
    """Raises InvalidParameterException with AWS's complaint. `scope` is one of the two above."""
    try:
        return filter_policy(text, cast(Scope, scope))
    except InvalidFilterPolicy as error:
        raise InvalidParameterException(str(error)) from None


class Filters(Generic[K]):
    """The keys of all that get a topic's messages."""

    __slots__ = ("_policies", "unfiltered")

    def __init__(self) -> None:
        self.unfiltered: dict[K, None] = {}
        self._policies: FilterPolicies[K] = FilterPolicies()

    def __len__(self) -> int:
        return len(self.unfiltered) + len(self._policies)

    def add(self, key: K, pattern: Pattern | None, scope: str = ATTRIBUTES) -> None:
        """A key that is there already is as if it came anew."""
        self.remove(key)
        if pattern is None:
            self.unfiltered[key] = None
        else:
            self._policies.add(key, pattern, cast(Scope, scope))

    def remove(self, key: K) -> None:
        """A key that is not there is fine."""
        self.unfiltered.pop(key, None)
        if key in self._policies:
            self._policies.remove(key)

    def match(self, attributes: Mapping[str, Mapping[str, Any]], body: str) -> set[K]:
        """Those whose policy the message matches."""
        return self._policies.match(attributes, body)
