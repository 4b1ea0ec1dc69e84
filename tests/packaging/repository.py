"""Where the repository is and which files it holds. No judgement on them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "batchproxy"


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks, relative to the root, if it is still there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file())


def written_by_us(path: Path) -> bool:
    """Whether it is Python that a person wrote, and not the protobuf compiler."""
    return path.suffix == ".py" and not path.name.endswith("_pb2.py")


def sources() -> list[Path]:
    """The package's own Python files, relative to the root."""
    return sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if written_by_us(path))
