"""A real `sidebus serve` for the tests that need one, and boto3 clients of it.

One process serves them all: every test is an account of its own, and accounts are separate worlds. A test that needs
another process (a data directory, limits, authentication, TLS) starts one with `start_sidebus`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import ssl
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

REGION = "us-east-1"
collect_ignore = ["sample_project"]  # a project of its own: tests/plugin runs it


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a process to start, or for a kill."""
    return (os.cpu_count() or 1) + 1


START_S = STOP_S = 20


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Sidebus:
    """A running process: its address, and raw requests to it."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        command = Path(sysconfig.get_path("scripts"), "sidebus")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIDEBUS_")}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [command, "serve", "--port", "0", *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**inherited, **environment},
                text=True,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first.startswith("sidebus is ready on "):
            self.stop()
            raise RuntimeError(f"sidebus did not start: {first}{log.read_text()}")
        self.url = first.split()[-1]
        self.host = urlsplit(self.url).netloc

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends the process and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        with self.process:  # closes the pipe
            return self.process.wait(STOP_S)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """One request on a connection of its own, as it is: nothing is added but Host and Content-Length."""
        if tls is None:
            connection = http.client.HTTPConnection(self.host, timeout=START_S)
        else:
            connection = http.client.HTTPSConnection(self.host, timeout=START_S, context=tls)
        with contextlib.closing(connection):
            content = body.encode() if isinstance(body, str) else body
            connection.request(method, target, content or None, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())


StartSidebus = Callable[..., Sidebus]
Connect = Callable[..., Any]


@pytest.fixture(scope="session")
def start_sidebus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSidebus]:
    """Starts a process with these arguments (and SIDEBUS_… by keyword); it ends with the tests at the latest."""
    logs = tmp_path_factory.mktemp("sidebus")
    with contextlib.ExitStack() as running:

        def start(*arguments: str | Path, **environment: str) -> Sidebus:
            number = len(list(logs.iterdir()))
            sidebus = Sidebus(tuple(map(str, arguments)), environment, logs / f"{number}.log")
            running.callback(sidebus.stop)
            return sidebus

        yield start


@pytest.fixture(scope="session")
def sidebus(start_sidebus: StartSidebus) -> Sidebus:
    """The process that all tests share: in memory, relaxed, open to all."""
    return start_sidebus()


@pytest.fixture(scope="session")
def sidebus_aws(start_sidebus: StartSidebus) -> Sidebus:
    """The same with AWS's quotas and waiting times."""
    return start_sidebus("--limits", "aws")


@pytest.fixture(scope="session")
def boto_session() -> Iterator[boto3.Session]:
    """Nothing of the machine's own AWS configuration, and no proxy between us and ourselves."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("AWS_"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost," + os.environ.get("NO_PROXY", ""))
        yield boto3.Session()


@pytest.fixture
def account() -> str:
    """An account that nobody else uses."""
    return str(random.randrange(10**11, 10**12))


@pytest.fixture
def connect(boto_session: boto3.Session, account: str) -> Iterator[Connect]:
    """Makes a boto3 client: `connect(sidebus)`, with `service`, `account`, `secret`, `region`, or Config's options."""
    own_account = account
    with contextlib.ExitStack() as clients:

        def make(
            to: Sidebus,
            service: str = "sqs",
            *,
            account: str = own_account,
            secret: str = "any",
            region: str = REGION,
            **config: Any,
        ) -> Any:
            client = boto_session.client(
                service,
                endpoint_url=to.url,
                region_name=region,
                aws_access_key_id=account,
                aws_secret_access_key=secret,
                config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
            )
            clients.callback(client.close)
            return client

        yield make


@pytest.fixture
def sqs(sidebus: Sidebus, connect: Connect) -> Any:
    """A boto3 client of SQS in an account of its own."""
    return connect(sidebus)
