"""VITW in trainers: Eq. 2 over the whole optimiser step, whatever its micro-batches and ranks.

    VITWTrainer, VITWTrainerMixin   Hugging Face's Trainer, and what makes one of TRL's or your own
    llava.install(trainer, ...)     LLaVA's own trainer
    StepLoader                      any loop: a DataLoader whose batches know their step's D
    LinearHead                      any loop: the linear form inside a model's own forward
    TaskCollator                    task ids from the `task` column of a dataset

Data goes one way: dataset -> TaskCollator (task ids) -> StepCounter (one sum over ranks, a step
ahead) -> loss. docs/trainers.md has the exact change for each trainer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ..torch._require import require_torch

require_torch()

from .collator import TaskCollator  # noqa: E402
from .head import LinearHead  # noqa: E402
from .loader import StepLoader  # noqa: E402
from .step import Step, StepCounter  # noqa: E402
from .tasks import TaskTable  # noqa: E402

if TYPE_CHECKING:
    from .huggingface import VITWTrainer as VITWTrainer
    from .huggingface import VITWTrainerMixin as VITWTrainerMixin

# Without the names that need transformers, so that `import *` works without it too.
__all__ = ["LinearHead", "Step", "StepCounter", "StepLoader", "TaskCollator", "TaskTable"]

_FROM_HUGGINGFACE = frozenset({"VITWTrainer", "VITWTrainerMixin"})


def __getattr__(name: str) -> object:
    """Imports transformers only for the names that need it."""
    if name not in _FROM_HUGGINGFACE:
        raise AttributeError(f"module 'visatb.trainers' has no attribute {name!r}")
    return getattr(importlib.import_module(".huggingface", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM_HUGGINGFACE})
