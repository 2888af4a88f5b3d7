"""What each page says that a client sees, in the real gateway with the real verifier behind it."""

from collections.abc import Iterator

import pytest

from tests import gateway_pages as page
from tests.e2e.gateways.gateways import Gateway
from tests.e2e.gateways.peers import request, token_of
from tests.e2e.gateways.scene import Scene, scene

pytestmark = pytest.mark.e2e


def requests() -> dict[str, bytes]:
    """By the case of the page. What it says of a verifier that is gone or slow is in test_outages.py."""
    return {
        page.NO_TOKEN: request(),
        page.BAD_TOKEN: request(token="not one"),
        page.NO_SCOPE: request("/admin", token="reader"),
        page.DENIED: request("/internal", token="reader"),
        page.AMBIGUOUS: request("/pets", "Authorization: Bearer a,b"),
        page.TWICE: request("/pets", f"Authorization: Bearer {token_of('reader')}", token="reader"),
        page.HTTP_1_0: request(token="reader", version="1.0"),
        page.HOSTLESS: request(token="reader", version="1.0", host=""),
        page.UNDECIDED: request(token="partner"),
    }


@pytest.fixture(scope="module")
def made(kind: type[Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(kind, tmp_path_factory.mktemp(kind.name)) as running:
        yield running


@pytest.mark.parametrize("case", requests())
def test_a_client_sees_what_the_page_says(made: Scene, case: str) -> None:
    expected = page.statuses(made.gateway.name)[case]
    seen = made.send(requests()[case])
    assert (seen.answer.status, len(seen.got)) == (expected, 1 if expected == 200 else 0)
