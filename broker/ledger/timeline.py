"""One message's life as a time line: what was noted of it, and what follows from the clock.

That a message has returned, because its visibility timeout ended without a delete, is noted nowhere: it is put in
where it belongs. A record of a stream is found by its sequence number in the ranges that it lies in; its shard's id
and place come from whoever can read the number. A published message or event brings its copies' ids along.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from broker.clock import iso_8601_ms
from broker.ledger import events
from broker.ledger.ledger import Ledger
from broker.ledger.verdict import short
from broker.names import parse_arn
from broker.store.port import LedgerEntry

MAX_MOMENTS = 1_000
MAX_COPIES = 100
_ENDS = (events.ACKNOWLEDGED, events.DEAD_LETTERED, events.REDRIVEN, events.EXPIRED, events.PURGED)


class Place(NamedTuple):
    """Where a record is: what its sequence number says."""

    stream_arn: str
    shard_id: str
    position: int


class Moment(NamedTuple):
    """One point of a time line. `text` is for people; `detail` what else the entry has."""

    at_ms: int
    event: str
    resource: str
    by: str
    text: str
    detail: dict[str, Any]


@dataclass(slots=True)
class TimeLine:
    message_id: str
    moments: list[Moment]
    origins: list[str]  # what it is a copy of, or was before a redrive
    copies: list[tuple[str, str]]  # message id and resource of what came of it
    dropped: int  # entries of the ledger that are gone, the oldest
    is_cut: bool = False  # there are more than MAX_MOMENTS

    def document(self) -> dict[str, Any]:
        first_ms = self.moments[0].at_ms
        return {
            "message_id": self.message_id,
            "timeline": [
                {
                    "time": iso_8601_ms(moment.at_ms),
                    "after_ms": moment.at_ms - first_ms,
                    "event": moment.event,
                    "resource": moment.resource,
                    "by": moment.by or None,
                    "text": moment.text,
                    **moment.detail,
                }
                for moment in self.moments
            ],
            "origins": self.origins,
            "copies": [{"message_id": id, "resource": resource} for id, resource in self.copies],
            "dropped": self.dropped,
            "is_cut": self.is_cut,
            "text": str(self),
        }

    def __str__(self) -> str:
        lines = [f"Message {self.message_id}"]
        resource, first_ms = "", self.moments[0].at_ms
        for moment in self.moments:
            if moment.resource != resource:
                resource = moment.resource
                lines += ["", f"in {_place(resource)}"]
            after = "" if moment.at_ms == first_ms else f"+{(moment.at_ms - first_ms) / 1000:,.3f} s"
            lines.append(f"  {iso_8601_ms(moment.at_ms)} {after:>14}  {moment.text}")
        if self.is_cut:
            lines.append(f"  These are the first {MAX_MOMENTS:,}; the entries have all of it.")
        if self.origins:
            lines += ["", f"It is a copy of, or was before: {', '.join(self.origins)}"]
        if self.copies:
            lines += ["", "What came of it:", *(f"  {id} in {_place(resource)}" for id, resource in self.copies)]
        if self.dropped:
            lines += ["", f"The oldest {self.dropped:,} entries of the ledger are gone; some may have been of it."]
        return "\n".join(lines) + "\n"


def show(ledger: Ledger, message_id: str, places: Iterable[Place] = ()) -> TimeLine | None:
    """None where nothing was noted of it. `places` are those that a sequence number may mean."""
    ledger.look()
    store = ledger.store
    entries = store.of_message(message_id, MAX_MOMENTS + 1, anyhow=True)
    for place in places:
        entries += _of_record(ledger, place)
    resource_nos = {entry.resource_no for entry in entries}
    first_id = min((entry.id for entry in entries), default=0)
    of_all = [e for e in store.of_message("", -1, events.PURGED) if e.resource_no in resource_nos and e.id > first_id]
    copies = store.of_origin(message_id, MAX_COPIES)
    copies = [entry for entry in copies if entry.event == events.SENT]
    if not entries and not copies:
        return None
    moments = list(_moments(ledger, sorted(entries[:MAX_MOMENTS] + of_all)))
    if not moments:  # only its copies are known
        first = copies[0]
        moments = [Moment(first.at_ms, events.PUBLISHED, "", "", "published, before what the ledger has", {})]
    return TimeLine(
        message_id,
        moments,
        list(dict.fromkeys(e.origin for e in entries if e.origin and e.event == events.SENT)),
        [(entry.message_id, ledger.name(entry.resource_no)) for entry in copies],
        ledger.dropped,
        len(entries) > MAX_MOMENTS,
    )


def _of_record(ledger: Ledger, place: Place) -> list[LedgerEntry]:
    """The ranges that it lies in."""
    nos = ledger.numbers_of(place.stream_arn)
    return [
        entry
        for entry in ledger.store.of_range(nos, place.shard_id, place.position, MAX_MOMENTS)
        if entry.event in (events.PUT, events.READ)
    ]


def _moments(ledger: Ledger, entries: Sequence[LedgerEntry]) -> Iterable[Moment]:
    hidden: dict[int, tuple[int, int]] = {}  # by resource: until when, and by which receive
    given_back: set[int] = set()  # resources whose message was made visible at once
    here: set[int] = set()  # resources that it is in

    def returned(until_ms: int) -> Iterable[Moment]:
        due = sorted((ends_ms, no, number) for no, (ends_ms, number) in hidden.items() if ends_ms <= until_ms)
        for ends_ms, no, number in due:
            del hidden[no]
            detail = {"receive": number}
            text = (
                f"returned: receive {number} gave it back"
                if no in given_back
                else f"returned: nobody deleted it while receive {number} had it"
            )
            yield Moment(ends_ms, events.RETURNED, ledger.name(no), "", text, detail)

    for entry in entries:
        yield from returned(entry.at_ms)
        no, event = entry.resource_no, entry.event
        if event == events.PURGED and not entry.message_id and no not in here:
            continue
        if event in (events.DELIVERED, events.CHANGED):
            hidden[no] = (entry.until_ms, entry.number)
            here.add(no)
            if event == events.CHANGED and entry.until_ms <= entry.at_ms:
                given_back.add(no)
            else:
                given_back.discard(no)
        elif event == events.SENT:
            here.add(no)
        elif event == events.FAULT and no in hidden and entry.until_ms:
            hidden[no] = (entry.until_ms, hidden[no][1])
        elif event in _ENDS:
            hidden.pop(no, None)
            here.discard(no)
        detail = orjson.loads(entry.detail) if entry.detail else {}
        by = ledger.name(entry.by_no)
        yield Moment(entry.at_ms, event, ledger.name(no), by, _text(entry, by, detail), _numbers(entry) | detail)
    yield from returned(ledger.now_ms())


_NUMBER = {
    **dict.fromkeys((events.DELIVERED, events.CHANGED, events.ACKNOWLEDGED, events.STALE), "receive"),
    **dict.fromkeys((events.PUT, events.READ), "first"),
    events.ATTEMPTED: "attempt",
    events.DEAD_LETTERED: "attempts",
    events.GIVEN_UP: "attempts",
}


def _numbers(entry: LedgerEntry) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    if entry.number and entry.event in _NUMBER:
        numbers[_NUMBER[entry.event]] = entry.number
    if entry.until_ms:
        if entry.event in (events.PUT, events.READ):
            numbers["last"] = entry.until_ms
        else:
            numbers["until"] = iso_8601_ms(entry.until_ms)
    if entry.origin:
        numbers["key" if entry.event == events.EFFECT else "reader" if entry.event == events.READ else "of"] = (
            entry.origin
        )
    return numbers


def _text(entry: LedgerEntry, by: str, detail: dict[str, Any]) -> str:
    event, number = entry.event, entry.number
    who = f" by {short(by)}" if by else ""
    until = iso_8601_ms(entry.until_ms) if entry.until_ms else ""
    if event == events.SENT:
        return _sent(entry, who, detail, until)
    if event == events.PUBLISHED:
        return f"published{who}"
    if event == events.DEDUPLICATED:
        return f"sent again{who}, and known again: no second message"
    if event == events.DELIVERED:
        whom = f" to {short(by)}" if by else ""
        again = ", the answer to the same attempt once more" if detail.get("again") else ""
        return f"delivered{whom} (receive {number}), hidden until {until}{again}"
    if event == events.CHANGED:
        return f"visibility changed{who}: " + (
            f"hidden until {until}" if entry.until_ms > entry.at_ms else "visible now"
        )
    if event == events.ACKNOWLEDGED:
        return f"deleted{who}, by the handle of receive {number}"
    if event == events.STALE:
        return f"a delete{who} did nothing: the handle of receive {number} was stale"
    if event == events.DEAD_LETTERED:
        return f"moved to the dead letters in {_place(detail['to'])}: {detail['why']}"
    if event == events.REDRIVEN:
        return f"moved to {_place(detail['to'])} by a redrive, as {detail['as']}"
    if event == events.EXPIRED:
        return "expired: its retention period ended"
    if event == events.PURGED:
        return f"purged, or gone with its queue,{who}" if who else "purged, or gone with its queue"
    if event == events.FAULT:
        operation = f" of {detail['operation']}" if "operation" in detail else ""
        then = f", to be had at {until}" if until else ""
        return f"fault {detail['kind']}{operation}{who}, rule {detail['rule']}{then}"
    if event == events.EFFECT:
        return f"done, as its consumer{who} says" + (f" (key {entry.origin})" if entry.origin else "")
    if event in (events.PUT, events.READ):
        whom = f" by {_place(entry.origin)}" if entry.origin else who
        return f"{'put into' if event == events.PUT else 'read past in'} {entry.message_id}{whom}"
    if event == events.ATTEMPTED:
        again = f"; again at {until}" if until else ""
        why = f": {detail['why']}" if detail.get("why") else ""
        return f"attempt {number}, {detail['outcome']}{why}{again}"
    if event == events.GIVEN_UP:
        return f"given up after {number} attempts, and lost: {detail['why']}"
    return event


def _sent(entry: LedgerEntry, who: str, detail: dict[str, Any], until: str) -> str:
    if "dead_letter_of" in detail:
        text = f"came as a dead letter of {_place(detail['dead_letter_of'])}"
    elif "redriven_from" in detail:
        text = f"came by a redrive from {_place(detail['redriven_from'])}, where it was {entry.origin}"
    elif "via" in detail:
        text = (
            f"came by {_place(detail['via'])}, a copy of {entry.origin}" if entry.origin else f"came by {detail['via']}"
        )
    else:
        text = f"sent{who}"
    if "group" in detail and detail["group"] != " ":
        text += f", group {detail['group']}"
    return text + (f", hidden until {until}" if until else "")


def _place(arn: str) -> str:
    """A resource as people call it."""
    parsed = parse_arn(arn)
    if parsed is None:
        return arn or "no resource in particular"
    kinds = {"sqs": "queue", "sns": "topic", "kinesis": "stream", "events": "bus"}
    kind = kinds.get(parsed.service, parsed.service)
    name = parsed.resource
    if parsed.service == "sns" and ":" in name:
        topic, _, name = name.partition(":")
        kind, name = "subscription", f"{name} of topic {topic}"
    for prefix in ("stream/", "event-bus/", "rule/"):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            kind = "rule" if prefix == "rule/" else kind
    return f"{kind} {name} ({parsed.account}, {parsed.region})"
