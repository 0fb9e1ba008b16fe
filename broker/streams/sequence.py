"""Sequence numbers in the form of AWS's: 186 bits, written in decimal, 56 digits.

From the top: version 2 (4 bits), the second of the shard's birth (36), the shard's index modulo 16 (4), the count of
records (64), a byte that is 0 in a record's own number, the second of arrival (36), the shard's index (32), version 2
(4). The Kinesis Client Library reads the versions and the index (`SequenceNumberValidator`); the rest is what numbers
that AWS gave show. They grow with the count; a child is born later than its parents, so they grow across reshards too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ONE = 1 << 80  # from a record's number to the next, where both arrived in the same second
LAST = (1 << 63) - 1  # the count in a closed shard's ending number
_VERSION = 2
_AFTER = 1 << 72
_BITS = 186
_FORM = re.compile(r"0|[1-9][0-9]{0,128}")


class Place(NamedTuple):
    """What a number tells: the shard, and a record of it, or the place between that and the next."""

    born_s: int
    shard_index: int
    position: int  # the count of a record
    is_after: bool


def number(born_s: int, shard_index: int, count: int, moment_s: int) -> int:
    return (
        _VERSION << 184
        | born_s << 148
        | (shard_index & 15) << 144
        | count << 80
        | moment_s << 36
        | shard_index << 4
        | _VERSION
    )


def after(number: int) -> int:
    """A number above this record's and below the next one's."""
    return number | _AFTER


def is_sequence_number(text: str) -> bool:
    return _FORM.fullmatch(text) is not None


def read(text: str) -> Place | None:
    """None where it is no number that a shard gave."""
    if not is_sequence_number(text):
        return None
    value = int(text)
    shard_index = value >> 4 & 0xFFFFFFFF
    if (
        value.bit_length() != _BITS
        or value >> 184 != _VERSION
        or value & 15 != _VERSION
        or value >> 144 & 15 != shard_index & 15
    ):
        return None
    return Place(value >> 148 & (1 << 36) - 1, shard_index, value >> 80 & (1 << 64) - 1, bool(value >> 72 & 0xFF))
