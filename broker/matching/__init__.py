"""Event patterns and filter policies, many of them in one index. The grammar: PATTERNS.md."""

from .errors import InvalidEventPattern, InvalidFilterPolicy, InvalidPattern
from .event_pattern import event_pattern
from .filter_policy import FilterPolicies, filter_policy
from .grammar import Pattern
from .index import Index

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
