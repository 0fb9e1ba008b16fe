"""When a remote delivery is tried again: pure functions from what has failed so far to a delay.

HTTP and HTTPS follow the DeliveryPolicy of the SNS developer guide, "Amazon SNS message delivery retries": immediate
retries, then pre-backoff, backoff, post-backoff. The way to Lambda follows the same page, and what happens there the
Lambda guide, "How Lambda handles errors and retries with asynchronous invocation". EventBridge's targets follow the
EventBridge guide, "How EventBridge retries delivering events".

Ugly: of the backoff functions AWS publishes a graph and no formulas. Ours go from the shortest to the longest delay
and bend as the graph does: linear above arithmetic, exponential the latest to grow. AWS adds jitter; we do not. Of
EventBridge's backoff AWS gives no figures at all, but that 185 retries and 24 hours belong together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from broker.errors import InvalidParameterException
from broker.event_dead_letters import MAXIMUM_EVENT_AGE, MAXIMUM_RETRY_ATTEMPTS

UNAVAILABLE = "unavailable"  # no answer, or one that says: later
THROTTLED = "throttled"  # Lambda has the event, and cannot run the function now
FUNCTION_ERROR = "function error"  # the function ran, and failed
REFUSED = "refused"  # trying again is of no use

LINEAR, ARITHMETIC, GEOMETRIC, EXPONENTIAL = FUNCTIONS = ("linear", "arithmetic", "geometric", "exponential")

DEFAULT_CONTENT_TYPE = "text/plain; charset=UTF-8"
CONTENT_TYPES = frozenset({"application/json", "text/plain"})
RAW_CONTENT_TYPES = CONTENT_TYPES | {
    "application/atom+xml",
    "application/octet-stream",
    "application/soap+xml",
    "application/x-www-form-urlencoded",
    "application/xhtml+xml",
    "application/xml",
    "text/css",
    "text/csv",
    "text/html",
    "text/xml",
}
"""What headerContentType may be, before any parameters; a topic's policy knows the first two only (same page)."""

HTTP_TIMEOUT_MS = 15_000  # guide, "Subscribing an HTTP/S endpoint": "will time out in approximately 15 seconds"
FUNCTION_TIMEOUT_MS = 900_000  # the longest a function may run
MAX_RETRIES = 100
MAX_DELAY_S = 3_600
MAX_TOTAL_S = 3_600  # of all delays of a policy for HTTP/S: "a hard limit"
MAX_EVENT_AGE_MS = 21_600_000  # Lambda guide: up to six hours
FUNCTION_ERROR_DELAYS_MS = (60_000, 120_000)  # Lambda guide: two more times, after one minute and two
MAX_THROTTLE_DELAY_MS = 300_000  # Lambda guide: from one second to five minutes
MAX_RETRY_ATTEMPTS = 185  # API reference, RetryPolicy of EventBridge's targets; also the default
MAX_RETRY_AGE_S = 86_400  # the same
MIN_RETRY_DELAY_MS, MAX_RETRY_DELAY_MS = 1_000, 480_000  # doubling: 185 retries in 23 hours and 37 minutes
RETRY_JITTER = 0.1  # takes off up to so much of a delay
API_DESTINATION_TIMEOUT_MS = 5_000  # guide, "API destinations": "a maximum client execution timeout of 5 seconds"
EXECUTION_TIMEOUT_MS = 15_000  # of the call that starts an execution; not AWS's figure


class DeliveryPolicy(Protocol):
    """What a delivery may cost. Two policies with the same document are the same."""

    @property
    def timeout_ms(self) -> int:
        """How long one attempt may take."""
        ...

    @property
    def timeout_kind(self) -> str:
        """The kind of failure that a longer one is."""
        ...

    @property
    def max_receives_per_s(self) -> int | None:
        """Of all deliveries of one owner together."""
        ...

    def delay_ms(self, kind: str, count: int, age_ms: int) -> int | None:
        """How long to wait after the `count`-th failure of a kind, or None: give up. `age_ms` is the delivery's."""
        ...

    def dead_letters(self, kind: str) -> bool:
        """Whether a delivery that was given up for this goes to the dead-letter queue."""
        ...

    def document(self) -> dict[str, Any]:
        """What `read` makes it from again."""
        ...


class Phases(NamedTuple):
    """The four phases of retries, and the delays between them."""

    min_delay_ms: int = 20_000
    max_delay_ms: int = 20_000
    immediate: int = 0
    pre_backoff: int = 0
    backoff: int = 3
    post_backoff: int = 0
    function: str = LINEAR

    @property
    def retries(self) -> int:
        return self.immediate + self.pre_backoff + self.backoff + self.post_backoff

    def delay_ms(self, retry: int) -> int | None:
        """The delay before the `retry`-th retry, counted from 1; None where there is no such."""
        if retry > self.retries:
            return None
        if retry <= self.immediate:
            return 0
        retry -= self.immediate
        if retry <= self.pre_backoff:
            return self.min_delay_ms
        retry -= self.pre_backoff
        if retry <= self.backoff:
            return backoff_ms(self.function, self.min_delay_ms, self.max_delay_ms, retry, self.backoff)
        return self.max_delay_ms

    def total_ms(self) -> int:
        return sum(self.delay_ms(retry) or 0 for retry in range(1, self.retries + 1))


def backoff_ms(function: str, min_ms: int, max_ms: int, retry: int, retries: int) -> int:
    """The delay before one of `retries` retries, counted from 1: the shortest before the first, the longest last."""
    if retries == 1 or min_ms == max_ms:
        return min_ms
    step, last = retry - 1, retries - 1
    if function == GEOMETRIC:
        return round(min_ms * math.pow(max_ms / min_ms, step / last))
    if function == EXPONENTIAL:  # each increase is twice the one before it
        share = ((1 << step) - 1) / ((1 << last) - 1)
    elif function == ARITHMETIC:  # each increase is larger than the one before it by the same
        share = step * (step + 1) / (last * (last + 1))
    else:
        share = step / last
    return min_ms + round((max_ms - min_ms) * share)


class HttpPolicy(NamedTuple):
    """A subscription's effective DeliveryPolicy."""

    phases: Phases = Phases()
    max_receives_per_s: int | None = None
    content_type: str = DEFAULT_CONTENT_TYPE

    @property
    def timeout_ms(self) -> int:
        return HTTP_TIMEOUT_MS

    @property
    def timeout_kind(self) -> str:
        return UNAVAILABLE

    def delay_ms(self, kind: str, count: int, age_ms: int) -> int | None:
        return None if kind == REFUSED else self.phases.delay_ms(count)

    def dead_letters(self, kind: str) -> bool:
        return True

    def document(self) -> dict[str, Any]:
        return {"kind": "http", **self._asdict(), "phases": self.phases._asdict()}


class LambdaPolicy:
    """How SNS hands an event to Lambda, and how Lambda runs a function for an event it has.

    Lambda unavailable is SNS's to retry, and ends in the subscription's dead-letter queue. What Lambda has taken and
    cannot run is Lambda's: SNS has delivered it, and its dead-letter queue never sees it.
    """

    @property
    def timeout_ms(self) -> int:
        return FUNCTION_TIMEOUT_MS

    @property
    def timeout_kind(self) -> str:
        return FUNCTION_ERROR

    @property
    def max_receives_per_s(self) -> int | None:
        return None

    def delay_ms(self, kind: str, count: int, age_ms: int) -> int | None:
        if kind == UNAVAILABLE:
            return MANAGED_ENDPOINT.delay_ms(count)
        if kind == REFUSED:
            return None
        if kind == FUNCTION_ERROR:
            delay_ms = FUNCTION_ERROR_DELAYS_MS[count - 1] if count <= len(FUNCTION_ERROR_DELAYS_MS) else None
        else:
            delay_ms = min(1000 << min(count - 1, 20), MAX_THROTTLE_DELAY_MS)
        return delay_ms if delay_ms is not None and age_ms + delay_ms <= MAX_EVENT_AGE_MS else None

    def dead_letters(self, kind: str) -> bool:
        return kind in (UNAVAILABLE, REFUSED)

    def document(self) -> dict[str, Any]:
        return {"kind": "lambda"}


Chance = Callable[[], float]
"""A number from 0 to 1, another each time."""


class EventPolicy(NamedTuple):
    """The RetryPolicy of a target of EventBridge's. A function's own failures are Lambda's, as with SNS."""

    max_retries: int = MAX_RETRY_ATTEMPTS
    max_age_s: int = MAX_RETRY_AGE_S
    timeout_ms: int = API_DESTINATION_TIMEOUT_MS

    @property
    def timeout_kind(self) -> str:
        return FUNCTION_ERROR if self.timeout_ms == FUNCTION_TIMEOUT_MS else UNAVAILABLE

    @property
    def max_receives_per_s(self) -> int | None:
        return None  # an API destination's rate is its own, and may change meanwhile

    def delay_ms(
        self, kind: str, count: int, age_ms: int, at_least_ms: int = 0, chance: Chance = lambda: 0.0
    ) -> int | None:
        """As ever; not before `at_least_ms`, which the endpoint asked for, and with something left to chance."""
        if kind != UNAVAILABLE:
            return LAMBDA_POLICY.delay_ms(kind, count, age_ms)
        if count > self.max_retries:
            return None
        delay_ms = min(MIN_RETRY_DELAY_MS << min(count - 1, 20), MAX_RETRY_DELAY_MS)
        delay_ms = max(delay_ms - int(delay_ms * RETRY_JITTER * chance()), at_least_ms)
        return None if self.expired(age_ms + delay_ms) else delay_ms

    def exhausted(self, kind: str, count: int) -> str | None:
        """After giving up: which of its conditions was met, if it was one of them."""
        if kind != UNAVAILABLE:
            return None
        return MAXIMUM_RETRY_ATTEMPTS if count > self.max_retries else MAXIMUM_EVENT_AGE

    def expired(self, age_ms: int) -> bool:
        """Whether an event is too old even for a first attempt."""
        return age_ms > self.max_age_s * 1000

    def dead_letters(self, kind: str) -> bool:
        return kind in (UNAVAILABLE, REFUSED)

    def document(self) -> dict[str, Any]:
        return {"kind": "event", **self._asdict()}


MANAGED_ENDPOINT = Phases(1_000, 20_000, 3, 2, 10, 100_000, EXPONENTIAL)
"""SNS's own policy for Lambda, Firehose and SQS: 100,015 retries in 23 days (same page)."""

DEFAULT_HTTP_POLICY = HttpPolicy()
LAMBDA_POLICY = LambdaPolicy()


def write(policy: DeliveryPolicy) -> str:
    return json.dumps(policy.document(), separators=(",", ":"))


@lru_cache(maxsize=1024)
def read(text: str) -> DeliveryPolicy:
    """The policy that `write` wrote."""
    document = json.loads(text)
    kind = document.pop("kind")
    if kind == "lambda":
        return LAMBDA_POLICY
    if kind == "event":
        return EventPolicy(**document)
    return HttpPolicy(**{**document, "phases": Phases(**document["phases"])})


# The attribute DeliveryPolicy of topics and subscriptions --------------------------------------------

_RETRY_DEFAULTS: dict[str, Any] = {
    "minDelayTarget": 20,
    "maxDelayTarget": 20,
    "numRetries": 3,
    "numMaxDelayRetries": 0,
    "numNoDelayRetries": 0,
    "numMinDelayRetries": 0,
    "backoffFunction": LINEAR,
}
_SECTIONS = ("healthyRetryPolicy", "sicklyRetryPolicy", "throttlePolicy", "requestPolicy", "guaranteed")
_TOPIC_SECTIONS = (
    "defaultHealthyRetryPolicy",
    "defaultSicklyRetryPolicy",
    "defaultThrottlePolicy",
    "defaultRequestPolicy",
    "disableSubscriptionOverrides",
)


def _invalid(reason: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid parameter: DeliveryPolicy: {reason}")


def check(text: str, of_topic: bool) -> None:
    """Raises InvalidParameterException for a DeliveryPolicy that AWS refuses."""
    document = _map(_parsed(text), "")
    if of_topic:
        unknown = document.keys() - {"http"}
        if unknown:
            raise _invalid(f"unknown property {min(unknown)}")
        document = _map(document.get("http"), "http")
    known = _TOPIC_SECTIONS if of_topic else _SECTIONS
    for name in document:
        if name not in known:
            raise _invalid(f"unknown property {'http.' if of_topic else ''}{name}")
    flag = "disableSubscriptionOverrides" if of_topic else "guaranteed"
    if not isinstance(document.get(flag, False), bool):
        raise _invalid(f"{flag} must be a boolean")
    healthy, sickly, throttle, request = (name for name in known if name != flag)
    for name in (healthy, sickly):
        _check_retries(_map(document.get(name), name), name)
    _check_throttle(_map(document.get(throttle), throttle), throttle)
    _check_request(_map(document.get(request), request), request, CONTENT_TYPES if of_topic else RAW_CONTENT_TYPES)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid("failed to parse JSON.") from None


def _map(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(f"{name} must be a JSON object" if name else "failed to parse JSON.")
    return value


def _whole(section: Mapping[str, Any], path: str, name: str, least: int, most: int | None) -> None:
    value = section[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(f"{path}.{name} must be an integer")
    if value < least:
        raise _invalid(f"{path}.{name} must be greater than or equal to {least}")
    if most is not None and value > most:
        raise _invalid(f"{path}.{name} must be less than or equal to {most}")


def _check_retries(section: Mapping[str, Any], path: str) -> None:
    if not section:
        return
    for name in section:
        if name not in _RETRY_DEFAULTS:
            raise _invalid(f"unknown property {path}.{name}")
    for name in ("numRetries", "minDelayTarget", "maxDelayTarget"):
        if section.get(name) is None:
            raise _invalid(f"{path}.{name} must be specified")
    filled = {**_RETRY_DEFAULTS, **{name: value for name, value in section.items() if value is not None}}
    _whole(filled, path, "numRetries", 0, MAX_RETRIES)
    for name in ("minDelayTarget", "maxDelayTarget"):
        _whole(filled, path, name, 1, MAX_DELAY_S)
    for name in ("numNoDelayRetries", "numMinDelayRetries", "numMaxDelayRetries"):
        _whole(filled, path, name, 0, None)
    if filled["backoffFunction"] not in FUNCTIONS:
        raise _invalid(f"{path}.backoffFunction must be one of: {', '.join(FUNCTIONS)}")
    if filled["maxDelayTarget"] < filled["minDelayTarget"]:
        raise _invalid(f"{path}.maxDelayTarget must be greater than or equal to minDelayTarget")
    phases = _phases(filled)
    if phases.backoff < 0:
        raise _invalid(
            f"{path}.numRetries must be greater than or equal to total of numMinDelayRetries, numNoDelayRetries and "
            "numMaxDelayRetries"
        )
    if phases.total_ms() > MAX_TOTAL_S * 1000:
        raise _invalid(f"{path}: total retry time must be less than or equal to {MAX_TOTAL_S} seconds")


def _check_throttle(section: Mapping[str, Any], path: str) -> None:
    for name in section:
        if name != "maxReceivesPerSecond":
            raise _invalid(f"unknown property {path}.{name}")
    if section.get("maxReceivesPerSecond") is not None:
        _whole(section, path, "maxReceivesPerSecond", 1, None)


def _check_request(section: Mapping[str, Any], path: str, allowed: frozenset[str]) -> None:
    for name in section:
        if name != "headerContentType":
            raise _invalid(f"unknown property {path}.{name}")
    value = section.get("headerContentType")
    if value is None:
        return
    if (
        not isinstance(value, str)
        or not (value.isascii() and value.isprintable())
        or value.partition(";")[0].strip().lower() not in allowed
    ):
        raise _invalid(f"{path}.headerContentType must be one of: {', '.join(sorted(allowed))}")


def _phases(retry: Mapping[str, Any]) -> Phases:
    immediate, pre, post = (retry[f"num{name}DelayRetries"] for name in ("No", "Min", "Max"))
    return Phases(
        retry["minDelayTarget"] * 1000,
        retry["maxDelayTarget"] * 1000,
        immediate,
        pre,
        retry["numRetries"] - immediate - pre - post,
        post,
        retry["backoffFunction"],
    )


def _filled(section: Mapping[str, Any] | None) -> dict[str, Any]:
    given = {name: value for name, value in (section or {}).items() if value is not None}
    return {**_RETRY_DEFAULTS, **given}


def effective_of_topic(topic_policy: str | None) -> str:
    """EffectiveDeliveryPolicy of a topic whose DeliveryPolicy this is."""
    http = (json.loads(topic_policy).get("http") or {}) if topic_policy else {}
    document: dict[str, Any] = {
        "defaultHealthyRetryPolicy": _filled(http.get("defaultHealthyRetryPolicy")),
        "disableSubscriptionOverrides": http.get("disableSubscriptionOverrides", False),
    }
    if http.get("defaultThrottlePolicy"):
        document["defaultThrottlePolicy"] = http["defaultThrottlePolicy"]
    document["defaultRequestPolicy"] = http.get("defaultRequestPolicy") or {"headerContentType": DEFAULT_CONTENT_TYPE}
    return json.dumps({"http": document}, separators=(",", ":"))


def _effective(topic_policy: str | None, subscription_policy: str | None) -> dict[str, Any]:
    """A subscription's sections, each its own or else its topic's or else AWS's."""
    http = (json.loads(topic_policy).get("http") or {}) if topic_policy else {}
    own = json.loads(subscription_policy) if subscription_policy else {}
    if http.get("disableSubscriptionOverrides"):
        own = {}
    return {
        "healthyRetryPolicy": _filled(own.get("healthyRetryPolicy") or http.get("defaultHealthyRetryPolicy")),
        "sicklyRetryPolicy": own.get("sicklyRetryPolicy") or http.get("defaultSicklyRetryPolicy"),
        "throttlePolicy": own.get("throttlePolicy") or http.get("defaultThrottlePolicy"),
        "requestPolicy": own.get("requestPolicy")
        or http.get("defaultRequestPolicy")
        or {"headerContentType": DEFAULT_CONTENT_TYPE},
        "guaranteed": own.get("guaranteed", False),
    }


def effective_of_subscription(topic_policy: str | None, subscription_policy: str | None) -> str:
    """EffectiveDeliveryPolicy of a subscription by HTTP or HTTPS."""
    return json.dumps(_effective(topic_policy, subscription_policy), separators=(",", ":"))


@lru_cache(maxsize=1024)
def http_policy(topic_policy: str | None, subscription_policy: str | None) -> HttpPolicy:
    """What a subscription's deliveries go by. Both are the attribute's text, checked."""
    document = _effective(topic_policy, subscription_policy)
    return HttpPolicy(
        _phases(document["healthyRetryPolicy"]),
        (document["throttlePolicy"] or {}).get("maxReceivesPerSecond"),
        document["requestPolicy"].get("headerContentType") or DEFAULT_CONTENT_TYPE,
    )
