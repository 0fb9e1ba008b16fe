"""DynamoDB's expressions: a tokenizer and a parser by descent, from text to conditions, updates and paths.

    condition = either ["AND" | "OR" ...]      NOT binds tighter than AND, AND tighter than OR
    either    = operand sign operand | operand BETWEEN operand AND operand | operand IN (operand, ...)
              | function | NOT either | (condition)
    update    = (SET path = value, ... | REMOVE path, ... | ADD path :value, ... | DELETE path :value, ...)...
    value     = operand | operand + operand | operand - operand
    operand   = path | :value | size(path); in updates if_not_exists(path, operand), list_append(operand, operand)
    path      = name | #name, then .name | .#name | [index] ...

Keywords in any case, functions in lower case. Types are checked here as far as they can be seen, in AWS's words.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from broker.errors import ValidationException
from broker.tables import paths
from broker.tables.conditions import (
    ORDERED,
    All,
    Attribute,
    BeginsWith,
    Between,
    Compare,
    Condition,
    Constant,
    Contains,
    Exists,
    HasType,
    In,
    Not,
    Operand,
    Size,
    Some,
    ordered,
)
from broker.tables.paths import Path
from broker.tables.reserved_words import RESERVED_WORDS
from broker.tables.updates import Action, Add, Delete, IfNotExists, ListAppend, Remove, Set, Sum, Update
from broker.tables.values import TYPES, Value, to_document, type_of

MAX_EXPRESSION_BYTES = 4_096
MAX_OPERATORS = 300
MAX_CHOICES = 100  # of IN
MAX_DEPTH = 50  # ours, of parentheses and NOTs: Python's stack is not endless

CONDITION, FILTER, KEY_CONDITION = "ConditionExpression", "FilterExpression", "KeyConditionExpression"
UPDATE, PROJECTION = "UpdateExpression", "ProjectionExpression"

_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*|[#:][A-Za-z0-9_]+|[0-9]+|<>|<=|>=|[=<>()\[\].,+-])|(\S))")
_NAME, _NUMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"[0-9]+")
_NAME_KEY, _VALUE_KEY = re.compile(r"#[A-Za-z0-9_]+"), re.compile(r":[A-Za-z0-9_]+")
_SIGNS = ("=", "<>", "<", "<=", ">", ">=")
_CONDITION_FUNCTIONS = (
    "attribute_exists",
    "attribute_not_exists",
    "attribute_type",
    "begins_with",
    "contains",
    "size",
)
_UPDATE_FUNCTIONS = ("if_not_exists", "list_append")
_LONG_TYPES = {"S": "STRING", "N": "NUMBER", "B": "BINARY", "M": "MAP", "L": "LIST", "BOOL": "BOOLEAN", "NULL": "NULL"}


class Placeholders:
    """What # and : names stand for in one request. All must be used by some expression."""

    def __init__(self, names: Mapping[str, str] | None = None, values: Mapping[str, Value] | None = None) -> None:
        """Raises ValidationException."""
        for kind, given, form in (("Names", names, _NAME_KEY), ("Values", values, _VALUE_KEY)):
            if given is not None and not given:
                raise ValidationException(f"ExpressionAttribute{kind} must not be empty")
            for key in given or ():
                if not form.fullmatch(key):
                    raise ValidationException(
                        f'ExpressionAttribute{kind} contains invalid key: Syntax error; key: "{key}"'
                    )
        self._names = names or {}
        self._values = values or {}
        self._used: set[str] = set()

    def name(self, kind: str, key: str) -> str:
        if key not in self._names:
            raise ValidationException(
                f"Invalid {kind}: An expression attribute name used in the document path is not defined; "
                f"attribute name: {key}"
            )
        self._used.add(key)
        return self._names[key]

    def value(self, kind: str, key: str) -> Value:
        if key not in self._values:
            raise ValidationException(
                f"Invalid {kind}: An expression attribute value used in expression is not defined; "
                f"attribute value: {key}"
            )
        self._used.add(key)
        return self._values[key]

    def check_used(self) -> None:
        """Raises ValidationException."""
        for kind, given in (("Names", self._names), ("Values", self._values)):
            unused = [key for key in given if key not in self._used]
            if unused:
                raise ValidationException(
                    f"Value provided in ExpressionAttribute{kind} unused in expressions: keys: {{{', '.join(unused)}}}"
                )


def parse_condition(text: str, placeholders: Placeholders, kind: str = CONDITION) -> Condition:
    """Raises ValidationException."""
    return _Parser(kind, text, placeholders).whole_condition()


def parse_update(text: str, placeholders: Placeholders) -> Update:
    """Raises ValidationException."""
    return _Parser(UPDATE, text, placeholders).whole_update()


def parse_projection(text: str, placeholders: Placeholders) -> list[Path]:
    """Raises ValidationException."""
    return _Parser(PROJECTION, text, placeholders).whole_projection()


class _Token(NamedTuple):
    text: str  # empty at the end
    start: int
    end: int


class _Parser:
    def __init__(self, kind: str, text: str, placeholders: Placeholders) -> None:
        self._kind = kind
        self._source = text
        self._placeholders = placeholders
        if not text.strip():
            raise self._invalid("The expression can not be empty;")
        if len(text.encode()) > MAX_EXPRESSION_BYTES:
            raise self._invalid(
                f"Expression size has exceeded the maximum allowed size; expression size: {len(text.encode())}"
            )
        self._tokens = self._tokenize()
        self._at = 0
        self._operators = 0
        self._depth = 0

    # tokens

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        for match in _TOKEN.finditer(self._source):
            group = 1 if match[1] else 2
            token = _Token(match[group], *match.span(group))
            if group == 2:
                start = tokens[-1].start if tokens else token.start
                raise self._syntax(token.text, self._source[start : token.end + 1].strip())
            tokens.append(token)
        return [*tokens, _Token("", len(self._source), len(self._source))]

    @property
    def _next(self) -> str:
        return self._tokens[self._at].text

    @property
    def _after(self) -> str:
        return self._tokens[self._at + 1].text if self._next else ""

    def _take(self) -> str:
        text = self._next
        if text:
            self._at += 1
        return text

    def _is(self, keyword: str) -> bool:
        return self._next.upper() == keyword

    def _accept(self, text: str) -> bool:
        """Takes a sign or a keyword if it is there."""
        if self._next.upper() != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected()

    def _unexpected(self) -> ValidationException:
        token = self._tokens[self._at]
        start = self._tokens[max(self._at - 1, 0)].start
        end = self._tokens[min(self._at + 1, len(self._tokens) - 1)].end
        return self._syntax(token.text or "<EOF>", self._source[start:end].strip())

    def _syntax(self, token: str, near: str) -> ValidationException:
        return self._invalid(f'Syntax error; token: "{token}", near: "{near}"')

    def _invalid(self, reason: str) -> ValidationException:
        return ValidationException(f"Invalid {self._kind}: {reason}")

    def _count_operator(self) -> None:
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            raise self._invalid(
                "The expression contains too many operators or functions; "
                f"operator or function count: {self._operators}"
            )

    def _list(self, one: Callable[[], None]) -> None:
        one()
        while self._accept(","):
            one()

    # paths and values

    def _name(self) -> str:
        text = self._next
        if text.startswith("#"):
            return self._placeholders.name(self._kind, self._take())
        if not _NAME.fullmatch(text):
            raise self._unexpected()
        if text.upper() in RESERVED_WORDS:
            raise self._invalid(f"Attribute name is a reserved keyword; reserved keyword: {text}")
        return self._take()

    def _path(self) -> Path:
        parts: list[str | int] = [self._name()]
        while True:
            if self._accept("."):
                parts.append(self._name())
            elif self._accept("["):
                if not _NUMBER.fullmatch(self._next):
                    raise self._unexpected()
                parts.append(int(self._take()))
                self._expect("]")
            else:
                return tuple(parts)

    def _value(self) -> Value:
        if not self._next.startswith(":"):
            raise self._unexpected()
        return self._placeholders.value(self._kind, self._take())

    def _path_argument(self, function: str) -> Path:
        if self._next.startswith(":"):
            raise self._invalid(f"Operator or function requires a document path; operator or function: {function}")
        return self._path()

    def _function(self) -> str | None:
        """The name of the function whose call begins here."""
        if self._after != "(" or not _NAME.fullmatch(self._next) or self._next.upper() in ("NOT", "AND", "OR", "IN"):
            return None
        name = self._next
        known = _UPDATE_FUNCTIONS if self._kind == UPDATE else _CONDITION_FUNCTIONS
        if name not in known:
            if name in _UPDATE_FUNCTIONS + _CONDITION_FUNCTIONS:
                raise self._invalid(f"The function is not allowed in this expression; function: {name}")
            raise self._invalid(f"Invalid function name; function: {name}")
        self._count_operator()
        self._at += 2
        return name

    def _operand(self) -> Operand:
        """Of a condition."""
        function = self._function()
        if function == "size":
            path = self._path_argument(function)
            self._expect(")")
            return Size(Attribute(path))
        if function is not None:
            raise self._invalid(
                f"The function is not allowed to be used this way in an expression; function: {function}"
            )
        return Constant(self._value()) if self._next.startswith(":") else Attribute(self._path())

    # conditions

    def whole_condition(self) -> Condition:
        condition = self._condition()
        if self._next:
            raise self._unexpected()
        return condition

    def _condition(self) -> Condition:
        return self._chain("OR", Some, lambda: self._chain("AND", All, self._either))

    def _chain(
        self, keyword: str, join: Callable[[tuple[Condition, ...]], Condition], one: Callable[[], Condition]
    ) -> Condition:
        conditions = [one()]
        while self._accept(keyword):
            self._count_operator()
            conditions.append(one())
        return join(tuple(conditions)) if len(conditions) > 1 else conditions[0]

    def _either(self) -> Condition:
        if self._is("NOT") or self._next == "(":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self._invalid("The expression is nested too deeply")
            condition = self._negation() if self._accept("NOT") else self._parenthesis()
            self._depth -= 1
            return condition
        function = self._next
        if function != "size" and self._function() is not None:
            return self._call(function)
        return self._comparison()

    def _negation(self) -> Condition:
        self._count_operator()
        return Not(self._either())

    def _parenthesis(self) -> Condition:
        self._expect("(")
        redundant = self._next == "("
        start = self._at
        condition = self._condition()
        if redundant and self._closes(start) == self._at - 1:
            raise self._invalid("The expression has redundant parentheses;")
        self._expect(")")
        return condition

    def _closes(self, at: int) -> int:
        """Where the parenthesis that opens here is closed."""
        depth = 0
        while True:
            depth += {"(": 1, ")": -1}.get(self._tokens[at].text, 0)
            if depth == 0:
                return at
            at += 1

    def _call(self, function: str) -> Condition:
        condition: Condition
        if function in ("attribute_exists", "attribute_not_exists"):
            condition = Exists(self._path_argument(function))
            if function == "attribute_not_exists":
                condition = Not(condition)
        elif function == "attribute_type":
            path = self._path_argument(function)
            self._expect(",")
            condition = HasType(path, self._type_name())
        else:
            operand = self._operand()
            self._expect(",")
            other = self._operand()
            self._check_distinct(function, operand, (other,))
            if function == "begins_with":
                for given in (operand, other):
                    self._check_type(function, given, ("S", "B"))
                condition = BeginsWith(operand, other)
            else:
                condition = Contains(operand, other)
        self._expect(")")
        return condition

    def _type_name(self) -> str:
        operand = Constant(self._value())
        self._check_type("attribute_type", operand, ("S",))
        if operand.value not in TYPES:
            raise self._invalid(
                f"Invalid attribute type name found; type: {operand.value}, valid types: {{{','.join(sorted(TYPES))}}}"
            )
        return str(operand.value)

    def _comparison(self) -> Condition:
        operand = self._operand()
        if self._accept("BETWEEN"):
            self._count_operator()
            low = self._operand()
            self._expect("AND")
            return self._between(operand, low, self._operand())
        if self._accept("IN"):
            self._count_operator()
            return self._in(operand)
        sign = self._next
        if sign not in _SIGNS:
            raise self._unexpected()
        self._take()
        self._count_operator()
        other = self._operand()
        self._check_distinct(sign, operand, (other,))
        if sign not in ("=", "<>"):
            for given in (operand, other):
                self._check_type(sign, given, ORDERED)
        return Compare(sign, operand, other)

    def _between(self, operand: Operand, low: Operand, high: Operand) -> Condition:
        for given in (operand, low, high):
            self._check_type("BETWEEN", given, ORDERED)
        if isinstance(low, Constant) and isinstance(high, Constant):
            bounds = (
                f"lower bound operand: AttributeValue: {_shown(low.value)}, "
                f"upper bound operand: AttributeValue: {_shown(high.value)}"
            )
            if type(low.value) is not type(high.value):
                raise self._invalid(
                    f"The BETWEEN operator requires same data type for lower and upper bounds; {bounds}"
                )
            if not ordered("<=", low.value, high.value):
                raise self._invalid(
                    "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; " + bounds
                )
        self._check_distinct("BETWEEN", operand, (low, high))
        return Between(operand, low, high)

    def _in(self, operand: Operand) -> Condition:
        choices: list[Operand] = []
        self._expect("(")
        self._list(lambda: choices.append(self._operand()))
        self._expect(")")
        if len(choices) > MAX_CHOICES:
            raise self._invalid(
                f"The IN operator is provided with too many operands; number of operands: {len(choices)}"
            )
        self._check_distinct("IN", operand, tuple(choices))
        return In(operand, tuple(choices))

    def _check_distinct(self, name: str, first: Operand, rest: tuple[Operand, ...]) -> None:
        if isinstance(first, Attribute) and first in rest:
            raise self._invalid(
                "The first operand must be distinct from the remaining operands for this operator or function; "
                f"operator: {name}, first operand: {paths.shown(first.path)}"
            )

    def _check_type(self, name: str, operand: Operand, allowed: tuple[str, ...]) -> None:
        found = None
        if isinstance(operand, Constant):
            found = type_of(operand.value)
        elif isinstance(operand, Size):
            found = "N"
        if found is not None and found not in allowed:
            raise self._wrong_type(name, found)

    def _wrong_type(self, name: str, found: str) -> ValidationException:
        return self._invalid(
            f"Incorrect operand type for operator or function; operator or function: {name}, operand type: {found}"
        )

    # updates

    def whole_update(self) -> Update:
        sections: dict[str, Callable[[], Action]] = {
            "SET": self._set,
            "REMOVE": self._remove,
            "ADD": self._add,
            "DELETE": self._delete,
        }
        actions: list[Action] = []
        seen: set[str] = set()
        while self._next:
            section = self._next.upper()
            action = sections.get(section)
            if action is None:
                raise self._unexpected()
            if section in seen:
                raise self._invalid(f'The "{section}" section can only be used once in an update expression;')
            seen.add(section)
            self._take()
            actions.append(action())
            while self._accept(","):
                actions.append(action())
        paths.check_apart(UPDATE, (action.path for action in actions))
        return Update(tuple(actions))

    def _set(self) -> Action:
        path = self._path()
        self._expect("=")
        self._count_operator()
        operand = self._update_operand()
        if self._next in ("+", "-"):
            sign = self._take()
            self._count_operator()
            other = self._update_operand()
            for given in (operand, other):
                self._check_type(sign, given, ("N",))
            operand = Sum(operand, sign, other)
        return Set(path, operand)

    def _update_operand(self) -> Operand:
        function = self._function()
        operand: Operand
        if function == "if_not_exists":
            path = self._path_argument(function)
            self._expect(",")
            operand = IfNotExists(path, self._nested_operand())
        elif function == "list_append":
            left = self._nested_operand()
            self._expect(",")
            right = self._nested_operand()
            for given in (left, right):
                self._check_type(function, given, ("L",))
            operand = ListAppend(left, right)
        else:
            return Constant(self._value()) if self._next.startswith(":") else Attribute(self._path())
        self._expect(")")
        return operand

    def _nested_operand(self) -> Operand:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._invalid("The expression is nested too deeply")
        operand = self._update_operand()
        self._depth -= 1
        return operand

    def _remove(self) -> Action:
        self._count_operator()
        return Remove(self._path())

    def _add(self) -> Action:
        path = self._path()
        return Add(path, self._action_value("ADD", ("N", "SS", "NS", "BS")))

    def _delete(self) -> Action:
        path = self._path()
        return Delete(path, self._action_value("DELETE", ("SS", "NS", "BS")))

    def _action_value(self, action: str, allowed: tuple[str, ...]) -> Value:
        self._count_operator()
        value = self._value()
        found = type_of(value)
        if found not in allowed:
            raise self._invalid(
                f"Incorrect operand type for operator or function; operator: {action}, "
                f"operand type: {_LONG_TYPES.get(found, found)}"
            )
        return value

    # projections

    def whole_projection(self) -> list[Path]:
        found: list[Path] = []
        self._list(lambda: found.append(self._path()))
        if self._next:
            raise self._unexpected()
        paths.check_apart(PROJECTION, found)
        return found


def _shown(value: Value) -> str:
    ((kind, part),) = to_document(value).items()
    return f"{{{kind}:{part}}}"
