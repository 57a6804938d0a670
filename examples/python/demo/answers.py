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

from visatb.scoring import score_answers

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


def points(task: Task, samples: Sequence[Sample], answers: Sequence[str]) -> dict[str, float]:
    """{sample id: 0 to 100}: by a measure of VisATB's, or for captions by their facts."""
    pairs = list(zip(samples, answers, strict=True))
    if task.metric == "facts":
        return {one.id: 100 * facts_right(answer, one.answer) for one, answer in pairs}
    given = [{"id": one.id, "answer": answer} for one, answer in pairs]
    truth = [{"id": one.id, "answer": one.answer} for one in samples]
    values = score_answers(task.metric, given, truth).values
    return {} if values is None else values
