"""Part of a batch fails: some entries are not done and come back as failed, the others are done as ever.

An entry that is to fail is made one that the engine refuses by itself: so all that is checked of a batch as a whole
(its ids, its number, its size) is still checked, AWS's order of the answer comes about by itself, and only the refusal
is put in other words. PutRecords knows no such entries: its are left out, after a dry run of them all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import floor
from typing import Any

from broker.entropy import Entropy
from broker.errors import DryRunOperationException
from protocols.aws.call import Call, Operation, Result
from protocols.faults.refusals import ENTRY_FAILURES

Entry = dict[str, Any]
Contents = Sequence[object]

_UNACCEPTABLE = "\x00"  # to SQS; a subject of SNS's has no line breaks, and an event needs a source


def chosen(fraction: float, chance: Entropy, matching: Sequence[bool]) -> list[int]:
    """The places of those that fail: the fraction of all, but at least one; those that match before the others."""
    count = max(1, floor(fraction * len(matching) + 0.5))
    drawn = sorted((not matches, chance.random(), place) for place, matches in enumerate(matching))
    return sorted(place for _, _, place in drawn[:count])


def entries_of(operation: str, given: Result) -> list[Entry]:
    entries: list[Entry] = given.get(_MEMBERS.get(operation, "Entries"), [])
    return entries


def perform(function: Operation, call: Call, operation: str, failing: Collection[int]) -> Result:
    """Does the operation with these entries failing."""
    member = _MEMBERS.get(operation, "Entries")
    entries = entries_of(operation, call.parameters)
    if operation == "PutRecords":
        return _put_records(function, call, entries, failing)
    spoilt = [_SPOIL[operation](entry) if place in failing else entry for place, entry in enumerate(entries)]
    result = function(call._replace(parameters={**call.parameters, member: spoilt}))
    assert isinstance(result, dict)
    code, message = ENTRY_FAILURES["events" if operation == "PutEvents" else call.route.service or ""]
    if operation == "PutEvents":
        for place in failing:
            result["Entries"][place] = {"ErrorCode": code, "ErrorMessage": message}
        return result
    ids = {entries[place]["Id"] for place in failing}
    for failed in result["Failed"]:
        if failed["Id"] in ids:
            failed |= {"Code": code, "Message": message, "SenderFault": False}
    return result


def _put_records(function: Operation, call: Call, entries: list[Entry], failing: Collection[int]) -> Result:
    try:
        function(call._replace(parameters={**call.parameters, "DryRun": True}))
    except DryRunOperationException:
        if call.parameters.get("DryRun"):
            raise
    good = [entry for place, entry in enumerate(entries) if place not in failing]
    result: Any = {"FailedRecordCount": 0, "Records": []}
    if good:
        result = function(call._replace(parameters={**call.parameters, "Records": good}))
    done = iter(result["Records"])
    code, message = ENTRY_FAILURES["kinesis"]
    records = [
        {"ErrorCode": code, "ErrorMessage": message} if place in failing else next(done)
        for place in range(len(entries))
    ]
    return {**result, "FailedRecordCount": result["FailedRecordCount"] + len(failing), "Records": records}


def _of_as_many_bytes(body: str) -> str:
    return _UNACCEPTABLE * max(1, len(body.encode("utf-8", "replace")))


_MEMBERS = {"PublishBatch": "PublishBatchRequestEntries", "PutRecords": "Records"}
_SPOIL: Mapping[str, Callable[[Entry], Entry]] = {
    "SendMessageBatch": lambda entry: {**entry, "MessageBody": _of_as_many_bytes(entry["MessageBody"])},
    "DeleteMessageBatch": lambda entry: {**entry, "ReceiptHandle": ""},
    "ChangeMessageVisibilityBatch": lambda entry: {**entry, "ReceiptHandle": ""},
    "PublishBatch": lambda entry: {**entry, "Subject": "\n"},
    "PutEvents": lambda entry: {
        **entry,
        "Source": "",
        "DetailType": entry.get("DetailType", "") + entry.get("Source", ""),
    },
}
