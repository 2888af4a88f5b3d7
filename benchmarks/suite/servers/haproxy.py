"""HAProxy with its converter ``jwt_verify``, on one thread. It has no cache."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.suite.processes import Process
from benchmarks.suite.row import Place, Running
from benchmarks.suite.tokens import AUDIENCE, ISSUER, Tokens
from tests.e2e.gateways.programs import find
from tests.support import free_port

# A missing claim leaves its variable unset, for which no condition holds: so each denial is an "unless".
CONFIGURATION = """
global
    nbthread 1
    maxconn 1000

defaults
    mode http
    timeout client 30s
    timeout connect 5s
    timeout server 30s
    timeout http-request 10s

frontend clients
    bind 127.0.0.1:{port}
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request deny unless {{ var(txn.alg) -m str {algorithm} }}
    http-request deny unless {{ var(txn.bearer),jwt_verify(txn.alg,"{key}") 1 }}
    http-request set-var(txn.now) date()
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request deny unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
    http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
    http-request deny unless {{ var(txn.iss) -m str {issuer} }}
    http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
    http-request deny unless {{ var(txn.aud) -m str {audience} }}
    http-request return status 200 content-type text/plain string ok
"""


@contextmanager
def haproxy(place: Place, tokens: Tokens) -> Iterator[Running]:
    program, port, file = find("haproxy"), free_port(), place.folder / "haproxy.cfg"
    if program is None:
        raise RuntimeError("there is no HAProxy")
    file.write_text(
        CONFIGURATION.format(
            port=port, algorithm=tokens.algorithm, key=tokens.public_key_file, issuer=ISSUER, audience=AUDIENCE
        )
    )
    process = Process([program, "-db", "-f", file], [place.cores.server], place.folder / "haproxy.out")
    try:
        process.wait_until_listening(port)
        yield Running(port, {"haproxy": process})
    finally:
        process.stop()
