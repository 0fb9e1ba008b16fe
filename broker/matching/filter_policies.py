"""SNS's dialect: filter policies on a message's attributes or on its body.

The grammar is EventBridge's; limits, `exists: true` and what counts as a value are SNS's own:
https://docs.aws.amazon.com/sns/latest/dg/subscription-filter-policy-constraints.html
"""

import json
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar
from typing import Literal as OneOf

from . import grammar
from .anything_but import AnythingBut
from .errors import InvalidFilterPolicy
from .exact import Exact, Literal
from .exists import Exists
from .field import Clause
from .grammar import Leaves, Pattern
from .index import Index
from .numeric import number
from .tokens import Malformed, Tokens

K = TypeVar("K", bound=Hashable)

Scope = OneOf["MessageAttributes", "MessageBody"]

MAX_POLICY_BYTES = 256 * 1024
MAX_COMBINATIONS = 150
MAX_KEYS = 5

_TOO_COMPLEX = "Filter policy is too complex"
_TOO_MANY_KEYS = f"A filter policy can have a maximum of {MAX_KEYS} attribute names."  # AWS CDK's words for it
_NESTED = "Filter policy scope MessageAttributes does not support nested filter policy"

# "The key must have a non-null and non-empty value": https://docs.aws.amazon.com/sns/latest/dg/attribute-key-matching.html
_HAS_VALUE = AnythingBut(frozenset({Literal(None), Exact("")}))


def filter_policy(text: str | bytes, scope: Scope = "MessageAttributes") -> Pattern:
    """Compile a FilterPolicy. `{}` is no policy: it matches every message. Raises InvalidFilterPolicy, nothing else."""
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise InvalidFilterPolicy(f"Invalid UTF-8 at byte {error.start}") from None
    if len(text.encode("utf-8", "surrogatepass")) > MAX_POLICY_BYTES:
        raise InvalidFilterPolicy(f"Filter policy is larger than {MAX_POLICY_BYTES} bytes")
    if _is_empty(text):
        return Pattern(text, ((),))
    try:
        rules = grammar.parse(text, MAX_COMBINATIONS, _TOO_COMPLEX)
    except Malformed as error:
        raise InvalidFilterPolicy(error.reason) from None
    leaves = [leaf for rule in rules for leaf in rule.values()]
    if scope == "MessageAttributes" and any(leaf.level > 1 for leaf in leaves):
        raise InvalidFilterPolicy(_NESTED)
    if len({name for rule in rules for name in rule}) > MAX_KEYS:  # of nested keys only the leaves count
        raise InvalidFilterPolicy(_TOO_MANY_KEYS)
    if combinations(rules) > MAX_COMBINATIONS:
        raise InvalidFilterPolicy(_TOO_COMPLEX)
    for rule in rules:
        for name, leaf in rule.items():
            rule[name] = leaf._replace(clause=_with_values(leaf.clause))
    return grammar.compiled(text, rules)


def combinations(rules: list[Leaves]) -> int:
    """ "The product of the number of values in each array and the level of nesting of its key"; branches of $or add."""
    total = 0
    for rule in rules:
        product = 1
        for leaf in rule.values():
            product *= leaf.values * leaf.level
        total += product
    return total


def _is_empty(text: str) -> bool:
    try:
        tokens = Tokens(text)
        return tokens.next() == "{" and tokens.next() == "}"
    except Malformed:
        return False


def _with_values(clause: Clause) -> Clause:
    return clause - {Exists()} | {_HAS_VALUE} if Exists() in clause else clause


def attribute_fields(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Message attributes (`{"DataType": …, "StringValue": …}` by name) as fields of an event.

    Strings, numbers and arrays of them; Binary is ignored, and so is what its type does not fit. The guide demands that
    a policy escape quotes and backslashes twice: SNS compares a String with its value still escaped.
    """
    fields: dict[str, Any] = {}
    for name, attribute in attributes.items():
        kind, _, label = attribute["DataType"].partition(".")
        text = attribute.get("StringValue")
        if text is None:
            continue
        if label == "Array":
            try:
                values = json.loads(text, parse_int=number, parse_float=number)
            except (ValueError, RecursionError):
                continue
            if isinstance(values, list):
                fields[name] = values
        elif kind == "String":
            fields[name] = text.replace("\\", "\\\\").replace('"', '\\"')
        elif kind == "Number":
            try:
                fields[name] = number(text)
            except ValueError:
                continue
    return fields


class FilterPolicies(Generic[K]):
    """The filter policies of one topic's subscriptions; `match` gives the subscriptions a message is for."""

    def __init__(self) -> None:
        self._scopes: dict[K, Scope] = {}
        self._indexes: dict[Scope, Index[K]] = {"MessageAttributes": Index(), "MessageBody": Index()}
        self._everything: set[K] = set()

    def add(self, key: K, pattern: Pattern, scope: Scope) -> None:
        """A key that is there already gets the new policy in place of its old one."""
        if key in self._scopes:
            self.remove(key)
        self._scopes[key] = scope
        if () in pattern.rules:
            self._everything.add(key)
        else:
            self._indexes[scope].add(key, pattern)

    def remove(self, key: K) -> None:
        """Raises KeyError for a key that is not there."""
        scope = self._scopes.pop(key)
        if key in self._everything:
            self._everything.discard(key)
        else:
            self._indexes[scope].remove(key)

    def match(self, attributes: Mapping[str, Mapping[str, Any]], body: str | bytes) -> set[K]:
        """A body that is not a JSON object matches no policy on it; nor does a message without any attribute one on
        attributes, be it of `exists: false` alone.
        """
        matched = set(self._everything)
        if self._indexes["MessageAttributes"]:
            fields = attribute_fields(attributes)
            if fields:
                matched |= self._indexes["MessageAttributes"].match(fields)
        if self._indexes["MessageBody"]:
            with suppress(ValueError):
                matched |= self._indexes["MessageBody"].match(body)
        return matched

    def __contains__(self, key: K) -> bool:
        return key in self._scopes

    def __len__(self) -> int:
        return len(self._scopes)
