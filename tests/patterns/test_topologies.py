"""Topologies built once, twice, after any crash; mended, looked at, taken down.

On a real sidecar through boto3, where each build has an account of its own, so nothing is there but what the test has
made; or on the application of this process, through botocore's own serializers. Nothing in a topology waits for
anything but its calls, so one backend says it all, and the other one is asked once.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import anyio
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from virtual import broker, run_virtually

from patterns.threads import InThreads
from patterns.topologies import (
    QueueShape,
    Rule,
    Subscription,
    bus_to_queues,
    dead_letters_everywhere,
    fan_out,
    queue_per_tenant,
    teardown,
    tenant_queue,
)
from patterns.topology_parts import Kind, Report, Site, State
from protocols.application import Application
from protocols.http.message import Answer, Request, Response

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
Build = Callable[[Site], Awaitable[Report]]
Clients = dict[str, Any]
MODELS = botocore.session.get_session()


class Place:
    """An account's clients, its site, and all there is in it."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.site = Site("shop", **{name: InThreads(client) for name, client in clients.items()})

    def queue(self, name: str) -> str:
        url: str = self.clients["sqs"].get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def attributes(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.clients["sqs"].get_queue_attributes(
            QueueUrl=self.queue(name), AttributeNames=["All"]
        )["Attributes"]
        return found

    def take(self, name: str) -> list[str]:
        url, bodies = self.queue(name), list[str]()
        while messages := self.clients["sqs"].receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                self.clients["sqs"].delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    async def everything(self) -> Mapping[str, Any]:
        return await everything(self.site)

    async def names(self) -> set[str]:
        return {re.split("[/:]", name)[-1] for name in await self.everything()}


async def everything(site: Site) -> Mapping[str, Any]:
    """All there is, without times and identifiers that AWS draws."""
    found: dict[str, Any] = {}
    for url in (await site.sqs.list_queues()).get("QueueUrls", []):
        attributes = (await site.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
        kept = {name: value for name, value in attributes.items() if "Timestamp" not in name}
        found[url] = kept, (await site.sqs.list_queue_tags(QueueUrl=url)).get("Tags", {})
    for topic in (await site.sns.list_topics())["Topics"]:
        arn, described = topic["TopicArn"], []
        for one in (await site.sns.list_subscriptions_by_topic(TopicArn=arn))["Subscriptions"]:
            answer = await site.sns.get_subscription_attributes(SubscriptionArn=one["SubscriptionArn"])
            described.append({name: value for name, value in answer["Attributes"].items() if name != "SubscriptionArn"})
        tags = (await site.sns.list_tags_for_resource(ResourceArn=arn))["Tags"]
        of_it = (await site.sns.get_topic_attributes(TopicArn=arn))["Attributes"]
        tags.append({name: value for name, value in of_it.items() if not name.startswith("Subscriptions")})
        found[arn] = sorted(described, key=lambda one: one["Endpoint"]), tags
    for bus in (await site.events.list_event_buses())["EventBuses"]:
        for rule in (await site.events.list_rules(EventBusName=bus["Name"]))["Rules"]:
            asked = {"Rule": rule["Name"], "EventBusName": bus["Name"]}
            targets = (await site.events.list_targets_by_rule(**asked))["Targets"]
            found[rule["Arn"]] = rule, sorted(targets, key=lambda one: one["Id"])
        found[bus["Arn"]] = bus["Name"]
    return found


class Crashed(Exception):
    pass


class Client:
    """As aiobotocore's: botocore's own serializer and parser, and the application of this process between them.

    The process crashes when `changes_left` in it have happened, before it hears of the last one.
    """

    changes_left: int | None = None

    def __init__(self, application: Application, service: str) -> None:
        self._application = application
        # Nobody checks it, but who has none is no owner of anything.
        scope = f"Credential=owner/20260101/us-east-1/{service}/aws4_request"
        self._signed = f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0".encode()
        self._model = MODELS.get_service_model(service)
        self._serializer = botocore.serialize.create_serializer(self._model.metadata["protocol"])
        self._parser = botocore.parsers.create_parser(self._model.metadata["protocol"])

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        operation = self._model.operation_model("".join(word.capitalize() for word in method.split("_")))

        async def call(**parameters: Any) -> Any:
            made = self._serializer.serialize_to_request(parameters, operation)
            body = made["body"]
            text = urlencode(body).encode() if isinstance(body, dict) else body
            headers = [(name.lower().encode(), str(value).encode()) for name, value in made["headers"].items()]
            answered, answers = anyio.Event(), list[Response]()

            def reply(response: Answer) -> None:
                assert isinstance(response, Response)
                answers.append(response)
                answered.set()

            self._application(
                Request("POST", b"/", [(b"host", b"bus.test"), (b"authorization", self._signed), *headers], text), reply
            )
            await answered.wait()
            if Client.changes_left is not None and not method.startswith(("get_", "list_", "describe_")):
                Client.changes_left -= 1
                if not Client.changes_left:
                    raise Crashed
            (answer,) = answers
            given = {"status_code": answer.status, "headers": {}, "body": answer.body}
            parsed = self._parser.parse(given, operation.output_shape)
            if answer.status >= 300:
                raise ClientError(parsed, operation.name)
            return parsed

        return call


async def crashed(after: int, program: Awaitable[Any]) -> bool:
    """Whether the program came to its n-th change."""
    Client.changes_left = after
    try:
        await program
    except Crashed:
        return True
    finally:
        Client.changes_left = None
    return False


@pytest.fixture
def place(sidebus: Any, connect: Callable[..., Any]) -> Callable[[], Place]:
    def make() -> Place:
        account = str(random.randrange(10**11, 10**12))
        return Place({name: connect(sidebus, name, account=account) for name in ("sqs", "sns", "events")})

    return make


TEA = {"kind": ["tea"]}
SLOW = QueueShape(attributes={"VisibilityTimeout": "90", "DelaySeconds": "0"}, max_receives=3)


async def build_fan_out(site: Site) -> Report:
    return await fan_out(
        site,
        "orders",
        {
            "all": Subscription(queue=SLOW),
            "tea": Subscription(filter_policy=TEA),
            "loose": Subscription(raw=False, queue=QueueShape(max_receives=None)),
        },
    )


async def build_fifo(site: Site) -> Report:
    return await fan_out(
        site,
        "steps.fifo",
        {"steps.fifo": Subscription(), "copy": Subscription(filter_policy=TEA, filter_scope="MessageBody")},
        topic_attributes={"ContentBasedDeduplication": "true", "DisplayName": "Steps"},
    )


async def build_bus(site: Site) -> Report:
    return await bus_to_queues(
        site,
        "shop",
        {
            "paid": Rule(queue="paid", pattern={"detail-type": ["paid"]}),
            "steps": Rule(queue="steps.fifo", pattern={"source": ["shop"]}, group_id="all"),
        },
    )


async def build_tenants(site: Site) -> Report:
    return await queue_per_tenant(site, "work", ["ann", "bob", "Zoë & Co"], topic="work")


BUILDS = pytest.mark.parametrize("build", [build_fan_out, build_fifo, build_bus, build_tenants])


@asynccontextmanager
async def broker_site() -> AsyncIterator[Site]:
    async with broker() as sqs:
        yield Site("shop", **{name: Client(sqs._application, name) for name in ("sqs", "sns", "events")})


@BUILDS
@BACKENDS
def test_twice_is_as_once_and_a_look_changes_nothing(backend: str, build: Build) -> None:
    async def program() -> None:
        async with broker_site() as site:
            empty = await everything(site)
            look = await build(site.looking())
            assert await everything(site) == empty
            assert not look.is_complete
            assert {one.state for one in look.resources} == {State.MISSING}
            first = await build(site)
            built = await everything(site)
            assert {one.state for one in first.resources} == {State.CREATED}
            assert first.is_complete
            assert first.has_changed
            assert [(one.kind, one.name) for one in look.resources] == [(one.kind, one.name) for one in first.resources]
            second = await build(site)
            assert {one.state for one in second.resources} == {State.THERE}
            assert not second.has_changed
            assert await everything(site) == built
            assert (second.queue_urls, second.topic_arn) == (first.queue_urls, first.topic_arn)
            assert await build(site.looking()) == second
            gone = await teardown(site, second)
            assert {one.state for one in gone.resources} == {State.DELETED}
            assert await everything(site) == empty
            again = await teardown(site, first)
            assert {one.state for one in again.resources} == {State.MISSING}

    run_virtually(backend, program)


@BUILDS
def test_after_a_crash_at_any_change_the_next_run_completes_it(build: Build) -> None:
    """A process leaves nothing behind but what it has changed: so there is no other moment to crash at."""

    def about(found: Mapping[str, Any]) -> str:
        return json.dumps(list(found.items()), default=str, sort_keys=True)

    async def program() -> None:
        async with broker_site() as site:
            empty = await everything(site)
            await build(site)
            expected = about(await everything(site))
        is_crashing = True
        for after in itertools.count(1):
            async with broker_site() as site:
                is_crashing = await crashed(after, build(site))
                report = await build(site)
                assert report.is_complete
                assert all(one.is_ours for one in report.resources), after
                assert about(await everything(site)) == expected, after
                is_crashing |= await crashed(after, teardown(site, report))
                await teardown(site, await build(site.looking()))
                assert await everything(site) == empty, after
            if not is_crashing:
                break
        assert after > 14

    run_virtually("asyncio", program)


def test_what_differs_is_mended_and_what_others_did_stays(place: Callable[[], Place]) -> None:
    async def program() -> None:
        here = place()
        sqs, sns = here.clients["sqs"], here.clients["sns"]
        report = await build_fan_out(here.site)
        built = await here.everything()
        theirs = {
            "Sid": "theirs",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": "sqs:GetQueueUrl",
            "Resource": here.attributes("all")["QueueArn"],
        }
        policy = json.loads(here.attributes("all")["Policy"])
        policy["Statement"] = [theirs]
        wrong = {
            "VisibilityTimeout": "7",
            "RedrivePolicy": "",
            "Policy": json.dumps(policy),
            "MaximumMessageSize": "9999",
        }
        sqs.set_queue_attributes(QueueUrl=here.queue("all"), Attributes=wrong)
        (tea,) = [one.id for one in report.resources if one.name == "orders to tea"]
        for name, value in (("FilterPolicy", "{}"), ("RawMessageDelivery", "false")):
            sns.set_subscription_attributes(SubscriptionArn=tea, AttributeName=name, AttributeValue=value)
        (loose,) = [one.id for one in report.resources if one.name == "orders to loose"]
        sns.unsubscribe(SubscriptionArn=loose)

        expected = {
            (Kind.QUEUE, "all", State.CHANGED),
            (Kind.REDRIVE, "all to all-dead", State.CREATED),
            (Kind.STATEMENT, "orders may send to all", State.CREATED),
            (Kind.SUBSCRIPTION, "orders to tea", State.CHANGED),
            (Kind.SUBSCRIPTION, "orders to loose", State.CREATED),
        }
        look = await build_fan_out(here.site.looking())
        only_seen = {State.CHANGED: State.DIFFERENT, State.CREATED: State.MISSING}
        assert {(one.kind, one.name, one.state) for one in look.resources if one.state is not State.THERE} == {
            (kind, name, only_seen[state]) for kind, name, state in expected
        }
        mended = await build_fan_out(here.site)
        assert {(one.kind, one.name, one.state) for one in mended.resources if one.state is not State.THERE} == expected
        assert theirs in json.loads(here.attributes("all")["Policy"])["Statement"]
        assert here.attributes("all")["MaximumMessageSize"] == "9999", "nobody said what it should be"
        sqs.set_queue_attributes(
            QueueUrl=here.queue("all"),
            Attributes={"MaximumMessageSize": attribute_of(built, "all", "MaximumMessageSize")},
        )
        await teardown(here.site, Report(tuple(one for one in mended.resources if one.kind is Kind.STATEMENT)))
        assert json.loads(here.attributes("all")["Policy"])["Statement"] == [theirs]
        sqs.set_queue_attributes(QueueUrl=here.queue("all"), Attributes={"Policy": ""})
        await build_fan_out(here.site)
        assert await here.everything() == built

    def attribute_of(built: Mapping[str, Any], queue: str, name: str) -> str:
        (value,) = [of_it[0][name] for url, of_it in built.items() if url.endswith(f"/{queue}")]
        return str(value)

    anyio.run(program)


def test_policies_let_this_source_in_and_nobody_else(place: Callable[[], Place]) -> None:
    async def program() -> None:
        here = place()
        report = await build_fan_out(here.site)
        await build_bus(here.site)
        rule_arn = here.clients["events"].describe_rule(Name="paid", EventBusName="shop")["Arn"]
        ends = [("all", "sns", report.topic_arn), ("all-dead", "sns", report.topic_arn)]
        for queue, service, source in [*ends, ("paid", "events", rule_arn), ("paid-dead", "events", rule_arn)]:
            attributes = here.attributes(queue)
            (statement,) = json.loads(attributes["Policy"])["Statement"]
            statement.pop("Sid")
            assert statement == {
                "Effect": "Allow",
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": attributes["QueueArn"],
                "Condition": {"ArnEquals": {"aws:SourceArn": source}},
            }
        allowed = json.loads(here.attributes("all-dead")["RedriveAllowPolicy"])
        assert allowed == {"redrivePermission": "byQueue", "sourceQueueArns": [here.attributes("all")["QueueArn"]]}
        redrive = json.loads(here.attributes("all")["RedrivePolicy"])
        assert redrive == {"deadLetterTargetArn": here.attributes("all-dead")["QueueArn"], "maxReceiveCount": 3}
        assert here.attributes("all-dead")["MessageRetentionPeriod"] == "1209600"
        targets = here.clients["events"].list_targets_by_rule(Rule="steps", EventBusName="shop")["Targets"]
        assert targets == [
            {
                "Id": "steps.fifo",
                "Arn": here.attributes("steps.fifo")["QueueArn"],
                "SqsParameters": {"MessageGroupId": "all"},
                "DeadLetterConfig": {"Arn": here.attributes("steps-dead")["QueueArn"]},
            }
        ]

    anyio.run(program)


def test_messages_arrive_where_they_should(place: Callable[[], Place]) -> None:
    async def program() -> None:
        here = place()
        topic = (await build_fan_out(here.site)).topic_arn
        sns, events = here.clients["sns"], here.clients["events"]
        for kind in ("tea", "cake"):
            attributes = {"kind": {"DataType": "String", "StringValue": kind}}
            sns.publish(TopicArn=topic, Message=kind, MessageAttributes=attributes)
        assert sorted(here.take("all")) == ["cake", "tea"]
        assert here.take("tea") == ["tea"]
        assert sorted(json.loads(body)["Message"] for body in here.take("loose")) == ["cake", "tea"]

        report = await build_tenants(here.site)
        assert set(report.queue_urls) == {"ann", "bob", "Zoë & Co"}
        for tenant in report.queue_urls:
            attributes = {"tenant": {"DataType": "String", "StringValue": tenant}}
            sns.publish(TopicArn=report.topic_arn, Message=f"for {tenant}", MessageAttributes=attributes)
        for tenant, url in report.queue_urls.items():
            assert here.take(url.rpartition("/")[2]) == [f"for {tenant}"]

        await build_bus(here.site)
        entry = {"EventBusName": "shop", "Source": "shop", "DetailType": "paid", "Detail": "{}"}
        assert not events.put_events(Entries=[entry])["FailedEntryCount"]
        assert len(here.take("paid")) == len(here.take("steps.fifo")) == 1

    anyio.run(program)


def test_a_topic_that_differs_is_mended(place: Callable[[], Place]) -> None:
    async def program() -> None:
        here = place()
        report = await build_fifo(here.site)
        built = await here.everything()
        here.clients["sns"].set_topic_attributes(
            TopicArn=report.topic_arn, AttributeName="DisplayName", AttributeValue="else"
        )
        look = await build_fifo(here.site.looking())
        mended = await build_fifo(here.site)
        for found, state in ((look, State.DIFFERENT), (mended, State.CHANGED)):
            assert [(one.kind, one.state) for one in found.resources if one.state is not State.THERE] == [
                (Kind.TOPIC, state)
            ]
        assert await here.everything() == built

    anyio.run(program)


def test_teardown_leaves_what_is_not_ours_and_what_has_messages(place: Callable[[], Place]) -> None:
    async def program() -> None:
        here = place()
        sqs, sns = here.clients["sqs"], here.clients["sns"]
        theirs = sqs.create_queue(QueueName="tea", tags={"topology": "another"})["QueueUrl"]
        sns.create_topic(Name="orders")
        report = await build_fan_out(here.site)
        assert {one.name for one in report.resources if not one.is_ours} == {"tea", "orders"}
        sqs.send_message(QueueUrl=here.queue("all"), MessageBody="not yet")
        looked = await teardown(here.site.looking(), report)
        assert {one.name for one in looked.resources if one.state is State.KEPT} == {
            *("tea", "orders", "all", "all-dead", "all to all-dead")
        }
        gone = await teardown(here.site, report)
        kept = {one.name for one in gone.resources if one.state is State.KEPT}
        assert kept == {"tea", "orders", "all", "all-dead", "all to all-dead"}
        assert await here.names() == {"tea", "orders", "all", "all-dead", "default"}
        assert "RedrivePolicy" not in here.attributes("tea")
        assert not here.attributes("tea").get("Policy")
        assert sns.list_subscriptions()["Subscriptions"] == []
        assert here.take("all") == ["not yet"]
        sqs.send_message(QueueUrl=here.queue("all"), MessageBody="never mind")
        await teardown(here.site, report, even_with_messages=True)
        assert await here.names() == {"tea", "orders", "default"}
        assert sqs.list_queue_tags(QueueUrl=theirs)["Tags"] == {"topology": "another"}

    anyio.run(program)


def test_dead_letters_for_all_that_has_none(place: Callable[[], Place]) -> None:
    async def program() -> None:
        here = place()
        sqs, sns, events = (here.clients[name] for name in ("sqs", "sns", "events"))
        for name in ("my-a", "my-b.fifo", "my-c", "other"):
            fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
            sqs.create_queue(QueueName=name, Attributes=fifo)
        own = sqs.create_queue(QueueName="graveyard")["QueueUrl"]
        own_arn = here.attributes("graveyard")["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": own_arn, "maxReceiveCount": 9})
        sqs.set_queue_attributes(QueueUrl=here.queue("my-c"), Attributes={"RedrivePolicy": policy})
        topic = sns.create_topic(Name="my-topic")["TopicArn"]
        for queue in ("my-a", "other"):
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=here.attributes(queue)["QueueArn"])
        events.put_rule(Name="my.rule", EventPattern='{"source": ["a"]}')
        targets = [
            {"Id": "a", "Arn": here.attributes("my-a")["QueueArn"], "InputPath": "$.detail"},
            {"Id": "c", "Arn": here.attributes("my-c")["QueueArn"], "DeadLetterConfig": {"Arn": own_arn}},
        ]
        events.put_targets(Rule="my.rule", Targets=targets)
        before = await here.everything()

        look = await dead_letters_everywhere(here.site.looking(), "my")
        assert await here.everything() == before
        assert not look.is_complete
        report = await dead_letters_everywhere(here.site, "my")
        made = {one.name for one in report.resources if one.kind is Kind.QUEUE}
        assert made == {"my-a-dead", "my-b-dead.fifo", "my-topic-dead", "my_rule-dead"}
        redrive = json.loads(here.attributes("my-b.fifo")["RedrivePolicy"])
        assert redrive == {"deadLetterTargetArn": here.attributes("my-b-dead.fifo")["QueueArn"], "maxReceiveCount": 5}
        assert json.loads(here.attributes("my-c")["RedrivePolicy"])["deadLetterTargetArn"] == own_arn
        assert "RedrivePolicy" not in here.attributes("other")
        for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
            of_it = sns.get_subscription_attributes(SubscriptionArn=one["SubscriptionArn"])["Attributes"]
            dead_arn = json.loads(of_it["RedrivePolicy"])["deadLetterTargetArn"]
            assert dead_arn == here.attributes("my-topic-dead")["QueueArn"]
        found = {one["Id"]: one for one in events.list_targets_by_rule(Rule="my.rule")["Targets"]}
        assert found["a"]["DeadLetterConfig"] == {"Arn": here.attributes("my_rule-dead")["QueueArn"]}
        assert found["a"]["InputPath"] == "$.detail"
        assert found["c"] == targets[1]

        built = await here.everything()
        again = await dead_letters_everywhere(here.site, "my")
        assert await here.everything() == built
        assert not again.has_changed
        assert [(one.kind, one.name) for one in again.resources] == [(one.kind, one.name) for one in report.resources]
        await teardown(here.site, again)
        assert await here.everything() == before
        assert own

    anyio.run(program)


@given(st.lists(st.text(max_size=90), unique=True, max_size=20), st.booleans())
def test_each_tenant_has_a_name_of_its_own_that_sqs_takes(tenants: list[str], fifo: bool) -> None:
    names = [tenant_queue("work", tenant, fifo=fifo) for tenant in tenants]
    assert len(set(names)) == len(names)
    dead = {name.removesuffix(".fifo") + "-dead" for name in names}
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,75}(\.fifo)?", name)
        assert len(name) <= 75
        assert name.endswith(".fifo") == fifo
        assert name not in dead


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: QueueShape(max_receives=0),
        lambda: QueueShape(attributes={"Policy": "{}"}),
        lambda: Rule(queue="q.fifo", pattern={}),
        lambda: Rule(queue="q", pattern={}, group_id="a"),
    ],
)
def test_shapes_that_make_no_sense(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"from 1 to 1000|sets Policy itself|has a group_id"):
        wrong()
