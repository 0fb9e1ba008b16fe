"""PutEvents and PutPartnerEvents: each entry's own outcome, and then the way to the rules.

All entries of a call that are taken, their copies in archives and in every local target are one transaction. What
is sent to a bus that is not there is taken and goes nowhere: "EventBridge event matching will not find a corresponding
rule and will drop the event" (guide, "Sending events with PutEvents").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orjson import JSONEncodeError

from broker.buses import permissions
from broker.buses.bus import Bus
from broker.buses.definitions import locate
from broker.buses.dispatch import Dispatch
from broker.buses.envelope import Event, Malformed
from broker.buses.registry import Document, Registry
from broker.errors import DomainError, ValidationException
from broker.names import World, parse_arn

MAX_ENTRIES_BYTES = 1_048_576  # PutEvents: "the total entry size must be less than 1MB"
MAX_DETAIL_TYPE_CHARS = 128  # PutEventsRequestEntry
TIME_BYTES = 14  # "Calculating PutEvents event entry size"
_MAX_TIME_MS = 253_402_300_800_000  # the year 10,000 cannot be written

Entry = Mapping[str, Any]
Buses = Sequence[Bus]


class EntryRefused(Exception):
    """One entry's ErrorCode and ErrorMessage."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Publisher:
    """Takes events."""

    def __init__(self, registry: Registry, dispatch: Dispatch) -> None:
        self._registry = registry
        self._dispatch = dispatch
        # The ARNs of the buses behind a global endpoint; raises ValidationException where there is no such endpoint.
        self.buses_for: Callable[[str], Sequence[str]] = _no_endpoint

    def put_events(self, world: World, given: Mapping[str, Any]) -> Document:
        """PutEvents: its input, Time in milliseconds; its output. Raises ValidationException."""
        entries: Sequence[Entry] = given["Entries"]
        endpoint_id = given.get("EndpointId")
        behind = None if endpoint_id is None else self._behind(endpoint_id)
        return self.put(world, entries, lambda entry: self._buses(world, entry, behind))

    def put(
        self, world: World, entries: Sequence[Entry], buses_of: Callable[[Entry], Buses], *, of_partner: bool = False
    ) -> Document:
        """The entries of a call and the outcome of each. `buses_of` says where one goes, or raises EntryRefused, or a
        DomainError whose name is the code. Only a partner's sources may begin with `aws.`, and all of them do.

        Raises ValidationException for what is wrong with the call as a whole.
        """
        if sum(map(entry_bytes, entries)) > MAX_ENTRIES_BYTES:
            raise ValidationException("Total size of the entries in the request is over the limit.")
        now_ms = self._registry.clock.now_ms()
        outcomes: list[Document] = []
        taken: list[tuple[Bus, Event]] = []
        ledger = self._dispatch.ledger
        failed = 0
        for entry in entries:
            try:
                buses, event = self._read(world, entry, buses_of, now_ms, of_partner)
            except EntryRefused as refusal:
                failed += 1
                outcomes.append({"ErrorCode": refusal.code, "ErrorMessage": refusal.message})
                continue
            outcomes.append({"EventId": event.id})
            for bus in buses:
                if ledger.is_on:
                    source, kind = event.document["source"], event.document["detail-type"]
                    ledger.published(bus.arn, event.id, source=source, detail_type=kind)
                bus.counts["PutEventsEntriesCount"] += 1
                taken.append((bus, event))
        if taken:
            self._registry.commit.enter()
            self._dispatch.deliver_all(taken)
        return {"FailedEntryCount": failed, "Entries": outcomes}

    def _read(
        self, world: World, entry: Entry, buses_of: Callable[[Entry], Buses], now_ms: int, of_partner: bool
    ) -> tuple[Buses, Event]:
        source, detail_type, detail = entry.get("Source"), entry.get("DetailType"), entry.get("Detail")
        if not source:
            raise _missing("Source")
        if not detail_type:
            raise _missing("DetailType")
        if not detail:
            raise _missing("Detail")
        if len(detail_type) > MAX_DETAIL_TYPE_CHARS:
            raise _invalid("DetailType", f"DetailType must not exceed {MAX_DETAIL_TYPE_CHARS} characters.")
        if not of_partner and source.startswith("aws."):
            raise EntryRefused("NotAuthorizedForSourceException", "Not authorized for the source.")
        time_ms = entry.get("Time")
        if time_ms is None:
            time_ms = now_ms
        elif not 0 <= time_ms < _MAX_TIME_MS:
            raise _invalid("Time", "Time is out of range.")
        try:
            buses = buses_of(entry)
        except DomainError as error:
            raise EntryRefused(type(error).__name__, error.message) from None
        try:
            event = Event.create(
                self._registry.entropy.uuid(),
                buses[0].world if of_partner and buses else world,  # a partner's event is the customer's
                source,
                detail_type,
                detail,
                entry.get("Resources") or [],
                time_ms,
                now_ms,
                entry.get("TraceHeader"),
            )
        except (Malformed, JSONEncodeError):  # the latter of half a surrogate pair outside of the detail
            raise EntryRefused("MalformedDetail", "Detail is malformed.") from None
        return buses, event

    def _behind(self, endpoint_id: str) -> Buses:
        found = []
        for text in self.buses_for(endpoint_id):
            arn = parse_arn(text)
            assert arn is not None
            bus = self._registry.find_bus(World(arn.account, arn.region), arn.resource.removeprefix("event-bus/"))
            if bus is not None:
                found.append(bus)
        return found

    def _buses(self, world: World, entry: Entry, behind: Buses | None) -> Buses:
        place, name = locate(world, entry.get("EventBusName"))
        if behind is not None:
            if any(bus.name != name for bus in behind):
                raise _invalid("EventBusName", "EventBusName must be the event bus of the endpoint.")
            return behind
        bus = self._registry.find_bus(place, name)
        if place.account == world.account:
            return () if bus is None else (bus,)
        asked = self._registry.enforce_policies
        if bus is None or (asked and not permissions.lets_in(bus, world.account, entry["Source"], entry["DetailType"])):
            raise EntryRefused("AccessDeniedException", "You do not have sufficient access to perform this action.")
        return (bus,)


def entry_bytes(entry: Entry) -> int:
    """As the guide calculates it: "Calculating PutEvents event entry size"."""
    size = 0 if entry.get("Time") is None else TIME_BYTES
    for name in ("Source", "DetailType", "Detail"):
        text = entry.get(name)
        if text:
            size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    for resource in entry.get("Resources") or ():
        size += len(resource.encode("utf-8", "surrogatepass"))
    return size


def _missing(name: str) -> EntryRefused:
    return _invalid(name, f"{name} is a required argument.")


def _invalid(name: str, reason: str) -> EntryRefused:
    return EntryRefused("InvalidArgument", f"Parameter {name} is not valid. Reason: {reason}")


def _no_endpoint(endpoint_id: str) -> Sequence[str]:
    raise ValidationException(f"Endpoint '{endpoint_id}' does not exist.")
