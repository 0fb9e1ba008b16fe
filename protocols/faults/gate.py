"""What happens to a request that a rule strikes: refused, late, lost on the way there or back, half done.

The rule: a request that nothing strikes goes the way it goes without a plan. One rule strikes a request; what is not
done leaves no trace but the ledger's; what is done is committed as ever, whatever the client then sees of it. Other
clients' work in the same moment is theirs: what must not happen is done in a group of its own and rolled back.

A long poll is lost on its way back when it has its answer. `answered-not-done` lets two things pass, for nothing of
them is done yet when they are asked: a long poll that has to wait, and SubscribeToShard.
Latencies, stalls and a full disk end by the broker's clock. A pause and the time that a restart takes are real time.
What is ugly about it: a pause stops the event loop, as it should, with whatever else runs in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import md5
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.clock import ClockRefusal, ManualClock, SystemClock, Timer
from broker.errors import BrokerFailure, DomainError
from broker.faults import Hit, Occasion
from protocols.aws.call import Call, Later, Operation, Result, Streaming
from protocols.faults import batches, bodies, refusals
from protocols.faults.occasions import occasion
from protocols.http.message import Answer, Cancel, NoResponse, Reply, Request, Response
from protocols.routing import Route
from protocols.shapes.model import Operation as OperationShape
from protocols.wire.errors import WireError

if TYPE_CHECKING:
    from protocols.application import Application

Outcome = Result | Later | Streaming
Around = Callable[[Operation, Call], Outcome]
"""Does an operation in its own way."""

log = logging.getLogger("sidebus.faults")


class Struck(NamedTuple):
    """A request that a rule has struck."""

    hit: Hit
    shape: OperationShape
    occasion: Occasion
    request: Request
    route: Route
    reply: Reply
    given: Result  # its decoded input


class Gate:
    """Stands before the application while a plan has rules for requests."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._broker = broker = application.broker
        self._full: Timer | None = None
        self._late: dict[Timer, Reply] = {}  # requests that wait for their latency to end
        broker.on_end.append(self._end)
        self._kinds: Mapping[str, Callable[[Struck], Cancel | None]] = {
            "error": self._error,
            "throttle": self._throttle,
            "latency": self._latency,
            "answered-not-done": self._answered_not_done,
            "done-not-answered": self._done_not_answered,
            "reset": self._reset,
            "stall": self._broken,
            "truncate": self._broken,
            "slow-bytes": self._broken,
            "partial-batch": self._partial_batch,
            "restart": self._restart,
            **dict.fromkeys(("jump", "drift", "pause", "full-disk"), self._afterwards),
        }
        self._acts: Mapping[str, Callable[[Hit], None]] = {
            "jump": self._jump,
            "drift": self._drift,
            "pause": self._pause,
            "restart": self._restart_now,
            "full-disk": self._fill_disk,
        }
        for kind in self._acts:
            broker.faults.on(kind, self._at)

    def __call__(self, request: Request, route: Route, reply: Reply) -> Cancel | None:
        """As a `Handler`, of a request whose route is known."""
        application = self._application
        try:
            shape, world, given = application.read(request, route)
        except WireError:  # nothing strikes what is no request
            return application.perform(request, route, reply)
        asked = occasion(self._broker, world, given, request, route)
        hit = self._broker.faults.hit("request", asked)
        if hit is None:
            return application.perform(request, route, reply, given)
        return self._kinds[hit.kind](Struck(hit, shape, asked, request, route, reply, given))

    def _at(self, hit: Hit) -> None:
        """A fault of time or of the broker at its moment, with no request."""
        if hit.kind != "restart":
            self._broker.ledger.fault(hit, "")
        self._acts[hit.kind](hit)
        if hit.kind == "restart":  # what it notes before is lost
            self._broker.ledger.fault(hit, "")

    # not done

    def _error(self, struck: Struck) -> None:
        given = struck.hit.parameters
        self._refuse(struck, refusals.error(struck.shape.service, given["code"], given["message"], given["status"]))

    def _throttle(self, struck: Struck) -> None:
        self._refuse(struck, refusals.throttled(struck.shape, struck.occasion.resource))

    def _refuse(self, struck: Struck, refusal: refusals.Refusal) -> None:
        self._note(struck)
        self._application.exchange(struck.request, struck.route, struck.reply).refuse(*refusal)

    def _reset(self, struck: Struck) -> Cancel | None:
        if struck.hit.parameters["when"] == "after":
            return self._unanswered(struck, NoResponse())
        self._note(struck)
        self._when_committed(lambda: struck.reply(NoResponse()))
        return None

    def _answered_not_done(self, struck: Struck) -> Cancel | None:
        commit = self._broker.commit

        def undone(function: Operation, call: Call) -> Outcome:
            outcome = commit.undone(partial(_waiting_for_nobody, function, call))
            if isinstance(outcome, Later):
                return function(call)
            entries = batches.entries_of(struck.shape.name, struck.given) if struck.occasion.service == "sqs" else []
            for entry in entries:
                self._note(struck, entry)
            if not entries:
                self._note(struck)
            return outcome

        return self._perform(struck, around=None if struck.shape.name == "SubscribeToShard" else undone)

    def _partial_batch(self, struck: Struck) -> Cancel | None:
        entries = batches.entries_of(struck.shape.name, struck.given)
        content = struck.occasion.content
        contents = content() if content is not None else [None] * len(entries)
        assert isinstance(contents, list)
        hit = struck.hit
        failing = batches.chosen(hit.parameters["fraction"], hit.chance, [hit.matches(one) for one in contents])

        def partly(function: Operation, call: Call) -> Outcome:
            result = batches.perform(function, call, struck.shape.name, failing)
            for place in failing:
                self._note(struck, entries[place])
            return result

        return self._perform(struck, around=partly if failing else None)

    # late

    def _latency(self, struck: Struck) -> Cancel:
        self._note(struck)
        cancels: list[Cancel | None] = []
        clock, ledger = self._broker.clock, self._broker.ledger

        def go_on() -> None:
            del self._late[timer]
            ledger.by = struck.occasion.client
            try:
                cancels.append(self._perform(struck))
            finally:
                ledger.by = ""

        timer = clock.call_at(clock.now_ms() + struck.hit.parameters["delay_ms"], go_on)

        self._late[timer] = struck.reply

        def cancel() -> None:
            timer.cancel()
            self._late.pop(timer, None)
            for following in cancels:
                if following is not None:
                    following()

        return cancel

    def _end(self) -> None:
        """The broker stops: nothing was done of what is late, and its connections end."""
        late, self._late = self._late, {}
        for timer, reply in late.items():
            timer.cancel()
            reply(NoResponse())

    # done, and not as it should be answered

    def _done_not_answered(self, struck: Struck) -> Cancel | None:
        how = struck.hit.parameters["how"]
        if how != "error":
            return self._unanswered(struck, NoResponse(silent=how == "silence"))
        refusal = refusals.failure(struck.shape.service)
        exchange = self._application.exchange(struck.request, struck.route, struck.reply)
        return self._unanswered(struck, exchange.refusal(*refusal))

    def _unanswered(self, struck: Struck, instead: NoResponse | Response) -> Cancel | None:
        def reply(answer: Answer) -> None:
            bodies.left(answer)
            struck.reply(instead)

        return self._perform(struck, reply, self._noting(struck))

    def _broken(self, struck: Struck) -> Cancel | None:
        clock, given = self._broker.clock, struck.hit.parameters

        def reply(answer: Answer) -> None:
            if isinstance(answer, Response):
                if not answer.body and struck.hit.kind == "truncate":
                    struck.reply(NoResponse())
                    return
                if not answer.body and struck.hit.kind == "stall":
                    clock.call_at(clock.now_ms() + given["for_ms"], partial(struck.reply, answer))
                    return
                after_bytes = min(given.get("after_bytes", 0), max(0, len(answer.body) - 1))
            else:
                after_bytes = given.get("after_bytes", 0)
            make: bodies.Break
            match struck.hit.kind:
                case "stall":
                    make = partial(bodies.Stalling, clock=clock, after_bytes=after_bytes, for_ms=given["for_ms"])
                case "truncate":
                    make = partial(bodies.Truncated, clock=clock, after_bytes=after_bytes)
                case _:
                    make = partial(bodies.Slow, clock=clock, bytes_per_s=given["bytes_per_s"])
            struck.reply(bodies.broken(answer, make))

        return self._perform(struck, reply, self._noting(struck))

    # time and the broker

    def _afterwards(self, struck: Struck) -> Cancel | None:
        """The request goes on in what has become of the world."""
        self._note(struck)
        self._acts[struck.hit.kind](struck.hit)
        return self._perform(struck)

    def _jump(self, hit: Hit) -> None:
        clock = self._broker.clock
        to_ms = clock.now_ms() + hit.parameters["by_ms"]
        if isinstance(clock, SystemClock):
            try:
                clock.jump(to_ms)
            except ClockRefusal:  # it is on its way elsewhere, or would go before or beyond what there is
                log.warning("%s: the clock cannot jump now", hit.rule)
        elif isinstance(clock, ManualClock):
            clock.soon(lambda: clock.set(to_ms))

    def _drift(self, hit: Hit) -> None:
        if isinstance(self._broker.clock, SystemClock):
            try:
                self._broker.clock.drift(hit.parameters["ppm"])
            except ClockRefusal as refusal:
                log.warning("%s: %s", hit.rule, refusal)

    def _pause(self, hit: Hit) -> None:
        time.sleep(hit.parameters["for_ms"] / 1000)

    def _fill_disk(self, hit: Hit) -> None:
        """What is open yet is on the disk before it is full."""
        broker = self._broker
        broker.commit.settle()
        broker.store.play_full(True)
        end_ms = broker.clock.now_ms() + hit.parameters["for_ms"]
        if self._full is not None:
            end_ms = max(end_ms, self._full.when_ms)
            self._full.cancel()
        self._full = broker.clock.call_at(end_ms, self._empty_disk)

    def _empty_disk(self) -> None:
        self._full = None
        self._broker.commit.settle()
        self._broker.store.play_full(False)

    def _restart(self, struck: Struck) -> None:
        self._restart_now(struck.hit)
        self._note(struck)
        struck.reply(NoResponse())

    def _restart_now(self, hit: Hit) -> None:
        down_ms = hit.parameters["down_ms"]
        for cut in self._application.on_cut:
            cut(down_ms)
        self._broker.commit.abort(BrokerFailure("Sidebus restarts: send again."))

    # how

    def _perform(self, struck: Struck, reply: Reply | None = None, around: Around | None = None) -> Cancel | None:
        return self._application.perform(struck.request, struck.route, reply or struck.reply, struck.given, around)

    def _when_committed(self, then: Callable[[], None]) -> None:
        self._broker.commit.then(lambda _failure: then())

    # the ledger

    def _note(self, struck: Struck, entry: Mapping[str, Any] | None = None) -> None:
        """Of the request, or of one entry of its batch."""
        ledger = self._broker.ledger
        if not ledger.is_on:
            return
        asked = struck.given if entry is None else entry
        detail: dict[str, Any] = {"operation": struck.shape.name}
        if entry is not None and "Id" in entry:
            detail["entry"] = entry["Id"]
        message_id = ""
        resource = struck.occasion.resource
        if struck.occasion.service == "sqs":
            if "MessageBody" in asked:
                detail["md5"] = md5(asked["MessageBody"].encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
            queue = self._broker.queues.find_arn(resource)
            if queue is not None and "ReceiptHandle" in asked:
                found = self._broker.messaging.identify(queue, asked["ReceiptHandle"])
                if found is not None:
                    message_id, detail["receive"] = found
        ledger.fault(struck.hit, resource, message_id, detail)

    def _noting(self, struck: Struck) -> Around | None:
        """Notes the fault at each message that the operation was about."""
        ledger, hit, resource = self._broker.ledger, struck.hit, struck.occasion.resource
        if not ledger.is_on:
            return None
        detail = {"operation": struck.shape.name}

        def perform(function: Operation, call: Call) -> Outcome:
            mark = ledger.mark()
            try:
                outcome = function(call)
            except DomainError:
                ledger.fault(hit, resource, "", detail)
                raise
            if not isinstance(outcome, Later):
                ledger.struck(hit, resource, mark, detail)
                return outcome
            later = outcome

            def start(take: Callable[[Result], None]) -> Cancel:
                def took(result: Result) -> None:
                    for message in result.get("Messages", ()):
                        ledger.fault(hit, resource, message["MessageId"], detail)
                    take(result)

                return later.start(took)

            return Later(start)

        return perform


def _waiting_for_nobody(function: Operation, call: Call) -> Outcome:
    """What an operation gives; who would wait for it is gone already."""
    outcome = function(call)
    if isinstance(outcome, Later):
        outcome.start(lambda _result: None)()
    return outcome
