"""Trains one small model in several ways, by Hugging Face's Trainer or in a loop, as a program.

    python trainer_ranks.py OUTPUT RANKS PLANS

PLANS is a JSON list of `Plan`s. Processes are forked, so that they need not import everything
again. Rank 0 writes to OUTPUT what each plan came to: {name: {"losses", "logs", "parameters"}}.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import transformers
from torch.utils.data import Dataset, SequentialSampler
from trainer_loops import loss_by_hand, train_by_hand, train_in_loop
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from visatb import Method
from visatb.trainers import TaskCollator, TaskTable, VITWTrainer

TASKS = {"caption": 0.4, "vqa": 1.7, "ocr": 1.0}
VOCAB, SEQ, STEPS, SAMPLES_A_STEP = 37, 12, 10, 16
# Of the steps: one where nothing is trained, and one where all that is, is in the first sample.
EMPTY_STEP, LONELY_STEP = 3, 5
# Not by any number of ranks: some of the last batches are filled up.
EVALUATED = 37


class Plan(NamedTuple):
    """One training.

    Attributes:
        name: what its result is called.
        accumulation: micro-batches of a rank in a step.
        optimizer: "sgd", "adamw", or "gentle": SGD that does not blow up what bf16 rounds.
        scope: as in VITWTrainer.
        options: more arguments of VITWTrainer.
        arguments: more TrainingArguments.
        engine: "trainer", Hugging Face's; or a loop of `trainer_loops`: "by hand", "ddp", "fsdp2".
        loop: more arguments of `trainer_loops.train_in_loop`.
        adapter: train a LoRA adapter beside the frozen model.
        evaluates: evaluate the trained model too, with predictions and for the loss only.
        method: the arguments of a visatb.Method that makes the weights.
    """

    name: str
    accumulation: int
    optimizer: str
    scope: str = "step"
    options: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    engine: str = "trainer"
    loop: dict[str, Any] | None = None
    adapter: bool = False
    evaluates: bool = False
    method: dict[str, Any] | None = None


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
    """Takes the samples in their order, and the optimizer of the plan."""

    def __init__(self, *args: Any, optimizer: str, **kwargs: Any) -> None:
        self._optimizer_of = functools.partial(make_optimizer, optimizer)
        super().__init__(*args, **kwargs)

    def create_optimizer(self, *_: Any) -> Any:
        self.optimizer = self._optimizer_of(self.model)
        return self.optimizer

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


def make_tokenizer() -> Any:
    """One of TRL's, of as many words as the model has."""
    from tokenizers import Tokenizer, models

    words = {"<pad>": 0, "</s>": 1, **{f"word{index}": index for index in range(2, VOCAB)}}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")),  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
    )


def with_adapter(model: Any) -> Any:
    """LoRA in every layer, with something in it, beside a frozen model and its head."""
    import peft

    torch.manual_seed(4)
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, config)


def make_optimizer(name: str, model: Any) -> Any:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    if name == "gentle":
        return torch.optim.SGD(model.parameters(), lr=0.05)
    return torch.optim.AdamW(model.parameters(), lr=3e-3)


def train(plan: Plan, ranks: int, folder: str) -> dict[str, Any]:
    model = with_adapter(make_model()) if plan.adapter else make_model()
    if plan.engine == "trainer":
        result = train_by_trainer(plan, model, ranks, folder)
    else:
        result = {"losses": train_by_loop(plan, model, ranks)}
    return {**result, "parameters": torch.cat([whole(p) for p in model.parameters()]).tolist()}


def train_by_trainer(plan: Plan, model: Any, ranks: int, folder: str) -> dict[str, Any]:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=SAMPLES_A_STEP // (ranks * plan.accumulation),
        gradient_accumulation_steps=plan.accumulation,
        num_train_epochs=1,
        lr_scheduler_type="constant",
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
    if "fsdp" in (plan.arguments or {}):
        pretend_that_the_cpu_is_an_accelerator()
    trainer = InOrder(
        model,
        arguments,
        train_dataset=Samples(),
        data_collator=collate,
        optimizer=plan.optimizer,
        task_weights=TASKS,
        scope=plan.scope,
        method=plan.method and Method(tasks=len(TASKS), **plan.method),
        **(plan.options or {}),
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    result = {"losses": [entry["loss"] for entry in logs], "logs": logs}
    return result | (evaluate(trainer) if plan.evaluates else {})


def evaluate(trainer: Any) -> dict[str, Any]:
    """What evaluations say, of the loss only and with predictions; and what is true, by hand."""
    samples = Samples().items[:EVALUATED]
    loss_only = trainer.evaluate(samples)
    predictions = trainer.predict(samples, metric_key_prefix="eval")
    batch = TaskCollator(collate, TaskTable(TASKS))(samples)
    with torch.no_grad():
        logits = trainer.model(input_ids=batch["input_ids"]).logits
    # Of the three tasks, and each as if there were no other.
    weights = [list(TASKS.values()), *([float(a == b) for b in TASKS] for a in TASKS)]
    by_hand = [loss_by_hand(logits, batch, each).item() for each in weights]
    return {
        "evaluated": loss_only,
        "predicted": predictions.metrics,
        "prediction_shape": predictions.predictions.shape,
        "evaluated_by_hand": dict(
            zip(["eval_loss", *(f"eval_loss/{task}" for task in TASKS)], by_hand, strict=True)
        ),
    }


def train_by_loop(plan: Plan, model: Any, ranks: int) -> list[float]:
    """On the batches that the Trainer gives this rank: every so manieth."""
    size = SAMPLES_A_STEP // (ranks * plan.accumulation)
    rank = int(os.environ.get("RANK", "0"))
    weights = list(TASKS.values())
    if ranks > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    items = Samples().items
    with_task_ids = TaskCollator(collate, TaskTable(TASKS))
    batches = [
        with_task_ids(items[start : start + size])
        for start in range(rank * size, len(items), ranks * size)
    ]
    if plan.engine == "by hand":
        return train_by_hand(model, make_optimizer(plan.optimizer, model), batches, weights)
    return train_in_loop(
        model,
        functools.partial(make_optimizer, plan.optimizer),
        batches,
        weights,
        engine=plan.engine,
        accumulation=plan.accumulation,
        **(plan.loop or {}),
    )


def pretend_that_the_cpu_is_an_accelerator() -> None:
    """Or accelerate takes DistributedDataParallel where FSDP was asked for, and says nothing."""
    from accelerate.state import DistributedType, PartialState

    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_HPU


def whole(parameter: Any) -> torch.Tensor:
    """A parameter, gathered where ranks keep it in pieces."""
    tensor = parameter.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).flatten()


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
