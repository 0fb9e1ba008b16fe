"""Ten thousand malformed requests: each is refused in AWS's form, in time, and nothing is the worse for it.

The cases are made in `malformed.py`. Some kinds are wrong by construction; of those that are only changed at random a
few turn out to be right, and they may be answered so. What is no HTTP gets HTTP's own answer, or a closed connection.

    SIM_SEED=… repeats a run.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from pathlib import Path
from typing import Self
from xml.etree import ElementTree

import orjson
import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from malformed import ARN, JSON_TYPE, KINDS, Case, World, signature
from sidecar import Answer, Refused, Sidecar, Wire, http_request, seed_of_this_run

ANSWER_S = 5.0  # more is a hang
SILENCE_S = 0.1  # after which a request counts as unfinished, and the client leaves
FRESH_EVERY = 300  # requests: those that were accepted may have deleted the queues


def check_form(case: Case, answer: Answer) -> None:
    """A refusal is one of AWS's, or of HTTP where the request was hardly HTTP."""
    if answer.status == 501 and case.raw:
        # RFC 9112, 6.1, for a transfer coding; RFC 9110, 9.1, for a method: not AWS's to answer.
        assert b"CONNECT" in case.data or b"Transfer-Encoding" in case.data
        return
    assert 400 <= answer.status < 500
    kind = answer.headers.get("content-type", "")
    if case.method == "HEAD":
        assert answer.body == b""
    elif kind == "text/plain":
        assert case.raw or answer.status in (400, 414)  # what no request may have in its first line
    elif case.kind == "control":
        assert kind == "application/json"
        assert isinstance(orjson.loads(answer.body)["error"], str)
    elif kind.startswith("application/x-amz-json"):
        assert answer.headers["x-amzn-requestid"]
        assert orjson.loads(answer.body)["__type"]
    elif kind == "application/x-amz-cbor-1.1":
        assert answer.headers["x-amzn-requestid"]
        assert b"__type" in answer.body
    elif kind == "application/json":  # the query protocol's, on demand
        assert answer.headers["x-amzn-requestid"]
        assert orjson.loads(answer.body)["Error"].keys() == {"Code", "Message", "Type"}
    elif kind.startswith("text/xml"):
        assert answer.headers["x-amzn-requestid"]
        root = ElementTree.fromstring(answer.body)
        names = [element.tag.rpartition("}")[2] for element in root.iter()]
        assert names[0] == "ErrorResponse"
        assert {"Error", "Type", "Code", "Message", "RequestId"} <= set(names)
    else:
        raise AssertionError(f"an answer in the form {kind}")


class Judge:
    """Sends cases and looks at what comes back."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._wire: Wire | None = None
        self.outcomes: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def judge(self, case: Case) -> bool:
        """Whether it was refused. Raises AssertionError, TimeoutError, ConnectionError."""
        try:
            return self._judge(case)
        except Exception as error:
            error.add_note(f"{case.kind}: {case.data[:3000]!r} ({len(case.data)} bytes)")
            raise

    def _judge(self, case: Case) -> bool:
        answers = self._provoke(case) if case.raw else [self._ask(case)]
        refused = True
        for answer in answers:
            if answer.status == 200 and not case.wrong:
                refused = False
            elif answer.status == 200 and case.wrong:
                # A batch is answered 200 and refuses its entries one by one.
                assert b'"Failed":[' in answer.body or b"<BatchResultErrorEntry>" in answer.body
            else:
                check_form(case, answer)
            self.outcomes[str(answer.status)] += 1
        if not answers:
            self.outcomes["closed"] += 1
        return refused

    def _ask(self, case: Case) -> Answer:
        if self._wire is None:
            self._wire = Wire(self._sidecar.host, self._sidecar.port, ANSWER_S)
        self._wire.write(case.data)
        answer = self._wire.read(case.method)
        assert answer is not None, "closed instead of answered"
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def _provoke(self, case: Case) -> list[Answer]:
        """What comes back before the server closes, or before the client, which waits no longer, does."""
        answers: list[Answer] = []
        with Wire(self._sidecar.host, self._sidecar.port, SILENCE_S) as wire:
            try:
                wire.socket.settimeout(ANSWER_S)
                wire.write(case.data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has been refused already
            wire.socket.settimeout(SILENCE_S)
            left = False
            while True:
                try:
                    data = wire.socket.recv(1 << 20)
                except TimeoutError:
                    assert not left, "does not close after the client has left"
                    wire.socket.shutdown(socket.SHUT_WR)
                    wire.socket.settimeout(ANSWER_S)
                    left = True
                    continue
                except ConnectionResetError:
                    break
                if not data:
                    break
                answers += self._split(data)
        return answers

    def _split(self, data: bytes) -> list[Answer]:
        answers = []
        while data.startswith(b"HTTP/1.1 "):
            lines, _, rest = data.partition(b"\r\n\r\n")
            pairs = [line.split(": ", 1) for line in lines.decode("latin-1").split("\r\n")[1:]]
            headers = {name.lower(): value for name, value in pairs}
            status, length = int(data[9:12]), int(headers.get("content-length", 0))
            if status != 100:
                answers.append(Answer(status, headers, rest[:length]))
            data = rest[length:]
        return answers


@pytest.mark.parametrize("count", [800, pytest.param(10_000, marks=pytest.mark.slow)])
def test_malformed_requests_are_refused_in_awss_form(tmp_path: Path, count: int) -> None:
    chance = random.Random(seed_of_this_run())
    kinds: Counter[str] = Counter()
    refused = tried = 0
    with Sidecar(log=tmp_path / "log").ready() as sidecar, Judge(sidecar) as judge, sidecar.client() as client:
        while refused < count:
            if tried % FRESH_EVERY == 0:
                world = World(client)
            tried += 1
            (make,) = chance.choices(list(KINDS), list(KINDS.values()))
            case = make(chance, world)
            was_refused = judge.judge(case)
            refused += was_refused
            kinds[f"{case.kind}{'' if was_refused else ' (accepted)'}"] += 1
        print(f"{refused} of {tried} refused: {dict(judge.outcomes)}; {dict(kinds.most_common())}")
        assert refused > 0.8 * tried

        url = client.queue("afterwards")
        client.call("SendMessage", QueueUrl=url, MessageBody="still here")
        assert client.take_all(url) == ["still here"]
        assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log()
    assert "ERROR" not in sidecar.log()


def test_documents_as_deep_as_a_parser_can_bear(tmp_path: Path) -> None:
    """What one call on a shallow stack reads must not break another on a deeper one."""
    with Sidecar(log=tmp_path / "log").ready() as sidecar, sidecar.client() as client:
        client.queue("dead")
        q = {"QueueUrl": client.queue("q")}
        grant = {"AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}
        for depth in range(900, 1050, 2):
            lists, maps = "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth
            for name, document in (
                ("RedrivePolicy", f'{{"deadLetterTargetArn":"{ARN}dead","maxReceiveCount":{lists}}}'),
                ("RedrivePolicy", f'{{"deadLetterTargetArn":"{ARN}dead","maxReceiveCount":{maps}}}'),
                ("RedriveAllowPolicy", f'{{"redrivePermission":"allowAll","x":{maps}}}'),
                ("Policy", f'{{"Statement":[{maps}]}}'),
            ):
                for operation, members in (
                    ("SetQueueAttributes", {**q, "Attributes": {name: document}}),
                    ("AddPermission", {**q, **grant, "Label": f"{name}{depth}"}),
                ):
                    try:
                        client.call(operation, **members)
                    except Refused as refusal:
                        if refusal.status != 400:
                            raise
        assert "Traceback" not in sidecar.log()


def test_malformed_signatures_are_refused(tmp_path: Path) -> None:
    chance = random.Random(seed_of_this_run())
    strict = ("--auth", "strict", "--key", "AKIDEXAMPLE=secret")
    with Sidecar(*strict, log=tmp_path / "log").ready() as sidecar, Judge(sidecar) as judge:
        request = AWSRequest("POST", f"{sidecar.url}/", {"X-Amz-Target": "AmazonSQS.ListQueues"}, b"{}")
        request.headers["Content-Type"] = JSON_TYPE
        SigV4Auth(Credentials("AKIDEXAMPLE", "secret"), "sqs", "us-east-1").add_auth(request)
        headers = {"Host": f"{sidecar.host}:{sidecar.port}", **dict(request.headers.items())}
        with sidecar.client() as client:
            client.write(http_request("POST", "/", headers, b"{}"))
            assert client.answer() == {}
        refused = sum(judge.judge(signature(chance, headers)) for _ in range(300))
        assert refused > 250
        assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log()
