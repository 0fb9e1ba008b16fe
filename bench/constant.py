"""Servers that answer a constant: what a listener costs when nothing stands behind it.

`python -m bench.constant --port N --size BYTES --on listener|sockets`. `listener` is Sidebus's own HTTP/1.1 listener:
the ratio to it says what Sidebus's messaging costs. `sockets` is a bare epoll loop that does not even parse: the
ratio to it says what the load generator can drive. The answers have the bytes and the size of real ones, so that the
load generator's checks pass; only the count of what is left in the queue cannot be checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import socket
import time

import uvloop

from bench.wire import Json
from protocols.http.listener import Listener
from protocols.http.message import Reply, Request, Response

TARGET = b"AmazonSQS."


def answers(port: int, size: int) -> dict[bytes, bytes]:
    """Action -> the body of its answer, ten messages to a batch."""
    wire = Json(port, size)
    md5 = wire.md5.decode()
    message_id = "5fea7756-0ea4-451a-a703-a558b933e274"
    entry = {"MessageId": message_id, "MD5OfMessageBody": md5}
    message = {
        "MessageId": message_id,
        "ReceiptHandle": "AQEB" + "w" * 60,
        "MD5OfBody": md5,
        "Body": wire.body,
    }
    ids = [str(i) for i in range(10)]
    bodies: dict[str, object] = {
        "CreateQueue": {"QueueUrl": f"http://127.0.0.1:{port}/000000000000/constant"},
        "ListQueues": {"QueueUrls": []},
        "GetQueueAttributes": {"Attributes": {"ApproximateNumberOfMessages": "0"}},
        "SendMessage": entry,
        "SendMessageBatch": {"Successful": [{"Id": i, **entry} for i in ids]},
        "ReceiveMessage": {"Messages": [message] * 10},
        "DeleteMessage": None,
        "DeleteMessageBatch": {"Successful": [{"Id": i} for i in ids]},
        "DeleteQueue": None,
    }
    return {
        action.encode(): b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        for action, body in bodies.items()
    }


def serve_sockets(port: int, size: int) -> None:
    """One request for each readable event, found by its target header; a body larger than one read is read on."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n"
    ready = {action: head % len(body) + body for action, body in answers(port, size).items()}
    server = socket.create_server(("127.0.0.1", port), backlog=1024)
    poller = select.epoll()
    poller.register(server.fileno(), select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    buffer = bytearray(1 << 20)
    while True:
        for fd, _ in poller.poll():
            if fd == server.fileno():
                client, _ = server.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poller.register(client.fileno(), select.EPOLLIN)
                continue
            client = clients[fd]
            try:
                count = client.recv_into(buffer)
            except OSError:
                count = 0
            if not count:
                poller.unregister(fd)
                clients.pop(fd).close()
                continue
            at = buffer.find(TARGET, 0, count) + len(TARGET)
            if at < len(TARGET):
                continue  # the rest of a large body: its header was answered
            client.sendall(ready[bytes(buffer[at : buffer.find(b"\r", at)])])


def serve_listener(port: int, size: int) -> None:
    headers = [(b"content-type", b"application/x-amz-json-1.0")]
    ready = {(TARGET + action).decode(): Response(200, headers, body) for action, body in answers(port, size).items()}

    def answer(request: Request, reply: Reply) -> None:
        reply(ready[request.header(b"x-amz-target") or ""])

    async def serve() -> None:
        async with await Listener.start(answer, port=port, now_ms=lambda: time.time_ns() // 1_000_000):
            await asyncio.Event().wait()

    uvloop.run(serve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--on", choices=("listener", "sockets"), default="listener")
    options = parser.parse_args()
    serve = serve_sockets if options.on == "sockets" else serve_listener
    serve(options.port, options.size)


if __name__ == "__main__":
    main()
