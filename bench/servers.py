"""The servers that are compared, and what a run does to one: start on one core, pause, measure, stop.

Each runs in a session of its own, so that its whole process tree is measured and ended together. While another server
is measured it is stopped with SIGSTOP: its background work disturbs nobody. All of them listen on 127.0.0.1 only and
log nothing, and each is as its own documentation says, without tuning.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import install
from bench.wire import Json, Query, Refused, Wire

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
# Should this process be killed, the servers (which may be paused) go with it, where util-linux is there to say so.
_DIE_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


@dataclass(frozen=True)
class Server:
    """One way to run one program."""

    name: str
    about: str
    command: Callable[[int, Path, int], list[str]]  # (port, data directory, body size)
    environment: Callable[[int], dict[str, str]] = lambda port: {}
    peer: str = ""  # what bench.install has to fetch first
    keeps_messages: bool = True  # False: what is left in the queue cannot be checked


def _sidebus(*options: str) -> Callable[[int, Path, int], list[str]]:
    def command(port: int, data: Path, size: int) -> list[str]:
        where = ["--data", str(data)] if options else []
        base = [sys.executable, "-m", "protocols.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
        return [*base, *where, *options]

    return command


def _constant(on: str) -> Callable[[int, Path, int], list[str]]:
    def command(port: int, data: Path, size: int) -> list[str]:
        return [sys.executable, "-m", "bench.constant", "--on", on, "--port", str(port), "--size", str(size)]

    return command


def _fauxqs(port: int, data: Path, size: int) -> list[str]:
    modules = install.folder("fauxqs") / "node_modules"
    return ["node", str(ROOT / "bench/fauxqs.mjs"), str(modules), str(port)]


def _ministack(port: int, data: Path, size: int) -> list[str]:
    return [str(install.folder("ministack") / "bin/python"), str(ROOT / "bench/loopback.py"), "ministack"]


def _moto(port: int, data: Path, size: int) -> list[str]:
    return [str(install.folder("moto") / "bin/moto_server"), "-H", "127.0.0.1", "-p", str(port)]


def _elasticmq(port: int, data: Path, size: int) -> list[str]:
    settings = {
        "rest-sqs.bind-hostname": "127.0.0.1",
        "rest-sqs.bind-port": port,
        "rest-stats.enabled": "false",
        "node-address.host": "127.0.0.1",
        "node-address.port": port,
    }
    jars = f"{install.folder('elasticmq')}/lib/*"
    return ["java", *(f"-D{k}={v}" for k, v in settings.items()), "-cp", jars, "org.elasticmq.server.Main"]


def _node(peer: str, script: str, *arguments: str) -> list[str]:
    modules = install.folder(peer) / "node_modules"
    return ["node", "--require", str(ROOT / "bench/loopback.cjs"), str(modules / script), *arguments]


def _kinesis_local(port: int, data: Path, size: int) -> list[str]:
    return _node("kinesis-local", "kinesis-local/main.js")


def _kinesis_local_settings(port: int) -> dict[str, str]:
    certificate = install.folder("kinesis-local") / "node_modules/kinesis-local/server.json"
    return {
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": "0",
        "KINESIS_MOCK_CERT_PATH": str(certificate),
        "LOG_LEVEL": "ERROR",
    }


def _kinesalite(port: int, data: Path, size: int) -> list[str]:
    return _node("kinesalite", ".bin/kinesalite", "--port", str(port))


SERVERS = {
    server.name: server
    for server in (
        Server("sidebus", "Sidebus, in memory", _sidebus()),
        Server("sidebus-normal", "Sidebus, --data --sync normal", _sidebus("--sync", "normal")),
        Server("sidebus-full", "Sidebus, --data --sync full", _sidebus("--sync", "full")),
        Server("constant", "Sidebus's listener, constant", _constant("listener"), keeps_messages=False),
        Server("sockets", "bare sockets, constant", _constant("sockets"), keeps_messages=False),
        Server("fauxqs", "fauxqs (npm)", _fauxqs, peer="fauxqs"),
        Server("elasticmq", "ElasticMQ (Maven)", _elasticmq, peer="elasticmq"),
        Server(
            "ministack",
            "MiniStack (PyPI)",
            _ministack,
            lambda port: {"GATEWAY_PORT": str(port), "LOG_LEVEL": "ERROR"},
            "ministack",
        ),
        Server("moto", "moto's server (PyPI)", _moto, peer="moto"),
        Server("kinesis-local", "kinesis-local (npm)", _kinesis_local, _kinesis_local_settings, "kinesis-local"),
        Server("kinesalite", "kinesalite (npm)", _kinesalite, peer="kinesalite"),
    )
}


class DidNotStart(Exception):
    """The server ended or did not answer; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Cores:
    """Which core the server has and which the load, or None where the platform cannot say."""

    server: int | None
    load: int | None

    @staticmethod
    def choose(wanted: tuple[int, int] | None = None) -> Cores:
        if not hasattr(os, "sched_setaffinity"):
            return Cores(None, None)
        if wanted:
            return Cores(*wanted)
        mine = sorted(os.sched_getaffinity(0))
        return Cores(mine[-1], mine[0]) if len(mine) > 1 else Cores(None, None)

    def pin_load(self) -> None:
        if self.load is not None:
            os.sched_setaffinity(0, {self.load})

    @contextlib.contextmanager
    def spawning_server(self) -> Iterator[None]:
        """A child inherits the affinity of the thread that forks it: no code runs between fork and exec."""
        if self.server is None:
            yield
            return
        os.sched_setaffinity(0, {self.server})
        try:
            yield
        finally:
            self.pin_load()


@dataclass
class Running:
    """One started server. Use as a context manager: leaving it ends the whole session and removes the data."""

    server: Server
    cores: Cores
    size: int
    data_root: Path
    speaks: type[Wire] = Json
    wire: Wire = field(init=False)
    start_s: float = field(init=False, default=0.0)
    _queues: int = field(init=False, default=0)

    def __enter__(self) -> Running:
        self.port = _free_port()
        self.data = Path(tempfile.mkdtemp(prefix=f"{self.server.name}-", dir=self.data_root))
        self.log = open(self.data / "output.log", "wb")
        environment = os.environ | self.server.environment(self.port)
        command = [*_DIE_WITH_US, *self.server.command(self.port, self.data / "store", self.size)]
        started = time.perf_counter()
        try:
            with self.cores.spawning_server():
                self.process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=self.log,
                    stderr=self.log,
                    start_new_session=True,
                )
        except OSError as error:
            self._clear()
            raise DidNotStart(f"{command[0]}: {error.strerror}") from None
        try:
            self._wait_for_answer(started)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_for_answer(self, started: float) -> None:
        self.wire = self.speaks(self.port, self.size)
        refused = 0
        while True:
            try:
                self.wire.ping()
                break
            except Refused as error:
                refused += 1
                if refused == 3:
                    if type(self.wire) is not Json:
                        raise DidNotStart(str(error)) from None
                    self.wire = Query(self.port, self.size)  # it does not speak JSON
                    refused = 0
            except (OSError, http.client.HTTPException):
                pass
            if self.process.poll() is not None:
                raise DidNotStart(f"ended with code {self.process.returncode}: {self._last_words()}")
            if time.perf_counter() - started > START_TIMEOUT_S:
                raise DidNotStart(f"no answer in {START_TIMEOUT_S:.0f} s: {self._last_words()}")
            time.sleep(0.001)
        self.start_s = time.perf_counter() - started

    def _last_words(self) -> str:
        self.log.flush()
        lines = (self.data / "output.log").read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["it printed nothing"])[-1].strip()[:200]

    def stop(self) -> None:
        """SIGTERM to the session, SIGKILL to what is left of it, and the data removed."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self._clear()

    def _clear(self) -> None:
        self.log.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def new_queue(self) -> None:
        """A fresh queue for `wire`, with a visibility timeout longer than any round."""
        self._queues += 1
        self.wire.use_queue(self.wire.create_queue(f"bench-{self._queues}", {"VisibilityTimeout": "3600"}))

    def settle(self, limit_s: float = 3.0) -> None:
        """Wait until the server has nothing left to do, or the limit."""
        until = time.perf_counter() + limit_s
        before = self.cpu_s()
        while time.perf_counter() < until:
            time.sleep(0.1)
            now = self.cpu_s()
            if now - before <= 0.01:
                return
            before = now

    def cpu_s(self) -> float:
        """Processor time used by the whole session so far, in seconds (in steps of 10 ms)."""
        ticks = 0
        for pid in self._pids():
            with contextlib.suppress(OSError, IndexError):
                fields = _stat(pid)
                ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def memory(self) -> dict[str, int]:
        """Resident and proportional set size of the whole session, in bytes."""
        total = {"rss": 0, "pss": 0}
        for pid in self._pids():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    key, _, rest = line.partition(":")
                    if key.lower() in total:
                        total[key.lower()] += int(rest.split()[0]) * 1024
        return total

    def _pids(self) -> list[int]:
        session = str(self.process.pid)
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    if _stat(int(name))[3] == session:
                        found.append(int(name))
        return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name: [3] is the session, [11] and [12] its ticks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
