"""What would train another loss than was asked for, said before it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch.distributed as dist
from torch.utils.data import WeightedRandomSampler

from .._errors import ArgumentError, UnsupportedError
from .tasks import TaskTable


def refuse_settings(trainer: Any, base: Any) -> None:
    """Raises for what any of Hugging Face's trainers may be told, and VITW cannot be with.

    Args:
        trainer: with `args` and `accelerator`.
        base: its model, without wrappers and adapters.

    Errors: ArgumentError, UnsupportedError.
    """
    args = trainer.args
    refuse_data_parallel(args)
    refuse_processes_apart(trainer.accelerator)
    if getattr(args, "use_liger_kernel", False):
        raise ArgumentError(
            "use_liger_kernel=True; expected False, for Liger's loss would take the place of VITW, "
            "or VITW that of Liger's"
        )
    refuse_liger(base)
    refuse_each(_other_losses(base))
    _refuse_virtual_tokens(trainer.model)
    parallelism = getattr(trainer.accelerator, "parallelism_config", None)
    for kind in ("tp", "cp", "sp"):
        if getattr(parallelism, f"{kind}_enabled", False):
            raise UnsupportedError(
                f"{kind}_size > 1: this trainer's ranks share batches, which are counted as if "
                "each were another; expected data parallelism alone (or a loop of your own, with "
                "StepLoader and the group of data-parallel ranks)"
            )


def refuse_processes_apart(accelerator: Any) -> None:
    """Raises UnsupportedError for processes that know of one another, and do not train one model.

    accelerate leaves processes on CPUs apart unless it is told that they are to stay there.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    processes = dist.get_world_size()
    if processes > 1 and getattr(accelerator.distributed_type, "value", None) == "NO":
        raise UnsupportedError(
            f"{processes} processes that accelerate leaves apart (distributed_type is NO), so that "
            "each would train a model of its own; expected one model: on CPUs by use_cpu=True"
        )


def refuse_each(other_losses: Iterable[tuple[bool, str]]) -> None:
    """Raises ArgumentError for the first of (whether it is wanted, what it is)."""
    for wanted, what in other_losses:
        if wanted:
            raise another_loss(what)


def another_loss(what: str) -> ArgumentError:
    """The error for a loss beside VITW."""
    return ArgumentError(f"{what}; expected none, for VITW is the loss here")


def refuse_unknown_tasks(dataset: Any, tasks: TaskTable, column: str, remedy: str) -> None:
    """Raises ArgumentError for what can be known of a dataset's tasks before it is read through."""
    columns = getattr(dataset, "column_names", None)
    if columns is None:
        if isinstance(dataset, list):
            for number, item in enumerate(dataset):
                if isinstance(item, dict) and column in item:
                    tasks.id_of(item[column], f"item {number} of a dataset")
        return
    if column not in columns:
        raise ArgumentError(
            f"a dataset has no column {column!r} (it has: {', '.join(columns)}); expected one that "
            f"names each item's task, or has its id: {remedy}"
        )
    numbered = getattr((getattr(dataset, "features", None) or {}).get(column), "names", None)
    if numbered is not None and tasks.names is not None and list(numbered) != tasks.names:
        raise ArgumentError(
            f"column {column!r} of a dataset is a ClassLabel, whose numbers are those of "
            f"{', '.join(numbered)}; expected the order of the task weights, "
            f"{', '.join(tasks.names)}: tasks={list(numbered)!r} takes the dataset's"
        )
    if hasattr(dataset, "unique"):
        # Of that column alone: datasets would write a dataset with chosen rows anew, and whole.
        found = dataset.select_columns([column]).unique(column)
        tasks.check(found, f"column {column!r} of a dataset")


def refuse_data_parallel(args: Any) -> None:
    """Raises UnsupportedError for several GPUs in one process of Hugging Face's Trainer."""
    if args.n_gpu > 1:
        raise UnsupportedError(
            f"{args.n_gpu} GPUs in one process, by DataParallel, which splits a batch where nobody "
            "can count it; expected a process for each (torchrun, accelerate launch), or "
            "CUDA_VISIBLE_DEVICES=0"
        )


def refuse_liger(model: Any) -> None:
    """Raises ArgumentError for a model whose forward is Liger's, which computes its own loss."""
    forwards = (getattr(model, "forward", None), getattr(type(model), "forward", None))
    if any("liger_kernel" in str(getattr(each, "__module__", "")) for each in forwards):
        raise ArgumentError(
            f"{type(model).__name__}.forward is Liger's; expected the model's own, for both would "
            "compute the loss: use_liger_kernel=False, and no apply_liger_kernel_to_..."
        )


def refuse_weighted_sampling(loader: Any) -> None:
    """Raises ArgumentError for a loader that draws by weight, where that can be seen."""
    for sampler in _samplers_of(loader):
        if isinstance(sampler, WeightedRandomSampler):
            raise _weighted("a WeightedRandomSampler")
    for examples in _examples_of(getattr(loader, "dataset", None)):
        if getattr(examples, "probabilities", None) is not None:
            raise _weighted("datasets.interleave_datasets(probabilities=...)")


def refuse_sharded_head(weight: Any) -> None:
    """Raises UnsupportedError for a head that is not whole on this rank while the loss needs it."""
    owner = None
    if hasattr(weight, "ds_id"):
        owner = "DeepSpeed's ZeRO-3"
    elif type(weight).__name__ == "DTensor" or hasattr(weight, "placements"):
        owner = "FSDP or tensor parallelism"
    elif getattr(weight, "_is_flat_param", False) or weight.dim() != 2:
        owner = "FSDP"
    if owner is not None:
        raise _in_pieces(owner)


def refuse_zero3(accelerator: Any) -> None:
    """Raises UnsupportedError where DeepSpeed will keep the head in pieces once it trains."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    if plugin is not None and int(plugin.zero_stage) == 3:
        raise _in_pieces("DeepSpeed's ZeRO-3")


def _in_pieces(owner: str) -> UnsupportedError:
    return UnsupportedError(
        f"linear=True with a head that {owner} keeps in pieces; expected linear=False, whose loss "
        "takes the logits and leaves the head to the model"
    )


def _weighted(what: str) -> ArgumentError:
    return ArgumentError(
        f"the training data is drawn by {what}; expected each sample as often as any other, for to "
        "sample by weights and to weigh the loss by them squares them. If those are not the task "
        "weights: allow_weighted_sampling=True"
    )


def _refuse_virtual_tokens(model: Any) -> None:
    """Raises for an adapter of peft that puts tokens before those that have labels."""
    for adapter in getattr(model, "peft_config", {}).values():
        if getattr(adapter, "is_prompt_learning", False):
            raise UnsupportedError(
                f"{type(adapter).__name__}, which puts tokens of its own before each sequence, so "
                "that logits and labels are not of the same length; expected an adapter that adds "
                "none, such as LoRA"
            )


def _other_losses(base: Any) -> Iterator[tuple[bool, str]]:
    config: Any = getattr(base, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    routed = getattr(text, "output_router_logits", False)
    yield bool(routed), "output_router_logits, a loss of the experts' routing beside"
    encoder = getattr(config, "is_encoder_decoder", False)
    yield bool(encoder), "an encoder-decoder model, whose labels are not shifted"


def _samplers_of(loader: Any) -> Iterator[Any]:
    """The samplers inside of one another: accelerate wraps them."""
    for _ in range(8):
        # Not by their truth: the sampler of an IterableDataset has no length.
        following = getattr(loader, "batch_sampler", None)
        if following is None:
            following = getattr(loader, "sampler", None)
        if following is None:
            return
        yield following
        loader = following


def _examples_of(dataset: Any) -> Iterator[Any]:
    """What an IterableDataset of Hugging Face's draws from, inside of one another."""
    dataset = getattr(dataset, "dataset", dataset)
    examples = getattr(dataset, "_ex_iterable", None)
    for _ in range(64):
        if examples is None:
            return
        yield examples
        examples = getattr(examples, "ex_iterable", None)
