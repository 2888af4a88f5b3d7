"""What the pages of ``docs/gateways/`` say a client sees, read from their tables."""

import re
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs" / "gateways"
INDEX = PAGES / "README.md"

NO_TOKEN = "No token"
BAD_TOKEN = "A token that is not accepted"
NO_SCOPE = "A scope is lacking"
DENIED = "A path that is for nobody, or read in more than one way"
AMBIGUOUS = "An ambiguous request (`Bearer a,b`)"
TWICE = "Two `Authorization` headers"
HTTP_1_0 = "HTTP/1.0 with `Host`"
HOSTLESS = "HTTP/1.0 without `Host`"
UNDECIDED = "The verifier cannot decide"
DEAD = "The verifier is gone"
SLOW = "The verifier is stopped, or slower than a second"
CASES = (NO_TOKEN, BAD_TOKEN, NO_SCOPE, DENIED, AMBIGUOUS, TWICE, HTTP_1_0, HOSTLESS, UNDECIDED, DEAD, SLOW)


def statuses(name: str) -> dict[str, int]:
    """Case → status, in the page of the gateway ``name``."""
    section = (PAGES / f"{name}.md").read_text("utf-8").partition("## What the client sees\n")[2].partition("\n## ")[0]
    return {case: int(status) for case, status in re.findall(r"^\| (.+?) \| (\d{3}) \|", section, re.MULTILINE)}


def row(name: str) -> list[str]:
    """The cells of the gateway's row in the index, without the first."""
    [found] = re.findall(rf"^\| \[.+?\]\({name}\.md\) \| (.+) \|$", INDEX.read_text("utf-8"), re.MULTILINE)
    return str(found).split(" | ")
