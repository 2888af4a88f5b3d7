from pathlib import Path

import pytest

from verifier.core.reasons import FAMILY, Reason
from verifier.core.verdict import Denied

DOCS = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text("utf-8")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_family_and_a_line_in_the_docs(reason: Reason) -> None:
    assert FAMILY[reason]
    assert f"| `{reason}` |" in DOCS


def test_the_docs_name_no_reason_that_does_not_exist() -> None:
    named = {line.split("`")[1] for line in DOCS.splitlines() if line.startswith("| `")}
    assert named == {str(reason) for reason in Reason}


def test_only_outages_are_undecided() -> None:
    undecided = {reason for reason in Reason if Denied(reason, "").undecided}
    assert undecided == {
        Reason.KEYS_UNAVAILABLE,
        Reason.INTROSPECTION_UNAVAILABLE,
        Reason.REVOCATIONS_UNAVAILABLE,
        Reason.OVERLOADED,
        Reason.DEADLINE_EXCEEDED,
    }
