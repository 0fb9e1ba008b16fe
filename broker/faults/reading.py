"""A plan as it is given (JSON or TOML, parsed) is checked and becomes rules, or is refused with one sentence.

The rule: what can match nothing is refused, with the reason and, where a name is near another, what was perhaps meant.
A rule is shown as it was given, with its name and its parameters' defaults filled in, so that it can be given again.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, TypeGuard

from broker.clock import iso_8601_ms, parse_iso_8601
from broker.durations import parse_duration_ms
from broker.entropy import Entropy
from broker.faults import latency
from broker.faults.errors import PlanError, Seed
from broker.faults.kinds import DELIVERY, GENERAL, KINDS, MESSAGES_SEEN, POINTS, REQUIRED, Kind, Parameter
from broker.faults.names import MAX_PATTERN_CHARS, SHAPES, can_match, compiled, resource_matcher
from broker.faults.profiles import PROFILES
from broker.faults.rule import HowOften, Rule, Where
from broker.matching import Index, InvalidEventPattern, event_pattern
from broker.names import is_account

Known = Mapping[str, Collection[str]]

MAX_RULES = 1_000
MAX_NAME_CHARS = 80
MAX_SEED = (1 << 63) - 1
MAX_SEED_CHARS = 1_000
_PATTERN_CHARS = 65_536
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._:-]{0,99}")  # it is answered in a header too

# Operations that are about no resource in particular.
_NO_RESOURCE = {
    "sqs": {"ListQueues"},
    "sns": {"ListTopics", "ListSubscriptions"},
    "kinesis": {"ListStreams", "DescribeLimits", "DescribeAccountSettings"},
    "events": {"ListEventBuses"},
    "dynamodb": {"ListTables"},
}
_BY_REQUEST = (
    *("service", "operation", "resource", "account", "client", "message", "from", "until"),
    *("every", "probability", "count", "burst"),
)
_SENTENCE = {
    "duration": "takes a length of time such as 500ms, 90s or 1h30m",
    "signed-duration": "takes a length of time such as 1h or -5m",
    "fraction": "takes a number above 0 and at most 1",
    "number": "takes a number other than 0",
    "positive": "takes a number above 0",
    "status": "takes an HTTP status",
    "text": "takes a text",
    "percentiles": 'takes a table such as {p50 = "20ms", p99 = "2s"}, rising',
}


class ReadPlan(NamedTuple):
    rules: list[Rule]
    seed: Seed
    profile: str | None


def suggestion(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """` Did you mean throttle?`, for the end of a sentence; `otherwise` where no name is near."""
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), folded, 1, 0.6)
    return f" Did you mean {folded[near[0]]}?" if near else otherwise


def check_seed(seed: object) -> Seed:
    """Raises PlanError for what is no seed."""
    if _is_integer(seed) and 0 <= seed <= MAX_SEED:
        return seed
    if isinstance(seed, str) and 0 < len(seed) <= MAX_SEED_CHARS:
        return seed
    raise PlanError(f"seed takes a whole number from 0 to {MAX_SEED}, or a text, not {seed!r}.")


def read_plan(plan: object, now_ms: int, operations: Known | None, seed: object) -> ReadPlan:
    """Raises PlanError. `operations`: what each service has, None if nobody knows."""
    if not isinstance(plan, Mapping):
        raise PlanError("A plan is an object with `seed`, `profile` and a list of `rule`.")
    for key in plan:
        if key not in ("seed", "profile", "rule", "rules"):
            near = suggestion(key, ("seed", "profile", "rule"))
            start = f" {key} is for `sidebus serve --plan`." if key in ("clock", "ledger") else ""
            raise PlanError(f"A fault plan has seed, profile and rule, not {key!r}.{near or start}")
    checked_seed = check_seed(seed)
    if "rule" in plan and "rules" in plan:
        raise PlanError("A plan has `rule` or `rules`, not both.")
    given = plan.get("rule", plan.get("rules", []))
    if not isinstance(given, list):
        raise PlanError("rule takes a list of rules; in TOML each begins with [[rule]].")
    profile = plan.get("profile")
    if profile is not None:
        if not isinstance(profile, str) or profile not in PROFILES:
            near = suggestion(profile, PROFILES, f" There are {_listed(PROFILES)}.")
            raise PlanError(f"There is no profile {profile!r}.{near}")
        given = [*given, *PROFILES[profile][1]]  # a plan's own rules are asked before the profile's
    if not given:
        raise PlanError("The plan has no rules: give a profile or at least one rule.")
    if len(given) > MAX_RULES:
        raise PlanError(f"A plan has at most {MAX_RULES} rules, not {len(given)}.")
    rules: list[Rule] = []
    for number, one in enumerate(given, 1):
        taken = {rule.name for rule in rules}
        try:
            rules.append(read_rule(one, taken, now_ms, operations, checked_seed))
        except PlanError as error:
            raise PlanError(f"Rule {number}: {error}") from None
    return ReadPlan(rules, checked_seed, profile)


def read_rule(given: object, taken: Collection[str], now_ms: int, operations: Known | None, seed: Seed) -> Rule:
    """Raises PlanError. `taken` are the names of the rules there are."""
    if not isinstance(given, Mapping):
        raise PlanError('A rule is an object such as {"fault": "throttle", "service": "sqs"}.')
    shown = {key: _plain(value) for key, value in given.items()}
    kind = _kind(shown)
    own, parameters = _parameters(kind, shown)
    name = _name(shown, kind, taken)
    at_ms = None
    if "at" in shown:
        at_ms = _appointment(kind, shown, now_ms)
        points: tuple[str, ...] = ()
        where, how_often = Where(), HowOften(count=1)
    else:
        if kind.timed:
            shown.setdefault("count", 1)
        points, where = _Scope(kind, kind.points_with(parameters), shown, operations).read(now_ms)
        how_often = HowOften(
            _whole(shown, "every", 1),
            _fraction("probability", shown["probability"]) if "probability" in shown else 1.0,
            _whole(shown, "count", None),
            _whole(shown, "burst", 1),
        )
    shown = {"fault": kind.name, "name": name, **own, **{k: v for k, v in shown.items() if k not in own}}
    return Rule(name, kind, points, parameters, where, how_often, at_ms, shown, Entropy(f"{seed}/{name}"))


# What and how


def _kind(shown: Mapping[str, Any]) -> Kind:
    fault = shown.get("fault")
    if fault is None:
        raise PlanError("It needs `fault`, the kind of what goes wrong, such as throttle or duplicate.")
    kind = KINDS.get(fault) if isinstance(fault, str) else None
    if kind is None:
        near = suggestion(fault, KINDS, " `sidebus faults kinds` lists them all.")
        raise PlanError(f"There is no fault {fault!r}.{near}")
    own = [parameter.name for parameter in kind.parameters]
    for key in shown:
        if key in GENERAL or key in own:
            continue
        near = suggestion(key, [*own, *GENERAL])
        if near:
            raise PlanError(f"{kind.name} has no {key!r}.{near}")
        takes = f"takes {', '.join(own)}" if own else "takes no parameters"
        raise PlanError(f"{kind.name} has no {key!r}: it {takes}, besides what every rule may have.")
    return kind


def _name(shown: Mapping[str, Any], kind: Kind, taken: Collection[str]) -> str:
    name = shown.get("name")
    if name is None:
        name, number = kind.name, 1
        while name in taken:
            number += 1
            name = f"{kind.name}-{number}"
        return name
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS:
        raise PlanError(f"name takes a text of up to {MAX_NAME_CHARS} characters, not {name!r}.")
    if name in taken:
        raise PlanError(f"There is a rule {name!r} already: give it another name.")
    return name


def _parameters(kind: Kind, shown: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """As they are shown, and as a hook gets them."""
    own = {p.name: shown[p.name] for p in kind.parameters if p.name in shown and not _is_pattern(p, shown[p.name])}
    for group in kind.only_one_of:
        both = [name for name in group if name in own]
        if len(both) > 1:
            raise PlanError(f"{kind.name} takes {' or '.join(both)}, not both.")
    try:
        if kind.name == "latency":
            if "distribution" in own:
                _value(kind.parameters[0], own["distribution"])
            latency.complete(own)
        for parameter in kind.parameters:
            if parameter.name not in own and parameter.default is REQUIRED:
                raise ValueError(f"needs `{parameter.name}`: {parameter.text}.")
            if parameter.name not in own and parameter.default is not None:
                own[parameter.name] = parameter.default
        if kind.name == "early-visibility" and "after" not in own:
            own.setdefault("fraction", 0.5)
        checked = {p.key: _value(p, own[p.name]) if p.name in own else None for p in kind.parameters}
        if kind.name == "latency":
            latency.check(checked)
    except ValueError as error:
        raise error if isinstance(error, PlanError) else PlanError(f"{kind.name} {error}") from None
    return own, checked


def _is_pattern(parameter: Parameter, value: object) -> bool:
    """An error's `message` is a text, the pattern over a message is a table."""
    return parameter.name == "message" and isinstance(value, Mapping)


def _value(parameter: Parameter, value: Any) -> Any:
    name = parameter.name
    match parameter.type:
        case "duration":
            return _duration_ms(name, value)
        case "signed-duration":
            text = str(value).strip()
            ms = _duration_ms(name, text.removeprefix("-"))
            if not ms:
                raise PlanError(f"{name} is 0, which changes nothing.")
            return -ms if text.startswith("-") else ms
        case "fraction":
            return _fraction(name, value)
        case "number" | "positive":
            if isinstance(value, bool) or not isinstance(value, int | float) or not value:
                raise PlanError(f"{name} {_SENTENCE[parameter.type]}, not {value!r}.")
            if parameter.type == "positive" and value < 0:
                raise PlanError(f"{name} {_SENTENCE[parameter.type]}, not {value!r}.")
            if not parameter.least <= value <= parameter.most:
                raise PlanError(f"{name} takes a number from {parameter.least} to {parameter.most}, not {value!r}.")
            return value
        case "integer":
            if not _is_integer(value) or not parameter.least <= value <= parameter.most:
                to = f"to {parameter.most}" if _is_integer(value) and value > parameter.most else "on"
                raise PlanError(f"{name} takes a whole number from {parameter.least} {to}, not {value!r}.")
            return value
        case "status":
            if not _is_integer(value) or not parameter.least <= value <= 599:
                raise PlanError(f"{name} takes an HTTP status from {parameter.least} to 599, not {value!r}.")
            return value
        case "choice":
            if value not in parameter.choices:
                near = suggestion(value, parameter.choices)
                raise PlanError(f"{name} takes {' or '.join(parameter.choices)}, not {value!r}.{near}")
            return value
        case "percentiles":
            return _percentiles(name, value)
        case "code" if not (isinstance(value, str) and _CODE.fullmatch(value)):
            raise PlanError(f"{name} takes a code of AWS's such as InternalFailure, not {value!r}.")
    if not isinstance(value, str) or not value:
        raise PlanError(f"{name} {_SENTENCE['text']}, not {value!r}.")
    return value


def _percentiles(name: str, value: object) -> list[tuple[float, float]]:
    if not isinstance(value, Mapping) or not value:
        raise PlanError(f"{name} {_SENTENCE['percentiles']}, not {value!r}.")
    found: list[tuple[float, float]] = []
    for key, delay in value.items():
        try:
            if not str(key).startswith("p"):
                raise ValueError
            percentile = float(key[1:])
        except ValueError:
            raise PlanError(f"{name} {_SENTENCE['percentiles']}; {key!r} is no percentile.") from None
        if not 0 <= percentile <= 100:
            raise PlanError(f"{name}: there is no {key}, a percentile is from p0 to p100.")
        found.append((percentile, float(_duration_ms(f"{name}.{key}", delay))))
    found.sort()
    for (below, below_ms), (above, above_ms) in pairwise(found):
        if above_ms < below_ms or above == below:
            raise PlanError(f"{name}: p{above:g} must not be below p{below:g}.")
    return found


def _duration_ms(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PlanError(f"{name} {_SENTENCE['duration']}, not {value!r}.")
    try:
        return parse_duration_ms(value)
    except ValueError as error:
        raise PlanError(f"{name}: {error}") from None


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        never = "; with 0 it would never strike" if value == 0 and not isinstance(value, bool) else ""
        raise PlanError(f"{name} {_SENTENCE['fraction']}, not {value!r}{never}.")
    return float(value)


def _whole(shown: Mapping[str, Any], name: str, default: Any) -> Any:
    value = shown.get(name)
    if value is None:
        return default
    if not _is_integer(value) or value < 1:
        raise PlanError(f"{name} takes a whole number from 1 on, not {value!r}.")
    return value


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """TOML has moments as values: as text, like everybody else's."""
    return value.isoformat() if hasattr(value, "isoformat") else value


# When


def _moment_ms(name: str, value: object, now_ms: int) -> int:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return now_ms + parse_duration_ms(value)
        except ValueError:
            moment_ms = parse_iso_8601(str(value))
            if moment_ms is not None:
                return moment_ms
    raise PlanError(
        f"{name} takes a length of time after loading such as 30s, or a moment such as 2026-12-01T00:00:00Z, "
        f"not {value!r}."
    )


def _appointment(kind: Kind, shown: Mapping[str, Any], now_ms: int) -> int:
    if not kind.timed:
        timed = ", ".join(name for name, known in KINDS.items() if known.timed)
        raise PlanError(f"{kind.name} takes no `at`, only {timed} do: use `from` and `count`.")
    for key in _BY_REQUEST:
        if key in shown:
            raise PlanError(
                f"`at` stands in place of a request, so `{key}` cannot match anything: leave out one of them."
            )
    at_ms = _moment_ms("at", shown["at"], now_ms)
    if at_ms < now_ms:
        raise PlanError(f"at: {shown['at']} is past; it is {iso_8601_ms(now_ms)} for the broker.")
    return at_ms


# Where


class _Scope:
    """At which points, services and operations a rule of this kind strikes, narrowed by what the rule says."""

    def __init__(self, kind: Kind, points: tuple[str, ...], shown: dict[str, Any], known: Known | None) -> None:
        self._kind = kind
        self._points = points
        self._shown = shown
        self._known = known
        self._services = self._list("service")
        self._named = self._list("operation")

    def read(self, now_ms: int) -> tuple[tuple[str, ...], Where]:
        pairs = self._pairs()
        operations = set(self._named)
        if not operations and self._kind.operations is not None:  # fewer than its points have
            operations = {name for services in pairs.values() for names in services.values() for name in names or ()}
        where = Where(
            frozenset(self._services) if self._services else None,
            frozenset(operations) if operations else None,
            self._accounts(),
            self._resource(pairs),
            self._client(),
            self._message(pairs),
            *self._window(now_ms),
        )
        return tuple(point for point in self._points if pairs[point]), where

    def _list(self, name: str) -> list[str]:
        value = self._shown.get(name)
        if value is None:
            return []
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(isinstance(item, str) and item for item in listed):
            raise PlanError(f"{name} takes a name or a list of names, not {value!r}.")
        return listed

    def _pairs(self) -> dict[str, dict[str, set[str] | None]]:
        """By point and service the operations it strikes at; None: all that the service has."""
        strikes = {point: self._strikes_at(point) for point in self._points}
        served = {service for by_service in strikes.values() for service in by_service}
        for service in self._services:
            if service not in self._all_services():
                near = suggestion(service, self._all_services(), f" There are {_listed(self._all_services())}.")
                raise PlanError(f"There is no service {service!r} here.{near}")
            if service not in served:
                raise PlanError(f"{self._kind.name} strikes at {_listed(served)}, not at {service}.")
        within = set(self._services) or served
        for operation in self._named:
            self._check_operation(operation, within, strikes)
        narrowed: dict[str, dict[str, set[str] | None]] = {}
        for point, by_service in strikes.items():
            narrowed[point] = {}
            for service, names in by_service.items():
                if service not in within:
                    continue
                if not self._named:
                    narrowed[point][service] = names
                elif left := {name for name in self._named if self._has(service, name, names)}:
                    narrowed[point][service] = left
        for service in self._services:
            if not any(service in by_service for by_service in narrowed.values()):
                raise PlanError(f"{service} has none of the operations {_listed(self._named)}: leave it out.")
        return narrowed

    def _strikes_at(self, point: str) -> dict[str, set[str] | None]:
        operations = self._kind.operations_at(point)
        if operations is None:
            return dict.fromkeys(self._all_services())
        here = POINTS[point] or operations
        return {
            service: {name for name in names if name in here[service]}
            for service, names in operations.items()
            if service in here
        }

    def _all_services(self) -> Collection[str]:
        return self._known if self._known is not None else SHAPES

    def _has(self, service: str, name: str, names: set[str] | None) -> bool:
        if names is not None:
            return name in names
        return self._known is None or name in self._known[service]

    def _check_operation(
        self, name: str, within: set[str], strikes: Mapping[str, Mapping[str, set[str] | None]]
    ) -> None:
        if any(self._has(s, name, names) for at in strikes.values() for s, names in at.items() if s in within):
            return
        allowed = {n for at in strikes.values() for s, names in at.items() if s in within for n in names or ()}
        existing = {n for s in within for n in (self._known or {}).get(s, ())} | allowed
        if self._known is not None and name not in existing:
            which = _listed(within) if len(within) <= 2 else "no service here"
            verb = "has no" if len(within) <= 2 else "has an"
            raise PlanError(f"{which} {verb} operation {name!r}.{suggestion(name, existing)}")
        raise PlanError(f"{self._kind.name} strikes at {_listed(allowed)}, not at {name}.")

    def _accounts(self) -> frozenset[str] | None:
        value = self._shown.get("account")
        if value is None:
            return None
        listed = [str(item) for item in (value if isinstance(value, list) else [value])]
        for account in listed or [""]:
            if not is_account(account):
                raise PlanError(f"account takes twelve digits as a text, or a list of such, not {value!r}.")
        return frozenset(listed)

    def _resource(self, pairs: Mapping[str, Mapping[str, set[str] | None]]) -> Callable[[str], bool] | None:
        pattern = self._shown.get("resource")
        if pattern is None:
            return None
        _check_length("resource", pattern)
        if not isinstance(pattern, str) or not pattern:
            raise PlanError(f"resource takes a pattern of a name or an ARN, such as orders-*, not {pattern!r}.")
        services = {service for by_service in pairs.values() for service in by_service}
        reached = {
            service
            for by_service in pairs.values()
            for service, names in by_service.items()
            if service in SHAPES and (names is None or names - _NO_RESOURCE.get(service, set()))
        }
        if not reached:
            what = _listed(self._named or services)
            raise PlanError(f"resource {pattern!r} can match nothing: {what} is about no resource.")
        if pairs.get(DELIVERY) and " " not in pattern:
            return resource_matcher(pattern)  # an endpoint's URL or ARN can be like anything
        if not any(can_match(pattern, service) for service in reached):
            raise PlanError(f"resource {pattern!r} can match nothing: no name in {_listed(reached)} is like that.")
        if not self._kind.fifo and not any(can_match(pattern, service, fifo=False) for service in reached):
            raise PlanError(
                f"resource {pattern!r} names FIFO queues only, and {self._kind.name} never strikes there: AWS does not "
                "do that to a FIFO queue."
            )
        return resource_matcher(pattern)

    def _client(self) -> Callable[[str], object] | None:
        pattern = self._shown.get("client")
        if pattern is None:
            return None
        _check_length("client", pattern)
        if not isinstance(pattern, str) or not pattern:
            raise PlanError(f"client takes a pattern over ACCESS-KEY USER-AGENT, such as *Boto3*, not {pattern!r}.")
        if not set(pattern) & {"*", "?", " "}:
            raise PlanError(
                f"client {pattern!r} can match nothing: the whole of ACCESS-KEY USER-AGENT is compared, with a space "
                f"in between; write *{pattern}*."
            )
        return compiled(pattern)

    def _message(self, pairs: Mapping[str, Mapping[str, set[str] | None]]) -> Index[str] | None:
        pattern = self._shown.get("message")
        if pattern is None or (self._kind.name == "error" and isinstance(pattern, str)):  # the error's text
            return None
        if not isinstance(pattern, Mapping):
            raise PlanError(
                f'message takes an event pattern such as {{"body": {{"type": ["order"]}}}}, not {pattern!r}.'
            )
        if not self._kind.sees_message or not any(
            _sees_message(point, service, names)
            for point, by_service in pairs.items()
            for service, names in by_service.items()
        ):
            where = f"{self._kind.name} at {_listed(self._named)}" if self._named else self._kind.name
            raise PlanError(f"message can match nothing: {where} has no message to look into.")
        for key in pattern:
            if str(key).partition(".")[0] not in ("body", "attributes", "$or"):
                near = suggestion(key, ("body", "attributes"))
                raise PlanError(f"message: a message has body and attributes, not {key!r}.{near}")
        try:
            compiled_pattern = event_pattern(json.dumps(pattern), _PATTERN_CHARS)
        except (InvalidEventPattern, TypeError, ValueError) as error:
            raise PlanError(f"message: {error}") from None
        index: Index[str] = Index()
        index.add("", compiled_pattern)
        return index

    def _window(self, now_ms: int) -> tuple[int | None, int | None]:
        from_ms, until_ms = (
            _moment_ms(name, self._shown[name], now_ms) if name in self._shown else None for name in ("from", "until")
        )
        if until_ms is not None:
            if from_ms is not None and until_ms <= from_ms:
                raise PlanError(f"until ({self._shown['until']}) is not after from ({self._shown['from']}).")
            if until_ms <= now_ms:
                raise PlanError(f"until: {self._shown['until']} is past; it is {iso_8601_ms(now_ms)} for the broker.")
        return from_ms, until_ms


def _check_length(name: str, pattern: object) -> None:
    if isinstance(pattern, str) and len(pattern) > MAX_PATTERN_CHARS:
        raise PlanError(f"{name} takes a pattern of up to {MAX_PATTERN_CHARS} characters, not {len(pattern)}.")


def _sees_message(point: str, service: str, names: Collection[str] | None) -> bool:
    seen = MESSAGES_SEEN.get(point)
    if seen is None:
        return True
    return service in seen and (names is None or any(name in seen[service] for name in names))


def _listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    ordered = list(names) if isinstance(names, list) else sorted(names)
    return " and ".join(filter(None, [", ".join(ordered[:-1]), ordered[-1] if ordered else ""]))
