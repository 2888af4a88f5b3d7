"""The form of a preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults for an issuer's settings, in the words of the configuration file.

    A setting that the user writes replaces the preset's, but for ``required_claims``, which are added to.
    ``audience_free`` is for vendors whose access tokens bear no ``aud``: ``client_ids`` may then stand alone.
    ``note`` goes into the reference.
    """

    title: str
    defaults: Mapping[str, Any]
    note: str
    audience_free: bool = False
