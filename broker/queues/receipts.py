"""Receipt handles: which queue, which message, which of its receives. Opaque to clients, and checked.

The check is against mistakes (another queue's handle, a truncated one, a message id), not against forgery.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from struct import Struct
from zlib import crc32

_LAYOUT = Struct(">IqI")  # the queue's tag, the message's id, its receive count
_CHECK = Struct(">I")
_VERSION = "AQEB"  # what AWS's begin with
_LENGTH = len(_VERSION) + 28


def make(tag: int, id: int, receive_count: int) -> str:
    body = _LAYOUT.pack(tag, id, receive_count)
    return _VERSION + b2a_base64(body + _CHECK.pack(crc32(body)), newline=False).decode()


def read(handle: str, tag: int) -> tuple[int, int] | None:
    """The message's id and receive count, or None where this is no handle of that queue."""
    if len(handle) != _LENGTH or not handle.startswith(_VERSION):
        return None
    try:
        raw = a2b_base64(handle[len(_VERSION) :], strict_mode=True)
    except ValueError:
        return None
    body = raw[: _LAYOUT.size]
    if len(raw) != _LAYOUT.size + _CHECK.size or raw[_LAYOUT.size :] != _CHECK.pack(crc32(body)):
        return None
    owner, id, receive_count = _LAYOUT.unpack(body)
    return (id, receive_count) if owner == tag else None
