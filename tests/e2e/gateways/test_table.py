"""The one table of requests, through every gateway, with the real verifier behind it."""

from collections.abc import Iterator

import pytest

from tests.e2e.gateways.gateways import Gateway
from tests.e2e.gateways.peers import request
from tests.e2e.gateways.scene import Scene, scene
from tests.gateway_table import TABLE, Row

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def made(kind: type[Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(kind, tmp_path_factory.mktemp(kind.name)) as running:
        yield running


def request_of(row: Row) -> bytes:
    headers = (f"{name}: {value}" for name, value in row.headers)
    return request(row.target, *headers, token=row.token, method=row.method, version=row.version, host=row.host)


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_every_gateway_answers_as_the_table_says(made: Scene, row: Row) -> None:
    seen = made.send(request_of(row))
    assert seen.answer.status == made.gateway.status(row)
    if seen.answer.status != 200 or made.gateway.answers_itself(row):
        assert not seen.got
    else:
        assert made.let_pass_rightly(seen)
