"""What a decoded input must satisfy beyond its types: required members, lengths, ranges, patterns, enumerations.

`compile_check` gives a quick yes or no for the way of every request; only after a no does `violations` walk the
input again and say where and why, in AWS's words. The two must agree: a test holds them together.

The front ends differ. Most of AWS ("coral") checks all that the model says, the enumerations too. SQS's looks only for
what is missing, takes an empty string or map for missing, and leaves what stands inside attribute maps, and every
range and name, to SQS itself: its model has no constraints anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from protocols.shapes.model import List, Map, Member, Operation, Scalar, Shape, Structure

Check = Callable[[Any], bool]

NOT_NULL = "Member must not be null"
MOST = 100  # ours: beyond that a request that is all mistakes would get an answer larger than itself


class Violation(NamedTuple):
    """`path` is as AWS writes it: entries.1.member.eventBusName; of SQS, SendMessageBatchRequestEntry.1.Id."""

    path: str
    constraint: str
    value: Any
    shape: Shape


def compile_check(operation: Operation) -> Check:
    """A test of an operation's decoded input: True if nothing is violated."""
    shape = operation.input
    if shape is None:
        return lambda value: True
    if operation.service.front_end == "sqs":
        return _sqs_check(shape, top=True)
    return _check(shape) or (lambda value: True)


def violations(operation: Operation, value: dict[str, Any]) -> list[Violation]:
    """What is wrong with a decoded input, in the order of the model; at most `MOST`."""
    if operation.input is None:
        return []
    sqs = operation.service.front_end == "sqs"
    found = _sqs_missing(operation.input, value, "", True) if sqs else _violations(operation.input, value, "")
    return list(islice(found, MOST))


# -- SQS


def _is_entries(member: Member) -> bool:
    """Batch entries: that there are none is for SQS to say (EmptyBatchRequest)."""
    return isinstance(member.shape, List) and isinstance(member.shape.member.shape, Structure)


def _sqs_check(shape: Structure, top: bool) -> Check:
    present, filled = [], []
    for name in shape.required:
        member = shape.members[name]
        if isinstance(member.shape, Map) or (
            top and isinstance(member.shape, Scalar) and member.shape.kind == "string"
        ):
            filled.append(name)
        elif not _is_entries(member):
            present.append(name)
    lists = [name for name, member in shape.members.items() if isinstance(member.shape, List)]
    entries = [
        (name, _sqs_check(member.shape.member.shape, top=False))
        for name, member in shape.members.items()
        if isinstance(member.shape, List) and isinstance(member.shape.member.shape, Structure)
    ]

    def check(value: dict[str, Any]) -> bool:
        for name in filled:
            if not value.get(name):
                return False
        for name in present:
            if name not in value:
                return False
        for name in lists:
            if name in value and None in value[name]:
                return False
        for name, test in entries:
            for item in value.get(name, ()):
                if not test(item):
                    return False
        return True

    return check


def _sqs_missing(shape: Structure, value: dict[str, Any], prefix: str, top: bool) -> Iterator[Violation]:
    for name, member in shape.members.items():
        item: Any = value.get(name)
        path = prefix + member.query_name
        if item is None or (item == {} and isinstance(member.shape, Map)) or (top and item == ""):
            if isinstance(member.shape, Map):  # SetQueueAttributes without any: "... the parameter Attribute.Name."
                path += "." + member.shape.key.query_name
            if name in shape.required and not _is_entries(member):
                yield Violation(path, NOT_NULL, item, member.shape)
        elif isinstance(member.shape, List):
            element = member.shape.member.shape
            for i, entry in enumerate(item, 1):
                if entry is None:
                    yield Violation(f"{path}.{i}", NOT_NULL, None, element)
                elif isinstance(element, Structure):
                    yield from _sqs_missing(element, entry, f"{path}.{i}.", top=False)


# -- the rest of AWS


def _sentences(shape: Scalar) -> list[tuple[str, Check]]:
    """A scalar's constraints with their tests, in the order in which AWS reports them."""
    found: list[tuple[str, Check]] = []
    if shape.pattern is not None:
        found.append((f"Member must satisfy regular expression pattern: {shape.pattern}", _matcher(shape)))
    if shape.kind in ("string", "blob"):
        found += _bounds(shape, "length", len)
    else:
        found += _bounds(shape, "value", lambda value: value)
    if shape.enum:
        sentence = f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        found.append((sentence, frozenset(shape.enum).__contains__))
    return found


def _bounds(shape: Scalar | List | Map, what: str, measure: Callable[[Any], Any]) -> list[tuple[str, Check]]:
    def at_most(limit: int) -> Check:
        return lambda value: bool(measure(value) <= limit)

    def at_least(limit: int) -> Check:
        return lambda value: bool(measure(value) >= limit)

    found = []
    if shape.max is not None:
        found.append((f"Member must have {what} less than or equal to {shape.max}", at_most(shape.max)))
    if shape.min is not None:
        found.append((f"Member must have {what} greater than or equal to {shape.min}", at_least(shape.min)))
    return found


def _matcher(shape: Scalar) -> Check:
    """Java's Pattern.matches, with `re`. A string that is too long anyway is not matched: that could take long."""
    source = (shape.matcher or "").replace(r"\p{Z}", r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000")
    unicode = r"\p{" in source  # \w stands for letters and numbers: it has the underscore too, and AWS's classes do
    source = source.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\d")
    match = re.compile(source, 0 if unicode else re.ASCII).fullmatch
    longest = shape.max

    def fits(value: str) -> bool:
        return (longest is not None and len(value) > longest) or match(value) is not None

    return fits


def _all(tests: list[Check]) -> Check | None:
    if len(tests) < 2:
        return tests[0] if tests else None

    def check(value: Any) -> bool:
        for test in tests:  # noqa: SIM110 - a generator would cost more than most of the tests
            if not test(value):
                return False
        return True

    return check


def _check(shape: Shape) -> Check | None:
    """The test of a shape, None if there is nothing to test."""
    match shape:
        case Scalar(kind="string" | "blob"):
            tests = [] if shape.pattern is None else [_matcher(shape)]
            tests += _length_check(shape)
            if shape.enum:
                tests.append(frozenset(shape.enum).__contains__)
            return _all(tests)
        case Scalar():
            return _all([test for _, test in _sentences(shape)])
        case List():
            return _all([*_length_check(shape), _elements_check(_check(shape.member.shape))])
        case Map():
            key, value = _check(shape.key.shape), _check(shape.value.shape)
            tests = _length_check(shape)
            if key is not None:
                tests.append(lambda v: all(map(key, v)))
            if value is not None:
                tests.append(lambda v: all(map(value, v.values())))
            return _all(tests)
        case Structure():
            return _structure_check(shape)


def _length_check(shape: Scalar | List | Map) -> list[Check]:
    """Both bounds in one test, and none that nothing can fail."""
    least, most = shape.min or 0, shape.max
    if most is None:
        return [lambda value: len(value) >= least] if least else []
    if least:
        return [lambda value: least <= len(value) <= most]
    return [lambda value: len(value) <= most]


def _elements_check(element: Check | None) -> Check:
    def check(value: list[Any]) -> bool:
        return None not in value and (element is None or all(map(element, value)))

    return check


def _structure_check(shape: Structure) -> Check | None:
    required = shape.required
    tests = {name: test for name, member in shape.members.items() if (test := _check(member.shape)) is not None}
    if not required and not tests:
        return None
    find = tests.get

    def check(value: dict[str, Any]) -> bool:
        for name in required:
            if name not in value:
                return False
        for name, item in value.items():
            test = find(name)
            if test is not None and not test(item):
                return False
        return True

    return check


def _violations(shape: Shape, value: Any, path: str) -> Iterator[Violation]:
    match shape:
        case Scalar():
            for sentence, test in _sentences(shape):
                if not test(value):
                    yield Violation(path, sentence, value, shape)
        case List():
            for sentence, test in _bounds(shape, "length", len):
                if not test(value):
                    yield Violation(path, sentence, value, shape)
            element = shape.member.shape
            if isinstance(element, Scalar):
                yield from _scalars("Member must", element, value, Violation(path, "", value, shape))
            for i, item in enumerate(value, 1):
                if item is None:
                    yield Violation(f"{path}.{i}.member", NOT_NULL, None, element)
                elif not isinstance(element, Scalar):
                    yield from _violations(element, item, f"{path}.{i}.member")
        case Map():
            for sentence, test in _bounds(shape, "length", len):
                if not test(value):
                    yield Violation(path, sentence, value, shape)
            whole = Violation(path, "", value, shape)
            if isinstance(shape.key.shape, Scalar):
                yield from _scalars("Map keys must", shape.key.shape, value, whole)
            if isinstance(shape.value.shape, Scalar):
                yield from _scalars("Map value must", shape.value.shape, value.values(), whole)
            else:
                for key, item in value.items():
                    yield from _violations(shape.value.shape, item, f"{path}.{key}.member")
        case Structure():
            prefix = path and path + "."
            for name, member in shape.members.items():
                where = f"{prefix}{name[:1].lower()}{name[1:]}"
                if name in value:
                    yield from _violations(member.shape, value[name], where)
                elif name in shape.required:
                    yield Violation(where, NOT_NULL, None, member.shape)


def _scalars(subject: str, shape: Scalar, values: Any, whole: Violation) -> Iterator[Violation]:
    """Scalars in a collection are reported once for all, with everything that is asked of them."""
    tests = _sentences(shape)
    if any(value is not None and not test(value) for value in values for _, test in tests):
        tests.sort(key=lambda pair: "pattern" in pair[0])
        sentences = ", ".join(sentence for sentence, _ in tests)
        yield whole._replace(constraint=f"{subject} satisfy constraint: [{sentences}]")
