"""ms-swift, by its own extension points: `--loss_type vitw`.

    echo "import visatb.trainers.swift" > vitw.py
    VISATB_WEIGHTS=weights.json swift sft ... --external_plugins vitw.py --loss_type vitw

The task of a row is its `channel`, which ms-swift's datasets have for another purpose. A loss of
ms-swift is given the outputs and labels of a micro-batch, neither its channels nor the rest of its
step; but it is given the trainer, when that is made. So this one puts what it lacks before the
trainer's own class: the count of the step's tokens, and what takes the channels along to the loss.
"""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor

from .._errors import ArgumentError, UnsupportedError
from .channels import StepsOfChannels, refuse_swift_settings
from .tasks import TaskTable

try:
    from swift.loss import BaseLoss, loss_map
    from swift.template import Template
    from swift.trainers import Seq2SeqTrainer
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.split(".")[0] != "swift":
        raise
    raise ImportError(
        "visatb.trainers.swift needs ms-swift 4.6 or newer: pip install 'ms-swift>=4.6'"
    ) from missing

WEIGHTS = "VISATB_WEIGHTS"
METHOD = "VISATB_METHOD"


class SwiftLoss(BaseLoss):  # type: ignore[misc]
    """The loss of `--loss_type vitw`, for `swift sft` and `swift pt`.

    The weights are those of the file that the environment variable VISATB_WEIGHTS names, or
    `--model_kwargs '{"visatb_weights": "weights.json"}'`, which ms-swift keeps with its arguments.
    VISATB_METHOD, or "visatb_method" there, names a method that changes them from step to step.
    Label smoothing is ms-swift's `--label_smoothing_factor`.

    Errors: ArgumentError and UnsupportedError for what would train another loss; for the file also
    FileError, DataError.
    """

    def __init__(self, args: Any, trainer: Any) -> None:
        _refuse_what_cannot_be(args, trainer)
        super().__init__(args, trainer)
        bases = (StepsOfChannels, type(trainer))
        trainer.__class__ = type(f"VITW{type(trainer).__name__}", bases, {})
        trainer._train_with(
            TaskTable(_weights_file()),
            trainer._given,
            method=os.environ.get(METHOD) or None,
            seed=args.seed,
            label_smoothing=float(args.label_smoothing_factor),
        )

    def __call__(
        self, outputs: Any, labels: Tensor, *, loss_scale: Tensor | None = None, **_: Any
    ) -> Tensor:
        """L of Eq. 2, this micro-batch's share of it; in evaluation that of the batch alone."""
        if loss_scale is not None:
            raise ArgumentError(
                "a batch with a loss_scale for each token; expected one of 0 and 1 only, which is "
                "in the labels (--loss_scale default, --is_binary_loss_scale true), for VITW "
                "weighs the tokens here"
            )
        if getattr(outputs, "logits", None) is None:
            raise UnsupportedError("a model that gives no logits; expected some, to weigh them")
        loss: Tensor = self.trainer.loss_of_micro_batch(outputs.logits, labels)
        return loss


def _weights_file() -> str:
    path = os.environ.get(WEIGHTS)
    if path:
        return path
    raise ArgumentError(
        f"--loss_type vitw without {WEIGHTS} in the environment; expected the path of a "
        f"weights.json: {WEIGHTS}=weights.json swift sft ..., or --model_kwargs "
        '\'{"visatb_weights": "weights.json"}\''
    )


def _refuse_what_cannot_be(args: Any, trainer: Any) -> None:
    if not isinstance(trainer, Seq2SeqTrainer):
        raise UnsupportedError(
            f"--loss_type vitw with ms-swift's {type(trainer).__name__}; expected its "
            "Seq2SeqTrainer, that is swift sft or swift pt with --task_type causal_lm, and not "
            "Megatron"
        )
    template = trainer.template
    refuse_swift_settings(args, template)
    if type(template).compute_sft_loss is not Template.compute_sft_loss:
        raise UnsupportedError(
            f"the template {type(template).__name__}, which computes a loss of its own; expected a "
            "model that is trained by the cross-entropy of its logits"
        )


loss_map["vitw"] = SwiftLoss
