"""Whether a contestant computes the right thing: its loss and gradients beside those in fp64.

This is done on the case that is timed. The loss is compared in full, gradients in a sample of rows,
so that it takes no longer than the timing. Tolerances tell a wrong formula from rounding, no more:
accuracy is for the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .contestants import Contestant, Result
from .data import IGNORED, SEED, Data

SAMPLE = 16
CHUNK_ROWS, CHUNK_HIDDEN_ROWS, CHUNK_VOCAB = 64, 1024, 8192
# (loss, gradient), relative. PyTorch rounds log-probabilities to bf16 and adds them up in bf16.
TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (3e-2, 5e-2)}
TASKS, PLAIN, SUM = "tasks", "plain", "sum"


def kind_of(contestant: Contestant) -> str:
    """By what the losses of single tokens are multiplied: a key of `factors`."""
    if contestant.summed:
        return SUM
    return TASKS if contestant.weighted else PLAIN


def factors(data: Data) -> dict[str, Tensor]:
    """What each token's loss is multiplied with, [rows] fp64."""
    valid = (data.labels != IGNORED).double()
    weights = data.task_weights.double()[data.task_ids.long()] * valid
    return {TASKS: weights / weights.sum(), PLAIN: valid / valid.sum(), SUM: valid}


class WrongResult(Exception):  # noqa: N818 - It says what it is.
    """A contestant that computes something else."""


class Reference:
    """Loss and sampled gradients of a case in fp64, with and without the tasks' weights."""

    @torch.no_grad()
    def __init__(self, data: Data) -> None:
        self._labels = data.labels
        self._valid = data.labels != IGNORED
        self._rows = _sample(self._valid)
        self._factors = factors(data)
        self._tolerances = TOLERANCES[data.inputs[0].dtype]
        if data.source is not None:
            self._of_logits(data.source)
        else:
            self._of_hidden(*(tensor.detach() for tensor in data.inputs))

    def _of_logits(self, logits: Tensor) -> None:
        chunks = zip(logits.split(CHUNK_ROWS), self._labels.split(CHUNK_ROWS), strict=True)
        self._nll = torch.cat([nll(rows.double(), labels) for rows, labels in chunks])
        of_rows = slope(logits[self._rows].double(), self._labels[self._rows])
        self._expected = {
            kind: self._split(of_rows * each[self._rows, None])
            for kind, each in self._factors.items()
        }
        self._pick = lambda gradients: self._split(gradients[0][self._rows].double())

    def _split(self, gradient: Tensor) -> list[Tensor]:
        """The entries at the labels and all others, which would drown beside them."""
        at = self._labels[self._rows].clamp(min=0)[:, None]
        return [gradient.gather(1, at), gradient.scatter(1, at, 0.0)]

    def _of_hidden(self, hidden: Tensor, weight: Tensor) -> None:
        wide = hidden.double()
        words = torch.cat(
            [
                self._labels[self._rows].clamp(min=0),
                torch.randint(
                    len(weight), (SAMPLE,), generator=torch.Generator().manual_seed(SEED)
                ).to(weight.device),
            ]
        )
        losses, of_words = [], []
        chunks = zip(
            wide.split(CHUNK_HIDDEN_ROWS), self._labels.split(CHUNK_HIDDEN_ROWS), strict=True
        )
        for rows, labels in chunks:
            logits = _logits(rows, weight)
            losses.append(nll(logits, labels))
            of_words.append(slope(logits, labels)[:, words])
        self._nll = torch.cat(losses)
        of_rows = slope(_logits(wide[self._rows], weight), self._labels[self._rows])
        parts = zip(of_rows.split(CHUNK_VOCAB, 1), weight.split(CHUNK_VOCAB), strict=True)
        of_hidden = sum(part @ rows.double() for part, rows in parts)
        self._expected = {
            kind: [
                of_hidden * each[self._rows, None],
                (torch.cat(of_words) * each[:, None]).T @ wide,
            ]
            for kind, each in self._factors.items()
        }
        self._pick = lambda gradients: [
            gradients[0][self._rows].double(),
            gradients[1][words].double(),
        ]

    @torch.no_grad()
    def check(self, name: str, result: Result, kind: str) -> tuple[float, float]:
        """Relative errors of the loss, and of the gradient's worse part.

        Errors: WrongResult unless they are rounding.
        """
        expected = (self._nll * self._factors[kind]).sum().item()
        loss_error = abs(result.loss.item() - expected) / abs(expected)
        parts = zip(self._pick(result.gradients), self._expected[kind], strict=True)
        errors = [((found - right).norm() / right.norm()).item() for found, right in parts]
        for what, error, tolerance in (
            ("loss", loss_error, self._tolerances[0]),
            *(
                (f"gradient, part {n}", error, self._tolerances[1])
                for n, error in enumerate(errors)
            ),
        ):
            if not error <= tolerance:  # So that a NaN is wrong too.
                raise WrongResult(
                    f"{name}: {what}: relative error {error:.3g}; expected at most {tolerance:g}"
                )
        return loss_error, max(errors)


def _sample(valid: Tensor) -> Tensor:
    """Rows spread over those that count, and some that do not."""
    parts = []
    for rows in (valid.nonzero().flatten(), (~valid).nonzero().flatten()):
        places = torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).long()
        parts.append(rows[places.to(rows.device)])
    return torch.cat(parts)


def _logits(wide: Tensor, weight: Tensor) -> Tensor:
    return torch.cat([wide @ part.double().T for part in weight.split(CHUNK_VOCAB)], 1)


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each token; 0 where it is ignored."""
    at_label = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return (logits.logsumexp(1) - at_label) * (labels != IGNORED)


def slope(logits: Tensor, labels: Tensor) -> Tensor:
    """softmax - onehot: the gradient of one token's loss in its logits."""
    found = logits.softmax(1)
    found.scatter_add_(1, labels.clamp(min=0)[:, None], found.new_full((len(labels), 1), -1.0))
    return found
