"""From an operation's events to the body of a streaming answer, and back-pressure the other way.

The rule: as with whole answers, nothing goes out before the commit of what it saw; if that commit fails, the stream
ends with an error, and its maker is cancelled. What waits for a commit counts against the maker as what waits for the
client does. A stream begins with `initial-response`: botocore refuses one without, the SDK for Java waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from broker.commit import GroupCommit
from broker.errors import BrokerFailure, DomainError
from protocols.aws.call import Result, error_code
from protocols.http.message import Cancel, Sink
from protocols.shapes.model import Operation, Structure
from protocols.wire import aws_json, cbor, eventstream

_HIGH_WATER_BYTES = 64 * 1024


class EventStream:
    """The `EventSink` of one answer. `attach` is what its `StreamingResponse` starts."""

    def __init__(self, commit: GroupCommit, operation: Operation, *, is_cbor: bool) -> None:
        self._commit = commit
        self._events = _event_stream_of(operation)
        self._is_cbor = is_cbor
        media_type = cbor.CONTENT_TYPE if is_cbor else aws_json.content_type(operation.service)
        self._content_type = media_type.decode()
        self._cancel: Cancel | None = None
        self._ready: Callable[[], None] | None = None
        self._sink: Sink | None = None
        self._early = [eventstream.event("initial-response", self._content_type, self._encode_document({}))]
        self._ended = False  # takes no more events
        self._is_complete = False  # and the last is committed
        self._gone = False  # nobody listens
        self._uncommitted_bytes = 0
        self._sink_is_full = True  # as long as there is none
        self._paused = False

    def start(self, start: Callable[[EventStream], Cancel]) -> None:
        cancel = start(self)
        if not self._ended:
            self._cancel = cancel

    def attach(self, sink: Sink) -> Cancel:
        self._sink = sink
        sink.on_ready(self._caught_up)
        early, self._early = self._early, []
        self._sink_is_full = not sink.write(b"".join(early))
        if self._is_complete:
            sink.end()
        elif not self._gone:
            self._resume()
        return self.leave

    def leave(self) -> None:
        """Nobody listens any more."""
        self._ended = self._gone = True
        cancel, self._cancel, self._ready = self._cancel, None, None
        if cancel is not None:
            cancel()

    # The maker's side

    def send(self, event_name: str, payload: Result) -> bool:
        return not self._ended and self.send_encoded(self.encode(event_name, payload))

    @property
    def content_type(self) -> str:
        return self._content_type

    def encode(self, event_name: str, payload: Result) -> bytes:
        if self._is_cbor:
            body = cbor.encode_shape(self._events.members[event_name].shape, payload)
        else:
            body = aws_json.encode_document(payload)
        return eventstream.event(event_name, self._content_type, body)

    def send_encoded(self, message: bytes) -> bool:
        if self._ended:
            return False
        self._write(message)
        self._paused = self._sink_is_full or self._uncommitted_bytes >= _HIGH_WATER_BYTES
        return not self._paused

    def on_ready(self, ready: Callable[[], None]) -> None:
        if not self._ended:
            self._ready = ready

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._cancel = self._ready = None
            self._commit.then(self._end)

    def fail(self, error: DomainError) -> None:
        if not self._ended:
            self._write(self._error(error_code(error), error.message))
            self.end()

    # The commit's and the client's

    def _write(self, message: bytes) -> None:
        self._uncommitted_bytes += len(message)
        self._commit.then(partial(self._committed, message))

    def _committed(self, message: bytes, failure: BrokerFailure | None) -> None:
        self._uncommitted_bytes -= len(message)
        if self._gone:
            return
        if failure is not None:
            message = self._error("InternalFailureException", str(failure))
        if self._sink is None:
            self._early.append(message)
        else:
            self._sink_is_full = not self._sink.write(message)
        if failure is not None:
            self.leave()
            self._end(None)
        elif not self._uncommitted_bytes:
            self._resume()

    def _end(self, _: BrokerFailure | None) -> None:
        self._is_complete = True
        if self._sink is not None:
            self._sink.end()

    def _caught_up(self) -> None:
        self._sink_is_full = False
        self._resume()

    def _resume(self) -> None:
        if self._paused and not self._sink_is_full and self._uncommitted_bytes < _HIGH_WATER_BYTES:
            self._paused = False
            if self._ready is not None:
                self._ready()

    def _error(self, code: str, message: str) -> bytes:
        if code not in self._events.members:
            return eventstream.error(code, message)
        return eventstream.exception(code, self._content_type, self._encode_document({"message": message}))

    def _encode_document(self, document: Result) -> bytes:
        return cbor.encode_document(document) if self._is_cbor else aws_json.encode_document(document)


def _event_stream_of(operation: Operation) -> Structure:
    assert operation.output is not None
    for member in operation.output.members.values():
        if isinstance(member.shape, Structure) and member.shape.event_stream:
            return member.shape
    raise TypeError(f"{operation.name} has no event stream")
