"""Signed messages of SNS, checked by what subscribers check them with: AWS's sns-validator on npm, and PyPI's.

sns-validator wants the certificate by https, so the broker speaks TLS with a certificate made for the test. Messages
are read from a queue of another account: it is asked to confirm, gets notifications, and is told when it is
unsubscribed, all in the form that HTTP endpoints get.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HERE = Path(__file__).parent
RunClient = Callable[..., str]


@pytest.fixture(scope="module")
def tls_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate for 127.0.0.1, in one file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "tls.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def tls_sidebus(start_sidebus: Any, tls_certificate: Path) -> Iterator[Any]:
    sidebus = start_sidebus("--tls-cert", tls_certificate)
    yield sidebus
    sidebus.stop()


@pytest.fixture(scope="module")
def messages(tls_sidebus: Any, tls_certificate: Path, boto_session: boto3.Session) -> list[dict[str, str]]:
    """Each kind of message, in both versions of the signature."""

    def client(service: str, account: str) -> Any:
        return boto_session.client(
            service,
            endpoint_url=tls_sidebus.url,
            region_name="us-east-1",
            aws_access_key_id=account,
            aws_secret_access_key="any",
            verify=str(tls_certificate),
        )

    sns, sqs = client("sns", "111111111111"), client("sqs", "222222222222")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]

    def take() -> dict[str, str]:
        (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        document: dict[str, str] = json.loads(message["Body"])
        return document

    taken = []
    for version in "12":
        topic_arn = sns.create_topic(Name=f"t{version}", Attributes={"SignatureVersion": version})["TopicArn"]
        arn = sns.subscribe(
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint="arn:aws:sqs:us-east-1:222222222222:q",
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]
        taken.append(take())
        sns.confirm_subscription(TopicArn=topic_arn, Token=taken[-1]["Token"])
        sns.publish(TopicArn=topic_arn, Message="Grüße\n", Subject="<&>")
        sns.publish(TopicArn=topic_arn, Message='{"a": 1}')
        taken += [take(), take()]
        link = taken[-1]["UnsubscribeURL"]
        assert link.startswith(tls_sidebus.url)
        assert arn in link
        trust = ssl.create_default_context(cafile=str(tls_certificate))
        assert tls_sidebus.request("GET", link.removeprefix(tls_sidebus.url), tls=trust).status == 200
        taken.append(take())
    kinds = ("SubscriptionConfirmation", "Notification", "Notification", "UnsubscribeConfirmation")
    assert [(m["Type"], m["SignatureVersion"]) for m in taken] == [(kind, v) for v in "12" for kind in kinds]
    assert all(message["SigningCertURL"].startswith(f"{tls_sidebus.url}/") for message in taken)
    return taken


def test_sns_validator_on_npm(
    node_with: Callable[..., Path],
    run_client: RunClient,
    messages: list[dict[str, str]],
    tls_sidebus: Any,
    tls_certificate: Path,
    tmp_path: Path,
) -> None:
    """It leaves the token of an UnsubscribeConfirmation unsigned, which the guide and AWS's other validators do not."""
    modules = node_with("sns-validator", 18, {"sns-validator": "^0.3.5"})
    known = [message for message in messages if message["Type"] != "UnsubscribeConfirmation"]
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(known))
    arguments = [file, tls_sidebus.host, modules / "package.json"]
    printed = run_client("node", "validate_sns_messages.mjs", *arguments, NODE_EXTRA_CA_CERTS=str(tls_certificate))
    assert int(printed) == len(known)


def test_aws_sns_message_validator_on_pypi(
    python_with: Callable[..., Path],
    run_client: RunClient,
    messages: list[dict[str, str]],
    tls_sidebus: Any,
    tls_certificate: Path,
    tmp_path: Path,
) -> None:
    """It knows version 1 only."""
    binaries = python_with("sns-message-validator", "aws-sns-message-validator==0.0.5")
    known = [message for message in messages if message["SignatureVersion"] == "1"]
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(known))
    arguments = [file, tls_sidebus.url]
    printed = run_client(
        binaries / "python", "validate_sns_messages.py", *arguments, REQUESTS_CA_BUNDLE=str(tls_certificate)
    )
    assert int(printed) == len(known)
