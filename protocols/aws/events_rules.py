"""EventBridge's operations on rules and their targets, and TestEventPattern."""

from __future__ import annotations

from broker.buses.rules import Rules
from protocols.aws.call import Call, Operation, Result
from protocols.aws.events_answers import after, answer, most, page, page_of_names
from protocols.aws.events_buses import bus_name, with_bus_name


def _rules(call: Call) -> Rules:
    return call.broker.events.rules


def put_rule(call: Call) -> Result:
    return answer(call, _rules(call).put(call.world, with_bus_name(call)))


def delete_rule(call: Call) -> Result:
    _rules(call).delete(call.world, with_bus_name(call))
    return {}


def enable_rule(call: Call) -> Result:
    _rules(call).enable(call.world, with_bus_name(call))
    return {}


def disable_rule(call: Call) -> Result:
    _rules(call).disable(call.world, with_bus_name(call))
    return {}


def describe_rule(call: Call) -> Result:
    return answer(call, _rules(call).describe(call.world, call.parameters["Name"], bus_name(call)))


def list_rules(call: Call) -> Result:
    prefix = call.parameters.get("NamePrefix", "")
    rules = _rules(call).list_rules(call.world, bus_name(call), prefix, after(call), most(call))
    return page(call, "Rules", rules)


def list_rule_names_by_target(call: Call) -> Result:
    target_arn = call.parameters["TargetArn"]
    names = _rules(call).list_rule_names_by_target(call.world, target_arn, bus_name(call), after(call), most(call))
    return page_of_names(call, "RuleNames", names)


def put_targets(call: Call) -> Result:
    return answer(call, _rules(call).put_targets(call.world, with_bus_name(call)))


def remove_targets(call: Call) -> Result:
    return answer(call, _rules(call).remove_targets(call.world, with_bus_name(call)))


def list_targets_by_rule(call: Call) -> Result:
    rule = call.parameters["Rule"]
    targets = _rules(call).list_targets(call.world, rule, bus_name(call), after(call), most(call))
    return page(call, "Targets", targets, "Id")


def test_event_pattern(call: Call) -> Result:
    given = call.parameters
    return {"Result": _rules(call).test_event_pattern(given["EventPattern"], given["Event"])}


OPERATIONS: dict[str, Operation] = {
    "DeleteRule": delete_rule,
    "DescribeRule": describe_rule,
    "DisableRule": disable_rule,
    "EnableRule": enable_rule,
    "ListRuleNamesByTarget": list_rule_names_by_target,
    "ListRules": list_rules,
    "ListTargetsByRule": list_targets_by_rule,
    "PutRule": put_rule,
    "PutTargets": put_targets,
    "RemoveTargets": remove_targets,
    "TestEventPattern": test_event_pattern,
}
