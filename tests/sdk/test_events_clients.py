"""EventBridge through other clients than boto3: the command line, and AWS's SDK for JavaScript under Node."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

PythonWith = Callable[..., Path]
NodeWith = Callable[..., Path]
RunClient = Callable[..., str]

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
WAIT_S = 30
PACKAGES = {
    "@aws-sdk/client-eventbridge": "^3.1018.0",
    "@aws-sdk/client-sqs": "^3.1018.0",
    "@aws-sdk/signature-v4a": "^3.1018.0",
}
OPERATIONS = set(botocore.session.Session().get_service_model("events").operation_names)


def test_each_operation_of_the_sdk_for_javascript(node_with: NodeWith, run_client: RunClient) -> None:
    directory = node_with("events-node", 20, PACKAGES)
    program = Path(__file__).with_name("events_client.mjs")
    shutil.copy(program, directory)  # beside its node_modules
    assert set(json.loads(run_client("node", program.name, where=directory))) == OPERATIONS


class CommandLine:
    """`aws events …` against a broker; knows which operations were used."""

    def __init__(self, aws: Path, run_client: RunClient, sidebus: Any, used: set[str], **environment: str) -> None:
        self._aws = aws
        self._run_client = run_client
        self._sidebus = sidebus
        self._environment = environment
        self.used = used

    def __call__(self, line: str, **structures: Any) -> Any:
        """What it printed, read as JSON; None where it printed nothing. `structures` are options in JSON."""
        operation, *words = shlex.split(line)
        for name, value in structures.items():
            words += [f"--{name.replace('_', '-')}", json.dumps(value)]
        self.used.add(operation)
        options = ("--endpoint-url", self._sidebus.url, "--output", "json")
        printed = self._run_client(self._aws, *options, "events", operation, *words, **self._environment)
        return json.loads(printed) if printed.strip() else None


def test_each_operation_on_the_command_line(
    python_with: PythonWith, run_client: RunClient, sidebus: Any, sqs: Any, account: str
) -> None:
    aws = python_with("awscli", "awscli~=1.46") / "aws"
    events = CommandLine(aws, run_client, sidebus, set())
    prefix = f"arn:aws:events:us-east-1:{account}:"
    queue_url = sqs.create_queue(QueueName="q")["QueueUrl"]
    queue = f"arn:aws:sqs:us-east-1:{account}:q"
    role = f"arn:aws:iam::{account}:role/r"

    def receive() -> list[Any]:
        found = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    # buses
    bus = f"{prefix}event-bus/orders"
    assert events("create-event-bus --name orders --tags Key=team,Value=a") == {"EventBusArn": bus}
    assert events("update-event-bus --name orders --description 'Grüße'")["Description"] == "Grüße"
    permission = "--action events:PutEvents --principal 111122223333 --statement-id shared"
    assert events(f"put-permission --event-bus-name orders {permission}") is None
    shown = events("describe-event-bus --name orders")
    assert json.loads(shown["Policy"])["Statement"][0]["Sid"] == "shared"
    assert abs(shown["CreationTime"] - time.time()) < 60
    assert events("remove-permission --event-bus-name orders --statement-id shared") is None
    assert "Policy" not in events("describe-event-bus --name orders")
    first = events("list-event-buses --limit 1")
    second = events(f"list-event-buses --limit 1 --next-token {first['NextToken']}")
    assert [found["Name"] for found in first["EventBuses"] + second["EventBuses"]] == ["default", "orders"]
    assert events(f"tag-resource --resource-arn {bus} --tags Key=cost,Value=42") is None
    assert events(f"untag-resource --resource-arn {bus} --tag-keys team") is None
    assert events(f"list-tags-for-resource --resource-arn {bus}") == {"Tags": [{"Key": "cost", "Value": "42"}]}

    # rules, targets, events
    on_bus, of_rule = "--event-bus-name orders", "--rule large --event-bus-name orders"
    pattern = {"source": ["order.service"], "detail": {"amount": [{"numeric": [">", 1000]}]}}
    rule = events(f"put-rule --name large {on_bus}", event_pattern=pattern)["RuleArn"]
    assert rule == f"{prefix}rule/orders/large"
    assert events("put-rule --name daily --schedule-expression 'cron(0 8 * * ? *)' --state DISABLED")
    put = events(f"put-targets {of_rule} --targets Id=q,Arn={queue}")
    assert put == {"FailedEntryCount": 0, "FailedEntries": []}
    assert events(f"describe-rule --name large {on_bus}")["State"] == "ENABLED"
    assert [found["Name"] for found in events("list-rules --name-prefix d")["Rules"]] == ["daily"]
    assert events(f"list-targets-by-rule {of_rule}")["Targets"] == [{"Id": "q", "Arn": queue}]
    assert events(f"list-rule-names-by-target --target-arn {queue} {on_bus}") == {"RuleNames": ["large"]}
    assert events(f"disable-rule --name large {on_bus}") is None
    assert events(f"enable-rule --name large {on_bus}") is None
    entry = {"Source": "order.service", "DetailType": "Order Placed", "EventBusName": "orders"}
    entries = [
        {**entry, "Detail": json.dumps({"amount": amount}), "Time": "2026-01-02T03:04:05Z"} for amount in (1500, 9)
    ]
    put = events("put-events", entries=entries)
    assert put["FailedEntryCount"] == 0
    (event,) = receive()
    assert (event["id"], event["time"]) == (put["Entries"][0]["EventId"], "2026-01-02T03:04:05Z")
    assert events("test-event-pattern", event_pattern=pattern, event=event) == {"Result": True}

    # archives and replays
    made = events(f"create-archive --archive-name all --event-source-arn {bus} --retention-days 7")
    assert made["ArchiveArn"] == f"{prefix}archive/all"
    assert events("update-archive --archive-name all --description everything")["State"] == "ENABLED"
    events("put-events", entries=[{**entry, "Detail": '{"amount": 2000}'}])
    (live,) = receive()
    shown = events("describe-archive --archive-name all")
    assert (shown["EventCount"], shown["Description"]) == (1, "everything")
    assert [found["ArchiveName"] for found in events("list-archives")["Archives"]] == ["all"]
    span = "--event-start-time 2020-01-01T00:00:00Z --event-end-time 2999-01-01T00:00:00Z"
    of_archive = f"--event-source-arn {made['ArchiveArn']}"
    started = events(
        f"start-replay --replay-name again {of_archive} {span}", destination={"Arn": bus, "FilterArns": [rule]}
    )
    assert started["ReplayArn"] == f"{prefix}replay/again"
    deadline = time.monotonic() + WAIT_S
    while (shown := events("describe-replay --replay-name again"))["State"] != "COMPLETED":
        assert time.monotonic() < deadline
    assert receive() == [{**live, "replay-name": "again"}]
    assert [found["ReplayName"] for found in events("list-replays")["Replays"]] == ["again"]
    with pytest.raises(AssertionError, match="IllegalStatusException"):  # it is over
        events("cancel-replay --replay-name again")

    # connections and API destinations
    key = {"ApiKeyAuthParameters": {"ApiKeyName": "x-key", "ApiKeyValue": "secret"}}
    made = events("create-connection --name c --authorization-type API_KEY", auth_parameters=key)
    assert made["ConnectionState"] == "AUTHORIZED"
    assert events("update-connection --name c --description new")["ConnectionArn"] == made["ConnectionArn"]
    shown = events("describe-connection --name c")
    assert shown["AuthParameters"] == {"ApiKeyAuthParameters": {"ApiKeyName": "x-key"}}
    assert [found["Name"] for found in events("list-connections")["Connections"]] == ["c"]
    target = {"ConnectionArn": made["ConnectionArn"], "InvocationEndpoint": "https://example.com", "HttpMethod": "POST"}
    # As an option of its own, the command line would fetch the URL and send what it finds there.
    destination = events("create-api-destination", cli_input_json={"Name": "d", **target})
    assert re.fullmatch(f"{prefix}api-destination/d/{UUID}", destination["ApiDestinationArn"])
    assert events("update-api-destination --name d --invocation-rate-limit-per-second 5")
    assert events("describe-api-destination --name d")["InvocationRateLimitPerSecond"] == 5
    assert [found["Name"] for found in events("list-api-destinations")["ApiDestinations"]] == ["d"]
    assert events("deauthorize-connection --name c")["ConnectionState"] == "DEAUTHORIZING"
    assert events("delete-api-destination --name d") in (None, {})
    assert events("delete-connection --name c")["ConnectionState"] == "DELETING"

    # global endpoints
    CommandLine(aws, run_client, sidebus, events.used, AWS_DEFAULT_REGION="us-west-2", AWS_REGION="us-west-2")(
        "create-event-bus --name orders"
    )
    routing = {
        "FailoverConfig": {
            "Primary": {"HealthCheck": "arn:aws:route53:::healthcheck/1-a"},
            "Secondary": {"Route": "us-west-2"},
        }
    }
    buses = f"EventBusArn={bus} EventBusArn={bus.replace('us-east-1', 'us-west-2')}"
    made = events(f"create-endpoint --name e --role-arn {role} --event-buses {buses}", routing_config=routing)
    assert made["Arn"] == f"{prefix}endpoint/e"
    assert events("update-endpoint --name e --replication-config State=DISABLED")["State"] == "UPDATING"
    assert events("describe-endpoint --name e")["State"] == "ACTIVE"
    assert [found["Name"] for found in events("list-endpoints")["Endpoints"]] == ["e"]
    assert events("delete-endpoint --name e") in (None, {})

    # partner event sources
    customer = str(int(account) ^ 1)
    theirs = CommandLine(aws, run_client, sidebus, events.used, AWS_ACCESS_KEY_ID=customer)
    name = f"aws.partner/example.com/{account}/orders"
    source = f"arn:aws:events:us-east-1::event-source/{name}"
    assert events(f"create-partner-event-source --name {name} --account {customer}") == {"EventSourceArn": source}
    assert events(f"describe-partner-event-source --name {name}") == {"Arn": source, "Name": name}
    listed = events("list-partner-event-sources --name-prefix aws.partner/example.com/")
    assert listed["PartnerEventSources"] == [{"Arn": source, "Name": name}]
    accounts = events(f"list-partner-event-source-accounts --event-source-name {name}")
    assert [found["Account"] for found in accounts["PartnerEventSourceAccounts"]] == [customer]
    assert [found["State"] for found in theirs("list-event-sources")["EventSources"]] == ["PENDING"]
    assert theirs(f"create-event-bus --name {name} --event-source-name {name}")
    assert theirs(f"deactivate-event-source --name {name}") is None
    assert theirs(f"activate-event-source --name {name}") is None
    assert theirs(f"describe-event-source --name {name}")["State"] == "ACTIVE"
    sent = events("put-partner-events", entries=[{"Source": name, "DetailType": "d", "Detail": "{}"}])
    assert sent["FailedEntryCount"] == 0
    assert events(f"delete-partner-event-source --name {name} --account {customer}") is None
    assert theirs(f"describe-event-source --name {name}")["State"] == "DELETED"

    # what goes
    assert events(f"remove-targets {of_rule} --ids q") == {"FailedEntryCount": 0, "FailedEntries": []}
    assert events(f"delete-rule --name large {on_bus}") is None
    assert events("delete-archive --archive-name all") in (None, {})
    assert events("delete-event-bus --name orders") is None
    assert [found["Name"] for found in events("list-event-buses")["EventBuses"]] == ["default"]
    assert events.used == {xform_name(name, "-") for name in OPERATIONS}
