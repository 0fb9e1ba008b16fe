"""What the ledger says of consumers, run with boto3 against a `sidebus serve` with faults: a naive one has each of its
defects named, a careful one passes, and what clients have counted for themselves is what the ledger has noted.

The broker's clock stands still and is moved on when there is nothing to receive, so nobody waits for a timeout.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sidecar import Sidecar, seed_of_this_run

sys.path.insert(0, str(Path(__file__).parent))

from consumers.careful import CarefulConsumer
from consumers.naive import NaiveConsumer

from protocols.testing.control import Control

boto3 = pytest.importorskip("boto3")
from botocore.config import Config  # noqa: E402
from botocore.exceptions import BotoCoreError, ClientError  # noqa: E402

MESSAGES, GROUPS = 150, 6
VISIBILITY_S = 30
COUNTS = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
]

Work = Callable[[dict[str, Any]], None]


class Crash(Exception):
    """The consumer dies in the middle of its work."""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with Sidecar("--data", tmp_path_factory.mktemp("data"), log=tmp_path_factory.mktemp("log") / "log") as running:
        yield running.ready()


@pytest.fixture
def control(sidecar: Sidecar) -> Iterator[Control]:
    with Control(sidecar.url) as control:
        control.ledger.on()
        control.clock.freeze()
        yield control
        control.faults.clear()
        control.clock.restore()
        control.reset()


def client(sidecar: Sidecar) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=sidecar.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=20),
    )


class Persistent:
    """A client that asks again at once where it was not answered: as SDKs do, but for their pauses."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._client = client(sidecar)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(**given: Any) -> Any:
            for _ in range(8):
                try:
                    return getattr(self._client, name)(**given)
                except (BotoCoreError, ClientError) as error:
                    failure = error
            raise failure

        return ask


def plan(seed: int) -> dict[str, Any]:
    """Everything that a consumer must live with: duplicates, lost acknowledgements, batches that fail in part."""
    deletes = ["DeleteMessage", "DeleteMessageBatch"]
    return {
        "seed": seed,
        "rule": [
            {"fault": "partial-batch", "operation": "DeleteMessageBatch", "every": 3},
            {"fault": "done-not-answered", "how": "error", "operation": deletes, "every": 4},
            {"fault": "answered-not-done", "operation": deletes, "every": 5},
            {"fault": "duplicate", "when": "after-delete", "delay": "3s", "resource": "orders*", "probability": 0.1},
            {"fault": "early-visibility", "resource": "orders*", "probability": 0.05},
        ],
    }


def send_all(sqs: Any, url: str) -> None:
    for at in range(MESSAGES):
        fifo = {"MessageGroupId": f"g{at % GROUPS}", "MessageDeduplicationId": str(at)} if url.endswith("fifo") else {}
        sqs.send_message(QueueUrl=url, MessageBody=str(at), **fifo)


def consume(sqs: Any, url: str, control: Control, take: Callable[[], int]) -> None:
    """Until nothing is left. A consumer that has died begins again."""
    for _ in range(200):
        while True:
            try:
                if not take():
                    break
            except Crash:
                continue
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)["Attributes"]
        if not sum(map(int, attributes.values())):
            return
        control.clock.advance(f"{VISIBILITY_S + 1}s")
    raise AssertionError("the queue does not get empty")


def working(control: Control, chance: random.Random) -> Work:
    """Reports each effect; dies now and then before it has done anything."""

    def work(message: dict[str, Any]) -> None:
        if chance.random() < 0.1:
            raise Crash
        control.ledger.effect(message["MessageId"])

    return work


@pytest.mark.parametrize("name", ["orders", "orders.fifo"])
def test_each_defect_of_a_naive_consumer_has_its_name(sidecar: Sidecar, control: Control, name: str) -> None:
    seed = seed_of_this_run()
    sqs = Persistent(sidecar)
    url = create(sqs, name)
    send_all(sqs, url)
    control.faults.load(plan(seed))
    work = working(control, random.Random(seed))
    consume(sqs, url, control, lambda: NaiveConsumer(sqs, url, work).take())
    verdict = control.ledger.verdict(queue=name)
    assert not verdict.passed
    found = {defect.name: defect.count for defect in verdict.defects}
    expected = {"done-more-than-once", "deleted-before-done", "deleted-never-done", "batch-failures-ignored"}
    if name.endswith("fifo"):
        expected.add("done-out-of-order")
    assert found.keys() == expected, str(verdict)
    assert verdict.counts["sent"] == MESSAGES
    report = ElementTree.fromstring(control.ledger.judge({"queue": name, "format": "junit"}))
    assert {case.get("name") for case in report.iter("testcase") if case.find("failure") is not None} == expected
    text = control.ledger.judge({"queue": name, "format": "text"}).decode()
    for defect in verdict.defects:
        assert defect.explanation in text
        assert 1 <= len(defect.message_ids) <= 20
    assert str(verdict) == text


@pytest.mark.parametrize("name", ["orders", "orders.fifo"])
def test_a_careful_consumer_passes(sidecar: Sidecar, control: Control, name: str) -> None:
    seed = seed_of_this_run()
    sqs = Persistent(sidecar)
    url = create(sqs, name)
    send_all(sqs, url)
    faults = control.faults.load(plan(seed))
    chance = random.Random(seed)
    work, done = working(control, chance), set[str]()

    def take() -> int:
        taken = CarefulConsumer(sqs, url, work, done).take()
        if chance.random() < 0.05:
            raise Crash  # after the work
        return taken

    consume(sqs, url, control, take)
    verdict = control.ledger.verdict(queue=name)
    assert verdict.passed, f"{faults}\n{verdict}"
    assert verdict.document["judged_by"] == "effects"
    assert verdict.counts["processed_once"] == verdict.counts["acknowledged"] == MESSAGES
    assert verdict.counts["deliveries"] > MESSAGES  # or no fault has struck
    assert verdict.document["faults"].keys() >= {"partial-batch", "done-not-answered", "answered-not-done"}


def create(sqs: Any, name: str, **attributes: str) -> str:
    given = {"VisibilityTimeout": str(VISIBILITY_S), **attributes}
    if name.endswith(".fifo"):
        given["FifoQueue"] = "true"
    url: str = sqs.create_queue(QueueName=name, Attributes=given)["QueueUrl"]
    return url


# two accounts of one run


class Count:
    """What clients were told, by message id: told of sends and deletes, given by receives."""

    def __init__(self) -> None:
        self.sent = Counter[str]()
        self.delivered = Counter[str]()
        self.deleted = Counter[str]()
        self.ids: dict[str, str] = {}  # of bodies
        self._lock = threading.Lock()

    def add(self, counter: Counter[str], ids: list[str]) -> None:
        with self._lock:
            counter.update(ids)


def rules(seed: int) -> dict[str, Any]:
    some = ["SendMessage", "ReceiveMessage", "DeleteMessage"]
    return {
        "seed": seed,
        "rule": [
            {"fault": "done-not-answered", "how": "reset", "operation": some, "probability": 0.08},
            {"fault": "reset", "when": "before", "operation": some, "probability": 0.05},
            {"fault": "answered-not-done", "operation": ["SendMessage", "DeleteMessage"], "probability": 0.08},
            {"fault": "throttle", "operation": some, "probability": 0.05},
            {"fault": "partial-batch", "operation": ["SendMessageBatch", "DeleteMessageBatch"], "probability": 0.3},
            {"fault": "duplicate", "when": "after-delete", "delay": "1s", "resource": "orders", "probability": 0.1},
            {"fault": "duplicate", "name": "twice", "resource": "orders", "probability": 0.1},
            {"fault": "stale-handle", "resource": "orders", "probability": 0.1},
            {"fault": "early-dead-letter", "resource": "orders", "probability": 0.1},
            {"fault": "empty-receive", "resource": "orders", "probability": 0.1},
            {"fault": "late", "delay": "2s", "resource": "orders", "probability": 0.1},
        ],
    }


def test_the_account_is_what_clients_have_counted(sidecar: Sidecar, control: Control) -> None:
    seed = seed_of_this_run()
    setup = Persistent(sidecar)
    dead_arn = setup.get_queue_attributes(QueueUrl=create(setup, "dead"), AttributeNames=["QueueArn"])["Attributes"]
    redrive = f'{{"deadLetterTargetArn":"{dead_arn["QueueArn"]}","maxReceiveCount":5}}'
    url = create(setup, "orders", RedrivePolicy=redrive)
    dead_url = setup.get_queue_url(QueueName="dead")["QueueUrl"]
    control.clock.restore()
    control.clock.speed(20)
    faults = control.faults.load(rules(seed))
    count = Count()
    threads = [threading.Thread(target=produce, args=(sidecar, url, count, seed, at)) for at in range(2)]
    threads += [threading.Thread(target=receive_and_delete, args=(sidecar, url, count, seed + at)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    struck = str(control.faults.show())
    control.faults.clear()
    drain(setup, control, [url, dead_url], count)

    entries = list(control.ledger.entries(limit=1_000_000))
    noted = {event: Counter[str]() for event in ("sent", "delivered", "deleted")}
    for entry in entries:
        id, detail = entry["message_id"], entry["detail"]
        match entry["event"]:
            case "sent" if "dead_letter_of" not in detail:
                noted["sent"][id] += 1
            case "delivered":
                noted["delivered"][id] += 1
            case "acknowledged" | "stale":
                noted["deleted"][id] += 1
            case "fault" if detail["kind"] == "done-not-answered":
                noted[{"S": "sent", "R": "delivered", "D": "deleted"}[detail["operation"][0]]][id] -= 1
            case "fault" if detail["kind"] == "answered-not-done" and detail["operation"] == "DeleteMessage":
                noted["deleted"][id] += 1
            case "fault" if detail["kind"] == "answered-not-done" and detail["operation"] == "SendMessage":
                noted["sent"]["never was"] += 1
    sent = {id for entry in entries if entry["event"] == "sent" for id in [entry["message_id"]]}
    count.sent = Counter([id if id in sent else "never was" for id in count.sent.elements()])
    told = {"sent": count.sent, "delivered": count.delivered, "deleted": count.deleted}
    for event, counter in noted.items():
        assert +counter == told[event], f"{event}\n{faults}\n{struck}"
    orders, dead = control.ledger.verdict(queue="orders"), control.ledger.verdict(queue="dead")
    assert orders.counts["sent"] == len(sent)
    assert orders.counts["acknowledged"] + orders.counts["dead_lettered"] == len(sent)
    assert dead.counts["sent"] == dead.counts["acknowledged"] == orders.counts["dead_lettered"]
    assert orders.counts["lost_by_a_fault"] == noted["sent"]["never was"]


def produce(sidecar: Sidecar, url: str, count: Count, seed: int, at: int) -> None:
    sqs = client(sidecar)
    chance = random.Random(f"{seed} {at}")
    for number in range(60):
        try:
            if chance.random() < 0.5:
                answer = sqs.send_message(QueueUrl=url, MessageBody=f"{at}/{number}")
                count.add(count.sent, [answer["MessageId"]])
            else:
                entries = [{"Id": str(n), "MessageBody": f"{at}/{number}/{n}"} for n in range(3)]
                answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
                count.add(count.sent, [done["MessageId"] for done in answer.get("Successful", [])])
        except (BotoCoreError, ClientError):
            pass  # who knows


def receive_and_delete(sidecar: Sidecar, url: str, count: Count, seed: int) -> None:
    sqs = client(sidecar)
    chance = random.Random(seed)
    for _ in range(70):
        wait_s = chance.choice([0, 0, 1])
        try:
            answer = sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=chance.choice([1, 5]), WaitTimeSeconds=wait_s
            )
        except (BotoCoreError, ClientError):
            continue
        messages = answer.get("Messages", [])
        count.add(count.delivered, [message["MessageId"] for message in messages])
        if messages and chance.random() < 0.8:
            delete(sqs, url, messages, count, one_by_one=chance.random() < 0.5)


def delete(sqs: Any, url: str, messages: list[dict[str, Any]], count: Count, *, one_by_one: bool) -> None:
    if one_by_one:
        for message in messages:
            try:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            except (BotoCoreError, ClientError):
                continue
            count.add(count.deleted, [message["MessageId"]])
        return
    entries = [{"Id": str(at), "ReceiptHandle": m["ReceiptHandle"]} for at, m in enumerate(messages)]
    answer = sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    count.add(count.deleted, [messages[int(done["Id"])]["MessageId"] for done in answer.get("Successful", [])])


def drain(sqs: Any, control: Control, urls: list[str], count: Count) -> None:
    """What is left is received and deleted, without faults."""
    for url in urls:
        while True:
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            count.add(count.delivered, [message["MessageId"] for message in messages])
            if messages:
                delete(sqs, url, messages, count, one_by_one=False)
                continue
            attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)
            if not sum(map(int, attributes["Attributes"].values())):
                break
            control.clock.advance(f"{VISIBILITY_S + 1}s")
