"""A build that is interrupted, the one that completes it, something broken and mended, messages, the teardown."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio

from patterns.demos import say
from patterns.threads import InThreads
from patterns.topologies import Rule, Subscription, bus_to_queues, fan_out, teardown
from patterns.topology_parts import Report, Site, State


class Interrupted(Exception):
    pass


class Flaky(InThreads):
    """A client with which the process ends at the first call of one operation."""

    def __init__(self, client: Any, operation: str) -> None:
        super().__init__(client)
        self._operation = operation

    def __getattr__(self, operation: str) -> Any:
        if operation == self._operation:
            raise Interrupted(operation)
        return super().__getattr__(operation)


def tell(report: Report, *ordinary: State) -> None:
    for one in report.resources:
        if one.state not in ordinary:
            say(f"  {one.kind.value} {one.name}: {one.state.value}")
    for state in ordinary:
        if count := sum(one.state is state for one in report.resources):
            say(f"  {count} things {state.value}")


async def run(client: Callable[[str], Any]) -> None:
    sqs, sns, events = client("sqs"), client("sns"), client("events")
    name = f"demo-{uuid.uuid4().hex[:8]}"
    site = Site(name, sqs=InThreads(sqs), sns=InThreads(sns), events=InThreads(events))
    queues = {
        f"{name}-all": Subscription(),
        f"{name}-tea": Subscription(filter_policy={"kind": ["tea"]}),
    }
    rules = {f"{name}-paid": Rule(queue=f"{name}-paid", pattern={"detail-type": ["paid"]})}

    async def build(at: Site) -> list[Report]:
        return [await fan_out(at, name, queues), await bus_to_queues(at, name, rules)]

    try:
        say("a build whose process ends when it would subscribe the first queue")
        try:
            await fan_out(Site(name, sqs=site.sqs, sns=Flaky(sns, "subscribe")), name, queues)
        except Interrupted as error:
            say(f"  ended at {error}")
        say("a look: what is there, and what is missing")
        for report in await build(site.looking()):
            tell(report, State.THERE, State.MISSING)
        say("the build again")
        reports = await build(site)
        for report in reports:
            tell(report, State.THERE)
        say("and again")
        for report in await build(site):
            tell(report, State.THERE)
        say("somebody lets nobody send to a queue any more, and the build comes round")
        sqs.set_queue_attributes(QueueUrl=reports[0].queue_urls[f"{name}-tea"], Attributes={"Policy": ""})
        for report in await build(site):
            tell(report, State.THERE)
        for kind in ("tea", "cake"):
            attributes = {"kind": {"DataType": "String", "StringValue": kind}}
            sns.publish(TopicArn=reports[0].topic_arn, Message=kind, MessageAttributes=attributes)
        events.put_events(Entries=[{"EventBusName": name, "Source": "demo", "DetailType": "paid", "Detail": "{}"}])
        await anyio.sleep(0.5)
        for report in reports:
            for queue, url in report.queue_urls.items():
                answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                bodies = [message["Body"][:60] for message in answer.get("Messages", [])]
                say(f"  in {queue}: {bodies}")
        say("the teardown keeps queues with messages, unless it is told not to")
    finally:
        for is_last in (False, True):
            for report in reversed(await build(site.looking())):
                tell(await teardown(site, report, even_with_messages=is_last), State.DELETED, State.MISSING)
