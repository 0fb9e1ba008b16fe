"""What can go wrong: every kind of fault, where it strikes and what it takes, as data.

Checking a plan, the page of kinds, the command's help and the table in FAULTS.md all come from here. A *point* is a
place in the broker that asks `Faults.hit`. Lengths of time are given as text and reach the hook in milliseconds, under
the parameter's name with `_ms` behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from broker.faults.rule import DELIVER

REQUEST, SEND, RECEIVE, DELETE = "request", "send", "receive", "delete"
PUT_RECORD, GET_RECORDS, SUBSCRIPTION, DELIVERY = "put-record", "get-records", "subscription", "delivery"
Operations = Mapping[str, tuple[str, ...]]

POINTS: Mapping[str, Operations] = {
    REQUEST: {},  # every operation of every service
    SEND: {"sqs": ("SendMessage", "SendMessageBatch", DELIVER)},
    RECEIVE: {"sqs": ("ReceiveMessage",)},
    DELETE: {"sqs": ("DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch")},
    PUT_RECORD: {"kinesis": ("PutRecord", "PutRecords", DELIVER)},
    GET_RECORDS: {"kinesis": ("GetRecords",)},
    SUBSCRIPTION: {"kinesis": ("SubscribeToShard",)},
    DELIVERY: {"sns": (DELIVER,), "events": (DELIVER,)},
}

MESSAGES_SEEN: Mapping[str, Operations] = {
    REQUEST: {
        "sqs": ("SendMessage", "SendMessageBatch"),
        "sns": ("Publish", "PublishBatch"),
        "events": ("PutEvents",),
        "kinesis": ("PutRecord", "PutRecords"),
    },
    GET_RECORDS: {},
    SUBSCRIPTION: {},
}
"""At which operations of a point there is a message for a pattern to look into; a point that is not here: at all."""

DELETES: Operations = {"sqs": ("DeleteMessage", "DeleteMessageBatch")}
BATCHES: Operations = {
    "sqs": ("SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"),
    "sns": ("PublishBatch",),
    "events": ("PutEvents",),
    "kinesis": ("PutRecords",),
}

REQUIRED: Any = object()
"""The default of a parameter that must be given."""


class Parameter(NamedTuple):
    """`type`: duration, signed-duration, fraction (above 0, at most 1), number, positive, integer, status, code,
    text, choice, percentiles. A default of None: left out unless given."""

    name: str
    type: str
    default: Any
    text: str
    choices: tuple[str, ...] = ()
    least: int = 0  # of an integer or a number
    most: int = 1 << 31

    @property
    def key(self) -> str:
        """Its name in `Hit.parameters`."""
        return f"{self.name}_ms" if self.type in ("duration", "signed-duration") else self.name


class Kind(NamedTuple):
    name: str
    group: str
    text: str
    points: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    operations: Operations | None = None  # None: all of its points
    fifo: bool = True  # False: AWS never does it to a FIFO queue, and neither do we
    sees_message: bool = True  # False: nothing to look into, even where its point has a message
    timed: bool = False  # may have `at` in place of a request; strikes once unless `count` is given
    narrowed_by: tuple[str, Mapping[str, tuple[str, ...]]] | None = None  # a parameter that decides on the points
    only_one_of: tuple[tuple[str, ...], ...] = ()
    example: str = ""  # as behind `sidebus faults add`

    def points_with(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        if self.narrowed_by is None:
            return self.points
        name, points = self.narrowed_by
        return points[given[name]]

    def operations_at(self, point: str) -> Operations | None:
        """Those it strikes at, by service; None for all there are."""
        return self.operations if self.operations is not None else POINTS[point] or None


_FOR = "how long"
_REQUESTS = (
    Kind(
        "error",
        "requests",
        "The request is refused with an error of AWS's, and nothing is done.",
        (REQUEST,),
        (
            Parameter("code", "code", REQUIRED, "AWS's code, such as InternalFailure or KMS.ThrottlingException"),
            Parameter("message", "text", None, "what the error says; else AWS's own words"),
            Parameter(
                "status", "status", None, "the HTTP status; else the one that the service's model has", least=400
            ),
        ),
        example="error code=InternalFailure status=500 operation=SendMessage probability=0.05",
    ),
    Kind(
        "throttle",
        "requests",
        "The request is refused as too many, in the service's own words.",
        (REQUEST,),
        example="throttle service=kinesis operation=PutRecords burst=5 probability=0.02",
    ),
    Kind(
        "latency",
        "requests",
        "The answer takes longer.",
        (REQUEST,),
        (
            Parameter(
                "distribution",
                "choice",
                None,
                "how the delay is drawn; left out, it follows from what is given",
                choices=("fixed", "normal", "pareto", "percentiles"),
            ),
            Parameter("delay", "duration", None, "fixed: the delay"),
            Parameter("mean", "duration", None, "normal: the mean"),
            Parameter("deviation", "duration", None, "normal: the standard deviation; what falls below zero is zero"),
            Parameter("median", "duration", None, "pareto: what half of the delays are below"),
            Parameter("p99", "duration", None, "pareto: what 99 of 100 delays are below"),
            Parameter("percentiles", "percentiles", None, 'such as {p50 = "20ms", p99 = "2s"}'),
        ),
        example="latency median=20ms p99=2s service=sqs",
    ),
    Kind(
        "answered-not-done",
        "requests",
        "The client is told that it is done, and it is not.",
        (REQUEST,),
        example="answered-not-done operation=DeleteMessage every=10",
    ),
    Kind(
        "done-not-answered",
        "requests",
        "The work is done and the client is not told: the lost acknowledgement.",
        (REQUEST,),
        (
            Parameter(
                "how",
                "choice",
                "reset",
                "the connection is reset, or stays silent, or a 500 is answered",
                choices=("reset", "silence", "error"),
            ),
        ),
        example="done-not-answered operation=SendMessage how=silence count=1",
    ),
    Kind(
        "reset",
        "requests",
        "The connection is reset.",
        (REQUEST,),
        (Parameter("when", "choice", "before", "before the work is done, or after", choices=("before", "after")),),
        example="reset when=after operation=PutEvents probability=0.01",
    ),
    Kind(
        "stall",
        "requests",
        "The answer stops in the middle of its body and goes on later.",
        (REQUEST,),
        (
            Parameter("after_bytes", "integer", 0, "of the body"),
            Parameter("for", "duration", "60s", _FOR),
        ),
        example="stall after_bytes=100 for=30s operation=ReceiveMessage count=1",
    ),
    Kind(
        "truncate",
        "requests",
        "The connection ends in the middle of the answer's body.",
        (REQUEST,),
        (Parameter("after_bytes", "integer", 0, "of the body"),),
        example="truncate after_bytes=50 operation=GetRecords probability=0.01",
    ),
    Kind(
        "slow-bytes",
        "requests",
        "The answer's body trickles.",
        (REQUEST,),
        (Parameter("bytes_per_s", "integer", 100, "the pace", least=1),),
        example="slow-bytes bytes_per_s=200 client='*Java*'",
    ),
    Kind(
        "partial-batch",
        "requests",
        "Some entries of a batch fail, the others are done.",
        (REQUEST,),
        (Parameter("fraction", "fraction", 0.5, "of the entries, at least one"),),
        operations=BATCHES,
        example="partial-batch fraction=0.3 operation=SendMessageBatch",
    ),
)
_MESSAGES = (
    Kind(
        "late",
        "messages",
        "A message cannot be received until later, though its sender was answered.",
        (SEND,),
        (Parameter("delay", "duration", "5s", "how much later; in a FIFO queue its whole group waits behind it"),),
        example="late delay=5s resource='orders-*' probability=0.1",
    ),
    Kind(
        "reorder",
        "messages",
        "A message comes out of order: before some that were sent earlier.",
        (SEND,),
        (
            Parameter(
                "window", "duration", "1s", "it goes ahead of those sent up to so long before it, drawn from zero"
            ),
        ),
        fifo=False,
        example="reorder window=2s resource=orders",
    ),
    Kind(
        "duplicate",
        "messages",
        "A message is delivered a second time.",
        (RECEIVE, DELETE),
        (
            Parameter(
                "when",
                "choice",
                "at-once",
                "to the next who asks, or after the delay, or after its delete",
                choices=("at-once", "later", "after-delete"),
            ),
            Parameter("delay", "duration", "1s", "with later and after-delete: how much later"),
        ),
        operations={"sqs": ("ReceiveMessage", "DeleteMessage", "DeleteMessageBatch")},
        fifo=False,
        narrowed_by=("when", {"at-once": (RECEIVE,), "later": (RECEIVE,), "after-delete": (DELETE,)}),
        example="duplicate when=after-delete delay=3s every=100",
    ),
    Kind(
        "early-visibility",
        "messages",
        "A message in flight becomes visible before its visibility timeout ends.",
        (RECEIVE,),
        (
            Parameter(
                "fraction", "fraction", None, "it becomes visible after this share of it (0.5 unless `after` is given)"
            ),
            Parameter("after", "duration", None, "when it becomes visible instead, from the receive"),
        ),
        only_one_of=(("fraction", "after"),),
        example="early-visibility after=1s resource=orders",
    ),
    Kind(
        "empty-receive",
        "messages",
        "A short poll comes back empty though messages wait, as AWS's sampling of its servers permits.",
        (RECEIVE,),
        sees_message=False,
        example="empty-receive probability=0.2",
    ),
    Kind(
        "early-dead-letter",
        "messages",
        "A message moves to the dead-letter queue before its receives are used up. Only where there is one.",
        (RECEIVE,),
        example="early-dead-letter resource=orders count=1",
    ),
    Kind(
        "stale-handle",
        "messages",
        "A receipt handle is no longer good.",
        (DELETE,),
        example="stale-handle operation=ChangeMessageVisibility probability=0.1",
    ),
)
_STREAMS = (
    Kind(
        "shard-throttle",
        "streams",
        "A shard is over its throughput (ProvisionedThroughputExceededException), or single records of PutRecords are.",
        (PUT_RECORD, GET_RECORDS),
        operations={"kinesis": ("PutRecord", "PutRecords", "GetRecords")},
        example="shard-throttle resource=clicks operation=PutRecords probability=0.1",
    ),
    Kind(
        "expired-iterator",
        "streams",
        "A shard iterator has expired.",
        (GET_RECORDS,),
        example="expired-iterator every=50",
    ),
    Kind(
        "repeat-record",
        "streams",
        "A record is in the stream twice: a producer's retry.",
        (PUT_RECORD,),
        example="repeat-record resource=clicks probability=0.01",
    ),
    Kind(
        "reshard",
        "streams",
        "The shard is split, or merged, in the middle of the work.",
        (PUT_RECORD, GET_RECORDS),
        (Parameter("how", "choice", "split", "in two, or merged with a neighbour", choices=("split", "merge")),),
        example="reshard resource=clicks from=30s count=1",
    ),
    Kind(
        "lag",
        "streams",
        "A reader falls behind: MillisBehindLatest grows.",
        (GET_RECORDS,),
        (
            Parameter("growth_per_s", "positive", 500, "milliseconds that it falls behind more, each second"),
            Parameter("records_per_call", "integer", None, "at most so many records a call", least=1),
        ),
        example="lag growth_per_s=2000 records_per_call=10 resource=clicks",
    ),
    Kind(
        "cut-subscription",
        "streams",
        "A subscription to a shard ends early.",
        (SUBSCRIPTION,),
        (
            Parameter("after", "duration", "10s", "from its beginning"),
            Parameter(
                "how", "choice", "end", "it ends, or an InternalFailureException comes", choices=("end", "error")
            ),
        ),
        example="cut-subscription after=5s how=error",
    ),
)
_DELIVERY = (
    Kind(
        "unreachable",
        "delivery",
        "A webhook or function endpoint cannot be reached.",
        (DELIVERY,),
        example="unreachable resource='http://127.0.0.1:9000/*' from=10s until=40s",
    ),
    Kind(
        "slow-endpoint",
        "delivery",
        "A webhook or function endpoint takes its time.",
        (DELIVERY,),
        (Parameter("delay", "duration", "5s", "before it is asked"),),
        example="slow-endpoint delay=20s service=sns",
    ),
    Kind(
        "endpoint-status",
        "delivery",
        "A webhook or function endpoint answers this status, and is not asked.",
        (DELIVERY,),
        (Parameter("status", "status", 500, "the HTTP status", least=200),),
        example="endpoint-status status=503 resource=paid probability=0.5",
    ),
)
_TIME = (
    Kind(
        "jump",
        "time",
        "The broker's clock jumps.",
        (REQUEST,),
        (Parameter("by", "signed-duration", REQUIRED, "such as 1h, or -5m for backwards"),),
        timed=True,
        example="jump by=-1h at=30s",
    ),
    Kind(
        "drift",
        "time",
        "The broker's clock goes faster or slower than the client's from now on.",
        (REQUEST,),
        (
            Parameter(
                "ppm",
                "number",
                1_000,
                "millionths: 1000 gains 86 s a day; below zero it loses",
                least=-999_999,
                most=1_000_000_000,
            ),
        ),
        timed=True,
        example="drift ppm=5000 at=0s",
    ),
)
_BROKER = (
    Kind(
        "pause",
        "broker",
        "The process stands still.",
        (REQUEST,),
        (Parameter("for", "duration", "5s", _FOR),),
        timed=True,
        example="pause for=5s at=10s",
    ),
    Kind(
        "restart",
        "broker",
        "The broker restarts in place: connections break and are refused, what was acknowledged is there again.",
        (REQUEST,),
        (Parameter("down", "duration", "1s", "how long connections are refused"),),
        timed=True,
        example="restart down=2s operation=SendMessage every=1000",
    ),
    Kind(
        "full-disk",
        "broker",
        "The disk is full: whatever would write is refused.",
        (REQUEST,),
        (Parameter("for", "duration", "10s", _FOR),),
        timed=True,
        example="full-disk for=10s at=1m",
    ),
)

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (*_REQUESTS, *_MESSAGES, *_STREAMS, *_DELIVERY, *_TIME, *_BROKER)
}


class General(NamedTuple):
    """A key that every rule may have."""

    name: str
    type: str
    text: str


GENERAL: Mapping[str, General] = {
    general.name: general
    for general in (
        General("fault", "text", "the kind"),
        General("name", "text", "the rule's own name; the kind's unless given"),
        General("service", "texts", "sqs, sns, events, kinesis, …: one or a list"),
        General("operation", "texts", "AWS's name of it, one or a list; Deliver for what the broker does by itself"),
        General("resource", "text", "pattern with * and ? of the resource's name, or of its whole ARN"),
        General("account", "texts", "twelve digits, one or a list"),
        General("client", "text", 'pattern with * and ? over "ACCESS-KEY USER-AGENT"'),
        General("message", "pattern", 'an event pattern over {"body": …, "attributes": {…}}'),
        General("every", "integer", "only each n-th that matches"),
        General("from", "moment", "not before: a moment, or a length of time after loading"),
        General("until", "moment", "not from then on: a moment, or a length of time after loading"),
        General("probability", "fraction", "above 0, at most 1"),
        General("count", "integer", "at most so often"),
        General("burst", "integer", "once it has struck, the next n-1 that match are struck too"),
        General("at", "moment", "time and broker faults only: when, in place of a request"),
    )
}


def describe() -> dict[str, list[dict[str, Any]]]:
    """What every rule may have and every kind, as a JSON-like document, for pages and tables."""
    return {
        "rule": [{"name": general.name, "type": general.type, "text": general.text} for general in GENERAL.values()],
        "kinds": [_describe(kind) for kind in KINDS.values()],
    }


def _describe(kind: Kind) -> dict[str, Any]:
    return {
        "fault": kind.name,
        "group": kind.group,
        "text": kind.text,
        "points": list(kind.points),
        "operations": dict(_all_operations(kind)) or "every operation",
        "fifo": kind.fifo,
        "at": kind.timed,
        "example": kind.example,
        "parameters": [
            {"name": p.name, "type": p.type, "text": p.text}
            | ({"required": True} if p.default is REQUIRED else {"default": p.default})
            | ({"choices": list(p.choices)} if p.choices else {})
            for p in kind.parameters
        ],
    }


def _all_operations(kind: Kind) -> Iterator[tuple[str, list[str]]]:
    """By service, of all its points; nothing for a kind that strikes everywhere."""
    found: dict[str, dict[str, None]] = {}
    for point in kind.points:
        for service, names in (kind.operations_at(point) or {}).items():
            found.setdefault(service, {}).update(dict.fromkeys(names))
    yield from ((service, list(names)) for service, names in found.items())
