"""What Prometheus's own tool says of the rules, and of what the service exposes."""

from pathlib import Path

import pytest

from tests import promql
from tests.e2e.monitoring.prometheus import promtool
from tests.support import Client

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("file", promql.RULE_FILES)
def test_the_rules_are_good(file: str) -> None:
    found = promtool("check", "rules", "--lint=all", "--lint-fatal", promql.PROMETHEUS / file)
    assert found.returncode == 0, found.stderr.decode()


def test_the_example_is_good() -> None:
    found = promtool("check", "config", "--lint=all", "--lint-fatal", promql.PROMETHEUS / "prometheus.yml")
    assert found.returncode == 0, found.stderr.decode()


@pytest.mark.parametrize("file", sorted((promql.PROMETHEUS / "tests").glob("*.yml")), ids=lambda file: file.stem)
def test_alerts_fire_and_are_silent_as_they_should(file: Path) -> None:
    found = promtool("test", "rules", file)
    assert found.returncode == 0, found.stdout.decode() + found.stderr.decode()


async def test_what_the_service_exposes_is_as_it_should_be(client: Client) -> None:
    await client.verify("x")
    exposed = (await client.ops("/metrics")).text
    found = promtool("check", "metrics", given=exposed.encode())
    assert (found.returncode, found.stdout.decode() + found.stderr.decode()) == (0, "")
