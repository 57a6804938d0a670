"""VisATB: task weights from validation scores, and the loss that uses them.

Scores to weights (NumPy only): `compute_weights`, `load_weights`, `evaluate`, and the mathematics
on arrays in `visatb.balance`. Weights that change from step to step: `Method`. The loss (needs
PyTorch, imported when first used): `vitw_loss`, `VITWLoss`, `vitw_linear_loss`, `VITWLinearLoss`,
`vitw_vocab_parallel_loss`, `vitw_denominator`, `vitw_loss_plan`.
`python -m visatb` says what is installed and what is missing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._errors import (
    ArgumentError,
    DataError,
    Error,
    FileError,
    LibraryError,
    UnsupportedError,
)
from ._version import __version__
from .balance import (
    Balance,
    balance_weights,
    contribution,
    contribution_means,
    difficulty,
    improvement,
    improvement_summary,
    softmax_weights,
)
from .methods import METHODS, Method
from .scores import ScoreWarning, Weights, compute_weights, evaluate, load_weights
from .template import score_template

if TYPE_CHECKING:
    from .torch import LossPlan as LossPlan
    from .torch import Stats as Stats
    from .torch import VITWLinearLoss as VITWLinearLoss
    from .torch import VITWLoss as VITWLoss
    from .torch import visatb_vitw_loss as visatb_vitw_loss
    from .torch import vitw_denominator as vitw_denominator
    from .torch import vitw_linear_loss as vitw_linear_loss
    from .torch import vitw_loss as vitw_loss
    from .torch import vitw_loss_plan as vitw_loss_plan
    from .torch import vitw_vocab_parallel_loss as vitw_vocab_parallel_loss

# Without the names that need PyTorch, so that `import *` works without it too.
__all__ = [
    "METHODS",
    "ArgumentError",
    "Balance",
    "DataError",
    "Error",
    "FileError",
    "LibraryError",
    "Method",
    "ScoreWarning",
    "UnsupportedError",
    "Weights",
    "__version__",
    "balance_weights",
    "compute_weights",
    "contribution",
    "contribution_means",
    "difficulty",
    "evaluate",
    "improvement",
    "improvement_summary",
    "load_weights",
    "score_template",
    "softmax_weights",
]

_FROM_TORCH = frozenset(
    {
        "LossPlan",
        "Stats",
        "VITWLinearLoss",
        "VITWLoss",
        "visatb_vitw_loss",
        "vitw_denominator",
        "vitw_linear_loss",
        "vitw_loss",
        "vitw_loss_plan",
        "vitw_vocab_parallel_loss",
    }
)


def __getattr__(name: str) -> object:
    """Imports PyTorch only for the names that need it."""
    if name not in _FROM_TORCH:
        raise AttributeError(f"module 'visatb' has no attribute {name!r}")
    return getattr(importlib.import_module(".torch", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM_TORCH})
