"""The allow-list of algorithms, and one signature checked with one key (RFC 7515 §5.2, RFC 8725 §3.1)."""

from joserfc.jws import JWSRegistry

from verifier.core.algorithms import KEY_TYPE, SYMMETRIC
from verifier.core.issuer import Issuer
from verifier.core.keys import Key
from verifier.core.reasons import Reason, Rejected
from verifier.core.token import Header, Token

# joserfc's models do the arithmetic. Its ``jwt.decode`` is not used: it parses leniently and picks keys
# and algorithms by rules of its own.
_MODEL = {name: JWSRegistry.algorithms[name] for name in KEY_TYPE}


def check_algorithm(token: Token | Header, issuer: Issuer) -> None:
    """Raises ``Rejected``: ``algorithm_not_allowed`` for what is not in the issuer's list, ``none`` included."""
    if token.algorithm in issuer.algorithms:
        return
    listed = f"the issuer's tokens must be signed with {' or '.join(sorted(issuer.algorithms))}"
    if token.algorithm in SYMMETRIC:
        # The usual mistake of a new FusionAuth tenant, and an attack on everybody else.
        listed += ", not with a shared secret (HMAC); choose such a key at the issuer"
    raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, listed)


def check_signature(token: Token, key: Key) -> None:
    """Raises ``Rejected``: ``bad_signature``. The key must have been chosen for the token's algorithm."""
    if not _MODEL[token.algorithm].verify(token.signing_input, token.signature, key.material):
        raise Rejected(Reason.BAD_SIGNATURE, "the signature does not match the issuer's key")
