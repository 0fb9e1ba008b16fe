"""Tenants that share consumers, fairly: each gets its weight's part of the work, whatever the others send.

`Rounds` says whose message is next (weighted deficit round robin), `Neighbours` who has had how much of late and who is
noisy (both pure: told the time, no chance, no I/O). `FairConsumer` drives them over one queue that all tenants share,
or over a queue for each: a BatchConsumer a queue, with leases, deletions, drains and quarantine of its own, and all of
them start handlers by the same `Rounds`. The rule: who has work in hand is served once in every round.
Ugly: of a shared queue we see only what we have received. `park` lets us look further, and each look is a receive.
"""

from __future__ import annotations

import logging
import math
import random as chance_source
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

import anyio
import anyio.abc

from patterns.batch_consumer import (
    MAX_VISIBILITY_S,
    BatchConsumer,
    ConsumerPolicy,
    Held,
    Message,
    OnEvent,
    Quarantine,
    SqsClient,
    log_event,
)
from patterns.retry import Backoff, FullJitter

log = logging.getLogger("patterns.fair_scheduling")
T = TypeVar("T", bound=Hashable)

SPANS = 10  # in a window: how finely it moves on
_RESTART_BACKOFF = FullJitter(1.0, 60.0)  # of a tenant's queue that cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class FairPolicy(ConsumerPolicy):
    """A ConsumerPolicy of all tenants together: `concurrency` handlers are shared.

    `prefetch` is how many wait in hand: of one queue for all its tenants (the look-ahead), of a queue for each tenant
    for a weight like the smallest. `of_a_tenant` is the most handlers one may have. `park`: when somebody has filled
    more than its part of the look-ahead for `patience_s`, the rest of it goes back to the queue for so long (of its
    receive count), and makes room to see others. It counts as a receive, for `max_receives` and for the queue's redrive
    policy: leave both room for it. `window_s`, `noisy_factor`, `noisy_wait_s`: see `Neighbours`.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    default_weight: float = 1.0
    of_a_tenant: int | None = None
    park: Backoff | None = None
    patience_s: float = 2.0
    window_s: float = 60.0
    noisy_factor: float = 2.0
    noisy_wait_s: float = 1.0

    def __post_init__(self) -> None:
        ConsumerPolicy.__post_init__(self)
        if not all(0 < weight < math.inf for weight in (self.default_weight, *self.weights.values())):
            raise ValueError("weights are more than 0")
        if self.of_a_tenant is not None and self.of_a_tenant < 1:
            raise ValueError("of_a_tenant is at least 1")
        if min(self.patience_s, self.window_s) <= 0 or self.noisy_factor <= 1 or self.noisy_wait_s < 0:
            raise ValueError("patience_s and window_s are more than 0, noisy_factor than 1, noisy_wait_s at least 0")

    def weight(self, tenant: str) -> float:
        return self.weights.get(tenant, self.default_weight)

    def quantum(self, tenant: str) -> float:
        """What a tenant may have in a round, where the smallest weight has one message of the greatest cost."""
        return self.weight(tenant) / min([self.default_weight, *self.weights.values()])


# Whose turn it is ---------------------------------------------------------------------------------


class Rounds(Generic[T]):
    """Weighted deficit round robin: each tenant's items in their order, and tenants by turns of `quantum` each.

    A cost is more than 0 and at most 1, a quantum at least 1: so every turn takes something. What a turn does not use,
    because the next item costs more, is kept for the next turn; who has nothing left to take keeps nothing. A tenant
    with `at_once` items under way has no turns till one of them is `done`.
    M. Shreedhar and G. Varghese, "Efficient Fair Queueing Using Deficit Round Robin" (1995).
    """

    def __init__(self, quantum: Callable[[str], float], at_once: int | None = None) -> None:
        self._quantum = quantum
        self._at_once = at_once
        self._waiting: dict[str, deque[tuple[T, float]]] = {}
        self._turns: deque[str] = deque()  # who has a turn in this round or the next; the first one's is now
        self._credit: dict[str, float] = {}  # of those who have turns
        self._has_begun = False  # the first one's turn
        self.under_way: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def waiting(self) -> dict[str, int]:
        return {tenant: len(items) for tenant, items in self._waiting.items()}

    def add(self, tenant: str, item: T, cost: float = 1.0) -> None:
        if not 0 < cost <= 1:
            raise ValueError("a cost is more than 0 and at most 1")
        self._waiting.setdefault(tenant, deque()).append((item, cost))
        self._join(tenant)

    def take(self) -> tuple[str, T] | None:
        """The next one. It is under way until `done`."""
        while self._turns:
            tenant = self._turns[0]
            if self._is_full(tenant):
                self._quit(tenant)
                continue
            if not self._has_begun:
                self._has_begun = True
                self._credit[tenant] += self._quantum(tenant)
            items = self._waiting[tenant]
            item, cost = items[0]
            if cost > self._credit[tenant]:
                self._has_begun = False
                self._turns.rotate(-1)
                continue
            self._credit[tenant] -= cost
            items.popleft()
            self.under_way[tenant] += 1
            if not items:
                del self._waiting[tenant]
                self._quit(tenant)
            return tenant, item
        return None

    def done(self, tenant: str) -> None:
        self.under_way[tenant] -= 1
        if not self.under_way[tenant]:
            del self.under_way[tenant]
        self._join(tenant)

    def remove(self, tenant: str, item: T) -> None:
        """It does not wait any more. Raises ValueError if it did not."""
        items = self._waiting.get(tenant, deque())
        for place, (waiting, _) in enumerate(items):
            if waiting == item:
                del items[place]
                if not items:
                    del self._waiting[tenant]
                    self._quit(tenant)
                return
        raise ValueError(f"{item} does not wait")

    def _is_full(self, tenant: str) -> bool:
        return self._at_once is not None and self.under_way[tenant] >= self._at_once

    def _join(self, tenant: str) -> None:
        if tenant not in self._credit and tenant in self._waiting and not self._is_full(tenant):
            self._turns.append(tenant)
            self._credit[tenant] = 0.0

    def _quit(self, tenant: str) -> None:
        if self._credit.pop(tenant, None) is not None:
            self._has_begun = self._has_begun and self._turns[0] != tenant
            self._turns.remove(tenant)


# Who is noisy -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a tenant in the window. `work_s`: of its handlers; `wait_s`: of its messages, before they began. Shares are of
    all tenants' together; `fair_share` is its weight's part of those who were there."""

    messages: int
    work_s: float
    wait_s: float
    work_share: float
    wait_share: float
    fair_share: float
    is_noisy: bool


@dataclass(slots=True)
class _Span:
    """A tenth of a window. By tenant."""

    messages: Counter[str] = field(default_factory=Counter)
    work_s: dict[str, float] = field(default_factory=dict)
    wait_s: dict[str, float] = field(default_factory=dict)


class Neighbours:
    """What each tenant had of the handlers' time, and how long its messages waited, in the last `window_s`.

    Noisy is who has `factor` times its fair share of the work (or half of what is left above its fair share, if that
    is less), while the others' messages waited longer than `wait_s` on the mean. Who takes what nobody wants is not.
    """

    def __init__(
        self, weight: Callable[[str], float], window_s: float = 60.0, factor: float = 2.0, wait_s: float = 1.0
    ) -> None:
        self._weight = weight
        self._span_s = window_s / SPANS
        self._factor = factor
        self._wait_s = wait_s
        self._spans: dict[int, _Span] = {}
        self._at_work: Counter[str] = Counter()
        self._now_s: float | None = None

    def began(self, tenant: str, waited_s: float, now_s: float) -> None:
        span = self._pass(now_s)
        span.messages[tenant] += 1
        span.wait_s[tenant] = span.wait_s.get(tenant, 0.0) + waited_s
        self._at_work[tenant] += 1

    def ended(self, tenant: str, now_s: float) -> None:
        self._pass(now_s)
        self._at_work[tenant] -= 1

    def usage(self, now_s: float) -> dict[str, Usage]:
        """The greatest share of the work first."""
        self._pass(now_s)
        messages: Counter[str] = Counter()
        work_s: Counter[str] = Counter()
        wait_s: Counter[str] = Counter()
        for span in self._spans.values():
            messages.update(span.messages)
            work_s.update(span.work_s)
            wait_s.update(span.wait_s)
        tenants = sorted({*messages, *work_s}, key=lambda tenant: (-work_s[tenant], tenant))
        all_work_s, all_wait_s = float(work_s.total()), float(wait_s.total())
        all_weight, count = sum(map(self._weight, tenants)), messages.total()
        found: dict[str, Usage] = {}
        for tenant in tenants:
            work_share = work_s[tenant] / all_work_s if all_work_s else 0.0
            fair_share = self._weight(tenant) / all_weight
            others = count - messages[tenant]
            others_wait_s = (all_wait_s - wait_s[tenant]) / others if others else 0.0
            most = min(self._factor * fair_share, (1 + fair_share) / 2)
            found[tenant] = Usage(
                messages[tenant],
                work_s[tenant],
                wait_s[tenant],
                work_share,
                wait_s[tenant] / all_wait_s if all_wait_s else 0.0,
                fair_share,
                work_share > most and others_wait_s > self._wait_s,
            )
        return found

    def _pass(self, now_s: float) -> _Span:
        """Writes down the work since the last time, span by span, and forgets what is older than the window."""
        number = math.floor(now_s / self._span_s)
        since_s = max(now_s if self._now_s is None else self._now_s, (number - SPANS + 1) * self._span_s)
        while since_s < now_s:
            span = self._spans.setdefault(math.floor(since_s / self._span_s), _Span())
            until_s = min(now_s, (math.floor(since_s / self._span_s) + 1) * self._span_s)
            if until_s <= since_s:  # a float's last digit
                until_s = now_s
            for tenant, at_work in self._at_work.items():
                if at_work:
                    span.work_s[tenant] = span.work_s.get(tenant, 0.0) + at_work * (until_s - since_s)
            since_s = until_s
        self._now_s = now_s
        for old in [other for other in self._spans if other <= number - SPANS]:
            del self._spans[old]
        self._at_work = +self._at_work
        return self._spans.setdefault(number, _Span())


# The driver ---------------------------------------------------------------------------------------

FairHandler = Callable[[str, Message], Awaitable[None]]
OnNoisy = Callable[[str, Usage], None]


def by_group(message: Message) -> str:
    """The tenant is the MessageGroupId, as in SQS's own fair queues:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html"""
    return message.attributes.get("MessageGroupId", "")


def by_attribute(name: str) -> Callable[[Message], str]:
    """The tenant is the text of a message attribute; those without one are a tenant together."""

    def tenant_of(message: Message) -> str:
        return str(message.message_attributes.get(name, {}).get("StringValue", ""))

    return tenant_of


def all_alike(message: Message) -> float:
    return 1.0


def log_noisy(tenant: str, usage: Usage) -> None:
    level = logging.WARNING if usage.is_noisy else logging.INFO
    log.log(level, "%r has %.0f %% of the work: noisy: %s", tenant, usage.work_share * 100, usage.is_noisy)


def wall_ms() -> float:
    return time.time() * 1000


class FairConsumer:
    """Runs `handler(tenant, message)` for the messages of one queue, or of a queue for each tenant. At least once.

    `queues` is an SqsClient, and `tenant_of` says whose a message is; or clients by tenant. What is said of a
    BatchConsumer's handler, quarantine, `on_event` and `stop` holds here. `cost` is that of a message against the
    dearest one: more than 0, at most 1. `on_noisy` is told when a tenant becomes noisy and when it no longer is; it
    must not raise. One `run` an object.
    """

    def __init__(
        self,
        queues: SqsClient | Mapping[str, SqsClient],
        handler: FairHandler,
        policy: FairPolicy | None = None,
        *,
        tenant_of: Callable[[Message], str] = by_group,
        cost: Callable[[Message], float] = all_alike,
        quarantine: Quarantine | None = None,
        on_event: OnEvent = log_event,
        on_noisy: OnNoisy = log_noisy,
        now_ms: Callable[[], float] = wall_ms,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy or FairPolicy()
        self.rounds: Rounds[_Turn] = Rounds(self.policy.quantum, self.policy.of_a_tenant)
        self.neighbours = Neighbours(
            self.policy.weight, self.policy.window_s, self.policy.noisy_factor, self.policy.noisy_wait_s
        )
        self._clients: dict[str | None, SqsClient] = (
            dict(queues.items()) if isinstance(queues, Mapping) else {None: queues}
        )
        self._handler = handler
        self._tenant_of = tenant_of
        self._cost = cost
        self._quarantine = quarantine
        self._tell = on_event
        self._tell_noisy = on_noisy
        self._now_ms = now_ms
        self._random = random
        self._members: dict[str | None, _Member] = {}
        self._running = 0
        self._stopping = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._failure: Exception | None = None

    def add(self, tenant: str, client: SqsClient) -> None:
        """One more tenant's queue, also while it runs. Raises ValueError if it has one, or if all share a queue."""
        if None in self._clients or tenant in self._clients:
            raise ValueError(f"no further queue for {tenant!r}")
        self._clients[tenant] = client
        if self._tasks is not None:
            self._tasks.start_soon(self._serve, tenant, client)

    def remove(self, tenant: str) -> None:
        """Stops reading its queue: what has started is finished, the rest is given back. KeyError if it has none."""
        del self._clients[tenant]
        if tenant in self._members:
            self._members[tenant].stop()

    def usage(self) -> dict[str, Usage]:
        """In the last window, by tenant; the greatest share of the work first. To be called where `run` runs."""
        return self.neighbours.usage(anyio.current_time())

    def stop(self) -> None:
        """Begins a graceful end. What has started is finished, the rest goes back to its queue, and `run` returns."""
        self._stopping.set()
        for member in self._members.values():
            member.stop()

    async def run(self) -> None:
        """Until `stop`. Raises the client's error after `call_attempts` receives in a row have failed, once drained;
        of many queues one that fails is tried again by and by, and the others go on."""
        async with anyio.create_task_group() as around:
            around.start_soon(self._watch)
            async with anyio.create_task_group() as self._tasks:
                for tenant, client in self._clients.items():
                    self._tasks.start_soon(self._serve, tenant, client)
                await self._stopping.wait()
            self._tasks = None
            around.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _serve(self, tenant: str | None, client: SqsClient) -> None:
        failures = 0
        while not self._stopping.is_set() and self._clients.get(tenant) is client:
            member = self._members[tenant] = _Member(self, tenant, client)
            try:
                await member.run()
                return
            except ExceptionGroup:
                raise
            except Exception as error:
                if tenant is None:
                    self._failure = error
                    self.stop()
                    return
                failures = 1 if member.has_received else failures + 1
                log.warning("the queue of %r cannot be read: %r", tenant, error)
            finally:
                if self._members.get(tenant) is member:
                    del self._members[tenant]
            with anyio.move_on_after(_RESTART_BACKOFF.delay_s(max(1, failures), 0.0, self._random())):
                await self._stopping.wait()

    async def _watch(self) -> None:
        noisy: dict[str, Usage] = {}
        while True:
            await anyio.sleep(self.policy.window_s / SPANS)
            usage = self.usage()
            for tenant, was in noisy.items():
                if tenant not in usage or not usage[tenant].is_noisy:
                    self._tell_noisy(tenant, usage.get(tenant, replace(was, is_noisy=False)))
            for tenant, now in usage.items():
                if now.is_noisy and tenant not in noisy:
                    self._tell_noisy(tenant, now)
            noisy = {tenant: now for tenant, now in usage.items() if now.is_noisy}

    def _give_turns(self) -> None:
        while self._running < self.policy.concurrency and (taken := self.rounds.take()) is not None:
            self._running += 1
            _, turn = taken
            turn.member.take_turn(turn.lane)

    def _begin_turn(self, tenant: str, held: Held) -> None:
        now_s = anyio.current_time()
        waited_s = now_s - held.arrived_s
        sent_ms = held.message.attributes.get("SentTimestamp")
        if sent_ms is not None and held.message.receive_count == 1:  # later, it did not wait for us all the time
            waited_s = max(waited_s, (self._now_ms() - int(sent_ms)) / 1000)
        self.neighbours.began(tenant, waited_s, now_s)

    def _end_turn(self, tenant: str) -> None:
        self._running -= 1
        self.rounds.done(tenant)
        self.neighbours.ended(tenant, anyio.current_time())


class _Turn(NamedTuple):
    member: _Member
    lane: str


class _Member:
    """One queue's consumer. What it may start, and when, the rounds say."""

    def __init__(self, fair: FairConsumer, tenant: str | None, client: SqsClient) -> None:
        policy = fair.policy
        if tenant is not None:
            # Room for a whole turn: who cannot fill it has less than its share.
            prefetch = math.ceil(policy.prefetch * policy.quantum(tenant))
            policy = replace(policy, concurrency=policy.of_a_tenant or policy.concurrency, prefetch=prefetch)
        self.has_received = False
        self._fair = fair
        self._tenant = tenant
        self._lanes = _FairLanes(fair, self)
        self._consumer = BatchConsumer(
            client,
            lambda message: fair._handler(self.tenant_of(message), message),
            policy,
            quarantine=fair._quarantine,
            on_event=fair._tell,
            random=fair._random,
            lanes=self._lanes,
            on_ready=self._is_ready,
        )

    async def run(self) -> None:
        park = self._fair.policy.park
        if park is None or self._tenant is not None:
            return await self._consumer.run()
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._park_excess, park)
            failure: Exception | None = None
            try:
                await self._consumer.run()
            except Exception as error:
                failure = error
            beside.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return None

    def stop(self) -> None:
        self._consumer.stop()

    def take_turn(self, lane: str) -> None:
        self._lanes.take_turn(lane)
        self._consumer.start_ready()

    def tenant_of(self, message: Message) -> str:
        if self._tenant is not None:
            return self._tenant
        try:
            return self._fair._tenant_of(message)
        except Exception as error:
            log.warning("%s has no tenant: %r", message.message_id, error)
            return ""

    def cost_of(self, message: Message) -> float:
        try:
            cost = self._fair._cost(message)
        except Exception as error:
            log.warning("%s has no cost: %r", message.message_id, error)
            return 1.0
        return cost if 0 < cost <= 1 else 1.0

    def _is_ready(self) -> None:
        self.has_received = True
        self._fair._give_turns()

    async def _park_excess(self, park: Backoff) -> None:
        policy = self._fair.policy
        while True:
            await anyio.sleep(policy.patience_s / 2)
            if policy.wanted(self._consumer.in_hand):  # there is room as it is
                continue
            weights = {tenant: policy.weight(tenant) for tenant in self._lanes.tenants()}
            chairs = sum(weights.values()) + policy.default_weight  # and one for somebody whom we do not see
            parts = {
                tenant: max(1, math.floor(policy.prefetch * weight / chairs)) for tenant, weight in weights.items()
            }
            after_s: dict[Held, int] = {}
            for held in self._lanes.excess(parts, anyio.current_time() - policy.patience_s):
                delay_s = park.delay_s(held.message.receive_count, 0.0, self._fair._random())
                after_s[held] = min(MAX_VISIBILITY_S, math.ceil(delay_s))
            await self._consumer.give_back(after_s)


class _FairLanes:
    """`Lanes` of one queue. What is ready has a turn to come in the rounds of all, and starts when that has come."""

    def __init__(self, fair: FairConsumer, member: _Member) -> None:
        self._fair = fair
        self._member = member
        self._waiting: dict[str, deque[Held]] = {}  # every lane that has work, also when that has started
        self._offered: dict[str, str] = {}  # the tenants of lanes that have a turn to come
        self._turns: deque[Held] = deque()  # that have come
        self._started: set[str] = set()
        self._working: dict[Held, str] = {}
        self._is_closed = False

    def add(self, held: Held) -> None:
        if held.lane in self._waiting:
            self._waiting[held.lane].append(held)
        else:
            self._waiting[held.lane] = deque([held])
            self._offer(held)

    def take_turn(self, lane: str) -> None:
        held, tenant = self._waiting[lane].popleft(), self._offered.pop(lane)
        self._started.add(lane)
        self._working[held] = tenant
        self._turns.append(held)
        self._fair._begin_turn(tenant, held)

    def start(self) -> Held | None:
        return self._turns.popleft() if self._turns else None

    def rest(self, held: Held) -> None:
        self._fair._end_turn(self._working.pop(held))

    def finish(self, held: Held, *, ok: bool) -> list[Held]:
        self._started.discard(held.lane)
        waiting = self._waiting[held.lane]
        if ok and waiting and not self._is_closed:
            self._offer(waiting[0])
            return []
        del self._waiting[held.lane]
        return list(waiting)

    def close(self) -> None:
        self._is_closed = True
        for lane in list(self._offered):
            self._withdraw(lane)

    def drain(self) -> list[Held]:
        self.close()
        let_go = [held for waiting in self._waiting.values() for held in waiting]
        self._waiting = {lane: deque() for lane in self._started}
        return let_go

    def tenants(self) -> set[str]:
        """Of those that have a turn to come."""
        return set(self._offered.values())

    def excess(self, parts: Mapping[str, int], before_s: float) -> list[Held]:
        """Takes out what waits since before then and is more than its tenant's part: the last ones, and no group's."""
        count: Counter[str] = Counter()
        found: list[Held] = []
        for lane, tenant in list(self._offered.items()):
            count[tenant] += 1
            (first, *behind) = self._waiting[lane]
            is_old = first.arrived_s <= before_s
            if count[tenant] > parts[tenant] and is_old and not behind and first.message.ordered_group is None:
                self._withdraw(lane)
                del self._waiting[lane]
                found.append(first)
        return found

    def _offer(self, held: Held) -> None:
        if not self._is_closed:
            tenant = self._offered[held.lane] = self._member.tenant_of(held.message)
            self._fair.rounds.add(tenant, _Turn(self._member, held.lane), self._member.cost_of(held.message))

    def _withdraw(self, lane: str) -> None:
        self._fair.rounds.remove(self._offered.pop(lane), _Turn(self._member, lane))
