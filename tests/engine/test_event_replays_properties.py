"""Archives and replays against a naive model: random events, patterns, windows, filters, cancels, crashes, restarts.

The model keeps each archive as a list. What a replay must give a rule is worked out when it starts: the events of its
window that the archive holds then and the rule matches, in order of time. What a rule's queue holds of a replay is
the beginning of that at every moment, and all of it once the replay has completed.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.buses import archives, replays
from broker.errors import BrokerFailure, IllegalStatusException
from engine.archive_support import AT_ONCE, Desk
from engine.support import DAY_S, START_MS, WORLD, Engine

# By rule and archive: the kinds of events that their patterns let through.
RULES = {"all": {0, 1, 2, 3}, "even": {0, 2}, "low": {0, 1}}
ARCHIVES = {"everything": None, "some": {0, 1}, "others": {1, 2, 3}}
REPLAYS = [f"r{n}" for n in range(12)]
FAILURE = BrokerFailure("on purpose")

moments_ms = st.integers(START_MS - 6, START_MS + 6)
kinds = st.integers(0, 3)
some_rules = st.just(set[str]()) | st.sets(st.sampled_from(sorted(RULES)))
puts = st.lists(st.tuples(moments_ms, kinds), min_size=1, max_size=10)


class Put(NamedTuple):
    """In this order they come again: of one moment, as they came."""

    time_ms: int
    n: int
    kind: int


class Archived:
    def __init__(self, kinds: set[int] | None, retained: bool) -> None:
        self.kinds = kinds
        self.retained = retained  # for a day only
        self.events: list[Put] = []


class Model:
    def __init__(self) -> None:
        self.count = 0
        self.archives: dict[str, Archived] = {}
        self.live: dict[str, list[int]] = {rule: [] for rule in RULES}
        self.replayed: dict[str, dict[str, list[int]]] = {}  # by replay and rule: what must come


def pattern(kinds: set[int] | None) -> dict[str, Any] | None:
    return None if kinds is None else {"detail": {"kind": sorted(kinds)}}


class ArchivesAndReplays(RuleBasedStateMachine):
    @initialize(events=puts)
    def begin(self, events: list[tuple[int, int]]) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(replays, "STEP_EVENTS", 3)
        self.patch.setattr(archives, "STEP_EVENTS", 4)
        self.directories = [tempfile.mkdtemp()]
        self.engine = Engine(Path(self.directories[0]), limits=AT_ONCE)
        self.desk = Desk(self.engine)
        for name, kinds in RULES.items():
            self.desk.rule(name, pattern(kinds) or {})
        self.model = Model()
        self.committed = Model()
        self.create_archive("everything", retained=False)
        self.put(events)
        self.engine.settle()

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            try:
                self.finish()
            finally:
                self.patch.undo()
                self.engine.close()
                for directory in self.directories:
                    shutil.rmtree(directory)

    def done(self) -> None:
        """The operation is the last of its group so far: the model of that moment holds once it is committed."""
        self.engine.broker.commit.then(self.told)

    def told(self, failure: BrokerFailure | None) -> None:
        if failure is None:
            self.committed = copy.deepcopy(self.model)
        else:
            self.model = copy.deepcopy(self.committed)

    # what happens

    @rule(events=puts)
    def put(self, events: list[tuple[int, int]]) -> None:
        for time_ms, kind in events:
            put = Put(time_ms, self.model.count, kind)
            self.model.count += 1
            self.desk.put({"n": put.n, "kind": kind}, time_ms=time_ms)
            for archive in self.model.archives.values():
                if archive.kinds is None or kind in archive.kinds:
                    archive.events.append(put)
            for name, kinds in RULES.items():
                if kind in kinds:
                    self.model.live[name].append(put.n)
        self.done()

    @precondition(lambda self: len(self.model.archives) < len(ARCHIVES))
    @rule(data=st.data(), retained=st.booleans())
    def create_another_archive(self, data: st.DataObject, retained: bool) -> None:
        self.create_archive(data.draw(st.sampled_from(sorted(ARCHIVES.keys() - self.model.archives.keys()))), retained)

    def create_archive(self, name: str, retained: bool) -> None:
        self.desk.archive(name, pattern(ARCHIVES[name]), RetentionDays=int(retained))
        self.model.archives[name] = Archived(ARCHIVES[name], retained)
        self.done()

    def some_archive(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.model.archives)))

    @precondition(lambda self: self.model.archives)
    @rule(data=st.data(), kinds=st.none() | st.sets(kinds, min_size=1))
    def change_or_delete_archive(self, data: st.DataObject, kinds: set[int] | None) -> None:
        name = self.some_archive(data)
        if kinds is not None:
            self.desk.change(name, pattern(kinds))
            self.model.archives[name].kinds = kinds
        else:
            self.desk.events.archives.delete(WORLD, name)
            del self.model.archives[name]
        self.done()

    @precondition(lambda self: self.model.archives and len(self.model.replayed) < len(REPLAYS))
    @rule(data=st.data(), start_ms=moments_ms, span_ms=st.integers(1, 12), rules=some_rules)
    def start_replay(self, data: st.DataObject, start_ms: int, span_ms: int, rules: set[str]) -> None:
        name, archive = REPLAYS[len(self.model.replayed)], self.some_archive(data)
        end_ms = start_ms + span_ms
        self.desk.replay(name, archive, start_ms, end_ms, tuple(sorted(rules)))
        chosen = sorted(put for put in self.model.archives[archive].events if start_ms <= put.time_ms < end_ms)
        self.model.replayed[name] = {
            rule: [put.n for put in chosen if put.kind in kinds and (not rules or rule in rules)]
            for rule, kinds in RULES.items()
        }
        self.done()

    @precondition(lambda self: self.model.replayed)
    @rule(data=st.data())
    def cancel_replay(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.replayed)))
        running = self.desk.state(name) in ("STARTING", "RUNNING")
        try:
            self.desk.events.replays.cancel(WORLD, name)
            assert running
        except IllegalStatusException:
            assert not running
        self.done()

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.desk.turn()

    @rule(how=st.sampled_from(["fail", "restart", "crash"]))
    def begin_again(self, how: str) -> None:
        if how == "fail":
            self.engine.broker.commit.abort(FAILURE)
        elif how == "restart":
            self.engine.restart()
        else:
            self.crash()

    def crash(self) -> None:
        """What the disk holds at this moment is what a new process finds."""
        old, directory = self.engine, tempfile.mkdtemp()
        self.directories.append(directory)
        shutil.copytree(self.directories[-2], directory, dirs_exist_ok=True)
        old.broker.commit.after_rollback.clear()
        old.broker.commit.abort(FAILURE)
        old.store.close()
        self.engine = Engine(Path(directory), seed=1000 * len(self.directories), now_ms=old.clock.now_ms())
        self.desk.engine = self.engine

    @precondition(lambda self: self.engine.clock.now_ms() < START_MS + 12 * DAY_S * 1000)  # the queues keep 14 days
    @rule()
    def days_pass(self) -> None:
        self.finish()
        self.engine.advance(1.5 * DAY_S)
        for archive in self.model.archives.values():
            if archive.retained:
                archive.events.clear()
        self.committed = copy.deepcopy(self.model)

    @rule()
    def finish(self) -> None:
        self.engine.advance(2)
        for name, wanted in self.model.replayed.items():
            state = self.desk.state(name)
            assert state in ("COMPLETED", "CANCELLED", "FAILED")
            if state == "COMPLETED":
                assert self.came(name) == wanted
        held = {name: self.desk.held(name) for name in self.model.archives}
        rows = self.desk.rows()
        assert sorted(rows) == sorted(totals for totals in held.values() if totals[0])

    # what must hold

    def came(self, replay: str | None) -> dict[str, list[int]]:
        return {rule: self.desk.numbers(self.engine.find(rule), replay) for rule in RULES}

    @invariant()
    def what_has_come_is_the_beginning_of_what_must_come(self) -> None:
        if not hasattr(self, "engine"):
            return
        assert self.came(None) == self.model.live
        for name, wanted in self.model.replayed.items():
            for rule_name, numbers in self.came(name).items():
                assert numbers == wanted[rule_name][: len(numbers)]

    @invariant()
    def archives_tell_what_they_hold(self) -> None:
        for name, archive in self.model.archives.items() if hasattr(self, "engine") else ():
            assert self.desk.held(name)[0] == len(archive.events)


TestArchivesAndReplays = ArchivesAndReplays.TestCase
TestArchivesAndReplays.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
