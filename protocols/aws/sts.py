"""STS: who am I. Many programs ask before they do anything else.

Only GetCallerIdentity: a sidecar has no users or roles, and a made-up one for AssumeRole would be worth nothing.
https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
"""

from __future__ import annotations

from broker.names import partition_of
from protocols.aws.call import Call, Operation, Result


def get_caller_identity(call: Call) -> Result:
    account, region = call.world
    return {
        "UserId": call.user_id,
        "Account": account,
        "Arn": f"arn:{partition_of(region)}:iam::{account}:user/sidebus",
    }


OPERATIONS: dict[str, Operation] = {"GetCallerIdentity": get_caller_identity}
