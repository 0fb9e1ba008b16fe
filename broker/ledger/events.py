"""What the ledger notes: the events, and what an entry's numbers are with each.

A row a message, never a row a record: what is put into a shard and read from it is noted as ranges of places.

| event         | resource            | message_id        | number         | until_ms             | origin           |
| ------------- | ------------------- | ----------------- | -------------- | -------------------- | ---------------- |
| published     | topic or bus        | message, event    |                |                      |                  |
| sent          | queue               | the message       |                | hidden until (delay) | what it is of    |
| deduplicated  | queue               | first of its kind |                |                      |                  |
| delivered     | queue               | the message       | receive number | hidden until         |                  |
| changed       | queue               | the message       | receive number | hidden until         |                  |
| acknowledged  | queue               | the message       | its receive    |                      |                  |
| stale         | queue               | the message       | its receive    |                      |                  |
| dead-lettered | queue, owner        | the message       |                |                      |                  |
| redriven      | queue               | the message       |                |                      |                  |
| expired       | queue               | the message       |                |                      |                  |
| purged        | queue               | "": all there are |                |                      |                  |
| fault         | any                 | the message or "" | receive or 0   | visible at           |                  |
| effect        | queue, stream or "" | the message       |                |                      | the effect's key |
| put           | stream              | the shard's id    | first place    | last place           |                  |
| read          | stream              | the shard's id    | first place    | last place           | the reader       |
| attempted     | a delivery's owner  | message, event    | attempt number | due again            |                  |
| given-up      | a delivery's owner  | message, event    | attempts made  |                      |                  |

`returned` is noted nowhere: that a visibility timeout has ended follows from the clock. A place is a count of records,
the part of a sequence number that grows by one. `origin` of a copy is the published message or event; of a message
that a redrive has moved, the one that it was before.
"""

from __future__ import annotations

PUBLISHED = "published"
SENT = "sent"
DEDUPLICATED = "deduplicated"
DELIVERED = "delivered"
CHANGED = "changed"
ACKNOWLEDGED = "acknowledged"
STALE = "stale"  # a delete whose receipt handle was no longer good: it did nothing
RETURNED = "returned"
DEAD_LETTERED = "dead-lettered"
REDRIVEN = "redriven"
EXPIRED = "expired"
PURGED = "purged"
FAULT = "fault"
EFFECT = "effect"
PUT = "put"
READ = "read"
ATTEMPTED = "attempted"
GIVEN_UP = "given-up"

ALL = (
    *(PUBLISHED, SENT, DEDUPLICATED, DELIVERED, CHANGED, ACKNOWLEDGED, STALE, DEAD_LETTERED, REDRIVEN, EXPIRED),
    *(PURGED, FAULT, EFFECT, PUT, READ, ATTEMPTED, GIVEN_UP),
)
