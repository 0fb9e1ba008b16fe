"""The process: how it starts and refuses to, how it ends, and what it does when the disk or the client goes away."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from sidecar import (
    COMMAND,
    TIMEOUT_S,
    Client,
    Refused,
    Sidecar,
    Wire,
    environment,
    http_request,
    json_request,
    seed_of_this_run,
)

from broker import __version__
from broker.store import schema

SOON_S = 5.0  # far below the 20 s of a long poll


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def refused(*options: str | Path, env: Mapping[str, str] | None = None) -> str:
    """The one sentence of a `sidebus serve` that does not start."""
    ended = subprocess.run(
        [COMMAND, "serve", "--port", "0", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(env),
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert ended.stderr.startswith("sidebus: "), ended.stderr
    assert ended.stderr.endswith(".\n"), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


# the start ----------------------------------------------------------------------------------------


def test_the_address_is_all_it_prints_and_the_health_page_says_what_runs(tmp_path: Path, log: Path) -> None:
    data = tmp_path / "new" / "data"  # is made
    with Sidecar("--data", data, "--sync", "normal", "--limits", "aws", log=log).ready() as sidecar:
        assert sidecar.said == f"sidebus is ready on http://127.0.0.1:{sidecar.port}\n".encode()
        with sidecar.client() as client:
            health = client.get("/_sidebus/health")
            assert {"sqs", "sts"} <= set(health.pop("services"))
            assert health == {
                "status": "ready",
                "version": __version__,
                "store": {"kind": "sqlite", "path": str(data / "sidebus.db"), "sync": "normal"},
                "limits": "aws",
            }
        before = sidecar.said
        assert sidecar.stop() == 0
        assert sidecar.said == before
    with Sidecar(log=log).ready() as sidecar, sidecar.client() as client:
        assert client.get("/_sidebus/health")["store"] == {"kind": "sqlite", "path": ":memory:"}


def test_every_option_is_an_environment_variable_and_the_command_line_goes_before_it(tmp_path: Path, log: Path) -> None:
    env = {
        "SIDEBUS_HOST": "localhost",
        "SIDEBUS_PORT": "0",
        "SIDEBUS_DATA": str(tmp_path / "data"),
        "SIDEBUS_SYNC": "normal",
        "SIDEBUS_LIMITS": "aws",
        "SIDEBUS_ACCOUNT": "111122223333",
        "SIDEBUS_REGION": "eu-central-1",
        "SIDEBUS_LOG_FORMAT": "json",
    }
    with Sidecar("--limits", "relaxed", "--host", "127.0.0.1", log=log, env=env).ready() as sidecar:
        with sidecar.client() as client:
            health = client.get("/_sidebus/health")
            url = client.queue("q")
            arn = client.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        assert health["limits"] == "relaxed"
        assert health["store"] == {"kind": "sqlite", "path": str(tmp_path / "data/sidebus.db"), "sync": "normal"}
        assert arn == "arn:aws:sqs:eu-central-1:111122223333:q"
        assert sidecar.stop() == 0
    lines = [json.loads(line) for line in sidecar.log().splitlines()]
    assert lines
    for line in lines:
        assert line.keys() == {"time", "level", "logger", "message"}


def test_keys_of_the_environment_are_asked_for(log: Path) -> None:
    env = {"SIDEBUS_AUTH": "strict", "SIDEBUS_KEY": "AKID=secret,OTHER=more@111122223333"}
    with Sidecar(log=log, env=env).ready() as sidecar, sidecar.client() as client, pytest.raises(Refused) as refusal:
        client.call("ListQueues")
    assert refusal.value.name == "MissingAuthenticationTokenException"


UNUSABLE = [
    "--port 65536",
    "--port http",
    "--port -1",
    "--port ²",
    "--port=",
    "--host 192.0.2.1",  # TEST-NET-1: nobody's
    f"--host {'x' * 70}",
    "--sync off",
    "--limits none",
    "--stream-wait soon",
    "--log-format xml",
    "--account 12345678901",
    "--region Europe",
    "--auth lax",
    "--auth strict",
    "--key AKID",
    "--tls-cert /no/such/file",
    "--tls-cert /dev/null",
    "--tls-key /dev/null",
]


def test_an_option_that_cannot_be_used_is_named() -> None:
    with ThreadPoolExecutor(2) as pool:
        sentences = pool.map(lambda options: refused(*options.split()), UNUSABLE)
        for options, sentence in zip(UNUSABLE, sentences, strict=True):
            assert any(word.strip("=") in sentence for word in options.split()), (options, sentence)


def test_a_variable_that_cannot_be_used_is_named() -> None:
    assert "--sync" in refused(env={"SIDEBUS_SYNC": "sometimes"})


def test_unknown_options_get_the_usage() -> None:
    ended = subprocess.run([COMMAND, "serve", "--prot", "1"], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 2
    assert "--prot" in ended.stderr


def test_a_busy_port(log: Path) -> None:
    with Sidecar(log=log).ready() as sidecar:
        assert "in use" in refused("--port", str(sidecar.port))


def test_one_process_a_directory(tmp_path: Path, log: Path) -> None:
    with Sidecar("--data", tmp_path / "data", log=log).ready() as sidecar:
        assert "in use by another sidebus" in refused("--data", tmp_path / "data")
        sidecar.kill()
    with Sidecar("--data", tmp_path / "data", log=log).ready():
        pass  # a killed one holds nothing


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Cannot write" in refused("--data", tmp_path / "file")
    assert "Cannot write" in refused("--data", tmp_path / "file" / "below")
    assert "Cannot write" in refused("--data", "/sys/kernel")  # not even root may


def filled(directory: Path, log: Path, count: int = 300) -> None:
    """A store with a queue and messages, closed in order."""
    with Sidecar("--data", directory, log=log).ready() as sidecar, sidecar.client() as client:
        url = client.queue("q")
        for number in range(count):
            client.call("SendMessage", QueueUrl=url, MessageBody=f"{number:<500}")
        assert sidecar.stop() == 0


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path, log: Path) -> None:
    filled(tmp_path, log, 1)
    with sqlite3.connect(tmp_path / "sidebus.db") as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    before = (tmp_path / "sidebus.db").read_bytes()
    sentence = refused("--data", tmp_path)
    assert "newer sidebus" in sentence
    assert f"version {schema.VERSION + 1}" in sentence
    assert (tmp_path / "sidebus.db").read_bytes() == before


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "sidebus.db").write_bytes(random.Random(1).randbytes(100_000))
    assert "damaged" in refused("--data", tmp_path)


def test_a_damaged_store(tmp_path: Path, log: Path) -> None:
    filled(tmp_path / "whole", log)
    size = (tmp_path / "whole/sidebus.db").stat().st_size
    with sqlite3.connect(tmp_path / "whole/sidebus.db") as connection:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'queue'").fetchone()
    connection.close()
    for name, offset, length in (("queues", (page - 1) * page_bytes, page_bytes), ("half", size // 2, size)):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        with (tmp_path / name / "sidebus.db").open("r+b") as file:
            file.seek(offset)
            if name == "half":
                file.truncate()
            else:
                file.write(b"\xa5" * length)
        assert "damaged" in refused("--data", tmp_path / name)


# the end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_long_polls_and_finishes_what_is_in_flight(tmp_path: Path, log: Path, number: int) -> None:
    data = tmp_path / "data"
    with Sidecar("--data", data, log=log).ready() as sidecar, sidecar.client() as maker:
        url = maker.queue("q")
        send = json_request("SendMessage", {"QueueUrl": url, "MessageBody": "on its way"})
        wait = json_request("ReceiveMessage", {"QueueUrl": maker.queue("other"), "WaitTimeSeconds": 20})
        with sidecar.client() as waiting, sidecar.client() as idle, sidecar.client() as a, sidecar.client() as b:
            idle.call("ListQueues")
            waiting.begin_to_wait(url)
            for client, half in ((a, send[:-5]), (b, wait[:-5])):
                client.write(json_request("ListQueues", {}) + half)
                client.answer()
            begin_s = time.monotonic()
            sidecar.signal(number)
            assert waiting.answer() == {}
            assert waiting.read() is None
            assert idle.read() is None
            a.write(send[-5:])
            assert a.answer()["MessageId"]
            assert a.read() is None
            b.write(wait[-5:])  # a long poll that begins now ends now
            assert b.answer() == {}
            assert b.read() is None
            assert sidecar.wait() == 0
            assert time.monotonic() - begin_s < SOON_S
        with pytest.raises(ConnectionRefusedError):
            sidecar.client()
        assert "Traceback" not in sidecar.log()
    assert sorted(path.name for path in data.iterdir()) == ["sidebus.db", "sidebus.lock"]
    with Sidecar("--data", data, log=log).ready() as sidecar, sidecar.client() as client:
        assert client.take_all(client.queue("q")) == ["on its way"]


@pytest.mark.slow  # the server's patience
def test_who_does_not_finish_is_cut_off(log: Path) -> None:
    with Sidecar(log=log).ready() as sidecar, sidecar.client() as client:
        client.write(json_request("ListQueues", {}) + json_request("ListQueues", {})[:-1])
        client.answer()
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait() == 0


# clients that leave -------------------------------------------------------------------------------


@pytest.mark.parametrize("abort", [False, True], ids=["close", "reset"])
def test_a_poller_that_has_left_is_handed_nothing(log: Path, abort: bool) -> None:
    with Sidecar(log=log).ready() as sidecar, sidecar.client() as sender, sidecar.client() as stayer:
        url = sender.queue("q")
        with sidecar.client() as leaver:
            leaver.begin_to_wait(url)
            stayer.begin_to_wait(url)
            if abort:
                leaver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        begin_s = time.monotonic()
        sender.call("SendMessage", QueueUrl=url, MessageBody="for who is left")
        (message,) = stayer.answer()["Messages"]
        assert message["Body"] == "for who is left"
        assert time.monotonic() - begin_s < SOON_S
        counts = sender.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_nothing_is_lost_when_the_only_poller_has_left(log: Path) -> None:
    with Sidecar(log=log).ready() as sidecar, sidecar.client() as client:
        url = client.queue("q")
        with sidecar.client() as leaver:
            leaver.begin_to_wait(url)
        client.call("SendMessage", QueueUrl=url, MessageBody="kept")
        assert client.take_all(url) == ["kept"]


# HTTP/2 and TLS -----------------------------------------------------------------------------------


class Http2:
    """As little of an HTTP/2 client as will do."""

    def __init__(self, wire: Wire, scheme: str) -> None:
        self._wire = wire
        self._scheme = scheme
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self._state.initiate_connection()

    def send(self, operation: str, **members: Any) -> None:
        stream = self._state.get_next_available_stream_id()
        head = {
            ":method": "POST",
            ":path": "/",
            ":scheme": self._scheme,
            ":authority": "localhost",
            "x-amz-target": f"AmazonSQS.{operation}",
            "content-type": "application/x-amz-json-1.0",
        }
        self._state.send_headers(stream, list(head.items()))
        self._state.send_data(stream, json.dumps(members).encode(), end_stream=True)
        self._wire.write(self._state.data_to_send())

    def ping(self) -> None:
        """Returns when the server has read all that was sent."""
        self._state.ping(b"are you?")
        self._wire.write(self._state.data_to_send())
        while not any(isinstance(event, h2.events.PingAckReceived) for event in self._events()):
            pass

    def _events(self) -> list[h2.events.Event]:
        data = self._wire.socket.recv(65536)
        assert data, "The connection ended."
        return self._state.receive_data(data)

    def answer(self) -> tuple[int, Any]:
        """Status and body of the next answer."""
        status, body = 0, b""
        while True:
            for event in self._events():
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return status, json.loads(body)


def test_http2_by_prior_knowledge_on_the_same_port(log: Path) -> None:
    with Sidecar(log=log).ready() as sidecar, sidecar.client() as other, Wire(sidecar.host, sidecar.port) as wire:
        http2 = Http2(wire, "http")
        http2.send("CreateQueue", QueueName="q")
        assert http2.answer() == (200, {"QueueUrl": "http://localhost/000000000000/q"})
        http2.send("ReceiveMessage", QueueUrl="http://localhost/000000000000/q", WaitTimeSeconds=20)
        other.call("SendMessage", QueueUrl=other.queue("q"), MessageBody="through HTTP/1.1")
        status, document = http2.answer()
        assert (status, [message["Body"] for message in document["Messages"]]) == (200, ["through HTTP/1.1"])
        http2.send("ReceiveMessage", QueueUrl="http://localhost/000000000000/q", WaitTimeSeconds=20)
        http2.ping()
        sidecar.signal(signal.SIGTERM)
        assert http2.answer() == (200, {})
        assert sidecar.wait() == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_tls_speaks_both_versions(log: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with Sidecar("--tls-cert", cert, "--tls-key", key, log=log).ready() as sidecar:
        assert sidecar.url == f"https://127.0.0.1:{sidecar.port}"
        tls = ssl.create_default_context(cafile=str(cert))
        tls.set_alpn_protocols(["http/1.1"])
        with Client(sidecar.host, sidecar.port, tls=tls) as client:
            assert client.queue("q") == "https://localhost/000000000000/q"
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with Wire(sidecar.host, sidecar.port, tls=tls) as wire:
            http2 = Http2(wire, "https")
            http2.send("ListQueues")
            assert http2.answer() == (200, {"QueueUrls": ["https://localhost/000000000000/q"]})
        with Wire(sidecar.host, sidecar.port) as wire:  # plain HTTP where TLS is spoken
            wire.write(http_request("GET", "/_sidebus/health", {}))
            assert wire.socket.recv(65536)[:1] != b"H"
        assert sidecar.stop() == 0


# the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 128 MB."""
    with tempfile.TemporaryDirectory() as name:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", name], capture_output=True)
        if mounted.returncode:
            pytest.skip("needs a small file system of its own, and only root may mount one")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def fill(disk: Path, leave_bytes: int) -> Path:
    """A file that takes all the space but this."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave_bytes)
    return ballast


def send_until_refused(client: Client, url: str, advice: str) -> list[str]:
    """The bodies of what was acknowledged before the first refusal, which is checked."""
    sent: list[str] = []

    def send_on() -> None:
        while len(sent) < 1000:
            body = f"{len(sent):<50000}"
            client.call("SendMessage", QueueUrl=url, MessageBody=body)
            sent.append(body)

    with pytest.raises(Refused) as refusal:
        send_on()
    assert (refusal.value.status, refusal.value.name) == (503, "ServiceUnavailableException")
    assert advice in refusal.value.message
    return sent


def refuse_the_other_ways(client: Client, url: str) -> None:
    entries = [{"Id": str(n), "MessageBody": f"{n:<50000}"} for n in range(3)]
    with pytest.raises(Refused) as refusal:
        client.call("SendMessageBatch", QueueUrl=url, Entries=entries)
    assert refusal.value.status == 503
    form = b"Action=SendMessage&QueueUrl=" + url.encode() + b"&MessageBody=" + b"x" * 50_000
    client.write(http_request("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, form))
    answer = client.read()
    assert answer is not None
    assert answer.status == 503
    assert b"<ErrorResponse" in answer.body
    assert b"<Type>Receiver</Type><Code>ServiceUnavailable</Code>" in answer.body


@pytest.mark.parametrize("end", [Sidecar.kill, Sidecar.stop], ids=["kill", "stop"])
def test_a_full_disk_refuses_and_loses_nothing(small_disk: Path, log: Path, end: Callable[[Sidecar], object]) -> None:
    data = small_disk / "data"
    with Sidecar("--data", data, log=log).ready() as sidecar, sidecar.client() as client:
        url = client.queue("q")
        ballast = fill(small_disk, 2_000_000)
        sent = send_until_refused(client, url, "is full: free some space and send again.")
        refuse_the_other_ways(client, url)
        assert client.count(url) == len(sent) > 5
        assert client.get("/_sidebus/health")["status"] == "ready"

        ballast.unlink()
        client.call("SendMessage", QueueUrl=url, MessageBody="there is room again")
        assert client.take_all(url) == [*sent, "there is room again"]

        other = client.queue("other")
        ballast = fill(small_disk, 1_000_000)
        sent = send_until_refused(client, other, "is full")
        end(sidecar)
    with Sidecar("--data", data, log=log).ready() as sidecar, sidecar.client() as client:  # and it is still full
        assert client.count(other) == len(sent)
        ballast.unlink()
        assert client.take_all(other) == sent
        assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log()


def test_a_full_disk_does_not_stop_what_runs_by_itself(small_disk: Path, log: Path) -> None:
    """A move task's step is more than SQLite holds back until the commit."""
    with Sidecar("--data", small_disk / "data", log=log).ready() as sidecar, sidecar.client() as client:
        arns = {}
        for name in ("dead", "target"):
            url = client.queue(name)
            arns[name] = f"arn:aws:sqs:us-east-1:000000000000:{name}"
        client.queue("source", RedrivePolicy=json.dumps({"deadLetterTargetArn": arns["dead"], "maxReceiveCount": 1}))
        bodies = [f"{number:<200000}" for number in range(100)]
        for at in range(0, 100, 5):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[at : at + 5])]
            client.call("SendMessageBatch", QueueUrl=client.queue("dead"), Entries=entries)
        ballast = fill(small_disk, 100_000)
        client.call("StartMessageMoveTask", SourceArn=arns["dead"], DestinationArn=arns["target"])
        with contextlib.suppress(Refused):  # it may have been in one transaction with the step
            assert client.call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=1) == {}
        ballast.unlink()
        deadline_s = time.monotonic() + TIMEOUT_S
        while client.count(url) < 100:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert sorted(client.take_all(url)) == sorted(bodies)


def test_a_file_that_may_not_grow_refuses_and_loses_nothing(tmp_path: Path, log: Path) -> None:
    data = tmp_path / "data"
    with Sidecar("--data", data, log=log).ready() as sidecar, sidecar.client() as client:
        url = client.queue("q")
        size = (data / "sidebus.db-wal").stat().st_size
        before = resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (size + 1_000_000, before[1]))
        sent = send_until_refused(client, url, "check the disk and send again.")
        refuse_the_other_ways(client, url)
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, before)
        client.call("SendMessage", QueueUrl=url, MessageBody="there is room again")
        assert client.take_all(url) == [*sent, "there is room again"]
        sidecar.kill()
    with Sidecar("--data", data, log=log).ready() as sidecar, sidecar.client() as client:
        assert client.count(client.queue("q")) == len(sent) + 1


def test_a_torn_end_of_the_log(tmp_path: Path, log: Path) -> None:
    chance = random.Random(seed_of_this_run())
    bodies = [f"{number:<700}" for number in range(60)]
    with Sidecar("--data", tmp_path / "data", log=log).ready() as sidecar, sidecar.client() as client:
        url = client.queue("q")
        for body in bodies:
            client.call("SendMessage", QueueUrl=url, MessageBody=body)
        sidecar.kill()
    whole = (tmp_path / "data/sidebus.db-wal").read_bytes()
    at = len(whole) - chance.randrange(200, 4096)
    torn = {
        "cut in the last page": (whole[: len(whole) - chance.randrange(1, 4096)], len(bodies) - 1),
        # Not in the pages that made the queue: those are the first few of hundreds.
        "cut anywhere": (whole[: chance.randrange(len(whole) // 2, len(whole))], len(bodies) // 3),
        "garbled": (whole[:at] + chance.randbytes(200) + whole[at + 200 :], len(bodies) - 1),
        "junk behind": (whole + chance.randbytes(chance.randrange(1, 20_000)), len(bodies)),
    }
    for name, (wal, least) in torn.items():
        shutil.copytree(tmp_path / "data", tmp_path / name)
        (tmp_path / name / "sidebus.db-wal").write_bytes(wal)
        with Sidecar("--data", tmp_path / name, log=log).ready() as sidecar, sidecar.client() as client:
            found = client.take_all(url)
            assert found == bodies[: len(found)], name
            assert len(found) >= least, name
            client.call("SendMessage", QueueUrl=url, MessageBody="and on it goes")
            assert client.take_all(url) == ["and on it goes"]
            assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log()
