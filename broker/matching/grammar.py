"""From a pattern's text to the rules it stands for: the grammar that EventBridge and SNS share (see PATTERNS.md).

It follows event-ruler's JsonRuleCompiler step for step, so that the first complaint is the same and stands at the same
column. What a `$or` that is none means is also its way: if the pattern cannot be read with `$or` as an operator, it is
read again with `$or` as the name of a field, and only if that fails too is it refused (with the first complaint).
"""

from dataclasses import dataclass
from typing import NamedTuple

from . import anything_but, cidr, exact, exists, ignore_case, numeric, prefix, suffix, wildcard
from .exact import Exact, Literal
from .field import Clause, Test
from .tokens import Malformed, Tokens

OR = "$or"
MAX_FIELDS = 256  # event-ruler: GenericMachine.MAXIMUM_RULE_SIZE

# Words that no field inside $or may be named. event-ruler: Constants.RESERVED_FIELD_NAMES_IN_OR_RELATIONSHIP
_RESERVED = frozenset(
    [
        *("exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr"),
        *("=", "<", "<=", ">", ">="),
        *("regex", "not-wildcard", "not-equals-ignore-case", "ip-address-in-range", "ip-address-not-in-range"),
        *("date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"),
    ]
)

_OPERATORS = {
    module.KEYWORD: module.parse
    for module in (anything_but, cidr, exact, exists, ignore_case, numeric, prefix, suffix, wildcard)
}
_ONE_KEY = "Only one key allowed in match expression"
_TOO_MANY = {
    anything_but.KEYWORD: "Too many elements in numeric expression",  # event-ruler's words, for both
    numeric.KEYWORD: "Too many elements in numeric expression",
}

Rule = tuple[tuple[str, Clause], ...]  # by name, in the order of UTF-16 as Java sorts


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: it matches what one of its rules matches. A rule without clauses matches everything."""

    text: str
    rules: tuple[Rule, ...]


class Leaf(NamedTuple):
    """A clause as it was written: with how many members, at what depth (1 is the pattern's own level)."""

    clause: Clause
    values: int
    level: int


Leaves = dict[str, Leaf]  # a rule, by field


def parse(text: str, max_rules: int, too_many: str) -> list[Leaves]:
    """Raises Malformed. More rules than `max_rules`, which `$or` multiplies to, are refused with `too_many`."""
    try:
        return _Compiler(text, max_rules, too_many, with_or=True).compile()
    except Malformed:
        if f'"{OR}"' not in text:
            raise
        try:
            return _Compiler(text, max_rules, too_many, with_or=False).compile()
        except Malformed:
            pass
        raise


def compiled(text: str, rules: list[Leaves]) -> Pattern:
    ordered = [
        tuple((name, leaf.clause) for name, leaf in sorted(rule.items(), key=lambda item: _utf16(item[0])))
        for rule in rules
    ]
    return Pattern(text, tuple(dict.fromkeys(ordered)))


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


class _Compiler:
    def __init__(self, text: str, max_rules: int, too_many: str, with_or: bool) -> None:
        self._tokens = Tokens(text)
        self._max_rules = max_rules
        self._too_many = too_many
        self._with_or = with_or

    def compile(self) -> list[Leaves]:
        """What follows the pattern's last brace is not read; event-ruler does not either."""
        if self._tokens.next() != "{":
            self._tokens.fail("Filter is not an object")
        rules: list[Leaves] = []
        self._object(rules, "", 1, in_or=False)
        for rule in rules:
            if len(rule) > MAX_FIELDS:
                raise Malformed(f"Size of rule exceeds max value of {MAX_FIELDS}")
        return rules

    def _object(self, rules: list[Leaves], path: str, level: int, in_or: bool) -> None:
        tokens = self._tokens
        empty = True
        while tokens.next() != "}":
            empty = False
            name = tokens.text
            if name == OR and self._with_or:
                self._or(rules, path, level)
                continue
            if in_or and name in _RESERVED:
                tokens.fail(f"{name} is Ruler reserved fieldName which cannot be used inside {OR}.")
            full = f"{path}.{name}" if path else name  # so {"": {"a": …}} is about a field "a": event-ruler's way
            kind = tokens.next()
            if kind == "{":
                self._object(rules, full, level + 1, in_or)
            elif kind == "[":
                leaf = self._leaf(level)
                if not rules:
                    rules.append({})
                for rule in rules:
                    rule[full] = leaf  # a repeated name: the last one counts
            else:
                tokens.fail(f'"{name}" must be an object or an array')
        if empty:
            tokens.fail("Empty objects are not allowed")

    def _or(self, rules: list[Leaves], path: str, level: int) -> None:
        tokens = self._tokens
        before = [dict(rule) for rule in rules] or [{}]
        rules.clear()
        if tokens.next() != "[":
            tokens.fail(f"It must be an Array followed with {OR}.")
        branches = 0
        while (kind := tokens.next()) != "]":
            branches += 1
            if kind != "{":
                tokens.fail(f"Only JSON object is allowed in array of {OR} relationship.")
            branch = [dict(rule) for rule in before]
            self._object(branch, path, level, in_or=True)
            rules.extend(branch)
            if len(rules) > self._max_rules:
                raise Malformed(self._too_many)
        if branches < 2:
            tokens.fail(f"There must have at least 2 Objects in {OR} relationship.")

    def _leaf(self, level: int) -> Leaf:
        tokens = self._tokens
        tests: list[Test] = []
        while (kind := tokens.next()) != "]":
            if kind == "{":
                tests.append(self._expression())
            elif kind == "string":
                tests.append(cidr.single(tokens.text) or Exact(tokens.text))
            elif kind == "number":
                tests.append(numeric.test_of(tokens.text))
            elif kind in ("true", "false"):
                tests.append(Literal(kind == "true"))
            elif kind == "null":
                tests.append(Literal(None))
            else:
                tokens.fail("Match value must be String, number, true, false, or null")
        if not tests:
            tokens.fail("Empty arrays are not allowed")
        return Leaf(frozenset(tests), len(tests), level)

    def _expression(self) -> Test:
        tokens = self._tokens
        if tokens.next() != "name":
            tokens.fail("Match expression name not found")
        keyword = tokens.text
        operator = _OPERATORS.get(keyword)
        if operator is None:
            tokens.fail(f"Unrecognized match type {keyword}")
        test: Test = operator(tokens)
        if tokens.next() != "}":
            tokens.fail(_TOO_MANY.get(keyword, _ONE_KEY))
        return test
