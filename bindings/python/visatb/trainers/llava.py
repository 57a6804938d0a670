"""LLaVA's own trainer: the `llava-torch` package, and trainers of its layout.

    import visatb.trainers.llava
    visatb.trainers.llava.install(trainer, "weights.json")

after the trainer is made. LLaVA expands its labels inside of the model's forward, so that is where
the loss is computed; nothing of LLaVA is copied or replaced but by what this trainer object holds.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .._errors import ArgumentError, UnsupportedError
from ..methods import Method
from ..torch.module import VITWLinearLoss, VITWLoss
from ..torch.stats import Stats
from . import checkpoint
from .agreement import Agreement
from .collator import TaskCollator
from .head import handing_on, plain_head
from .hooks import base_model
from .llava_data import NO_TASK_IDS, TOKENS, CountingCollator, with_tasks
from .llava_evaluation import Evaluation
from .llava_replay import PREPARE, LabelReplay
from .loader import StepLoader
from .log import TaskLog
from .refusals import (
    refuse_data_parallel,
    refuse_liger,
    refuse_processes_apart,
    refuse_sharded_head,
)
from .step import Scope, Step, StepCounter
from .step_weights import make_method
from .tasks import NamedWeights, TaskTable


def install(
    trainer: Any,
    task_weights: NamedWeights,
    *,
    tasks: Sequence[str] | None = None,
    task_field: str = "task",
    scope: Scope = "step",
    method: str | Method | None = None,
    linear: bool = False,
    inplace: bool = False,
    z_loss: float = 0.0,
    allow_weighted_sampling: bool = False,
) -> None:
    """Makes a LLaVATrainer train with VITW.

    Args:
        trainer: of LLaVA 1.2, with its model, its dataset (`list_data_dict`) and its collator.
        task_weights, tasks: as in `TaskTable`; a weights.json, or {name: weight}.
        task_field: of each sample in the data file: its task, by name or id.
        scope: "step", Eq. 2; "local" to compare with a mean of each micro-batch.
        method: changes the weights from step to step, as in `VITWTrainerMixin`.
        linear: compute the loss from hidden states and head, never holding all logits.
        inplace: write the gradient over the logits in training, which saves their size in memory.
        z_loss: as in `vitw_loss`. Label smoothing is the trainer's `label_smoothing_factor`.
        allow_weighted_sampling: the data is drawn by weights that are not the task weights.

    The logged loss is that of Eq. 2; "loss/<task>" and "token_share/<task>" stand beside it. The
    step's tokens are counted before its first forward; a micro-batch whose forward then finds
    others raises `visatb.Error`.

    An evaluation has "eval_loss", Eq. 2 over all of its samples whatever its batches and processes,
    "eval_loss/<task>" and "eval_token_share/<task>". Its samples need their task as those of the
    training do.

    Errors: ArgumentError, UnsupportedError for what would train another loss, also for samples
    without a task or with one that has no weight: all of them are looked at here.
    """
    table = TaskTable(task_weights, tasks)
    model = base_model(trainer)
    _refuse_what_cannot_be(trainer, model)
    trained_on = with_tasks(trainer.train_dataset, table, task_field, "the data")
    if trained_on is trainer.train_dataset:
        raise ArgumentError(
            f"the trainer's train_dataset is a {type(trained_on).__name__}; expected LLaVA's, "
            "which has its samples in list_data_dict"
        )
    evaluation = Evaluation(trainer, table, task_field)
    if method is not None:
        method = make_method(method, len(table), trainer.args.seed)
    loss = _Loss(
        model,
        table,
        linear=linear,
        inplace=inplace,
        z_loss=z_loss,
        trainer=trainer,
        evaluation=evaluation,
    )
    counter = loss.counter = StepCounter(
        loss.criterion,
        scope=scope,
        method=method,
        divided_later_by=trainer.args.gradient_accumulation_steps,
    )
    loss.patch(trainer.model)
    trainer.train_dataset = trained_on
    trainer.data_collator = TaskCollator(trainer.data_collator, table, task_field)
    _wrap_loader(
        trainer, counter, LabelReplay(model), allow_weighted_sampling=allow_weighted_sampling
    )
    _wrap_skipping(trainer)
    evaluation.wrap(trainer)
    if counter.step_weights is not None:
        checkpoint.wrap(trainer, counter.step_weights, table)
    _wrap_log(trainer, loss.log)


class _Loss:
    """The loss inside of the model's forward.

    Attributes:
        counter: of the steps whose losses these are; to be set before the first.
    """

    counter: StepCounter

    def __init__(
        self,
        model: Any,
        tasks: TaskTable,
        *,
        linear: bool,
        inplace: bool,
        z_loss: float,
        trainer: Any,
        evaluation: Evaluation,
    ) -> None:
        self._model = model
        self._evaluation = evaluation
        self._head: nn.Linear | None = plain_head(model) if linear else None
        # The Trainer would take the labels away from the model for it.
        smoothing = float(trainer.args.label_smoothing_factor)
        trainer.label_smoother = None
        self._inplace = inplace
        self.criterion = VITWLoss(
            tasks.weights,
            shift=True,
            label_smoothing=smoothing,
            z_loss=z_loss,
            inplace=inplace,
            return_stats=True,
        )
        self._linear = VITWLinearLoss(
            tasks.weights, shift=True, label_smoothing=smoothing, z_loss=z_loss, return_stats=True
        )
        self._agreement = Agreement("the replay of LLaVA's image expansion")
        self.log = TaskLog(tasks)

    def patch(self, outermost: nn.Module) -> None:
        """Puts itself around the model's forward, wherever `outermost` calls it from."""
        stock = self._model.forward

        def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
            del model
            return self._forward(stock, *args, **kwargs)

        forward.visatb = self  # type: ignore[attr-defined]
        patched = types.MethodType(forward, self._model)
        self._model.forward = patched
        # An adapter may have taken the forward to be its own (peft 0.4).
        for module in outermost.modules():
            if module.__dict__.get("forward") == stock:
                module.__dict__["forward"] = patched

    def _forward(
        self,
        stock: Any,
        *args: Any,
        task_ids: Tensor | None = None,
        visatb_step: Step | None = None,
        **kwargs: Any,
    ) -> Any:
        if kwargs.get("labels") is None or kwargs.get("dpo_forward"):
            return stock(*args, **kwargs)
        if task_ids is None:
            raise ArgumentError(NO_TASK_IDS)
        kwargs["return_dict"] = True
        outputs, labels, hidden = self._run(stock, args, kwargs)
        is_overwritten = hidden is not None or (self._inplace and outputs.logits.requires_grad)
        loss, stats = self._loss_of(outputs.logits, hidden, labels, task_ids, visatb_step)
        if visatb_step is not None:
            self._agreement.check(visatb_step.own_tokens, stats.task_tokens)
            self.counter.add(stats, visatb_step)
        log = self._evaluation.log if visatb_step is None else self.log
        log.add(stats, visatb_step)
        outputs["loss"] = loss
        if is_overwritten:
            outputs["logits"] = None  # They are none any more.
        return outputs

    def _run(self, stock: Any, args: Any, kwargs: Any) -> tuple[Any, Tensor, Tensor | None]:
        """(outputs, expanded labels, hidden states in the linear form) of the stock forward.

        It gets no labels, and so computes no loss.
        """
        head = None if self._evaluation.needs_logits else self._head
        expanded: list[Tensor] = []
        prepare = getattr(self._model, PREPARE)

        def without_labels(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            *prepared, labels = prepare(*args, **kwargs)
            expanded.append(labels)
            return (*prepared, None)

        self._model.__dict__[PREPARE] = without_labels
        try:
            if head is None:
                outputs, hidden = stock(*args, **kwargs), None
            else:
                with handing_on(head) as handed:
                    outputs = stock(*args, **kwargs)
                hidden = handed.hidden
        finally:
            del self._model.__dict__[PREPARE]
        if len(expanded) != 1 or (head is not None and hidden is None):
            raise UnsupportedError(
                f"the forward of {type(self._model).__name__} did not go through {PREPARE} and its "
                "head once each; expected LLaVA's own (no inputs_embeds, pretraining_tp = 1)"
            )
        return outputs, expanded[0], hidden

    def _loss_of(
        self,
        logits: Tensor,
        hidden: Tensor | None,
        labels: Tensor,
        task_ids: Tensor,
        step: Step | None,
    ) -> tuple[Tensor, Stats]:
        loss: Tensor
        stats: Stats
        denominator = None if step is None else step.denominator
        weights = None if step is None else step.task_weights
        if self._head is None or hidden is None:
            labels = labels.to(logits.device)
            loss, stats = self.criterion(
                logits, labels, task_ids, denominator=denominator, task_weights=weights
            )
            return loss, stats
        refuse_sharded_head(self._head.weight)
        loss, stats = self._linear(
            hidden,
            self._head.weight,
            labels.to(hidden.device),
            task_ids,
            bias=self._head.bias,
            denominator=denominator,
            task_weights=weights,
            max_valid_rows=None if step is None else step.max_valid_rows,
        )
        return loss, stats


def _refuse_what_cannot_be(trainer: Any, model: Any) -> None:
    if not hasattr(model, PREPARE):
        raise ArgumentError(
            f"the trainer's model is a {type(model).__name__}; expected one of LLaVA's, which has "
            f"{PREPARE}. For others there is visatb.trainers.VITWTrainer"
        )
    if hasattr(getattr(model.forward, "__func__", None), "visatb"):
        raise ArgumentError("install was called before for this model; expected it once")
    if hasattr(trainer, "get_batch_samples"):
        raise UnsupportedError(
            "the trainer is that of transformers 4.46 or newer, which divides the loss in another "
            "way; expected the version that LLaVA names, older than that"
        )
    refuse_data_parallel(trainer.args)
    refuse_processes_apart(trainer.accelerator)
    refuse_liger(model)


def _wrap_loader(
    trainer: Any, counter: StepCounter, replay: LabelReplay, *, allow_weighted_sampling: bool
) -> None:
    stock = trainer.get_train_dataloader
    args = trainer.args

    def get_train_dataloader() -> StepLoader:
        plain = trainer.data_collator
        trainer.data_collator = CountingCollator(plain, replay, len(counter.criterion.task_weights))
        try:
            loader = stock()
        finally:
            trainer.data_collator = plain
        window = args.gradient_accumulation_steps
        if len(loader) % window and _epochs(args, len(loader)) > 1:
            raise UnsupportedError(
                f"{len(loader)} micro-batches an epoch, {window} a step, and several epochs: this "
                "trainer lets a step reach into the next epoch, which nobody can look ahead to; "
                "expected micro-batches that make up whole steps, or one epoch"
            )
        return StepLoader(
            loader,
            counter,
            accumulation_steps=window,
            count=lambda batch: batch.pop(TOKENS),
            allow_weighted_sampling=allow_weighted_sampling,
        )

    trainer.get_train_dataloader = get_train_dataloader


def _epochs(args: Any, micro_batches: int) -> float:
    """How many the trainer will go through, by its own count."""
    epochs: float = args.num_train_epochs
    if args.max_steps > 0:
        epochs = args.max_steps / max(micro_batches // args.gradient_accumulation_steps, 1)
    return epochs


def _wrap_skipping(trainer: Any) -> None:
    """A resumed training skips batches by a loader of its own, which must look ahead too."""
    loop = trainer._inner_training_loop
    names = loop.__func__.__globals__
    skip = names["skip_first_batches"]

    def skip_within(loader: Any, batches: int = 0) -> Any:
        if isinstance(loader, StepLoader):
            return loader.over(skip(loader.loader, batches))
        return skip(loader, batches)

    def loop_that_skips_within(*args: Any, **kwargs: Any) -> Any:
        names["skip_first_batches"] = skip_within
        try:
            return loop(*args, **kwargs)
        finally:
            names["skip_first_batches"] = skip

    trainer._inner_training_loop = loop_that_skips_within


def _wrap_log(trainer: Any, log: TaskLog) -> None:
    stock = trainer.log

    def with_tasks(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        stock({**logs, **log.take()} if "loss" in logs else logs, *args, **kwargs)

    trainer.log = with_tasks
