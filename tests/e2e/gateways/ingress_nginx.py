"""The ingress-nginx controller, as far as a plain nginx can stand in for it.

The controller itself needs a Kubernetes API and an nginx of its own, built with Lua; neither is here. What it would
write for the files of ``deploy/gateways/ingress-nginx/`` is derived from these very files: annotations and entries of
the ConfigMap are read out of the YAML, and make the directives that release 1.15.1 makes of them. An annotation or an
entry that this module does not know is an error, so that none is in the files without being in the test.

What is not there: the balancer, the redirects to HTTPS and the choice of certificates (Lua); TLS and HTTP/2; the
default server, so that every host comes to the one Ingress; the check of annotations; the look-up of the verifier's
name, for which an address stands; metrics and logs.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import yaml

from tests.e2e.gateways.gateways import DEPLOY, Gateway, Nginx

ANNOTATION = "nginx.ingress.kubernetes.io/"


class IngressNginx(Nginx):
    name = "ingress-nginx"
    in_table = "nginx"
    keeps_connections = False
    #: What a test adds to the files: annotations (by their short names), and entries of the ConfigMap.
    annotations: ClassVar[Mapping[str, str]] = {}
    entries: ClassVar[Mapping[str, str]] = {}

    def render(self) -> None:
        source = DEPLOY / self.name
        ingress = yaml.safe_load((source / "ingress.yaml").read_text())
        entries = yaml.safe_load((source / "controller.yaml").read_text())["data"] | self.entries
        annotations = {
            name.removeprefix(ANNOTATION): value
            for name, value in (ingress["metadata"]["annotations"] | self.annotations).items()
        }
        self.write_main("\n".join(_Configuration(self, ingress, annotations, dict(entries)).http()))


class _Configuration:
    """The lines for nginx. ``annotations`` and ``entries`` are used up by it."""

    def __init__(self, gateway: Gateway, ingress: Any, annotations: dict[str, str], entries: dict[str, str]) -> None:
        self._gateway = gateway
        [rule] = ingress["spec"]["rules"]
        [path] = rule["http"]["paths"]
        self._host, self._path = rule["host"], path["path"]
        self._url = annotations.pop("auth-url").replace(
            "verifier.verifier.svc.cluster.local:8080", f"127.0.0.1:{gateway.verifier}"
        )
        self._identity = [name.strip() for name in annotations.pop("auth-response-headers").split(",")]
        self._buffer = annotations.pop("proxy-buffer-size", "4k")
        self._satisfy = annotations.pop("satisfy", None)
        self._allowed = annotations.pop("whitelist-source-range", None)
        self._rewrite = annotations.pop("rewrite-target", None)
        self._cors = annotations.pop("enable-cors", "false") == "true"
        self._errors = annotations.pop("custom-http-errors", "")
        self._http = entries.pop("http-snippet", "")
        self._server = entries.pop("server-snippet", "")
        self._location = entries.pop("location-snippet", "")
        self._underscores = entries.pop("enable-underscores-in-headers", "false") == "true"
        self._lines = entries.pop("large-client-header-buffers", "4 8k")
        self._ignore_invalid = entries.pop("ignore-invalid-headers", "true") == "true"
        unknown = sorted({*annotations, *entries})
        assert not unknown, f"the stand-in for ingress-nginx does not know {', '.join(unknown)}"
        assert str(gateway.verifier) in self._url, "the address of the verifier is not the one that is replaced"

    def http(self) -> Iterator[str]:
        """What stands in the block ``http``."""
        yield f"underscores_in_headers {_on(self._underscores)};"
        yield f"ignore_invalid_headers {_on(self._ignore_invalid)};"
        yield f"large_client_header_buffers {self._lines};"
        yield "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }"
        yield "map $http_x_request_id $req_id { default $http_x_request_id; '' $request_id; }"
        yield self._http
        yield f"upstream upstream_balancer {{ server 127.0.0.1:{self._gateway.application}; keepalive 320; }}"
        yield "server {"
        yield f"listen 127.0.0.1:{self._gateway.port};"
        yield f"server_name {self._host};"
        yield from self._asking()
        yield from self._passing()
        yield from self._error_pages()
        yield self._server
        yield "}"

    def _asking(self) -> Iterator[str]:
        yield "location = /_external-auth {"
        yield "internal;"
        yield "proxy_intercept_errors off;"
        yield "proxy_pass_request_body off;"
        yield from self._headers(
            ("Content-Length", '""'),
            ("X-Forwarded-Proto", '""'),
            ("X-Request-ID", "$req_id"),
            ("Host", self._url.partition("://")[2].partition(":")[0]),
            ("X-Original-URL", "$scheme://$http_host$request_uri"),
            ("X-Original-Method", "$request_method"),
            ("X-Sent-From", '"nginx-ingress-controller"'),
            ("X-Real-IP", "$remote_addr"),
            ("X-Forwarded-For", "$remote_addr"),
            ("X-Auth-Request-Redirect", "$request_uri"),
        )
        yield from self._buffers()
        yield "proxy_http_version 1.1;"
        yield f'set $target "{self._url}";'
        yield "proxy_pass $target;"
        yield "}"

    def _passing(self) -> Iterator[str]:
        yield f'location ~* "^{self._path}" {{' if self._rewrite else f'location "{self._path}" {{'
        yield "set $pass_access_scheme $scheme;"
        yield "set $best_http_host $http_host;"
        yield "set $pass_port $server_port;"
        if self._allowed is not None:
            yield from (f"allow {network.strip()};" for network in self._allowed.split(","))
            yield "deny all;"
        if self._cors:
            yield "if ($request_method = 'OPTIONS') { return 204; }"
        yield "auth_request /_external-auth;"
        yield "auth_request_set $auth_cookie $upstream_http_set_cookie;"
        yield "add_header Set-Cookie $auth_cookie;"
        for number, name in enumerate(self._identity):
            yield f"auth_request_set $authHeader{number} $upstream_http_{name.lower().replace('-', '_')};"
            yield f"proxy_set_header '{name}' $authHeader{number};"
        yield from self._headers(
            ("Host", "$best_http_host"),
            ("Upgrade", "$http_upgrade"),
            ("Connection", "$connection_upgrade"),
            ("X-Request-ID", "$req_id"),
            ("X-Real-IP", "$remote_addr"),
            ("X-Forwarded-For", "$remote_addr"),
            ("X-Forwarded-Host", "$best_http_host"),
            ("X-Forwarded-Port", "$pass_port"),
            ("X-Forwarded-Proto", "$pass_access_scheme"),
            ("X-Forwarded-Scheme", "$pass_access_scheme"),
            ("X-Scheme", "$pass_access_scheme"),
            ("X-Original-Forwarded-For", "$http_x_forwarded_for"),
            ("X-Original-Forwarded-Host", "$http_x_forwarded_host"),
            ("Proxy", '""'),
        )
        yield "proxy_connect_timeout 5s; proxy_send_timeout 60s; proxy_read_timeout 60s;"
        yield from self._buffers()
        yield "proxy_http_version 1.1;"
        yield "proxy_next_upstream error timeout; proxy_next_upstream_timeout 0; proxy_next_upstream_tries 3;"
        yield self._location
        if self._satisfy is not None:
            yield f"satisfy {self._satisfy};"
        if self._errors:
            yield "proxy_intercept_errors on;"
            yield f"error_page {self._errors.replace(',', ' ')} = @custom;"
        if self._rewrite is not None:
            yield f'rewrite "(?i){self._path}" {self._rewrite} break;'
        yield "proxy_pass http://upstream_balancer;"
        yield "proxy_redirect off;"
        yield "}"

    def _error_pages(self) -> Iterator[str]:
        """The default backend is the application here, so that it tells what it gets."""
        if self._errors:
            yield "location @custom {"
            yield "internal;"
            yield "proxy_intercept_errors off;"
            yield from self._headers(("X-Original-URI", "$request_uri"), ("Host", "$best_http_host"))
            yield "rewrite (.*) / break;"
            yield "proxy_pass http://upstream_balancer;"
            yield "}"

    def _buffers(self) -> Iterator[str]:
        yield f"proxy_buffering off; proxy_buffer_size {self._buffer}; proxy_buffers 4 {self._buffer};"
        yield "proxy_request_buffering on;"

    @staticmethod
    def _headers(*headers: tuple[str, str]) -> Iterator[str]:
        yield from (f"proxy_set_header {name} {value};" for name, value in headers)


def _on(yes: bool) -> str:
    return "on" if yes else "off"
