// @aws-sdk/client-sns and @aws-sdk/client-sqs together; the argument says which part. A program, not a test.

import assert from "node:assert/strict";
import { createVerify, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import {
  BatchEntryIdsNotDistinctException,
  ConfirmSubscriptionCommand,
  CreateTopicCommand,
  DeleteTopicCommand,
  EmptyBatchRequestException,
  GetSubscriptionAttributesCommand,
  GetTopicAttributesCommand,
  InvalidParameterException,
  InvalidParameterValueException,
  ListSubscriptionsByTopicCommand,
  ListTagsForResourceCommand,
  ListTopicsCommand,
  NotFoundException,
  PublishBatchCommand,
  PublishCommand,
  ResourceNotFoundException,
  SetSubscriptionAttributesCommand,
  SetTopicAttributesCommand,
  SNSClient,
  SubscribeCommand,
  TagResourceCommand,
  TooManyEntriesInBatchRequestException,
  UnsubscribeCommand,
  UntagResourceCommand,
  paginateListSubscriptions,
  paginateListSubscriptionsByTopic,
  paginateListTopics,
} from "@aws-sdk/client-sns";
import { CreateQueueCommand, DeleteMessageCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const account = process.env.AWS_ACCESS_KEY_ID;
const region = process.env.AWS_REGION;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const sns = new SNSClient({ maxAttempts: 1 });
const sqs = new SQSClient({ maxAttempts: 1 });

async function topic(Name, Attributes) {
  return (await sns.send(new CreateTopicCommand({ Name, Attributes }))).TopicArn;
}

async function queue(QueueName, Attributes) {
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName, Attributes }));
  return { QueueUrl, arn: `arn:aws:sqs:${region}:${account}:${QueueName}` };
}

async function subscribe(TopicArn, to, Attributes) {
  const wanted = { TopicArn, Protocol: "sqs", Endpoint: to.arn, Attributes };
  return (await sns.send(new SubscribeCommand(wanted))).SubscriptionArn;
}

const publish = (TopicArn, Message, more) => sns.send(new PublishCommand({ TopicArn, Message, ...more }));

// What a queue has. Deliveries to queues are in the publish's transaction, so there is nothing to wait for.
async function take({ QueueUrl }) {
  const all = { MessageAttributeNames: ["All"], MessageSystemAttributeNames: ["All"] };
  const taken = [];
  for (;;) {
    const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, ...all }));
    if (!Messages) return taken;
    for (const message of Messages) {
      await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: message.ReceiptHandle }));
      taken.push(message);
    }
  }
}

const bodies = async (from) => (await take(from)).map((message) => message.Body);

async function refused(command, Type, httpStatusCode, message) {
  await assert.rejects(sns.send(command), (error) => {
    assert.ok(error instanceof Type, error);
    assert.equal(error.$metadata.httpStatusCode, httpStatusCode);
    assert.match(error.$metadata.requestId, UUID);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  });
}

async function topics() {
  const tags = [{ Key: "team", Value: "a" }];
  const wanted = { Name: "t0", Attributes: { DisplayName: "<Té> & more" }, Tags: tags };
  const { TopicArn } = await sns.send(new CreateTopicCommand(wanted));
  assert.equal(TopicArn, `arn:aws:sns:${region}:${account}:t0`);
  assert.equal((await sns.send(new CreateTopicCommand({ Name: "t0", Attributes: {}, Tags: [] }))).TopicArn, TopicArn);
  const changed = { TopicArn, AttributeName: "SignatureVersion", AttributeValue: "2" };
  await sns.send(new SetTopicAttributesCommand(changed));
  const { Attributes } = await sns.send(new GetTopicAttributesCommand({ TopicArn }));
  assert.equal(Attributes.DisplayName, "<Té> & more");
  assert.equal(Attributes.SignatureVersion, "2");
  assert.equal(Attributes.Owner, account);
  assert.equal(JSON.parse(Attributes.Policy).Statement[0].Resource, TopicArn);

  await sns.send(new TagResourceCommand({ ResourceArn: TopicArn, Tags: [{ Key: "empty", Value: "" }] }));
  const tagged = await sns.send(new ListTagsForResourceCommand({ ResourceArn: TopicArn }));
  assert.deepEqual(tagged.Tags, [...tags, { Key: "empty", Value: "" }]);
  await sns.send(new UntagResourceCommand({ ResourceArn: TopicArn, TagKeys: ["team", "empty"] }));
  assert.deepEqual((await sns.send(new ListTagsForResourceCommand({ ResourceArn: TopicArn }))).Tags, []);

  // a page has a hundred
  const names = Array.from({ length: 100 }, (_, n) => `t${n + 1}`);
  await Promise.all(names.map((name) => topic(name)));
  const pages = [];
  for await (const { Topics } of paginateListTopics({ client: sns }, {})) pages.push(Topics);
  assert.deepEqual(pages.map((page) => page.length), [100, 1]);
  assert.equal(new Set(pages.flat().map((each) => each.TopicArn)).size, 101);

  const to = await Promise.all(Array.from({ length: 101 }, (_, n) => queue(`q${n}`)));
  await Promise.all(to.map((each) => subscribe(TopicArn, each)));
  for (const paginate of [paginateListSubscriptions, paginateListSubscriptionsByTopic]) {
    const seen = [];
    const request = paginate === paginateListSubscriptions ? {} : { TopicArn };
    for await (const { Subscriptions } of paginate({ client: sns }, request)) seen.push(Subscriptions);
    assert.deepEqual(seen.map((page) => page.length), [100, 1]);
    assert.deepEqual(new Set(seen.flat().map((each) => each.Endpoint)), new Set(to.map((each) => each.arn)));
  }

  // a publish reaches each of them
  const { MessageId } = await publish(TopicArn, "to all");
  for (const messages of await Promise.all(to.map(take))) {
    assert.equal(messages.length, 1);
    assert.equal(JSON.parse(messages[0].Body).MessageId, MessageId);
  }
  const counted = (await sns.send(new GetTopicAttributesCommand({ TopicArn }))).Attributes;
  assert.equal(counted.SubscriptionsConfirmed, "101");

  await sns.send(new DeleteTopicCommand({ TopicArn }));
  await sns.send(new DeleteTopicCommand({ TopicArn }));
  const left = await sns.send(new ListTopicsCommand({}));
  assert.equal(left.Topics.length, 100);
  assert.equal(left.NextToken, undefined);
}

async function queues() {
  const TopicArn = await topic("t");
  const enveloped = await queue("enveloped");
  const raw = await queue("raw");
  const arn = await subscribe(TopicArn, enveloped);
  assert.equal(await subscribe(TopicArn, enveloped), arn);
  await subscribe(TopicArn, raw, { RawMessageDelivery: "true" });
  const MessageAttributes = {
    text: { DataType: "String", StringValue: "ü & <" },
    number: { DataType: "Number", StringValue: "1.50" },
    list: { DataType: "String.Array", StringValue: '["a", 1, true, null]' },
    bytes: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255, 16]) },
    own: { DataType: "String.mine", StringValue: "x" },
  };
  const Message = 'Grüße 🚌\r\n\t"\\" </Message> &amp; \u2028';
  const { MessageId, SequenceNumber } = await publish(TopicArn, Message, { Subject: "Hi", MessageAttributes });
  assert.match(MessageId, UUID);
  assert.equal(SequenceNumber, undefined);

  const [inEnvelope] = await take(enveloped);
  assert.equal(inEnvelope.MessageAttributes, undefined);
  const { Timestamp, Signature, SigningCertURL, UnsubscribeURL, ...envelope } = JSON.parse(inEnvelope.Body);
  assert.match(Timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.ok(Math.abs(Date.now() - Date.parse(Timestamp)) < 60_000);
  assert.ok(Signature && SigningCertURL.endsWith(".pem"));
  assert.equal(new URL(UnsubscribeURL).searchParams.get("SubscriptionArn"), arn);
  assert.deepEqual(envelope, {
    Type: "Notification",
    MessageId,
    TopicArn,
    Subject: "Hi",
    Message,
    SignatureVersion: "1",
    MessageAttributes: {
      text: { Type: "String", Value: "ü & <" },
      number: { Type: "Number", Value: "1.50" },
      list: { Type: "String.Array", Value: '["a", 1, true, null]' },
      bytes: { Type: "Binary", Value: "AP8Q" },
      own: { Type: "String.mine", Value: "x" },
    },
  });

  const [asItIs] = await take(raw); // the SDK has checked the MD5 of its body
  assert.equal(asItIs.Body, Message);
  assert.notEqual(asItIs.MessageId, MessageId);
  assert.deepEqual([...asItIs.MessageAttributes.bytes.BinaryValue], [0, 255, 16]);
  const types = Object.entries(asItIs.MessageAttributes).map(([name, { DataType }]) => [name, DataType]);
  assert.deepEqual(
    Object.fromEntries(types),
    Object.fromEntries(Object.entries(MessageAttributes).map(([name, { DataType }]) => [name, DataType])),
  );
  assert.equal(asItIs.MessageAttributes.list.StringValue, '["a", 1, true, null]');

  // a text for each protocol
  const texts = JSON.stringify({ default: "for all", sqs: "for queues", lambda: "for functions" });
  await publish(TopicArn, texts, { MessageStructure: "json" });
  assert.deepEqual(await bodies(raw), ["for queues"]);
  assert.equal(JSON.parse((await bodies(enveloped))[0]).Message, "for queues");

  // a batch: each entry has its own outcome
  const batch = await sns.send(
    new PublishBatchCommand({
      TopicArn,
      PublishBatchRequestEntries: [
        { Id: "good", Message: "1", Subject: "S", MessageAttributes: { text: MessageAttributes.text } },
        { Id: "empty", Message: "" },
        { Id: "binary", Message: "2", MessageAttributes: { bytes: MessageAttributes.bytes } },
      ],
    }),
  );
  assert.deepEqual(batch.Successful.map((entry) => entry.Id), ["good", "binary"]);
  assert.ok(batch.Successful.every((entry) => UUID.test(entry.MessageId) && entry.SequenceNumber === undefined));
  assert.equal(batch.Failed.length, 1);
  assert.deepEqual([batch.Failed[0].Id, batch.Failed[0].SenderFault], ["empty", true]);
  assert.equal(batch.Failed[0].Code, "InvalidParameter");
  assert.match(batch.Failed[0].Message, /Empty message/);
  const received = Object.fromEntries((await take(raw)).map((message) => [message.Body, message.MessageAttributes]));
  assert.equal(received[1].text.StringValue, "ü & <");
  assert.deepEqual([...received[2].bytes.BinaryValue], [0, 255, 16]);
  const ids = (await bodies(enveloped)).map((body) => JSON.parse(body).MessageId);
  assert.deepEqual(new Set(ids), new Set(batch.Successful.map((entry) => entry.MessageId)));
  const whole = { TopicArn, PublishBatchRequestEntries: [{ Id: "a", Message: "3" }] };
  assert.deepEqual((await sns.send(new PublishBatchCommand(whole))).Failed, []);
  await Promise.all([take(raw), take(enveloped)]);

  // 256 KiB, and a little more
  const large = "x".repeat(256 * 1024);
  await publish(TopicArn, large);
  assert.deepEqual(await bodies(raw), [large]);
  const larger = new PublishCommand({ TopicArn, Message: `${large}x` });
  await refused(larger, InvalidParameterException, 400, "Invalid parameter: Message too long");
  await take(enveloped);

  await sns.send(new UnsubscribeCommand({ SubscriptionArn: arn }));
  await publish(TopicArn, "after");
  assert.deepEqual([await bodies(enveloped), await bodies(raw)], [[], ["after"]]);

  // the dead-letter queue of a subscription whose queue is not there
  const dead = await queue("dead");
  const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: dead.arn });
  const missing = { arn: `arn:aws:sqs:${region}:${account}:missing` };
  await subscribe(TopicArn, missing, { RedrivePolicy });
  const lost = await publish(TopicArn, "lost");
  const [undeliverable] = await bodies(dead);
  assert.equal(JSON.parse(undeliverable).MessageId, lost.MessageId);
}

async function filters() {
  const TopicArn = await topic("t");
  const byAttributes = await queue("by-attributes");
  const byBody = await queue("by-body");
  const string = (StringValue) => ({ DataType: "String", StringValue });
  const number = (StringValue) => ({ DataType: "Number", StringValue });
  const attributePolicy = {
    colour: ["red", { prefix: "bl" }, { "anything-but": { suffix: "n" } }],
    size: [{ numeric: [">=", 10, "<", 20] }],
    secret: [{ exists: false }],
  };
  const arn = await subscribe(TopicArn, byAttributes, {
    FilterPolicy: JSON.stringify(attributePolicy),
    RawMessageDelivery: "true",
  });
  const bodyPolicy = {
    order: { items: { sku: [{ "equals-ignore-case": "ABC" }, { wildcard: "x*z" }] } },
    $or: [{ paid: [true] }, { source: [{ cidr: "10.0.0.0/8" }] }],
  };
  await subscribe(TopicArn, byBody, {
    FilterPolicy: JSON.stringify(bodyPolicy),
    FilterPolicyScope: "MessageBody",
    RawMessageDelivery: "true",
  });
  const shown = (await sns.send(new GetSubscriptionAttributesCommand({ SubscriptionArn: arn }))).Attributes;
  assert.equal(shown.FilterPolicy, JSON.stringify(attributePolicy));
  assert.equal(shown.FilterPolicyScope, "MessageAttributes");

  const tries = [
    [{ colour: string("red"), size: number("10") }, true],
    [{ colour: string("blue"), size: number("19.99") }, true],
    [{ colour: string("green"), size: number("15") }, false],
    [{ colour: string("grey"), size: number("1.5e1") }, true],
    [{ colour: string("red"), size: number("20") }, false],
    [{ colour: string("red"), size: string("15") }, false],
    [{ colour: string("red") }, false],
    [{ colour: string("red"), size: number("10"), secret: string("s") }, false],
    [{ colour: { DataType: "String.Array", StringValue: '["green", "blue"]' }, size: number("11") }, true],
    [undefined, false],
  ];
  for (const [n, [MessageAttributes]] of tries.entries()) await publish(TopicArn, `m${n}`, { MessageAttributes });
  const expected = tries.flatMap(([, passes], n) => (passes ? [`m${n}`] : []));
  assert.deepEqual((await bodies(byAttributes)).sort(), expected);
  assert.deepEqual(await bodies(byBody), []); // not JSON

  const documents = [
    [{ order: { items: [{ sku: "abc" }, { sku: "q" }] }, paid: true }, true],
    [{ order: { items: [{ sku: "q" }] }, paid: true }, false],
    [{ order: { items: { sku: "x-y-z" } }, paid: false, source: "10.1.2.3" }, true],
    [{ order: { items: { sku: "abc" } }, paid: false, source: "11.1.2.3" }, false],
    [{ order: { items: { sku: "abc" } } }, false],
    [[{ order: { items: { sku: "abc" } }, paid: true }], false],
  ].map(([document, passes]) => [JSON.stringify(document), passes]);
  const batch = documents.map(([Message], n) => ({ Id: `${n}`, Message }));
  await sns.send(new PublishBatchCommand({ TopicArn, PublishBatchRequestEntries: batch }));
  const passed = documents.flatMap(([Message, passes]) => (passes ? [Message] : []));
  assert.deepEqual((await bodies(byBody)).sort(), passed.sort());
  assert.deepEqual(await bodies(byAttributes), []);

  // changed, refused, taken away
  const set = (AttributeValue) =>
    new SetSubscriptionAttributesCommand({ SubscriptionArn: arn, AttributeName: "FilterPolicy", AttributeValue });
  await sns.send(set('{"colour": ["green"]}'));
  await publish(TopicArn, "green", { MessageAttributes: { colour: string("green") } });
  assert.deepEqual(await bodies(byAttributes), ["green"]);
  for (const policy of ['{"a": "b"}', '{"a": [{"numeric": [">", "1"]}]}', '{"a": {"b": ["c"]}}', "{"]) {
    await refused(set(policy), InvalidParameterException, 400, /^Invalid parameter: FilterPolicy: /);
  }
  await sns.send(set("{}"));
  await publish(TopicArn, "any");
  assert.deepEqual(await bodies(byAttributes), ["any"]);
}

async function fifo() {
  const TopicArn = await topic("t.fifo", { FifoTopic: "true" });
  const shown = (await sns.send(new GetTopicAttributesCommand({ TopicArn }))).Attributes;
  assert.deepEqual([shown.FifoTopic, shown.ContentBasedDeduplication], ["true", "false"]);
  const enveloped = await queue("enveloped.fifo", { FifoQueue: "true" });
  const raw = await queue("raw.fifo", { FifoQueue: "true" });
  const standard = await queue("standard");
  await subscribe(TopicArn, enveloped);
  await subscribe(TopicArn, raw, { RawMessageDelivery: "true" });
  await subscribe(TopicArn, standard, { RawMessageDelivery: "true" });

  const sent = [];
  for (let n = 0; n < 20; n += 10) {
    const PublishBatchRequestEntries = Array.from({ length: 10 }, (_, i) => ({
      Id: `${i}`,
      Message: `${n + i}`,
      MessageGroupId: i % 2 ? "odd" : "even",
      MessageDeduplicationId: `d${n + i}`,
    }));
    const { Successful } = await sns.send(new PublishBatchCommand({ TopicArn, PublishBatchRequestEntries }));
    sent.push(...Successful);
  }
  const more = { MessageGroupId: "odd", MessageDeduplicationId: "d3" };
  const again = await publish(TopicArn, "another text", more);
  assert.equal(again.MessageId, sent[3].MessageId);
  assert.equal(again.SequenceNumber, sent[3].SequenceNumber);
  const numbers = sent.map((entry) => BigInt(entry.SequenceNumber));
  assert.ok(numbers.every((number, n) => n === 0 || number > numbers[n - 1]));
  assert.ok(sent.every((entry) => entry.SequenceNumber.length === 20));

  const received = (await take(enveloped)).map((message) => ({ ...message, envelope: JSON.parse(message.Body) }));
  for (const group of ["odd", "even"]) {
    const of = received.filter((message) => message.Attributes.MessageGroupId === group);
    const expected = Array.from({ length: 20 }, (_, n) => n).filter((n) => group === (n % 2 ? "odd" : "even"));
    assert.deepEqual(of.map((message) => Number(message.envelope.Message)), expected);
    for (const { Attributes, envelope } of of) {
      assert.equal(Attributes.MessageDeduplicationId, `d${envelope.Message}`);
      assert.equal(envelope.MessageId, sent[envelope.Message].MessageId);
      assert.equal(envelope.SequenceNumber, sent[envelope.Message].SequenceNumber);
    }
  }
  const texts = sent.map((_, n) => `${n}`).sort();
  const inGroups = await take(raw);
  assert.deepEqual(inGroups.map((message) => message.Body).sort(), texts);
  const odd = inGroups.filter((message) => message.Attributes.MessageGroupId === "odd").map((message) => message.Body);
  assert.deepEqual(odd, ["1", "3", "5", "7", "9", "11", "13", "15", "17", "19"]);
  assert.deepEqual((await bodies(standard)).sort(), texts);

  const withoutGroup = new PublishCommand({ TopicArn, Message: "x", MessageDeduplicationId: "x" });
  const missing = "Invalid parameter: The MessageGroupId parameter is required for FIFO topics";
  await refused(withoutGroup, InvalidParameterException, 400, missing);
  const withoutId = new PublishCommand({ TopicArn, Message: "x", MessageGroupId: "x" });
  await refused(withoutId, InvalidParameterException, 400, /ContentBasedDeduplication/);
  const change = { TopicArn, AttributeName: "ContentBasedDeduplication", AttributeValue: "true" };
  await sns.send(new SetTopicAttributesCommand(change));
  const first = await publish(TopicArn, "same", { MessageGroupId: "g" });
  const second = await publish(TopicArn, "same", { MessageGroupId: "g" });
  assert.deepEqual([second.MessageId, second.SequenceNumber], [first.MessageId, first.SequenceNumber]);
  assert.deepEqual(await bodies(raw), ["same"]);
}

async function errors() {
  const TopicArn = await topic("t");
  const none = TopicArn.replace(/t$/, "none");
  const request = { TopicArn: none };
  await refused(new GetTopicAttributesCommand(request), NotFoundException, 404, "Topic does not exist");
  await refused(new PublishCommand({ ...request, Message: "x" }), NotFoundException, 404, "Topic does not exist");
  await refused(
    new ListTagsForResourceCommand({ ResourceArn: none }),
    ResourceNotFoundException,
    404,
    "Resource does not exist",
  );
  await refused(
    new GetSubscriptionAttributesCommand({ SubscriptionArn: `${TopicArn}:00000000-0000-4000-8000-000000000000` }),
    NotFoundException,
    404,
    "Subscription does not exist",
  );
  await refused(
    new GetTopicAttributesCommand({ TopicArn: "t" }),
    InvalidParameterException,
    400,
    "Invalid parameter: TopicArn Reason: An ARN must have at least 6 elements, not 1",
  );
  const Name = "no good";
  await refused(new CreateTopicCommand({ Name }), InvalidParameterException, 400, "Invalid parameter: Topic Name");
  await refused(
    new CreateTopicCommand({ Name: "t", Attributes: { DisplayName: "other" } }),
    InvalidParameterException,
    400,
    "Invalid parameter: Attributes Reason: Topic already exists with different attributes",
  );
  await refused(
    new PublishCommand({ TopicArn, Message: "" }),
    InvalidParameterException,
    400,
    "Invalid parameter: Empty message",
  );
  const Subject = "two\nlines";
  const subject = new PublishCommand({ TopicArn, Message: "x", Subject });
  await refused(subject, InvalidParameterException, 400, "Invalid parameter: Subject");
  const MessageAttributes = { n: { DataType: "Number", StringValue: "many" } };
  await refused(
    new PublishCommand({ TopicArn, Message: "x", MessageAttributes }),
    InvalidParameterValueException,
    400,
    /'n'/,
  );
  await refused(
    new SubscribeCommand({ TopicArn, Protocol: "carrier-pigeon", Endpoint: "x" }),
    InvalidParameterException,
    400,
    "Invalid parameter: Amazon SNS does not support this protocol string: carrier-pigeon",
  );
  await refused(
    new ConfirmSubscriptionCommand({ TopicArn, Token: "x" }),
    InvalidParameterException,
    400,
    "Invalid parameter: Token",
  );
  const batch = (...ids) =>
    new PublishBatchCommand({ TopicArn, PublishBatchRequestEntries: ids.map((Id) => ({ Id, Message: "x" })) });
  await refused(
    batch("a", "a"),
    BatchEntryIdsNotDistinctException,
    400,
    "Two or more batch entries in the request have the same Id.",
  );
  await refused(batch(..."abcdefghijk"), TooManyEntriesInBatchRequestException, 400, /more entries than permissible/);
  await refused(batch(), EmptyBatchRequestException, 400, "The batch request doesn't contain any entries.");
}

// An HTTP endpoint: it visits the link, then checks what it gets as the developer guide says.
async function http() {
  const inbox = [];
  const server = createServer(async (request, response) => {
    const chunks = await request.toArray();
    inbox.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
    response.end();
    server.emit("post");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const next = async () => {
    if (!inbox.length) await once(server, "post", { signal: AbortSignal.timeout(20_000) });
    return inbox.shift();
  };
  const SIGNED = ["Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type"];
  const check = async (message) => {
    const pem = await (await fetch(message.SigningCertURL)).text();
    const text = SIGNED.filter((name) => name in message).map((name) => `${name}\n${message[name]}\n`);
    const verify = createVerify(message.SignatureVersion === "1" ? "RSA-SHA1" : "RSA-SHA256").update(text.join(""));
    assert.ok(verify.verify(new X509Certificate(pem).publicKey, message.Signature, "base64"), "forged");
  };

  try {
    for (const SignatureVersion of ["1", "2"]) {
      const TopicArn = await topic(`t${SignatureVersion}`, { SignatureVersion });
      const Endpoint = `http://127.0.0.1:${server.address().port}/sns`;
      const wanted = { TopicArn, Protocol: "http", Endpoint, ReturnSubscriptionArn: true };
      const { SubscriptionArn } = await sns.send(new SubscribeCommand(wanted));
      assert.ok(SubscriptionArn.startsWith(`${TopicArn}:`));
      const asked = await next();
      const question = JSON.parse(asked.body);
      assert.equal(asked.headers["x-amz-sns-message-type"], "SubscriptionConfirmation");
      assert.equal(question.Type, "SubscriptionConfirmation");
      await check(question);
      await publish(TopicArn, "nobody has confirmed yet");
      const listed = await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn }));
      assert.deepEqual(listed.Subscriptions.map((each) => each.SubscriptionArn), ["PendingConfirmation"]);
      const visited = await fetch(question.SubscribeURL);
      assert.equal(visited.status, 200);
      assert.ok((await visited.text()).includes(`<SubscriptionArn>${SubscriptionArn}</SubscriptionArn>`));

      const { MessageId } = await publish(TopicArn, "Grüße 🚌\n</a>", { Subject: "Hi" });
      const { headers, body } = await next();
      const message = JSON.parse(body);
      assert.equal(headers["x-amz-sns-message-type"], "Notification");
      assert.equal(headers["x-amz-sns-message-id"], MessageId);
      assert.equal(headers["x-amz-sns-topic-arn"], TopicArn);
      assert.equal(headers["x-amz-sns-subscription-arn"], SubscriptionArn);
      assert.equal(headers["content-type"], "text/plain; charset=UTF-8");
      assert.equal(headers["user-agent"], "Amazon Simple Notification Service Agent");
      assert.equal(message.SignatureVersion, SignatureVersion);
      assert.deepEqual([message.MessageId, message.Message, message.Subject], [MessageId, "Grüße 🚌\n</a>", "Hi"]);
      await check(message);
      await assert.rejects(check({ ...message, Message: "other" }), /forged/);

      assert.equal((await fetch(message.UnsubscribeURL)).status, 200);
      const farewell = JSON.parse((await next()).body);
      assert.equal(farewell.Type, "UnsubscribeConfirmation");
      await check(farewell);
      await publish(TopicArn, "nobody is left");
      assert.deepEqual((await sns.send(new ListSubscriptionsByTopicCommand({ TopicArn }))).Subscriptions, []);
    }
    assert.deepEqual(inbox, []);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

await { topics, queues, filters, fifo, errors, http }[process.argv[2]]();
sns.destroy();
sqs.destroy();
