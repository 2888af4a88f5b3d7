"""The configuration file: every key, its type, its default and what it is for.

This is the one place where a setting is written. The reference in ``docs/`` and the JSON Schema for editors
are generated from it, so a description here is what the user reads.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from verifier.config import rules, values
from verifier.config.duration import Duration
from verifier.core.algorithms import DEFAULT as DEFAULT_ALGORITHMS
from verifier.core.algorithms import KEY_TYPE
from verifier.core.paths import Form

PREFIX = "VERIFIER__"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):\d{1,5}$")]
SocketPath = Annotated[str, StringConstraints(pattern=r"^unix:/.{1,100}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
TokenType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$&^_.+/-]+$")]
Algorithm = Annotated[str, BeforeValidator(values.known_algorithm), Field(json_schema_extra={"enum": [*KEY_TYPE]})]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Scalar = str | int | float | bool
OneOf = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value]),
    Field(min_length=1),
]


Method = Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,32}$")]
Host = Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$|^\[[0-9a-f:.]+\]$")]


Network = Annotated[str, AfterValidator(values.network)]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$"), AfterValidator(values.header_name)
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpsSettings(_Section):
    """The port for probes and metrics, apart from the one that gateways ask."""

    listen: Address = Field("127.0.0.1:9090", description="Address of the ops port.")
    admin_token_file: Path | None = Field(
        None,
        description="The token, of 16 characters or more, that `/admin/…` demands. Without it there is no `/admin`.",
    )


class GrpcSettings(_Section):
    """The port for Envoy's gRPC `ext_authz`, with gRPC's health service. Needs the extra `grpc`."""

    listen: Annotated[Address | SocketPath, AfterValidator(values.grpc_is_there)] | None = Field(
        None,
        description="Its address, by custom `127.0.0.1:9191`, or `unix:/path`. Without it, there is none.",
    )


class CallerSettings(_Section):
    """One caller that may ask on the data port, and on that of gRPC."""

    name: Name = Field(description="Its label in metrics.")
    secret_file: Path = Field(
        description="What it shows in `X-Verifier-Secret`, of 16 characters or more. Read again when it changes."
    )


class TlsSettings(_Section):
    """TLS on the data port. The files are read again when they change."""

    certificate_file: Path | None = Field(
        None,
        description="Our certificate, and those between it and its authority, in PEM. Without it, there is no TLS.",
    )
    key_file: Path | None = Field(None, description="Its private key in PEM, not encrypted.")
    client_ca_file: Path | None = Field(
        None, description="Authorities in PEM. Clients must then show a certificate of one of them."
    )

    def files(self) -> dict[str, Path]:
        """Those that there are, by the names of their keys; none without TLS."""
        return {name: path for name, path in self if path is not None}


class CacheSettings(_Section):
    """Verified identities in memory."""

    max_entries: int = Field(
        100_000,
        ge=10,
        le=10_000_000,
        description="Identities kept; the oldest go first. Refused tokens have a tenth of this for themselves.",
    )
    max_ttl: Duration = Field(
        300.0,
        gt=0,
        description="Longest stay of an identity. Expiry, keys, revocations and demands are checked on every hit.",
    )
    share: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Which identities replicas ask each other for through Redis: `auto` is what introspection found "
        "out and the algorithms for which asking is cheaper than verifying; `never` leaves introspection alone too.",
    )


class KeysSettings(_Section):
    """How issuers' keys are kept fresh."""

    refresh: Duration = Field(
        600.0,
        ge=1,
        le=86_400,
        description="Longest time between two looks at a key set, and so until a withdrawn key is distrusted. "
        "The issuer's `Cache-Control` can shorten it, down to a minute.",
    )
    max_stale: Duration = Field(
        86_400.0,
        ge=1,
        description="How old keys may get while the issuer cannot be reached; then its tokens get 503.",
    )
    unknown_kid_cooldown: Duration = Field(
        10.0,
        ge=1,
        description="Shortest time between two fetches for one issuer, however many unknown `kid`s are sent.",
    )
    deadline: Duration = Field(5.0, gt=0, le=60, description="Longest time one fetch may take, discovery included.")


class RedisSettings(_Section):
    """What replicas share: keys, identities, revocations. Everything works without it, each replica on its own."""

    url: Text | None = Field(
        None,
        description="`redis://`, `rediss://` (TLS) or `unix://`, with `[user[:password]@]` and `/db`; "
        "`redis+sentinel://host:port,host:port/service` and `redis+cluster://host:port,host:port` "
        "(`rediss+…` with TLS).",
    )
    password_file: Path | None = Field(None, description="The password, instead of one in `url`.")
    sentinel_password_file: Path | None = Field(
        None, description="The password of the Sentinels themselves, where they have one."
    )
    ca_file: Path | None = Field(None, description="Authorities to trust for TLS instead of the system's.")
    key_file: Path | None = Field(
        None,
        description="32 random bytes in base64 (`openssl rand -base64 32`), the same for all replicas. "
        "Entries are encrypted and authenticated with it.",
    )
    previous_key_file: Path | None = Field(
        None,
        description="A second key that opens entries and seals none: the next one before it is used, the last one "
        "after.",
    )
    trusted: bool = Field(
        False,
        description="Do without `key_file`. Whoever can write to Redis can then make this service allow anything.",
    )
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = Field(
        "verifier", description="Beginning of all keys. Replicas share what has the same."
    )
    timeout: Duration = Field(
        0.05,
        ge=0.005,
        le=1,
        description="Longest time that one command may take, connecting included; then it counts as a miss.",
    )
    connections: int = Field(16, ge=2, le=256, description="Connections to Redis at once.")


class RevocationsSettings(_Section):
    """Tokens that are refused before they expire."""

    when_unfollowed: Literal["continue", "deny"] = Field(
        "continue",
        description="While the list cannot be read from Redis: go on with the last known one, or answer 503.",
    )
    grace: Duration = Field(5.0, ge=1, le=600, description="How long the list may go unread before that counts.")
    keep: Duration = Field(
        2_592_000.0,
        ge=60,
        description="How long an entry stays where nothing says when the last token that it concerns is over. "
        "Keep it above the longest life of a token.",
    )
    max_entries: int = Field(100_000, ge=1, description="Entries held; more are refused.")


class IntrospectionSettings(_Section):
    """Asking the issuer about a token (RFC 7662)."""

    endpoint: Text | None = Field(None, description="Its address. Without it, it is discovered.")
    token_prefix: Text | None = Field(
        None,
        description="What the issuer's opaque tokens begin with. Without it, they go to the issuers in their order, "
        "so that the first ones see tokens of the others.",
    )
    auth: Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "bearer"] = Field(
        "client_secret_basic", description="How we show who we are."
    )
    client_id: Text | None = Field(None, description="Our client id there.")
    client_secret_file: Path | None = Field(None, description="Its secret, read anew for each call.")
    client_key_file: Path | None = Field(
        None, description="Its private key for `private_key_jwt`, as a JWK (with `kid` and `alg`) or in PEM."
    )
    bearer_file: Path | None = Field(None, description="The token for `bearer`, read anew for each call.")
    ttl: Duration = Field(60.0, ge=0, le=86_400, description="How long an answer counts, and never past `exp`.")
    denial_ttl: Duration = Field(10.0, ge=0, le=600, description="How long a refusal counts.")
    deadline: Duration = Field(2.0, gt=0, le=60, description="Longest time for one call, its turn included.")
    max_calls: int = Field(32, ge=1, le=1_024, description="Calls under way at once; the others wait for their turn.")


class LimitsSettings(_Section):
    """What one client, or all together, may take."""

    token_bytes: int = Field(16_384, ge=256, le=262_144, description="Longest token looked at.")
    body_bytes: int = Field(
        262_144,
        ge=1_024,
        le=16_777_216,
        description="Longest request body (413 beyond); a batch of 100 tokens must fit.",
    )
    connections: int = Field(
        4_096,
        ge=1,
        description="Connections open at once, on the data and on the gRPC port each; more are closed unanswered.",
    )
    waiting: int = Field(
        1_024, ge=1, description="Decisions that may wait for one issuer at once; more get 503 `overloaded`."
    )
    read_timeout: Duration = Field(
        10.0, gt=0, description="Longest time from the first byte of a request to its last (408 beyond)."
    )
    keepalive_timeout: Duration = Field(
        75.0, gt=0, description="How long an idle connection stays open. Keep it above the gateway's own."
    )


class LogSettings(_Section):
    """Lines on standard error."""

    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is colours on a terminal and JSON elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity written.")
    denials: bool = Field(True, description="One line for each denial, with its reason.")


class IssuerSettings(_Section):
    """One issuer, its keys, and what its tokens must be."""

    # To an editor, `issuer` is not mandatory: some presets bring it along.
    model_config = ConfigDict(json_schema_extra=lambda schema: schema["required"].remove("issuer"))

    name: Name = Field(description="Its label in metrics, logs and answers.")
    preset: Annotated[str, BeforeValidator(values.known_preset)] | None = Field(
        None, description="Vendor defaults for the settings below."
    )
    issuer: Text = Field(
        description="Compared with `iss` exactly, trailing slash included. Mandatory, but for presets that bring it. "
        "May hold `{tenantid}`, for `tenants`."
    )
    issuer_aliases: tuple[Text, ...] = Field((), description="Further exact `iss` values that the same keys speak for.")
    tenants: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+$")], ...] = Field(
        (), description="Allow-list of tenants, put in the place of `{tenantid}`."
    )
    audiences: Annotated[Literal["any"] | Texts | None, WrapValidator(values.any_or_list)] = Field(
        None,
        description="One of these must be in `aud`. Mandatory; `any` says out loud that the audience does not matter.",
    )
    client_ids: Texts | None = Field(
        None,
        description="Clients accepted, by each claim that names one; these stand in for an absent `aud`.",
    )
    client_id_claims: tuple[Text, ...] = Field(("client_id", "azp"), description="Claims that name the client.")
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = Field(
        DEFAULT_ALGORITHMS, description="Signature algorithms accepted."
    )
    token_types: Annotated[tuple[TokenType, ...], Field(min_length=1)] = Field(
        ("at+jwt", "JWT"), description="Values of `typ` accepted. A token without one counts as `JWT`."
    )
    scope_claims: Texts = Field(
        ("scope", "scp"),
        description="Claims whose strings or arrays are the scopes (a name or a JSON Pointer).",
    )
    required_claims: dict[Text, OneOf] = Field(
        {},
        description="Claim (a name or a JSON Pointer) → a value or a list of values, one of which it must have.",
    )
    leeway: Duration = Field(30.0, ge=0, le=600, description="How far clocks may differ.")
    max_age: Duration | None = Field(None, gt=0, description="Longest time since `iat`, which is then mandatory.")
    jwks_uri: Text | None = Field(None, description="Address of the key set. Without it, or files, it is discovered.")
    discovery_url: Text | None = Field(
        None, description="Where metadata is served, if not under `issuer` (with `{tenantid}` only)."
    )
    jwks_file: Path | None = Field(None, description="A key set in a file, read again when it changes.")
    public_key_files: Annotated[tuple[Path, ...], Field(min_length=1)] | None = Field(
        None, description="Public keys or certificates in PEM, read again when they change."
    )
    secret_file: Path | None = Field(
        None, description="The secret of an issuer that signs with HS256, HS384 or HS512 (32 bytes or more)."
    )
    introspect: Literal["opaque", "always", "only"] = Field(
        "opaque",
        description="With `introspection`, the tokens to ask about: opaque ones, JWTs too once their signature holds, "
        "or every token on the issuer's word alone (no keys are fetched).",
    )
    introspection: IntrospectionSettings | None = Field(None, description="See below.")
    ca_file: Path | None = Field(None, description="Authorities to trust for this issuer instead of the system's.")
    bearer_file: Path | None = Field(None, description="A token to send with fetches, read anew each time.")
    allow_insecure_http: bool = Field(
        False, description="Permit `http` for this issuer. Whoever is on the path can then forge its tokens."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        merged = rules.with_preset(data)
        return _check(cls, merged, handler, rules.issuer_problems)  # type: ignore[no-any-return]

    def identifiers(self) -> tuple[str, ...]:
        """Every exact ``iss`` value, tenants put in."""
        return rules.identifiers(self.issuer, self.issuer_aliases, self.tenants)


class RouteSettings(_Section):
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
    aws_condition: values.Condition | None = Field(
        None,
        description="A Condition block of IAM for its statement in policies for API Gateway, such as "
        "`{IpAddress: {aws:SourceIp: [203.0.113.0/24]}}`. Asked in any other way, the route is nobody's.",
    )


class AwsSettings(_Section):
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
    token_header: values.LowerHeader = Field(
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
        description="API id, or `id/stage` → the host that routes are judged for. Without it, it is that of AWS "
        "(`id.execute-api.region.amazonaws.com`).",
    )


class Settings(BaseSettings):
    """The whole file. ``VERIFIER__CACHE__MAX_TTL=1m`` sets ``cache.max_ttl``; lists are written as JSON."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=False
    )

    listen: Address | SocketPath = Field(
        "127.0.0.1:8080", description="Address that gateways ask, or `unix:/path` for a Unix socket."
    )
    socket_mode: Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3}$")] = Field(
        "0660", description="Who may connect to our Unix sockets, as the mode of their files."
    )
    ops: OpsSettings = OpsSettings()
    grpc: GrpcSettings = GrpcSettings()
    issuers: tuple[IssuerSettings, ...] = Field(description="The issuers whose tokens are accepted.")
    routes: tuple[RouteSettings, ...] = Field((), description="What requests must show, the first match wins.")
    default_route: Literal["authenticated", "deny"] = Field(
        "authenticated", description="What applies where no route matches: any good token, or nobody."
    )
    preflights: Literal["check", "allow"] = Field(
        "check",
        description="CORS preflights: judged like every other request, or allowed without a token where the route is "
        "not denied.",
    )
    path_forms: tuple[Form, ...] = Field(
        (), description="Spellings of paths to permit, which gateways and services read in more than one way."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Addresses of gateways that may ask about the requests of others. A Unix socket always may.",
    )
    callers: tuple[CallerSettings, ...] = Field(
        (), description="Who may ask. Without any, nobody has to show a secret. A Unix socket never has to."
    )
    callers_exempt: tuple[Network, ...] = Field((), description="Addresses that need no secret of `callers`.")
    tls: TlsSettings = TlsSettings()
    identity_headers: dict[HeaderName, Text] = Field(
        default_factory=dict,
        description="Header → claim (a name or a JSON Pointer), besides `X-Auth-Subject` and its like.",
    )
    decision_max_age: Duration = Field(
        0.0,
        ge=0,
        le=300,
        description="How long a gateway that keeps answers may hold an allow, and so go on when it was revoked. It is "
        "never told to beyond the token's end. 0 is not at all.",
    )
    aws: AwsSettings = AwsSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    revocations: RevocationsSettings = RevocationsSettings()
    keys: KeysSettings = KeysSettings()
    limits: LimitsSettings = LimitsSettings()
    log: LogSettings = LogSettings()
    event_loop: Literal["uvloop", "asyncio"] = Field(
        "uvloop", description="The event loop; `asyncio` is slower, and there to rule uvloop out."
    )
    stop_timeout: Duration = Field(
        10.0,
        ge=0,
        le=600,
        description="How long requests in progress may take to end when the service stops.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        return _check(cls, data, handler, rules.settings_problems)  # type: ignore[no-any-return]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the form of the base class
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # what is first wins: the environment over the file


def _check(cls: type[BaseModel], data: Any, handler: ValidatorFunctionWrapHandler, find: rules.Finder) -> Any:
    """Run the rules across keys even where a single key is wrong, so that everything is reported at once."""
    found = find(data) if isinstance(data, dict) else []
    try:
        model = handler(data)
    except ValidationError as error:
        found = [*rules.line_errors(error), *found]
    if found:
        raise ValidationError.from_exception_data(cls.__name__, found)
    return model
