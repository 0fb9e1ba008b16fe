"""Tokens of pages: the key that a page ended with, so that what is listed may come and go between pages."""

from __future__ import annotations

from base64 import b64decode, b64encode


def page_token(last: object) -> str:
    return b64encode(str(last).encode()).decode()


def read_page_token(token: str) -> str:
    """The key. Raises ValueError where this is no such token."""
    return b64decode(token, validate=True).decode()
