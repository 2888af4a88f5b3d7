"""Packs the authorizer for Lambda: ``dist/authorizer.zip``, the same bytes on every machine (``make lambda-zip``)."""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


def pack(target: Path) -> bytes:
    """Write the package to ``target``; returns its SHA-256."""
    entry = zipfile.ZipInfo("authorizer.py", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, whatever this is
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED  # compressors differ
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as package:
        package.writestr(entry, (HERE / "authorizer.py").read_bytes())
    return hashlib.sha256(target.read_bytes()).digest()


if __name__ == "__main__":
    made = Path(sys.argv[1])
    digest = pack(made)
    print(f"{made}\nsha256 {digest.hex()}\nsource_code_hash {base64.b64encode(digest).decode()}")
