"""SNS's signatures: the key and its self-signed certificate, made at the first need and kept in the store.

The rule: a signature that left this process can be checked as long as its data directory lives: the key is put into
the store in the transaction of the first message that it signs. With a seed, the key comes from the seed, and so do all
signatures. `cryptography` is imported when it is needed.
Follows "Verifying the signatures of Amazon SNS messages" in the developer guide.
"""

from __future__ import annotations

import datetime
import hashlib
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_META_KEY = "sns_signing_key"
_PATH = "/SimpleNotificationService-"
# Fixed, so that the certificate is good at whatever time a test's clock shows.
_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)


class Meta(Protocol):
    """The store's small values. Called inside a transaction."""

    def get_meta(self, key: str) -> str | None: ...

    def put_meta(self, key: str, value: str) -> None: ...


class MessageSigner:
    """Signs as SNS does. A `broker.delivery.Signer`.

    `certificate_host` is what SigningCertURL begins with: a host name (then with https) or a URL; None is the address
    at which each subscriber finds the broker.
    """

    def __init__(self, meta: Meta, certificate_host: str | None = None, seed: int | str | None = None) -> None:
        self._meta = meta
        self._seed = seed
        self._base = certificate_host
        if certificate_host is not None and "://" not in certificate_host:
            self._base = f"https://{certificate_host}"
        self._key: RSAPrivateKey | None = None
        self._certificate = b""
        self._path = ""

    def sign(self, text: str, version: str) -> str:
        """The signature in base64: of version "1" with SHA-1, else with SHA-256, both PKCS #1 v1.5."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA1, SHA256

        key = self._key or self._load()
        return b64encode(key.sign(text.encode(), PKCS1v15(), SHA1() if version == "1" else SHA256())).decode()

    def certificate_url(self, origin: str) -> str:
        if self._key is None:
            self._load()
        return (self._base or origin).rstrip("/") + self._path

    def certificate(self, path: str) -> bytes | None:
        """The certificate in PEM, if that is its path."""
        if not path.startswith(_PATH):
            return None
        if self._key is None:
            self._load()
        return self._certificate if path == self._path else None

    def forget(self) -> None:
        """The transaction that may have kept the key did not happen."""
        self._key = None

    def _load(self) -> RSAPrivateKey:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        kept = self._meta.get_meta(_META_KEY)
        if kept is None:
            kept = _make() if self._seed is None else _make_from(self._seed)
            self._meta.put_meta(_META_KEY, kept)
        key = load_pem_private_key(kept.encode(), None)
        assert isinstance(key, RSAPrivateKey)
        certificate = x509.load_pem_x509_certificate(kept.encode())
        self._certificate = certificate.public_bytes(Encoding.PEM)
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()[:32]
        self._path = f"{_PATH}{digest}.pem"
        self._key = key
        return key


def _make() -> str:
    """A new key and its certificate, both in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    return _certified(rsa.generate_private_key(public_exponent=65537, key_size=2048), x509.random_serial_number())


@lru_cache(maxsize=16)
def _make_from(seed: int | str) -> str:
    """The same, always the same for a seed. Many tests may ask for that of one seed."""
    from broker.entropy import Entropy
    from protocols.seeded_key import seeded_key

    entropy = Entropy(f"{seed}/signing")
    return _certified(seeded_key(entropy), entropy.bits(159) | 1 << 158)  # as long as a random one


def _certified(key: RSAPrivateKey, serial_number: int) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])  # as AWS's own
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    ).decode()
