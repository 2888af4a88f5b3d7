"""Hands authorizer events to the verifier, and its answers to AWS. What is none is an exception, and never an allow."""

import json
import os
import select
import threading
from contextlib import suppress
from urllib.parse import urlsplit

# Slower to import than all else: begun here, where Lambda gives us most of a processor, and there by the first event.
threading.Thread(target=__import__, args=("http.client",), daemon=True).start()
TYPE_CHECKING = False  # as typing is slow to import, too
if TYPE_CHECKING:
    from http.client import HTTPConnection

ENV = {"VERIFIER_TIMEOUT": "4"} | {k: v.strip() for k, v in os.environ.items() if "VERIFIER_" in k and v.strip()}
URL = urlsplit(ENV.get("VERIFIER_URL", ""))
if URL.scheme not in {"http", "https"} or not URL.hostname or "@" in URL.netloc or URL.query or URL.fragment:
    raise ValueError("VERIFIER_URL must be http:// or https:// with a host, and a port; /aws/authorizer is added")
ADDRESS = URL.hostname, URL.port or (443 if URL.scheme == "https" else 80)
TIMEOUT = float(ENV["VERIFIER_TIMEOUT"]) if ENV["VERIFIER_TIMEOUT"].replace(".", "", 1).isdecimal() else 0
if not 0 < TIMEOUT <= 10:
    raise ValueError("VERIFIER_TIMEOUT must be a number above 0 and at most 10, the seconds that AWS waits")
SECRET = {"X-Verifier-Secret": ENV["VERIFIER_SECRET"].encode()} if "VERIFIER_SECRET" in ENV else {}
kept: "list[HTTPConnection]" = []  # the one connection, between events


class Undecided(Exception):  # noqa: N818 - no error of this program
    """There is no answer for AWS."""


def handler(event: object, context: object) -> dict[str, object]:
    remaining = getattr(context, "get_remaining_time_in_millis", lambda: 60_000)  # then Lambda ends us, and says less
    status, answer = Asking(event, context).within(min(TIMEOUT, remaining() / 1000 - 0.1))
    if status == 401:
        raise Exception("Unauthorized")  # noqa: TRY002 - API Gateway answers 401 to this very text
    if status not in {200, 403} or not isinstance(answer, dict):
        raise Undecided(f"the verifier answered {status}, and nothing for AWS")
    return answer


class Asking(threading.Thread):
    """One question. As a thread, it can be left whatever it waits for: a name, a handshake, an answer in drops."""

    def __init__(self, event: object, context: object) -> None:
        super().__init__(daemon=True)
        self.question, self.id = json.dumps(event).encode(), str(getattr(context, "aws_request_id", ""))
        self.connection, self.error, self.left = kept.pop() if kept else None, "no answer in time", False
        self.answer: tuple[int, object] | None = None

    def within(self, seconds: float) -> tuple[int, object]:
        self.start()
        self.join(seconds)
        if self.answer and self.connection:
            kept.append(self.connection)  # and no other: what comes late must not be the answer to the next question
            return self.answer
        self.left = True
        with suppress(OSError, AttributeError):  # the plain shutdown: after TLS's own, plain text would follow
            super(type(self.connection.sock), self.connection.sock).shutdown(2)  # type: ignore[union-attr, arg-type]
        raise Undecided(f"the verifier could not be asked: {self.error}")

    def run(self) -> None:
        try:
            self.answer = self.ask()
        except Exception as error:  # noqa: BLE001 - each is told of, but http.client quotes headers in some
            self.error = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
            if self.connection:
                self.connection.close()

    def ask(self) -> tuple[int, object]:
        import http.client  # noqa: PLC0415 - see above
        import ssl  # noqa: PLC0415

        if self.connection and self.connection.sock and not select.select([self.connection.sock], [], [], 0)[0]:
            with suppress(ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError):  # closed just now
                return self.exchange(self.connection)
        if self.connection:  # closed, or open and sending what was not asked for
            self.connection.close()
        if URL.scheme == "https":
            tls = ssl.create_default_context(cafile=ENV.get("VERIFIER_CA"))
            if "VERIFIER_CLIENT_CERT" in ENV:
                tls.load_cert_chain(ENV["VERIFIER_CLIENT_CERT"], ENV.get("VERIFIER_CLIENT_KEY"))
            self.connection = http.client.HTTPSConnection(*ADDRESS, timeout=TIMEOUT, context=tls)
        else:
            self.connection = http.client.HTTPConnection(*ADDRESS, timeout=TIMEOUT)
        self.connection.connect()  # here, as it can be left meanwhile
        return self.exchange(self.connection)

    def exchange(self, connection: "HTTPConnection") -> tuple[int, object]:
        """The status, and the answer if it is JSON."""
        if self.left:
            raise TimeoutError
        headers = {"Content-Type": b"application/json", "X-Request-Id": self.id.encode(), **SECRET}
        connection.request("POST", f"{URL.path.rstrip('/')}/aws/authorizer", self.question, headers)
        answer = connection.getresponse()
        body = answer.read(65_536)
        if answer.status < 200 or answer.length or not answer.isclosed():
            raise OSError("the answer is too long, or not whole")
        return answer.status, json.loads(body) if answer.headers.get_content_type() == "application/json" else None
