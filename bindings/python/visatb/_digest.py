"""The SHA-256 of a file; imports nothing heavy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path


def sha256_of(path: Path, heed: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 of a file of any size.

    Args:
        path: the file.
        heed: called again and again while it is read.

    Errors: OSError, and what `heed` raises.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            heed()
    return digest.hexdigest()
