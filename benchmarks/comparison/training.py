"""A training step of a LLaVA of random weights, with its own loss and with ours.

All weights are 1 here, so that both compute the same and their gradients can be compared.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import visatb

from .contestants import OURS, RIVAL, reason_of
from .data import IGNORED, SEED
from .progress import Progress
from .timing import Bench, BrokenDevice, free_memory, require_working

IMAGE_TOKEN, TASKS = 3, 4
OWN = "the model's own loss"
# Relative, of a model in bf16: its own gradients are 1e-2 from those of the same model in fp32, and
# ours 7e-3 from its own, for every layer rounds anew what the loss hands down.
LOSS_LIMIT, GRADIENT_LIMIT = 1e-3, 2e-2
Record = dict[str, Any]
Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Shape:
    """Of the model and of a batch, whose sequences are an image, a prompt and an answer."""

    hidden: int = 1024
    layers: int = 8
    heads: int = 16
    vocab: int = 32064
    batch: int = 16
    text: int = 448
    prompt: int = 192
    image: int = 112
    patch: int = 14
    repeat: int = 9

    @property
    def image_tokens(self) -> int:
        """Of one image."""
        return (self.image // self.patch) ** 2


QUICK = Shape(32, 1, 2, 512, 2, 24, 8, 28, 14, 2)


def measure(bench: Bench, progress: Progress, *, quick: bool) -> Record:
    """Times, memory and gradients of a step with every loss."""
    shape = QUICK if quick else Shape()
    free_memory(bench)
    try:
        return _measure(shape, bench, progress)
    except BrokenDevice:
        raise
    except Exception as error:  # noqa: BLE001 - transformers may lack, or not fit, anything
        require_working(bench, "training step: model", RIVAL, error)
        return {"not_run": reason_of(error)}


def _measure(shape: Shape, bench: Bench, progress: Progress) -> Record:
    progress.show("training step: model")
    model = _build(shape).to(bench.device, torch.bfloat16)
    steps = _steps(model, _batch(shape, bench.device))
    found: Record = {"shape": dataclasses.asdict(shape), "parameters": 0, "steps": []}
    found["parameters"] = sum(each.numel() for each in model.parameters())
    records: dict[str, Record] = {name: {"name": name, "ours": name != OWN} for name in steps}
    stock: list[Tensor] | None = None
    for name, step in steps.items():
        progress.show(f"training step: {name}")
        record = records[name]
        with _recorded(record, bench):
            gradients = _first_steps(model, step, bench, record)
            if name == OWN:
                stock = gradients
            elif stock is not None:
                record["gradient_difference"] = _difference(gradients, stock)
                record |= judged(record, records[OWN])
    del stock
    _rounds(model, steps, records, bench, shape.repeat)
    for record in records.values():
        if "not_run" not in record:
            record["median_s"] = statistics.median(record["times_s"])
    return found | {"steps": list(records.values())}


@contextmanager
def _recorded(record: Record, bench: Bench) -> Iterator[None]:
    """An error of one step is its own; the others may still run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        record["not_run"] = reason_of(error)
        group = OURS if record["ours"] else RIVAL
        require_working(bench, f"training step: {record['name']}", group, error)


def judged(record: Record, own: Record) -> Record:
    """What is wrong with a step beside that with the model's own loss; empty where nothing is."""
    errors = {
        "loss": (abs(record["loss"] - own["loss"]) / abs(own["loss"]), LOSS_LIMIT),
        "gradients": (record["gradient_difference"], GRADIENT_LIMIT),
    }
    found = [
        f"{what}: relative error {error:.3g}; expected at most {limit:g}"
        for what, (error, limit) in errors.items()
        if not (math.isfinite(error) and error <= limit)
    ]
    return {"wrong": "; ".join(found)} if found else {}


def _rounds(
    model: Any, steps: dict[str, Step], records: dict[str, Record], bench: Bench, repeat: int
) -> None:
    """Every step once a round, so that a slow moment of the machine hits all of them."""
    shuffler = random.Random(SEED)  # noqa: S311
    for _ in range(repeat):
        running = [name for name in steps if "not_run" not in records[name]]
        for name in shuffler.sample(running, len(running)):
            with _recorded(records[name], bench):
                _without_gradients(model)
                seconds, _ = bench.stopwatch.time(_whole(steps[name]), 0.0)
                records[name].setdefault("times_s", []).append(seconds)
    _without_gradients(model)


def _build(shape: Shape) -> Any:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=shape.hidden // 2,
        intermediate_size=shape.hidden,
        image_size=shape.image,
        patch_size=shape.patch,
        num_attention_heads=shape.heads,
        num_hidden_layers=2,
    )
    text = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden * 11 // 4,
        num_key_value_heads=shape.heads,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        num_attention_heads=shape.heads,
        num_hidden_layers=shape.layers,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN)
    return LlavaForConditionalGeneration(config).train()


def _batch(shape: Shape, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, shape.vocab, (shape.batch, shape.text), generator=generator)
    image = torch.full((shape.batch, shape.image_tokens), IMAGE_TOKEN)
    labels = tokens.clone()
    labels[:, : shape.prompt] = IGNORED
    pixels = torch.randn(shape.batch, 3, shape.image, shape.image, generator=generator)
    batch = {
        "input_ids": torch.cat([image, tokens], 1),
        "labels": torch.cat([torch.full_like(image, IGNORED), labels], 1),
        "pixel_values": pixels.to(torch.bfloat16),
        "task_ids": torch.randint(TASKS, (shape.batch,), generator=generator),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _steps(model: Any, batch: dict[str, Tensor]) -> dict[str, Step]:
    given = {name: batch[name] for name in ("input_ids", "pixel_values")}
    labels, task_ids = batch["labels"], batch["task_ids"]
    weights = torch.ones(TASKS, device=labels.device)
    valid = int((labels[:, 1:] != IGNORED).sum())

    def stock() -> Tensor:
        loss: Tensor = model(**given, labels=labels, use_cache=False).loss
        return loss

    def from_logits() -> Tensor:
        logits = model(**given, use_cache=False).logits
        return visatb.vitw_loss(logits, labels, task_ids, weights, shift=True, inplace=True)

    def from_hidden() -> Tensor:
        hidden = model.model(**given, use_cache=False).last_hidden_state
        head = model.lm_head.weight
        return visatb.vitw_linear_loss(
            hidden, head, labels, task_ids, weights, shift=True, max_valid_rows=valid
        )

    return {
        OWN: stock,
        "vitw_loss, in place": from_logits,
        "vitw_linear_loss": from_hidden,
    }


def _whole(step: Step) -> Step:
    def run() -> Tensor:
        loss = step()
        loss.backward()
        return loss.detach()

    return run


def _without_gradients(model: Any) -> None:
    model.zero_grad(set_to_none=True)


def _first_steps(model: Any, step: Step, bench: Bench, record: Record) -> list[Tensor]:
    """The gradients; the loss and the memory go into the record."""
    run = _whole(step)
    _without_gradients(model)
    record["loss"] = float(run())
    gradients = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    _without_gradients(model)
    record["peak_extra_bytes"] = bench.stopwatch.peak_extra(run)
    _without_gradients(model)
    return gradients


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The norm of the difference of all gradients over the norm of the expected ones."""
    squares = [
        torch.stack([(one.double() - other.double()).norm() ** 2, other.double().norm() ** 2])
        for one, other in zip(found, expected, strict=True)
    ]
    difference, norm = torch.stack(squares).sum(0).tolist()
    return float((difference / norm) ** 0.5)
