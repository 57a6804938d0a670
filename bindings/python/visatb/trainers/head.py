"""The linear form inside any model with a linear head, without a copy of the model's code.

While the model runs, its head hands on the hidden states that it is given, and in the place of the
model's own loss the linear loss takes them, with the head's weight. Both happen inside the model's
forward, as DistributedDataParallel and gradient checkpointing need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .._errors import UnsupportedError
from ..torch.module import VITWLinearLoss
from ..torch.stats import Stats
from .refusals import refuse_sharded_head
from .step import Step


class LinearHead:
    """The head of a model that gives its labels to `self.loss_function`, as transformers' do.

    Args:
        model: not wrapped; it has `get_output_embeddings` and `loss_function`.
        criterion: with return_stats.

    Errors: UnsupportedError for a head that is no plain nn.Linear.
    """

    def __init__(self, model: Any, criterion: VITWLinearLoss) -> None:
        self._model = model
        self._criterion = criterion
        self._head = plain_head(model)
        if not hasattr(model, "loss_function"):
            raise UnsupportedError(
                f"linear=True: {type(model).__name__} has no loss_function, by which its forward "
                "would give its labels away; expected linear=False, or a model of transformers 4.48"
                " or newer"
            )
        self._is_reached = False
        self._stats: Stats | None = None

    def loss_of(
        self, model: Any, inputs: dict[str, Any], task_ids: Tensor, step: Step | None
    ) -> tuple[Tensor, Stats, Any]:
        """(loss, statistics, outputs) of the model, which may be wrapped, for inputs with labels.

        The outputs have hidden states for logits.
        """
        self._is_reached = False
        with handing_on(self._head) as handed:
            try:
                with self._loss_takes_over(handed, task_ids, step):
                    outputs = model(**inputs)
            except Exception as error:
                # A loss of the model's own that finds its labels too large for what is no logits.
                if handed.hidden is not None and not self._is_reached:
                    raise self._not_its_loss() from error
                raise
            finally:
                stats, self._stats = self._stats, None
        if stats is None:
            raise self._not_its_loss()
        # What the wrapper hands out, not what was computed inside of it: its backward goes through.
        return outputs["loss"] if isinstance(outputs, dict) else outputs[0], stats, outputs

    def _not_its_loss(self) -> UnsupportedError:
        return UnsupportedError(
            f"linear=True: the forward of {type(self._model).__name__} does not compute its loss "
            "by self.loss_function; expected linear=False"
        )

    @contextlib.contextmanager
    def _loss_takes_over(
        self, handed: Handed, task_ids: Tensor, step: Step | None
    ) -> Iterator[None]:
        def loss_function(logits: Tensor, labels: Tensor, *_: Any, **__: Any) -> Tensor:
            self._is_reached = True
            # Before what it gives is looked at: ZeRO-3 hands it on as another tensor.
            refuse_sharded_head(self._head.weight)
            if not handed.is_untouched(logits):
                raise UnsupportedError(
                    f"linear=True: {type(self._model).__name__} changes what its head gives (a cap,"
                    " a scale or another type) before it computes its loss; expected linear=False"
                )
            loss: Tensor
            loss, self._stats = self._criterion(
                logits,
                self._head.weight,
                labels.to(logits.device),
                task_ids,
                bias=self._head.bias,
                denominator=None if step is None else step.denominator,
                task_weights=None if step is None else step.task_weights,
                max_valid_rows=None if step is None else step.max_valid_rows,
            )
            return loss

        had = "_loss_function" in self._model.__dict__
        before = self._model.__dict__.get("_loss_function")
        self._model.loss_function = loss_function
        try:
            yield
        finally:
            if had:
                self._model.loss_function = before
            else:
                del self._model._loss_function


class Handed:
    """What a head was given and handed on."""

    def __init__(self) -> None:
        self.hidden: Tensor | None = None
        self._version = 0

    def take(self, hidden: Tensor) -> Tensor:
        """The head's forward."""
        self.hidden, self._version = hidden, hidden._version
        return hidden

    def is_untouched(self, logits: Tensor) -> bool:
        """Whether these "logits" are what was handed on, and nobody wrote to them."""
        return logits is self.hidden and logits._version == self._version


@contextlib.contextmanager
def handing_on(head: nn.Linear) -> Iterator[Handed]:
    """While this lasts, the head hands on what it is given."""
    handed = Handed()
    head.__dict__["forward"] = handed.take
    try:
        yield handed
    finally:
        del head.__dict__["forward"]


def plain_head(model: Any) -> nn.Linear:
    """The model's head, if its weight is all there is to it.

    Errors: UnsupportedError.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or "forward" in head.__dict__ or _is_adapted(head):
        raise UnsupportedError(
            f"linear=True: the head of {type(model).__name__} is a {type(head).__module__}."
            f"{type(head).__name__}; expected a plain nn.Linear, without an adapter (LoRA: leave "
            "lm_head out of target_modules and modules_to_save) and without a hook; or linear=False"
        )
    return head


def _is_adapted(head: nn.Linear) -> bool:
    return any(True for _ in head.children()) or type(head).forward is not nn.Linear.forward
