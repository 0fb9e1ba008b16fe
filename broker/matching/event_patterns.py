"""EventBridge's dialect: the shared grammar with EventBridge's limits and EventBridge's exception."""

from . import grammar
from .anything_but import AnythingBut
from .errors import InvalidEventPattern
from .grammar import Pattern
from .tokens import Malformed
from .wildcard import Wildcard, complexity

# EventPattern in botocore's events model: at most 4,096 characters. The quota "Event pattern size" starts at 2,048 and
# can be raised to that: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
MAX_PATTERN_CHARS = 4096
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html tells of a limit on
# wildcards without naming it. By event-ruler's count users report 9 as accepted and 12 as refused.
MAX_COMPLEXITY = 11
# Parallel $or multiply: 20 of two branches are a million rules. event-ruler has no limit; AWS's guide speaks of this.
MAX_RULES = 1000

_TOO_COMPLEX = (
    "Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences after a "
    "wildcard character"
)
_TOO_MANY_RULES = "Rule is too complex - $or must not combine to more than {} rules"


def event_pattern(
    text: str | bytes,
    max_chars: int = MAX_PATTERN_CHARS,
    max_complexity: int = MAX_COMPLEXITY,
    max_rules: int = MAX_RULES,
) -> Pattern:
    """Compile a rule's, archive's or pipe's EventPattern. Raises InvalidEventPattern, and nothing else."""
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise InvalidEventPattern(f"Invalid UTF-8 at byte {error.start}") from None
    if len(text) > max_chars:
        raise InvalidEventPattern(f"Event pattern is longer than {max_chars} characters")
    try:
        pattern = grammar.compiled(text, grammar.parse(text, max_rules, _TOO_MANY_RULES.format(max_rules)))
    except Malformed as error:
        raise InvalidEventPattern(error.reason) from None
    if any(score > max_complexity for score in complexities(pattern).values()):
        raise InvalidEventPattern(_TOO_COMPLEX)
    return pattern


def complexities(pattern: Pattern) -> dict[str, int]:
    """Each field that has wildcards, with their complexity."""
    singles: dict[str, dict[Wildcard, None]] = {}
    lists: dict[str, dict[frozenset[Wildcard], None]] = {}
    for rule in pattern.rules:
        for name, clause in rule:
            for test in clause:
                if isinstance(test, Wildcard):
                    singles.setdefault(name, {})[test] = None
                elif isinstance(test, AnythingBut):
                    denied = frozenset(d for d in test.denied if isinstance(d, Wildcard))
                    if denied:
                        lists.setdefault(name, {})[denied] = None
    return {name: complexity(singles.get(name, ()), lists.get(name, ())) for name in singles.keys() | lists.keys()}
