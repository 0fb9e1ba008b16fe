"""EventBridge's operations on archives and replays."""

from __future__ import annotations

from broker.buses.archives import Archives
from broker.buses.replays import Replays
from protocols.aws.call import Call, Operation, Result
from protocols.aws.events_answers import answer, moment_ms, page


def _archives(call: Call) -> Archives:
    return call.broker.events.archives


def _replays(call: Call) -> Replays:
    return call.broker.events.replays


def create_archive(call: Call) -> Result:
    return answer(call, _archives(call).create(call.world, call.parameters))


def update_archive(call: Call) -> Result:
    return answer(call, _archives(call).update(call.world, call.parameters))


def delete_archive(call: Call) -> Result:
    _archives(call).delete(call.world, call.parameters["ArchiveName"])
    return {}


def describe_archive(call: Call) -> Result:
    return answer(call, _archives(call).describe(call.world, call.parameters["ArchiveName"]))


def list_archives(call: Call) -> Result:
    given = call.parameters
    archives = _archives(call).list_archives(
        call.world, given.get("NamePrefix"), given.get("EventSourceArn"), given.get("State")
    )
    return page(call, "Archives", archives, "ArchiveName")


def start_replay(call: Call) -> Result:
    given = dict(call.parameters)
    for member in ("EventStartTime", "EventEndTime"):
        given[member] = moment_ms(given[member])
    return answer(call, _replays(call).start(call.world, given))


def cancel_replay(call: Call) -> Result:
    return answer(call, _replays(call).cancel(call.world, call.parameters["ReplayName"]))


def describe_replay(call: Call) -> Result:
    return answer(call, _replays(call).describe(call.world, call.parameters["ReplayName"]))


def list_replays(call: Call) -> Result:
    given = call.parameters
    replays = _replays(call).list_replays(
        call.world, given.get("NamePrefix"), given.get("EventSourceArn"), given.get("State")
    )
    return page(call, "Replays", replays, "ReplayName")


OPERATIONS: dict[str, Operation] = {
    "CancelReplay": cancel_replay,
    "CreateArchive": create_archive,
    "DeleteArchive": delete_archive,
    "DescribeArchive": describe_archive,
    "DescribeReplay": describe_replay,
    "ListArchives": list_archives,
    "ListReplays": list_replays,
    "StartReplay": start_replay,
    "UpdateArchive": update_archive,
}
