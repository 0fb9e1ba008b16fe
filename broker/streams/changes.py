"""CREATING, UPDATING, DELETING of what stands on a stream: queues and channels. As `lifecycle.py` does for streams.

A change is written down when it is asked for and takes effect at the end of its time; where the limits give it no
time, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from broker.clock import Timer
from broker.errors import ExpiredNextTokenException, InvalidArgumentException
from broker.limits import STREAM_TOKEN_MS
from broker.names import World
from broker.streams import tokens
from broker.streams.registry import Registry, Resource
from broker.streams.stream import Stream

StreamFilter = Iterable[tuple[str, int | None]]
"""ARNs of streams, each with the time of its creation where one of several of that name is meant."""


class Changing(Resource, Protocol):
    status: str
    until_ms: int | None
    timer: Timer | None


C = TypeVar("C", bound=Changing)


class Changes(Generic[C]):
    """`finish` is called with what has reached the end of its time, its status still telling of which."""

    def __init__(
        self, registry: Registry, takes_ms: int, find: Callable[[str], C | None], finish: Callable[[C], None]
    ) -> None:
        self._registry = registry
        self._takes_ms = takes_ms
        self._find = find
        self._finish = finish

    def begin(self, resource: C, status: str) -> None:
        resource.status = status
        resource.until_ms = self._registry.clock.now_ms() + self._takes_ms
        if self._takes_ms == 0:
            self._finish(resource)
        else:
            self._registry.put(resource)
            self.resume([resource])

    def resume(self, resources: Iterable[C]) -> None:
        """Makes the appointments of what was read from the store."""
        for resource in resources:
            if resource.timer is not None:
                resource.timer.cancel()
            if resource.until_ms is not None:
                resource.timer = self._registry.call_at(resource.until_ms, self._when_due, resource)

    def _when_due(self, resource: C) -> None:
        if self._find(resource.arn) is resource and resource.until_ms is not None:
            self._finish(resource)


class Listed(Protocol):
    name: str
    stream: Stream


L = TypeVar("L", bound=Listed)


def page(
    registry: Registry,
    world: World,
    kind: str,
    found: Mapping[str, L],
    streams: StreamFilter | None,
    token: str | None,
    limit: int,
) -> tuple[list[L], str | None]:
    """What a List operation gives, by name, and the next token. A token brings the filter it was made with.

    Raises InvalidArgumentException, ExpiredNextTokenException.
    """
    after, now_ms = "", registry.clock.now_ms()
    if token is not None:
        read = tokens.read_list_token(kind, token)
        if read is None or not tokens.is_signed_list(read[2], world.account):
            raise InvalidArgumentException("The provided NextToken is invalid.")
        if now_ms > read[1] + STREAM_TOKEN_MS:
            raise ExpiredNextTokenException("The provided NextToken has expired.")
        after, streams = read[0]["after"], read[0]["streams"]
    asked = None if streams is None else [(arn, created_ms) for arn, created_ms in streams]
    names = sorted(name for name, one in found.items() if name > after and (asked is None or _is_on(one.stream, asked)))
    shown = [found[name] for name in names[:limit]]
    if len(names) <= limit:
        return shown, None
    fields = {"after": shown[-1].name, "streams": asked}
    return shown, tokens.make_list_token(kind, fields, world.account, now_ms)


def _is_on(stream: Stream, asked: StreamFilter) -> bool:
    return any(
        arn == stream.arn and (created_ms is None or created_ms // 1000 == stream.created_ms // 1000)
        for arn, created_ms in asked
    )
