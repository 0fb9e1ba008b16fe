import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.matching.json_path import MISSING, InvalidPath, compile_path

EVENT: dict[str, Any] = {
    "version": "0",
    "detail-type": "EC2 Instance State-change Notification",
    "resources": ["arn:1", "arn:2"],
    "detail": {
        "instance-id": "i-0123456789",
        "state_now": "RUNNING",
        "a b": 1,
        "it's": 2,
        'a"b': 3,
        "a.b": 4,
        "aws:tag/é": 5,
        "path/to": 6,
        "nothing": None,
        "empty": [],
        "items": [{"id": 1, "tags": ["x", "y"]}, {"id": 2}, {"tags": []}, "text"],
        "grid": [[1, 2], [3]],
    },
}


def find(path: str, event: Any = EVENT) -> Any:
    return compile_path(path).find(event)


def test_values() -> None:
    assert find("$") is EVENT
    assert find("$.detail") is EVENT["detail"]
    assert find("$.detail-type") == "EC2 Instance State-change Notification"
    assert find("$.detail.instance-id") == "i-0123456789"
    assert find("$.detail.state_now") == "RUNNING"
    assert find("$.detail.path/to") == 6
    assert find("$.detail.aws:tag/é") == 5
    assert find("$.detail.nothing") is None
    assert find("$.detail.empty") == []
    assert find("$[0]", [1]) == 1
    assert find("$", 5) == 5


def test_names_in_brackets() -> None:
    assert find("$['detail']['a b']") == 1
    assert find('$.detail["a b"]') == 1
    assert find("$.detail['it\\'s']") == 2
    assert find('$.detail["it\'s"]') == 2
    assert find("$.detail['a\"b']") == 3
    assert find("$.detail['a.b']") == 4
    assert find("$.detail.a.b") is MISSING
    assert find("$['']", {"": 1}) == 1
    assert find("$['*']", {"*": 1}) == 1


def test_indices() -> None:
    assert find("$.resources[0]") == "arn:1"
    assert find("$.resources[-1]") == "arn:2"
    assert find("$.resources[2]") is MISSING
    assert find("$.resources[-3]") is MISSING
    assert find("$.detail.grid[0][1]") == 2
    assert find("$.detail[0]") is MISSING
    assert find("$.version[0]") is MISSING
    assert find("$.detail.0", {"detail": {"0": 1}}) == 1


def test_missing() -> None:
    for path in ("$.nothing", "$.detail.nothing.more", "$.version.x", "$.resources.x", "$.detail.empty[0]"):
        assert find(path) is MISSING
    assert find("$.a", None) is MISSING


def test_wildcards_find_lists() -> None:
    assert find("$.resources[*]") == ["arn:1", "arn:2"]
    assert find("$.resources.*") == ["arn:1", "arn:2"]
    assert find("$.detail.items[*].id") == [1, 2]
    assert find("$.detail.items[*].tags[*]") == ["x", "y"]
    assert find("$.detail.items[*].tags[0]") == ["x"]
    assert find("$.detail.grid[*][-1]") == [2, 3]
    assert find("$.*.instance-id") == ["i-0123456789"]
    assert find("$.*", {"b": 1, "a": [2]}) == [1, [2]]
    assert find("$.version[*]") == []
    assert find("$.detail.empty[*]") == []
    assert find("$.gone[*]") is MISSING


def test_what_is_found_is_not_the_events_own_list() -> None:
    event = {"a": [1]}
    find("$.a[*]", event).append(2)
    assert event == {"a": [1]}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("", "start with '$'"),
        ("detail", "start with '$'"),
        (" $", "start with '$'"),
        ("$.", "the end at position 2"),  # AWS refuses it: aws/aws-cdk issue 31851
        ("$detail", "'d' at position 1"),
        ("$..a", "'.' at position 2"),
        ("$.a.", "the end at position 4"),
        ("$.a b", "' ' at position 3"),
        ("$.a[", "the end at position 4"),
        ("$.a[]", "']' at position 4"),
        ("$.a[0", "the end at position 5"),
        ("$.a[0:2]", "':' at position 5"),
        ("$.a[0,1]", "',' at position 5"),
        ("$.a[+1]", "'+' at position 4"),
        ("$.a['b]", "''' at position 4"),
        ("$.a['b\\']", "''' at position 4"),
        ("$.a['b','c']", "',' at position 7"),
        ("$.a[?(@.b)]", "'?' at position 4"),
        ("$.a.length()", "'(' at position 10"),
        ("$.a['b'", "the end at position 7"),
        ("$.**", "'*' at position 3"),
        ("$.a]", "']' at position 3"),
        ("$.a[9999999999]", "'9' at position 13"),
    ],
)
def test_refused(path: str, place: str) -> None:
    with pytest.raises(InvalidPath) as refused:
        compile_path(path)
    assert place in refused.value.reason
    assert str(refused.value) == refused.value.reason


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.data())
def test_the_way_to_every_place(event: Any, data: st.DataObject) -> None:
    value, path = event, "$"
    while isinstance(value, dict | list) and value and data.draw(st.booleans()):
        if isinstance(value, dict):
            key = data.draw(st.sampled_from(sorted(value)))
            value = value[key]
            path += "['" + key.replace("\\", "\\\\").replace("'", "\\'") + "']"
        else:
            index = data.draw(st.integers(-len(value), len(value) - 1))
            value = value[index]
            path += f"[{index}]"
    assert find(path, event) is value


@given(st.text() | st.text("$.[]'\"*-0a\\ ").map("${}".format), JSON)
def test_anything(text: str, event: Any) -> None:
    with contextlib.suppress(InvalidPath):
        found = find(text, event)
        assert found is MISSING or json.dumps(found)
