"""What a target may be: its ARN, what its kind must come with, its input, and where what it refuses goes.

Follows PutTargets and Target in the API reference. That members are there and within their ranges was checked by
their shapes; what belongs to services that are not here (ECS, Batch, Redshift …) is kept as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.buses.definitions import check_dead_letter_queue
from broker.errors import ValidationException
from broker.matching.json_path import InvalidPath, compile_path
from broker.matching.transformer import InvalidTransformer, TargetInput
from broker.names import Arn, parse_arn

MAX_TARGETS = 5  # "Amazon EventBridge quotas": of a rule

# PutTargets: what EventBridge calls with a role, and so the services whose targets are refused without one.
_NEED_ROLE = {
    *("batch", "codebuild", "codepipeline", "ecs", "firehose", "inspector", "kinesis"),
    *("redshift", "redshift-serverless", "sagemaker", "ssm", "states"),
}
_INPUTS = ("Input", "InputPath", "InputTransformer")
_NEED_PARAMETERS = {"batch": "BatchParameters", "ecs": "EcsParameters"}


def check_target(target: Mapping[str, Any], account: str) -> None:
    """`target` is the API's Target, `account` that of the rule's bus. Raises ValidationException."""
    id, text = target["Id"], target["Arn"]
    arn = parse_arn(text)
    if arn is None or not arn.partition.startswith("aws") or not arn.service or not arn.resource:
        raise ValidationException(f"Parameter {text} is not valid. Reason: Provided Arn is not in correct format.")
    needs_role = arn.service in _NEED_ROLE or (arn.service == "events" and arn.resource.startswith("api-destination/"))
    if needs_role and not target.get("RoleArn"):
        raise ValidationException(f"RoleArn is required for target {text}.")
    _check_parameters(id, arn, target)
    if arn.service == "events" and arn.resource.startswith("event-bus/") and arn.account != account:
        given = [name for name in _INPUTS if target.get(name) is not None]
        if given:  # PutTargets, in its own words; what AWS answers nobody has told
            raise ValidationException(
                f"{given[0]} is not available if the target is an event bus of a different AWS account."
            )
    try:
        TargetInput.compile(target)
    except InvalidTransformer as error:
        raise ValidationException(error.reason) from None
    dead_letter_arn = (target.get("DeadLetterConfig") or {}).get("Arn")
    if dead_letter_arn is not None:
        check_dead_letter_queue(dead_letter_arn)


def _check_parameters(id: str, arn: Arn, target: Mapping[str, Any]) -> None:
    needed = _NEED_PARAMETERS.get(arn.service)
    if needed is not None and not target.get(needed):
        raise ValidationException(f"Parameter(s) {needed} must be specified for target: {id}.")
    fifo = arn.service == "sqs" and arn.resource.endswith(".fifo")
    if fifo and not (target.get("SqsParameters") or {}).get("MessageGroupId"):
        raise ValidationException(f"Parameter(s) SqsParameters must be specified for target: {id}.")
    path = (target.get("KinesisParameters") or {}).get("PartitionKeyPath")
    if path is not None:
        try:
            compile_path(path)
        except InvalidPath as error:
            raise ValidationException(f"Parameter PartitionKeyPath is not valid. Reason: {error.reason}") from None
