"""The SQLite store: opening, refusing, upgrading, a full disk, a damaged file, the log's length."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from engine.support import Engine

from broker.errors import BrokerFailure
from broker.store import schema, sqlite
from broker.store.sqlite import SqliteStore

DATABASE = "sidebus.db"


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# opening


def test_a_directory_is_made_and_its_file_says_what_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "some" / "where"
    store = SqliteStore(directory)
    assert store.describe() == {"kind": "sqlite", "path": str(directory / DATABASE), "sync": "full"}
    store.close()
    raw = (directory / DATABASE).read_bytes()
    assert raw.startswith(b"SQLite format 3\0")
    assert int.from_bytes(raw[60:64], "big") == schema.VERSION
    assert int.from_bytes(raw[68:72], "big") == schema.APPLICATION_ID
    assert sorted(path.name for path in directory.iterdir()) == [DATABASE, "sidebus.lock"]


@pytest.mark.parametrize(("sync", "level"), [("full", 2), ("normal", 1)])
def test_what_is_on_disk_when_a_commit_returns(tmp_path: Path, sync: str, level: int) -> None:
    store = SqliteStore(tmp_path, sync=sync)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    store.close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    change(tmp_path / DATABASE, f"PRAGMA user_version = {schema.VERSION + 1}")
    before = (tmp_path / DATABASE).read_bytes()
    for _ in range(2):  # the second time: the lock was given back
        with pytest.raises(BrokerFailure) as refusal:
            SqliteStore(tmp_path)
        assert str(refusal.value) == (
            f"{tmp_path / DATABASE} was written by a newer sidebus (store version {schema.VERSION + 1}, this one knows "
            f"{schema.VERSION}): upgrade sidebus or give another --data."
        )
    assert (tmp_path / DATABASE).read_bytes() == before


def test_one_process_at_a_time(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from broker.store.sqlite import SqliteStore;"
            "store = SqliteStore(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(BrokerFailure, match="is in use by another sidebus: stop that one or give another --data"):
            SqliteStore(tmp_path)
        holder.kill()
        holder.wait(10)
    SqliteStore(tmp_path).close()  # a killed process holds nothing


@pytest.mark.parametrize("where", ["file/data", "lock", "/proc/sidebus"])  # where root, too, may not write
def test_a_directory_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "lock" / "sidebus.lock").mkdir(parents=True)
    with pytest.raises(BrokerFailure) as refusal:
        SqliteStore(tmp_path / where)
    assert str(refusal.value).startswith(f"Cannot write to the data directory {tmp_path / where} (")
    assert str(refusal.value).endswith("): make it writable or give another one with --data.")


@pytest.mark.parametrize("damage", ["not a database", "header", "schema"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / DATABASE
    SqliteStore(tmp_path).close()
    raw = bytearray(path.read_bytes())
    if damage == "not a database":
        raw = bytearray(b"hello, world " * 1000)
    elif damage == "header":
        raw[:16] = b"\0" * 16
    else:
        raw[100:4096] = b"\xff" * 3996
    path.write_bytes(raw)
    with pytest.raises(BrokerFailure) as refusal:
        SqliteStore(tmp_path)
    assert f"{path} is damaged" in str(refusal.value)
    assert "restore it from a copy or start with another --data" in str(refusal.value)


def test_a_damaged_page_is_noticed_when_it_is_read_and_costs_the_other_queues_nothing(
    on_disk: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in (("q", "x"), ("between", "y"), ("sound", "z")):  # the last far from the first in the file
        queue = on_disk.create(name, MessageRetentionPeriod=60)
        for _ in range(100):
            on_disk.send(queue, text * 1000)
    on_disk.close()
    assert on_disk.directory is not None
    path = on_disk.directory / DATABASE
    raw = bytearray(path.read_bytes())
    for start in range(0, len(raw), 4096):
        page = raw[start : start + 4096]
        if page[0] == 13 and b"x" * 1000 in page and b"y" * 1000 not in page:  # a leaf of the table
            raw[start : start + 100] = b"\xff" * 100
    path.write_bytes(raw)
    on_disk.restart()
    assert f"{path} is damaged" in caplog.text
    with pytest.raises(sqlite3.DatabaseError) as error:
        on_disk.receive(on_disk.find("q"))
    assert f"{path} is damaged" in str(on_disk.broker.failed(error.value))
    assert len(on_disk.receive(on_disk.find("sound"))) == 10
    on_disk.advance(60)
    assert on_disk.counts(on_disk.find("sound")) == (0, 0, 0)


# changing the schema


def test_an_upgrade_leads_from_one_version_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tmp_path)
    engine.send(engine.create("q"), "a")
    engine.close()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 2)
    monkeypatch.setitem(schema.UPGRADES, schema.VERSION - 2, "CREATE TABLE one (a TEXT); INSERT INTO one VALUES ('x');")
    monkeypatch.setitem(schema.UPGRADES, schema.VERSION - 1, "ALTER TABLE one ADD COLUMN b INTEGER DEFAULT 7;")
    for _ in range(2):  # the second time there is nothing left to do
        engine = Engine(tmp_path)
        assert engine.rows("SELECT * FROM one") == [("x", 7)]
        assert engine.rows("PRAGMA user_version") == [(schema.VERSION,)]
        assert [message.body for message in engine.listing(engine.find("q"))] == ["a"]
        engine.close()


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(tmp_path).close()
    version = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", version + 1)
    monkeypatch.setitem(schema.UPGRADES, version, "CREATE TABLE one (a TEXT); INSERT INTO absent VALUES (1);")
    for _ in range(2):
        with pytest.raises(BrokerFailure, match="no such table: absent"):
            SqliteStore(tmp_path)
    monkeypatch.undo()
    store = SqliteStore(tmp_path)
    assert store._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'one'").fetchone() == (0,)
    store.close()


def test_there_is_an_upgrade_for_each_version_before_this_one() -> None:
    assert sorted(schema.UPGRADES) == list(range(1, schema.VERSION))


# a full disk


def fill(engine: Engine, spare_pages: int = 0) -> None:
    """Lets the database grow no further than this; with None again as it likes."""
    [(pages,)] = engine.rows("PRAGMA page_count")
    engine.rows(f"PRAGMA max_page_count = {pages + spare_pages}")


def make_room(engine: Engine) -> None:
    engine.rows("PRAGMA max_page_count = 1073741823")


def check_equal(engine: Engine, name: str) -> None:
    """What is in RAM is what is in the store."""
    queue = engine.find(name)
    [(count, last_sequence)] = engine.rows("SELECT message_count, last_sequence FROM queue WHERE name = ?", (name,))
    assert (queue.message_count, queue.last_sequence) == (count, last_sequence)
    assert len(engine.listing(queue)) == count
    assert sum(engine.counts(queue)) == count
    assert engine.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_a_full_disk_in_the_middle_of_a_group(on_disk: Engine, name: str) -> None:
    queue = on_disk.create(name)
    on_disk.send_all(queue, "a b")
    on_disk.settle()
    fill(on_disk, spare_pages=4)
    told: list[BrokerFailure | None] = []
    on_disk.send(queue, "small")
    on_disk.broker.commit.then(told.append)
    [received] = on_disk.receive(queue, 1)
    on_disk.broker.commit.then(told.append)
    with pytest.raises(sqlite3.OperationalError) as error:
        on_disk.send(queue, "x" * 100_000, **({"deduplication_id": "large"} if queue.fifo else {}))
    told.append(on_disk.broker.failed(error.value))
    on_disk.settle()
    assert [str(failure) for failure in told] == [
        f"The disk that holds {on_disk.directory}/{DATABASE} is full: free some space and send again."
    ] * 3
    check_equal(on_disk, name)
    assert received.receive_count == 1
    assert on_disk.counts(queue) == (2, 0, 0)
    assert [message.receive_count for message in on_disk.receive(queue)] == [1, 1]  # reading goes on
    on_disk.settle()
    make_room(on_disk)
    on_disk.send(queue, "x" * 100_000, **({"deduplication_id": "large"} if queue.fifo else {}))
    on_disk.settle()
    check_equal(on_disk, name)
    on_disk.restart()
    assert sum(on_disk.counts(on_disk.find(name))) == 3


def test_a_full_disk_at_the_end_of_a_group(on_disk: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Served inside the commit: who sent and who waited are told the same."""
    queue = on_disk.create("q")
    on_disk.settle()
    poll = on_disk.poll(queue)
    on_disk.settle()
    told: list[BrokerFailure | None] = []
    on_disk.send(queue, "a")
    on_disk.broker.commit.then(told.append)

    def full(_rows: object) -> None:
        fill(on_disk)
        on_disk.rows("INSERT INTO meta VALUES ('x', zeroblob(100000))")

    with monkeypatch.context() as patch:
        patch.setattr(on_disk.store.queues, "save_counters", full)
        on_disk.settle()
    assert [type(failure) for failure in told] == [BrokerFailure]
    assert poll.failure is told[0]
    assert "is full" in str(told[0])
    make_room(on_disk)
    check_equal(on_disk, "q")
    on_disk.send(queue, "b")
    assert on_disk.receive_bodies(queue) == ["b"]


def test_a_disk_that_is_full_for_a_while_costs_no_appointment(on_disk: Engine) -> None:
    """Delays, retention, move tasks: what could not be done is done when there is room."""
    queue, dead = on_disk.create("q", MessageRetentionPeriod=60), on_disk.create("dead")
    on_disk.set_redrive(queue, dead, 1)
    for number in range(40):
        on_disk.send(dead, f"{number:02}" + "x" * 3000)
    on_disk.send(queue, "old")
    on_disk.settle()
    on_disk.move_tasks.start(queue.world, dead.arn, queue.arn, 1)
    on_disk.settle()
    works = on_disk.store.queues._execute

    def full(sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql.startswith(("INSERT", "DELETE", "UPDATE")):
            raise sqlite3.OperationalError("database or disk is full")
        return works(sql, *parameters)

    on_disk.store.queues._execute = full  # type: ignore[assignment]
    on_disk.advance(62)
    check_equal(on_disk, "q")
    assert on_disk.counts(queue) == (1, 0, 0)
    on_disk.store.queues._execute = works
    on_disk.advance(2)
    assert "old" not in [message.body for message in on_disk.listing(on_disk.find("q"))]
    on_disk.advance(40)
    assert on_disk.counts(on_disk.find("dead")) == (0, 0, 0)
    assert on_disk.counts(on_disk.find("q")) == (40, 0, 0)
    check_equal(on_disk, "q")


# the log


def test_the_log_stays_short_under_steady_writes_and_reads_stay_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 1024 * 1024)
    engine = Engine(tmp_path)
    queue = engine.create("q")
    fifo = engine.create("q.fifo")
    log, longest, checkpoints, beside = tmp_path / f"{DATABASE}-wal", 0, set(), 0
    for number in range(1500):
        engine.send(queue, f"{number:05}" + "x" * 4000)
        engine.send(fifo, f"{number:05}", group_id=str(number % 50))
        engine.settle()
        if number % 3 == 0:
            engine.delete(queue, *engine.receive(queue, 1))
        longest = max(longest, log.stat().st_size)
        checkpoint = engine.store._checkpoint
        beside = beside + 1 if checkpoint in checkpoints else 0
        if checkpoint is not None:
            checkpoints.add(checkpoint)
            if beside == 20:  # a busy machine may not let its thread run at all
                checkpoint.join()
    assert len(checkpoints) > 10
    assert longest < 4 * 1024 * 1024
    assert engine.counts(queue) == (1000, 0, 0)
    assert engine.counts(fifo) == (1500, 0, 0)
    assert engine.rows("PRAGMA integrity_check") == [("ok",)]
    engine.restart()
    assert engine.counts(engine.find("q")) == (1000, 0, 0)
    engine.close()
    assert not log.exists()
    assert not any(thread.name == "sidebus-checkpoint" for thread in threading.enumerate())


def test_reading_writes_no_log(on_disk: Engine) -> None:
    queue = on_disk.create("q")
    on_disk.settle()
    before = on_disk.store._log_bytes
    for _ in range(50):
        on_disk.receive(queue)
        on_disk.queues.get_attributes(queue, ["All"])
        on_disk.settle()
    assert on_disk.store._log_bytes == before


def test_no_placeholder_has_a_number() -> None:
    """Early releases of Python 3.12 take `?1` for a name and warn, and some suites allow no warning."""
    sources = Path(sqlite.__file__).parent.glob("*.py")
    assert [path.name for path in sources if re.search(r"\?[0-9]", path.read_text())] == []
