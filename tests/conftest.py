"""Fixtures of the whole suite."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own environment must not configure the service under test."""
    for name in os.environ:
        if name.startswith("VERIFIER_") or name in {"TOKEN_ISSUER", "AUDIENCE", "JWKS_URI"}:
            monkeypatch.delenv(name)
