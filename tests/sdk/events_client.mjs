// Each operation of @aws-sdk/client-eventbridge, with queues of @aws-sdk/client-sqs as targets. A program, not a test: it
// prints the names of the operations it has used.

import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-eventbridge";
import { CreateQueueCommand, DeleteMessageCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import "@aws-sdk/signature-v4a"; // how requests to global endpoints are signed

const account = process.env.AWS_ACCESS_KEY_ID;
const region = process.env.AWS_REGION;
const elsewhere = "us-west-2";
const customer = String(BigInt(account) ^ 1n); // an account beside it
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const pattern = JSON.stringify({ source: ["order.service"], detail: { amount: [{ numeric: [">", 1000] }] } });
const used = new Set();

const events = new sdk.EventBridgeClient({ maxAttempts: 1 });
const far = new sdk.EventBridgeClient({ maxAttempts: 1, region: elsewhere });
const other = new sdk.EventBridgeClient({
  maxAttempts: 1,
  credentials: { accessKeyId: customer, secretAccessKey: "any" },
});
const sqs = new SQSClient({ maxAttempts: 1 });
const farSqs = new SQSClient({ maxAttempts: 1, region: elsewhere });

async function ask(operation, input = {}, client = events) {
  used.add(operation);
  const { $metadata, ...output } = await client.send(new sdk[`${operation}Command`](input));
  assert.equal($metadata.httpStatusCode, 200);
  return output;
}

async function refused(operation, input, name, message) {
  await assert.rejects(ask(operation, input), (error) => {
    assert.equal(error.name, name);
    if (sdk[name]) assert.ok(error instanceof sdk[name], error);
    assert.equal(error.$metadata.httpStatusCode, 400);
    assert.match(error.$metadata.requestId, UUID);
    assert.match(error.message, message);
    return true;
  });
}

const arn = (resource, where = region) => `arn:aws:events:${where}:${account}:${resource}`;

async function queue(QueueName, client = sqs, where = region) {
  const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName }));
  return { QueueUrl, client, arn: `arn:aws:sqs:${where}:${account}:${QueueName}` };
}

// What a queue has. Deliveries to queues are in the event's transaction, so there is nothing to wait for.
async function take({ QueueUrl, client }) {
  const taken = [];
  for (;;) {
    const { Messages } = await client.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10 }));
    if (!Messages) return taken;
    for (const { Body, ReceiptHandle } of Messages) {
      await client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }));
      taken.push(JSON.parse(Body));
    }
  }
}

const isNow = (moment) => assert.ok(Math.abs(moment - new Date()) < 60_000, String(moment));

const order = (amount, more) => ({
  Source: "order.service",
  DetailType: "Order Placed",
  Detail: JSON.stringify({ amount }),
  EventBusName: "orders",
  ...more,
});

async function buses() {
  const DeadLetterConfig = { Arn: `arn:aws:sqs:${region}:${account}:dead` };
  const made = await ask("CreateEventBus", { Name: "orders", DeadLetterConfig, Tags: [{ Key: "team", Value: "a" }] });
  assert.deepEqual(made, { EventBusArn: arn("event-bus/orders"), DeadLetterConfig });
  const updated = await ask("UpdateEventBus", { Name: "orders", Description: "Grüße" });
  assert.deepEqual([updated.Name, updated.Description], ["orders", "Grüße"]);
  await ask("PutPermission", {
    EventBusName: "orders",
    Action: "events:PutEvents",
    Principal: customer,
    StatementId: "c",
  });
  const shown = await ask("DescribeEventBus", { Name: made.EventBusArn });
  isNow(shown.CreationTime);
  assert.equal(JSON.parse(shown.Policy).Statement[0].Sid, "c");
  await ask("RemovePermission", { EventBusName: "orders", StatementId: "c" });
  assert.equal((await ask("DescribeEventBus", { Name: "orders" })).Policy, undefined);
  const first = await ask("ListEventBuses", { Limit: 1 });
  const second = await ask("ListEventBuses", { Limit: 1, NextToken: first.NextToken });
  assert.deepEqual([...first.EventBuses, ...second.EventBuses].map((bus) => bus.Name), ["default", "orders"]);
  assert.equal(second.NextToken, undefined);
  const ResourceARN = made.EventBusArn;
  await ask("TagResource", { ResourceARN, Tags: [{ Key: "cost", Value: "42" }] });
  await ask("UntagResource", { ResourceARN, TagKeys: ["team"] });
  assert.deepEqual(await ask("ListTagsForResource", { ResourceARN }), { Tags: [{ Key: "cost", Value: "42" }] });
  await refused("CreateEventBus", { Name: "orders" }, "ResourceAlreadyExistsException", /already exists/);
}

async function rules(target) {
  const rule = { Name: "large", EventBusName: "orders" };
  const made = await ask("PutRule", { ...rule, EventPattern: pattern, Description: "over 1000" });
  assert.deepEqual(made, { RuleArn: arn("rule/orders/large") });
  await refused("PutRule", { ...rule, EventPattern: '{"a": 1}' }, "InvalidEventPatternException", /not valid/);
  await refused("PutRule", { Name: "s", ScheduleExpression: "rate(0 days)" }, "ValidationException", /not valid/);
  const onRule = { Rule: "large", EventBusName: "orders" };
  const Targets = [{ Id: "q", Arn: target.arn, InputPath: "$.detail", RetryPolicy: { MaximumRetryAttempts: 2 } }];
  assert.deepEqual(await ask("PutTargets", { ...onRule, Targets }), { FailedEntryCount: 0, FailedEntries: [] });
  const described = await ask("DescribeRule", rule);
  assert.deepEqual([described.State, described.CreatedBy, described.EventPattern], ["ENABLED", account, pattern]);
  assert.deepEqual((await ask("ListRules", { EventBusName: "orders" })).Rules.map((each) => each.Name), ["large"]);
  assert.deepEqual((await ask("ListTargetsByRule", onRule)).Targets, Targets);
  const named = await ask("ListRuleNamesByTarget", { TargetArn: target.arn, EventBusName: "orders" });
  assert.deepEqual(named.RuleNames, ["large"]);
  await ask("DisableRule", rule);
  assert.equal((await ask("PutEvents", { Entries: [order(1500)] })).FailedEntryCount, 0);
  assert.deepEqual(await take(target), []);
  await ask("EnableRule", rule);
  const put = await ask("PutEvents", {
    Entries: [order(1500, { Time: new Date("2026-01-02T03:04:05.678Z") }), order(1000), order(0, { Detail: "no JSON" })],
  });
  assert.equal(put.FailedEntryCount, 1);
  assert.match(put.Entries[0].EventId, UUID);
  assert.deepEqual(put.Entries[2], { ErrorCode: "MalformedDetail", ErrorMessage: "Detail is malformed." });
  assert.deepEqual(await take(target), [{ amount: 1500 }]);
  const event = { id: "1", account, source: "order.service", time: "2026-01-02T03:04:05Z", region, resources: [] };
  const Event = JSON.stringify({ ...event, "detail-type": "Order Placed", detail: { amount: 1000.5 } });
  assert.deepEqual(await ask("TestEventPattern", { EventPattern: pattern, Event }), { Result: true });
  await refused("PutEvents", { Entries: [] }, "ValidationException", /at 'entries' failed to satisfy constraint/);
  await refused("DescribeRule", { Name: "gone" }, "ResourceNotFoundException", /Rule gone does not exist on EventBus/);
}

async function archives(target) {
  const bus = arn("event-bus/orders");
  const made = await ask("CreateArchive", { ArchiveName: "all", EventSourceArn: bus, RetentionDays: 7 });
  assert.equal(made.ArchiveArn, arn("archive/all"));
  isNow(made.CreationTime);
  await ask("UpdateArchive", { ArchiveName: "all", Description: "everything" });
  await ask("PutEvents", { Entries: [order(2000), order(10)] });
  const shown = await ask("DescribeArchive", { ArchiveName: "all" });
  assert.deepEqual([shown.EventCount, shown.RetentionDays, shown.Description], [2, 7, "everything"]);
  assert.deepEqual((await ask("ListArchives", { NamePrefix: "a" })).Archives.map((each) => each.EventCount), [2]);
  await take(target);
  const started = await ask("StartReplay", {
    ReplayName: "again",
    EventSourceArn: made.ArchiveArn,
    EventStartTime: new Date(Date.now() - 3_600_000),
    EventEndTime: new Date(Date.now() + 3_600_000),
    Destination: { Arn: bus, FilterArns: [arn("rule/orders/large")] },
  });
  assert.deepEqual([started.ReplayArn, started.State], [arn("replay/again"), "STARTING"]);
  let replay;
  do replay = await ask("DescribeReplay", { ReplayName: "again" });
  while (replay.State !== "COMPLETED");
  isNow(replay.EventLastReplayedTime);
  assert.deepEqual(await take(target), [{ amount: 2000 }]);
  assert.deepEqual((await ask("ListReplays")).Replays.map((each) => each.ReplayName), ["again"]);
  await refused("CancelReplay", { ReplayName: "again" }, "IllegalStatusException", /not in a valid state/);
  await ask("DeleteArchive", { ArchiveName: "all" });
}

async function connections() {
  const AuthParameters = {
    ApiKeyAuthParameters: { ApiKeyName: "x-key", ApiKeyValue: "secret" },
    InvocationHttpParameters: { HeaderParameters: [{ Key: "h", Value: "v", IsValueSecret: false }] },
  };
  const made = await ask("CreateConnection", { Name: "c", AuthorizationType: "API_KEY", AuthParameters });
  assert.equal(made.ConnectionState, "AUTHORIZED");
  await ask("UpdateConnection", { Name: "c", Description: "new" });
  const shown = await ask("DescribeConnection", { Name: "c" });
  assert.deepEqual(shown.AuthParameters.ApiKeyAuthParameters, { ApiKeyName: "x-key" });
  assert.deepEqual(shown.AuthParameters.InvocationHttpParameters.HeaderParameters[0].Value, "v");
  isNow(shown.LastAuthorizedTime);
  assert.deepEqual((await ask("ListConnections")).Connections.map((each) => each.Description ?? each.Name), ["c"]);
  const destination = await ask("CreateApiDestination", {
    Name: "d",
    ConnectionArn: made.ConnectionArn,
    InvocationEndpoint: "https://example.com/*",
    HttpMethod: "POST",
  });
  assert.equal(destination.ApiDestinationState, "ACTIVE");
  await ask("UpdateApiDestination", { Name: "d", InvocationRateLimitPerSecond: 5 });
  const described = await ask("DescribeApiDestination", { Name: "d" });
  assert.deepEqual([described.HttpMethod, described.InvocationRateLimitPerSecond], ["POST", 5]);
  assert.equal((await ask("ListApiDestinations", { NamePrefix: "d" })).ApiDestinations.length, 1);
  assert.equal((await ask("DeauthorizeConnection", { Name: "c" })).ConnectionState, "DEAUTHORIZING");
  assert.equal((await ask("DescribeApiDestination", { Name: "d" })).ApiDestinationState, "INACTIVE");
  await ask("DeleteApiDestination", { Name: "d" });
  assert.equal((await ask("DeleteConnection", { Name: "c" })).ConnectionState, "DELETING");
}

async function endpoints(target) {
  const there = await queue("there", farSqs, elsewhere);
  await ask("CreateEventBus", { Name: "orders" }, far);
  await ask("PutRule", { Name: "r", EventBusName: "orders", EventPattern: pattern }, far);
  await ask("PutTargets", { Rule: "r", EventBusName: "orders", Targets: [{ Id: "q", Arn: there.arn }] }, far);
  const health = { HealthCheck: "arn:aws:route53:::healthcheck/1-a" };
  const made = await ask("CreateEndpoint", {
    Name: "e",
    RoutingConfig: { FailoverConfig: { Primary: health, Secondary: { Route: elsewhere } } },
    EventBuses: [{ EventBusArn: arn("event-bus/orders") }, { EventBusArn: arn("event-bus/orders", elsewhere) }],
    RoleArn: `arn:aws:iam::${account}:role/r`,
  });
  assert.equal(made.State, "CREATING");
  const { EndpointId, EndpointUrl, State } = await ask("DescribeEndpoint", { Name: "e" });
  assert.equal(State, "ACTIVE");
  assert.equal(EndpointUrl, `https://${EndpointId}.endpoint.events.amazonaws.com`);
  const [before, remote] = [await take(target), await take(there)];
  assert.deepEqual([before, remote], [[], []]);
  await ask("PutEvents", { EndpointId, Entries: [order(3000)] });
  assert.deepEqual(await take(target), [{ amount: 3000 }]);
  assert.deepEqual((await take(there)).map((event) => event.detail), [{ amount: 3000 }]);
  await ask("UpdateEndpoint", { Name: "e", ReplicationConfig: { State: "DISABLED" } });
  await ask("PutEvents", { EndpointId, Entries: [order(4000)] });
  assert.deepEqual(await take(target), [{ amount: 4000 }]);
  assert.deepEqual(await take(there), []);
  assert.deepEqual((await ask("ListEndpoints")).Endpoints.map((each) => each.EndpointId), [EndpointId]);
  await ask("DeleteEndpoint", { Name: "e" });
}

async function partners() {
  const Name = `aws.partner/example.com/${account}/orders`;
  const made = await ask("CreatePartnerEventSource", { Name, Account: customer });
  assert.equal(made.EventSourceArn, `arn:aws:events:${region}::event-source/${Name}`);
  assert.deepEqual(await ask("DescribePartnerEventSource", { Name }), { Arn: made.EventSourceArn, Name });
  const sources = await ask("ListPartnerEventSources", { NamePrefix: "aws.partner/example.com/" });
  assert.deepEqual(sources.PartnerEventSources.map((each) => each.Name), [Name]);
  const accounts = await ask("ListPartnerEventSourceAccounts", { EventSourceName: Name });
  assert.deepEqual(accounts.PartnerEventSourceAccounts.map((each) => each.State), ["PENDING"]);
  assert.equal((await ask("ListEventSources", {}, other)).EventSources[0].CreatedBy, "aws.partner/example.com");
  await ask("CreateEventBus", { Name, EventSourceName: Name }, other);
  await ask("DeactivateEventSource", { Name }, other);
  assert.equal((await ask("DescribeEventSource", { Name }, other)).State, "PENDING");
  await ask("ActivateEventSource", { Name }, other);
  assert.equal((await ask("DescribeEventSource", { Name }, other)).State, "ACTIVE");
  const put = await ask("PutPartnerEvents", { Entries: [{ Source: Name, DetailType: "d", Detail: "{}" }] });
  assert.equal(put.FailedEntryCount, 0);
  await ask("DeletePartnerEventSource", { Name, Account: customer });
  assert.equal((await ask("DescribeEventSource", { Name }, other)).State, "DELETED");
  await ask("DeleteEventBus", { Name }, other);
}

async function down() {
  const onRule = { Rule: "large", EventBusName: "orders" };
  await refused("DeleteEventBus", { Name: "orders" }, "ValidationException", /has rules/);
  assert.deepEqual(await ask("RemoveTargets", { ...onRule, Ids: ["q"] }), { FailedEntryCount: 0, FailedEntries: [] });
  await ask("DeleteRule", { Name: "large", EventBusName: "orders" });
  await ask("DeleteEventBus", { Name: "orders" });
  assert.deepEqual((await ask("ListEventBuses")).EventBuses.map((bus) => bus.Name), ["default"]);
}

const target = await queue("q");
await buses();
await rules(target);
await archives(target);
await connections();
await endpoints(target);
await partners();
await down();
for (const client of [events, far, other, sqs, farSqs]) client.destroy();
console.log(JSON.stringify([...used].sort()));
