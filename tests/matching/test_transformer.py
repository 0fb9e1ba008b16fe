"""The guide's examples ("Amazon EventBridge input transformation", the API reference, the pipes' page), word for word
where they are consistent, and what follows from its "Common issues"."""

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.matching.transformer import (
    MAX_TEMPLATE_CHARS,
    RESERVED,
    InvalidTransformer,
    RuleContext,
    TargetInput,
    Transformer,
    compact,
)

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2015-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {"instance-id": "i-0123456789", "state": "RUNNING"},
}
PATHS = {"timestamp": "$.time", "instance": "$.detail.instance-id", "state": "$.detail.state"}
RULE = RuleContext("arn:aws:events:us-east-2:123456789012:rule/example", "example", "2015-11-11T21:29:55Z")


def transform(template: str, paths: dict[str, str] = PATHS, event: dict[str, Any] = EVENT) -> str:
    return Transformer(paths, template).apply(event, compact(event), RULE)


def given_detail(template: str, detail: Any) -> str:
    return transform(template, {"x": "$.detail"}, {"detail": detail})


def refusal(template: str, paths: dict[str, str] = PATHS) -> str:
    with pytest.raises(InvalidTransformer) as refused:
        Transformer(paths, template)
    return refused.value.reason


# The guide's table ------------------------------------------------------------------------------


def test_simple_string() -> None:
    assert transform('"instance <instance> is in <state>"') == '"instance i-0123456789 is in RUNNING"'


def test_string_with_escaped_quotes() -> None:
    expected = r'"instance \"i-0123456789\" is in RUNNING"'
    assert transform(r'"instance \"<instance>\" is in <state>"') == expected
    # What the guide says of the AWS CLI, whose shell has taken the backslashes away.
    assert transform('"instance "<instance>" is in <state>"') == '"instance "i-0123456789" is in RUNNING"'


def test_simple_json() -> None:
    template = '{\n  "instance" : <instance>,\n  "state": <state>\n}'
    assert transform(template) == '{\n  "instance" : "i-0123456789",\n  "state": "RUNNING"\n}'


def test_json_with_strings_and_variables() -> None:
    template = r"""{
 "instance" : <instance>,
 "state": "<state>",
 "instanceStatus": "instance \"<instance>\" is in <state>"
}"""
    assert (
        transform(template)
        == r"""{
 "instance" : "i-0123456789",
 "state": "RUNNING",
 "instanceStatus": "instance \"i-0123456789\" is in RUNNING"
}"""
    )


def test_json_with_a_mix_of_variables_and_static_information() -> None:
    template = '{"instance" : <instance>, "state": [ 9, <state>, true ], "Transformed" : "Yes"}'
    expected = '{"instance" : "i-0123456789", "state": [ 9, "RUNNING", true ], "Transformed" : "Yes"}'
    assert transform(template) == expected


def test_reserved_variables_in_json() -> None:
    template = """{
  "instance" : <instance>,
  "ruleArn" : <aws.events.rule-arn>,
  "ruleName" : <aws.events.rule-name>,
  "received" : <aws.events.event.ingestion-time>,
  "originalEvent" : <aws.events.event.json>,
  "envelope" : <aws.events.event>
}"""
    assert json.loads(transform(template)) == {
        "instance": "i-0123456789",
        "ruleArn": "arn:aws:events:us-east-2:123456789012:rule/example",
        "ruleName": "example",
        "received": "2015-11-11T21:29:55Z",
        "originalEvent": EVENT,
        "envelope": {key: value for key, value in EVENT.items() if key != "detail"},
    }


def test_the_event_as_json_is_the_very_text() -> None:
    text = '{"detail":{"n":1.0e2,"n":2}, "x":"\\u0041"}'
    template = '{"e":<aws.events.event.json>}'
    assert Transformer({}, template).apply(orjson.loads(text), text, RULE) == '{"e":' + text + "}"


def test_reserved_variables_in_a_string() -> None:
    assert transform('"<aws.events.rule-name> triggered"') == '"example triggered"'
    assert transform('"<aws.events.rule-arn> at <aws.events.event.ingestion-time>"') == (
        '"arn:aws:events:us-east-2:123456789012:rule/example at 2015-11-11T21:29:55Z"'
    )


def test_cloudwatch_log_group() -> None:
    """The guide prints what the log shows, not this."""
    template = r'{"timestamp" : <timestamp>, "message": "instance \"<instance>\" is in <state>"}'
    assert json.loads(transform(template)) == {
        "timestamp": "2015-11-11T21:29:54Z",
        "message": 'instance "i-0123456789" is in RUNNING',
    }


# The API reference ------------------------------------------------------------------------------


def test_the_references_examples() -> None:
    paths = {"instance": "$.detail.instance-id", "status": "$.detail.state"}
    assert transform("<instance> is in state <status>", paths) == "i-0123456789 is in state RUNNING"
    assert transform('<instance> is in state "<status>"', paths) == 'i-0123456789 is in state "RUNNING"'
    template = r'{"myInstance": <instance>,"myStatus": "<instance> is in state \"<status>\""}'
    expected = r'{"myInstance": "i-0123456789","myStatus": "i-0123456789 is in state \"RUNNING\""}'
    assert transform(template, paths) == expected


# The common issues ------------------------------------------------------------------------------


def test_outside_quotes_a_value_is_json() -> None:
    values: list[Any] = ["a", 'a"b\\c\n', "é", "", 1, -2.5, 10**30, True, False, None, [], {}, ["a", {"b": None}]]
    for value in values:
        assert json.loads(given_detail('{"a":<x>}', value)) == {"a": value}
    assert given_detail("[<x>, <x>]", {"a": "é"}) == '[{"a":"é"}, {"a":"é"}]'


def test_inside_quotes_a_value_is_text() -> None:
    answers: dict[str, Any] = {"1": 1, "-2.5": -2.5, "true": True, "null": None, "é": "é", "": ""}
    for text, value in answers.items():
        assert given_detail('{"a":"<x>"}', value) == f'{{"a":"{text}"}}'
        assert given_detail('"= <x>"', value) == f'"= {text}"'


def test_inside_quotes_a_string_is_not_escaped() -> None:
    assert given_detail('{"a":"<x>"}', 'a"b\n\\') == '{"a":"a"b\n\\"}'


def test_inside_quotes_objects_and_arrays_lose_their_quotes() -> None:
    assert given_detail('"Detail is <x>"', {"key": "value"}) == '"Detail is {key:value}"'
    assert given_detail('{"a":"<x>"}', ["b", {"c": 1}]) == '{"a":"[b,{c:1}]"}'
    value = {"a": 'say "x" \\ \n', 'b"': [None, "\\"]}
    assert json.loads(given_detail('{"a":"<x>"}', value)) == {"a": "{a:say x \\ \n,b:[null,\\]}"}
    assert transform('"<aws.events.event.json>"', {}, {"detail": {"a": "b"}}) == '"{detail:{a:b}}"'
    assert transform('"<aws.events.event>"', {}, {"detail": {}, "a": "b"}) == '"{a:b}"'


def test_by_itself_an_object_is_a_string_of_its_remains() -> None:
    """The pipes' page: `{"key": "value"}` becomes `"{key: value}"`."""
    assert given_detail("<x>", {"key": "value"}) == '"{key:value}"'
    assert given_detail(" <x>\n", ["a"]) == ' "[a]"\n'
    assert given_detail("<x>", "text") == '"text"'
    assert given_detail("<x>", 'a"b') == r'"a\"b"'
    assert given_detail("<x>", 5) == "5"
    assert transform("<gone>", {"gone": "$.gone"}) == '""'


def test_what_is_missing_does_not_appear() -> None:
    paths = {"gone": "$.detail.gone", "state": "$.detail.state"}
    assert transform('{"a":"<gone>","b":"x<gone>y","c":<state>}', paths) == '{"a":"","b":"xy","c":"RUNNING"}'
    assert transform('"<gone><state>"', paths) == '"RUNNING"'
    assert transform('{"a": <gone>}', paths) == '{"a": }'


def test_wildcards_and_indices() -> None:
    paths = {"all": "$.resources[*]", "first": "$.resources[0]", "none": "$.detail.*.x"}
    event = {"resources": ["a", "b"], "detail": {"y": 1}}
    assert transform('{"all":<all>,"first":<first>,"none":<none>}', paths, event) == (
        '{"all":["a","b"],"first":"a","none":[]}'
    )


def test_multi_line_strings() -> None:
    template = '"instance <instance>"\n"is in <state>"\n\n"\\"<aws.events.rule-name>\\""\n'
    assert transform(template) == '"instance i-0123456789"\n"is in RUNNING"\n\n"\\"example\\""\n'


def test_several_objects() -> None:
    assert transform('{"a":<state>}\n{"b":<state>}\n') == '{"a":"RUNNING"}\n{"b":"RUNNING"}\n'


def test_brackets_around_no_variable_are_text() -> None:
    assert transform('"<b><state></b> <> <<state>> 1 < 2 > 1 <aws.events>"') == (
        '"<b>RUNNING</b> <> <RUNNING> 1 < 2 > 1 <aws.events>"'
    )
    assert transform(r'{"a":"\u003cstate\u003e"}') == r'{"a":"\u003cstate\u003e"}'


def test_no_variables() -> None:
    assert transform('{"a": 1}', {}) == '{"a": 1}'
    assert transform("5", {}) == "5"


def test_a_value_is_not_a_template() -> None:
    assert transform('"<a><b>"', {"a": "$.a", "b": "$.b"}, {"a": "<b>", "b": '"<a>"'}) == '"<b>"<a>""'


def test_odd_values() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"a": [deep]}
    text = given_detail('{"a":<x>}', deep)
    assert text == '{"a":' + '{"a":[' * 900 + "1" + "]}" * 900 + "}"
    assert given_detail('"<x>"', deep) == '"' + "{a:[" * 900 + "1" + "]}" * 900 + '"'
    half = json.loads('"a\\ud800"')
    assert given_detail('{"a":<x>}', half) == r'{"a":"a\ud800"}'
    assert given_detail('"<x>"', half) == '"a?"'
    assert given_detail("[<x>]", {half: [2**70, 1], "b": {}, "c": []}) == (
        r'[{"a\ud800":[1180591620717411303424,1],"b":{},"c":[]}]'
    )


# What PutTargets refuses ------------------------------------------------------------------------


def test_what_is_no_json() -> None:
    assert refusal("EC2 Patch Notification: instance <instance> <state>").startswith("Unrecognized token 'EC2'")
    for template in (
        '{"a": <instance>',
        '{"a": <instance>}}',
        '{"a": <instance>} x',
        '{"a": <unknown>}',
        '{"a": 1<instance>}',
        '{"a": "x"<instance>}',
        '{"a": <instance><state>}',
        '{"a": "b\nc"}',
        '{"a": "\\x"}',
        '{"a": 01}',
        "{'a': 1}",
        '{"a": 1,}',
        '"no end',
        "<unknown>",
        "[" * 8000,
        " \n",
    ):
        assert refusal(template)


def test_a_placeholder_is_no_key() -> None:
    assert refusal("{<instance>: 1}").startswith("Unexpected character ('n'")
    assert refusal('{"<instance>": 1}') == "Placeholder <instance> is used as an object key"
    assert refusal('{"a": [{"of <aws.events.rule-name>": 1}]}') == (
        "Placeholder <aws.events.rule-name> is used as an object key"
    )
    assert transform('{"<b>": 1}') == '{"<b>": 1}'


def test_limits() -> None:
    hundred = {f"v{n}": "$.detail" for n in range(100)}
    transform('"<v99>"', hundred)
    assert refusal('"<v99>"', hundred | {"v100": "$.detail"}) == "InputPathsMap has 101 variables, more than 100"
    longest = '"' + "x" * (MAX_TEMPLATE_CHARS - 2) + '"'
    assert transform(longest) == longest
    assert refusal(longest + " ") == "InputTemplate has 8193 characters, not 1 to 8192"
    assert refusal("") == "InputTemplate has 0 characters, not 1 to 8192"


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "a" * 257, "a\n", *sorted(RESERVED)])
def test_keys(name: str) -> None:
    assert refusal('"x"', {name: "$.detail"}) == f"'{name}' is not a valid key of InputPathsMap"


def test_paths() -> None:
    assert transform('"<A-z_0>"', {"A-z_0": "$.source"}) == '"aws.ec2"'
    assert refusal('"x"', {"a": "$."}) == (
        "InputPathsMap, key 'a': Unexpected the end at position 2 of JSON path '$.': expected a name or '*'"
    )


# A target's input -------------------------------------------------------------------------------


def render(event: dict[str, Any] = EVENT, **target: Any) -> str:
    return TargetInput.compile({"Id": "t", "Arn": "a", **target}).render(event, compact(event), RULE)


def test_the_whole_event() -> None:
    text = compact(EVENT)
    assert TargetInput.compile({"Id": "t", "Arn": "a"}).render(EVENT, text, RULE) is text
    assert TargetInput.compile({"Id": "t", "InputPath": "$"}).render(EVENT, text, RULE) is text


def test_a_constant() -> None:
    for text in ('{"a": "<instance>"}', '"x"', "5", " null\n", "[]"):
        assert render(Input=text) == text


def test_a_part_of_the_event() -> None:
    assert render(InputPath="$.detail") == '{"instance-id":"i-0123456789","state":"RUNNING"}'
    assert render(InputPath="$.detail.state") == '"RUNNING"'
    assert render(InputPath="$['resources'][0]") == '"arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"'
    assert render(InputPath="$.detail.*") == '["i-0123456789","RUNNING"]'
    assert render(InputPath="$.gone") == "null"


def test_a_template() -> None:
    assert render(InputTransformer={"InputPathsMap": PATHS, "InputTemplate": '{"s":<state>}'}) == '{"s":"RUNNING"}'
    assert render(InputTransformer={"InputTemplate": '{"r":<aws.events.rule-name>}'}) == '{"r":"example"}'


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"Input": "x"}, "Input for target t is not a valid JSON text."),
        ({"Input": ""}, "Input for target t is not a valid JSON text."),
        ({"Input": '"open'}, "Input for target t is not a valid JSON text."),
        ({"Input": "{} {}"}, "Input for target t is not a valid JSON text."),
        ({"InputPath": "detail"}, "Invalid InputPath for target t : A JSON path must start with '$'."),
        (
            {"Input": "1", "InputPath": "$"},
            "Only one of Input, InputPath, or InputTransformer must be provided for target t.",
        ),
        (
            {"InputTransformer": {"InputTemplate": '{"<aws.events.event>":1}'}},
            "Invalid InputTransformer for target t : Placeholder <aws.events.event> is used as an object key.",
        ),
    ],
)
def test_refused_targets(target: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTransformer) as refused:
        render(**target)
    assert refused.value.reason == message


# Random ones ------------------------------------------------------------------------------------

QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
NAMES = ["a", "b-1", "C_", "gone"]
ALL_PATHS = {name: f"$.detail.{name}" for name in NAMES}
VARIABLES = [*NAMES, "aws.events.rule-name", "aws.events.event", "aws.events.event.json"]


class Hole:
    """A variable in a template that is still a value."""

    def __init__(self, name: str) -> None:
        self.name = name


KEYS = st.text('<>ab"\\é', max_size=4).filter(lambda key: "<a>" not in key and "<b>" not in key)  # no placeholders
TEMPLATES = st.recursive(
    st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(VARIABLES).map(Hole),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
).filter(lambda template: isinstance(template, dict | list))


def filled(template: Any, event: dict[str, Any]) -> Any:
    if isinstance(template, Hole):
        return {
            "aws.events.rule-name": RULE.rule_name,
            "aws.events.event": {key: value for key, value in event.items() if key != "detail"},
            "aws.events.event.json": event,
        }.get(template.name, event["detail"].get(template.name))
    if isinstance(template, dict):
        return {key: filled(value, event) for key, value in template.items()}
    return [filled(value, event) for value in template] if isinstance(template, list) else template


def written(template: Any) -> str:
    if isinstance(template, Hole):
        return f"<{template.name}>"
    if isinstance(template, dict):
        return "{" + ", ".join(f"{json.dumps(key)} : {written(value)}" for key, value in template.items()) + "}"
    if isinstance(template, list):
        return "[ " + ",".join(map(written, template)) + "\n]"
    return json.dumps(template, ensure_ascii=False)


@QUICK
@given(TEMPLATES, st.fixed_dictionaries(dict.fromkeys(NAMES, JSON)))
def test_a_json_template_gives_json(template: Any, detail: dict[str, Any]) -> None:
    event = {"source": "s", "detail": detail}
    text = written(template)
    assert json.loads(transform(text, ALL_PATHS, event)) == filled(template, event)


@QUICK
@given(
    st.lists(st.sampled_from(VARIABLES) | JSON.map(compact), max_size=4), JSON.filter(lambda v: not isinstance(v, str))
)
def test_inside_quotes_all_but_strings_stay_json(pieces: list[str], value: Any) -> None:
    inner = "".join(f"<{piece}>" if piece in VARIABLES else json.dumps(piece)[1:-1] for piece in pieces)
    event = {"source": "s", "detail": dict.fromkeys(NAMES[:3], value)}
    found = json.loads(transform(f'"{inner}"', ALL_PATHS, event))
    assert isinstance(found, str)
    assert json.loads(transform(f'{{"k":"{inner}"}}', ALL_PATHS, event)) == {"k": found}


BITS = [*(f"<{name}>" for name in VARIABLES), '"', "{", "}", "[", "]", ",", ":", "\\", "<", ">", " ", "\n", "1", "null"]
BITS += ["x", "é", "\ud800", "\x00", '"k":', "<a", "a>"]


@settings(QUICK, max_examples=400)
@given(st.text() | st.lists(st.sampled_from(BITS), max_size=12).map("".join), JSON)
def test_anything(template: str, value: Any) -> None:
    with contextlib.suppress(InvalidTransformer):
        transform(template, ALL_PATHS, {"detail": value})
    with contextlib.suppress(InvalidTransformer):
        render(Input=template)
    with contextlib.suppress(InvalidTransformer):
        render(InputPath=template)
    with contextlib.suppress(InvalidTransformer):
        Transformer({template: template}, '"x"')
