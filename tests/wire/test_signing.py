"""SNS's key and certificate: made once, kept with the data, found at the address that messages name."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from broker.clock import ManualClock
from broker.core import Broker
from broker.errors import BrokerFailure
from broker.store.sqlite import SqliteStore
from protocols.signing import MessageSigner

ORIGIN = "http://127.0.0.1:4566"


class Meta:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get_meta(self, key: str) -> str | None:
        return self.values.get(key)

    def put_meta(self, key: str, value: str) -> None:
        self.values[key] = value


def path_of(signer: MessageSigner) -> str:
    return signer.certificate_url(ORIGIN).removeprefix(ORIGIN)


def public_key(signer: MessageSigner) -> RSAPublicKey:
    key = x509.load_pem_x509_certificate(signer.certificate(path_of(signer)) or b"").public_key()
    assert isinstance(key, RSAPublicKey)
    return key


@pytest.mark.parametrize(("version", "algorithm"), [("1", SHA1()), ("2", SHA256())])
def test_the_certificate_proves_the_signature(version: str, algorithm: SHA1 | SHA256) -> None:
    signer = MessageSigner(Meta())
    signature = base64.b64decode(signer.sign("Message\nGrüße\n", version))
    public_key(signer).verify(signature, "Message\nGrüße\n".encode(), PKCS1v15(), algorithm)
    with pytest.raises(InvalidSignature):
        public_key(signer).verify(signature, b"Message\nother\n", PKCS1v15(), algorithm)


def test_the_key_is_kept() -> None:
    meta = Meta()
    first, second = MessageSigner(meta), MessageSigner(meta)
    assert first.sign("x", "2") == second.sign("x", "2")
    assert path_of(first) == path_of(second)
    assert MessageSigner(Meta()).sign("x", "2") != first.sign("x", "2")


def test_the_key_of_a_transaction_that_did_not_happen_is_forgotten(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    signer = MessageSigner(store)
    broker = Broker(store, ManualClock(), signer=signer)
    broker.commit.after_rollback.append(signer.forget)
    broker.commit.flush()
    broker.commit.enter()
    lost = signer.sign("x", "2")
    broker.commit.abort(BrokerFailure("the disk is full"))
    broker.commit.enter()
    kept = signer.sign("x", "2")
    broker.close()
    assert lost != kept
    store = SqliteStore(tmp_path)
    assert MessageSigner(store).sign("x", "2") == kept
    store.close()


def test_where_the_certificate_is_found() -> None:
    meta = Meta()
    path = path_of(MessageSigner(meta))
    for host, base in [
        (None, ORIGIN),
        ("sns.us-east-1.amazonaws.com", "https://sns.us-east-1.amazonaws.com"),
        ("http://sidebus:4566/", "http://sidebus:4566"),
    ]:
        signer = MessageSigner(meta, host)
        assert signer.certificate_url(ORIGIN) == base + path
        assert (signer.certificate(path) or b"").startswith(b"-----BEGIN CERTIFICATE-----")
        assert signer.certificate(path + "x") is None
        assert signer.certificate("/") is None


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    script = "import sys, protocols.server; print([m for m in ('httpx', 'cryptography') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_with_a_seed_the_key_comes_from_it() -> None:
    first, same, other = MessageSigner(Meta(), seed=7), MessageSigner(Meta(), seed=7), MessageSigner(Meta(), seed="7b")
    assert first.sign("x", "1") == same.sign("x", "1") != other.sign("x", "1")
    assert path_of(first) == path_of(same) != path_of(other), "the certificate is the same too"
    assert public_key(first).key_size == 2048
    public_key(first).verify(base64.b64decode(first.sign("x", "2")), b"x", PKCS1v15(), SHA256())
