"""A `sidebus serve` of its own for a test: the real command, spoken to over loopback, gone when the test ends.

The rule: whoever starts one does it with `with`, so that nothing outlives its test, however that ends. Each writes
its log to a file, lest a full pipe stops it.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

COMMAND = Path(sys.executable).with_name("sidebus")
START_S = 30.0  # a machine that is busy with other things
END_S = 30.0
TIMEOUT_S = 30.0  # of any answer; longer than a long poll

COUNTS = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
]


def seed_of_this_run() -> int:
    """From SIM_SEED, else a new one; printed, so that a failure shows it."""
    seed = int(os.environ.get("SIM_SEED") or random.randrange(1 << 32))
    print(f"SIM_SEED={seed}")
    return seed


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of Sidebus, and with `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIDEBUS_")} | dict(more or {})


def _die_with_us() -> None:
    """Between fork and exec: whatever happens to the tests, the kernel ends the child with them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Sidecar:
    """A running `sidebus serve` on a free port."""

    def __init__(self, *options: str | Path, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log_path = log
        port = [] if "--port" in options or (env and "SIDEBUS_PORT" in env) else ["--port", "0"]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [COMMAND, "serve", *port, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment(env),
                preexec_fn=_die_with_us,
            )
        self.said = b""  # on stdout
        self.url = ""
        self.host = ""
        self.port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ready(self) -> Self:
        """Waits for the line with the address."""
        assert self.process.stdout is not None
        deadline_s = time.monotonic() + START_S
        while b"\n" not in self.said:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 4096) if readable else b""
            if not piece:
                why = "it ended" if readable else f"not within {START_S:g} s"
                raise AssertionError(f"The sidecar did not get ready ({why}). Its log:\n{self.log()}")
            self.said += piece
        self.url = self.said.decode().split()[-1]
        self.host, _, port = self.url.partition("://")[2].rpartition(":")
        self.port = int(port)
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code. What it still said goes to `said`."""
        code = self.process.wait(END_S)
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.said += self.process.stdout.read()
            self.process.stdout.close()
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """kill -9; nothing if it has ended."""
        self.process.kill()
        self.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def client(self) -> Client:
        return Client(self.host, self.port)


class Refused(Exception):
    """An answer that is not a 200, with AWS's error name."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(status, name, message)
        self.status = status
        self.name = name
        self.message = message


class Answer(NamedTuple):
    """One HTTP response. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection and nothing done for its user: bytes out, answers in."""

    def __init__(self, host: str, port: int, timeout_s: float = TIMEOUT_S, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, method: str = "POST") -> Answer | None:
        """The next answer, or None where the server has closed. Raises TimeoutError, ConnectionError."""
        line = self._file.readline()
        if not line:
            return None
        version, _, rest = line.partition(b" ")
        assert version == b"HTTP/1.1", line
        assert rest[:3].isdigit(), line
        headers = {}
        while (field := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        assert field, "The connection ended within the head of an answer."
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        body = self._file.read(length)
        assert len(body) == length, "The connection ended within the body of an answer."
        return Answer(int(rest[:3]), headers, body)


def http_request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A well-formed HTTP/1.1 request."""
    fields = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def json_request(operation: str, members: Mapping[str, Any]) -> bytes:
    """A call of SQS in its JSON protocol."""
    headers = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    return http_request("POST", "/", headers, orjson.dumps(members))


class Client(Wire):
    """SQS in JSON over one connection that is kept."""

    def send(self, operation: str, **members: Any) -> None:
        """Sends a request; `answer` reads what comes back."""
        self.write(json_request(operation, members))

    def answer(self) -> dict[str, Any]:
        answer = self.read()
        if answer is None:
            raise ConnectionError("The server closed the connection instead of answering.")
        document: dict[str, Any] = orjson.loads(answer.body) if answer.body else {}
        if answer.status != 200:
            name = str(document.get("__type", "")).rpartition("#")[2]
            raise Refused(answer.status, name, document.get("message") or document.get("Message") or "")
        return document

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        self.send(operation, **members)
        return self.answer()

    def begin_to_wait(self, url: str) -> None:
        """Sends a long poll of 20 s, and returns when the server has begun with it: `answer` reads its end."""
        wait = json_request("ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": 20})
        self.write(json_request("ListQueues", {}) + wait)  # both come in one read
        self.answer()

    def get(self, target: str) -> dict[str, Any]:
        self.write(http_request("GET", target, {}))
        return self.answer()

    def queue(self, name: str, **attributes: str) -> str:
        """The URL of a queue that is made for it."""
        url = self.call("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        assert isinstance(url, str)
        return url

    def take_all(self, url: str) -> list[str]:
        """The bodies of everything that can be received now, in order; it stays in flight."""
        taken: list[str] = []
        while found := self.call("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get(
            "Messages"
        ):
            taken += [message["Body"] for message in found]
        return taken

    def count(self, url: str) -> int:
        """Messages in a queue, whatever their state."""
        counts = self.call("GetQueueAttributes", QueueUrl=url, AttributeNames=COUNTS)["Attributes"]
        return sum(map(int, counts.values()))
