"""What clients do, as scripts for the load generator: one generator for each connection.

Steady means that the queue is as long at the end of a round as at its start: each connection sends ten before it
receives ten, so a receive always finds ten. Connections start their cycles at different points, so that they do not
march in step.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.load import Script
from bench.wire import Wire

Workload = Callable[[Wire, int], list[Script]]
"""(wire, connections) -> a script for each."""


def mixed(wire: Wire, connections: int) -> list[Script]:
    def script(head_start: int) -> Script:
        sends = 10 + head_start
        while True:
            for _ in range(sends):
                yield wire.send
            sends = 10
            handles = yield wire.receive
            for handle in handles:
                yield wire.delete(handle)

    return [script(i % 11) for i in range(connections)]


def batch(wire: Wire, connections: int) -> list[Script]:
    def script(head_start: int) -> Script:
        for _ in range(head_start):
            yield wire.send_ten
        while True:
            yield wire.send_ten
            handles = yield wire.receive
            if handles:
                yield wire.delete_all(handles)

    return [script(i % 3) for i in range(connections)]


def send(wire: Wire, connections: int) -> list[Script]:
    def script() -> Script:
        while True:
            yield wire.send

    return [script() for _ in range(connections)]


def drain(wire: Wire, connections: int) -> list[Script]:
    """Receive and delete what was put there before; a connection ends when it finds nothing three times."""

    def script() -> Script:
        empty = 0
        while empty < 3:
            handles = yield wire.receive
            empty = 0 if handles else empty + 1
            for handle in handles:
                yield wire.delete(handle)

    return [script() for _ in range(connections)]


def fill(wire: Wire, connections: int, messages: int) -> list[Script]:
    """Put this many messages (in tens) into the queue, through SendMessageBatch."""
    left = iter(range(messages // 10))

    def script() -> Script:
        for _ in left:
            yield wire.send_ten

    return [script() for _ in range(connections)]


STEADY: dict[str, tuple[str, Workload, int]] = {
    "mixed": ("send ×10, receive ten, delete ×10", mixed, 21),
    "batch": ("send a batch of ten, receive ten, delete the batch", batch, 3),
    "send": ("send only", send, 1),
    "drain": ("receive ten, delete ×10, from a filled queue", drain, 11),
}
"""Name -> what it does, its scripts, the requests of one cycle."""
