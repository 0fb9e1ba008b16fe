"""Patterns matched the slow and plain way, from AWS's documentation and event-ruler's README, one rule at a time.

Shares no code and no idea with broker/matching: what event-ruler does on text is done on text here, with quotes around
strings, hexadecimal digits for addresses and Python's regular expressions for wildcards. Patterns must be valid.
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any


class Number(str):
    """A number as written."""


class Pairs(list):  # type: ignore[type-arg]
    """An object, in order, keys repeated."""


def load(text: str) -> Any:
    return json.loads(text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number)


def load_event(text: str) -> Any:
    return json.loads(text, parse_int=Number, parse_float=Number)


def matches(pattern: str, event: str) -> bool:
    values: dict[str, list[tuple[Any, dict[int, int]]]] = {}
    for name, value, place in flattened(load_event(event), [], {}, iter(range(10**9))):
        values.setdefault(name, []).append((value, place))
    return any(holds(sorted(rule.items(), key=by_utf16), values, {}) for rule in rules(load(pattern), "", [{}]))


def by_utf16(item: tuple[str, Any]) -> bytes:
    return item[0].encode("utf-16-be")


def rules(pattern: Pairs, path: str, so_far: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """$or taken apart: every rule that the pattern stands for, as field name to clause."""
    for key, under in pattern:
        name = f"{path}.{key}" if path else key
        if key == "$or":
            so_far = [rule for branch in under for rule in rules(branch, path, so_far)]
        elif isinstance(under, Pairs):
            so_far = rules(under, name, so_far)
        else:
            so_far = [{**rule, name: under} for rule in so_far]
    return so_far


def flattened(value: Any, path: list[str], place: dict[int, int], ids: Iterator[int]) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, dict):
        for key, under in value.items():
            yield from flattened(under, [*path, key], place, ids)
    elif isinstance(value, list):
        array = next(ids)
        for element, under in enumerate(value):
            inner = {**place, array: element} if isinstance(under, dict | list) else place
            yield from flattened(under, path, inner, ids)
    else:
        yield ".".join(path), value, place


def holds(rule: list[tuple[str, Any]], values: dict[str, Any], known: dict[int, int]) -> bool:
    if not rule:
        return True
    (name, clause), *rest = rule
    here = [(v, p) for v, p in values.get(name, []) if all(known.get(a, e) == e for a, e in p.items())]
    if not here and any(is_absent(test) for test in clause) and holds(rest, values, known):
        return True
    return any(
        any(passes(test, value) for test in clause) and holds(rest, values, {**known, **place}) for value, place in here
    )


def is_absent(test: Any) -> bool:
    return isinstance(test, Pairs) and test == Pairs([("exists", False)])


def passes(test: Any, value: Any) -> bool:
    if isinstance(test, Pairs):
        ((operator, argument),) = test
        return by_operator(operator, argument, value)
    if isinstance(test, Number):
        return isinstance(value, Number) and same_number(test, value)
    if isinstance(test, str):
        digits = hexadecimal(test)
        if digits:
            return isinstance(value, str) and within(digits, digits, hexadecimal(value))
        return is_string(value) and test == value
    return test is value


def by_operator(operator: str, argument: Any, value: Any) -> bool:
    if operator == "exists":
        return bool(argument)
    if operator == "numeric":
        return in_range(argument, value)
    if operator == "anything-but":
        if isinstance(argument, Pairs):
            ((inner, denied),) = argument
            return not any(by_operator(inner, d, value) for d in (denied if isinstance(denied, list) else [denied]))
        denied = argument if isinstance(argument, list) else [argument]
        return not any(same_text_or_number(d, value) for d in denied)
    if not is_string(value):
        return False
    quoted = f'"{value}"'
    if operator == "prefix":
        if isinstance(argument, Pairs):
            return bool(spelled(argument[0][1], quoted, 1))
        return quoted.startswith('"' + argument)
    if operator == "suffix":
        if isinstance(argument, Pairs):
            return any(len(quoted) in spelled(argument[0][1] + '"', quoted, start) for start in range(len(quoted)))
        return quoted.endswith(argument + '"')
    if operator == "equals-ignore-case":
        return len(value) in spelled(argument, value)
    if operator == "wildcard":
        parts = re.findall(r"\\(.)|(\*)|([^\\*])", argument, re.DOTALL)
        expression = "".join(".*" if star else re.escape(escaped or plain) for escaped, star, plain in parts)
        return re.fullmatch(expression, value, re.DOTALL) is not None
    assert operator == "cidr"
    block = block_of(argument)
    return within(*block, hexadecimal(value))


def is_string(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def same_text_or_number(denied: Any, value: Any) -> bool:
    if isinstance(denied, Number):
        return isinstance(value, Number) and same_number(denied, value)
    return is_string(value) and denied == value


def spelled(text: str, value: str, start: int = 0) -> set[int]:
    """Where the text, each of its characters in lower or upper case, can end in the value if it starts there."""
    ends = {start}
    for char in text:
        ways = {char.lower(), char.upper()} if char <= "\uffff" else {"??"}
        ends = {end + len(way) for end in ends for way in ways if value.startswith(way, end)}
    return ends


def exact(text: str) -> Fraction | None:
    nearest = float(text)
    if nearest in (float("inf"), float("-inf")) or Fraction(repr(nearest)) != Fraction(text):
        return None
    return Fraction(text)


def same_number(one: str, other: str) -> bool:
    if exact(one) is None or exact(other) is None:
        return exact(one) is exact(other) and one == other
    return exact(one) == exact(other)


def in_range(argument: list[Any], value: Any) -> bool:
    number = exact(value) if isinstance(value, Number) else None
    if number is None:
        return False
    for operator, text in zip(argument[::2], argument[1::2], strict=True):
        bound = Fraction(text)
        order = (number > bound) - (number < bound)
        if order not in {"=": (0,), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}[operator]:
            return False
    return True


def hexadecimal(text: str) -> str:
    """An address as 8 or 32 hexadecimal digits; "" for everything else."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", text):
        parts = [int(part) for part in text.split(".")]
        return "".join(f"{part:02X}" for part in parts) if max(parts) < 256 and len(text) < 16 else ""
    if not re.fullmatch(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*", text):
        return ""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped
    return f"{int(mapped):08X}" if mapped else f"{int(address):032X}"


def block_of(text: str) -> tuple[str, str]:
    address, mask = text.split("/")
    digits = hexadecimal(address)
    bits, number = len(digits) * 4, int(digits, 16)
    low = number >> (bits - int(mask)) << (bits - int(mask))
    high = low | (1 << (bits - int(mask))) - 1
    return f"{low:0{bits // 4}X}", f"{high:0{bits // 4}X}"


def within(low: str, high: str, digits: str) -> bool:
    """As event-ruler's automaton walks: digit by digit, until one lies inside or outside for certain."""
    at_low = at_high = True
    for position, digit in enumerate(digits):
        last = position == len(low) - 1
        inside = (not at_low or digit > low[position]) and (not at_high or digit < high[position])
        at_low, at_high = at_low and digit == low[position], at_high and digit == high[position]
        if inside or (last and (at_low or at_high)):
            return True
        if not at_low and not at_high:
            return False
    return False
