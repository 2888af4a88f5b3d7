"""``python -m tests.e2e.gateways.findings`` writes docs/gateways/findings.md; a test compares it with what it sees."""

import tempfile
from pathlib import Path

from tests.e2e.gateways.kinds import GATEWAYS
from tests.e2e.gateways.scene import EVERY_FORM, scene

PAGE = Path(__file__).parents[3] / "docs" / "gateways" / "findings.md"
HEAD = """# What gateways make of a target

Each gateway runs with its files of `deploy/gateways/` between a client that sends bytes as they are and `Host:
api.example`, a verifier that permits every form of path (`path_forms`), and an application that remembers what it got.
*of* is followed by the host. Where both columns are empty, the gateway answered by itself and asked nobody. `\\xe9` is
one byte.

Written by `python -m tests.e2e.gateways.findings`; `make e2e` fails when it sees something else.
"""


def main() -> None:
    parts = [HEAD]
    for kind in GATEWAYS:
        with tempfile.TemporaryDirectory() as folder, scene(kind, Path(folder), path_forms=EVERY_FORM) as made:
            parts.append(f"## {kind.name}\n\n" + "\n".join(made.findings()) + "\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
