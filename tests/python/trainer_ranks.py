"""Trains one small model by Hugging Face's Trainer in several ways, as a program of its own.

    python trainer_ranks.py OUTPUT RANKS PLANS

PLANS is a JSON list of `Plan`s. Processes are forked, so that they need not import everything
again. Rank 0 writes to OUTPUT what each plan came to: {name: {"losses", "logs", "parameters"}}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch.utils.data import Dataset, SequentialSampler
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from visatb.trainers import VITWTrainer

TASKS = {"caption": 0.4, "vqa": 1.7, "ocr": 1.0}
VOCAB, SEQ, STEPS, SAMPLES_A_STEP = 37, 12, 10, 16
# Of the steps: one where nothing is trained, and one where all that is, is in the first sample.
EMPTY_STEP, LONELY_STEP = 3, 5


class Plan(NamedTuple):
    """One training.

    Attributes:
        name: what its result is called.
        accumulation: micro-batches of a rank in a step.
        optimizer: "sgd" or "adamw".
        scope: as in VITWTrainer.
        options: more arguments of VITWTrainer.
        arguments: more TrainingArguments.
    """

    name: str
    accumulation: int
    optimizer: str
    scope: str = "step"
    options: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None


class Samples(Dataset):
    """Sequences of uneven length and task: short ones first in each step, most of one task."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.items = []
        for index in range(STEPS * SAMPLES_A_STEP):
            step, place = divmod(index, SAMPLES_A_STEP)
            words = torch.randint(0, VOCAB, (SEQ,), generator=generator)
            labels = words.clone()
            labels[: SEQ - 2 - place // 2] = -100
            if step == EMPTY_STEP or (step == LONELY_STEP and place > 0):
                labels[:] = -100
            task = "caption" if place < 9 else "vqa" if place < 13 else "ocr"
            self.items.append({"input_ids": words, "labels": labels, "task": task})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


class InOrder(VITWTrainer):
    """Takes the samples in their order, and keeps the losses that it logs."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: torch.stack([item[key] for item in items]) for key in ("input_ids", "labels")}


def make_model() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def make_optimizer(name: str, model: Any) -> Any:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return torch.optim.AdamW(model.parameters(), lr=3e-3)


def train(plan: Plan, ranks: int, folder: str) -> dict[str, Any]:
    model = make_model()
    optimizer = make_optimizer(plan.optimizer, model)
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=SAMPLES_A_STEP // (ranks * plan.accumulation),
        gradient_accumulation_steps=plan.accumulation,
        num_train_epochs=1,
        logging_steps=1,
        logging_nan_inf_filter=False,
        max_grad_norm=0,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        ddp_backend="gloo" if ranks > 1 else None,
        **(plan.arguments or {}),
    )
    trainer = InOrder(
        model,
        arguments,
        train_dataset=Samples(),
        data_collator=collate,
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)),
        task_weights=TASKS,
        scope=plan.scope,
        **(plan.options or {}),
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": [entry["loss"] for entry in logs],
        "logs": logs,
        "parameters": torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(),
    }


def run_rank(rank: int, ranks: int, port: int, plans: list[Plan], output: Path) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    with tempfile.TemporaryDirectory() as folder:
        results = {plan.name: train(plan, ranks, folder) for plan in plans}
    if rank == 0:
        output.write_text(json.dumps(results))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    output, ranks = Path(sys.argv[1]), int(sys.argv[2])
    plans = [Plan(**plan) for plan in json.loads(sys.argv[3])]
    transformers.utils.logging.set_verbosity_error()
    port = free_port()
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            run_rank(rank, ranks, port, plans, output)
            os._exit(0)
        children.append(child)
    while children:
        child, status = os.wait()
        children.remove(child)
        if status:  # The others would wait for it.
            for other in children:
                os.kill(other, signal.SIGKILL)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
