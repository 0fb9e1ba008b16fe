"""The pages /_sidebus/faults of a real process, and the Python client of all control pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from broker.faults import profiles
from broker.faults.kinds import KINDS
from protocols.testing.control import Control, ControlError, Unreachable

Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def bent(start_sidebus: Callable[..., Any]) -> Any:
    """A process of our own: a plan and a clock are everybody's."""
    return start_sidebus()


@pytest.fixture
def control(bent: Any) -> Iterator[Control]:
    with Control(bent.url) as control:
        yield control
        control.faults.clear()
        control.clock.restore()
        control.ledger.off()
        control.ledger.clear()


def page(sidebus: Any, method: str, path: str = "", body: object = None) -> tuple[int, Any]:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = sidebus.request(method, "/_sidebus/faults" + path, {}, content)
    assert answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(answer.body)


# Pages


def test_a_plan_comes_and_goes(bent: Any, control: Control) -> None:
    assert page(bent, "GET") == (200, {"plan": None})
    shown = {
        "plan": {"seed": 42, "rule": [{"fault": "late", "name": "late", "delay": "5s", "service": "sqs"}]},
        "seed": 42,
        "rules": [{"name": "late", "kind": "late", "matched": 0, "struck": 0, "exhausted": False}],
    }
    assert page(bent, "PUT", body={"seed": 42, "rules": [{"fault": "late", "service": "sqs"}]}) == (200, shown)
    assert page(bent, "GET") == (200, shown)
    status, added = page(bent, "POST", "/rules", {"fault": "throttle", "name": "a b"})
    assert (status, added["added"], len(added["rules"])) == (200, "a b", 2)
    assert page(bent, "DELETE", "/rules?name=a%20b") == (200, shown)
    assert page(bent, "DELETE") == (200, {"plan": None})


def test_a_profile_with_a_seed(bent: Any, control: Control) -> None:
    status, shown = page(bent, "PUT", body={"profile": "aws-like", "seed": "a text"})
    assert (status, shown["seed"], shown["profile"]) == (200, "a text", "aws-like")
    assert [rule["fault"] for rule in shown["plan"]["rule"]] == [
        rule["fault"] for rule in profiles.PROFILES["aws-like"][1]
    ]


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_holds_against_the_real_operations(control: Control, name: str) -> None:
    assert control.faults.profile(name)["profile"] == name


def test_profiles_can_be_loaded_as_they_are_shown(bent: Any, control: Control) -> None:
    status, answer = page(bent, "GET", "/profiles")
    assert (status, list(answer["profiles"])) == (200, list(profiles.PROFILES))
    for profile in answer["profiles"].values():
        assert page(bent, "PUT", body=profile["plan"])[0] == 200


def test_kinds(bent: Any) -> None:
    status, answer = page(bent, "GET", "/kinds")
    assert (status, [kind["fault"] for kind in answer["kinds"]]) == (200, list(KINDS))
    late = next(kind for kind in answer["kinds"] if kind["fault"] == "late")
    assert late["parameters"][0]["default"] == "5s"
    assert late["operations"] == {"sqs": ["SendMessage", "SendMessageBatch", "Deliver"]}


def test_refusals(bent: Any, control: Control) -> None:
    control.faults.add(fault="late")
    before = page(bent, "GET")
    status, answer = page(bent, "PUT", body=b"{")
    assert status == 400
    assert answer["error"].startswith("The body is not JSON: ")
    misspelt = {"fault": "throttle", "service": "kinesis", "operation": "GetRecord"}
    sentence = "kinesis has no operation 'GetRecord'. Did you mean GetRecords?"
    assert page(bent, "PUT", body={"rule": [misspelt]}) == (400, {"error": f"Rule 1: {sentence}"})
    assert page(bent, "POST", "/rules", misspelt) == (400, {"error": sentence})
    assert page(bent, "POST", "/rules", [])[0] == 400
    assert page(bent, "PUT", body=[])[0] == 400
    sentence = "There is no rule 'lat' in force. Did you mean late?"
    assert page(bent, "DELETE", "/rules?name=lat") == (404, {"error": sentence})
    assert page(bent, "DELETE", "/rules")[0] == 404
    assert page(bent, "POST")[0] == 405
    assert page(bent, "GET") == before


def test_a_page_of_another_site_may_not(bent: Any) -> None:
    answer = bent.request("PUT", "/_sidebus/faults", {"Origin": "http://evil.example"}, b'{"profile": "poison"}')
    assert answer.status == 403
    assert page(bent, "GET") == (200, {"plan": None})


def test_a_rule_strikes_whom_it_names(bent: Any, control: Control, connect: Connect, account: str) -> None:
    sqs = connect(bent)
    sqs.create_queue(QueueName="orders")
    rule = {"fault": "error", "code": "InternalFailure", "operation": "ListQueues", "account": account, "count": 1}
    with control.faults.add(rule) as added:
        with pytest.raises(ClientError, match="InternalFailure"):
            sqs.list_queues()
        assert len(sqs.list_queues()["QueueUrls"]) == 1
        assert (added.struck, added.matched) == (1, 1)
    assert control.faults.show()["plan"] is None


# The client


def test_plans_and_rules_end_with_their_block(control: Control) -> None:
    with control.faults.load({"rule": [{"fault": "late"}]}, seed=3) as plan:
        assert plan.seed == 3
        assert str(plan) == "fault plan, seed 3\n  late: late, struck 0 of 0 that matched"
        with control.faults.add(fault="stall", for_="5s", from_="1h", name="mine") as rule:
            assert rule.name == "mine"
            assert control.faults.show()["plan"]["rule"][1]["for"] == "5s"
        assert list(control.faults.show().struck) == ["late"]
        with control.faults.add(fault="throttle"):
            control.faults.clear()  # another hand; the block ends all the same
    assert str(control.faults.show()) == "no fault plan"
    with pytest.raises(ControlError, match="is no longer in force"):
        _ = rule.struck


def test_a_plan_from_a_file(control: Control, tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text('seed = 5\n[[rule]]\nfault = "late"\nuntil = 2999-01-01T00:00:00Z\n')
    plan = control.faults.load(file)
    assert (plan.seed, plan["plan"]["rule"][0]["until"]) == (5, "2999-01-01T00:00:00+00:00")
    other = tmp_path / "plan.json"
    other.write_text('{"profile": "poison"}')
    assert control.faults.load(str(other), seed=6).seed == 6


def test_the_clock(control: Control) -> None:
    control.clock.freeze()
    before = control.clock.now()
    assert abs(before - datetime.now(UTC)) < timedelta(minutes=1)
    control.clock.advance("1h")
    control.clock.advance(timedelta(minutes=30))
    assert control.clock.advance(1800)["frozen"]
    assert control.clock.now() - before == timedelta(hours=2)
    control.clock.set(before.replace(tzinfo=None))
    assert control.clock.now() == before
    control.clock.resume()
    assert control.clock.speed(60)["speed"] == 60
    assert control.clock.dates("machine")["dates"] == "machine"
    state = control.clock.restore()
    assert (state["speed"], state["dates"], state["frozen"]) == (1, "broker", False)
    with pytest.raises(ControlError, match="fortnight"):
        control.clock.advance("fortnight")


def test_the_ledger(bent: Any, control: Control, connect: Connect, account: str) -> None:
    sqs = connect(bent)
    assert control.ledger.on(capacity=5000) == {"enabled": True, "entries": 0, "capacity": 5000, "dropped": 0}
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sent = sqs.send_message(QueueUrl=url, MessageBody="x")["MessageId"]
    ledger = Control(bent.url, account=account, region="us-east-1").ledger
    message = sqs.receive_message(QueueUrl=url)["Messages"][0]
    ledger.effect(sent, "orders")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert ledger.verdict("orders")
    ledger.effect(sent, "orders")
    verdict = ledger.verdict("orders")
    assert not verdict.passed
    assert ("done-more-than-once", [sent]) in [(defect.name, defect.message_ids) for defect in verdict.defects]
    assert str(verdict) == repr(verdict) == verdict.document["text"]
    assert sent in ledger.show(sent)
    events = [entry["event"] for entry in ledger.entries(queue="orders")]
    assert {"sent", "delivered", "effect", "acknowledged"} <= set(events)
    assert [entry["event"] for entry in ledger.entries(queue="orders", limit=2)] == events[:2]
    with pytest.raises(ControlError) as unknown:
        ledger.show("nothing")
    assert unknown.value.status == 404
    assert control.ledger.off()["enabled"] is False


def test_health_and_reset(bent: Any, control: Control, connect: Connect, account: str) -> None:
    assert control.health()["status"] == "ready"
    sqs = connect(bent)
    sqs.create_queue(QueueName="orders")
    control.reset(account)
    assert "QueueUrls" not in sqs.list_queues()
    with pytest.raises(ControlError, match="twelve digits"):
        control.reset("12")


def test_where_nobody_answers() -> None:
    with pytest.raises(Unreachable, match="start one with `sidebus serve`"):
        Control("http://127.0.0.1:1").health()
    with pytest.raises(ControlError, match="is no endpoint"):
        Control("localhost")


def test_the_endpoint_comes_from_the_environment(bent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert Control().endpoint == "http://127.0.0.1:1"
    monkeypatch.setenv("SIDEBUS_ENDPOINT", bent.url + "/")
    assert Control().health()["status"] == "ready"
    monkeypatch.delenv("SIDEBUS_ENDPOINT")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert Control().endpoint == "http://127.0.0.1:4566"


def test_another_way_than_http() -> None:
    asked: list[tuple[str, str, bytes]] = []

    def send(method: str, target: str, body: bytes) -> tuple[int, bytes]:
        asked.append((method, target, body))
        return 200, b'{"now_ms": 0}'

    control = Control("http://nowhere", send)
    assert control.clock.now() == datetime(1970, 1, 1, tzinfo=UTC)
    control.faults.load({"rule": [{"fault": "late", "delay": timedelta(minutes=1), "from": date(2036, 1, 1)}]})
    with pytest.raises(ControlError, match="cannot be said in JSON"):
        control.clock.speed(float("nan"))
    assert asked == [
        ("GET", "/_sidebus/clock", b""),
        ("PUT", "/_sidebus/faults", b'{"rule": [{"fault": "late", "delay": 60.0, "from": "2036-01-01"}]}'),
    ]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"\xff"])
def test_who_answers_is_not_sidebus(answer: bytes) -> None:
    control = Control("http://elsewhere", lambda *_: (200, answer))
    for ask in (control.clock.show, control.faults.show, lambda: control.ledger.verdict("orders")):
        with pytest.raises(ControlError, match="http://elsewhere answers, but not as Sidebus does"):
            ask()
