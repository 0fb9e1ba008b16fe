"""The port: accepts connections and hands each to HTTP/1.1, which hands it on if it turns out to speak HTTP/2.

The rule: with a certificate the port speaks TLS only, and ALPN chooses between the two. One timer a listener, not one
a request, ends the connections that are too slow.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Self

from protocols.http.http1 import Http1, Limits, Shared
from protocols.http.http2 import Http2
from protocols.http.message import Handler

_BACKLOG = 1024


class ListenError(OSError):
    """The port or the certificate cannot be had. Its text is one sentence for the user."""


class Listener:
    """A port that answers. Made by `start`; ended by `drain`, by `close`, or by leaving `async with`."""

    def __init__(self, shared: Shared, http2: Http2, sweep_s: float) -> None:
        self._shared = shared
        self._http2 = http2
        self._sweep_s = sweep_s
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._cuts = 0  # whose time is not over
        self.address = ("", 0)  # host and port

    @classmethod
    async def start(
        cls,
        handler: Handler,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        now_ms: Callable[[], int],
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        sweep_s: float = 1.0,
    ) -> Self:
        """Listens on every address of `host`, on a free port if `port` is 0. Raises `ListenError`.

        `now_ms` dates the answers. `tls_cert` and `tls_key` are PEM files; the key may stand in the certificate's.
        """
        limits = limits or Limits()
        tls = None if tls_cert is None else _tls_context(tls_cert, tls_key)
        http2 = Http2(handler, limits, now_ms)
        shared = Shared(handler, limits, now_ms, http2.take)
        listener = cls(shared, http2, sweep_s)
        sockets = await _bind(host, port)
        listener.address = sockets[0].getsockname()[:2]
        for bound in sockets:
            listener._servers.append(
                await listener._loop.create_server(
                    lambda: Http1(shared),
                    sock=bound,
                    ssl=tls,
                    ssl_handshake_timeout=None if tls is None else limits.head_timeout_s,
                    ssl_shutdown_timeout=None if tls is None else limits.linger_timeout_s,
                    backlog=_BACKLOG,
                )
            )
        listener._timer = listener._loop.call_later(sweep_s, listener._tick)
        return listener

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._sweep_s, self._tick)
        self.sweep(self._loop.time())

    def sweep(self, now_s: float) -> None:
        """Ends what is too slow; `now_s` is the event loop's time."""
        for connection in tuple(self._shared.connections):
            connection.sweep(now_s)

    def cut(self, down_s: float) -> None:
        """Resets every connection, which cancels what is in flight, and each new one so long: as while a process starts
        again. The port stays ours meanwhile, so a client is let in and reset where no process would refuse it."""
        self._shared.down = True
        self._loop.call_later(down_s, self._be_up)
        self._cuts += 1
        for connection in tuple(self._shared.connections):
            connection.cut()
        self._http2.cut()

    def _be_up(self) -> None:
        self._cuts -= 1
        self._shared.down = self._cuts > 0

    async def drain(self, timeout_s: float | None = None) -> None:
        """Accepts no more, lets the requests in flight finish, closes the rest; cuts off what is left in the end."""
        self._stop_accepting()
        for connection in tuple(self._shared.connections):
            connection.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self._http2.drain()
                if self._shared.connections:
                    await self._shared.empty.wait()
        except TimeoutError:
            pass
        await self.close()

    async def close(self) -> None:
        """Accepts no more and cuts every connection off; requests in flight are cancelled."""
        self._stop_accepting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._http2.close()
        for connection in tuple(self._shared.connections):
            connection.abort()
        if self._shared.connections:
            await self._shared.empty.wait()

    def _stop_accepting(self) -> None:
        self._shared.draining = True
        for server in self._servers:
            server.close()


def _tls_context(cert: str | os.PathLike[str], key: str | os.PathLike[str] | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113, 9.2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2", "http/1.1"])
    for path in (cert, key):
        if path is not None and not os.access(path, os.R_OK):
            raise ListenError(f"Cannot read {os.fspath(path)} for TLS.")
    try:
        context.load_cert_chain(cert, key, password="")  # or OpenSSL would ask on the terminal
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ListenError(f"Cannot use {os.fspath(cert)} for TLS: {reason}.") from error
    return context


async def _bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of the host, all on the same port."""
    sockets: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sockets.append(_listen(socket.socket(family, kind, protocol), (address[0], port, *address[2:])))
            except OSError as error:
                # `localhost` has an IPv6 address also where the machine has no IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or address == found[-1][4]:
                    raise
            else:
                port = sockets[-1].getsockname()[1]
    except (OSError, UnicodeError) as error:  # of a host whose name is none
        for bound in sockets:
            bound.close()
        reason = str(error)
        if isinstance(error, OSError):
            reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or reason
        raise ListenError(f"Cannot listen on {host}, port {port}: {reason}.") from error
    return sockets


def _listen(bound: socket.socket, address: tuple[object, ...]) -> socket.socket:
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
