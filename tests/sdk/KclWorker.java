// One worker of a Kinesis Client Library application, of 2.x or 3.x. Each record becomes a line of the log file, which
// the workers of an application share; each batch is followed by a checkpoint. SIGTERM ends it gracefully.
//
//     java KclWorker polling|fanout APPLICATION STREAM WORKER LOG

import java.io.FileOutputStream;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

public class KclWorker {
    private static String worker;
    private static FileOutputStream log;

    public static void main(String[] arguments) throws Exception {
        String mode = arguments[0], application = arguments[1], stream = arguments[2];
        worker = arguments[3];
        log = new FileOutputStream(arguments[4], true);

        URI endpoint = URI.create(System.getenv("AWS_ENDPOINT_URL"));  // the SDK of KCL 2.x does not look for it itself
        KinesisAsyncClient kinesis = KinesisClientUtil.createKinesisAsyncClient(
                KinesisAsyncClient.builder().endpointOverride(endpoint));
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder().endpointOverride(endpoint).build();
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder().endpointOverride(endpoint).build();

        InitialPositionInStreamExtended oldest =
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(stream, oldest), application, kinesis, dynamo, cloudWatch, worker, Processor::new);
        RetrievalSpecificConfig retrieval = mode.equals("fanout")
                ? new FanOutConfig(kinesis).streamName(stream).applicationName(application)
                : new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(200);
        Scheduler scheduler = new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig()
                        .parentShardPollIntervalMillis(500)
                        .shardConsumerDispatchPollIntervalMillis(200),
                configs.leaseManagementConfig().failoverTimeMillis(3000).shardSyncIntervalMillis(2000),
                configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(retrieval));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                scheduler.startGracefulShutdown().get(5, TimeUnit.SECONDS);
            } catch (TimeoutException error) {
                // It also waits for processors of shards that have ended, which say no more.
            } catch (Exception error) {
                error.printStackTrace();
            }
            write("stopped", "-", "-", "-");
        }));
        write("started", "-", "-", "-");
        scheduler.run();
    }

    private static void write(String... words) {
        String line = worker + " " + String.join(" ", words) + "\n";
        try {
            log.write(line.getBytes(StandardCharsets.UTF_8));  // one call to the system: lines do not mix
        } catch (IOException error) {
            throw new RuntimeException(error);
        }
    }

    private static class Processor implements ShardRecordProcessor {
        private String shard;

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            write("owns", shard, input.extendedSequenceNumber().sequenceNumber(), "-");
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            for (KinesisClientRecord record : input.records()) {
                String data = StandardCharsets.UTF_8.decode(record.data()).toString();
                write("record", shard, record.partitionKey(), data);
            }
            if (!input.records().isEmpty()) {
                try {
                    input.checkpointer().checkpoint();
                } catch (Exception error) {  // the lease went to somebody else, who reads these again
                    write("unsaved", shard, error.getClass().getSimpleName(), "-");
                }
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            write("lost", shard, "-", "-");
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            write("ended", shard, "-", "-");
            try {
                input.checkpointer().checkpoint();
            } catch (Exception error) {
                write("unsaved", shard, error.getClass().getSimpleName(), "-");
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            write("leaves", shard, "-", "-");
            try {
                input.checkpointer().checkpoint();
            } catch (Exception error) {
                write("unsaved", shard, error.getClass().getSimpleName(), "-");
            }
        }
    }
}
