"""Partner event sources: a partner offers one to an account, which takes it by making a bus of the same name.

Any account of the broker can be the partner, under any name; a source is kept in the partner's world. It is PENDING
until the bus is made, ACTIVE from then on, PENDING again while it is deactivated or its bus is gone. What is PENDING
for two weeks, or what the partner deletes, is gone, and DELETED in the eyes of those who have the bus. What is sent to
a source that is not ACTIVE goes nowhere. Nothing happens at the end of the two weeks, so there is no appointment for
it: every look at a source asks the clock.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-saas.html
"""

from __future__ import annotations

from typing import Any

from broker.buses.bus import Bus
from broker.buses.registry import Document, Registry
from broker.errors import InvalidStateException, ResourceAlreadyExistsException, ResourceNotFoundException
from broker.names import World, partition_of

EVENT_SOURCE = "event-source"

PENDING, ACTIVE, DELETED = "PENDING", "ACTIVE", "DELETED"
PENDING_MS = 14 * 86_400_000  # DeactivateEventSource: "more than two weeks"


def source_arn(world: World, name: str) -> str:
    """It belongs to no account."""
    return f"arn:{partition_of(world.region)}:events:{world.region}::event-source/{name}"


class Partners:
    """`world` is the partner's in the operations on partner event sources, and the customer's in the others.

    A document has Account (whom it is offered to), CreationTime, State, Matched (whether the bus has been made), and
    ExpirationTime while it is PENDING.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        registry.on_bus_gone.append(self._bus_gone)
        registry.on_reset.append(self._reset)

    # the partner's

    def create(self, world: World, name: str, account: str) -> str:
        """Offers a source to an account; returns its ARN. Raises ResourceAlreadyExistsException.

        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreatePartnerEventSource.html
        """
        registry = self._registry
        known = self._living(world, name) is not None
        if known or self._offered(World(account, world.region), name) is not None:
            raise ResourceAlreadyExistsException(f"Event source {name} already exists.")
        registry.commit.enter()
        now_ms = registry.clock.now_ms()
        document = {
            "Account": account,
            "CreationTime": now_ms,
            "State": PENDING,
            "Matched": False,
            "ExpirationTime": now_ms + PENDING_MS,
        }
        registry.put_item(EVENT_SOURCE, world, name, document)
        return source_arn(world, name)

    def delete(self, world: World, name: str, account: str) -> None:
        """Takes the offer back. That there is none is no error."""
        document = self._living(world, name)
        if document is None or document["Account"] != account:
            return
        self._registry.commit.enter()
        if document["Matched"]:
            self._put(world, name, document, DELETED)
        else:
            self._registry.remove_item(EVENT_SOURCE, world, name)

    def describe_partner_source(self, world: World, name: str) -> Document:
        """Raises ResourceNotFoundException."""
        if self._living(world, name) is None:
            raise ResourceNotFoundException(f"Event source {name} does not exist.")
        return {"Arn": source_arn(world, name), "Name": name}

    def list_partner_sources(self, world: World, name_prefix: str) -> list[Document]:
        """In the order of their names."""
        names = sorted(name for owner, name in self._registry.items(EVENT_SOURCE) if owner == world)
        return [
            {"Arn": source_arn(world, name), "Name": name}
            for name in names
            if name.startswith(name_prefix) and self._living(world, name) is not None
        ]

    def list_accounts(self, world: World, name: str) -> list[Document]:
        """Whom a source is offered to: one account. Raises ResourceNotFoundException."""
        document = self._living(world, name)
        if document is None:
            raise ResourceNotFoundException(f"Event source {name} does not exist.")
        names = ("Account", "CreationTime", "ExpirationTime", "State")
        return [{key: document[key] for key in names if key in document}]

    def bus_of(self, world: World, name: str) -> Bus | None:
        """The bus that takes what the partner sends to this source, if the source is ACTIVE.

        Raises ResourceNotFoundException if the partner has no such source.
        """
        document = self._living(world, name)
        if document is None:
            raise ResourceNotFoundException(f"Event source {name} does not exist.")
        if document["State"] != ACTIVE:
            return None
        return self._registry.find_bus(World(document["Account"], world.region), name)

    # the customer's

    def claim(self, world: World, name: str) -> None:
        """The source becomes ACTIVE for the bus of its name, which CreateEventBus makes in the same transaction.

        Raises ResourceNotFoundException, InvalidStateException.
        """
        partner, document = self._find(world, name)
        if document["State"] != PENDING:
            raise InvalidStateException(f"Event source {name} is not in PENDING state.")
        self._registry.commit.enter()
        self._put(partner, name, {**document, "Matched": True}, ACTIVE)

    def activate(self, world: World, name: str) -> None:
        """Raises ResourceNotFoundException, InvalidStateException."""
        self._move(world, name, PENDING, ACTIVE)

    def deactivate(self, world: World, name: str) -> None:
        """Raises ResourceNotFoundException, InvalidStateException."""
        self._move(world, name, ACTIVE, PENDING)

    def describe(self, world: World, name: str) -> Document:
        """Raises ResourceNotFoundException."""
        _, document = self._find(world, name)
        return _shown(world, name, document)

    def list_sources(self, world: World, name_prefix: str = "") -> list[Document]:
        """In the order of their names."""
        names = sorted(name for _, name in self._registry.items(EVENT_SOURCE) if name.startswith(name_prefix))
        offered = ((name, self._offered(world, name)) for name in dict.fromkeys(names))
        return [_shown(world, name, found[1]) for name, found in offered if found is not None]

    def _move(self, world: World, name: str, before: str, after: str) -> None:
        found = self._offered(world, name)
        if found is None or not found[1]["Matched"]:
            raise ResourceNotFoundException(f"Event source {name} or event bus {name} does not exist.")
        partner, document = found
        if document["State"] != before:
            raise InvalidStateException(f"Event source {name} is not in {before} state.")
        self._registry.commit.enter()
        self._put(partner, name, document, after)

    def _find(self, world: World, name: str) -> tuple[World, Document]:
        found = self._offered(world, name)
        if found is None:
            raise ResourceNotFoundException(f"Event source {name} does not exist.")
        return found

    # what both see

    def _offered(self, world: World, name: str) -> tuple[World, Document] | None:
        """The source of this name that is offered to an account, and the partner's world."""
        for partner, other in self._registry.items(EVENT_SOURCE):
            if other == name and partner.region == world.region:
                document = self._seen(partner, name)
                if document is not None and document["Account"] == world.account:
                    return partner, document
        return None

    def _living(self, world: World, name: str) -> Document | None:
        """A source in its partner's eyes: what is deleted is gone."""
        document = self._seen(world, name)
        return None if document is None or document["State"] == DELETED else document

    def _seen(self, world: World, name: str) -> Document | None:
        """A source as it is now, two weeks counted."""
        document = self._registry.items(EVENT_SOURCE).get((world, name))
        if document is None or document["State"] != PENDING:
            return document
        now_ms = self._registry.clock.now_ms()
        if now_ms < document["ExpirationTime"]:
            return document
        return _in_state(document, DELETED, now_ms) if document["Matched"] else None

    def _put(self, world: World, name: str, document: Document, state: str) -> None:
        now_ms = self._registry.clock.now_ms()
        self._registry.put_item(EVENT_SOURCE, world, name, _in_state(document, state, now_ms))

    def _bus_gone(self, bus: Bus) -> None:
        found = self._offered(bus.world, bus.name)
        if found is not None and found[1]["Matched"]:
            partner, document = found
            if document["State"] == DELETED:
                self._registry.remove_item(EVENT_SOURCE, partner, bus.name)
            else:
                self._put(partner, bus.name, {**document, "Matched": False}, PENDING)

    def _reset(self, account: str | None) -> None:
        """What was offered to an account goes with it; what it offered goes with all that is its own."""
        for (world, name), document in list(self._registry.items(EVENT_SOURCE).items()):
            if account is not None and document["Account"] == account:
                self._registry.remove_item(EVENT_SOURCE, world, name)


def _in_state(document: Document, state: str, now_ms: int) -> Document:
    changed = {name: value for name, value in document.items() if name != "ExpirationTime"}
    changed["State"] = state
    if state == PENDING:
        changed["ExpirationTime"] = now_ms + PENDING_MS
    return changed


def _shown(world: World, name: str, document: Document) -> dict[str, Any]:
    names = ("CreationTime", "ExpirationTime", "State")
    return {
        "Arn": source_arn(world, name),
        "CreatedBy": "/".join(name.split("/")[:2]),  # as at AWS: aws.partner/example.com
        "Name": name,
        **{key: document[key] for key in names if key in document},
    }
