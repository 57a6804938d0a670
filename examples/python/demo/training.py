"""One training: samples, and how their tasks are weighed, into a model."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from model import ANSWER, BOS, EOS, IMAGE, PAD, Tokenizer, image_tokens, pixel_values
from tasks import TASKS, Sample
from transformers import LlavaForConditionalGeneration

import visatb

IGNORED = -100
NAMES = [task.name for task in TASKS]


@dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    epochs: int
    seed: int
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float = 1.0


def prompt_ids(sample: Sample, tokenizer: Tokenizer, pictures: int) -> list[int]:
    """The prompt as the model sees it: the picture's tokens, the instruction, "answer now"."""
    return [BOS, *[IMAGE] * pictures, *tokenizer.encode(sample.prompt), ANSWER]


def collate(
    samples: Sequence[Sample], images: np.ndarray, tokenizer: Tokenizer
) -> dict[str, torch.Tensor]:
    """Samples -> one padded batch.  Only the answer and its end token are to be learnt.

    Padding stands on the right, where causal attention never looks back at it, so that the batch
    needs no attention mask.
    """
    pictures = image_tokens(images.shape[1])
    rows, labels = [], []
    for sample in samples:
        prompt = prompt_ids(sample, tokenizer, pictures)
        answer = [*tokenizer.encode(sample.answer), EOS]
        rows.append(torch.tensor(prompt + answer))
        labels.append(torch.tensor([IGNORED] * len(prompt) + answer))
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(rows, batch_first=True, padding_value=PAD),
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
        "task_ids": torch.tensor([NAMES.index(sample.task) for sample in samples]),
        "pixel_values": pixel_values(images[[sample.image for sample in samples]]),
    }


def _groups(model: torch.nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices are decayed, norms and biases are not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def rate(step: int, steps: int, warmup: float) -> float:
    """The share of the learning rate at a step: up along a line, down along a cosine."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))


def train(
    samples: Sequence[Sample],
    task_weights: Sequence[float],
    method: visatb.Method | None,
    model: LlavaForConditionalGeneration,
    images: np.ndarray,
    tokenizer: Tokenizer,
    settings: Settings,
) -> Iterator[int]:
    """Trains a model, step by step: yields the number of each step that is done.

    The loss is VisATB's Eq. 2: every answer token weighs as much as its task. Equal weights are the
    same call with a weight of 1 for every task; a method finds its own for every step.
    """
    model.train()
    device = model.device
    optimizer = torch.optim.AdamW(
        _groups(model, settings.weight_decay), lr=settings.learning_rate, fused=True
    )
    steps = step_count(len(samples), settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate(step, steps, settings.warmup)
    )
    weights = torch.tensor(task_weights, device=device)
    for step, chosen in enumerate(_batches(samples, settings), start=1):
        batch = {name: of.to(device) for name, of in collate(chosen, images, tokenizer).items()}
        if method is not None:
            weights = torch.tensor(method.weights(_task_tokens(batch)), dtype=torch.float32)
        logits = model(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"]).logits
        loss, stats = visatb.vitw_loss(
            logits,
            batch["labels"],
            batch["task_ids"],
            weights.to(device),
            shift=True,
            return_stats=True,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if method is not None:
            method.update(stats.task_nll.cpu().numpy(), stats.task_tokens.cpu().numpy())
        yield step


def step_count(samples: int, settings: Settings) -> int:
    """The optimiser steps of a run over this many samples."""
    return settings.epochs * -(-samples // settings.batch_size)


def _batches(samples: Sequence[Sample], settings: Settings) -> Iterator[list[Sample]]:
    """The samples of every step, in another order in every epoch."""
    rng = random.Random(settings.seed)  # noqa: S311
    order = list(samples)
    for _ in range(settings.epochs):
        rng.shuffle(order)
        for start in range(0, len(order), settings.batch_size):
            yield order[start : start + settings.batch_size]


def _task_tokens(batch: dict[str, torch.Tensor]) -> np.ndarray:
    """The tokens to be learnt of each task, [tasks]."""
    tokens = (batch["labels"] != IGNORED).sum(1)
    counts = torch.zeros(len(NAMES), dtype=torch.int64, device=tokens.device)
    return counts.index_add_(0, batch["task_ids"].long(), tokens).cpu().numpy()
