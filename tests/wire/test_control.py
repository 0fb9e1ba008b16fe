"""The pages under /_sidebus/: health, and reset for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker import __version__

Connect = Callable[..., Any]


@pytest.fixture
def on_disk(start_sidebus: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """A process of our own: resetting everything is nothing for a shared one."""
    sidebus = start_sidebus("--data", tmp_path / "data")
    yield sidebus
    sidebus.stop()


def page(sidebus: Any, method: str, path: str) -> tuple[int, Any]:
    answer = sidebus.request(method, path)
    assert answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(answer.body)


def test_health(sidebus: Any, sidebus_aws: Any) -> None:
    status, health = page(sidebus, "GET", "/_sidebus/health")
    assert status == 200
    assert (health["status"], health["version"], health["limits"]) == ("ready", __version__, "relaxed")
    assert {"sqs", "sts"} <= set(health["services"])
    assert health["store"]
    assert page(sidebus, "GET", "/_sidebus/health?verbose=1") == (200, health)
    assert page(sidebus_aws, "GET", "/_sidebus/health")[1]["limits"] == "aws"


def test_health_by_head(sidebus: Any) -> None:
    answer = sidebus.request("HEAD", "/_sidebus/health")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_health_says_which_store(on_disk: Any, tmp_path: Path) -> None:
    assert str(tmp_path / "data") in json.dumps(page(on_disk, "GET", "/_sidebus/health")[1]["store"])


def test_unknown_pages_and_methods(sidebus: Any) -> None:
    status, document = page(sidebus, "GET", "/_sidebus/nonsense")
    assert (status, document["error"]) == (404, "There is no page /_sidebus/nonsense.")
    assert {"/_sidebus/health", "/_sidebus/reset"} <= set(document["pages"])
    answer = sidebus.request("GET", "/_sidebus/reset")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert sidebus.request("POST", "/_sidebus/health").headers["allow"] == "GET"


def fill(sqs: Any) -> str:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    return str(url)


def test_reset_of_everything(on_disk: Any, connect: Connect) -> None:
    clients = [connect(on_disk, account=account, region=region) for account, region in
               (("111122223333", "us-east-1"), ("111122223333", "eu-west-1"), ("test", "us-east-1"))]  # fmt: skip
    urls = [fill(client) for client in clients]
    assert page(on_disk, "POST", "/_sidebus/reset") == (200, {"reset": "all accounts"})
    for client, url in zip(clients, urls, strict=True):
        assert "QueueUrls" not in client.list_queues()
        client.create_queue(QueueName="q")
        assert "Messages" not in client.receive_message(QueueUrl=url)


def test_reset_of_one_account(sidebus: Any, connect: Connect, account: str) -> None:
    mine, other = connect(sidebus), connect(sidebus, account=f"{(int(account) + 1) % 10**12:012}")
    fill(mine)
    url = fill(other)
    assert page(sidebus, "POST", f"/_sidebus/reset?account={account}") == (200, {"reset": account})
    assert "QueueUrls" not in mine.list_queues()
    assert len(other.receive_message(QueueUrl=url)["Messages"]) == 1


def test_reset_of_what_is_no_account(sidebus: Any) -> None:
    status, document = page(sidebus, "POST", "/_sidebus/reset?account=42")
    assert status == 400
    assert "twelve digits" in document["error"]


def test_a_reset_frees_names_at_once(sidebus_aws: Any, connect: Connect, account: str) -> None:
    sqs = connect(sidebus_aws)
    sqs.delete_queue(QueueUrl=fill(sqs))
    assert page(sidebus_aws, "POST", f"/_sidebus/reset?account={account}")[0] == 200
    sqs.create_queue(QueueName="q")


def test_what_was_reset_stays_so_after_a_restart(
    start_sidebus: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    first = start_sidebus("--data", tmp_path)
    fill(connect(first))
    page(first, "POST", "/_sidebus/reset")
    kept = connect(first, account="999988887777")
    fill(kept)
    assert first.stop() == 0
    second = start_sidebus("--data", tmp_path)
    assert "QueueUrls" not in connect(second).list_queues()
    assert len(connect(second, account="999988887777").list_queues()["QueueUrls"]) == 1
    assert second.stop() == 0


def test_a_page_of_another_site_cannot_reset(sidebus: Any) -> None:
    answer = sidebus.request("POST", "/_sidebus/reset?account=123456789012", {"Origin": "https://elsewhere.example"})
    assert answer.status == 403
    answer = sidebus.request("POST", "/_sidebus/reset?account=123456789012", {"Origin": sidebus.url})
    assert answer.status == 200


def test_metrics_count_what_topics_did(sidebus: Any, connect: Any, account: str) -> None:
    sns, sqs = connect(sidebus, "sns"), connect(sidebus, "sqs")
    sqs.create_queue(QueueName="q")
    arn = sns.create_topic(
        Name="t",
        Attributes={
            "SQSSuccessFeedbackRoleArn": f"arn:aws:iam::{account}:role/logs",
            "SQSSuccessFeedbackSampleRate": "100",
        },
    )["TopicArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{account}:q")
    sns.publish(TopicArn=arn, Message="hello")
    answer = sidebus.request("GET", "/_sidebus/metrics")
    assert answer.status == 200
    assert json.loads(answer.body)["sns"][arn] == {
        "counts": {"NumberOfMessagesPublished": 1, "NumberOfNotificationsDelivered": 1},
        "delivery_status": {"SQSSuccess": 1},
    }
