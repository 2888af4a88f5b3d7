"""The composition root: from settings to a running service."""

from verifier.app.issuers import origin_of
from verifier.app.renewing import Configuration
from verifier.app.service import Service, serving
from verifier.app.supervisor import supervising
from verifier.app.workers import WorkerFailed

__all__ = ["Configuration", "Service", "WorkerFailed", "origin_of", "serving", "supervising"]
