"""What every gateway is held to, through Istio; and what only Istio can be told wrongly."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests.e2e.gateways import test_gateways, test_table
from tests.e2e.gateways.findings import PAGE
from tests.e2e.gateways.istio import FILES, Istio, documents, require
from tests.e2e.gateways.peers import request
from tests.e2e.gateways.scene import Scene, scene

pytestmark = pytest.mark.e2e

#: Tests that say here what is otherwise.
OTHERWISE = {"test_the_request_id_is_passed_to_both", "test_the_findings_are_as_written_down"}

# They find the fixture `made` of this module.
globals().update(
    {
        name: test
        for name, test in vars(test_gateways).items()
        if name.startswith("test_") and "haproxy" not in name and name not in OTHERWISE
    }
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    Istio.require()
    with scene(Istio, tmp_path_factory.mktemp("istio")) as running:
        yield running


class OfBefore(Istio):
    """Istio that does not know what to do about headers with underscores, and keeps them."""

    def pod(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("kind", [Istio, OfBefore])
async def test_istio_lets_pass_what_the_table_allows_and_nothing_else(kind: type[Istio], tmp_path: Path) -> None:
    await test_table.test_every_gateway_lets_pass_what_the_table_allows_and_nothing_else(kind, tmp_path)
