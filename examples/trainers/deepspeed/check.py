"""VITW under DeepSpeed's ZeRO, compared with one plain process: `python check.py`.

Two processes on the CPU, by gloo; it needs no GPU. A small Llama is trained for a few steps of two
micro-batches each, by Hugging Face's Trainer and by deepspeed.initialize, and the parameters are
compared with those that one process comes to with Eq. 2 written out. record.txt has what it
said (beside warnings), with the versions of requirements.txt. It takes a C++
compiler, for DeepSpeed builds what its processes on a CPU talk by when it is first needed.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

# Before DeepSpeed is imported: it would look for a GPU.
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import accelerate
import deepspeed
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

import visatb
from visatb.torch import VITWLinearLoss, VITWLoss
from visatb.trainers import (
    LinearHead,
    StepCounter,
    StepLoader,
    TaskCollator,
    TaskTable,
    VITWTrainer,
)

TASKS = {"caption": 0.4, "vqa": 1.7, "ocr": 1.0}
WEIGHTS = list(TASKS.values())
RANKS, ACCUMULATION, STEPS, SAMPLES_A_STEP, VOCAB, SEQ = 2, 2, 6, 16, 37, 12
MICRO_BATCH = SAMPLES_A_STEP // (RANKS * ACCUMULATION)
SGD = {"lr": 0.1, "momentum": 0.9}


class Samples(Dataset):
    """Answers of uneven length; each step begins with the short ones, of one task."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.items = []
        for place in list(range(SAMPLES_A_STEP)) * STEPS:
            words = torch.randint(0, VOCAB, (SEQ,), generator=generator)
            labels = words.clone()
            labels[: SEQ - 2 - place // 2] = -100
            task = "caption" if place < 9 else "vqa" if place < 13 else "ocr"
            self.items.append({"input_ids": words, "labels": labels, "task": task})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


class InOrder(VITWTrainer):
    """Takes the samples in their order, so that the runs can be compared."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of sequences that are all as long."""
    return {key: torch.stack([item[key] for item in items]) for key in ("input_ids", "labels")}


def batches_of(size: int, rank: int = 0, ranks: int = 1) -> list[dict[str, Any]]:
    """Those of one rank, with task ids."""
    items, with_task_ids = Samples().items, TaskCollator(collate, TaskTable(TASKS))
    starts = range(rank * size, len(items), ranks * size)
    return [with_task_ids(items[start : start + size]) for start in starts]


def make_model() -> Any:
    """The same one each time."""
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


def by_hand() -> Any:
    """The model that one process comes to, in fp32, with Eq. 2 written out."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for batch in batches_of(SAMPLES_A_STEP):
        logits = model(input_ids=batch["input_ids"]).logits
        labels = nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        weight = torch.tensor(WEIGHTS)[batch["task_ids"]][:, None] * (labels != -100)
        ((weight * nll).sum() / weight.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def config(stage: int, *, bf16: bool = False) -> dict[str, Any]:
    """Of DeepSpeed; with an optimizer of PyTorch's, so that none of DeepSpeed's is compiled."""
    return {
        "train_micro_batch_size_per_gpu": MICRO_BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "zero_optimization": {"stage": stage},
        "gradient_clipping": 0.0,  # DeepSpeed 0.19 clips at 1.0 unless it is told otherwise.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": bf16},
    }


def by_trainer(stage: int, **options: Any) -> Any:
    """Hugging Face's Trainer: it tells DeepSpeed not to divide by the accumulation steps."""
    model = make_model()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            deepspeed=config(stage),
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=ACCUMULATION,
            num_train_epochs=1,
            lr_scheduler_type="constant",
            learning_rate=SGD["lr"],
            max_grad_norm=0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = InOrder(
            model,
            arguments,
            train_dataset=Samples(),
            data_collator=collate,
            optimizer_cls_and_kwargs=(torch.optim.SGD, SGD),
            task_weights=TASKS,
            **options,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return model


def by_loop(stage: int, *, bf16: bool = False, linear: bool = False, divides: bool = True) -> Any:
    """A loop of one's own. engine.backward divides by the accumulation steps, unless told not to.

    Whoever lets it (divides) says so to StepCounter, whose denominators then make up for it.
    """
    inner = make_model()
    optimizer = torch.optim.SGD(inner.parameters(), **SGD)
    engine, *_ = deepspeed.initialize(
        model=inner, optimizer=optimizer, config=config(stage, bf16=bf16)
    )
    criterion: Any = VITWLoss(WEIGHTS, shift=True)
    if linear:
        criterion = VITWLinearLoss(WEIGHTS, shift=True, return_stats=True)
        head = LinearHead(inner, criterion)
    counter = StepCounter(criterion, divided_later_by=ACCUMULATION if divides else 1)
    rank = torch.distributed.get_rank()
    batches = batches_of(MICRO_BATCH, rank, RANKS)
    for batch in StepLoader(batches, counter, accumulation_steps=ACCUMULATION):
        step = batch["visatb_step"]
        # Or DeepSpeed counts to its accumulation steps by itself, over the end of an epoch too.
        engine.set_gradient_accumulation_boundary(step.is_last)
        inputs = {"input_ids": batch["input_ids"]}
        if linear:
            inputs["labels"] = batch["labels"]
            loss, _, _ = head.loss_of(engine, inputs, batch["task_ids"], step)
        else:
            logits = engine(**inputs).logits
            loss = criterion(
                logits, batch["labels"], batch["task_ids"], denominator=step.denominator
            )
        engine.backward(loss, scale_wrt_gas=divides)
        engine.step()
    return inner


def parameters_of(model: Any) -> Tensor:
    """All in one, whole, in fp32."""
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return torch.cat([p.detach().flatten().float() for p in model.parameters()])


def let_accelerate_see_two_processes() -> None:
    """It knows DeepSpeed on GPUs only; on a CPU it would take each process for the only one.

    Not to be copied: on GPUs nothing of this is needed.
    """
    from accelerate.state import DistributedType, PartialState

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


def refusal_of(train: Callable[[], Any]) -> str:
    """What is said instead of training."""
    try:
        train()
    except visatb.UnsupportedError as refused:
        return f"refused: {refused}"
    return "NOT REFUSED"


RUNS: dict[str, Callable[[], Any]] = {
    "Trainer, ZeRO-2, logits": lambda: by_trainer(2),
    "Trainer, ZeRO-3, logits": lambda: by_trainer(3),
    "Trainer, ZeRO-2, linear": lambda: by_trainer(2, linear=True),
    "Trainer, ZeRO-2, a mean of each micro-batch": lambda: by_trainer(2, scope="local"),
    "loop, ZeRO-2, logits": lambda: by_loop(2),
    "loop, ZeRO-2, logits, scale_wrt_gas=False": lambda: by_loop(2, divides=False),
    "loop, ZeRO-3, logits": lambda: by_loop(3),
    "loop, ZeRO-2, linear": lambda: by_loop(2, linear=True),
    "loop, ZeRO-2, logits, bf16": lambda: by_loop(2, bf16=True),
    "loop, ZeRO-3, logits, bf16": lambda: by_loop(3, bf16=True),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "Trainer, ZeRO-3, linear": lambda: by_trainer(3, linear=True),
    "loop, ZeRO-3, linear": lambda: by_loop(3, linear=True),
}


def run_rank(rank: int, port: int) -> None:
    """One of the processes."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    deepspeed.utils.logger.setLevel("ERROR")
    deepspeed.init_distributed(dist_backend="gloo")
    let_accelerate_see_two_processes()
    start = parameters_of(make_model())
    expected = parameters_of(by_hand())
    moved = torch.linalg.norm(expected - start)
    for name, train in RUNS.items():
        error = torch.linalg.norm(parameters_of(train()) - expected) / moved
        if rank == 0:
            print(f"{name:45} {error:.1e}", flush=True)
    for name, train in REFUSED.items():
        refusal = refusal_of(train)
        if rank == 0:
            print(f"{name:45} {refusal}", flush=True)
    torch.distributed.destroy_process_group()


def main() -> int:
    """Says with which versions, and starts the processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for module in (visatb, torch, transformers, accelerate, deepspeed):
        print(module.__name__, module.__version__)
    print("\nHow far the parameters are from those of one plain process, of how far that one went:")
    sys.stdout.flush()
    torch.multiprocessing.spawn(run_rank, (port,), nprocs=RANKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
