"""Event patterns and filter policies, many of them in one index. The grammar: PATTERNS.md.

What reads and matches patterns is imported when it is first asked for: it takes a sixth of the time of a start.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import InvalidEventPattern, InvalidFilterPolicy, InvalidPattern

if TYPE_CHECKING:
    from .event_patterns import event_pattern
    from .filter_policies import FilterPolicies, filter_policy
    from .grammar import Pattern
    from .index import Index
else:
    _HOMES = {
        "FilterPolicies": "filter_policies",
        "Index": "index",
        "Pattern": "grammar",
        "event_pattern": "event_patterns",
        "filter_policy": "filter_policies",
    }

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_HOMES[name]}")
        globals()[name] = getattr(module, name)
        return globals()[name]


__all__ = [
    "FilterPolicies",
    "Index",
    "InvalidEventPattern",
    "InvalidFilterPolicy",
    "InvalidPattern",
    "Pattern",
    "event_pattern",
    "filter_policy",
]
