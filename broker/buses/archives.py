"""Archives: what a bus was sent, kept for replays.

As on AWS an archive is filled by a managed rule of its bus, so its pattern stands in the same index as all others. What
a group of operations archives is written in one go, just before the group commits, together with what the archive then
holds: EventCount and SizeBytes are always right and nobody counts. (AWS's lag by up to a day.)

Retention runs from the event's arrival, not from its Time, which may be any. What is past it goes in small steps, and
so do the events of an archive that was deleted.

On AWS there may be minutes between an event and its copy in the archive; here it is there before PutEvents answers.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.buses.bus import DISABLED, ENABLED, Bus, Rule, events_arn
from broker.buses.dispatch import Dispatch
from broker.buses.envelope import Event
from broker.buses.registry import Document, Registry
from broker.buses.rules import compile_pattern
from broker.clock import RESUME_MS, Timer
from broker.errors import (
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.names import World, parse_arn, partition_of
from broker.store.port import ArchivedEvent, ArchiveTotals, row_id
from broker.sweeper import Sweeper

ARCHIVE = "archive"
MANAGED_BY = "prod.vhs.events.aws.internal"
RULE_PREFIX = "Events-Archive-"
REPLAY_NAME = "replay-name"

STEP_EVENTS = 250
STEP_BYTES = 1 << 20
EXPIRY_PAUSE_MS = 60_000  # between two sweeps of one archive: its events expire one by one, and come off in bunches
_DAY_MS = 86_400_000

_NOT_REPLAYED = f'"{REPLAY_NAME}":[{{"exists":false}}]'
_SETTINGS = ("Description", "EventPattern", "RetentionDays", "KmsKeyIdentifier")


class Archive:
    """One archive. `document` has what DescribeArchive tells beyond the totals, and its number."""

    def __init__(self, world: World, document: Document, totals: ArchiveTotals) -> None:
        self.world = world
        self.document = document
        self.name: str = document["ArchiveName"]
        self.arn: str = document["ArchiveArn"]
        self.bus_arn: str = document["EventSourceArn"]
        self.no = totals.archive_no
        self.event_count = totals.event_count
        self.size_bytes = totals.size_bytes
        self.last_sequence = totals.last_sequence
        self.expiry: Timer | None = None

    @property
    def retention_ms(self) -> int | None:
        days: int = self.document["RetentionDays"]
        return days * _DAY_MS if days else None

    @property
    def totals(self) -> ArchiveTotals:
        return ArchiveTotals(self.no, self.event_count, self.size_bytes, self.last_sequence)

    def told(self) -> Document:
        held = {"EventCount": self.event_count, "SizeBytes": self.size_bytes}
        return {key: value for key, value in self.document.items() if key != "no"} | held


class Archives:
    """The archives of all buses."""

    def __init__(self, registry: Registry, dispatch: Dispatch) -> None:
        self._registry = registry
        self._store = registry.store
        self._clock = registry.clock
        self._commit = registry.commit
        self._archives: dict[tuple[World, str], Archive] = {}
        self._kept: list[ArchivedEvent] = []  # by this group of operations, not written yet
        self._changed: dict[int, Archive] = {}  # by number: their totals are not written yet
        self._sweeper = Sweeper(
            registry.clock, registry.commit, lambda: registry.store.sweep_archives(STEP_EVENTS, STEP_BYTES)
        )
        dispatch.on_archive = self.keep
        registry.commit.before_commit.append(self.write)
        registry.on_load.append(self._load)
        registry.on_reset.append(self._reset)
        registry.on_bus_gone.append(self._bus_gone)

    # operations

    def create(self, world: World, given: Mapping[str, Any]) -> Document:
        """CreateArchive; returns the archive as it is then.

        Raises ResourceAlreadyExistsException, ResourceNotFoundException, InvalidEventPatternException,
        ValidationException.
        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateArchive.html
        """
        registry, name = self._registry, given["ArchiveName"]
        if (world, name) in self._archives:
            raise ResourceAlreadyExistsException(f"Archive {name} already exists.")
        bus = self._source(world, given["EventSourceArn"])
        pattern = _managed_pattern(given.get("EventPattern"))
        if RULE_PREFIX + name in bus.rules:
            raise ResourceAlreadyExistsException(f"Rule {RULE_PREFIX}{name} already exists on EventBus {bus.name}.")
        self._commit.enter()
        no = registry.next_no()
        document = {
            "ArchiveName": name,
            "ArchiveArn": events_arn(world, f"archive/{name}"),
            "EventSourceArn": bus.arn,
            "State": ENABLED,
            "RetentionDays": 0,
            **_settings(given),
            "CreationTime": registry.clock.now_ms(),
            "no": no,
        }
        archive = Archive(world, document, ArchiveTotals(no, 0, 0, 0))
        self._archives[world, name] = self._changed[no] = archive
        registry.put_item(ARCHIVE, world, name, document)
        self._put_rule(archive, bus, pattern)
        return archive.told()

    def update(self, world: World, given: Mapping[str, Any]) -> Document:
        """UpdateArchive: what is left out stays. Returns the archive as it is then.

        Raises ResourceNotFoundException, InvalidEventPatternException.
        """
        archive = self._find(world, given["ArchiveName"])
        document = {**archive.document, **_settings(given)}
        if document.get("KmsKeyIdentifier") == "":  # as UpdateEventBus has it: back to AWS's own key
            del document["KmsKeyIdentifier"]
        pattern = _managed_pattern(document.get("EventPattern"))
        self._commit.enter()
        bus = self.bus_of(archive)
        if bus is not None:
            document["State"] = ENABLED
            document.pop("StateReason", None)
            self._put_rule(archive, bus, pattern)
        self._put(archive, document)
        self._appoint_expiry(archive)
        return {**archive.told(), "CreationTime": self._clock.now_ms()}  # "the time at which the archive was updated"

    def delete(self, world: World, name: str) -> None:
        """Its replays that still run fail. Raises ResourceNotFoundException."""
        archive = self._find(world, name)
        self._commit.enter()
        bus = self.bus_of(archive)
        if bus is not None and RULE_PREFIX + name in bus.rules:
            self._registry.remove_rule(bus.rules[RULE_PREFIX + name])
        self._remove(archive)

    def describe(self, world: World, name: str) -> Document:
        """Raises ResourceNotFoundException."""
        return self._find(world, name).told()

    def list_archives(
        self,
        world: World,
        name_prefix: str | None = None,
        event_source_arn: str | None = None,
        state: str | None = None,
    ) -> list[Document]:
        """Each as DescribeArchive tells it, in the order of their names.

        Raises ValidationException for more than one filter.
        """
        if sum(given is not None for given in (name_prefix, event_source_arn, state)) > 1:
            raise ValidationException(
                "At most one filter is allowed for ListArchives. Use either : State, EventSourceArn, or NamePrefix."
            )
        return [
            archive.told()
            for (owner, name), archive in sorted(self._archives.items())
            if owner == world
            and name.startswith(name_prefix or "")
            and event_source_arn in (None, archive.bus_arn)
            and state in (None, archive.document["State"])
        ]

    # events

    def keep(self, rule: Rule, event: Event) -> None:
        """The managed rule of an archive has matched an event: it will be written when the group commits."""
        archive = self._archives.get((rule.bus.world, rule.name.removeprefix(RULE_PREFIX)))
        if archive is None or archive.bus_arn != rule.bus.arn or REPLAY_NAME in event.document:
            return
        text = event.text
        size_bytes = len(text) if text.isascii() else len(text.encode())
        archive.last_sequence += 1
        archive.event_count += 1
        archive.size_bytes += size_bytes
        self._changed[archive.no] = archive
        id = row_id(archive.no, archive.last_sequence)
        self._kept.append(ArchivedEvent(id, archive.no, event.time_ms, event.ingested_ms, size_bytes, text))

    def write(self) -> None:
        """Brings the store up to what was kept. Whoever reads events from it calls this first."""
        if self._kept:
            self._store.archive(self._kept)
            self._kept = []
        if self._changed:
            self._store.save_archive_totals(archive.totals for archive in self._changed.values())
            for archive in self._changed.values():
                if archive.expiry is None:
                    self._appoint_expiry(archive)
            self._changed = {}

    def find(self, world: World, name: str) -> Archive | None:
        return self._archives.get((world, name))

    def bus_of(self, archive: Archive) -> Bus | None:
        return self._registry.find_bus(archive.world, archive.bus_arn.partition(":event-bus/")[2])

    def by_no(self, no: int) -> Archive | None:
        return next((archive for archive in self._archives.values() if archive.no == no), None)

    # the life of an archive

    def _load(self) -> None:
        for archive in self._archives.values():
            if archive.expiry is not None:
                archive.expiry.cancel()
        self._kept, self._changed = [], {}
        totals = {held.archive_no: held for held in self._store.load_archive_totals()}
        self._archives = {
            (world, name): Archive(world, document, totals[document["no"]])
            for (world, name), document in self._registry.items(ARCHIVE).items()
        }
        resume_ms = self._clock.now_ms() + RESUME_MS
        for archive in self._archives.values():
            self._appoint_expiry(archive, resume_ms)
        self._sweeper.resume()

    def _put(self, archive: Archive, document: Document) -> None:
        archive.document = document
        self._registry.put_item(ARCHIVE, archive.world, archive.name, document)

    def _put_rule(self, archive: Archive, bus: Bus, pattern: str) -> None:
        name = RULE_PREFIX + archive.name
        region = archive.world.region
        target = {"Id": name, "Arn": f"arn:{partition_of(region)}:events:{region}:::"}
        rule = {
            "State": ENABLED,
            "EventPattern": pattern,
            "ManagedBy": MANAGED_BY,
            "Tags": {},
            "Targets": {name: target},
        }
        self._registry.put_rule(bus, name, rule)

    def _remove(self, archive: Archive) -> None:
        self.write()
        if archive.expiry is not None:
            archive.expiry.cancel()
        del self._archives[archive.world, archive.name]
        self._registry.remove_item(ARCHIVE, archive.world, archive.name)
        self._store.discard_archive(archive.no)
        self._sweeper.soon()

    def _bus_gone(self, bus: Bus) -> None:
        """What was archived stays. UpdateArchive takes it into use again once there is such a bus again."""
        for archive in self._archives.values():
            if archive.bus_arn == bus.arn:
                reason = f"Event bus {bus.name} does not exist."
                self._put(archive, {**archive.document, "State": DISABLED, "StateReason": reason})

    def _reset(self, account: str | None) -> None:
        for archive in list(self._archives.values()):
            if account in (None, archive.world.account):
                self._remove(archive)

    def _find(self, world: World, name: str) -> Archive:
        archive = self._archives.get((world, name))
        if archive is None:
            raise ResourceNotFoundException(f"Archive {name} does not exist.")
        return archive

    def _source(self, world: World, arn: str) -> Bus:
        parts = parse_arn(arn)
        name = parts.resource.removeprefix("event-bus/") if parts is not None else arn
        bus = self._registry.find_bus(world, name)
        if bus is None or bus.arn != arn:
            raise ResourceNotFoundException(f"Event bus {name} does not exist.")
        return bus

    # what goes

    def _appoint_expiry(self, archive: Archive, not_before_ms: int = 0) -> None:
        if archive.expiry is not None:
            archive.expiry.cancel()
            archive.expiry = None
        retention_ms = archive.retention_ms
        oldest_ms = self._store.oldest_archived_ms(archive.no) if retention_ms is not None else None
        if retention_ms is not None and oldest_ms is not None:
            due_ms = max(oldest_ms + retention_ms, not_before_ms)
            archive.expiry = self._clock.call_at(due_ms, lambda: self._commit.run(self._expire, archive))

    def _expire(self, archive: Archive) -> None:
        retention_ms = archive.retention_ms
        if self._archives.get((archive.world, archive.name)) is not archive or retention_ms is None:
            return
        self.write()
        now_ms = self._clock.now_ms()
        count, size_bytes = self._store.delete_archived(archive.no, now_ms - retention_ms, STEP_EVENTS, STEP_BYTES)
        archive.event_count -= count
        archive.size_bytes -= size_bytes
        self._changed[archive.no] = archive
        if count == STEP_EVENTS or size_bytes >= STEP_BYTES:
            self._clock.soon(lambda: self._commit.run(self._expire, archive))
        else:
            self._appoint_expiry(archive, now_ms + EXPIRY_PAUSE_MS)


def _settings(given: Mapping[str, Any]) -> Document:
    return {key: given[key] for key in _SETTINGS if given.get(key) is not None}


def _managed_pattern(pattern: str | None) -> str:
    """The pattern of an archive's rule: its own, and no replayed events. Raises InvalidEventPatternException."""
    if pattern is None:
        return f"{{{_NOT_REPLAYED}}}"
    compile_pattern(pattern)  # so that a complaint tells its place there
    whole = f"{{{_NOT_REPLAYED},{pattern.lstrip()[1:]}"
    compile_pattern(whole)
    return whole
