"""Written by `python -m protocols.shapes.generate` from AWS's model in botocore. Do not edit."""

from typing import Any

MADE_FROM = '1.44.5'

SERVICE: dict[str, Any] = {'name': 'sts', 'api_version': '2011-06-15', 'protocols': ('query',), 'json_version': None, 'target_prefix': None, 'xml_namespace': 'https://sts.amazonaws.com/doc/2011-06-15/', 'signing_name': 'sts', 'query_compatible': False}

# name: (input, output, errors)
OPERATIONS: dict[str, tuple[str | None, str | None, tuple[str, ...]]] = {
    'GetCallerIdentity': ('GetCallerIdentityRequest', 'GetCallerIdentityResponse', ()),
}

# name: (query code, HTTP status, is it the sender's fault)
ERRORS: dict[str, tuple[str, int, bool]] = {
    'ExpiredTokenException': ('ExpiredTokenException', 400, True),
    'ExpiredTradeInTokenException': ('ExpiredTradeInTokenException', 400, True),
    'IDPCommunicationErrorException': ('IDPCommunicationError', 400, True),
    'IDPRejectedClaimException': ('IDPRejectedClaim', 403, True),
    'InvalidAuthorizationMessageException': ('InvalidAuthorizationMessageException', 400, True),
    'InvalidIdentityTokenException': ('InvalidIdentityToken', 400, True),
    'JWTPayloadSizeExceededException': ('JWTPayloadSizeExceededException', 400, True),
    'MalformedPolicyDocumentException': ('MalformedPolicyDocument', 400, True),
    'OutboundWebIdentityFederationDisabledException': ('OutboundWebIdentityFederationDisabledException', 403, True),
    'PackedPolicyTooLargeException': ('PackedPolicyTooLarge', 400, True),
    'RegionDisabledException': ('RegionDisabledException', 403, True),
    'SessionDurationEscalationException': ('SessionDurationEscalationException', 403, True),
}

SHAPES: dict[str, dict[str, Any]] = {
    'GetCallerIdentityRequest': {'type': 'structure', 'members': {}},
    'GetCallerIdentityResponse': {'type': 'structure', 'members': {'UserId': 'userIdType', 'Account': 'accountType', 'Arn': 'arnType'}},
    'accountType': {'type': 'string'},
    'arnType': {'type': 'string', 'min': 20, 'max': 2048, 'pattern': '[\\u0009\\u000A\\u000D\\u0020-\\u007E\\u0085\\u00A0-\\uD7FF\\uE000-\\uFFFD\\u10000-\\u10FFFF]+'},
    'userIdType': {'type': 'string'},
}
