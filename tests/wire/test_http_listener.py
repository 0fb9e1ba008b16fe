"""The port on real sockets: both event loops, plain and TLS, many clients, clients that leave, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocols.http.http1 import Limits
from protocols.http.listener import Listener, ListenError
from protocols.http.message import Cancel, Reply, Request, Response

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {cert}"
        " -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


class Desk:
    """Answers at once, or, below /later, when `reply` is called."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()
        self.cancelled: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, request: Request, reply: Reply) -> Cancel | None:
        self.requests.append(request)
        if request.target.startswith(b"/later"):
            self.replies.put_nowait(reply)
            return lambda: self.cancelled.put_nowait(request.target)
        if request.target.startswith(b"/soon"):
            asyncio.get_running_loop().call_soon(reply, Response(200, [], b"soon"))
            return None
        reply(Response(200, [], b"%d" % len(request.body)))
        return None


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, target: bytes = b"/", body: bytes = b"", more: bytes = b"") -> None:
        self.writer.write(
            b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s" % (target, len(body), more, body)
        )

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        body = await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        return int(status_line.split()[1]), fields, body

    async def ask(self, target: bytes = b"/", body: bytes = b"") -> bytes:
        self.send(target, body)
        status, _, answer = await self.answer()
        assert status == 200
        return answer


@contextlib.asynccontextmanager
async def connect(listener: Listener, **options: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*listener.address, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def listening(desk: Desk, **options: Any) -> AsyncIterator[Listener]:
    async with asyncio.timeout(20), await Listener.start(desk, now_ms=lambda: 0, **options) as listener:
        yield listener


async def test_a_request_and_its_answer() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        assert listener.address[0] == "127.0.0.1"
        assert await client.ask(b"/a?b", b"body") == b"4"
        assert await client.ask(b"/soon") == b"soon"
        assert [(r.target, r.scheme, r.peer) for r in desk.requests] == [
            (b"/a?b", "http", "127.0.0.1"),
            (b"/soon", "http", "127.0.0.1"),
        ]


async def test_bytes_one_by_one() -> None:
    async with listening(Desk()) as listener, connect(listener) as client:
        for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n":
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer())[2] == b"2"


async def test_many_clients_with_polls_pending() -> None:
    desk = Desk()
    async with listening(desk) as listener:
        clients = []
        for _ in range(300):
            reader, writer = await asyncio.open_connection(*listener.address)
            clients.append(Client(reader, writer))
            clients[-1].send(b"/later")
        for _ in clients:
            (await desk.replies.get())(Response(200, [], b"x"))
        for client in clients:
            assert (await client.answer())[2] == b"x"
        for client in clients:
            client.writer.close()


async def test_a_body_as_large_as_allowed() -> None:
    async with listening(Desk()) as listener, connect(listener) as client:
        size = 16 * 1024 * 1024
        assert await client.ask(b"/", b"x" * size) == b"%d" % size


async def test_a_client_that_sends_on_reads_its_refusal() -> None:
    async with listening(Desk(), limits=Limits(max_body_bytes=100)) as listener, connect(listener) as client:
        client.send(b"/", b"x" * 8_000_000)
        await client.writer.drain()
        status, fields, _ = await client.answer()
        assert (status, fields[b"connection"]) == (413, b"close")
        assert await client.reader.read() == b""


async def test_an_answer_larger_than_the_buffers_is_read_slowly() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener, limit=1000) as client:
        client.send(b"/later", more=b"Connection: close\r\n")
        body = bytes(range(256)) * 40_000
        (await desk.replies.get())(Response(200, [], body))
        assert (await client.answer())[2] == body
        assert await client.reader.read() == b""


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_leaves_is_cancelled(how: str) -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.send(b"/later")
        reply = await desk.replies.get()
        if how == "close":
            client.writer.close()
        elif how == "half":
            client.writer.write_eof()
        else:
            linger_not = b"\1\0\0\0\0\0\0\0"
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
            client.writer.transport.abort()
        assert await desk.cancelled.get() == b"/later"
        reply(Response(200, [], b"too late"))
        if how == "half":
            assert await client.reader.read() == b""
        assert desk.cancelled.empty()


async def test_nagle_is_off() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.send(b"/later")
        await desk.replies.get()
        (connection,) = listener._shared.connections
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("begin", "status"),
    [(b"", None), (b"GET / HTTP/1.1\r\n", 408), (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx", 408)],
)
async def test_the_slow_are_swept_away(begin: bytes, status: int | None) -> None:
    limits = Limits(head_timeout_s=0.02, body_timeout_s=0.02, idle_timeout_s=0.02, linger_timeout_s=0.02)
    async with listening(Desk(), limits=limits, sweep_s=0.01) as listener, connect(listener) as client:
        client.writer.write(begin)
        if status:
            assert (await client.answer())[0] == status
        assert await client.reader.read() == b""


# The end.


async def test_drain_waits_for_what_is_in_flight() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as idle, connect(listener) as busy:
        await idle.ask()
        busy.send(b"/later")
        reply = await desk.replies.get()
        draining = asyncio.create_task(listener.drain())
        assert await idle.reader.read() == b""
        with pytest.raises(OSError, match=r"(?i)connect"):
            await asyncio.open_connection(*listener.address)
        assert not draining.done()
        reply(Response(200, [], b"done"))
        _, fields, body = await busy.answer()
        assert (fields[b"connection"], body) == (b"close", b"done")
        await draining
        assert desk.cancelled.empty()


async def test_drain_ends_in_time() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.send(b"/later")
        await desk.replies.get()
        await listener.drain(timeout_s=0.01)
        assert desk.cancelled.get_nowait() == b"/later"
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.answer()


async def test_close_cancels() -> None:
    desk = Desk()
    async with listening(desk) as listener, connect(listener) as client:
        client.send(b"/later")
        await desk.replies.get()
        await listener.close()
        assert desk.cancelled.get_nowait() == b"/later"
        await listener.close()
        await listener.drain()


# Binding.


async def test_a_port_that_is_taken() -> None:
    async with listening(Desk()) as listener:
        host, port = listener.address
        with pytest.raises(ListenError) as caught:
            await Listener.start(Desk(), host, port, now_ms=lambda: 0)
        assert str(caught.value) == f"Cannot listen on {host}, port {port}: it is in use."
        assert isinstance(caught.value, OSError)


async def test_a_port_is_free_again_at_once() -> None:
    async with listening(Desk()) as first:
        async with connect(first) as client:
            await client.ask()
        await first.close()
        async with listening(Desk(), port=first.address[1]) as second, connect(second) as client:
            assert second.address == first.address
            await client.ask()


async def test_a_host_that_does_not_exist() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(ListenError, match=rf"^Cannot listen on {host}, port 0: .*\.$"):
            await Listener.start(Desk(), host, now_ms=lambda: 0)


async def test_every_address_of_a_host_has_the_same_port() -> None:
    addresses = {str(found[4][0]) for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    async with listening(Desk(), host="localhost") as listener:
        for address in addresses:
            try:
                reader, writer = await asyncio.open_connection(address, listener.address[1])
            except OSError:
                assert address == "::1", "a machine may have no IPv6"
                continue
            client = Client(reader, writer)
            await client.ask()
            writer.close()


# TLS.


def trusting(certificate: tuple[Path, Path], *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate[0])
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
async def test_http1_over_tls(certificate: tuple[Path, Path], alpn: tuple[str, ...]) -> None:
    desk = Desk()
    cert, key = certificate
    async with (
        listening(desk, tls_cert=cert, tls_key=key) as listener,
        connect(listener, ssl=trusting(certificate, *alpn)) as client,
    ):
        assert await client.ask(b"/", b"x" * 100_000) == b"100000"
        client.send(b"/", more=b"Connection: close\r\n")
        assert (await client.answer())[1][b"connection"] == b"close"
        assert await client.reader.read() == b""
        assert desk.requests[0].scheme == "https"


async def test_a_refusal_over_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    limits = Limits(max_body_bytes=10, linger_timeout_s=0.02)
    async with (
        listening(Desk(), tls_cert=cert, tls_key=key, limits=limits, sweep_s=0.01) as listener,
        connect(listener, ssl=trusting(certificate)) as client,
    ):
        client.send(b"/", b"x" * 1000)
        assert (await client.answer())[0] == 413
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert await client.reader.read() == b""


async def test_a_client_that_leaves_over_tls_is_cancelled(certificate: tuple[Path, Path]) -> None:
    desk = Desk()
    cert, key = certificate
    async with listening(desk, tls_cert=cert, tls_key=key) as listener:
        async with connect(listener, ssl=trusting(certificate)) as client:
            client.send(b"/later")
            await desk.replies.get()
        assert await desk.cancelled.get() == b"/later"


def test_bad_certificates(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    missing, junk, other, locked = (tmp_path / name for name in ("missing", "junk", "other", "locked"))
    junk.write_text("junk")
    subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "rsa", "-in", other, "-aes256", "-passout", "pass:x", "-out", locked],
        check=True,
        capture_output=True,
    )

    def message(*pair: Path | None) -> str:
        with pytest.raises(ListenError) as caught:
            asyncio.run(Listener.start(Desk(), now_ms=lambda: 0, tls_cert=pair[0], tls_key=pair[1]))
        return str(caught.value)

    assert message(missing, key) == f"Cannot read {missing} for TLS."
    assert message(cert, missing) == f"Cannot read {missing} for TLS."
    for pair in ((junk, key), (cert, junk), (cert, other), (cert, locked), (cert, None)):
        text = message(*pair)
        assert text.startswith(f"Cannot use {pair[0]} for TLS: ")
        assert text.endswith(".")
        assert "\n" not in text


async def test_key_and_certificate_in_one_file(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(path.read_bytes() for path in certificate))
    async with (
        listening(Desk(), tls_cert=both) as listener,
        connect(listener, ssl=trusting(certificate)) as client,
    ):
        await client.ask()


async def test_plain_http_at_a_tls_port_hurts_nobody(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    async with listening(Desk(), tls_cert=cert, tls_key=key) as listener:
        async with connect(listener) as client:
            client.send()
            await client.reader.read()
        async with connect(listener, ssl=trusting(certificate)) as client:
            await client.ask()
