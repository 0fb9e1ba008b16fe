"""Random patterns and events that have something to do with each other, from any source of chance with Random's
methods (a seeded Random for the comparison with event-ruler, Hypothesis's for the rest).

Names, strings and numbers are drawn from small pools full of neighbours: cases, prefixes of one another, addresses,
numbers written in several ways. Nothing here knows how anything is matched.
"""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

# The limits are tested by themselves: these patterns are about what matches.
NO_LIMITS = {"max_chars": 10**6, "max_complexity": 10**6, "max_rules": 10**6}
NAMES = ["a", "b", "c", "d", "a.b", "A", "a-b"]
WORDS = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "abc",
    "b",
    "ba",
    "bab",
    "abab",
    "k",
    "K",
    "ß",
    "SS",
    "ss",
    "é",
    "É",
    "日本",
    "*",
    "a*b",
]
WORDS += ["a\\b", 'a"', '"a', "x/y.png", "x/y.PNG", "😀", "??", "true", "1", "10", "null"]
ADDRESSES = [
    "10.0.0.1",
    "10.0.0.2",
    "010.0.0.1",
    "10.1.2.3",
    "192.168.1.255",
    "256.1.1.1",
    "0.0.0.0",
    "255.255.255.255",
]
ADDRESSES += [
    "::1",
    "2001:db8::1",
    "2001:0DB8:0:0:0:0:0:1",
    "::ffff:a00:1",
    "fe80::",
    "1::2::3",
    ":::",
    "a:b",
    "0a00:1::",
]
BLOCKS = [
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.2/31",
    "0.0.0.0/0",
    "192.168.0.0/16",
    "::/0",
    "2001:db8::/32",
    "2000::/3",
]
BLOCKS += ["fe80::/10", "::1/127", "::ffff:a00:0/8"]
NUMBERS = ["0", "-0", "0.0", "1", "1.0", "10e-1", "-1", "2", "2.5", "25e-1", "3", "10", "100", "1e2", "-2.5", "1e308"]
NUMBERS += ["9007199254740992", "9007199254740993", "1152921504606846976", "12345678901234567890", "0.1", "0.10"]
NUMBERS += ["0.1000000000000000055", "1e400", "1e-400", "123456789012345678901234"]
WILDCARDS = [
    "*",
    "a*",
    "*b",
    "a*b",
    "*a*",
    "a*b*",
    "*.png",
    "x/*.png",
    "\\*",
    "a\\*b",
    "a\\\\b",
    "",
    "ab",
    "*a*b*",
    "*é*",
    "b*b",
]
COMPARABLE = [n for n in NUMBERS if len(n) < 16 and "e4" not in n and "e-4" not in n]


class Raw(str):
    """A number as it shall be written."""


def dumps(value: Any) -> str:
    """JSON; objects may be lists of pairs, so that a key can stand twice."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(k)}:{dumps(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(dumps(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Pairs(list):  # type: ignore[type-arg]
    """An object whose keys may repeat."""


def word(rng: Random) -> str:
    return rng.choice(ADDRESSES) if rng.random() < 0.15 else rng.choice(WORDS)


def scalar(rng: Random, numbers: bool = True) -> Any:
    kind = rng.random()
    if kind < 0.6:
        return word(rng)
    if kind < 0.88 and numbers:
        return Raw(rng.choice(NUMBERS))
    return rng.choice([True, False, None])


def test(rng: Random) -> Any:
    """One member of a clause."""
    kind = rng.randint(0, 17)
    if kind <= 4:
        return scalar(rng)
    if kind == 5:
        return {"prefix": word(rng)}
    if kind == 6:
        return {"suffix": word(rng)}
    if kind == 7:
        return {rng.choice(["prefix", "suffix"]): {"equals-ignore-case": word(rng)}}
    if kind == 8:
        return {"equals-ignore-case": word(rng)}
    if kind == 9:
        return {"wildcard": rng.choice(WILDCARDS)}
    if kind == 10:
        return {"cidr": rng.choice(BLOCKS)}
    if kind == 11:
        return {"exists": rng.choice([True, False])}
    if kind <= 13:
        return {"numeric": numeric(rng)}
    if kind == 14:
        return {"anything-but": word(rng)}
    if kind == 15:
        if rng.random() < 0.5:
            return {"anything-but": [word(rng) for _ in range(rng.randint(1, 3))]}
        return {"anything-but": [Raw(rng.choice(COMPARABLE)) for _ in range(rng.randint(1, 3))]}
    if kind == 16:
        return {"anything-but": Raw(rng.choice(COMPARABLE))}
    within = rng.choice(["prefix", "suffix", "wildcard", "equals-ignore-case"])
    pool = WILDCARDS if within == "wildcard" else [w for w in WORDS if w]
    if rng.random() < 0.5:
        return {"anything-but": {within: rng.choice(pool)}}
    return {"anything-but": {within: [rng.choice(pool) for _ in range(rng.randint(1, 3))]}}


def numeric(rng: Random) -> list[Any]:
    low, high = sorted(rng.sample(COMPARABLE, 2), key=float)
    kind = rng.randint(0, 4)
    if kind == 0:
        return ["=", Raw(low)]
    if kind <= 2 or float(low) == float(high):
        return [rng.choice(["<", "<=", ">", ">="]), Raw(low)]
    return [rng.choice([">", ">="]), Raw(low), rng.choice(["<", "<="]), Raw(high)]


MEMBERS = (1, 1, 1, 2, 3)


def pattern_object(rng: Random, depth: int = 0, members: Sequence[int] = MEMBERS) -> Pairs:
    """`members`: how many tests a clause may have."""
    pairs = Pairs()
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        roll = rng.random()
        if roll < 0.12 and depth < 3:
            branches = [pattern_object(rng, depth + 1, members) for _ in range(rng.choice([2, 2, 3]))]
            pairs.append(("$or", branches))
        elif roll < 0.4 and depth < 3:
            pairs.append((rng.choice(NAMES), pattern_object(rng, depth + 1, members)))
        else:
            pairs.append((rng.choice(NAMES), [test(rng) for _ in range(rng.choice(members))]))
    return pairs


def pattern(rng: Random) -> str:
    return dumps(pattern_object(rng))


def answer_to(rng: Random, member: Any, numbers: bool) -> Any:
    """A value that has a fair chance with one member of a clause."""
    if not isinstance(member, dict):
        return member if numbers or not isinstance(member, Raw) else word(rng)
    ((operator, argument),) = member.items()
    if isinstance(argument, dict):
        ((_, argument),) = argument.items()
    if isinstance(argument, list):
        argument = rng.choice([a for a in argument if isinstance(a, Raw)] or argument)
    if isinstance(argument, Raw):
        return argument if numbers else word(rng)
    if operator == "prefix":
        return argument + rng.choice(WORDS)
    if operator == "suffix":
        return rng.choice(WORDS) + argument
    if operator == "equals-ignore-case":
        return rng.choice([argument, argument.upper(), argument.lower(), argument.swapcase()])
    if operator == "wildcard":
        return "".join(rng.choice(WORDS) if c == "*" else c for c in argument.replace("\\", ""))
    if operator in ("cidr", "exists") or rng.random() < 0.5:
        return rng.choice(ADDRESSES) if operator == "cidr" else scalar(rng, numbers)
    return argument


def answer(rng: Random, pairs: Any, numbers: bool = True) -> dict[str, Any]:
    """An event that has a fair chance with a pattern: its fields, now and then in arrays, some left out."""
    event: dict[str, Any] = {}
    for name, under in pairs:
        if rng.random() < 0.07:
            continue
        if name == "$or":
            for branch in under:
                if rng.random() < 0.6:
                    event.update(answer(rng, branch, numbers))
        elif isinstance(under, Pairs):
            objects = [answer(rng, under, numbers) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
            event[name] = objects[0] if len(objects) == 1 and rng.random() < 0.8 else objects
        else:
            values = [answer_to(rng, rng.choice(under), numbers) for _ in range(rng.choice([1, 1, 1, 2]))]
            event[name] = values[0] if len(values) == 1 else values
    return event


def pattern_and_events(
    rng: Random, count: int, members: Sequence[int] = MEMBERS, numbers_beside_addresses: bool = True
) -> tuple[str, list[str]]:
    """A pattern with events, half of them made to suit it."""
    pairs = pattern_object(rng, members=members)
    text = dumps(pairs)
    numbers = numbers_beside_addresses or not ("cidr" in text or any(f'"{a}"' in text for a in ADDRESSES))
    suited = [dumps(answer(rng, pairs, numbers)) for _ in range((count + 1) // 2)]
    return text, suited + [event(rng, numbers) for _ in range(count // 2)]


def value(rng: Random, depth: int, numbers: bool) -> Any:
    roll = rng.random()
    if depth >= 4 or roll < 0.55:
        return scalar(rng, numbers)
    if roll < 0.75:
        return event_object(rng, depth + 1, numbers)
    return [value(rng, depth + 1, numbers) for _ in range(rng.choice([0, 1, 2, 2, 3]))]


def event_object(rng: Random, depth: int = 0, numbers: bool = True) -> dict[str, Any]:
    return {rng.choice(NAMES): value(rng, depth, numbers) for _ in range(rng.choice([0, 1, 2, 3, 4]))}


def event(rng: Random, numbers: bool = True) -> str:
    return dumps(event_object(rng, 0, numbers))
