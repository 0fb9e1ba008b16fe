"""What an operation's function is given, and how it says that its answer comes later, or never ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from broker.core import Broker
from broker.errors import DomainError, Throttled
from broker.names import World, partition_of
from protocols.http.message import Cancel, Request
from protocols.routing import Route

Result = dict[str, Any]


class Call(NamedTuple):
    """One request, understood. `parameters` is the operation's validated input under the model's names."""

    broker: Broker
    world: World  # the caller's account, in the region asked
    user_id: str  # the caller's unique id, as `aws:userid` has it
    enforce_policies: bool
    parameters: Result
    request: Request
    route: Route


class Later(NamedTuple):
    """An answer that is not there yet. `start` is given what takes it, and returns what gives up on it."""

    start: Callable[[Callable[[Result], None]], Cancel]


class EventSink(Protocol):
    """Takes the events of a stream, in the event loop's thread. What is given goes out with the commit of what it
    saw. After `end`, `fail`, or the client's leaving, every call does nothing."""

    def send(self, event_name: str, payload: Result) -> bool:
        """Takes an event of the operation's event stream, its payload as an operation's output is. False: the client
        is slow, or gone; pause until `on_ready` is called."""
        ...

    @property
    def content_type(self) -> str:
        """Of the payloads. Sinks that share it encode alike."""
        ...

    def encode(self, event_name: str, payload: Result) -> bytes:
        """An event for `send_encoded`, of this sink and others of its content type."""
        ...

    def send_encoded(self, message: bytes) -> bool:
        """As `send`."""
        ...

    def on_ready(self, ready: Callable[[], None]) -> None:
        """Has `ready` called whenever the client has caught up after a False."""
        ...

    def end(self) -> None:
        """No more events will come."""
        ...

    def fail(self, error: DomainError) -> None:
        """No more events will come, and the client is told why."""
        ...


class Streaming(NamedTuple):
    """An answer that is a stream of events. `start` is called at once, and may send at once; it returns what gives
    up on it, called when the client leaves or the server drains before `end` or `fail`. To refuse, raise before."""

    start: Callable[[EventSink], Cancel]


Operation = Callable[[Call], Result | Later | Streaming]


def user_arn(world: World) -> str:
    """Who a caller is to AWS: a sidecar has no users, so each account has one."""
    return f"arn:{partition_of(world.region)}:iam::{world.account}:user/sidebus"


def error_code(error: DomainError) -> str:
    """What a refusal is called on the wire."""
    return "RequestThrottled" if isinstance(error, Throttled) else type(error).__name__
