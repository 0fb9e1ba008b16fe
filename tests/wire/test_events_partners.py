"""Partner event sources over two weeks, and between accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from virtual_events import ACCOUNT, START_MS, VirtualEvents

PARTNER, OTHER_PARTNER = "222222222222", "333333333333"
SOURCE = "aws.partner/example.com/customer/orders"
DAY_MS = 86_400_000


@pytest.fixture
def events() -> Iterator[VirtualEvents]:
    events = VirtualEvents()
    events("CreatePartnerEventSource", {"Name": SOURCE, "Account": ACCOUNT}, PARTNER)
    yield events
    events.close()


def states(events: VirtualEvents) -> list[str]:
    return [source["State"] for source in events("ListEventSources", {})["EventSources"]]


def names(events: VirtualEvents, partner: str = PARTNER) -> list[str]:
    listed = events("ListPartnerEventSources", {"NamePrefix": "aws.partner/example.com/"}, partner)
    return [source["Name"] for source in listed["PartnerEventSources"]]


def test_moments_are_seconds(events: VirtualEvents) -> None:
    shown = events("DescribeEventSource", {"Name": SOURCE})
    assert (shown["CreationTime"], shown["ExpirationTime"]) == (
        START_MS / 1000,
        (START_MS + 14 * DAY_MS) / 1000,
    )


def test_an_offer_that_nobody_takes_is_gone_after_two_weeks(events: VirtualEvents) -> None:
    events.clock.advance(14 * DAY_MS - 1)
    assert states(events) == ["PENDING"]
    events.clock.advance(1)
    assert states(events) == []
    assert names(events) == []
    assert events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE}) == {
        "__type": "ResourceNotFoundException",
        "message": f"Event source {SOURCE} does not exist.",
    }
    created = events("CreatePartnerEventSource", {"Name": SOURCE, "Account": ACCOUNT}, PARTNER)
    assert created == {"EventSourceArn": f"arn:aws:events:us-east-1::event-source/{SOURCE}"}
    assert states(events) == ["PENDING"]


def test_an_offer_that_is_taken_stays(events: VirtualEvents) -> None:
    events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE})
    events.clock.advance(100 * DAY_MS)
    assert states(events) == ["ACTIVE"]


def test_two_weeks_without_being_active_end_a_source_in_use(events: VirtualEvents) -> None:
    events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE})
    events.clock.advance(100 * DAY_MS)
    events("DeactivateEventSource", {"Name": SOURCE})
    events.clock.advance(14 * DAY_MS - 1)
    assert states(events) == ["PENDING"]
    events.clock.advance(1)
    assert states(events) == ["DELETED"]
    assert names(events) == []
    assert events("ActivateEventSource", {"Name": SOURCE})["__type"] == "InvalidStateException"
    assert events("DeleteEventBus", {"Name": SOURCE}) == {}
    assert states(events) == []


def test_a_name_is_one_partners_and_one_customers(events: VirtualEvents) -> None:
    taken = {"__type": "ResourceAlreadyExistsException", "message": f"Event source {SOURCE} already exists."}
    for account, partner in ((ACCOUNT, PARTNER), ("444444444444", PARTNER), (ACCOUNT, OTHER_PARTNER)):
        assert events("CreatePartnerEventSource", {"Name": SOURCE, "Account": account}, partner) == taken
    assert names(events, OTHER_PARTNER) == []
    missing = {"__type": "ResourceNotFoundException", "message": f"Event source {SOURCE} does not exist."}
    assert events("DescribePartnerEventSource", {"Name": SOURCE}, OTHER_PARTNER) == missing
    assert events("DescribeEventSource", {"Name": SOURCE}, OTHER_PARTNER) == missing


def test_a_partner_sends_to_its_own_sources_only(events: VirtualEvents) -> None:
    events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE})
    entry = {"Source": SOURCE, "DetailType": "d", "Detail": "{}"}
    put = events("PutPartnerEvents", {"Entries": [entry]}, OTHER_PARTNER)
    assert put == {
        "FailedEntryCount": 1,
        "Entries": [
            {"ErrorCode": "ResourceNotFoundException", "ErrorMessage": f"Event source {SOURCE} does not exist."}
        ],
    }
    put = events("PutEvents", {"Entries": [entry]})  # nobody else speaks for a partner
    assert put["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"


def test_what_an_account_had_goes_with_it(events: VirtualEvents) -> None:
    events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE})
    events.broker.reset(ACCOUNT)
    assert states(events) == []
    assert names(events) == []
    events("CreatePartnerEventSource", {"Name": SOURCE, "Account": ACCOUNT}, PARTNER)
    events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE})
    events.broker.reset(PARTNER)
    assert states(events) == []
    assert [bus["Name"] for bus in events("ListEventBuses", {})["EventBuses"]] == [SOURCE, "default"]


def test_a_restart_changes_nothing(events: VirtualEvents) -> None:
    events("CreateEventBus", {"Name": SOURCE, "EventSourceName": SOURCE})
    events.broker.events.registry.load()
    assert states(events) == ["ACTIVE"]
    assert names(events) == [SOURCE]
