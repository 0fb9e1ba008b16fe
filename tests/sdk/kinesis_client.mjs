// @aws-sdk/client-kinesis, whose own way is HTTP/2; the argument says which part. A program, not a test.

import assert from "node:assert/strict";
import {
  CreateStreamCommand,
  DeregisterStreamConsumerCommand,
  DescribeStreamCommand,
  DescribeStreamSummaryCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  InvalidArgumentException,
  KinesisClient,
  ListShardsCommand,
  PutRecordCommand,
  PutRecordsCommand,
  RegisterStreamConsumerCommand,
  ResourceInUseException,
  ResourceNotFoundException,
  SplitShardCommand,
  SubscribeToShardCommand,
  paginateListStreams,
  waitUntilStreamExists,
} from "@aws-sdk/client-kinesis";

const shard = "shardId-000000000000";
const kinesis = new KinesisClient({ maxAttempts: 1 });
const bytes = (text) => new TextEncoder().encode(text);
const text = (record) => new TextDecoder().decode(record.Data);
const send = (command) => kinesis.send(command);

async function stream(ShardCount = 1) {
  await send(new CreateStreamCommand({ StreamName: "s", ShardCount }));
  const { StreamDescriptionSummary } = await send(new DescribeStreamSummaryCommand({ StreamName: "s" }));
  return StreamDescriptionSummary.StreamARN;
}

async function put(...texts) {
  for (const one of texts) await send(new PutRecordCommand({ StreamName: "s", Data: bytes(one), PartitionKey: "k" }));
}

async function refusal(command) {
  try {
    await send(command);
  } catch (error) {
    return error;
  }
  assert.fail("it was not refused");
}

async function records() {
  const before = Date.now() - 1000;
  await stream(2);
  await waitUntilStreamExists({ client: kinesis, maxWaitTime: 20 }, { StreamName: "s" });
  const { StreamDescription: described } = await send(new DescribeStreamCommand({ StreamName: "s" }));
  assert.equal(described.StreamStatus, "ACTIVE");
  assert.equal(described.Shards.length, 2);
  assert.ok(described.StreamCreationTimestamp instanceof Date);
  const Data = Uint8Array.from({ length: 256 }, (_, n) => n);
  const one = await send(
    new PutRecordCommand({ StreamARN: described.StreamARN, Data, PartitionKey: "k", ExplicitHashKey: "0" }),
  );
  assert.equal(one.ShardId, shard);
  assert.match(one.SequenceNumber, /^[0-9]{56}$/);
  const Records = Array.from({ length: 500 }, (_, n) => ({
    Data: bytes(`r${n}`),
    PartitionKey: `k${n}`,
    ExplicitHashKey: "1",
  }));
  const many = await send(new PutRecordsCommand({ StreamName: "s", Records }));
  assert.equal(many.FailedRecordCount, 0);
  const asked = { StreamName: "s", ShardId: shard, ShardIteratorType: "TRIM_HORIZON" };
  const { ShardIterator } = await send(new GetShardIteratorCommand(asked));
  let page = await send(new GetRecordsCommand({ ShardIterator }));
  assert.equal(page.Records.length, 501);
  assert.deepEqual(page.Records[0].Data, Data);
  assert.equal(page.Records[0].SequenceNumber, one.SequenceNumber);
  assert.ok(page.Records[0].ApproximateArrivalTimestamp.getTime() > before);
  assert.equal(text(page.Records[500]), "r499");
  assert.equal(page.MillisBehindLatest, 0);
  await send(new SplitShardCommand({ StreamName: "s", ShardToSplit: shard, NewStartingHashKey: "17" }));
  page = await send(new GetRecordsCommand({ ShardIterator: page.NextShardIterator }));
  assert.equal(page.NextShardIterator, undefined);
  assert.deepEqual(page.ChildShards[0], {
    ShardId: "shardId-000000000002",
    ParentShards: [shard],
    HashKeyRange: { StartingHashKey: "0", EndingHashKey: "16" },
  });
  assert.equal((await send(new ListShardsCommand({ StreamName: "s" }))).Shards.length, 4);
  await send(new CreateStreamCommand({ StreamName: "t", ShardCount: 1 }));
  const names = [];
  for await (const listed of paginateListStreams({ client: kinesis, pageSize: 1 }, {})) names.push(...listed.StreamNames);
  assert.deepEqual(names, ["s", "t"]);
}

async function errors() {
  const missing = await refusal(new DescribeStreamCommand({ StreamName: "nowhere" }));
  assert.ok(missing instanceof ResourceNotFoundException);
  assert.match(missing.message, /^Stream nowhere under account [0-9]{12} not found\.$/);
  assert.equal(missing.$metadata.httpStatusCode, 400);
  const invalid = await refusal(new GetRecordsCommand({ ShardIterator: "x" }));
  assert.ok(invalid instanceof InvalidArgumentException);
  assert.equal(invalid.message, "Invalid ShardIterator.");
}

async function subscribe() {
  const StreamARN = await stream();
  const { Consumer } = await send(new RegisterStreamConsumerCommand({ StreamARN, ConsumerName: "c" }));
  await put("before");
  const asked = (ShardId) =>
    new SubscribeToShardCommand({
      ConsumerARN: Consumer.ConsumerARN,
      ShardId,
      StartingPosition: { Type: "TRIM_HORIZON" },
    });
  const { EventStream } = await send(asked(shard));
  const events = EventStream[Symbol.asyncIterator]();
  const next = async () => (await events.next()).value.SubscribeToShardEvent;
  assert.deepEqual((await next()).Records.map(text), ["before"]);
  for (const pushed of ["1", "2", "3"]) {
    await put(pushed);
    const event = await next();
    assert.deepEqual(event.Records.map(text), [pushed]);
    assert.match(event.ContinuationSequenceNumber, /^[0-9]{56}$/);
    assert.equal(event.MillisBehindLatest, 0);
  }
  assert.ok((await refusal(asked(shard))) instanceof ResourceInUseException);
  await send(new SplitShardCommand({ StreamName: "s", ShardToSplit: shard, NewStartingHashKey: "17" }));
  const last = await next();
  assert.equal(last.ContinuationSequenceNumber, undefined);
  assert.equal(last.ChildShards.length, 2);
  assert.equal((await events.next()).done, true);

  const other = (await send(asked("shardId-000000000001"))).EventStream[Symbol.asyncIterator]();
  await other.next();
  await send(new DeregisterStreamConsumerCommand({ ConsumerARN: Consumer.ConsumerARN }));
  await assert.rejects(async () => {
    while (!(await other.next()).done);
  }, ResourceNotFoundException);
}

await { records, errors, subscribe }[process.argv[2]]();
kinesis.destroy();
