"""Kinesis's queues on streams: their life, and what is done with their records and dead letters.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateQueue.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.errors import DomainError, ResourceNotFoundException, ValidationException
from broker.limits import DEFAULT_RECEIVE_WAIT_S, MAX_BATCH_ENTRIES
from broker.streams import DeadLetters, Received, Stream, StreamQueue
from broker.waiters import Waiter
from protocols.aws.call import Call, Later, Operation, Result, error_code
from protocols.aws.kinesis_access import check_access, find_stream, moment_ms


def find_queue(call: Call) -> StreamQueue:
    queue = call.broker.streams.queues.find(call.parameters["QueueARN"])
    if call.route.access_key is not None and queue.world.region != call.world.region:
        raise ResourceNotFoundException(f"Queue {queue.arn} not found.")
    check_access(call, queue, queue.world)
    return queue


def find_only_stream(call: Call, configurations: Sequence[Mapping[str, Any]]) -> Stream:
    """The one stream that a queue or channel is to be made on."""
    if len(configurations) != 1:
        raise ValidationException("StreamConfigurationList must contain exactly one entry.")
    return find_stream(call._replace(parameters={"StreamARN": configurations[0]["StreamARN"]}))


def stream_filter(given: Result) -> list[tuple[str, int | None]] | None:
    """Of a List operation."""
    if "StreamFilter" not in given:
        return None
    asked = []
    for entry in given["StreamFilter"]:
        created = entry.get("StreamCreationTimestamp")
        asked.append((entry["StreamARN"], None if created is None else moment_ms(created)))
    return asked


# the life of queues -------------------------------------------------------------------------------


def create_queue(call: Call) -> Result:
    given = call.parameters
    configurations = given["StreamConfigurationList"]
    stream = find_only_stream(call, configurations)
    position = configurations[0].get("StartingPosition", {})
    moment = position.get("Timestamp")
    timeout_s, dead_letters = _attributes(given.get("QueueAttributes", {}))
    queue = call.broker.streams.queues.create(
        call.world,
        given["QueueName"],
        stream,
        starts=position.get("Type", "LATEST"),
        timestamp_ms=None if moment is None else moment_ms(moment),
        visibility_timeout_s=timeout_s,
        dead_letters=dead_letters,
        tags=given.get("Tags"),
    )
    return {"QueueDescription": _described(queue)}


def update_queue(call: Call) -> Result:
    queue = find_queue(call)
    call.broker.streams.queues.update(queue, *_attributes(call.parameters["QueueAttributes"]))
    return {"QueueDescription": _described(queue)}


def delete_queue(call: Call) -> Result:
    call.broker.streams.queues.delete(find_queue(call))
    return {}


def describe_queue(call: Call) -> Result:
    return {"QueueDescription": _described(find_queue(call))}


def list_queues(call: Call) -> Result:
    given = call.parameters
    queues, token = call.broker.streams.queues.list_queues(
        call.world, streams=stream_filter(given), token=given.get("NextToken"), limit=given.get("MaxResults")
    )
    result: Result = {"QueueSummaries": [_summary(queue) for queue in queues]}
    if token is not None:
        result["NextToken"] = token
    return result


def _attributes(given: Result) -> tuple[int | None, DeadLetters | None]:
    configuration = given.get("DeadLetterConfiguration")
    dead_letters = None
    if configuration is not None:
        dead_letters = DeadLetters(configuration["TargetType"], configuration.get("MaxReceiveCount"))
    return given.get("VisibilityTimeoutSeconds"), dead_letters


def _described(queue: StreamQueue) -> Result:
    timeout_s, dead_letters = queue.attributes
    configuration: Result = {"TargetType": dead_letters.target_type}
    if dead_letters.max_receive_count is not None:
        configuration["MaxReceiveCount"] = dead_letters.max_receive_count
    position: Result = {"Type": queue.starts}
    if queue.starting_ms is not None:
        position["Timestamp"] = queue.starting_ms / 1000
    return {
        **_named(queue),
        "StreamConfigurationList": [{"StreamARN": queue.stream.arn, "StartingPosition": position}],
        "QueueAttributes": {"VisibilityTimeoutSeconds": timeout_s, "DeadLetterConfiguration": configuration},
    }


def _summary(queue: StreamQueue) -> Result:
    return {**_named(queue), "Streams": [shown_stream(queue.stream)]}


def _named(queue: StreamQueue) -> Result:
    return {
        "QueueName": queue.name,
        "QueueARN": queue.arn,
        "QueueStatus": queue.status,
        "QueueCreationTimestamp": queue.created_ms // 1000,
    }


def shown_stream(stream: Stream) -> Result:
    return {"StreamARN": stream.arn, "StreamCreationTimestamp": stream.created_ms // 1000}


# records ------------------------------------------------------------------------------------------


def receive_queue_records(call: Call) -> Result | Later:
    return _receive(call, call.broker.streams.queue_records.receive)


def receive_dead_letter_queue_records(call: Call) -> Result | Later:
    return _receive(call, call.broker.streams.queue_records.receive_dead_letters)


def _receive(
    call: Call, receive: Callable[[StreamQueue, int, int, int | None], list[Received] | Waiter[Received]]
) -> Result | Later:
    given = call.parameters
    received = receive(
        find_queue(call),
        given.get("Limit", MAX_BATCH_ENTRIES),
        given.get("WaitTimeSeconds", DEFAULT_RECEIVE_WAIT_S),
        given.get("VisibilityTimeoutSeconds"),
    )
    if isinstance(received, list):
        return _received(received)
    waiter = received

    def start(take: Callable[[Result], None]) -> Callable[[], None]:
        waiter.done = lambda found: take(_received(found))
        return waiter.cancel

    return Later(start)


def _received(deliveries: list[Received]) -> Result:
    shown = []
    for delivery in deliveries:
        record = delivery.record
        entry = {
            "ReceiptHandle": delivery.receipt_handle,
            "RecordId": delivery.record_id,
            "PartitionKey": record.partition_key,
            "Data": record.data,
            "ApproximateArrivalTimestamp": record.arrival_ms / 1000,
            "FirstReceiveTimestamp": delivery.first_received_ms / 1000,
            "ReceiveCount": delivery.receive_count,
        }
        if record.partition_key is None:
            del entry["PartitionKey"]
        shown.append(entry)
    return {"QueueRecords": shown}


def acknowledge_queue_records(call: Call) -> Result:
    return _handles(call, call.broker.streams.queue_records.acknowledge)


def acknowledge_dead_letter_queue_records(call: Call) -> Result:
    return _handles(call, call.broker.streams.queue_records.acknowledge_dead_letters)


def restore_dead_letter_queue_records(call: Call) -> Result:
    return _handles(call, call.broker.streams.queue_records.restore)


def _handles(call: Call, change: Callable[[StreamQueue, list[str]], list[DomainError | None]]) -> Result:
    handles = [entry["ReceiptHandle"] for entry in call.parameters["Entries"]]
    return _outcomes(handles, change(find_queue(call), handles))


def update_queue_records_visibility(call: Call) -> Result:
    return _timeouts(call, call.broker.streams.queue_records.change_visibility)


def update_dead_letter_queue_records_visibility(call: Call) -> Result:
    return _timeouts(call, call.broker.streams.queue_records.change_dead_letter_visibility)


def _timeouts(call: Call, change: Callable[[StreamQueue, list[tuple[str, int]]], list[DomainError | None]]) -> Result:
    entries = [(entry["ReceiptHandle"], entry["VisibilityTimeoutSeconds"]) for entry in call.parameters["Entries"]]
    return _outcomes([handle for handle, _ in entries], change(find_queue(call), entries))


def _outcomes(handles: list[str], errors: list[DomainError | None]) -> Result:
    result: Result = {"Successful": [], "Failed": []}
    for handle, error in zip(handles, errors, strict=True):
        if error is None:
            result["Successful"].append({"ReceiptHandle": handle})
        else:
            entry = {"ReceiptHandle": handle, "ErrorCode": error_code(error), "ErrorMessage": error.message}
            result["Failed"].append(entry)
    return result


OPERATIONS: dict[str, Operation] = {
    "AcknowledgeDeadLetterQueueRecords": acknowledge_dead_letter_queue_records,
    "AcknowledgeQueueRecords": acknowledge_queue_records,
    "CreateQueue": create_queue,
    "DeleteQueue": delete_queue,
    "DescribeQueue": describe_queue,
    "ListQueues": list_queues,
    "ReceiveDeadLetterQueueRecords": receive_dead_letter_queue_records,
    "ReceiveQueueRecords": receive_queue_records,
    "RestoreDeadLetterQueueRecords": restore_dead_letter_queue_records,
    "UpdateDeadLetterQueueRecordsVisibility": update_dead_letter_queue_records_visibility,
    "UpdateQueue": update_queue,
    "UpdateQueueRecordsVisibility": update_queue_records_visibility,
}
