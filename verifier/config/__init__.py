"""From a file and the environment to frozen settings; nothing else in the service reads the environment."""

from verifier.config.issuer_settings import IssuerSettings
from verifier.config.loading import ConfigError, Problem, file_of, load
from verifier.config.settings import Settings

__all__ = ["ConfigError", "IssuerSettings", "Problem", "Settings", "file_of", "load"]
