"""What a target is given: the event, a part of it, a constant, or a template with variables in it.

The rules are the guide's, "Amazon EventBridge input transformation", its tables and its "Common issues":

- `<name>` is replaced if `name` is a variable; any other pair of angle brackets is text. Neither can be escaped.
- Outside quotes a variable becomes JSON: strings are quoted and escaped, objects and arrays are as they are.
- Inside quotes it becomes text: strings go in as they are, not escaped; objects and arrays lose their quotes.
- A variable with nothing at its path does not appear at all.
- A template that is no object and no array is text: a quoted string, or one a line, and quoted it arrives.
- `aws.events.event` is the event without its detail, `aws.events.event.json` all of it.

Ugly, but so the guide has it: a string with a quote or a line break breaks the quotes it is put into, `{"a": <gone>}`
comes out as `{"a": }`, and a template that is one variable and nothing else turns an object into a string of its
remains ("you must place it as a key"). What AWS looks at when a target is put is not documented. The guide has strings
on many lines, the API reference `<instance> is in state <status>`, and users found `EC2 Notification: <instance>`
refused: so one JSON value at the beginning seems to do. Of objects and arrays we ask that all of it be JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from .json_path import MISSING, InvalidPath, JsonPath, compile_path
from .tokens import Malformed, Tokens

MAX_VARIABLES = 100  # API reference: InputTransformer
MAX_TEMPLATE_CHARS = 8192  # the same
MAX_KEY_CHARS = 256  # the same

RULE_ARN = "aws.events.rule-arn"
RULE_NAME = "aws.events.rule-name"
INGESTION_TIME = "aws.events.event.ingestion-time"
EVENT = "aws.events.event"
EVENT_JSON = "aws.events.event.json"
RESERVED = frozenset({RULE_ARN, RULE_NAME, INGESTION_TIME, EVENT, EVENT_JSON})

_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY_CHARS}}}")
_PLACEHOLDER = r'<([^<>"\\]+)>'
_MARKS = re.compile(rf'\\.|"|{_PLACEHOLDER}', re.DOTALL)
_PLACEHOLDERS = re.compile(_PLACEHOLDER)
_QUOTES = re.compile(r'\\(.)|"', re.DOTALL)


class InvalidTransformer(ValueError):
    """`reason` says what AWS refuses; from `TargetInput.compile` it is the whole message, with the target's id."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RuleContext(NamedTuple):
    """What the reserved variables tell beyond the event."""

    rule_arn: str
    rule_name: str
    ingestion_time: str  # ISO 8601


class JsonText(NamedTuple):
    """A variable's value that is JSON text already."""

    text: str


Value = Any  # of a variable: parsed JSON, JsonText or MISSING


class _Slot(NamedTuple):
    variable: str
    write: Callable[[Value], str]


class Template:
    """A template over any variables. (Those of pipes are paths themselves.)"""

    def __init__(self, text: str, is_variable: Callable[[str], bool]) -> None:
        """Raises InvalidTransformer where AWS would refuse the template."""
        self.text = text
        literals, names, quoted = _cut(text, is_variable)
        is_json = _check(literals, names, quoted, is_variable)
        alone = len(names) == 1 and not "".join(literals).strip()
        self._parts: list[str | _Slot] = [literals[0]]
        for literal, name, in_quotes in zip(literals[1:], names, quoted, strict=True):
            write = _quoted if alone else _text if in_quotes or not is_json else _json
            self._parts += [_Slot(name, write), literal]

    def render(self, value_of: Callable[[str], Value]) -> str:
        return "".join(part if isinstance(part, str) else part.write(value_of(part.variable)) for part in self._parts)


class Transformer:
    """An InputTransformer: a template over an event's paths and the reserved variables."""

    def __init__(self, paths: Mapping[str, str], template: str) -> None:
        """Raises InvalidTransformer."""
        if len(paths) > MAX_VARIABLES:
            raise InvalidTransformer(f"InputPathsMap has {len(paths)} variables, more than {MAX_VARIABLES}")
        if not 0 < len(template) <= MAX_TEMPLATE_CHARS:
            raise InvalidTransformer(f"InputTemplate has {len(template)} characters, not 1 to {MAX_TEMPLATE_CHARS}")
        self._paths: dict[str, JsonPath] = {}
        for name, path in paths.items():
            if _KEY.fullmatch(name) is None:
                raise InvalidTransformer(f"'{name}' is not a valid key of InputPathsMap")
            try:
                self._paths[name] = compile_path(path)
            except InvalidPath as wrong:
                raise InvalidTransformer(f"InputPathsMap, key '{name}': {wrong.reason}") from None
        self._template = Template(template, lambda name: name in self._paths or name in RESERVED)

    def apply(self, event: dict[str, Any], event_text: str, context: RuleContext) -> str:
        """`event_text` is the JSON of `event`. What comes back is not always JSON: see the top of this file."""

        def value_of(name: str) -> Value:
            path = self._paths.get(name)
            if path is not None:
                return path.find(event)
            if name == EVENT_JSON:
                return JsonText(event_text)
            if name == EVENT:
                return {key: value for key, value in event.items() if key != "detail"}
            return {
                RULE_ARN: context.rule_arn,
                RULE_NAME: context.rule_name,
                INGESTION_TIME: context.ingestion_time,
            }[name]

        return self._template.render(value_of)


class TargetInput:
    """What one target of a rule is given of an event."""

    __slots__ = ("_render",)

    def __init__(self, render: Callable[[dict[str, Any], str, RuleContext], str] | None) -> None:
        self._render = render

    @classmethod
    def compile(cls, target: Mapping[str, Any]) -> TargetInput:
        """Of the API's Target: its Id, Input, InputPath and InputTransformer. Raises InvalidTransformer."""
        given = [name for name in ("Input", "InputPath", "InputTransformer") if target.get(name) is not None]
        if not given:
            return cls(None)
        if len(given) > 1:
            raise InvalidTransformer(
                f"Only one of Input, InputPath, or InputTransformer must be provided for target {target['Id']}."
            )
        try:
            return cls(_RENDERERS[given[0]](target[given[0]]))
        except Malformed:
            raise InvalidTransformer(f"Input for target {target['Id']} is not a valid JSON text.") from None
        except (InvalidPath, InvalidTransformer) as wrong:
            raise InvalidTransformer(f"Invalid {given[0]} for target {target['Id']} : {wrong.reason}.") from None

    def render(self, event: dict[str, Any], event_text: str, context: RuleContext) -> str:
        """`event_text`, the JSON of `event`, is what comes back where the target asks for nothing else."""
        return event_text if self._render is None else self._render(event, event_text, context)


def _constant(text: str) -> Callable[[dict[str, Any], str, RuleContext], str]:
    tokens = Tokens(text)
    _read_value(tokens, tokens.next())
    if tokens.next():
        raise Malformed("more than one value")
    return lambda event, event_text, context: text


def _part(text: str) -> Callable[[dict[str, Any], str, RuleContext], str]:
    path = compile_path(text)

    def render(event: dict[str, Any], event_text: str, context: RuleContext) -> str:
        if not path.steps:
            return event_text
        value = path.find(event)
        return "null" if value is MISSING else compact(value)  # AWS documents nothing for what is missing

    return render


def _transformed(transformer: Mapping[str, Any]) -> Callable[[dict[str, Any], str, RuleContext], str]:
    return Transformer(transformer.get("InputPathsMap") or {}, transformer["InputTemplate"]).apply


_RENDERERS: Mapping[str, Callable[[Any], Callable[[dict[str, Any], str, RuleContext], str]]] = {
    "Input": _constant,
    "InputPath": _part,
    "InputTransformer": _transformed,
}


def _cut(text: str, is_variable: Callable[[str], bool]) -> tuple[list[str], list[str], list[bool]]:
    """The text before, between and after the variables; the variables; and which of them stand inside quotes."""
    literals: list[str] = []
    names: list[str] = []
    quoted: list[bool] = []
    in_quotes = False
    end = 0
    for mark in _MARKS.finditer(text):
        if mark[0] == '"':
            in_quotes = not in_quotes
        elif mark[1] is not None and is_variable(mark[1]):
            literals.append(text[end : mark.start()])
            names.append(mark[1])
            quoted.append(in_quotes)
            end = mark.end()
    literals.append(text[end:])
    return literals, names, quoted


def _check(literals: list[str], names: list[str], quoted: list[bool], is_variable: Callable[[str], bool]) -> bool:
    """Whether the template is an object or an array, or more of them. Raises InvalidTransformer."""
    source = literals[0]
    for literal, name, in_quotes in zip(literals[1:], names, quoted, strict=True):
        source += (f"<{name}>" if in_quotes else " null ") + literal
    tokens = Tokens(source)
    try:
        kind = tokens.next()
        is_json = kind in ("{", "[")
        while kind:
            for key in _read_value(tokens, kind):
                for found in _PLACEHOLDERS.finditer(key):
                    if is_variable(found[1]):
                        raise InvalidTransformer(f"Placeholder {found[0]} is used as an object key")
            if not is_json:
                return False
            kind = tokens.next()
    except Malformed as wrong:
        raise InvalidTransformer(wrong.reason) from None
    if not is_json:
        raise InvalidTransformer("InputTemplate is blank")
    return True


def _read_value(tokens: Tokens, kind: str) -> list[str]:
    """Reads on to the end of the value that begins here, and gives the keys in it. Raises Malformed."""
    keys: list[str] = []
    depth = 0
    while True:
        if not kind:
            tokens.fail("No content")
        if kind == "name":
            keys.append(tokens.text)
        elif kind == "string":
            tokens.text  # noqa: B018 - reads it
        depth += (kind in "{[") - (kind in "]}")
        if not depth:
            return keys
        kind = tokens.next()


def _json(value: Value) -> str:
    """Outside quotes."""
    return "" if value is MISSING else value.text if isinstance(value, JsonText) else compact(value)


def _text(value: Value) -> str:
    """Inside quotes."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()  # half a pair has no bytes
    if isinstance(value, dict | list | JsonText):
        return _QUOTES.sub(_without_quote, _json(value))
    return _json(value)


def _without_quote(found: re.Match[str]) -> str:
    return "" if found[1] in (None, '"') else found[0]


def _quoted(value: Value) -> str:
    """By itself."""
    return f'"{_text(value)}"' if value is MISSING or isinstance(value, dict | list | JsonText) else compact(value)


def compact(value: Any) -> str:
    """A parsed JSON value as JSON without spaces."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number beyond 64 bits, half a surrogate pair, 255 levels
        return _slowly(value)


def _slowly(value: Any) -> str:
    """Without recursion: an event may nest as deep as its parser allows."""
    out: list[str] = []
    ahead: list[tuple[str, Any]] = [("", value)]  # what to write before it, last one first
    while ahead:
        before, value = ahead.pop()
        out.append(before)
        if value is MISSING:
            continue
        if isinstance(value, dict):
            out.append("{")
            entries = [(f"{json.dumps(key)}:", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            out.append("[")
            entries = [("", inner) for inner in value]
        else:
            out.append(json.dumps(value))
            continue
        ahead.append(("}" if isinstance(value, dict) else "]", MISSING))
        ahead += [(f",{before}" if number else before, inner) for number, (before, inner) in enumerate(entries)][::-1]
    return "".join(out)
