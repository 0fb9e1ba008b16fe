"""`/_sidebus/ledger`: what happened to each message.

    GET                                     {"enabled", "entries", "capacity", "dropped"}
    POST     {"enabled": true, "capacity": 1000000}                          one of the two or both; answers the same
    DELETE   ?account=                      forgets what was noted; so does `/_sidebus/reset`
    GET      /entries     ?queue=|stream=|topic=|resource=ARN & account= & region= & message= & event= & after= & limit=
    GET      /messages/ID ?format=json|text                                  a message's life; also a record's sequence
                                                                             number, an SNS message's id, an event's id
    GET      /verdict     ?queue=|stream=|topic=|resource=ARN & account= & region= & format=json|text|junit
    POST     /effects     {"message_id": …, "queue": …, "key": …} or a list of them: a consumer has done the work

Names are of queues, streams and topics in `account` and `region`, else in the server's own. A verdict over many entries
is reached in steps, with other work in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote

import orjson

from broker.clock import iso_8601_ms
from broker.core import Broker
from broker.ledger import events
from broker.ledger.ledger import is_capacity
from broker.names import World, is_account, parse_arn, partition_of
from broker.streams import sequence
from broker.streams.stream import shard_id
from protocols.control.answer import Answer, Later, Text
from protocols.http.message import Request

if TYPE_CHECKING:  # verdicts and time lines are imported when somebody asks for one
    from broker.ledger.timeline import Place
    from broker.ledger.verdict import Verdict

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
MAX_EFFECTS = 10_000  # in one call
_KINDS = {"queue": "sqs", "stream": "kinesis", "topic": "sns"}
_FORMATS = ("json", "text", "junit")


class _Wrong(Exception):
    """What is wrong with a request, for people."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _Judge(Protocol):
    def step(self) -> bool: ...

    def verdict(self) -> Verdict: ...


def _answered(page: Callable[[LedgerPage, Request], Answer | Later]) -> Callable[[LedgerPage, Request], Answer | Later]:
    def answer(self: LedgerPage, request: Request) -> Answer | Later:
        try:
            return page(self, request)
        except _Wrong as wrong:
            return wrong.status, {"error": str(wrong)}

    return answer


class LedgerPage:
    def __init__(self, broker: Broker, default: World) -> None:
        self._broker = broker
        self._ledger = broker.ledger
        self._default = default

    def get(self, _request: Request) -> Answer:
        ledger = self._ledger
        ledger.look()
        return 200, {
            "enabled": ledger.is_on,
            "entries": ledger.count,
            "capacity": ledger.capacity,
            "dropped": ledger.dropped,
        }

    @_answered
    def post(self, request: Request) -> Answer | Later:
        given = _body(request)
        if not isinstance(given, dict) or not given or not given.keys() <= {"enabled", "capacity"}:
            raise _Wrong('Give {"enabled": true}, {"enabled": false} or {"capacity": 1000000}.')
        enabled, capacity = given.get("enabled", self._ledger.is_on), given.get("capacity")
        if not isinstance(enabled, bool):
            raise _Wrong("enabled is true or false.")
        if not is_capacity(capacity):
            raise _Wrong("capacity is a number of entries from 1 on.")
        self._ledger.enable(capacity)
        if not enabled:
            self._ledger.disable()
        return self.get(request)

    @_answered
    def delete(self, request: Request) -> Answer | Later:
        account = _query(request).get("account")
        if account is not None and not is_account(account):
            raise _Wrong(f"{account} is not an account: give twelve digits, or none for all accounts.")
        if account is None:
            self._ledger.clear()
        else:
            self._ledger.reset(account)
        return self.get(request)

    # reading

    @_answered
    def entries(self, request: Request) -> Answer | Later:
        given = _query(request)
        try:
            after, limit = int(given.get("after", "0")), int(given.get("limit", str(DEFAULT_LIMIT)))
            if not (0 <= after < 1 << 63 and limit >= 1):
                raise ValueError
        except ValueError:
            raise _Wrong("after takes a number, and limit one from 1 on.") from None
        limit = min(limit, MAX_LIMIT)
        event = given.get("event")
        if event is not None and event not in events.ALL:
            raise _Wrong(f"{event} is no event of the ledger's: they are {', '.join(events.ALL)}.")
        ledger, store = self._ledger, self._ledger.store
        through = ledger.look()
        arn = self._arn(given)
        account, region = given.get("account"), given.get("region")
        resource_nos = None
        if arn is not None:
            resource_nos = ledger.numbers_of(arn)
        elif account is not None or region is not None:
            resource_nos = ledger.numbers_in(account, region)
        message_id = given.get("message")
        if message_id is not None:
            of_it = [
                entry
                for entry in store.of_message(message_id, -1, event, anyhow=True)
                if entry.id > after and (resource_nos is None or entry.resource_no in resource_nos)
            ][:limit]
        else:
            wanted = None if event is None else [event]
            of_it = store.after(after, limit, resource_nos=resource_nos, events=wanted, through=through)
        shown = [
            {
                "id": entry.id,
                "time": iso_8601_ms(entry.at_ms),
                "event": entry.event,
                "resource": ledger.name(entry.resource_no),
                "message_id": entry.message_id,
                "by": ledger.name(entry.by_no) or None,
                "number": entry.number,
                "until_ms": entry.until_ms,
                "origin": entry.origin or None,
                "detail": orjson.loads(entry.detail) if entry.detail else {},
            }
            for entry in of_it
        ]
        return 200, {"entries": shown, "next": of_it[-1].id if len(of_it) == limit else None}

    @_answered
    def message(self, request: Request) -> Answer | Later:
        from broker.ledger.timeline import show

        path = request.target.partition(b"?")[0].decode("latin-1")
        message_id = unquote(path.rpartition("/messages/")[2])
        form = _form(_query(request))
        found = show(self._ledger, message_id, self._places(message_id))
        if found is None:
            raise _Wrong(f"The ledger has nothing of a message {message_id}{self._why_nothing()}", 404)
        return 200, Text(b"text/plain; charset=utf-8", str(found)) if form == "text" else found.document()

    @_answered
    def verdict(self, request: Request) -> Answer | Later:
        given = _query(request)
        form, arn = _form(given), self._arn(given)
        if arn is None:
            raise _Wrong("Say of what: queue=NAME, stream=NAME, topic=NAME or resource=ARN.")
        self._ledger.look()
        judge = self._judge(arn)
        if not self._ledger.numbers_of(arn):
            raise _Wrong(f"The ledger has nothing of {arn}{self._why_nothing(arn)}", 404)
        return partial(self._in_steps, judge, form)

    def _in_steps(self, judge: _Judge, form: str, finish: Callable[[Answer], None]) -> None:
        broker = self._broker

        def step() -> None:
            try:
                broker.commit.enter()
                if judge.step():
                    broker.clock.soon(step)
                    return
                answer = _shown(judge.verdict(), form)
            except Exception as error:
                answer = 503, {"error": str(broker.failed(error))}
            finish(answer)

        broker.clock.soon(step)

    def _judge(self, arn: str) -> _Judge:
        parsed = parse_arn(arn)
        if parsed is not None and parsed.service == "sns":
            from broker.ledger.topic_verdict import TopicJudge

            return TopicJudge(self._ledger, arn)
        if parsed is not None and parsed.service == "kinesis" and parsed.resource.startswith("stream/"):
            from broker.ledger.stream_verdict import StreamJudge

            return StreamJudge(self._ledger, arn, _locate)
        if parsed is None or parsed.service not in _KINDS.values():
            raise _Wrong(f"Verdicts are of queues, streams and topics, and {arn} is none of them.")
        from broker.ledger.queue_verdict import Judge

        return Judge(self._ledger, arn)

    def _why_nothing(self, arn: str = "") -> str:
        if not self._ledger.is_on:
            return (
                ': it is off. Switch it on with `sidebus ledger on`, POST /_sidebus/ledger {"enabled": true} or '
                "`sidebus serve --ledger`."
            )
        if arn and self._exists(arn):
            return ": nothing has happened there since it was switched on."
        return ". Is it of another account or region, or from before the ledger was switched on?"

    def _exists(self, arn: str) -> bool:
        streams = self._broker.streams
        return (
            self._broker.queues.find_arn(arn) is not None
            or self._broker.notifications.topics.get(arn) is not None
            or arn in streams.registry.by_arn
            or arn in streams.queues.by_arn
        )

    def _places(self, number: str) -> list[Place]:
        """The records that a sequence number names: one, as a rule."""
        from broker.ledger.timeline import Place

        read = sequence.read(number)
        if read is None:
            return []
        return [
            Place(arn, shard_id(read.shard_index), read.position)
            for arn, stream in self._broker.streams.registry.by_arn.items()
            if (shard := stream.shards.get(read.shard_index)) is not None and shard.born_s == read.born_s
        ]

    # what consumers tell

    @_answered
    def effects(self, request: Request) -> Answer | Later:
        given = _body(request)
        told = given if isinstance(given, list) else [given]
        if len(told) > MAX_EFFECTS or not all(map(_is_effect, told)):
            raise _Wrong(
                'Give {"message_id": "…"}, with "queue" or "stream" and "key" if you like, or a list of at most '
                f"{MAX_EFFECTS:,} of them."
            )
        if not self._ledger.is_on:
            raise _Wrong(f"Nothing is noted{self._why_nothing()}", 409)
        noted = [self._effect(effect) for effect in told]
        return 200, {"effects": noted} if isinstance(given, list) else noted[0]

    def _effect(self, effect: Mapping[str, str]) -> dict[str, Any]:
        message_id = effect["message_id"]
        arn = self._arn(effect)
        if arn is None:
            arn = next((place.stream_arn for place in self._places(message_id)), "")
        resource, known = self._ledger.effect(message_id, arn, effect.get("key", ""))
        return {"message_id": message_id, "resource": resource or None, "known": known}

    def _arn(self, given: Mapping[str, str]) -> str | None:
        named = [name for name in (*_KINDS, "resource") if name in given]
        if not named:
            return None
        if len(named) > 1:
            raise _Wrong(f"Give one of {', '.join(named)}.")
        name = given[named[0]]
        if name.startswith("arn:"):
            return name
        if named[0] == "resource":
            raise _Wrong(f"{name} is not an ARN.")
        of_url, _, last = name.rpartition("/")
        account = of_url.rpartition("/")[2] if "://" in name else self._default.account
        account, region = given.get("account", account), given.get("region", self._default.region)
        if not is_account(account):
            raise _Wrong(f"{account} is not an account: give twelve digits.")
        resource = f"stream/{name}" if named[0] == "stream" else last
        return f"arn:{partition_of(region)}:{_KINDS[named[0]]}:{region}:{account}:{resource}"


def _locate(number: str) -> tuple[str, int] | None:
    read = sequence.read(number)
    return None if read is None else (shard_id(read.shard_index), read.position)


def _shown(verdict: Verdict, form: str) -> Answer:
    if form == "text":
        return 200, Text(b"text/plain; charset=utf-8", str(verdict))
    if form == "junit":
        return 200, Text(b"application/xml", verdict.junit())
    return 200, verdict.document()


def _form(given: Mapping[str, str]) -> str:
    form = given.get("format", "json")
    if form not in _FORMATS:
        raise _Wrong(f"format is {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}.")
    return form


def _is_effect(given: object) -> bool:
    return (
        isinstance(given, dict)
        and bool(given.get("message_id"))
        and given.keys() <= {"message_id", "queue", "stream", "topic", "resource", "account", "region", "key"}
        and all(isinstance(value, str) for value in given.values())
    )


def _query(request: Request) -> dict[str, str]:
    query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
    return {name: values[0] for name, values in query.items()}


def _body(request: Request) -> Any:
    try:
        return orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise _Wrong(f"The body is not JSON: {error}.") from None
