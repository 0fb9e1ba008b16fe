"""What clients carry from call to call: shard iterators and the tokens of lists. Opaque, signed, good for five minutes.

An iterator holds the place in a shard as a count of records, so a reader neither skips nor doubles one, whatever is
written or expires meanwhile.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error
from calendar import weekday
from hashlib import blake2s
from struct import Struct
from typing import Any, NamedTuple

from broker.clock import iso_8601_ms
from broker.errors import ExpiredIteratorException
from broker.limits import SHARD_ITERATOR_MS

_ITERATOR = Struct(">QQIQQ")  # version, the stream's mark, the shard's index, the place, when it was given
_VERSION = 1
_SIGNATURE = 8
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Iterator(NamedTuple):
    mark: int  # which stream: `mark_of` its secret
    shard_index: int
    position: int
    given_ms: int


def mark_of(secret: str) -> int:
    return int(secret[:16], 16)


def _sign(body: bytes, secret: str) -> bytes:
    return blake2s(body, digest_size=_SIGNATURE, key=secret.encode()).digest()


def make_iterator(secret: str, shard_index: int, position: int, now_ms: int) -> str:
    body = _ITERATOR.pack(_VERSION, mark_of(secret), shard_index, position, now_ms)
    return b64encode(body + _sign(body, secret)).decode()


def read_iterator(text: str) -> tuple[Iterator, bytes] | None:
    """What it says, and the raw text for `is_signed`; None where it is none."""
    try:
        raw = b64decode(text, validate=True)
    except (Error, ValueError):
        return None
    if len(raw) != _ITERATOR.size + _SIGNATURE:
        return None
    version, *fields = _ITERATOR.unpack_from(raw)
    return (Iterator(*fields), raw) if version == _VERSION else None


def is_signed(raw: bytes, secret: str) -> bool:
    return raw[-_SIGNATURE:] == _sign(raw[:-_SIGNATURE], secret)


def expired(given_ms: int, now_ms: int) -> ExpiredIteratorException:
    return ExpiredIteratorException(
        f"Iterator expired. The iterator was created at time {_java_date(given_ms)} while right now it is "
        f"{_java_date(now_ms)} which is further in the future than the tolerated delay of {SHARD_ITERATOR_MS} "
        "milliseconds."
    )


def _java_date(moment_ms: int) -> str:
    """As AWS writes it in a text: Mon Apr 04 19:58:46 UTC 2016."""
    day, time = iso_8601_ms(moment_ms).split("T")
    year, month, date = map(int, day.split("-"))
    return f"{_DAYS[weekday(year, month, date)]} {_MONTHS[month - 1]} {date:02d} {time[:8]} UTC {year}"


def make_list_token(kind: str, fields: dict[str, Any], secret: str, now_ms: int) -> str:
    body = json.dumps([kind, fields, now_ms], separators=(",", ":")).encode()
    return b64encode(_sign(body, secret) + body).decode()


def read_list_token(kind: str, text: str) -> tuple[dict[str, Any], int, bytes] | None:
    """The fields, when it was given, and the raw text for `is_signed_list`; None where it is none of that kind."""
    try:
        raw = b64decode(text, validate=True)
        found, fields, given_ms = json.loads(raw[_SIGNATURE:])
    except (Error, ValueError, TypeError, RecursionError):
        return None
    if found != kind or type(fields) is not dict or type(fields.get("mark", 0)) is not int or type(given_ms) is not int:
        return None  # nobody has looked at the signature yet
    return fields, given_ms, raw


def is_signed_list(raw: bytes, secret: str) -> bool:
    return raw[:_SIGNATURE] == _sign(raw[_SIGNATURE:], secret)
