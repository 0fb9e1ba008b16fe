"""SNS's operations on telephones: push applications and endpoints, text messages, the sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from broker.errors import AuthorizationErrorException, InvalidParameterException
from broker.limits import DEFAULT_TOPIC_MESSAGE_BYTES, MAX_TOPIC_PAGE
from broker.names import parse_arn
from broker.topics import Publishing, messages
from broker.topics.mobile import platform_of, shown_application
from protocols.aws.call import Call, Operation, Result, user_arn
from protocols.aws.page_tokens import page_token, read_page_token

T = TypeVar("T")

_E164 = re.compile(r"\+?[0-9]{6,15}")


def _page(items: Sequence[T], key: Callable[[T], str], token: str | None, limit: int) -> tuple[Sequence[T], str | None]:
    """A page by key, and the token of the next."""
    if token:
        try:
            after = read_page_token(token)
        except ValueError:
            raise InvalidParameterException("Invalid parameter: NextToken") from None
        items = [item for item in items if key(item) > after]
    page = items[:limit]
    return page, page_token(key(page[-1])) if len(items) > limit else None


def _own(call: Call, parameter: str) -> str:
    """The ARN that a request names. Applications and endpoints are their account's alone."""
    arn: str = call.parameters[parameter]
    parsed = parse_arn(arn)
    if call.enforce_policies and parsed is not None and parsed.account != call.world.account:
        operation = f"SNS:{call.route.operation}"
        raise AuthorizationErrorException(
            f"User: {user_arn(call.world)} is not authorized to perform: {operation} on resource: {arn} "
            f"because no resource-based policy allows the {operation} action"
        )
    return arn


# push ---------------------------------------------------------------------------------------------


def create_platform_application(call: Call) -> Result:
    given = call.parameters
    arn = call.broker.notifications.mobile.create_application(
        call.world, given["Name"], given["Platform"], given["Attributes"]
    )
    return {"PlatformApplicationArn": arn}


def delete_platform_application(call: Call) -> Result:
    call.broker.notifications.mobile.delete_application(_own(call, "PlatformApplicationArn"))
    return {}


def get_platform_application_attributes(call: Call) -> Result:
    item = call.broker.notifications.mobile.application(_own(call, "PlatformApplicationArn"))
    return {"Attributes": shown_application(item)}


def set_platform_application_attributes(call: Call) -> Result:
    given = call.parameters
    call.broker.notifications.mobile.set_application_attributes(
        _own(call, "PlatformApplicationArn"), given["Attributes"]
    )
    return {}


def list_platform_applications(call: Call) -> Result:
    items = call.broker.notifications.mobile.applications(call.world)
    page, token = _page(items, lambda item: item.arn, call.parameters.get("NextToken"), MAX_TOPIC_PAGE)
    shown = [{"PlatformApplicationArn": item.arn, "Attributes": shown_application(item)} for item in page]
    return {"PlatformApplications": shown, **({"NextToken": token} if token else {})}


def create_platform_endpoint(call: Call) -> Result:
    given = call.parameters
    arn = call.broker.notifications.mobile.create_endpoint(
        _own(call, "PlatformApplicationArn"),
        given["Token"],
        given.get("CustomUserData", ""),
        given.get("Attributes", {}),
    )
    return {"EndpointArn": arn}


def delete_endpoint(call: Call) -> Result:
    call.broker.notifications.mobile.delete_endpoint(_own(call, "EndpointArn"))
    return {}


def get_endpoint_attributes(call: Call) -> Result:
    return {"Attributes": call.broker.notifications.mobile.endpoint(_own(call, "EndpointArn")).attributes}


def set_endpoint_attributes(call: Call) -> Result:
    given = call.parameters
    call.broker.notifications.mobile.set_endpoint_attributes(_own(call, "EndpointArn"), given["Attributes"])
    return {}


def list_endpoints_by_platform_application(call: Call) -> Result:
    mobile = call.broker.notifications.mobile
    application = mobile.application(_own(call, "PlatformApplicationArn"))
    items = mobile.endpoints(application.arn)
    page, token = _page(items, lambda item: item.arn, call.parameters.get("NextToken"), MAX_TOPIC_PAGE)
    shown = [{"EndpointArn": item.arn, "Attributes": item.attributes} for item in page]
    return {"Endpoints": shown, **({"NextToken": token} if token else {})}


def publish_push(call: Call, publishing: Publishing) -> str:
    """To an endpoint. Its platform's own text goes before the default one."""
    arn = _own(call, "TargetArn")
    mobile = call.broker.notifications.mobile
    messages.check(publishing, DEFAULT_TOPIC_MESSAGE_BYTES)
    texts = messages.texts(publishing)
    mobile.endpoint(arn, "TargetArn")
    text = texts.get(platform_of(arn), texts["default"])
    return mobile.push(arn, {"message": text, "subject": publishing.subject}, publishing.attributes, "TargetArn")


# text messages ------------------------------------------------------------------------------------


def publish_text_message(call: Call, publishing: Publishing) -> str:
    number = call.parameters["PhoneNumber"]
    if not _E164.fullmatch(number):
        raise InvalidParameterException(f"Invalid parameter: PhoneNumber Reason: {number} is not valid to publish to")
    messages.check(publishing, DEFAULT_TOPIC_MESSAGE_BYTES)
    texts = messages.texts(publishing)
    document = {"message": texts.get("sms", texts["default"]), "subject": publishing.subject}
    return call.broker.notifications.sms.send(call.world, number, document, publishing.attributes)


def get_sms_attributes(call: Call) -> Result:
    names = call.parameters.get("attributes", ())
    return {"attributes": call.broker.notifications.sms.attributes(call.world, names)}


def set_sms_attributes(call: Call) -> Result:
    call.broker.notifications.sms.set_attributes(call.world, call.parameters["attributes"])
    return {}


def check_if_phone_number_is_opted_out(call: Call) -> Result:
    number = call.parameters["phoneNumber"]
    return {"isOptedOut": call.broker.notifications.sms.is_opted_out(call.world, number)}


def list_phone_numbers_opted_out(call: Call) -> Result:
    numbers = call.broker.notifications.sms.opted_out(call.world)
    page, token = _page(numbers, str, call.parameters.get("nextToken"), MAX_TOPIC_PAGE)
    return {"phoneNumbers": list(page), **({"nextToken": token} if token else {})}


def opt_in_phone_number(call: Call) -> Result:
    call.broker.notifications.sms.opt_in(call.world, call.parameters["phoneNumber"])
    return {}


def list_origination_numbers(call: Call) -> Result:
    """None: numbers are bought from another service of AWS, which is not here. So no token is one."""
    if call.parameters.get("NextToken"):
        raise InvalidParameterException("Invalid parameter: NextToken")
    return {"PhoneNumbers": []}


# the sandbox --------------------------------------------------------------------------------------


def get_sms_sandbox_account_status(call: Call) -> Result:
    return {"IsInSandbox": False}


def create_sms_sandbox_phone_number(call: Call) -> Result:
    given = call.parameters
    call.broker.notifications.sms.add_sandbox_number(
        call.world, given["PhoneNumber"], given.get("LanguageCode", "en-US")
    )
    return {}


def verify_sms_sandbox_phone_number(call: Call) -> Result:
    given = call.parameters
    call.broker.notifications.sms.verify_sandbox_number(call.world, given["PhoneNumber"], given["OneTimePassword"])
    return {}


def delete_sms_sandbox_phone_number(call: Call) -> Result:
    call.broker.notifications.sms.delete_sandbox_number(call.world, call.parameters["PhoneNumber"])
    return {}


def list_sms_sandbox_phone_numbers(call: Call) -> Result:
    numbers = call.broker.notifications.sms.sandbox_numbers(call.world)
    limit = call.parameters.get("MaxResults", MAX_TOPIC_PAGE)
    page, token = _page(numbers, lambda item: item[0], call.parameters.get("NextToken"), limit)
    shown = [{"PhoneNumber": number, "Status": status} for number, status in page]
    return {"PhoneNumbers": shown, **({"NextToken": token} if token else {})}


OPERATIONS: dict[str, Operation] = {
    "CheckIfPhoneNumberIsOptedOut": check_if_phone_number_is_opted_out,
    "CreatePlatformApplication": create_platform_application,
    "CreatePlatformEndpoint": create_platform_endpoint,
    "CreateSMSSandboxPhoneNumber": create_sms_sandbox_phone_number,
    "DeleteEndpoint": delete_endpoint,
    "DeletePlatformApplication": delete_platform_application,
    "DeleteSMSSandboxPhoneNumber": delete_sms_sandbox_phone_number,
    "GetEndpointAttributes": get_endpoint_attributes,
    "GetPlatformApplicationAttributes": get_platform_application_attributes,
    "GetSMSAttributes": get_sms_attributes,
    "GetSMSSandboxAccountStatus": get_sms_sandbox_account_status,
    "ListEndpointsByPlatformApplication": list_endpoints_by_platform_application,
    "ListOriginationNumbers": list_origination_numbers,
    "ListPhoneNumbersOptedOut": list_phone_numbers_opted_out,
    "ListPlatformApplications": list_platform_applications,
    "ListSMSSandboxPhoneNumbers": list_sms_sandbox_phone_numbers,
    "OptInPhoneNumber": opt_in_phone_number,
    "SetEndpointAttributes": set_endpoint_attributes,
    "SetPlatformApplicationAttributes": set_platform_application_attributes,
    "SetSMSAttributes": set_sms_attributes,
    "VerifySMSSandboxPhoneNumber": verify_sms_sandbox_phone_number,
}
