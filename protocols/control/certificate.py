"""`/SimpleNotificationService-….pem`: the certificate that SNS's messages name in SigningCertURL."""

from __future__ import annotations

from broker.core import Broker
from broker.errors import BrokerFailure
from protocols.http.message import Reply, Request, Response
from protocols.signing import MessageSigner

PREFIX = b"/SimpleNotificationService-"


class CertificatePage:
    """A `Handler` of the paths that begin with PREFIX."""

    def __init__(self, broker: Broker, signer: MessageSigner) -> None:
        self._broker = broker
        self._signer = signer

    def __call__(self, request: Request, reply: Reply) -> None:
        headers = [(b"content-type", b"text/plain")]
        if request.method not in ("GET", "HEAD"):
            response = Response(405, [*headers, (b"allow", b"GET, HEAD")], b"A certificate can be read only.\n")
        else:
            try:
                self._broker.commit.enter()
                certificate = self._signer.certificate(request.target.partition(b"?")[0].decode("latin-1"))
            except Exception as error:
                response = Response(503, headers, f"{self._broker.failed(error)}\n".encode())
            else:
                if certificate is None:
                    response = Response(404, headers, b"There is no such certificate.\n")
                else:
                    response = Response(200, [(b"content-type", b"application/x-pem-file")], certificate)

        def after_commit(failure: BrokerFailure | None) -> None:
            reply(response if failure is None else Response(503, headers, f"{failure}\n".encode()))

        self._broker.commit.then(after_commit)
