"""Group commit: operations of one turn of the event loop share a transaction, and every answer waits for it.

The rule: nothing is told to a client before the transaction it saw or made is committed (and, with sync=full, on
disk). The group closes when the loop has handed over all it had read: nobody waits for company, yet under load one
fsync serves many. An fsync on the loop costs less here than two thread hops would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

from broker.errors import BrokerFailure


class Transactions(Protocol):
    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def failure(self, error: Exception) -> BrokerFailure | None: ...


log = logging.getLogger("sidebus.commit")

Answer = Callable[[BrokerFailure | None], None]
Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


class Undone(BrokerFailure):
    """Nothing of ours broke: a fault was to happen. Who was only told to wait no longer can be told so."""


class GroupCommit:
    """One transaction at a time. `soon` runs a function once the work at hand is through."""

    def __init__(self, store: Transactions, soon: Callable[[Callable[[], None]], object]) -> None:
        self._store = store
        self._soon = soon
        self._open = False
        self._stopped = False
        self._stale = False  # a transaction was lost, and what it had changed in RAM could not be read again
        self._answers: list[Answer] = []
        self.before_commit: list[Callable[[], None]] = []
        self.after_rollback: list[Callable[[], None]] = []

    def enter(self) -> None:
        """Makes sure that a transaction is open. Each operation that reads or writes the store begins so."""
        if not self._open:
            self._store.begin()
            self._open = True
            self._soon(self.flush)
            if self._stale:
                self._reload()

    def run(self, job: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Does a job of the broker's own, for which the clock has called. It fails as an operation does."""
        if self._stopped:  # the event loop still had it in hand when the broker ended
            return
        try:
            self.enter()
            job(*arguments)
        except Exception as error:
            log.error("%s", self.fail(error))

    def then(self, answer: Answer) -> None:
        """Calls `answer` once all that has happened so far is committed: at once if nothing is open."""
        if self._open:
            self._answers.append(answer)
        else:
            answer(None)

    def abort(self, failure: BrokerFailure) -> None:
        """Something of ours broke inside the group: none of it happened, and all who took part are told."""
        try:
            if self._open:
                self._open = False
                self._store.rollback()
            self._stale = True
            self._reload()
        except Exception:
            log.exception("the store cannot be read")
        finally:
            self._let_go(failure)

    def undone(self, operation: Callable[[], T]) -> T:
        """Does an operation in a group of its own, of which nothing will have happened; returns or raises what it does.

        What was under way is committed first, so that nobody else's work is in it. Nobody is served out of it, for
        that is done before a commit; what it has changed in RAM is read anew; who waits for it is told `Undone`.
        """
        self.settle()
        self.enter()
        try:
            return operation()
        finally:
            self.abort(Undone("This was taken back."))

    def stop(self) -> None:
        """The store is about to be closed: what is open has not happened, and the clock calls in vain."""
        self._open = False
        self._stopped = True

    def fail(self, error: Exception) -> BrokerFailure:
        """Aborts, and says why."""
        failure = error if isinstance(error, BrokerFailure) else self._store.failure(error)
        if failure is None:
            log.error("a group of operations failed", exc_info=error)
            failure = BrokerFailure(f"Sidebus failed ({type(error).__name__}): see its log.")
        self.abort(failure)
        return failure

    def flush(self) -> None:
        """Commits what is open and lets the answers go."""
        if not self._open:
            return
        try:
            for prepare in self.before_commit:
                prepare()
            self._store.commit()
        except Exception as error:
            self.fail(error)
            return
        self._open = False
        self._let_go(None)

    def settle(self) -> None:
        """Commits until nothing is open: an answer may begin another group."""
        while self._open:
            self.flush()

    def _reload(self) -> None:
        for reload in self.after_rollback:
            reload()
        self._stale = False

    def _let_go(self, failure: BrokerFailure | None) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            try:
                answer(failure)
            except Exception:  # one client's answer must not cost the others theirs
                log.exception("an answer could not be given")
