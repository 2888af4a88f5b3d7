"""Each gateway in its turn, and in one place where tests run side by side: a module starts each of them once."""

import pytest

from tests.e2e.gateways.gateways import Gateway
from tests.e2e.gateways.kinds import GATEWAYS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = (
            item.callspec.params.get("kind")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        if isinstance(kind, type):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{kind.__name__}"))


@pytest.fixture(scope="module", params=GATEWAYS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[Gateway]:
    found: type[Gateway] = request.param
    found.require()
    return found
