"""What is written of an issuer."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from verifier.config import report_only, rules, values
from verifier.config.duration import Duration
from verifier.config.types import Algorithm, Name, OneOf, Section, Text, Texts, TokenType, checked
from verifier.core.algorithms import DEFAULT as DEFAULT_ALGORITHMS


class IntrospectionSettings(Section):
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


class TrialSettings(Section):
    """Stricter values on trial, each in the place of the issuer's own. What they would deny is counted and logged, and
    allowed as before."""

    audiences: Texts | None = Field(None, description="One of these would have to be in `aud`.")
    client_ids: Texts | None = Field(None, description="Clients that would be accepted.")
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] | None = Field(
        None, description="Signature algorithms that would be accepted."
    )
    token_types: Annotated[tuple[TokenType, ...], Field(min_length=1)] | None = Field(
        None, description="Values of `typ` that would be accepted."
    )
    required_claims: Annotated[dict[Text, OneOf], Field(min_length=1)] | None = Field(
        None, description="Claims that would be demanded."
    )
    leeway: Duration | None = Field(None, ge=0, le=600, description="How far clocks might differ.")
    max_age: Duration | None = Field(None, gt=0, description="Longest time since `iat` there might be.")


class IssuerSettings(Section):
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
    report_only: TrialSettings | None = Field(None, description="Stricter values that are only reported, see below.")
    ca_file: Path | None = Field(None, description="Authorities to trust for this issuer instead of the system's.")
    bearer_file: Path | None = Field(None, description="A token to send with fetches, read anew each time.")
    allow_insecure_http: bool = Field(
        False,
        description="Permit `http` for this issuer beyond loopback. Whoever is on the path can then forge its tokens.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        merged = rules.with_preset(data)
        made: Self = checked(cls, merged, handler, rules.issuer_problems)
        found = report_only.problems(made, made.report_only)
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return made

    def enforced(self) -> Self:
        """Without what is on trial: all that identities, keys and answers of the issuer depend on."""
        return self if self.report_only is None else self.model_copy(update={"report_only": None})

    def identifiers(self) -> tuple[str, ...]:
        """Every exact ``iss`` value, tenants put in."""
        return rules.identifiers(self.issuer, self.issuer_aliases, self.tenants)
