"""Every kind of gateway that the table goes through."""

from tests.e2e.gateways.gateways import Caddy, Envoy, EnvoyGateway, EnvoyGrpc, Gateway, HAProxy, Nginx, Traefik
from tests.e2e.gateways.ingress_nginx import IngressNginx

GATEWAYS: tuple[type[Gateway], ...] = (Nginx, HAProxy, Caddy, Traefik, Envoy, EnvoyGrpc, EnvoyGateway, IngressNginx)
