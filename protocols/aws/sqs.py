"""SQS: each operation's input becomes a call on the engine, what that returns becomes the output.

Members are in the order AWS's JSON has them, which is alphabetical; the XML codec puts them in the model's order.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from broker import policy
from broker.errors import (
    AccessDenied,
    DomainError,
    InvalidAddress,
    InvalidAttributeName,
    InvalidParameterValue,
    MissingParameter,
    QueueDoesNotExist,
    ResourceNotFoundException,
)
from broker.limits import MAX_LIST_RESULTS, MAX_LISTED_MOVE_TASKS
from broker.names import World
from broker.queues import Queue, Sending, Sent, messages, receipts
from broker.queues.attributes import READABLE
from broker.queues.definitions import SHAREABLE_ACTIONS
from broker.queues.fifo import sequence_number
from broker.queues.move_tasks import RUNNING, MoveTask
from broker.store.port import UNGROUPED, StoredMessage
from protocols.aws.call import Call, Later, Operation, Result, user_arn
from protocols.aws.page_tokens import page_token, read_page_token
from protocols.routing import parse_queue_url, queue_url
from protocols.shapes.model import load
from protocols.wire.errors import find_error

SYSTEM_ATTRIBUTES = frozenset(
    {
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    }
)
_TRACE_HEADER = "AWSTraceHeader"


# queues -------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _place(url: str, region: str) -> tuple[World, str]:
    """The world and the name that a queue's URL means to a caller in that region."""
    address = parse_queue_url(url)
    if address is None:
        raise InvalidAddress(f"The address {url} is not valid for this endpoint.")
    return World(address.account, address.region or region), address.name


def _queue(call: Call, action: str) -> Queue:
    """The queue a request names. `action` is as policies have it, which know no batches."""
    queue = call.broker.queues.find(*_place(call.parameters["QueueUrl"], call.world.region))
    if call.enforce_policies and not _may(call, queue, action):
        name = f"sqs:{action.lower()}"
        raise AccessDenied(
            f"User: {user_arn(call.world)} is not authorized to perform: {name} on resource: {queue.arn} because no "
            f"resource-based policy allows the {name} action"
        )
    return queue


def _may(call: Call, queue: Queue, action: str) -> bool:
    caller = call.world.account
    if not call.enforce_policies or queue.world.account == caller:
        return True
    # No policy shares the rest: "Cross-account permissions don't apply to this action", the API reference says there.
    return action in SHAREABLE_ACTIONS and policy.allows(
        queue.attributes.get("Policy"), caller, f"sqs:{action}", queue.arn
    )


def _url(call: Call, queue: Queue) -> str:
    host = call.request.header(b"host") or "localhost"
    return queue_url(call.request.scheme, host, queue.world.region, queue.world.account, queue.name)


def create_queue(call: Call) -> Result:
    given = call.parameters
    queue = call.broker.queues.create(
        call.world, given["QueueName"], given.get("Attributes", {}), given.get("tags", {})
    )
    return {"QueueUrl": _url(call, queue)}


def delete_queue(call: Call) -> Result:
    call.broker.queues.delete(_queue(call, "DeleteQueue"))
    return {}


def get_queue_url(call: Call) -> Result:
    account = call.parameters.get("QueueOwnerAWSAccountId") or call.world.account
    queue = call.broker.queues.find(World(account, call.world.region), call.parameters["QueueName"])
    if not _may(call, queue, "GetQueueUrl"):  # a stranger is not told whether it is there
        raise QueueDoesNotExist("The specified queue does not exist or you do not have access to it.")
    return {"QueueUrl": _url(call, queue)}


def list_queues(call: Call) -> Result:
    queues = call.broker.queues.list_queues(call.world, call.parameters.get("QueueNamePrefix", ""))
    return _page(call, queues, "QueueUrls")


def list_dead_letter_source_queues(call: Call) -> Result:
    queues = call.broker.queues.dead_letter_sources(_queue(call, "ListDeadLetterSourceQueues"))
    return {"queueUrls": [], **_page(call, queues, "queueUrls")}


def _page(call: Call, queues: Sequence[Queue], member: str) -> Result:
    limit, token = call.parameters.get("MaxResults"), call.parameters.get("NextToken")
    if limit is not None and not 1 <= limit <= MAX_LIST_RESULTS:
        raise InvalidParameterValue(
            f"Value {limit} for parameter MaxResults is invalid. "
            f"Reason: MaxResults must be an integer between 1 and {MAX_LIST_RESULTS}."
        )
    if token:
        if limit is None:
            raise MissingParameter("The request must contain the parameter MaxResults.")
        try:
            after = read_page_token(token)
        except ValueError:
            raise InvalidParameterValue("Invalid or expired next token.") from None
        queues = [queue for queue in queues if queue.name > after]
    page = queues[: limit or MAX_LIST_RESULTS]
    result: Result = {}
    if limit is not None and len(queues) > limit:
        result["NextToken"] = page_token(page[-1].name)
    if page:
        result[member] = [_url(call, queue) for queue in page]
    return result


def get_queue_attributes(call: Call) -> Result:
    names = call.parameters.get("AttributeNames", [])
    queue = _queue(call, "GetQueueAttributes")
    attributes = call.broker.queues.get_attributes(queue, names)
    return {"Attributes": attributes} if attributes else {}


def set_queue_attributes(call: Call) -> Result:
    call.broker.queues.set_attributes(_queue(call, "SetQueueAttributes"), call.parameters["Attributes"])
    return {}


def list_queue_tags(call: Call) -> Result:
    tags = _queue(call, "ListQueueTags").tags
    return {"Tags": tags} if tags else {}


def tag_queue(call: Call) -> Result:
    queue, tags = _queue(call, "TagQueue"), call.parameters["Tags"]
    if not tags:
        raise MissingParameter("The request must contain the parameter Tags.")
    call.broker.queues.tag(queue, tags)
    return {}


def untag_queue(call: Call) -> Result:
    queue, keys = _queue(call, "UntagQueue"), call.parameters["TagKeys"]
    if not keys:
        raise InvalidParameterValue("Tag keys must be between 1 and 128 characters in length.")
    call.broker.queues.untag(queue, keys)
    return {}


def add_permission(call: Call) -> Result:
    given = call.parameters
    queue = _queue(call, "AddPermission")
    for member, parameter in (("AWSAccountIds", "AWSAccountId"), ("Actions", "ActionName")):
        if not given[member]:
            raise MissingParameter(f"The request must contain the parameter {parameter}.")
    call.broker.queues.add_permission(queue, given["Label"], given["AWSAccountIds"], given["Actions"])
    return {}


def remove_permission(call: Call) -> Result:
    call.broker.queues.remove_permission(_queue(call, "RemovePermission"), call.parameters["Label"])
    return {}


def purge_queue(call: Call) -> Result:
    call.broker.queues.purge(_queue(call, "PurgeQueue"))
    return {}


# sending ------------------------------------------------------------------------------------------


def send_message(call: Call) -> Result:
    queue = _queue(call, "SendMessage")
    return _sent(call.broker.messaging.send(queue, _sending(call.parameters), call.user_id))


def send_message_batch(call: Call) -> Result:
    queue = _queue(call, "SendMessage")
    entries = call.parameters.get("Entries", ())
    outcomes = call.broker.messaging.send_batch(
        queue, [(entry["Id"], _sending(entry)) for entry in entries], call.user_id
    )
    return _batch(entries, outcomes, _sent)


def _sending(given: Mapping[str, Any]) -> Sending:
    system = given.get("MessageSystemAttributes")
    if not system:
        return Sending(
            given["MessageBody"],
            given.get("DelaySeconds"),
            given.get("MessageAttributes") or {},
            None,
            {},
            given.get("MessageGroupId"),
            given.get("MessageDeduplicationId"),
        )
    for name, attribute in system.items():
        if name != _TRACE_HEADER:
            raise InvalidParameterValue(
                f"Message system attribute name '{name}' is invalid. Only {_TRACE_HEADER} is supported."
            )
        if attribute.get("DataType") != "String" or not attribute.get("StringValue"):
            raise InvalidParameterValue(
                f"Message system attribute '{_TRACE_HEADER}' must be of type String and not be empty."
            )
    return _sending({**given, "MessageSystemAttributes": None})._replace(
        trace_header=system[_TRACE_HEADER]["StringValue"], trace_attributes=system
    )


def _sent(sent: Sent) -> Result:
    result: Result = {}
    if sent.attributes_md5 is not None:
        result["MD5OfMessageAttributes"] = sent.attributes_md5
    result["MD5OfMessageBody"] = sent.md5
    if sent.trace_attributes_md5 is not None:
        result["MD5OfMessageSystemAttributes"] = sent.trace_attributes_md5
    result["MessageId"] = sent.message_id
    if sent.sequence_number is not None:
        result["SequenceNumber"] = sent.sequence_number
    return result


def _batch(entries: Iterable[Mapping[str, Any]], outcomes: Iterable[Any], success: Callable[[Any], Result]) -> Result:
    successful, failed = [], []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, DomainError):
            error = find_error(load("sqs"), type(outcome).__name__)
            failed.append(
                {
                    "Code": error.query_code,
                    "Id": entry["Id"],
                    "Message": outcome.message,
                    "SenderFault": error.sender_fault,
                }
            )
        else:
            successful.append({"Id": entry["Id"], **success(outcome)})
    result: Result = {}
    if failed:
        result["Failed"] = failed
    if successful:
        result["Successful"] = successful
    return result


# receiving ----------------------------------------------------------------------------------------


def receive_message(call: Call) -> Result | Later:
    given = call.parameters
    queue = _queue(call, "ReceiveMessage")
    system = [*given.get("MessageSystemAttributeNames", ()), *given.get("AttributeNames", ())]  # the latter is older
    for name in system:
        if name not in SYSTEM_ATTRIBUTES and name not in READABLE:
            raise InvalidAttributeName(f"Unknown Attribute {name}.")
    names = given.get("MessageAttributeNames", ())
    received = call.broker.messaging.receive(
        queue,
        given.get("MaxNumberOfMessages"),
        given.get("VisibilityTimeout"),
        given.get("WaitTimeSeconds"),
        given.get("ReceiveRequestAttemptId"),
    )

    def result(found: list[StoredMessage]) -> Result:
        return {"Messages": [_received(queue, message, system, names) for message in found]} if found else {}

    if isinstance(received, list):
        return result(received)
    waiter = received

    def start(take: Callable[[Result], None]) -> Callable[[], None]:
        waiter.done = lambda found: take(result(found))
        return waiter.cancel

    return Later(start)


def _received(queue: Queue, message: StoredMessage, system: Sequence[str], names: Sequence[str]) -> Result:
    result: Result = {}
    if system:
        shown = _system_attributes(queue, message)
        if "All" not in system:
            shown = {name: value for name, value in shown.items() if name in system}
        if shown:
            result["Attributes"] = shown
    result["Body"] = message.body
    result["MD5OfBody"] = message.md5
    if names and message.attributes is not None:
        attributes = messages.load_attributes(message.attributes)
        selected = {name: value for name, value in attributes.items() if _is_selected(name, names)}
        if selected:
            whole = len(selected) == len(attributes)
            digest = message.attributes_md5 if whole else messages.md5_of_attributes(selected)
            result["MD5OfMessageAttributes"] = digest
            result["MessageAttributes"] = selected
    result["MessageId"] = message.message_id
    result["ReceiptHandle"] = receipts.make(queue.tag, message.id, message.receive_count)
    return result


def _system_attributes(queue: Queue, message: StoredMessage) -> dict[str, str]:
    shown = {
        "SenderId": message.sender_id,
        "ApproximateFirstReceiveTimestamp": str(message.first_received_ms),
        "ApproximateReceiveCount": str(message.earlier_receives + message.receive_count),
        "SentTimestamp": str(message.sent_ms),
    }
    if queue.fifo:
        shown["SequenceNumber"] = sequence_number(message.id)
        shown["MessageDeduplicationId"] = message.deduplication_id or ""
    if message.group_id is not None and message.group_id != UNGROUPED:
        shown["MessageGroupId"] = message.group_id
    if message.trace_header is not None:
        shown[_TRACE_HEADER] = message.trace_header
    if message.dead_letter_source is not None:
        shown["DeadLetterQueueSourceArn"] = message.dead_letter_source
    return shown


def _is_selected(name: str, wanted: Sequence[str]) -> bool:
    return any(
        pattern in ("All", ".*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-2]))
        for pattern in wanted
    )


def delete_message(call: Call) -> Result:
    call.broker.messaging.delete_message(_queue(call, "DeleteMessage"), call.parameters["ReceiptHandle"])
    return {}


def delete_message_batch(call: Call) -> Result:
    queue = _queue(call, "DeleteMessage")
    entries = call.parameters.get("Entries", ())
    pairs = [(entry["Id"], entry["ReceiptHandle"]) for entry in entries]
    return _batch(entries, call.broker.messaging.delete_message_batch(queue, pairs), lambda _: {})


def change_message_visibility(call: Call) -> Result:
    given = call.parameters
    queue = _queue(call, "ChangeMessageVisibility")
    call.broker.messaging.change_visibility(queue, given["ReceiptHandle"], given["VisibilityTimeout"])
    return {}


def change_message_visibility_batch(call: Call) -> Result:
    queue = _queue(call, "ChangeMessageVisibility")
    entries = call.parameters.get("Entries", ())
    # The model does not require the timeout here; AWS's guide does.
    triples = [(entry["Id"], entry["ReceiptHandle"], entry.get("VisibilityTimeout", 0)) for entry in entries]
    return _batch(entries, call.broker.messaging.change_visibility_batch(queue, triples), lambda _: {})


# message move tasks -------------------------------------------------------------------------------


def start_message_move_task(call: Call) -> Result:
    given = call.parameters
    task = call.broker.queues.move_tasks.start(
        call.world, given["SourceArn"], given.get("DestinationArn"), given.get("MaxNumberOfMessagesPerSecond")
    )
    return {"TaskHandle": _task_handle(task)}


def cancel_message_move_task(call: Call) -> Result:
    try:
        handle = json.loads(b64decode(call.parameters["TaskHandle"], validate=True))
        task_id, source_arn = str(handle["taskId"]), str(handle["sourceArn"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidParameterValue("Value for parameter TaskHandle is invalid.") from None
    source = call.broker.queues.find_arn(source_arn)
    if source is None or source.world != call.world:
        raise ResourceNotFoundException("The resource that you specified for the SourceArn parameter doesn't exist.")
    task = call.broker.queues.move_tasks.cancel(task_id, source_arn)
    return {"ApproximateNumberOfMessagesMoved": task.moved}


def list_message_move_tasks(call: Call) -> Result:
    limit = call.parameters.get("MaxResults", 1)
    if not 1 <= limit <= MAX_LISTED_MOVE_TASKS:
        raise InvalidParameterValue(
            f"Value {limit} for parameter MaxResults is invalid. "
            f"Reason: MaxResults must be an integer between 1 and {MAX_LISTED_MOVE_TASKS}."
        )
    tasks = call.broker.queues.move_tasks.newest(call.world, call.parameters["SourceArn"], limit)
    return {"Results": [_task(task) for task in tasks]} if tasks else {}


def _task(task: MoveTask) -> Result:
    result: Result = {"ApproximateNumberOfMessagesMoved": task.moved, "ApproximateNumberOfMessagesToMove": task.to_move}
    if task.destination_arn is not None:
        result["DestinationArn"] = task.destination_arn
    if task.failure_reason is not None:
        result["FailureReason"] = task.failure_reason
    if task.rate_per_s is not None:
        result["MaxNumberOfMessagesPerSecond"] = task.rate_per_s
    result |= {"SourceArn": task.source_arn, "StartedTimestamp": task.started_ms, "Status": task.status}
    if task.status == RUNNING:
        result["TaskHandle"] = _task_handle(task)
    return result


def _task_handle(task: MoveTask) -> str:
    return b64encode(json.dumps({"taskId": task.task_id, "sourceArn": task.source_arn}).encode()).decode()


OPERATIONS: dict[str, Operation] = {
    "AddPermission": add_permission,
    "CancelMessageMoveTask": cancel_message_move_task,
    "ChangeMessageVisibility": change_message_visibility,
    "ChangeMessageVisibilityBatch": change_message_visibility_batch,
    "CreateQueue": create_queue,
    "DeleteMessage": delete_message,
    "DeleteMessageBatch": delete_message_batch,
    "DeleteQueue": delete_queue,
    "GetQueueAttributes": get_queue_attributes,
    "GetQueueUrl": get_queue_url,
    "ListDeadLetterSourceQueues": list_dead_letter_source_queues,
    "ListMessageMoveTasks": list_message_move_tasks,
    "ListQueueTags": list_queue_tags,
    "ListQueues": list_queues,
    "PurgeQueue": purge_queue,
    "ReceiveMessage": receive_message,
    "RemovePermission": remove_permission,
    "SendMessage": send_message,
    "SendMessageBatch": send_message_batch,
    "SetQueueAttributes": set_queue_attributes,
    "StartMessageMoveTask": start_message_move_task,
    "TagQueue": tag_queue,
    "UntagQueue": untag_queue,
}
