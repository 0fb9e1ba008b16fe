"""EventBridge: each operation's input becomes a call on the engine, what that returns becomes the output.

Here are the events themselves; buses, rules, archives, connections and partners have files of their own.
https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.buses.bus import Bus
from protocols.aws import events_archives, events_buses, events_connections, events_partners, events_rules
from protocols.aws.call import Call, Operation, Result
from protocols.aws.events_answers import moment_ms


def put_events(call: Call) -> Result:
    return call.broker.events.publisher.put_events(call.world, _with_times(call.parameters))


def put_partner_events(call: Call) -> Result:
    events = call.broker.events

    def buses_of(entry: Mapping[str, Any]) -> tuple[Bus, ...]:
        bus = events.partners.bus_of(call.world, entry["Source"])
        return () if bus is None else (bus,)

    entries = _with_times(call.parameters)["Entries"]
    return events.publisher.put(call.world, entries, buses_of, of_partner=True)


def _with_times(given: Result) -> Result:
    """The input, which is ours to change, with its entries' times in milliseconds."""
    for entry in given["Entries"]:
        if "Time" in entry:
            entry["Time"] = moment_ms(entry["Time"])
    return given


OPERATIONS: dict[str, Operation] = {
    "PutEvents": put_events,
    "PutPartnerEvents": put_partner_events,
    **events_archives.OPERATIONS,
    **events_buses.OPERATIONS,
    **events_connections.OPERATIONS,
    **events_partners.OPERATIONS,
    **events_rules.OPERATIONS,
}
