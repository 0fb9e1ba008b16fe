"""STS: who am I. Many programs ask before they do anything else.

Only GetCallerIdentity: a sidecar has no users or roles, and a made-up one for AssumeRole would be worth nothing.
https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
"""

from __future__ import annotations

from protocols.aws.call import Call, Operation, Result, user_arn


def get_caller_identity(call: Call) -> Result:
    return {"UserId": call.user_id, "Account": call.world.account, "Arn": user_arn(call.world)}


OPERATIONS: dict[str, Operation] = {"GetCallerIdentity": get_caller_identity}
