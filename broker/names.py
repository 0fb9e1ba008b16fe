"""Names: ARNs, accounts, regions, and the rules that AWS has for them."""

from __future__ import annotations

import re
from typing import NamedTuple

_ACCOUNT = re.compile(r"[0-9]{12}")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_FIFO_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,251}\.fifo")
_FIFO_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")


class World(NamedTuple):
    """An account in a region. Nothing in one world sees another but by ARN or URL."""

    account: str
    region: str


class Arn(NamedTuple):
    partition: str
    service: str
    region: str
    account: str
    resource: str

    def __str__(self) -> str:
        return ":".join(("arn", *self))


def partition_of(region: str) -> str:
    """The ARN partition a region belongs to."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def queue_arn(world: World, name: str) -> str:
    return f"arn:{partition_of(world.region)}:sqs:{world.region}:{world.account}:{name}"


def topic_arn(world: World, name: str) -> str:
    return f"arn:{partition_of(world.region)}:sns:{world.region}:{world.account}:{name}"


def parse_arn(text: str) -> Arn | None:
    """The parts of an ARN, or None where the text is none."""
    parts = text.split(":", 5)
    return Arn(*parts[1:]) if len(parts) == 6 and parts[0] == "arn" else None


def is_account(text: str) -> bool:
    return _ACCOUNT.fullmatch(text) is not None


def is_queue_name(name: str, *, fifo: bool) -> bool:
    """AWS's rule: 1 to 80 letters, digits, hyphens and underscores; a FIFO queue's name ends in `.fifo`."""
    return (_FIFO_QUEUE_NAME if fifo else _QUEUE_NAME).fullmatch(name) is not None


def is_topic_name(name: str, *, fifo: bool) -> bool:
    """AWS's rule: 1 to 256 letters, digits, hyphens and underscores; a FIFO topic's name ends in `.fifo`."""
    return (_FIFO_TOPIC_NAME if fifo else _TOPIC_NAME).fullmatch(name) is not None
