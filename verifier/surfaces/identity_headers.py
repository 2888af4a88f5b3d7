"""Who the token speaks for, as headers that a gateway copies into the request.

All of them are always there, empty when there is nothing to say, so that a gateway that copies them overwrites
whatever the client sent under those names.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from verifier.core import claim_path
from verifier.core.claim_path import ClaimPath
from verifier.core.verdict import Principal
from verifier.surfaces.surface import taken_for

OMITTED = "X-Auth-Omitted"

LONGEST = 2_048
"""Bytes of one value. Proxies have room for 4 to 8 KB of headers in all."""

ROOM = 6_144
"""Bytes of all values together."""

_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class IdentityHeaders:
    """``claims`` are further headers, by name."""

    def __init__(self, claims: Mapping[str, ClaimPath] | None = None) -> None:
        self._claims = dict(claims or {})
        self._names = frozenset(name.lower() for name in (*self._values(None), OMITTED))

    def is_posed_as(self, headers: Iterable[str]) -> bool:
        """Whether a client sent one of these (``headers`` are in lower case) with other characters for dashes: some
        services take them for the same (CGI, WSGI), and a gateway that copies ours does not overwrite them."""
        return not self._names.isdisjoint(taken_for(headers))

    def of(self, principal: Principal | None) -> list[tuple[str, str]]:
        """The headers for ``principal``; all are empty where there is none.

        A value that is too long is empty too, and ``X-Auth-Omitted`` names it.
        """
        room, headers, omitted = ROOM, [], []
        for name, found in self._values(principal).items():
            value = _text(found)
            if len(value) > min(LONGEST, room):
                omitted.append(name)
                value = ""
            room -= len(value)
            headers.append((name, value))
        return [*headers, (OMITTED, ", ".join(omitted))]

    def _values(self, principal: Principal | None) -> dict[str, Any]:
        mine = {
            "X-Auth-Subject": None if principal is None else principal.subject,
            "X-Auth-Issuer": None if principal is None else principal.issuer,
            "X-Auth-Client-Id": None if principal is None else principal.client_id,
            "X-Auth-Scope": None if principal is None else " ".join(principal.scopes),
            "X-Auth-Expires": None if principal is None else int(principal.expires_at),
        }
        claimed = {
            name: None if principal is None else claim_path.find(principal.claims, path)
            for name, path in self._claims.items()
        }
        return mine | claimed


def _text(value: Any) -> str:
    """A value of one line in printable ASCII: everything else, and the percent sign, is percent-encoded as UTF-8."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if text.isascii() and text.isprintable() and "%" not in text:
        return text.strip()  # as nearly all are
    return quote(text, safe=_PLAIN, errors="surrogatepass").strip()
