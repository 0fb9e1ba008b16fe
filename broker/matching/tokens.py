"""JSON as a stream of tokens with positions, for patterns.

A pattern's own keys may repeat, its numbers count by their digits, and AWS's error texts carry the line and column
at which Jackson's parser stood: neither `json` nor orjson keep any of that. So this walks the text as Jackson 2.21
does, down to two habits that show in the columns: a field name is read together with the first character of its
value, and a string is only read when somebody asks for its text. Patterns are small and read once; speed is no goal.
"""

import json
import re
from typing import NoReturn

MAX_DEPTH = 256  # Jackson stops at 1,000; the compiler here recurses, and nobody nests a hundred deep.
_SOURCE_CHARS = 500  # Jackson's ErrorReportConfiguration quotes so much of the source
_NUMBER_CHARS = 1000  # Jackson's StreamReadConstraints

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_STRING_GOOD_PART = re.compile(r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[\w$]*")
_LITERALS = ("true", "false", "null")
_VALUE = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"


class Malformed(Exception):
    """The text is no pattern. `reason` includes " at [Source: …; line: …, column: …]" where AWS's does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Tokens:
    """`next()` gives "{", "}", "[", "]", "name", "string", "number", "true", "false", "null" or "" at the end."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._open: list[tuple[str, int]] = []  # brackets not yet closed, with where they stand
        self._first = True  # no entry of the innermost bracket has been read
        self._waiting = ("", "")  # kind and text of the value read together with its name
        self._string_at = -1  # where a string not read yet starts
        self._text = ""
        self.kind = ""

    @property
    def text(self) -> str:
        """The current token's text: a name or a string unescaped, a number or literal as written."""
        if self.kind == "string" and self._string_at >= 0:
            self._text = self._string("string value")
        return self._text

    def next(self) -> str:
        if self.kind == "name":
            self.kind, self._text = self._waiting
            return self.kind
        if self._string_at >= 0:
            self._string("string value")
        self._skip_space()
        source, at = self._source, self._at
        if at >= len(source):
            if self._open:
                self._end_of_input()
            self.kind = ""
            return ""
        char = source[at]
        if char in "]}":
            return self._close(char)
        if self._open:
            in_object = self._open[-1][0] == "{"
            if not self._first:
                entries = "Object" if in_object else "Array"
                if char != ",":
                    self._unexpected(at, f"was expecting comma to separate {entries} entries")
                self._at += 1
                self._skip_space()
                if self._at >= len(source):
                    self.fail(f"Unexpected end-of-input within/between {entries} entries")
            self._first = False
            if in_object:
                return self._name()
        self.kind = self._value()
        return self.kind

    def fail(self, message: str) -> NoReturn:
        """The rule's own complaint, at the place reached."""
        raise Malformed(f"{message}\n at {self._location(self._at)}")

    def _name(self) -> str:
        at = self._at
        if self._source[at] != '"':
            self._unexpected(at, "was expecting double-quote to start field name")
        self._string_at = at
        name = self._string("name")
        self._skip_space()
        if self._at >= len(self._source):
            self.fail("Unexpected end-of-input within/between Object entries")
        if self._source[self._at] != ":":
            self._unexpected(self._at, "was expecting a colon to separate field name and value")
        self._at += 1
        self._skip_space()
        if self._at >= len(self._source):
            self.fail("Unexpected end-of-input within/between Object entries")
        self._waiting = (self._value(), self._text)
        self.kind, self._text = "name", name
        return "name"

    def _value(self) -> str:
        source, at = self._source, self._at
        char = source[at]
        if char == '"':
            self._string_at, self._at = at, at + 1
            return "string"
        if char in "{[":
            if len(self._open) >= MAX_DEPTH:
                raise Malformed(
                    f"Document nesting depth ({MAX_DEPTH + 1}) exceeds the maximum allowed ({MAX_DEPTH}, from "
                    "`StreamReadConstraints.getMaxNestingDepth()`)"
                )
            self._open.append((char, at))
            self._first = True
            self._at, self._text = at + 1, char
            return char
        if char == "-" or char in "0123456789":
            return self._number()
        word = _WORD.match(source, at)
        if word is None or word[0] not in _LITERALS:
            self._no_value(at, char)
        self._at, self._text = word.end(), word[0]
        return self._text

    def _number(self) -> str:
        source, at = self._source, self._at
        found = _NUMBER.match(source, at)
        if found is None:  # only a minus
            word = _WORD.match(source, at + 1)
            if word is not None and word[0] in ("INF", "Infinity"):
                self._at = word.end()
                self._non_standard("-" + word[0])
            self._bad_number(at + 1, at + 1, "expected digit (0-9) to follow minus sign, for valid numeric value")
        end, digits = found.end(), found[0].lstrip("-")
        whole = end - len(digits.lstrip("0123456789"))
        following = source[end : end + 1]
        if digits == "0" and following and following in "0123456789":
            self._at = end
            self.fail("Invalid numeric value: Leading zeroes not allowed")
        if following == "." and not set(digits) & set(".eE"):
            self._bad_number(min(end + 1, len(source) - 1), whole, "Decimal point not followed by a digit")
        if following and following in "eE" and not set(digits) & set("eE"):
            signed = source[end + 1 : end + 2] in ("+", "-")
            self._bad_number(end + 1 + signed, whole, "Exponent indicator not followed by a digit")
        if end - at > _NUMBER_CHARS:
            raise Malformed(
                f"Number value length ({end - at}) exceeds the maximum allowed ({_NUMBER_CHARS}, from "
                "`StreamReadConstraints.getMaxNumberLength()`)"
            )
        if not self._open and following and not following.isspace():
            self._unexpected(end, "Expected space separating root-level values")
        self._at, self._text = end, found[0]
        return "number"

    def _bad_number(self, wrong: int, at: int, message: str) -> NoReturn:
        """`wrong` is the character in the way; Jackson points `at` the end of the whole part."""
        if wrong >= len(self._source):
            self._at = wrong
            self.fail("Unexpected end-of-input: in a Number value")
        self._unexpected(wrong, message, at, " in numeric value")

    def _non_standard(self, token: str) -> NoReturn:
        self.fail(f"Non-standard token '{token}': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow")

    def _no_value(self, at: int, char: str) -> NoReturn:
        if char == "+":
            message = "JSON spec does not allow numbers to have plus signs: enable "
            message += "`JsonReadFeature.ALLOW_LEADING_PLUS_SIGN_FOR_NUMBERS` to allow"
            self._unexpected(at, message, at + 1, " in numeric value")
        if char == "}":
            self._unexpected(at, "expected a value")
        word = _WORD.match(self._source, at)
        if word is None or not word[0] or char.isdecimal():
            self._unexpected(at, f"expected a valid value {_VALUE}")
        if word[0] in ("NaN", "Infinity"):
            self._at = word.end()
            self._non_standard(word[0])
        self._at = word.end()
        raise Malformed(f"Unrecognized token '{word[0]}': was expecting {_VALUE}\n at {self._location(at)}")

    def _string(self, what: str) -> str:
        found = _STRING.match(self._source, self._string_at)
        if found is None:
            self._bad_string(self._string_at, what)
        self._string_at, self._at = -1, found.end()
        text: str = json.loads(found[0])
        return text

    def _bad_string(self, start: int, what: str) -> NoReturn:
        source = self._source
        good = _STRING_GOOD_PART.match(source, start + 1)
        at = good.end() if good else start + 1
        if source[at:] == "\\":
            self._at = len(source)
            self.fail("Unexpected end-of-input in character escape sequence")
        if at >= len(source):
            self._at = at
            if what == "name":
                self.fail("Unexpected end-of-input in field name")
            self.fail("Unexpected end-of-input: was expecting closing quote for a string value")
        if source[at] != "\\":
            self._at = at
            self.fail(
                f"Illegal unquoted character ({_shown(source[at])}): has to be escaped using backslash to be "
                f"included in {what}"
            )
        if source[at + 1] != "u":
            self._at = at + 1
            self.fail(f"Unrecognized character escape {_shown(source[at + 1])}")
        wrong = at + 2
        while wrong < len(source) and source[wrong] in "0123456789abcdefABCDEF":
            wrong += 1
        if wrong >= len(source):
            self._at = wrong
            self.fail("Unexpected end-of-input in character escape sequence")
        self._unexpected(wrong, "expected a hex-digit for character escape sequence")

    def _close(self, char: str) -> str:
        if not self._open:
            self._unexpected(self._at, f"expected a valid value {_VALUE}")
        kind, start = self._open[-1]
        if (kind == "{") != (char == "}"):
            expected, name = ("}", "Object") if kind == "{" else ("]", "Array")
            self.fail(
                f"Unexpected close marker '{char}': expected '{expected}' (for {name} starting at "
                f"{self._location(start)})"
            )
        self._open.pop()
        self._first = False
        self._at += 1
        self.kind = self._text = char
        return char

    def _skip_space(self) -> None:
        found = _SPACE.match(self._source, self._at)
        self._at = found.end() if found else self._at
        if self._at < len(self._source) and self._source[self._at] < " ":
            code = ord(self._source[self._at])
            self._at += 1
            self.fail(
                f"Illegal character ((CTRL-CHAR, code {code})): only regular white space (\\r, \\n, \\t) is allowed "
                "between tokens"
            )
        if self._source.startswith("/", self._at):
            self._unexpected(
                self._at,
                "maybe a (non-standard) comment? (not recognized as one since Feature 'ALLOW_COMMENTS' not enabled "
                "for parser)",
            )

    def _end_of_input(self) -> NoReturn:
        kind, start = self._open[-1]
        name = "Object" if kind == "{" else "Array"
        self.fail(
            f"Unexpected end-of-input: expected close marker for {name} (start marker at {self._location(start)})"
        )

    def _unexpected(self, wrong: int, message: str, at: int | None = None, where: str = "") -> NoReturn:
        self._at = wrong + 1  # it has been read, should the rule add where it stands now
        where += f": {message}\n at {self._location(wrong if at is None else at)}"
        raise Malformed(f"Unexpected character ({_shown(self._source[wrong])}){where}")

    def _location(self, at: int) -> str:
        source = self._source
        start, left = _utf16_cut(source, _SOURCE_CHARS)
        quoted = "".join(c if c >= " " or c in "\r\n" else f"\\u{ord(c):04X}" for c in start)
        more = f"[truncated {left} chars]" if left else ""
        before = source[:at].replace("\r\n", "\n").replace("\r", "\n")
        line = before.count("\n") + 1
        column = _utf16_length(before[before.rfind("\n") + 1 :]) + 1
        return f'[Source: (String)"{quoted}"{more}; line: {line}, column: {column}]'


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _utf16_cut(text: str, length: int) -> tuple[str, int]:
    """So much of the text, and how much more there is."""
    units = text.encode("utf-16-le", "surrogatepass")
    return units[: 2 * length].decode("utf-16-le", "replace"), max(0, len(units) // 2 - length)


def _shown(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return f"(CTRL-CHAR, code {code})"
    if code > 0xFFFF:  # Jackson sees the first half, and prints it in an encoding that has no halves
        char, code = "?", 0xD800 + ((code - 0x10000) >> 10)
    return f"'{char}' (code {code})" if code < 0x100 else f"'{char}' (code {code} / 0x{code:x})"
