"""DynamoDB's expressions: the parser and what it makes against a naive evaluator, and AWS's words for mistakes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ValidationException
from broker.tables.expressions import (
    KEY_CONDITION,
    MAX_DEPTH,
    Placeholders,
    parse_condition,
    parse_projection,
    parse_update,
)
from broker.tables.paths import pick
from broker.tables.values import from_document, item_from_document, item_to_document
from engine.naive_expressions import Refused, Writer, holds, plain, updated

# what is asked of what

paths = st.sampled_from([("a",), ("b",), ("c",), ("d", "a"), ("d", "b"), ("e", 0), ("e", 1), ("d", "e", 0)])
numbers = st.sampled_from(["0", "1", "1.0", "-2", "10", "100"]).map(lambda text: {"N": text})
strings = st.sampled_from(["", "a", "ab", "b", "ä", "\U0001f600", "￿"]).map(lambda text: {"S": text})
simple = numbers | strings | st.sampled_from([{"BOOL": True}, {"BOOL": False}, {"NULL": True}])
string_sets = st.sets(st.sampled_from(["a", "b", "ab"]), min_size=1).map(lambda found: {"SS": sorted(found)})
number_sets = st.sets(st.sampled_from(["0", "1", "-2"]), min_size=1).map(lambda found: {"NS": sorted(found)})
documents = st.recursive(
    simple | string_sets | number_sets,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda found: {"L": found})
        | st.dictionaries(st.sampled_from("abe"), inner, max_size=3).map(lambda found: {"M": found})
    ),
    max_leaves=6,
)
items = st.dictionaries(st.sampled_from("abcde"), documents)

path_operands = paths.map(lambda path: ("path", path))
sizes = paths.map(lambda path: ("size", path))
values = documents.map(lambda document: ("value", document))
ordered = (numbers | strings).map(lambda document: ("value", document))


def compare(sign: str, others: Any) -> Any:
    return st.tuples(st.just("compare"), st.just(sign), path_operands | sizes, others)


def bounds() -> Any:
    return st.tuples(numbers, numbers).map(lambda pair: sorted(pair, key=lambda n: float(n["N"]))) | st.tuples(
        strings, strings
    ).map(lambda pair: sorted(pair, key=lambda s: s["S"].encode()))


leaves = st.one_of(
    st.sampled_from(["=", "<>"]).flatmap(lambda sign: compare(sign, values | path_operands)),
    st.sampled_from(["<", "<=", ">", ">="]).flatmap(lambda sign: compare(sign, ordered | path_operands)),
    st.tuples(st.just("exists"), paths),
    st.tuples(st.just("not_exists"), paths),
    st.tuples(st.just("type"), paths, st.sampled_from(["S", "N", "SS", "NS", "M", "L", "NULL", "BOOL", "B"])),
    st.tuples(path_operands, bounds()).map(lambda pair: ("between", pair[0], *(("value", b) for b in pair[1]))),
    st.tuples(path_operands, st.lists(values, min_size=1, max_size=4)).map(lambda pair: ("in", pair[0], *pair[1])),
    st.tuples(st.just("begins_with"), path_operands, strings.map(lambda text: ("value", text))),
    st.tuples(st.just("contains"), path_operands, values),
)
conditions = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or"]), inner, inner) | inner.map(lambda condition: ("not", condition))
    ),
    max_leaves=6,
)


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(ValidationException) as caught:
        call(*arguments)
    return caught.value.message


def condition_of(text: str, values: dict[str, Any] | None = None, names: dict[str, str] | None = None) -> Any:
    found = None if values is None else {key: from_document(value) for key, value in values.items()}
    return parse_condition(text, Placeholders(names, found))


def update_of(text: str, values: dict[str, Any] | None = None, names: dict[str, str] | None = None) -> Any:
    found = None if values is None else {key: from_document(value) for key, value in values.items()}
    return parse_update(text, Placeholders(names, found))


# against the naive evaluator


def has_twins(tree: Any) -> bool:
    """A comparison of an attribute with itself, which AWS refuses."""
    if tree[0] in ("and", "or", "not"):
        return any(has_twins(part) for part in tree[1:])
    return tree[0] == "compare" and tree[2] == tree[3]


@given(conditions.filter(lambda tree: not has_twins(tree)), items, st.sets(st.sampled_from("abcde")))
def test_conditions_hold_as_the_naive_evaluator_says(tree: Any, item: Any, named: set[str]) -> None:
    writer = Writer(named)
    text = writer.condition(tree)
    placeholders = Placeholders(
        writer.names or None, {key: from_document(value) for key, value in writer.values.items()} or None
    )
    condition = parse_condition(text, placeholders)
    placeholders.check_used()
    assert condition.holds(item_from_document(item)) == holds(tree, item), text


def test_an_attribute_is_not_compared_with_itself() -> None:
    assert refusal(condition_of, "a.b = a.b") == (
        "Invalid ConditionExpression: The first operand must be distinct from the remaining operands for this "
        "operator or function; operator: =, first operand: [a, b]"
    )


whole_numbers = st.sampled_from(["0", "1", "-2", "10"]).map(lambda text: {"N": text})
targets = st.sampled_from([("a",), ("b",), ("d", "a"), ("d", "b"), ("e", 0), ("e", 1), ("e", 2), ("e", 7)])
new_values = st.one_of(
    values,
    path_operands,
    st.tuples(st.just("sum"), st.sampled_from("+-"), path_operands, whole_numbers.map(lambda n: ("value", n))),
    st.tuples(st.just("if_not_exists"), paths, values | path_operands),
    st.tuples(
        st.just("list_append"),
        path_operands,
        st.lists(simple, max_size=2).map(lambda found: ("value", {"L": found})),
    ),
)
actions = st.one_of(
    st.tuples(st.just("set"), targets, new_values),
    st.tuples(st.just("remove"), targets),
    st.tuples(st.just("add"), targets, whole_numbers | string_sets | number_sets),
    st.tuples(st.just("delete"), targets, string_sets | number_sets),
)
# Numbers are whole, for the naive evaluator writes them down.
lists_and_maps = {
    "a": documents,
    "b": whole_numbers | string_sets,
    "c": whole_numbers | st.lists(simple, max_size=2).map(lambda found: {"L": found}),
    "d": st.dictionaries(st.sampled_from("abe"), whole_numbers | documents, max_size=3).map(lambda found: {"M": found}),
    "e": st.lists(whole_numbers | simple, max_size=4).map(lambda found: {"L": found}),
}
rich_items = st.fixed_dictionaries({}, optional=lists_and_maps)


@given(st.lists(actions, min_size=1, max_size=4, unique_by=lambda action: action[1]), rich_items)
def test_updates_do_as_the_naive_evaluator_does(given_actions: Any, item: Any) -> None:
    writer = Writer({"b", "e"})
    update = update_of(writer.update(given_actions), writer.values or None, writer.names or None)
    before = item_from_document(item)
    try:
        expected = updated(given_actions, item)
    except Refused:
        refusal(update.apply, before)
    else:
        assert plain({"M": item_to_document(update.apply(before))}) == plain({"M": expected})
    assert plain({"M": item_to_document(before)}) == plain({"M": item}), "an update changes nothing of what was there"


@given(st.text(alphabet="ab#:().,[]<>=01 +-ANDORSETINBETWEEN", max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    values = {":a": {"S": "x"}, ":b": {"N": "1"}}
    names = {"#a": "a", "#b": "b"}
    for parse in (condition_of, update_of):
        with suppress(ValidationException):
            parse(text, values, names)


# by hand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = :1 OR x = :2 AND x = :3", True),
        ("(x = :1 OR x = :2) AND x = :3", False),
        ("NOT x = :1 OR x = :1", True),
        ("NOT (x = :1 OR x = :2)", False),
        ("NOT NOT x = :1", True),
        ("x between :1 And :2 and not x iN (:2,:3)", True),
        ("size(word) = :3 AND begins_with(word, :w)", True),
        ("attribute_type(word, :S) and contains(word, :w)", True),
        (":1 = x", True),
        ("#size = :2 AND m.#size = :3 AND m.li[1].deep = :1", True),
        ("m.li[5] <> :1", True),
    ],
)
def test_precedence_keywords_and_functions(text: str, expected: bool) -> None:
    values = {":1": {"N": "1"}, ":2": {"N": "2"}, ":3": {"N": "3"}, ":w": {"S": "w"}, ":S": {"S": "S"}}
    item = {
        "x": {"N": "1.00"},
        "word": {"S": "wäx"},
        "size": {"N": "2"},
        "m": {"M": {"size": {"N": "3"}, "li": {"L": [{"NULL": True}, {"M": {"deep": {"N": "1"}}}]}}},
    }
    assert condition_of(text, values, {"#size": "size"}).holds(item_from_document(item)) is expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The expression can not be empty;"),
        ("a", 'Syntax error; token: "<EOF>", near: "a"'),
        ("a = :s b", 'Syntax error; token: "b", near: ":s b"'),
        ("a == :s", 'Syntax error; token: "=", near: "== :s"'),
        ("a = !", 'Syntax error; token: "!", near: "= !"'),
        ("a[x] = :s", 'Syntax error; token: "x", near: "[x]"'),
        (
            "a = :nothing",
            "An expression attribute value used in expression is not defined; attribute value: :nothing",
        ),
        (
            "#x = :s",
            "An expression attribute name used in the document path is not defined; attribute name: #x",
        ),
        ("Status = :s", "Attribute name is a reserved keyword; reserved keyword: Status"),
        ("a.name = :s", "Attribute name is a reserved keyword; reserved keyword: name"),
        ("exists(a)", "Invalid function name; function: exists"),
        ("Contains(a, :s)", "Invalid function name; function: Contains"),
        ("a = if_not_exists(a, :s)", "The function is not allowed in this expression; function: if_not_exists"),
        (
            "a = contains(b, :s)",
            "The function is not allowed to be used this way in an expression; function: contains",
        ),
        (
            "attribute_exists(:s)",
            "Operator or function requires a document path; operator or function: attribute_exists",
        ),
        ("((a = :s))", "The expression has redundant parentheses;"),
        (
            "begins_with(a, :n)",
            "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
        ),
        ("a < :t", "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL"),
        (
            "attribute_type(a, :s)",
            "Invalid attribute type name found; type: x, valid types: {B,BOOL,BS,L,M,N,NS,NULL,S,SS}",
        ),
        (
            "a BETWEEN :n AND :zero",
            "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; "
            "lower bound operand: AttributeValue: {N:1}, upper bound operand: AttributeValue: {N:0}",
        ),
        (
            "a BETWEEN :n AND :s",
            "The BETWEEN operator requires same data type for lower and upper bounds; "
            "lower bound operand: AttributeValue: {N:1}, upper bound operand: AttributeValue: {S:x}",
        ),
        (
            "a IN (" + ", ".join([":s"] * 101) + ")",
            "The IN operator is provided with too many operands; number of operands: 101",
        ),
        (
            " OR ".join(["a=:s"] * 200),
            "The expression contains too many operators or functions; operator or function count: 301",
        ),
        ("a = :s " + " " * 4096, "Expression size has exceeded the maximum allowed size; expression size: 4103"),
        ("NOT " * (MAX_DEPTH + 1) + "a = :s", "The expression is nested too deeply"),
        ("(" * 2000, "The expression is nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_condition(text: str, reason: str) -> None:
    values = {":s": {"S": "x"}, ":n": {"N": "1"}, ":zero": {"N": "0"}, ":t": {"BOOL": True}}
    assert refusal(condition_of, text, values) == f"Invalid ConditionExpression: {reason}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CHANGE a = :n", 'Syntax error; token: "CHANGE", near: "CHANGE a"'),
        ("SET a = :n SET b = :n", 'The "SET" section can only be used once in an update expression;'),
        ("SET a :n", 'Syntax error; token: ":n", near: "a :n"'),
        ("SET a = :n,", 'Syntax error; token: "<EOF>", near: ","'),
        (
            "SET a = :n REMOVE a",
            "Two document paths overlap with each other; must remove or rewrite one of these paths; "
            "path one: [a], path two: [a]",
        ),
        (
            "SET a.b = :n, a = :n",
            "Two document paths overlap with each other; must remove or rewrite one of these paths; "
            "path one: [a, b], path two: [a]",
        ),
        (
            "SET a = :n, a.b[3] = :n",
            "Two document paths overlap with each other; must remove or rewrite one of these paths; "
            "path one: [a], path two: [a, b, [3]]",
        ),
        (
            "SET a.b = :n, a[0] = :n",
            "Two document paths conflict with each other; must remove or rewrite one of these paths; "
            "path one: [a, b], path two: [a, [0]]",
        ),
        (
            "SET a = :n + :s",
            "Incorrect operand type for operator or function; operator or function: +, operand type: S",
        ),
        (
            "SET a = list_append(a, :n)",
            "Incorrect operand type for operator or function; operator or function: list_append, operand type: N",
        ),
        (
            "ADD a :s",
            "Incorrect operand type for operator or function; operator: ADD, operand type: STRING",
        ),
        (
            "DELETE a :n",
            "Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER",
        ),
        ("ADD a b", 'Syntax error; token: "b", near: "a b"'),
        ("SET a = size(b)", "The function is not allowed in this expression; function: size"),
        ("SET a = " + "if_not_exists(b, " * 200, "The expression is nested too deeply"),
    ],
)
def test_what_is_wrong_with_an_update(text: str, reason: str) -> None:
    values = {":s": {"S": "x"}, ":n": {"N": "1"}}
    assert refusal(update_of, text, values) == f"Invalid UpdateExpression: {reason}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SET a = gone", "The provided expression refers to an attribute that does not exist in the item"),
        ("SET a = gone + :n", "The provided expression refers to an attribute that does not exist in the item"),
        ("SET a = word + :n", "An operand in the update expression has an incorrect data type"),
        ("SET a = list_append(word, word)", "An operand in the update expression has an incorrect data type"),
        ("ADD word :n", "An operand in the update expression has an incorrect data type"),
        ("SET gone.a = :n", "The document path provided in the update expression is invalid for update"),
        ("SET word[0] = :n", "The document path provided in the update expression is invalid for update"),
        ("REMOVE word.a", "The document path provided in the update expression is invalid for update"),
        ("SET a = big + :n", "Attempting to store more than 38 significant digits in a Number"),
    ],
)
def test_what_an_item_makes_of_an_update(text: str, message: str) -> None:
    item = {"word": {"S": "w"}, "big": {"N": "1e40"}}
    update = update_of(text, {":n": {"N": "1"}})
    assert refusal(update.apply, item_from_document(item)) == message


def test_elements_are_those_that_the_expression_meant() -> None:
    item = item_from_document({"l": {"L": [{"S": text} for text in "abcde"]}})
    update = update_of("SET l[9] = :y, l[1] = :x, l[8] = :z REMOVE l[0], l[3]", {f":{c}": {"S": c} for c in "xyz"})
    assert update.apply(item) == {"l": ["x", "c", "e", "z", "y"]}


def test_an_update_copies_what_it_reads() -> None:
    item = item_from_document({"l": {"L": [{"S": "a"}]}})
    assert update_of("SET m = l, l[0] = :x", {":x": {"S": "x"}}).apply(item) == {"m": ["a"], "l": ["x"]}


def test_a_placeholder_must_be_used_and_well_formed() -> None:
    placeholders = Placeholders({"#a": "a"}, {":a": "x", ":b": "y"})
    parse_condition("#a = :a", placeholders)
    assert refusal(placeholders.check_used) == (
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {:b}"
    )
    assert refusal(Placeholders, {"a": "a"}) == (
        'ExpressionAttributeNames contains invalid key: Syntax error; key: "a"'
    )
    assert refusal(Placeholders, None, {}) == "ExpressionAttributeValues must not be empty"


def test_a_refusal_names_the_parameter() -> None:
    message = refusal(parse_condition, "a", Placeholders(), KEY_CONDITION)
    assert message == 'Invalid KeyConditionExpression: Syntax error; token: "<EOF>", near: "a"'


def test_projections_pick_parts() -> None:
    item = item_from_document(
        {
            "a": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}},
            "l": {"L": [{"S": "0"}, {"S": "1"}, {"S": "2"}]},
            "b": {"S": ""},
        }
    )
    found = parse_projection("l[2], a.x, gone, l[0], l[9].z", Placeholders())
    assert item_to_document(pick(item, found)) == {"a": {"M": {"x": {"N": "1"}}}, "l": {"L": [{"S": "0"}, {"S": "2"}]}}
    assert refusal(parse_projection, "a, a.x", Placeholders()) == (
        "Invalid ProjectionExpression: Two document paths overlap with each other; must remove or rewrite one of "
        "these paths; path one: [a], path two: [a, x]"
    )
