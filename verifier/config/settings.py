"""The configuration file: every key, its type, its default and what it is for.

A setting is written once, here or in the two modules that this one puts together. The reference in ``docs/`` and the
JSON Schema for editors are generated from it, so a description is what the user reads.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from verifier.config import rules, values
from verifier.config.duration import Duration
from verifier.config.issuer_settings import IssuerSettings
from verifier.config.route_settings import AwsSettings, RouteSettings
from verifier.config.types import Address, HeaderName, Name, Network, Section, SocketPath, Text, checked
from verifier.core.paths import Form

PREFIX = "VERIFIER__"

DEFAULT_PREFIX = "VERIFIER_DEFAULT__"
"""Of variables by which a package of the service, such as its image, changes a default."""


class OpsSettings(Section):
    """The port for probes and metrics, apart from the one that gateways ask."""

    listen: Address = Field("127.0.0.1:9090", description="Address of the ops port.")
    admin_token_file: Path | None = Field(
        None,
        description="The token, of 16 characters or more, that `/admin/…` and explaining tokens at `/status` demand. "
        "Without it there is neither.",
    )


class GrpcSettings(Section):
    """The port for Envoy's gRPC `ext_authz`, with gRPC's health service. Needs the extra `grpc`."""

    listen: Annotated[Address | SocketPath, AfterValidator(values.grpc_is_there)] | None = Field(
        None,
        description="Its address, by custom `127.0.0.1:9191`, or, with one worker, `unix:/path`. Without it, there is "
        "none.",
    )


class CallerSettings(Section):
    """One caller that may ask on the data port, and on that of gRPC."""

    name: Name = Field(description="Its label in metrics.")
    secret_file: Path = Field(
        description="What it shows in `X-Verifier-Secret`, of 16 characters or more. Read again when it changes."
    )


class TlsSettings(Section):
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


class CacheSettings(Section):
    """Verified identities in memory."""

    max_entries: int = Field(
        100_000,
        ge=10,
        le=10_000_000,
        description="Identities kept by each worker; the oldest go first. Refused tokens have a tenth of this for "
        "themselves.",
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


class KeysSettings(Section):
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


class RedisSettings(Section):
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
    connections: int = Field(16, ge=2, le=256, description="Connections of each worker to Redis at once.")


class RevocationsSettings(Section):
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


class LimitsSettings(Section):
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
        description="Connections open at once at each worker, on the data and on the gRPC port each; more are closed "
        "unanswered.",
    )
    waiting: int = Field(
        1_024,
        ge=1,
        description="Decisions of each worker that may wait for one issuer at once; more get 503 `overloaded`.",
    )
    read_timeout: Duration = Field(
        10.0, gt=0, description="Longest time from the first byte of a request to its last (408 beyond)."
    )
    keepalive_timeout: Duration = Field(
        75.0, gt=0, description="How long an idle connection stays open. Keep it above the gateway's own."
    )


class LogSettings(Section):
    """Lines on standard error."""

    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is colours on a terminal and JSON elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity written.")
    denials: bool = Field(True, description="One line for each denial, with its reason.")


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
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share the ports, 1 to 64: one for each core to use. `limits`, `cache.max_entries` "
        "and connections to Redis are for each of them.",
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
        (), description="Who may ask. Without it, nobody has to show a secret. A Unix socket never has to."
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
    fast_lane: bool = Field(
        True,
        description="Answer plain requests ahead of aiohttp. `false` is slower, changes no answer, and serves to "
        "rule the fast lane out.",
    )
    drain_delay: Duration = Field(
        5.0,
        ge=0,
        le=600,
        description="How long, after SIGTERM, the service is not ready and still answers, so that those who ask can "
        "learn of it. Keep it above the interval of the gateway's checks of `/readyz`.",
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
        return checked(cls, data, handler, rules.settings_problems)  # type: ignore[no-any-return]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the form of the base class
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        defaults = EnvSettingsSource(settings_cls, env_prefix=DEFAULT_PREFIX)
        return env_settings, init_settings, defaults  # what is first wins: the environment over the file
