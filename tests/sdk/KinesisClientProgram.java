// The SDK for Java, version 2, against Kinesis; the argument says which part. A program, not a test.
// It speaks CBOR, its default for Kinesis, and its asynchronous client speaks HTTP/2, here without TLS.

import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.*;

public class KinesisClientProgram {
    static final String SHARD = "shardId-000000000000";
    static final URI ENDPOINT = URI.create(System.getenv("AWS_ENDPOINT_URL"));
    static final List<String> contentTypes = new ArrayList<>();

    /** Notes in which protocol the broker was asked. */
    static final ExecutionInterceptor NOTE = new ExecutionInterceptor() {
        @Override
        public void beforeTransmission(Context.BeforeTransmission context, ExecutionAttributes attributes) {
            if (!(context.request() instanceof SubscribeToShardRequest)) { // which the SDK writes in JSON at all times
                contentTypes.add(context.httpRequest().firstMatchingHeader("Content-Type").orElse(""));
            }
        }
    };

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "records" -> records("application/x-amz-cbor-1.1");
            case "json" -> records("application/x-amz-json-1.1");
            case "errors" -> errors();
            case "subscribe" -> subscribe();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static void check(boolean holds, Object shown) {
        if (!holds) {
            throw new AssertionError(shown);
        }
    }

    static KinesisClient client() {
        return KinesisClient.builder()
                .endpointOverride(ENDPOINT)
                .overrideConfiguration(c -> c.addExecutionInterceptor(NOTE).retryStrategy(r -> r.maxAttempts(1)))
                .build();
    }

    static String iterator(KinesisClient kinesis, String shard, ShardIteratorType type, Instant timestamp) {
        return kinesis.getShardIterator(
                        r -> r.streamName("s").shardId(shard).shardIteratorType(type).timestamp(timestamp))
                .shardIterator();
    }

    static List<String> texts(List<software.amazon.awssdk.services.kinesis.model.Record> records) {
        return records.stream().map(r -> r.data().asUtf8String()).collect(Collectors.toList());
    }

    static void records(String expectedType) {
        try (KinesisClient kinesis = client()) {
            Instant before = Instant.now();
            kinesis.createStream(r -> r.streamName("s").shardCount(2).tags(Map.of("team", "ä")));
            kinesis.waiter().waitUntilStreamExists(r -> r.streamName("s"));
            StreamDescription described =
                    kinesis.describeStream(r -> r.streamName("s")).streamDescription();
            check(described.streamStatus() == StreamStatus.ACTIVE, described);
            check(described.shards().size() == 2, described);
            check(!described.hasMoreShards(), described);
            check(Duration.between(before, described.streamCreationTimestamp()).abs().toSeconds() < 60, described);
            check(kinesis.listTagsForStream(r -> r.streamName("s")).tags().get(0).value().equals("ä"), "tags");

            byte[] all = new byte[256];
            for (int i = 0; i < 256; i++) {
                all[i] = (byte) i;
            }
            PutRecordResponse put = kinesis.putRecord(r -> r.streamARN(described.streamARN())
                    .data(SdkBytes.fromByteArray(all)).partitionKey("k").explicitHashKey("0"));
            check(put.shardId().equals(SHARD), put);
            check(put.sequenceNumber().length() == 56, put);
            List<PutRecordsRequestEntry> entries = IntStream.range(0, 500)
                    .mapToObj(i -> PutRecordsRequestEntry.builder().data(SdkBytes.fromUtf8String("r" + i))
                            .partitionKey("k" + i).explicitHashKey("1").build())
                    .collect(Collectors.toList());
            PutRecordsResponse batch = kinesis.putRecords(r -> r.streamName("s").records(entries));
            check(batch.failedRecordCount() == 0, batch);
            check(batch.records().stream().allMatch(e -> e.shardId().equals(SHARD)), batch);

            String first = iterator(kinesis, SHARD, ShardIteratorType.TRIM_HORIZON, null);
            GetRecordsResponse page = kinesis.getRecords(r -> r.shardIterator(first).limit(1));
            var record = page.records().get(0);
            check(java.util.Arrays.equals(record.data().asByteArray(), all), record);
            check(record.sequenceNumber().equals(put.sequenceNumber()), record);
            check(record.partitionKey().equals("k"), record);
            Instant arrived = record.approximateArrivalTimestamp();
            check(Duration.between(before, arrived).abs().toSeconds() < 60, record);
            String second = page.nextShardIterator();
            page = kinesis.getRecords(r -> r.shardIterator(second));
            check(page.records().size() == 500, page.records().size());
            check(page.records().get(499).data().asUtf8String().equals("r499"), page.records().get(499));
            check(page.millisBehindLatest() == 0, page.millisBehindLatest());
            String since = iterator(kinesis, SHARD, ShardIteratorType.AT_TIMESTAMP, arrived);
            check(kinesis.getRecords(r -> r.shardIterator(since)).records().size() == 501, arrived);

            kinesis.splitShard(r -> r.streamName("s").shardToSplit(SHARD).newStartingHashKey("17"));
            String third = page.nextShardIterator();
            page = kinesis.getRecords(r -> r.shardIterator(third));
            check(page.nextShardIterator() == null, page);
            check(page.childShards().size() == 2, page);
            check(page.childShards().get(0).hashKeyRange().endingHashKey().equals("16"), page);
            check(kinesis.listShards(r -> r.streamName("s")).shards().size() == 4, "shards");
        }
        check(contentTypes.stream().allMatch(expectedType::equals), contentTypes);
    }

    static void errors() {
        try (KinesisClient kinesis = client()) {
            try {
                kinesis.describeStream(r -> r.streamName("nowhere"));
                throw new AssertionError("described");
            } catch (ResourceNotFoundException e) {
                check(e.statusCode() == 400, e.statusCode());
                check(e.awsErrorDetails().errorCode().equals("ResourceNotFoundException"), e.awsErrorDetails());
                check(e.awsErrorDetails().errorMessage().startsWith("Stream nowhere under account "), e.getMessage());
                check(e.requestId().length() == 36, e.requestId());
            }
            try {
                kinesis.getRecords(r -> r.shardIterator("x"));
                throw new AssertionError("read");
            } catch (InvalidArgumentException e) {
                check(e.awsErrorDetails().errorMessage().equals("Invalid ShardIterator."), e.getMessage());
            }
            try {
                kinesis.createStream(r -> r.streamName("a b").shardCount(1));
                throw new AssertionError("made");
            } catch (ValidationException e) {
                check(e.awsErrorDetails().errorMessage().contains("at 'streamName'"), e.getMessage());
            }
        }
    }

    static void subscribe() throws Exception {
        try (KinesisAsyncClient kinesis = KinesisAsyncClient.builder()
                .endpointOverride(ENDPOINT)
                .overrideConfiguration(c -> c.addExecutionInterceptor(NOTE).retryStrategy(r -> r.maxAttempts(1)))
                .build()) {
            kinesis.createStream(r -> r.streamName("s").shardCount(1)).join();
            String arn = kinesis.describeStreamSummary(r -> r.streamName("s")).join()
                    .streamDescriptionSummary().streamARN();
            String consumer = kinesis.registerStreamConsumer(r -> r.streamARN(arn).consumerName("c")).join()
                    .consumer().consumerARN();
            kinesis.putRecord(r -> r.streamName("s").data(SdkBytes.fromUtf8String("before")).partitionKey("k")).join();

            LinkedBlockingQueue<SubscribeToShardEvent> events = new LinkedBlockingQueue<>();
            CompletableFuture<SubscribeToShardResponse> begun = new CompletableFuture<>();
            CompletableFuture<Void> subscription = kinesis.subscribeToShard(
                    r -> r.consumerARN(consumer).shardId(SHARD)
                            .startingPosition(p -> p.type(ShardIteratorType.TRIM_HORIZON)),
                    SubscribeToShardResponseHandler.builder()
                            .onResponse(begun::complete)
                            .onError(begun::completeExceptionally)
                            .subscriber(SubscribeToShardResponseHandler.Visitor.builder()
                                    .onSubscribeToShardEvent(events::add).build())
                            .build());
            begun.get(20, TimeUnit.SECONDS);
            List<String> seen = new ArrayList<>(texts(next(events).records()));
            for (int i = 0; i < 5; i++) {
                String text = "pushed " + i;
                kinesis.putRecord(r -> r.streamName("s").data(SdkBytes.fromUtf8String(text)).partitionKey("k")).join();
                SubscribeToShardEvent event = next(events);
                check(event.continuationSequenceNumber() != null, event);
                seen.addAll(texts(event.records()));
            }
            check(seen.size() == 6 && seen.get(0).equals("before") && seen.get(5).equals("pushed 4"), seen);

            // Again within five seconds.
            try {
                subscribeAndIgnore(kinesis, consumer).get(20, TimeUnit.SECONDS);
                throw new AssertionError("subscribed twice");
            } catch (java.util.concurrent.ExecutionException e) {
                check(e.getCause() instanceof ResourceInUseException, e.getCause());
            }

            kinesis.splitShard(r -> r.streamName("s").shardToSplit(SHARD).newStartingHashKey("17")).join();
            SubscribeToShardEvent last = next(events);
            while (last.childShards().isEmpty()) {
                last = next(events);
            }
            check(last.continuationSequenceNumber() == null, last);
            check(last.childShards().size() == 2, last);
            subscription.get(20, TimeUnit.SECONDS);

            // An error in the midst of a stream.
            CompletableFuture<Void> other = subscribeTo(kinesis, consumer, "shardId-000000000001", events);
            next(events);
            kinesis.deregisterStreamConsumer(r -> r.consumerARN(consumer)).join();
            try {
                other.get(20, TimeUnit.SECONDS);
                throw new AssertionError("went on");
            } catch (java.util.concurrent.ExecutionException e) {
                check(e.getCause() instanceof ResourceNotFoundException, e.getCause());
            }
        }
        check(contentTypes.stream().allMatch("application/x-amz-cbor-1.1"::equals), contentTypes);
    }

    static SubscribeToShardEvent next(LinkedBlockingQueue<SubscribeToShardEvent> events) throws Exception {
        SubscribeToShardEvent event = events.poll(20, TimeUnit.SECONDS);
        check(event != null, "no event in 20 s");
        return event;
    }

    static CompletableFuture<Void> subscribeAndIgnore(KinesisAsyncClient kinesis, String consumer) {
        return subscribeTo(kinesis, consumer, SHARD, new LinkedBlockingQueue<>());
    }

    static CompletableFuture<Void> subscribeTo(
            KinesisAsyncClient kinesis,
            String consumer,
            String shard,
            LinkedBlockingQueue<SubscribeToShardEvent> events) {
        return kinesis.subscribeToShard(
                r -> r.consumerARN(consumer).shardId(shard)
                        .startingPosition(p -> p.type(ShardIteratorType.TRIM_HORIZON)),
                SubscribeToShardResponseHandler.builder()
                        .subscriber(SubscribeToShardResponseHandler.Visitor.builder()
                                .onSubscribeToShardEvent(events::add).build())
                        .build());
    }
}
