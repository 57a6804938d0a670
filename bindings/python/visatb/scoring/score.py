"""From answers to a validation score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from visatb._errors import ArgumentError, DataError

from . import boxes, captions, vqa
from .judge import judge
from .pairs import Pairs, Scored, pair
from .records import RecordSource


class Metric(NamedTuple):
    """A measure of answers; all are in percent (CIDEr, which may pass 100, times 100).

    Attributes:
        summary: what it is, in a line.
        references: the names under which a reference may hold its truth; none: the answers are a
            judge's reviews, and need no references.
        higher_is_better: of these measures, always.
        per_sample: whether the score is the mean of a value a sample.
        needs_java: whether it needs pycocoevalcap and Java.
    """

    summary: str
    references: tuple[str, ...]
    higher_is_better: bool = True
    per_sample: bool = True
    needs_java: bool = False


class SampleScores(NamedTuple):
    """A score and its parts.

    Attributes:
        metric: the measure's name.
        score: in percent.
        values: {sample id: value}, in the order of the references; the score is their mean. None
            where it is no mean.
        notes: what a reader must know beside it, as how many answers hold no box.
        samples: how many were scored.
    """

    metric: str
    score: float
    values: dict[str, float] | None
    notes: list[str]
    samples: int


_TEXT = ("answer", "answers", "references", "conversations")
_PEOPLE = ("answers", "references")
_BOX = ("box", "answer", "conversations")
_CAPTION = ("captions", "caption", "references", "answer", "conversations")

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "exact_match": Metric("the answer equals a truth, both normalised as VQA does", _TEXT),
        "vqa_accuracy": Metric("agreement with the answers of ten people", _PEOPLE),
        "iou": Metric("overlap of two boxes", _BOX),
        "accuracy_at_0.5": Metric("boxes that overlap by 0.5 or more", _BOX),
        "cider": Metric("captions, CIDEr", _CAPTION, needs_java=True),
        **{
            f"bleu_{order}": Metric(
                f"captions, BLEU-{order} of the corpus", _CAPTION, per_sample=False, needs_java=True
            )
            for order in (1, 2, 3, 4)
        },
        "rouge_l": Metric("captions, ROUGE-L", _CAPTION, needs_java=True),
        "meteor": Metric(
            "captions, METEOR of the corpus", _CAPTION, per_sample=False, needs_java=True
        ),
        "judge": Metric("a judge's marks, relative to those of a reference", ()),
    }
)

_SCORERS: Mapping[str, Callable[[Pairs], Scored]] = {
    "exact_match": vqa.exact_match,
    "vqa_accuracy": vqa.vqa_accuracy,
    "iou": boxes.iou,
    "accuracy_at_0.5": boxes.accuracy,
    "cider": captions.cider,
    **{f"bleu_{order}": captions.bleu(order) for order in (1, 2, 3, 4)},
    "rouge_l": captions.rouge_l,
    "meteor": captions.meteor,
}


def score_answers(
    metric: str,
    answers: RecordSource,
    references: RecordSource | None = None,
    *,
    missing: str = "refuse",
) -> SampleScores:
    """Scores a model's answers.

    Args:
        metric: one of METRICS.
        answers: a file as docs/scoring.md describes it, JSON or JSON Lines; "-" for standard
            input; or its records. For "judge", the reviews.
        references: the truths, the same way; None for "judge".
        missing: what a reference without an answer is: "refuse", an error; "zero", a score of 0.

    Errors: ArgumentError, FileError, DataError (its message names file and line), of these
    MissingAnswersError for references without an answer; UnsupportedError (pycocoevalcap or Java is
    missing), Error (Java failed).
    """
    if metric not in METRICS:
        raise ArgumentError(f"metric = {metric!r}; expected one of {', '.join(METRICS)}")
    if (references is None) != (not METRICS[metric].references):
        expected = "reviews alone" if references is not None else "answers and references"
        raise ArgumentError(f"references = {references!r}; {metric} needs {expected}")
    if references is None:
        values = judge(answers)
        return SampleScores(metric, _mean(list(values.values())), values, [], len(values))
    pairs = pair(answers, references, METRICS[metric].references, missing)
    scored = _SCORERS[metric](pairs)
    notes = list(scored.notes)
    if pairs.missing:
        count = f"{pairs.missing} of {len(pairs.ids)}"
        notes.append(f"{count} references have no answer: they score 0")
    return _result(metric, pairs, scored, notes)


def _result(metric: str, pairs: Pairs, scored: Scored, notes: list[str]) -> SampleScores:
    if scored.values is None:
        values, score = None, math.nan if scored.score is None else scored.score
    else:
        values, score = dict(zip(pairs.ids, scored.values, strict=True)), _mean(scored.values)
    if not math.isfinite(score):
        raise DataError(f"{metric}: these answers and references make no finite score")
    return SampleScores(metric, score, values, notes, len(pairs.ids))


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
