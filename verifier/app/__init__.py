"""The composition root: from settings to a running service."""

from verifier.app.issuers import origin_of
from verifier.app.service import Service, serving

__all__ = ["Service", "origin_of", "serving"]
