"""What may stand in the labels of a metric: words that are known beforehand, and names out of the configuration.

Nothing that a client sends: whoever could make up values could make up series, and fill the memory of two programs.
"""

from collections.abc import Mapping
from enum import StrEnum

from verifier.core.keys import Dropped
from verifier.core.reasons import Reason
from verifier.core.sealing import Refusal


class Named(StrEnum):
    """Names that differ from service to service, and are few in each."""

    ISSUER = "an issuer's `name`"
    CALLER = "a caller's `name`"
    CALLER_FILE = "`callers.` and a caller's `name`"
    SURFACE = "a [surface](surfaces.md)"
    VERSION = "the version"


Values = tuple[str, ...]
"""Words, and members of ``Named``. An empty word: the label is there, and empty."""

Labels = Mapping[str, Values]
"""Name of a label → what may stand in it."""

NONE: Labels = {}

ISSUER: Values = (Named.ISSUER,)
ISSUER_IF_ANY: Values = (Named.ISSUER, "")
SURFACE: Values = (Named.SURFACE,)
CALLER: Values = (Named.CALLER, "unknown")
VERSION: Values = (Named.VERSION,)
REASON: Values = tuple(Reason)
REASON_IF_ANY: Values = (*REASON, "")
DROPPED: Values = tuple(Dropped)
REFUSAL: Values = tuple(Refusal)
HIT: Values = ("hit", "miss")
STATUS: Values = ("400", "401", "403", "404", "405", "408", "413", "415", "431")
"""Those with which HTTP itself refuses."""

REDIS_COMMAND: Values = ("mget", "write", "claim", "xadd", "xread", "exists", "xinfo", "del", "xdel", "probe")
FILE: Values = ("tls", Named.CALLER_FILE)
CERTIFICATE: Values = ("tls", "tls_client_ca")
