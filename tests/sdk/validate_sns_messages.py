"""Validates the messages in a file, a JSON array, with PyPI's aws-sns-message-validator; prints how many."""

import json
import sys

from sns_message_validator import SignatureVerificationFailureException, SNSMessageValidator

file, origin = sys.argv[1:]
validator = SNSMessageValidator(cert_url_regex=f"^{origin}/")
with open(file) as opened:
    messages = json.load(opened)
for message in messages:
    validator.validate_message(message)
    try:
        validator.validate_message({**message, "Message": message["Message"] + "!"})
    except SignatureVerificationFailureException:
        continue
    raise SystemExit("a forged message passed")
print(len(messages))
