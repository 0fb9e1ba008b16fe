"""Fair rounds against a naive model and their bounds; the consumer against the real application, in time that jumps.

Handlers assert nothing: they write down who was served and when, and the tests look afterwards.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import AioSqs, Boto3Sqs, Fixed, Message, Poison
from patterns.fair_scheduling import (
    FairConsumer,
    FairPolicy,
    Neighbours,
    Rounds,
    Usage,
    by_attribute,
    by_group,
)

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
TENANTS = "abcd"
WEIGHTS = st.fixed_dictionaries({tenant: st.integers(1, 5) for tenant in TENANTS})
COSTS = st.integers(1, 8).map(lambda eighths: eighths / 8)


def played(backend: str, play: Callable[[Sqs], Awaitable[None]]) -> None:
    async def program() -> None:
        async with broker() as sqs:
            await play(sqs)

    run_virtually(backend, program)


# Rounds


@given(WEIGHTS, st.lists(st.tuples(st.sampled_from(TENANTS), COSTS), max_size=80))
def test_rounds_are_those_of_the_paper(weights: dict[str, int], items: list[tuple[str, float]]) -> None:
    rounds: Rounds[int] = Rounds(weights.__getitem__)
    queues: dict[str, deque[tuple[int, float]]] = {}
    for number, (tenant, cost) in enumerate(items):
        rounds.add(tenant, number, cost)
        queues.setdefault(tenant, deque()).append((number, cost))
    expected: list[tuple[str, int]] = []
    deficit: Counter[str] = Counter()
    while any(queues.values()):
        for tenant, queue in queues.items():
            deficit[tenant] += weights[tenant]  # type: ignore[assignment]
            while queue and queue[0][1] <= deficit[tenant]:
                number, cost = queue.popleft()
                deficit[tenant] -= cost  # type: ignore[assignment]
                expected.append((tenant, number))
            if not queue:
                deficit[tenant] = 0
    assert [rounds.take() for _ in items] == expected
    assert rounds.take() is None
    assert len(rounds) == 0


@given(
    WEIGHTS,
    st.none() | st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from(["add", "take", "take", "done", "remove"]), st.sampled_from(TENANTS), COSTS),
        max_size=150,
    ),
)
def test_nothing_is_lost_and_nobody_waits_longer_than_a_round(
    weights: dict[str, int], at_once: int | None, steps: list[tuple[str, str, float]]
) -> None:
    rounds: Rounds[int] = Rounds(weights.__getitem__, at_once)
    waiting: dict[str, list[tuple[int, float]]] = {tenant: [] for tenant in TENANTS}
    under_way: Counter[str] = Counter()
    since: dict[str, Counter[str]] = {tenant: Counter() for tenant in TENANTS}  # what others had while it waited

    def may(tenant: str) -> bool:
        return bool(waiting[tenant]) and (at_once is None or under_way[tenant] < at_once)

    for number, (action, tenant, cost) in enumerate(steps):
        if action == "add":
            rounds.add(tenant, number, cost)
            waiting[tenant].append((number, cost))
        elif action == "done" and under_way[tenant]:
            rounds.done(tenant)
            under_way[tenant] -= 1
        elif action == "remove" and waiting[tenant]:
            gone = waiting[tenant].pop(len(waiting[tenant]) // 2)
            rounds.remove(tenant, gone[0])
        elif action == "take":
            taken = rounds.take()
            if taken is None:
                assert not any(map(may, TENANTS)), "it rests only when nobody may begin"
                continue
            who, item = taken
            assert may(who)
            first, its_cost = waiting[who].pop(0)
            assert item == first, "each tenant's in order"
            under_way[who] += 1
            since[who].clear()
            for other in TENANTS:
                if other != who and may(other):
                    since[other][who] += its_cost  # type: ignore[assignment]
                    assert since[other][who] <= weights[who] + 1, "others have had one turn each"
        for one in TENANTS:
            if not may(one):
                since[one].clear()
    assert rounds.waiting() == {tenant: len(items) for tenant, items in waiting.items() if items}
    assert +rounds.under_way == +under_way


@given(WEIGHTS, st.integers(0, 10**9))
def test_shares_follow_weights_for_any_costs_and_pattern_of_arrival(weights: dict[str, int], seed: int) -> None:
    chance = random.Random(seed)
    rounds: Rounds[float] = Rounds(weights.__getitem__)
    served: Counter[str] = Counter()
    for _ in range(300):
        for tenant in TENANTS:  # each always has work, after a take too; sometimes much
            while rounds.waiting().get(tenant, 0) < 2 + chance.choice([0, 0, 9]):
                cost = chance.randrange(1, 9) / 8
                rounds.add(tenant, cost, cost)
        taken = rounds.take()
        assert taken is not None
        served[taken[0]] += taken[1]  # type: ignore[assignment]
        turns = [served[tenant] / weights[tenant] for tenant in TENANTS]
        assert max(turns) - min(turns) <= 2


def test_what_cannot_be_an_item_of_a_round() -> None:
    rounds: Rounds[str] = Rounds(lambda tenant: 1.0)
    for cost in (0.0, 1.5):
        with pytest.raises(ValueError, match="at most 1"):
            rounds.add("a", "x", cost)
    rounds.add("a", "x")
    with pytest.raises(ValueError, match="does not wait"):
        rounds.remove("a", "y")


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": {"a": 0}},
        {"default_weight": -1.0},
        {"of_a_tenant": 0},
        {"window_s": 0},
        {"noisy_factor": 1},
        {"noisy_wait_s": -1},
        {"patience_s": 0},
        {"concurrency": 0},
    ],
)
def test_a_policy_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|more than"):
        FairPolicy(**wrong)


def test_the_smallest_weight_has_one_of_the_dearest_messages_in_a_round() -> None:
    policy = FairPolicy(weights={"gold": 3, "tin": 0.5})
    assert [policy.quantum(tenant) for tenant in ("gold", "tin", "else")] == [6, 1, 2]


# Neighbours


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 40), st.integers(0, 50), st.integers(0, 9)), max_size=30
    ),
    st.integers(0, 60),
)
def test_usage_is_what_happened_in_the_window(works: list[tuple[str, int, int, int]], later: int) -> None:
    """Works have a tenant, a beginning, a length and a wait. Spans are of 4 s, and go as a whole."""
    neighbours = Neighbours(lambda tenant: 1.0, window_s=40.0)
    moments = [(begin, 0, tenant, wait) for tenant, begin, _, wait in works]
    moments += [(begin + length, 1, tenant, 0) for tenant, begin, length, _ in works]
    for at_s, is_end, tenant, wait in sorted(moments):
        if is_end:
            neighbours.ended(tenant, at_s)
        else:
            neighbours.began(tenant, wait, at_s)
    now_s = max((at_s for at_s, *_ in moments), default=0) + later
    from_s = (now_s // 4 - 9) * 4
    found = neighbours.usage(now_s)
    for tenant in ("a", "b"):
        mine = [work for work in works if work[0] == tenant]
        work_s = sum(max(0, begin + length - max(from_s, begin)) for _, begin, length, _ in mine)
        inside = [wait for _, begin, _, wait in mine if begin >= from_s]
        usage = found.get(tenant, Usage(0, 0, 0, 0, 0, 0, False))
        assert usage.work_s == pytest.approx(work_s)
        assert (usage.messages, usage.wait_s) == (len(inside), sum(inside))
    if found:
        assert sum(usage.fair_share for usage in found.values()) == pytest.approx(1)


def used(work: Mapping[str, int], waits_s: Mapping[str, float], weights: Mapping[str, float]) -> set[str]:
    neighbours = Neighbours(lambda tenant: weights.get(tenant, 1.0), window_s=1000)
    now_s = 0
    for tenant, length in work.items():
        neighbours.began(tenant, waits_s.get(tenant, 0.0), now_s)
        now_s += length
        neighbours.ended(tenant, now_s)
    return {tenant for tenant, usage in neighbours.usage(now_s).items() if usage.is_noisy}


def test_noisy_is_who_takes_much_more_than_its_part_while_others_wait() -> None:
    others_wait = dict.fromkeys("bcd", 5.0)
    work = {"a": 60, "b": 10, "c": 10, "d": 10}
    assert used(work, others_wait, {}) == {"a"}
    assert used(work, {"a": 500.0}, {}) == set(), "nobody else waits"
    assert used(work, others_wait, {"a": 10}) == set(), "that is its weight's part"
    assert used({"a": 60, "b": 10}, others_wait, {}) == {"a"}, "more than three quarters, of two"
    assert used({"a": 60, "b": 30}, others_wait, {}) == set()
    assert used({"a": 60}, {"a": 5.0}, {}) == set(), "alone"


# The consumer

QUICK = FairPolicy(concurrency=2, prefetch=3, handler_timeout_s=5, wait_s=1, backoff=Fixed(1))
SOON = replace(QUICK, visibility_s=3)  # what a crash has left in flight is there again


async def send(sqs: Sqs, url: str, tenant: str, count: int, start: int = 0) -> None:
    """To a queue that all share: the body is the tenant and a number."""
    attributes = {"tenant": {"DataType": "String", "StringValue": tenant}}
    for first in range(start, start + count, 10):
        entries = [
            {"Id": str(number), "MessageBody": f"{tenant}{number}", "MessageAttributes": attributes}
            for number in range(first, min(first + 10, start + count))
        ]
        await sqs.send_message_batch(QueueUrl=url, Entries=entries)


class Served:
    """A handler that takes its time and writes down."""

    def __init__(self, *takes_s: float, **of_a_tenant_s: float) -> None:
        self.bodies: list[str] = []
        self.tenants: list[str] = []
        self.at_s: dict[str, float] = {}
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._takes_s, self._of_a_tenant_s = takes_s[0] if takes_s else 1.0, of_a_tenant_s

    async def __call__(self, tenant: str, message: Message) -> None:
        self.running[tenant] += 1
        for name, count in (("all", self.running.total()), (tenant, self.running[tenant])):
            self.most[name] = max(self.most[name], count)
        self.bodies.append(message.body)
        self.tenants.append(tenant)
        self.at_s.setdefault(message.body, anyio.current_time())
        try:
            await anyio.sleep(self._of_a_tenant_s.get(tenant, self._takes_s))
        finally:
            self.running[tenant] -= 1


async def consume(sqs: Sqs, consumer: FairConsumer, *urls: str) -> None:
    """Until the queues are empty."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.run)
        for url in urls:
            await sqs.until_empty(url)
        consumer.stop()


@BACKENDS
def test_of_a_shared_queue_who_is_seen_is_served_in_the_next_round(backend: str) -> None:
    served = Served(1.0)

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await send(sqs, url, "noisy", 60)
        await send(sqs, url, "quiet", 3)
        policy = FairPolicy(concurrency=2, prefetch=100, wait_s=1, weights={"quiet": 2})
        consumer = FairConsumer(AioSqs(sqs, url), served, policy, tenant_of=by_attribute("tenant"))
        await consume(sqs, consumer, url)

    played(backend, play)
    assert Counter(served.tenants) == {"noisy": 60, "quiet": 3}
    assert max(served.at_s[f"quiet{number}"] for number in range(3)) - min(served.at_s.values()) <= 3
    assert served.most["all"] == 2


@BACKENDS
def test_with_a_queue_each_the_long_run_follows_the_weights(backend: str) -> None:
    """However it arrives: some have all at the beginning, some get it in drops, one is empty for a while."""
    weights = {"gold": 4.0, "silver": 2.0, "tin": 1.0, "late": 1.0}
    served = Served(1.0, late=0.5)
    moment: list[tuple[float, Counter[str]]] = []

    async def play(sqs: Sqs) -> None:
        urls = {tenant: await sqs.create(tenant) for tenant in weights}
        for tenant in ("gold", "silver"):
            await sqs.send(urls[tenant], *(f"{tenant}{number}" for number in range(900)))
        policy = FairPolicy(concurrency=5, prefetch=5, wait_s=1, weights=weights)
        consumer = FairConsumer({tenant: AioSqs(sqs, url) for tenant, url in urls.items()}, served, policy)

        async def drops() -> None:
            chance = random.Random(1)
            for number in itertools.count():
                await sqs.send(urls["tin"], *(f"tin{number}-{one}" for one in range(chance.choice([2, 4, 6]))))
                await anyio.sleep(2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            tasks.start_soon(drops)
            await anyio.sleep(100)
            moment.append((anyio.current_time(), Counter(served.tenants)))
            await sqs.send(urls["late"], *(f"late{number}" for number in range(400)))
            await anyio.sleep(100)
            moment.append((anyio.current_time(), Counter(served.tenants)))
            shares = {tenant: usage.fair_share for tenant, usage in consumer.usage().items()}
            assert shares == {"gold": 0.5, "silver": 0.25, "tin": 0.125, "late": 0.125}
            tasks.cancel_scope.cancel()

    played(backend, play)
    first, both = (counts for _, counts in moment)
    then = both - first
    assert first["gold"] / first["tin"] == pytest.approx(4, rel=0.1)
    assert first["silver"] / first["tin"] == pytest.approx(2, rel=0.1)
    assert then["gold"] / then["late"] == pytest.approx(4, rel=0.1)
    assert then["late"] / then["tin"] == pytest.approx(1, rel=0.1)


@BACKENDS
def test_who_comes_new_does_not_wait_for_the_flood(backend: str) -> None:
    served = Served(1.0)

    async def play(sqs: Sqs) -> None:
        urls = {tenant: await sqs.create(tenant) for tenant in ("flood", "a", "b")}
        await sqs.send(urls["flood"], *(f"f{number}" for number in range(300)))
        policy = FairPolicy(concurrency=3, prefetch=10, wait_s=1, of_a_tenant=2)
        consumer = FairConsumer({tenant: AioSqs(sqs, url) for tenant, url in urls.items()}, served, policy)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            for number in range(20):
                await anyio.sleep(3.3)
                sent_s = anyio.current_time()
                await sqs.send(urls["a"], f"a{number}")
                await anyio.sleep(1.1)
                assert served.at_s[f"a{number}"] - sent_s <= 1.0
            tasks.cancel_scope.cancel()

    played(backend, play)
    assert served.most["flood"] == 2, "never more than of_a_tenant"
    assert served.most["all"] == 3


@BACKENDS
def test_parking_sees_behind_a_flood(backend: str) -> None:
    """The look-ahead is 20, and 200 of a noisy tenant are before the quiet one's."""
    waits_s: dict[bool, float] = {}

    async def play(sqs: Sqs) -> None:
        for is_parking in (False, True):
            served = Served(1.0)
            url = await sqs.create(f"q{is_parking}")
            await send(sqs, url, "noisy", 200)
            await send(sqs, url, "quiet", 1)
            park = Fixed(60) if is_parking else None
            policy = FairPolicy(concurrency=2, prefetch=20, wait_s=1, park=park, max_receives=100)
            client = AioSqs(sqs, url)
            consumer = FairConsumer(client, served, policy, tenant_of=by_attribute("tenant"))
            began_s = anyio.current_time()
            with anyio.fail_after(3600):
                await consume(sqs, consumer, url)
            waits_s[is_parking] = served.at_s["quiet0"] - began_s
            assert Counter(served.tenants) == {"noisy": 200, "quiet": 1}

    played(backend, play)
    assert waits_s[False] > 80
    assert waits_s[True] < 40


@BACKENDS
def test_who_is_noisy_is_told_and_told_when_it_is_over(backend: str) -> None:
    told: list[tuple[str, bool]] = []
    usages: list[dict[str, Usage]] = []

    async def play(sqs: Sqs) -> None:
        urls = {tenant: await sqs.create(tenant) for tenant in ("a", "b", "slow")}
        policy = FairPolicy(concurrency=3, prefetch=5, handler_timeout_s=60, wait_s=1)
        consumer = FairConsumer(
            {tenant: AioSqs(sqs, url) for tenant, url in urls.items()},
            Served(0.1, slow=20.0),
            policy,
            on_noisy=lambda tenant, usage: told.append((tenant, usage.is_noisy)),
            now_ms=lambda: 1_700_000_000_000 + anyio.current_time() * 1000,
        )

        async def some(tenant: str) -> None:
            for number in range(150):
                await sqs.send(urls[tenant], f"{tenant}{number}")
                await anyio.sleep(2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            tasks.start_soon(some, "a")
            tasks.start_soon(some, "b")
            await anyio.sleep(60)
            assert told == []
            await sqs.send(urls["slow"], *(f"s{number}" for number in range(20)))
            await anyio.sleep(90)
            usages.append(consumer.usage())
            await anyio.sleep(150)
            consumer.stop()
            tasks.cancel_scope.cancel()

    played(backend, play)
    assert told == [("slow", True), ("slow", False)]
    assert list(usages[0]) == ["slow", "a", "b"]
    assert usages[0]["slow"].work_share > 0.9


@BACKENDS
@pytest.mark.parametrize("kind", ["shared", "each"])
def test_a_crash_at_any_await_loses_nothing_and_keeps_groups_in_order(backend: str, kind: str) -> None:
    """Of a shared FIFO queue the groups are tenants; with a queue each, each is a FIFO queue with one group."""
    expected = {tenant: [f"{tenant}{number}" for number in range(3)] for tenant in "ab"}
    crashes = 0

    async def play(sqs: Sqs) -> None:
        nonlocal crashes
        for after in itertools.count(1 if backend == "asyncio" else 2, 2):  # together, at every one
            names = {tenant: f"{tenant}{after}.fifo" if kind == "each" else f"all{after}.fifo" for tenant in "ab"}
            urls = {tenant: await sqs.create(name) for tenant, name in names.items()}
            for tenant, url in urls.items():
                await sqs.send(url, *expected[tenant])
            done: list[str] = []

            async def handle(tenant: str, message: Message, done: list[str] = done) -> None:
                await anyio.lowlevel.checkpoint()
                if message.body == "a1" and message.receive_count == 1:
                    raise RuntimeError("not at the first time")
                done.append(message.body)
                await anyio.lowlevel.checkpoint()

            def consumer(urls: dict[str, str] = urls, handle: Any = handle) -> FairConsumer:
                clients = {tenant: AioSqs(sqs, url) for tenant, url in urls.items()}
                return FairConsumer(clients if kind == "each" else clients["a"], handle, SOON, tenant_of=by_group)

            first = consumer()
            async with anyio.create_task_group() as tasks:

                async def end_it(urls: dict[str, str] = urls, first: FairConsumer = first) -> None:
                    for url in urls.values():
                        await sqs.until_empty(url)
                    first.stop()

                tasks.start_soon(end_it)
                crashed = await crash(after, first.run)
                tasks.cancel_scope.cancel()
            await consume(sqs, consumer(), *urls.values())
            for tenant, bodies in expected.items():
                mine = [body for body in done if body[0] == tenant]
                assert [body for body, _ in itertools.groupby(mine)] == bodies, (after, done)
            if not crashed:
                break
            crashes += 1

    played(backend, play)
    assert crashes > 20


@BACKENDS
def test_stop_finishes_what_has_started_and_gives_back_the_rest(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await send(sqs, url, "a", 10)
        await send(sqs, url, "b", 10)
        served = Served(3.0)
        policy = FairPolicy(concurrency=2, prefetch=8, wait_s=1)
        consumer = FairConsumer(AioSqs(sqs, url), served, policy, tenant_of=by_attribute("tenant"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            await anyio.sleep(1)
            began_s = anyio.current_time()
            consumer.stop()
        assert anyio.current_time() - began_s < 4
        assert len(served.bodies) == 2
        assert len(consumer.rounds) == 0
        assert await sqs.counts(url) == (18, 0)

    played(backend, play)


class Broken(AioSqs):
    """A queue that cannot be received from for a while."""

    is_broken = True

    async def receive(self, *, max_messages: int, wait_s: int, visibility_s: int) -> Sequence[Message]:
        if self.is_broken:
            raise ConnectionError("no")
        return await super().receive(max_messages=max_messages, wait_s=wait_s, visibility_s=visibility_s)


@BACKENDS
def test_a_queue_that_fails_holds_up_no_other_and_is_tried_again(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        urls = {tenant: await sqs.create(tenant) for tenant in ("a", "b", "c")}
        for tenant, url in urls.items():
            await sqs.send(url, *(f"{tenant}{number}" for number in range(20)))
        served = Served(0.1)
        broken = Broken(sqs, urls["b"])
        consumer = FairConsumer({"a": AioSqs(sqs, urls["a"]), "b": broken}, served, QUICK)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            await anyio.sleep(5)
            assert Counter(served.tenants) == {"a": 20}
            consumer.add("c", AioSqs(sqs, urls["c"]))
            with pytest.raises(ValueError, match="no further queue"):
                consumer.add("c", AioSqs(sqs, urls["c"]))
            await anyio.sleep(300)
            broken.is_broken = False
            await anyio.sleep(120)
            assert Counter(served.tenants) == {"a": 20, "b": 20, "c": 20}
            consumer.remove("c")
            await anyio.sleep(5)
            await sqs.send(urls["c"], "unread")
            await sqs.send(urls["a"], "read")
            await anyio.sleep(5)
            assert served.bodies[60:] == ["read"]
            consumer.stop()

    played(backend, play)


@BACKENDS
def test_a_shared_queue_that_is_not_there_ends_the_consumer_with_its_error(backend: str) -> None:
    async def play(sqs: Sqs) -> None:
        client = AioSqs(sqs, "http://bus.test/000000000000/none")
        for policy in (FairPolicy(), FairPolicy(park=Fixed(1))):
            consumer = FairConsumer(client, Served(), policy)
            with pytest.raises(RuntimeError, match="QueueDoesNotExist"):
                await consumer.run()
            with pytest.raises(ValueError, match="no further queue"):
                consumer.add("a", client)

    played(backend, play)


@BACKENDS
def test_poison_and_functions_that_fail_hold_nobody_up(backend: str) -> None:
    quarantined: list[str] = []
    done: list[tuple[str, str]] = []

    async def play(sqs: Sqs) -> None:
        url = await sqs.create("q")
        await sqs.send(url, "a0", "bad", "b0", "strange")

        def tenant_of(message: Message) -> str:
            if message.body == "strange":
                raise KeyError("tenant")
            return message.body[0]

        def cost(message: Message) -> float:
            return {"a0": 0.5, "b0": 7.0}[message.body]

        async def handle(tenant: str, message: Message) -> None:
            if message.body == "bad":
                raise Poison("never")
            done.append((tenant, message.body))

        async def quarantine(message: Message, error: Exception) -> None:
            quarantined.append(message.body)

        consumer = FairConsumer(AioSqs(sqs, url), handle, QUICK, tenant_of=tenant_of, cost=cost, quarantine=quarantine)
        await consume(sqs, consumer, url)

    played(backend, play)
    assert quarantined == ["bad"]
    assert sorted(done) == [("", "strange"), ("a", "a0"), ("b", "b0")]


@BACKENDS
def test_boto3_in_threads(backend: str, sqs: Any) -> None:
    urls = {tenant: sqs.create_queue(QueueName=tenant)["QueueUrl"] for tenant in "ab"}
    for tenant, url in urls.items():
        for number in range(5):
            sqs.send_message(QueueUrl=url, MessageBody=f"{tenant}{number}")
    done: list[str] = []

    async def program() -> None:
        async def handle(tenant: str, message: Message) -> None:
            done.append(message.body)
            if len(done) == 10:
                consumer.stop()

        clients = {tenant: Boto3Sqs(sqs, url) for tenant, url in urls.items()}
        consumer = FairConsumer(clients, handle, FairPolicy(wait_s=0))
        with anyio.fail_after(10):
            await consumer.run()

    anyio.run(program, backend=backend)
    assert sorted(done) == sorted(f"{tenant}{number}" for tenant in "ab" for number in range(5))
