"""Let a model answer, and score what it says.

Answers are generated greedily, one batch at a time, and read as text: a score never looks at the
loss or at a probability.  Every score is a mean over samples between 0 and 100, higher is better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from model import EOS, PAD, Tokenizer, image_tokens, pixel_values
from tasks import COLOURS, PLACES, SHAPES, SIZES, Sample, Task
from training import prompt_ids
from transformers import LlavaForConditionalGeneration

BATCH = 250
FACTS = (SIZES, COLOURS, SHAPES, PLACES)


@torch.inference_mode()
def generate(
    model: LlavaForConditionalGeneration,
    task: Task,
    samples: Sequence[Sample],
    images: np.ndarray,
    tokenizer: Tokenizer,
) -> list[str]:
    """The model's answers to samples of one task."""
    model.eval()
    pictures = image_tokens(images.shape[1])
    answers: list[str] = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        prompts = [torch.tensor(prompt_ids(sample, tokenizer, pictures)) for sample in batch]
        ids = torch.nn.utils.rnn.pad_sequence(
            prompts, batch_first=True, padding_value=PAD, padding_side="left"
        ).to(model.device)
        shown = pixel_values(images[[sample.image for sample in batch]])
        out = model.generate(
            input_ids=ids,
            attention_mask=(ids != PAD).long(),
            pixel_values=shown.to(model.device),
            max_new_tokens=task.max_answer_tokens,
            do_sample=False,
            eos_token_id=EOS,
        )
        answers += [tokenizer.decode(row) for row in out[:, ids.shape[1] :].tolist()]
    return answers


def facts_right(answer: str, truth: str) -> float:
    """The share of a caption's four facts (size, colour, shape, place) that are right.

    A fact counts if the caption names exactly one of its choices, and the true one.
    """
    right = 0
    for choices in FACTS:
        said = [choice for choice in choices if re.search(rf"\b{choice}\b", answer)]
        meant = [choice for choice in choices if re.search(rf"\b{choice}\b", truth)]
        right += said == meant
    return right / len(FACTS)


def read_box(answer: str) -> tuple[int, int, int, int] | None:
    """The box an answer states, or None if it is not written as one or is empty."""
    match = re.fullmatch(r"\[(\d+), (\d+), (\d+), (\d+)\]", answer)
    if match is None:
        return None
    left, top, right, bottom = (int(number) for number in match.groups())
    return (left, top, right, bottom) if left < right and top < bottom else None


def iou(answer: str, truth: str) -> float:
    """Area shared by both boxes over the area covered by either; 0 for what is no box."""
    first, second = read_box(answer), read_box(truth)
    if first is None or second is None:
        return 0.0
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def exact_match(answer: str, truth: str) -> float:
    """1 for the right answer, else 0."""
    return float(answer == truth)


METRICS = {"exact_match": exact_match, "facts": facts_right, "iou": iou}


def points(task: Task, samples: Sequence[Sample], answers: Sequence[str]) -> dict[str, float]:
    """{sample id: 0 to 100}."""
    measure = METRICS[task.metric]
    pairs = zip(samples, answers, strict=True)
    return {sample.id: 100 * measure(answer, sample.answer) for sample, answer in pairs}
