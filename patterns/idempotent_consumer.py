"""Does the work of a message once though it comes many times, and answers the others with the first one's result.

`IdempotencyPolicy.decide` says what a record of the store means now (pure: it is told the time); `Idempotent` drives
a handler by it over an `IdempotencyStore`. The rule: a handler runs only under a claim, which is one compare-and-set of
the record, PENDING with a lease; with its result the record becomes COMPLETED, and from then on it is only read.
Ugly: between the effect and COMPLETED a crash leaves a record that only `recover`, the user's own look, can settle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import anyio

from patterns.batch_consumer import Message, Poison
from patterns.retry import FullJitter, RetryPolicy, retry

log = logging.getLogger("patterns.idempotent_consumer")
M = TypeVar("M")


class State(Enum):
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True)
class Record:
    """`version` is unique to each write. Times are seconds since the epoch. `result` is JSON."""

    version: str
    state: State
    lease_end_s: float
    forget_s: float
    fingerprint: str | None = None
    result: str | None = None


class IdempotencyStore(Protocol):
    """`write` is the one atomic thing; a write that fails with an error may have happened."""

    async def read(self, key: str) -> Record | None: ...

    async def write(self, key: str, record: Record, replaces: Record | None) -> bool:
        """False, and nothing is written, unless the stored version is that of `replaces` (None: there is no record)."""
        ...

    async def overdue(self, now_s: float, limit: int) -> Sequence[str]:
        """Keys that are PENDING and whose lease is over."""
        ...

    async def purge(self, now_s: float) -> int:
        """Deletes what is to be forgotten; how many."""
        ...


class InProgress(Exception):
    """Somebody else works on it, or did when he crashed: try again later."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"claimed for another {retry_after_s:.3f} s")
        self.retry_after_s = retry_after_s


class ClaimLost(Exception):
    """The work outlived its claim, and somebody else has begun it again."""


class KeyReused(Poison):
    """The key is known, but from another content."""


class NoKey(Poison):
    """The message has nothing where its key should be."""


class Decision(Enum):
    RUN = "run"
    RECOVER = "recover"  # an attempt before this one did not come to its end: what did it do?
    REPLAY = "replay"
    WAIT = "wait"
    REUSED = "reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyPolicy:
    """`lease_s` None is twice the handler's timeout. `keep_s` should be as long as a duplicate can be late: the default
    is SQS's longest retention.
    """

    handler_timeout_s: float = 30.0
    lease_s: float | None = None
    keep_s: float = 1_209_600.0
    store_retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(FullJitter(0.05, 1.0), attempts=4))

    def __post_init__(self) -> None:
        if not 0 < self.handler_timeout_s < self.claim_s <= self.keep_s:
            raise ValueError("0 < handler_timeout_s < lease_s <= keep_s must hold")

    @property
    def claim_s(self) -> float:
        """The lease in use."""
        return 2 * self.handler_timeout_s if self.lease_s is None else self.lease_s

    def decide(self, record: Record | None, fingerprint: str | None, now_s: float) -> Decision:
        if record is None or record.forget_s <= now_s:
            return Decision.RUN
        if None not in (fingerprint, record.fingerprint) and fingerprint != record.fingerprint:
            return Decision.REUSED
        if record.state is State.COMPLETED:
            return Decision.REPLAY
        return Decision.WAIT if now_s < record.lease_end_s else Decision.RECOVER

    def claim(self, version: str, fingerprint: str | None, now_s: float) -> Record:
        return Record(version, State.PENDING, now_s + self.claim_s, now_s + self.keep_s, fingerprint)

    def completed(self, claim: Record, version: str, result: str, now_s: float) -> Record:
        forget_s = now_s + self.keep_s
        return replace(claim, version=version, state=State.COMPLETED, forget_s=forget_s, result=result)


@dataclass(frozen=True, slots=True)
class Recovered:
    """The effect had happened, with this result."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Keys: those whose effect had happened, and those that wait for their message to come again."""

    completed: Sequence[str]
    unfinished: Sequence[str]


Recover = Callable[[str], Awaitable[Recovered | None]]


class Idempotent(Generic[M]):
    """`await idempotent(message)` is what `handler` returned for this key (as JSON), now or before.

    It is a handler for BatchConsumer. Raises InProgress while somebody else has the claim; what the handler raises,
    or TimeoutError, and then the next attempt may begin at once; ClaimLost; KeyReused if `fingerprint` is given and
    differs; what the store raises after its retries. `recover(key)` is asked before a key is worked on again, and by
    `reconcile`: it says what the attempt before had done, None for nothing. Cancelling is a crash: the lease must end.
    `clock` is the time of day, the same for all who share the store.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        handler: Callable[[M], Awaitable[Any]],
        key: Callable[[M], str],
        policy: IdempotencyPolicy | None = None,
        *,
        fingerprint: Callable[[M], str] | None = None,
        recover: Recover | None = None,
        clock: Callable[[], float] = time.time,
        new_version: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.policy = policy or IdempotencyPolicy()
        self._store = store
        self._handler = handler
        self._key = key
        self._fingerprint = fingerprint
        self._recover = recover
        self._clock = clock
        self._new_version = new_version

    async def __call__(self, message: M) -> Any:
        key = self._key(message)
        fingerprint = None if self._fingerprint is None else self._fingerprint(message)
        while True:
            record = await retry(lambda: self._store.read(key), self.policy.store_retry)
            now_s = self._clock()
            decision = self.policy.decide(record, fingerprint, now_s)
            if decision is Decision.REUSED:
                raise KeyReused(key)
            if record is not None and decision is Decision.REPLAY:
                return json.loads(record.result or "null")
            if record is not None and decision is Decision.WAIT:
                raise InProgress(record.lease_end_s - now_s)
            end_s = anyio.current_time() + self.policy.handler_timeout_s
            claim = await self._claim(key, record, fingerprint, now_s)
            if claim is not None:
                break
        try:
            with anyio.fail_after(end_s - anyio.current_time()):
                recovered = None
                if decision is Decision.RECOVER and self._recover is not None:
                    recovered = await self._recover(key)
                result = recovered.result if recovered is not None else await self._handler(message)
            text = json.dumps(result)
        except Exception:
            await self._release(key, claim)
            raise
        await self._complete(key, claim, text)
        return json.loads(text)

    async def reconcile(self, limit: int = 100) -> Reconciled:
        """Looks at what crashed between its effect and COMPLETED, without waiting for the message to come again."""
        if self._recover is None:
            raise ValueError("nobody can say what has happened: recover is not given")
        completed: list[str] = []
        unfinished: list[str] = []
        for key in await self._store.overdue(self._clock(), limit):
            record, now_s = await self._store.read(key), self._clock()
            if record is None or self.policy.decide(record, None, now_s) is not Decision.RECOVER:
                continue
            end_s = anyio.current_time() + self.policy.handler_timeout_s
            claim = await self._claim(key, record, record.fingerprint, now_s)
            if claim is None:
                continue
            try:
                with anyio.fail_after(end_s - anyio.current_time()):
                    recovered = await self._recover(key)
            except Exception:
                await self._release(key, claim)
                raise
            if recovered is None:
                await self._release(key, claim)
                unfinished.append(key)
            else:
                await self._complete(key, claim, json.dumps(recovered.result))
                completed.append(key)
        return Reconciled(completed, unfinished)

    async def purge(self) -> int:
        """Deletes what is older than `keep_s`; how many records."""
        return await self._store.purge(self._clock())

    async def _claim(self, key: str, replaces: Record | None, fingerprint: str | None, now_s: float) -> Record | None:
        claim = self.policy.claim(self._new_version(), fingerprint, now_s)
        return claim if await self._write(key, claim, replaces) else None

    async def _complete(self, key: str, claim: Record, result: str) -> None:
        completed = self.policy.completed(claim, self._new_version(), result, self._clock())
        if not await self._write(key, completed, claim):
            raise ClaimLost(key)

    async def _release(self, key: str, claim: Record) -> None:
        """Without it the next attempt would wait for the end of the lease, so it is worth no error."""
        released = replace(claim, version=self._new_version(), lease_end_s=self._clock())
        try:
            await self._write(key, released, claim)
        except Exception as error:
            log.warning("%s stays claimed until its lease ends: %r", key, error)

    async def _write(self, key: str, record: Record, replaces: Record | None) -> bool:
        async def attempt() -> bool:
            if await self._store.write(key, record, replaces):
                return True
            there = await self._store.read(key)  # an attempt whose answer was lost may have written it
            return there is not None and there.version == record.version

        return await retry(attempt, self.policy.store_retry)


# Keys


def by_message_id(message: Message) -> str:
    """Knows what SQS delivers twice, but not what was sent twice."""
    return message.message_id


def by_body(message: Message) -> str:
    """The body's SHA-256. Two messages that shall both count must differ in it."""
    return hashlib.sha256(message.body.encode()).hexdigest()


def by_path(expression: str) -> Callable[[Message], str]:
    """What a JMESPath expression finds in the JSON body. Needs `jmespath`, which comes with botocore.

    https://jmespath.org. Raises NoKey for a body that is not JSON, and where it finds nothing or a part of it is null.
    """
    import jmespath  # type: ignore[import-untyped, unused-ignore]

    compiled = jmespath.compile(expression)

    def key(message: Message) -> str:
        try:
            found = compiled.search(json.loads(message.body))
        except ValueError as error:
            raise NoKey(f"{expression}: {error}") from error
        if found is None or found == [] or (isinstance(found, list) and None in found):
            raise NoKey(expression)
        return json.dumps(found, sort_keys=True, ensure_ascii=False)

    return key
