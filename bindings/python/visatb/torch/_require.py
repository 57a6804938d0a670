"""A clear word where PyTorch is missing or too old."""

from __future__ import annotations

OLDEST = (2, 1)


def require_torch() -> None:
    """Raises ImportError, with the line that mends it, unless PyTorch 2.1 or newer is there."""
    remedy = "the VITW loss for PyTorch needs 2.1 or newer: pip install 'torch>=2.1'"
    try:
        import torch
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        raise ImportError(f"PyTorch is not installed; {remedy}") from missing
    major, minor = torch.__version__.split(".")[:2]
    if (int(major), int(minor)) < OLDEST:
        raise ImportError(f"PyTorch is {torch.__version__}; {remedy}")
