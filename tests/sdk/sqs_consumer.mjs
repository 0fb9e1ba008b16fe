// A thousand messages through @aws-sdk/client-sqs and sqs-consumer, then the errors. A program, not a test.
// The SDK checks the MD5 of what it sends and of what it receives.

import assert from "node:assert/strict";
import {
  ChangeMessageVisibilityCommand,
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  DeleteMessageCommand,
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ListQueuesCommand,
  QueueDoesNotExist,
  ReceiptHandleIsInvalid,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
  paginateListQueues,
} from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const MESSAGES = 1000;
const sqs = new SQSClient({});
const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: "q", tags: { team: "a" } }));

async function produce(count) {
  const batches = [];
  for (let start = 0; start < count; start += 10) {
    const Entries = Array.from({ length: 10 }, (_, n) => ({
      Id: `m${n}`,
      MessageBody: JSON.stringify({ n: start + n, text: "Grüße 🚌" }),
      MessageAttributes: { n: { DataType: "Number", StringValue: `${start + n}` } },
    }));
    batches.push(sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries })));
  }
  for (const { Successful, Failed } of await Promise.all(batches)) {
    assert.equal(Successful.length, 10);
    assert.equal(Failed, undefined);
  }
}

// One consumer takes batches, another single messages; they poll before the first message is there.
async function consume(expected) {
  const seen = new Map();
  await new Promise((done, failed) => {
    const handle = async (message) => {
      const { n } = JSON.parse(message.Body);
      assert.equal(message.MessageAttributes.n.StringValue, `${n}`);
      assert.equal(message.Attributes.ApproximateReceiveCount, seen.has(n) ? "2" : "1");
      // Every hundredth is refused once: it comes again as soon as its visibility timeout is ended.
      if (n % 100 === 0 && !seen.has(n)) {
        seen.set(n, 0);
        throw new Error("once more, please");
      }
      seen.set(n, (seen.get(n) ?? 0) + 1);
    };
    const common = {
      queueUrl: QueueUrl,
      sqs,
      batchSize: 10,
      waitTimeSeconds: 20,
      terminateVisibilityTimeout: true,
      messageAttributeNames: ["All"],
      messageSystemAttributeNames: ["ApproximateReceiveCount"],
    };
    const consumers = [
      Consumer.create({
        ...common,
        handleMessage: async (message) => {
          await handle(message);
          return message;
        },
      }),
      Consumer.create({
        ...common,
        handleMessageBatch: async (messages) => {
          const good = [];
          for (const message of messages) {
            const { n } = JSON.parse(message.Body);
            if (n % 100 === 0 && !seen.has(n)) {
              seen.set(n, 0);
              await sqs.send(
                new ChangeMessageVisibilityCommand({
                  QueueUrl,
                  ReceiptHandle: message.ReceiptHandle,
                  VisibilityTimeout: 0,
                }),
              );
            } else {
              await handle(message);
              good.push(message);
            }
          }
          return good;
        },
      }),
    ];
    const finished = () => {
      if (seen.size === expected && [...seen.values()].every((count) => count === 1)) {
        for (const consumer of consumers) consumer.stop({ abort: true }); // who leaves is handed nothing more
      }
    };
    let stopped = 0;
    for (const consumer of consumers) {
      consumer.on("error", failed);
      consumer.on("processing_error", (error) => error.message.includes("once more") || failed(error));
      consumer.on("response_processed", finished);
      consumer.on("stopped", () => ++stopped === consumers.length && done());
      consumer.start();
    }
    produce(expected).catch(failed);
  });
  assert.equal(seen.size, expected);
}

await consume(MESSAGES);
const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }));
assert.equal(Attributes.ApproximateNumberOfMessages, "0");
assert.equal(Attributes.ApproximateNumberOfMessagesNotVisible, "0");

// single messages, binary attributes
const MessageAttributes = { raw: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) } };
const sent = await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "x", MessageAttributes }));
const received = await sqs.send(
  new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5, MessageAttributeNames: ["All"] }),
);
assert.equal(received.Messages[0].MessageId, sent.MessageId);
assert.deepEqual([...received.Messages[0].MessageAttributes.raw.BinaryValue], [0, 255]);
const { ReceiptHandle } = received.Messages[0];
await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }));
const nothing = await sqs.send(new ReceiveMessageCommand({ QueueUrl }));
assert.equal(nothing.Messages, undefined);
const batch = await sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries: [{ Id: "a", ReceiptHandle: "x" }] }));
assert.equal(batch.Failed[0].Code, "ReceiptHandleIsInvalid");
assert.equal(batch.Failed[0].SenderFault, true);

// pages
await sqs.send(new CreateQueueCommand({ QueueName: "r" }));
const pages = [];
for await (const page of paginateListQueues({ client: sqs, pageSize: 1 }, {})) pages.push(page.QueueUrls.length);
assert.deepEqual(pages, [1, 1]);
assert.equal((await sqs.send(new ListQueuesCommand({ QueueNamePrefix: "none" }))).QueueUrls, undefined);

// errors are of the SDK's own types
await assert.rejects(sqs.send(new GetQueueUrlCommand({ QueueName: "none" })), (error) => {
  assert.ok(error instanceof QueueDoesNotExist, error);
  assert.equal(error.message, "The specified queue does not exist.");
  assert.equal(error.$metadata.httpStatusCode, 400);
  return true;
});
await assert.rejects(
  sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: "x" })),
  (error) => error instanceof ReceiptHandleIsInvalid,
);
await assert.rejects(
  sqs.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 11 })),
  (error) => error.name === "InvalidParameterValue",
);
await sqs.send(new DeleteQueueCommand({ QueueUrl }));
sqs.destroy();
