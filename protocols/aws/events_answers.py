"""What EventBridge's answers have in common: the members of the model, moments in seconds, pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from protocols.aws.call import Call, Result
from protocols.aws.page_tokens import page_token, read_page_token
from protocols.shapes.model import List, Scalar, Structure, load
from protocols.wire.errors import WireError

MAX_PAGE = 100  # LimitMax100, and what AWS gives when nothing is asked
_FAR_S = 1e12  # further than any calendar goes


def moment_ms(seconds: float) -> int:
    """A moment of an input, which may be any number, for the engine."""
    return round(min(max(seconds, -_FAR_S), _FAR_S) * 1000)


def answer(call: Call, document: Mapping[str, Any]) -> Result:
    """What the operation's output has of a document of the engine's, whose moments are milliseconds."""
    return _select(_members(call.route.operation or ""), document)


def after(call: Call) -> str:
    """The name that the page before ended with."""
    given = call.parameters.get("NextToken")
    if given is None:
        return ""
    try:
        return read_page_token(given)
    except ValueError:
        raise WireError("InvalidToken", "The pagination token is not valid.") from None


def most(call: Call) -> int:
    """How many entries to look up: those of a page, and one to know whether there are more."""
    given = call.parameters
    limit: int = given.get("Limit") or given.get("MaxResults") or MAX_PAGE
    return limit + 1


def page(call: Call, member: str, documents: Iterable[Mapping[str, Any]], key: str = "Name") -> Result:
    """A page of what is listed in the order of `key`, from all of it or from what comes `after`."""
    members = _members(call.route.operation or "", member)
    return _cut(call, member, [(document[key], _select(members, document)) for document in documents])


def page_of_names(call: Call, member: str, names: Iterable[str]) -> Result:
    return _cut(call, member, [(name, name) for name in names])


def _cut(call: Call, member: str, entries: list[tuple[str, Any]]) -> Result:
    last = after(call)
    rest = [entry for entry in entries if entry[0] > last] if last else entries
    limit = most(call) - 1
    found = rest[:limit]
    result: Result = {member: [entry for _, entry in found]}
    if len(rest) > limit:
        result["NextToken"] = page_token(found[-1][0])
    return result


Members = tuple[tuple[str, bool], ...]  # the names, and whether a moment


@cache
def _members(operation: str, listing: str = "") -> Members:
    shape = load("events").operation(operation)
    assert shape is not None
    output = shape.output
    if listing and output is not None:
        listed = output.members[listing].shape
        assert isinstance(listed, List)
        assert isinstance(listed.member.shape, Structure)
        output = listed.member.shape
    if output is None:
        return ()
    return tuple(
        (name, isinstance(member.shape, Scalar) and member.shape.kind == "timestamp")
        for name, member in output.members.items()
    )


def _select(members: Members, document: Mapping[str, Any]) -> Result:
    result: Result = {}
    for name, is_moment in members:
        value = document.get(name)
        if value is not None:
            result[name] = value / 1000 if is_moment else value
    return result
