"""Issuers and what each demands of its tokens; a token's issuer is found before any I/O (RFC 8725 §3.8)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from verifier.core.claim_path import ClaimPath
from verifier.core.reasons import Reason, Rejected
from verifier.core.token import Token

TENANT = "{tenantid}"
"""What stands for a tenant in the metadata and keys of issuers that serve many (Entra)."""

ClaimValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class RequiredClaim:
    """A claim that must equal one of ``values``, or be an array that holds one of them."""

    path: ClaimPath
    values: tuple[ClaimValue, ...]


@dataclass(frozen=True, slots=True)
class Issuer:
    """One configured issuer. Durations are in seconds.

    ``identifiers`` are the exact ``iss`` values (several for a tenant list). ``audiences`` is None where any
    is accepted, which only the configuration's outspoken ``any`` brings about. An empty ``client_ids``
    asks nothing of the client. ``fingerprint`` stands for the whole configuration of the issuer.
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


class Issuers:
    """The configured issuers, found by ``iss`` and by name. Immutable."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._all = tuple(issuers)
        self.by_name: Mapping[str, Issuer] = MappingProxyType({i.name: i for i in self._all})
        self._by_identifier = {text: issuer for issuer in self._all for text in issuer.identifiers}
        if len(self._by_identifier) != sum(len(issuer.identifiers) for issuer in self._all):
            raise ValueError("two issuers share an iss")

    def __iter__(self) -> Iterator[Issuer]:
        return iter(self._all)

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
            )
        return issuer
