"""Issuers and what each demands of its tokens; a token's issuer is found before any I/O (RFC 8725 §3.8)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from verifier.core import near_miss
from verifier.core.claim_path import ClaimPath
from verifier.core.reasons import Reason, Rejected
from verifier.core.token import Token, is_b64token, is_like_jws, is_opaque

TENANT = "{tenantid}"
"""What stands for a tenant in the metadata and keys of issuers that serve many (Entra)."""

ClaimValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class RequiredClaim:
    """A claim that must equal one of ``values``, or be an array that holds one of them."""

    path: ClaimPath
    values: tuple[ClaimValue, ...]


class Introspect(StrEnum):
    """Which tokens of an issuer it is asked about (RFC 7662)."""

    OPAQUE = "opaque"  # those that are no JWTs
    ALWAYS = "always"  # its JWTs too, once their signature holds
    ONLY = "only"  # every token, on its word alone: there are no keys


@dataclass(frozen=True, slots=True)
class Introspection:
    """How an issuer is asked about tokens. ``ttl`` and ``denial_ttl``: how long its answer counts, in seconds.

    ``token_prefix`` is what all of its opaque tokens begin with, where that is so.
    """

    tokens: Introspect
    token_prefix: str | None
    ttl: float
    denial_ttl: float


@dataclass(frozen=True, slots=True)
class Issuer:
    """One configured issuer. Durations are in seconds.

    ``identifiers`` are the exact ``iss`` values (several for a tenant list). ``audiences`` is None where any
    is accepted, which only the configuration's outspoken ``any`` brings about. An empty ``client_ids``
    asks nothing of the client. ``fingerprint`` stands for the whole configuration of the issuer but its ``trial``: the
    same issuer with stricter values, by which nothing is decided (``core/trial.py``).
    """

    name: str
    identifiers: frozenset[str]
    algorithms: frozenset[str]
    token_types: frozenset[str]
    audiences: frozenset[str] | None
    client_ids: frozenset[str]
    client_id_claims: tuple[str, ...]
    scope_claims: tuple[ClaimPath, ...]
    required_claims: tuple[RequiredClaim, ...]
    leeway: float
    max_age: float | None
    fingerprint: str
    introspection: Introspection | None = None
    trial: "Issuer | None" = None

    @property
    def asked_about_jwts(self) -> bool:
        """Whether a signature alone does not make its tokens good."""
        return self.introspection is not None and self.introspection.tokens is not Introspect.OPAQUE

    @property
    def has_keys(self) -> bool:
        return self.introspection is None or self.introspection.tokens is not Introspect.ONLY


class Issuers:
    """The configured issuers, found by ``iss`` and by name. Immutable."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._all = tuple(issuers)
        self.by_name: Mapping[str, Issuer] = MappingProxyType({i.name: i for i in self._all})
        self._asked = [(issuer, issuer.introspection.token_prefix) for issuer in self._all if issuer.introspection]
        self._by_identifier = {text: issuer for issuer in self._all for text in issuer.identifiers}
        if len(self._by_identifier) != sum(len(issuer.identifiers) for issuer in self._all):
            raise ValueError("two issuers share an iss")
        self._folded = near_miss.folded(self._by_identifier)
        self._listed = near_miss.listed(self._by_identifier)

    def __iter__(self) -> Iterator[Issuer]:
        return iter(self._all)

    def on_trial(self) -> "Issuers":
        """Them as they would be with what is on trial enforced."""
        return Issuers(issuer.trial or issuer for issuer in self._all)

    def of_opaque(self, text: str) -> tuple[Issuer, ...]:
        """The issuers to ask about a token that is no JWT, in the order in which they are asked.

        The issuer whose prefix it bears, the longest first; or else, if it has not the form of a JWT, all that gave
        none. Nothing else in the token has a say.
        """
        if not self._asked or not is_b64token(text) or is_like_jws(text):
            return ()
        asked = self._asked
        named = [(issuer, prefix) for issuer, prefix in asked if prefix is not None and text.startswith(prefix)]
        if named:
            return (max(named, key=lambda found: len(found[1]))[0],)
        return tuple(issuer for issuer, prefix in asked if prefix is None) if is_opaque(text) else ()

    def match(self, token: Token) -> Issuer:
        """The issuer whose ``iss`` the token bears, byte for byte.

        Raises ``Rejected``: ``untrusted_issuer``.
        """
        claimed = token.unverified_claims.get("iss")
        issuer = self._by_identifier.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise Rejected(
                Reason.UNTRUSTED_ISSUER,
                "the iss of the token is none of the configured issuers (compared exactly)",
                near_miss.slip(self._folded, (claimed,) if isinstance(claimed, str) else ()) or self._listed,
            )
        return issuer
