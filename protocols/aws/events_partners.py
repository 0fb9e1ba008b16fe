"""EventBridge's operations on global endpoints, and on partner event sources: the partners' and the customers'."""

from __future__ import annotations

from broker.buses.endpoints import Endpoints
from broker.buses.partners import Partners
from broker.names import World
from protocols.aws.call import Call, Operation, Result
from protocols.aws.events_answers import answer, page


def _endpoints(call: Call) -> Endpoints:
    return call.broker.events.endpoints


def _partners(call: Call) -> Partners:
    return call.broker.events.partners


# global endpoints ---------------------------------------------------------------------------------


def _home(call: Call) -> World:
    return World(call.world.account, call.parameters.get("HomeRegion") or call.world.region)


def create_endpoint(call: Call) -> Result:
    return answer(call, _endpoints(call).create(call.world, call.parameters))


def update_endpoint(call: Call) -> Result:
    return answer(call, _endpoints(call).update(call.world, call.parameters))


def delete_endpoint(call: Call) -> Result:
    _endpoints(call).delete(call.world, call.parameters["Name"])
    return {}


def describe_endpoint(call: Call) -> Result:
    return answer(call, _endpoints(call).describe(_home(call), call.parameters["Name"]))


def list_endpoints(call: Call) -> Result:
    prefix = call.parameters.get("NamePrefix", "")
    return page(call, "Endpoints", _endpoints(call).list_endpoints(_home(call), prefix))


# the partners' ------------------------------------------------------------------------------------


def create_partner_event_source(call: Call) -> Result:
    given = call.parameters
    return {"EventSourceArn": _partners(call).create(call.world, given["Name"], given["Account"])}


def delete_partner_event_source(call: Call) -> Result:
    given = call.parameters
    _partners(call).delete(call.world, given["Name"], given["Account"])
    return {}


def describe_partner_event_source(call: Call) -> Result:
    return answer(call, _partners(call).describe_partner_source(call.world, call.parameters["Name"]))


def list_partner_event_sources(call: Call) -> Result:
    sources = _partners(call).list_partner_sources(call.world, call.parameters["NamePrefix"])
    return page(call, "PartnerEventSources", sources)


def list_partner_event_source_accounts(call: Call) -> Result:
    accounts = _partners(call).list_accounts(call.world, call.parameters["EventSourceName"])
    return page(call, "PartnerEventSourceAccounts", accounts, "Account")


# the customers' -----------------------------------------------------------------------------------


def activate_event_source(call: Call) -> Result:
    _partners(call).activate(call.world, call.parameters["Name"])
    return {}


def deactivate_event_source(call: Call) -> Result:
    _partners(call).deactivate(call.world, call.parameters["Name"])
    return {}


def describe_event_source(call: Call) -> Result:
    return answer(call, _partners(call).describe(call.world, call.parameters["Name"]))


def list_event_sources(call: Call) -> Result:
    sources = _partners(call).list_sources(call.world, call.parameters.get("NamePrefix", ""))
    return page(call, "EventSources", sources)


OPERATIONS: dict[str, Operation] = {
    "ActivateEventSource": activate_event_source,
    "CreateEndpoint": create_endpoint,
    "CreatePartnerEventSource": create_partner_event_source,
    "DeactivateEventSource": deactivate_event_source,
    "DeleteEndpoint": delete_endpoint,
    "DeletePartnerEventSource": delete_partner_event_source,
    "DescribeEndpoint": describe_endpoint,
    "DescribeEventSource": describe_event_source,
    "DescribePartnerEventSource": describe_partner_event_source,
    "ListEndpoints": list_endpoints,
    "ListEventSources": list_event_sources,
    "ListPartnerEventSourceAccounts": list_partner_event_source_accounts,
    "ListPartnerEventSources": list_partner_event_sources,
    "UpdateEndpoint": update_endpoint,
}
