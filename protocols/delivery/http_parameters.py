"""Parameters of requests: headers, query string and body as connections and targets give them, put together.

The rule: where two say something of the same, the later wins. Names of headers are the same in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

Pairs = Iterable[tuple[str, str]]


def pairs(parameters: Mapping[str, Any], member: str) -> list[tuple[str, str]]:
    """One member of a connection's ConnectionHttpParameters, secret values and all."""
    return [(entry["Key"], entry.get("Value", "")) for entry in parameters.get(member, ()) if entry.get("Key")]


def headers_of(*sources: Pairs) -> dict[str, str]:
    """Each header once, in the order of its first mention."""
    merged: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, value in source:
            merged[name.lower()] = (name, value)
    return dict(merged.values())


def without(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """`names` are in lower case."""
    return {name: value for name, value in headers.items() if name.lower() not in names}


def with_query(url: str, *sources: Pairs) -> str:
    """The URL with more in its query string; what is not spoken of stays as it is written."""
    added = {name: value for source in sources for name, value in source}
    if not added:
        return url
    parts = urlsplit(url)
    kept = [piece for piece in parts.query.split("&") if piece and _name(piece) not in added]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(added, quote_via=quote)])))


def _name(piece: str) -> str:
    parsed = parse_qsl(piece, keep_blank_values=True)
    return parsed[0][0] if parsed else ""


def with_path_values(url: str, values: Iterable[str]) -> str:
    """The URL with the asterisks of its path replaced, from left to right."""
    parts = urlsplit(url)
    path = parts.path
    before, rest = "", path
    for value in values:
        piece, asterisk, rest = rest.partition("*")
        if not asterisk:
            return urlunsplit(parts._replace(path=before + piece))
        before += piece + quote(value, safe="")
    return urlunsplit(parts._replace(path=before + rest))


def with_body_parameters(body: str, *sources: Pairs) -> str:
    """The body with more members, if it is a JSON object; else as it is."""
    added = {name: value for source in sources for name, value in source}
    if not added:
        return body
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps({**document, **added}).decode() if isinstance(document, dict) else body
