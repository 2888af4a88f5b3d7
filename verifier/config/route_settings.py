"""What is written of routes, and of those who ask for all of them."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
)

from verifier.config import values
from verifier.config.duration import Duration
from verifier.config.types import Condition, Host, LowerHeader, Method, OneOf, Section, Text, Texts


class RouteSettings(Section):
    """What a request must show to take a route. The first one that matches its method, host and path applies."""

    name: Text | None = Field(None, description="What reports call it, instead of its place in the list.")
    path: Annotated[str, AfterValidator(values.route_path)] = Field(
        description="`/pets/{id}` and `/pets/*` stand for any one segment there, `/public/**` for all that follows and "
        "for `/public` itself. A last slash makes no difference."
    )
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] | None = Field(
        None, description="Methods that it is for; all without it. `GET` is for `HEAD` too."
    )
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)] | None = Field(
        None, description="Hosts that it is for; all without it. `*.acme.example` stands for all below."
    )
    scopes: Texts | None = Field(None, description="Scopes that are all demanded.")
    any_scopes: Texts | None = Field(None, description="Scopes of which one is demanded.")
    claims: dict[Text, OneOf] = Field(
        default_factory=dict,
        description="Claim (a name or a JSON Pointer) → a value or a list of values, one of which it must have.",
    )
    issuers: Texts | None = Field(None, description="Names of issuers, one of which the token must be from.")
    audiences: Texts | None = Field(None, description="Audiences, one of which the token must be meant for.")
    client_ids: Texts | None = Field(None, description="Clients, one of which the token must be of.")
    max_auth_age: Duration | None = Field(
        None, gt=0, description="How long ago the subject may have authenticated (`auth_time`)."
    )
    anonymous: bool = Field(False, description="No token is needed; one that is sent must still be good.")
    deny: bool = Field(False, description="Nobody may take it.")
    aws_condition: Condition | None = Field(
        None,
        description="A Condition block of IAM for its statement in policies for API Gateway, such as "
        "`{IpAddress: {aws:SourceIp: [203.0.113.0/24]}}`. Asked in any other way, the route is nobody's.",
    )
    report_only: bool = Field(
        False,
        description="Decide as if it was not there, and report what it would deny.",
    )


class AwsSettings(Section):
    """Authorizers of API Gateway and AppSync (`/aws/authorizer`)."""

    policy: Literal["routes", "api", "method"] = Field(
        "routes",
        description="What a policy speaks of: everything that the principal may do on this API and stage, so that it "
        "may be kept for other routes; the whole stage, whatever the routes say; or the requested method alone. Simple "
        "answers and AppSync's are for one request, and routes are always asked.",
    )
    http_answers: Literal["simple", "policy"] = Field(
        "simple", description="What HTTP APIs with payload format 2.0 take: yes and no, or policies."
    )
    http_ttl: Literal["any", "zero"] = Field(
        "any",
        description="HTTP APIs apply a simple answer, for their TTL, to all that has the same identity sources. Where "
        "routes decide, a yes is given only if these hold method and path (`$context.httpMethod`, `$context.path`), "
        "unless `zero` says that the TTL is 0.",
    )
    context: Literal["claims", "flat", "safe"] = Field(
        "claims",
        description="How claims are handed on: as text, as the JWT authorizer of HTTP APIs writes them; with numbers "
        "and booleans as they are and objects by dotted names; or all in one value `claims`, JSON in base64url.",
    )
    context_claims: Texts | None = Field(None, description="Names of the claims to hand on; all without it.")
    token_header: LowerHeader = Field(
        "authorization", description="The header that holds the token. `TOKEN` events and AppSync name none."
    )
    token_query: Text | None = Field(None, description="A query parameter that may hold the token.")
    token_cookie: Text | None = Field(None, description="A cookie that may hold the token.")
    bare_tokens: bool = Field(
        False,
        description="The token may come without the word `Bearer`. Of an HTTP API's identity sources it is the first.",
    )
    usage_key_claim: Text | None = Field(
        None, description="The claim (a name or a JSON Pointer) that is the API key of a usage plan, or names it."
    )
    usage_keys: dict[Text, Text] = Field(
        default_factory=dict, description="Value of `usage_key_claim` → API key; without it, the value is the key."
    )
    hosts: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_$-]+)?$")], Host] = Field(
        default_factory=dict,
        description="API id, or `id/stage` → the host, in lower case, that routes are judged for. Without it, it is "
        "that of AWS (`id.execute-api.region.amazonaws.com`).",
    )
