"""What a page under `/_sidebus/` answers: a status and a document, at once or later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Text(NamedTuple):
    """A document that is not JSON."""

    content_type: bytes
    text: str


Answer = tuple[int, dict[str, Any] | Text]

Later = Callable[[Callable[[Answer], None]], object]
"""Takes what is to be called once with the answer, in the event loop; not before it has returned."""
