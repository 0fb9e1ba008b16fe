"""The Kinesis Client Library, its leases and checkpoints in the sidecar's own tables.

Two workers share a stream that is resharded twice; one is killed, one leaves, one comes back. KCL waits for up to
half a minute by chance before it makes its first leases, so a case takes a minute or two.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

JavaWith = Callable[..., str]

KEYS = [f"key-{number}" for number in range(24)]
WAIT_S = 120
POLL_S = 0.2
LEASE_TABLES = {"2.7.0": [""], "3.1.3": ["", "-CoordinatorState", "-WorkerMetricStats"]}


class Line(NamedTuple):
    worker: str
    what: str  # started, owns, record, ended, lost, leaves, unsaved, stopped
    shard: str
    key: str
    data: str


class Application:
    """The workers of a KCL application, and the log that they share."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self._command = command
        self._environment = environment
        self._directory = directory
        self._log = directory / "log"
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, worker: str) -> None:
        with (self._directory / f"{worker}.err").open("ab") as errors:
            self._workers[worker] = subprocess.Popen(
                [*self._command, worker, self._log], env=self._environment, stdout=errors, stderr=errors
            )

    def end(self, worker: str, how: signal.Signals) -> None:
        self._workers[worker].send_signal(how)
        self._workers.pop(worker).wait(WAIT_S)

    def close(self) -> None:
        for worker in list(self._workers):
            self.end(worker, signal.SIGKILL)

    def lines(self) -> list[Line]:
        return [Line(*line.split()) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def wait_for(self, what: str, is_there: Callable[[list[Line]], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_there(self.lines()):
            assert time.monotonic() < deadline, f"{what}: not after {WAIT_S} s\n{self._said()}"
            for worker, process in self._workers.items():
                assert process.poll() is None, f"{worker} has ended\n{self._said()}"
            time.sleep(POLL_S)

    def _said(self) -> str:
        parts = [f"{path.name}:\n{path.read_text()[-4000:]}" for path in sorted(self._directory.iterdir())]
        return "\n".join(parts)


@pytest.fixture
def start_application(
    java_with: JavaWith, client_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[str, str], Application]]:
    started: list[Application] = []

    def start(version: str, mode: str) -> Application:
        artifacts = (f"software.amazon.kinesis:amazon-kinesis-client:{version}", "org.slf4j:slf4j-simple:2.0.17")
        path = java_with(f"kcl-{version}", 11, *artifacts)
        program = str(Path(__file__).with_name("KclWorker.java"))
        command = ["java", "-Xmx256m", "-cp", path, program, mode, "application", "stream"]
        application = Application(command, client_environment, tmp_path)
        started.append(application)
        return application

    yield start
    for application in started:
        application.close()


@pytest.mark.parametrize("mode", ["polling", "fanout"])
@pytest.mark.parametrize("version", list(LEASE_TABLES))
def test_records_come_at_least_once_and_in_order(
    version: str,
    mode: str,
    start_application: Callable[[str, str], Application],
    sidebus: Any,
    connect: Any,
) -> None:
    kinesis, dynamodb = connect(sidebus, "kinesis"), connect(sidebus, "dynamodb")
    kinesis.create_stream(StreamName="stream", ShardCount=2)
    rounds = 0

    def put(count: int) -> None:
        nonlocal rounds
        for number in range(rounds, rounds + count):
            records = [{"PartitionKey": key, "Data": str(number).encode()} for key in KEYS]
            assert kinesis.put_records(StreamName="stream", Records=records)["FailedRecordCount"] == 0
        rounds += count

    def all_seen(lines: list[Line]) -> bool:
        return len({line[3:] for line in lines if line.what == "record"}) == rounds * len(KEYS)

    application = start_application(version, mode)
    application.start("a")
    application.start("b")
    put(5)
    application.wait_for("the first records", all_seen)

    kinesis.update_shard_count(StreamName="stream", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    put(5)
    application.wait_for("records after a reshard", all_seen)

    workers = [line.worker for line in application.lines() if line.what == "owns"]
    victim, other = sorted(("a", "b"), key=workers.count, reverse=True)
    application.end(victim, signal.SIGKILL)
    put(5)
    application.wait_for("records after a crash", all_seen)

    application.end(other, signal.SIGTERM)
    before = len(application.lines())
    kinesis.update_shard_count(StreamName="stream", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    put(5)
    application.start(victim)
    application.wait_for("records after a restart", all_seen)
    again = [line for line in application.lines()[before:] if line.what == "record"]
    assert {int(line.data) for line in again} == set(range(rounds - 5, rounds))  # all others had been checkpointed
    application.end(victim, signal.SIGTERM)

    seen: dict[str, list[int]] = {key: [] for key in KEYS}
    for line in application.lines():
        if line.what == "record" and int(line.data) not in seen[line.key]:
            seen[line.key].append(int(line.data))
    assert seen == {key: list(range(rounds)) for key in KEYS}
    ended = {line.shard for line in application.lines() if line.what == "ended"}
    assert ended >= {"shardId-000000000000", "shardId-000000000001"}
    assert dynamodb.list_tables()["TableNames"] == [f"application{suffix}" for suffix in LEASE_TABLES[version]]
