"""Four processes that share a vocabulary, and what each of them finds.

They are started once for all tests: `results_of_ranks` runs every case on every rank, and gives
back what came out by case and rank. A case runs on all four ranks, or on two groups of two that do
the same.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from reference import Batch, make_batch

from visatb import ArgumentError
from visatb.torch import vitw_vocab_parallel_loss

RANKS = 4
VOCAB = 37
Results = dict[str, list[Any]]


class Case(NamedTuple):
    """A loss of `make_batch`, whose vocabulary is shared by as many ranks as there are widths."""

    widths: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to
    change: str = ""  # what is done to the batch, by `changed`
    factor: float = 1.0  # from upstream
    says_widths: bool = False


class Found(NamedTuple):
    """What a rank has of a case."""

    loss: torch.Tensor
    gradient: torch.Tensor
    stats: tuple[torch.Tensor, ...]


def changed(batch: Batch, change: str) -> Batch:
    """The batch with what a case is about."""
    logits, labels, task_ids, task_weights = (each.clone() for each in batch)
    if change == "labels among the first words":
        labels = torch.where(labels < 0, labels, labels % 4)
    elif change == "ignored as 7":
        labels = torch.where(labels < 0, 7, labels % 4)
    elif change == "all ignored":
        labels.fill_(-100)
        logits.fill_(torch.nan)
    elif change == "bad rows":
        logits[0, 1, 30] = torch.nan
        logits[1, 2, 3] = torch.inf
        logits[2, 2, :] = -torch.inf
        logits[..., 30][untrained(labels, task_ids)] = torch.nan
    elif change == "masked":
        logits[:, :, 1:20] = -torch.inf
        logits[:, 4:, 25:] = -torch.inf
    elif change == "surely right":
        logits = torch.zeros_like(logits)
        logits.scatter_(2, labels.clamp(min=0).unsqueeze(2), 14.0)
    elif change:
        raise ValueError(change)
    return Batch(logits, labels, task_ids, task_weights)


def untrained(labels: torch.Tensor, task_ids: torch.Tensor) -> torch.Tensor:
    """Of which rows the task has a weight of 0."""
    return (labels >= 0) & (task_ids == 2)


def batch_of(case: Case) -> Batch:
    """The whole of what its ranks share."""
    return changed(make_batch(case.dtype, vocab=VOCAB), case.change)


def run_case(case: Case, rank: int, group: Any) -> Found:
    """What the rank of the group finds."""
    logits, *terms = batch_of(case)
    leaf = logits.split(list(case.widths), dim=-1)[rank].clone().requires_grad_()
    widths = list(case.widths) if case.says_widths else None
    loss, stats = vitw_vocab_parallel_loss(
        leaf.clone(), *terms, group=group, widths=widths, return_stats=True, **case.options
    )
    (case.factor * loss).backward()
    return Found(loss.detach(), leaf.grad, tuple(stats))


def refusal_of(function: Callable[[], Any]) -> str:
    """The message of the ArgumentError that it raises."""
    try:
        function()
    except ArgumentError as error:
        return str(error)
    return "accepted"


def results_of_ranks(module: str, folder: Path) -> Results:
    """What every case of the module (`CASES`, and functions in `WORK`) comes to, by rank."""
    torch.multiprocessing.spawn(_work, (module, str(folder)), nprocs=RANKS)
    by_rank = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]
    return {name: [found[name] for found in by_rank] for name in by_rank[0]}


def _work(rank: int, module: str, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    lines = [dist.new_group([0, 2]), dist.new_group([1, 3])]
    __import__(module)
    cases, work = sys.modules[module].CASES, sys.modules[module].WORK
    found: dict[str, Any] = {}
    for name, case in cases.items():
        whole = len(case.widths) == RANKS
        found[name] = _run(
            run_case, case, rank if whole else rank % 2, None if whole else pairs[rank // 2]
        )
    for name, function in work.items():
        found[name] = _run(function, rank, pairs[rank // 2], lines[rank % 2])
    torch.save(found, f"{folder}/{rank}.pt")
    # Who leaves while another still reads would close the connection under it.
    store.set(f"done{rank}", "")
    store.wait([f"done{other}" for other in range(RANKS)])
    dist.destroy_process_group()


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns; an error as text, for other cases go on."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001
        return traceback.format_exc()
