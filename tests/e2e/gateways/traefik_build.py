"""``make traefik``: Traefik out of its Go module, for machines that have Go and no Traefik. Takes minutes, once."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILT = Path(__file__).parents[3] / ".tools" / "traefik"
MODULE = "github.com/traefik/traefik/v3"
VERSION = "v3.6.12"
OLDEST_GO = (1, 24)


def go(oldest: tuple[int, int] = OLDEST_GO) -> str | None:
    """A Go that is not older."""
    found = shutil.which("go")
    if found is None:
        return None
    said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", said)
    return found if version and (int(version[1]), int(version[2])) >= oldest else None


def build(program: str) -> None:
    BUILT.parent.mkdir(exist_ok=True)
    download = [program, "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    told = json.loads(subprocess.run(download, capture_output=True, text=True, check=False).stdout)
    if "Error" in told:
        sys.exit(f"Traefik's module cannot be had: {told['Error']}")
    with tempfile.TemporaryDirectory() as folder:
        # Go builds no main module out of its cache, which is read-only too.
        source = Path(folder, "source")
        shutil.copytree(told["Dir"], source, copy_function=shutil.copyfile)
        for made in (source, *(path for path in source.rglob("*") if path.is_dir())):
            made.chmod(0o700)
        output = Path(folder, "built")
        command = [program, "build", "-C", str(source), "-trimpath", "-ldflags", "-s -w", "-o", str(output)]
        subprocess.run([*command, "./cmd/traefik"], check=True, env={**os.environ, "CGO_ENABLED": "0"})
        partial = BUILT.with_suffix(".new")
        shutil.copy(output, partial)
        partial.replace(BUILT)


def main() -> None:
    from tests.e2e.gateways.gateways import Traefik  # noqa: PLC0415 - which knows this module

    program = go()
    if found := Traefik.found():
        print(f"Traefik is there: {found}")  # noqa: T201
    elif program is None:
        print(f"Traefik is not there, nor Go {'.'.join(map(str, OLDEST_GO))} to build it: its tests skip")  # noqa: T201
    else:
        print(f"building Traefik {VERSION}…", flush=True)  # noqa: T201
        build(program)


if __name__ == "__main__":
    main()
