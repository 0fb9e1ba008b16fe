"""Replays: an archive's events go to its bus again, those of a span of time, each in its turn.

A replay sees what the archive held when it began, in order of the events' own times (AWS: minute by minute). It goes in
steps, each a transaction that takes its position along: a rule is given an event once, whatever happens in between. A
turn of the event loop has one step of one replay, however many there are, so live events wait for no more than that.
Each is STARTING for a while: whoever wants to cancel one can.

What AWS does with a replay whose archive or bus is deleted is not documented: here it fails and says so.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from broker.buses.archives import Archives
from broker.buses.bus import Bus, events_arn
from broker.buses.definitions import TOO_MANY, find_rule
from broker.buses.dispatch import Dispatch
from broker.buses.envelope import Event
from broker.buses.registry import Document, Registry
from broker.clock import Resumption, Timer
from broker.errors import (
    IllegalStatusException,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.names import World, parse_arn
from broker.store.port import ArchivedEvent, row_id

REPLAY = "replay"
STARTING, RUNNING, CANCELLING = "STARTING", "RUNNING", "CANCELLING"
COMPLETED, CANCELLED, FAILED = "COMPLETED", "CANCELLED", "FAILED"
ACTIVE = frozenset({STARTING, RUNNING, CANCELLING})

# A step is over when it has read so much or given targets so many copies: some milliseconds.
STEP_EVENTS = 100
STEP_BYTES = 1 << 18
STEP_COPIES = 100
REMEMBERED_MS = 90 * 86_400_000

_OURS = frozenset({"archive_no", "last_id", "until_ms", "position", "begin_ms"})
Key = tuple[World, str]


def _invalid(parameter: str, reason: str) -> ValidationException:
    return ValidationException(f"Parameter {parameter} is not valid. Reason: {reason}")


class Replays:
    """The replays of all archives. Beside DescribeReplay's members a document has the way gone so far."""

    def __init__(self, registry: Registry, archives: Archives, dispatch: Dispatch) -> None:
        self._registry = registry
        self._store = registry.store
        self._clock = registry.clock
        self._commit = registry.commit
        self._archives = archives
        self._dispatch = dispatch
        self._running: dict[Key, None] = {}  # the one whose turn it is comes first
        self._turn_ahead = False
        self._turns = Resumption(registry.clock, self._turn_soon)
        self._forgetting: Timer | None = None
        registry.on_load.append(self._load)

    # operations

    def start(self, world: World, given: Mapping[str, Any]) -> Document:
        """StartReplay; returns the replay as it is then.

        Raises ResourceAlreadyExistsException, ResourceNotFoundException, LimitExceededException, ValidationException.
        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_StartReplay.html
        """
        name, start_ms, end_ms = given["ReplayName"], given["EventStartTime"], given["EventEndTime"]
        replays = self._registry.items(REPLAY)
        if (world, name) in replays:
            raise ResourceAlreadyExistsException(f"Replay {name} already exists.")
        self._check_destination(world, given["Destination"])
        source = parse_arn(given["EventSourceArn"])
        if source is None or not source.resource.startswith("archive/"):
            raise _invalid("EventSourceArn", "Must contain an archive ARN.")
        archive_name = source.resource.removeprefix("archive/")
        archive = self._archives.find(world, archive_name)
        if archive is None or archive.arn != given["EventSourceArn"]:
            raise _invalid("EventSourceArn", f"Archive {archive_name} does not exist.")
        if archive.bus_arn != given["Destination"]["Arn"]:
            raise _invalid("Destination.Arn", "Cross event bus replay is not permitted.")
        if start_ms >= end_ms:
            raise _invalid("EventEndTime", "EventStartTime must be before EventEndTime.")
        limit = self._registry.limits.event_replays
        active = sum(owner == world and known["State"] in ACTIVE for (owner, _), known in replays.items())
        if limit is not None and active >= limit:
            raise LimitExceededException(TOO_MANY)
        self._commit.enter()
        self._archives.write()
        newest_ms = self._store.newest_event_ms(archive.no)
        document = {
            "ReplayName": name,
            "ReplayArn": events_arn(world, f"replay/{name}"),
            "State": STARTING,
            **{key: given[key] for key in ("Description", "EventSourceArn", "Destination") if key in given},
            "EventStartTime": start_ms,
            "EventEndTime": end_ms,
            "ReplayStartTime": self._clock.now_ms(),
            "archive_no": archive.no,
            "last_id": row_id(archive.no, archive.last_sequence),
            # What is archived from now on is not looked at, not even to be passed over.
            "until_ms": end_ms if newest_ms is None else min(end_ms, newest_ms + 1),
            "position": [start_ms, 0],
            "begin_ms": self._clock.now_ms() + self._registry.limits.replay_start_ms,
        }
        self._registry.put_item(REPLAY, world, name, document)
        self._begin_at((world, name), document["begin_ms"])
        return self.describe(world, name)

    def cancel(self, world: World, name: str) -> Document:
        """CancelReplay; returns the replay as it is then. Raises ResourceNotFoundException, IllegalStatusException."""
        document = self._find(world, name)
        if document["State"] not in (STARTING, RUNNING):
            raise IllegalStatusException(f"Replay {name} is not in a valid state for this operation.")
        self._commit.enter()
        self._registry.put_item(REPLAY, world, name, {**document, "State": CANCELLING})
        self._begin((world, name))
        return self.describe(world, name)

    def describe(self, world: World, name: str) -> Document:
        """Raises ResourceNotFoundException."""
        return {key: value for key, value in self._find(world, name).items() if key not in _OURS}

    def list_replays(
        self,
        world: World,
        name_prefix: str | None = None,
        event_source_arn: str | None = None,
        state: str | None = None,
    ) -> list[Document]:
        """Each as DescribeReplay tells it, in the order of their names.

        Raises ValidationException for more than one filter.
        """
        if sum(given is not None for given in (name_prefix, event_source_arn, state)) > 1:
            raise ValidationException(
                "At most one filter is allowed for ListReplays. Use either : State, EventSourceArn, or NamePrefix."
            )
        found = [self.describe(*key) for key in sorted(self._registry.items(REPLAY)) if key[0] == world]
        return [
            told
            for told in found
            if told["ReplayName"].startswith(name_prefix or "")
            and event_source_arn in (None, told["EventSourceArn"])
            and state in (None, told["State"])
        ]

    def _find(self, world: World, name: str) -> Document:
        document = self._registry.items(REPLAY).get((world, name))
        if document is None:
            raise ResourceNotFoundException(f"Replay {name} does not exist.")
        return document

    def _check_destination(self, world: World, destination: Mapping[str, Any]) -> None:
        arn = parse_arn(destination["Arn"])
        if arn is None or arn.service != "events" or not arn.resource.startswith("event-bus/"):
            raise _invalid("Destination.Arn", "Must contain an event bus ARN.")
        bus_name = arn.resource.removeprefix("event-bus/")
        bus = self._registry.find_bus(world, bus_name)
        if bus is None or bus.arn != destination["Arn"]:
            raise ResourceNotFoundException(f"Event bus {bus_name} does not exist.")
        for rule_arn in destination.get("FilterArns") or ():
            name = rule_arn.rpartition("/")[2]
            if find_rule(bus, name).arn != rule_arn:
                raise ResourceNotFoundException(f"Rule {rule_arn} does not exist on EventBus {bus_name}.")

    # on the way

    def _load(self) -> None:
        """Goes on where the store says, after a while: if it was the disk that was full, it may be yet."""
        replays = self._registry.items(REPLAY)
        active = [key for key in sorted(replays) if replays[key]["State"] in ACTIVE]
        now_ms = self._clock.now_ms()
        self._running = {}
        for key in active:
            if replays[key]["State"] == STARTING and replays[key]["begin_ms"] > now_ms:
                self._begin_at(key, replays[key]["begin_ms"])
            else:
                self._running[key] = None
        if self._running:
            self._turns.appoint()
        self._appoint_forgetting()

    def _begin_at(self, key: Key, begin_ms: int) -> None:
        if begin_ms > self._clock.now_ms():
            self._clock.call_at(begin_ms, partial(self._begin, key))
        else:
            self._begin(key)

    def _begin(self, key: Key) -> None:
        """From now on it takes its turns. (One that is over by then is found to be.)"""
        self._running[key] = None
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._turn_ahead:
            self._turn_ahead = True
            self._clock.soon(lambda: self._commit.run(self._turn))

    def _turn(self) -> None:
        self._turn_ahead = False
        if not self._running:
            return
        key = next(iter(self._running))
        del self._running[key]
        document = self._registry.items(REPLAY).get(key)
        if document is not None and document["State"] in ACTIVE:
            document = self._step(document)
            self._registry.put_item(REPLAY, *key, document)
            if document["State"] in ACTIVE:
                self._running[key] = None
            elif self._forgetting is None:
                self._appoint_forgetting()
        if self._running:
            self._turn_soon()

    def _step(self, document: Document) -> Document:
        """Replays some events, and returns the document as it is then."""
        if document["State"] == CANCELLING:
            return self._ended(document, CANCELLED)
        archive = self._archives.by_no(document["archive_no"])
        if archive is None:
            return self._ended(document, FAILED, "The archive was deleted.")
        bus = self._archives.bus_of(archive)
        if bus is None:
            return self._ended(document, FAILED, "The event bus was deleted.")
        self._archives.write()
        after, until_ms, last_id = document["position"], document["until_ms"], document["last_id"]
        found = self._store.archived(archive.no, (after[0], after[1]), until_ms, last_id, STEP_EVENTS, STEP_BYTES)
        if not found:
            return self._ended(document, COMPLETED)
        wanted = frozenset(document["Destination"].get("FilterArns") or ())
        copies = 0
        for archived in found:
            copies += self._replay(bus, archived, document["ReplayName"], wanted)
            if copies >= STEP_COPIES:
                break
        return {
            **document,
            "State": RUNNING,
            "EventLastReplayedTime": archived.event_ms,
            "position": [archived.event_ms, archived.id],
        }

    def _replay(self, bus: Bus, archived: ArchivedEvent, name: str, wanted: frozenset[str]) -> int:
        """Gives an event to those of a bus's rules that match it and are wanted: all if none are named."""
        event = Event.replayed(archived.event, name, archived.event_ms, archived.archived_ms)
        copies = 0
        for rule in sorted(bus.index.match(event.subject), key=lambda rule: rule.name):
            if not wanted or rule.arn in wanted:
                self._dispatch.give(rule, event)
                copies += len(rule.targets)
        return copies

    def _ended(self, document: Document, state: str, reason: str | None = None) -> Document:
        ended = {**document, "State": state, "ReplayEndTime": self._clock.now_ms()}
        return ended if reason is None else {**ended, "StateReason": reason}

    def _appoint_forgetting(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        ends = [end for _, end in self._ends()]
        self._forgetting = None
        if ends:
            self._forgetting = self._clock.call_at(min(ends) + REMEMBERED_MS, lambda: self._commit.run(self._forget))

    def _forget(self) -> None:
        before_ms = self._clock.now_ms() - REMEMBERED_MS
        for key, end_ms in self._ends():
            if end_ms <= before_ms:
                self._registry.remove_item(REPLAY, *key)
        self._appoint_forgetting()

    def _ends(self) -> list[tuple[Key, int]]:
        replays = self._registry.items(REPLAY).items()
        return [(key, document["ReplayEndTime"]) for key, document in replays if "ReplayEndTime" in document]
