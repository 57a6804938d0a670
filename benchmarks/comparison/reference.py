"""Whether a contestant computes the right thing: its loss and gradients beside those in fp64.

This is done on the case that is timed. The loss is compared in full, gradients in a sample of rows,
so that it takes no longer than the timing. Tolerances tell a wrong formula from rounding, no more:
accuracy is for the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .contestants import Result
from .data import IGNORED, SEED, Data

SAMPLE = 16
CHUNK_ROWS, CHUNK_VOCAB = 64, 8192
# (loss, gradient), relative. PyTorch rounds log-probabilities to bf16 and adds them up in bf16.
TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (3e-2, 5e-2)}


class WrongResult(Exception):  # noqa: N818 - It says what it is.
    """A contestant that computes something else."""


class Reference:
    """Loss and sampled gradients of a case in fp64, with and without the tasks' weights."""

    @torch.no_grad()
    def __init__(self, data: Data) -> None:
        self._labels = data.labels
        self._valid = data.labels != IGNORED
        self._rows = _sample(self._valid)
        weights = data.task_weights.double()[data.task_ids.long()]
        self._factors = {
            True: weights * self._valid / (weights * self._valid).sum(),
            False: self._valid.double() / self._valid.sum(),
        }
        self._tolerances = TOLERANCES[data.inputs[0].dtype]
        if data.source is not None:
            self._of_logits(data.source)
        else:
            self._of_hidden(*(tensor.detach() for tensor in data.inputs))

    def _of_logits(self, logits: Tensor) -> None:
        chunks = zip(logits.split(CHUNK_ROWS), self._labels.split(CHUNK_ROWS), strict=True)
        self._nll = torch.cat([_nll(rows.double(), labels) for rows, labels in chunks])
        slope = _slope(logits[self._rows].double(), self._labels[self._rows])
        self._expected = {
            weighted: self._split(slope * factors[self._rows, None])
            for weighted, factors in self._factors.items()
        }
        self._pick = lambda gradients: self._split(gradients[0][self._rows].double())

    def _split(self, gradient: Tensor) -> list[Tensor]:
        """The entries at the labels and all others, which would drown beside them."""
        at = self._labels[self._rows].clamp(min=0)[:, None]
        return [gradient.gather(1, at), gradient.scatter(1, at, 0.0)]

    def _of_hidden(self, hidden: Tensor, weight: Tensor) -> None:
        wide = hidden.double()
        logits = torch.cat([wide @ part.double().T for part in weight.split(CHUNK_VOCAB)], 1)
        self._nll = _nll(logits, self._labels)
        slope = _slope(logits, self._labels)
        random = torch.Generator().manual_seed(SEED)
        words = torch.cat(
            [
                self._labels[self._rows].clamp(min=0),
                torch.randint(len(weight), (SAMPLE,), generator=random),
            ]
        )
        parts = zip(slope[self._rows].split(CHUNK_VOCAB, 1), weight.split(CHUNK_VOCAB), strict=True)
        of_hidden = sum(part @ rows.double() for part, rows in parts)
        self._expected = {
            weighted: [
                of_hidden * factors[self._rows, None],
                (slope[:, words] * factors[:, None]).T @ wide,
            ]
            for weighted, factors in self._factors.items()
        }
        self._pick = lambda gradients: [
            gradients[0][self._rows].double(),
            gradients[1][words].double(),
        ]

    @torch.no_grad()
    def check(self, name: str, result: Result, *, weighted: bool) -> tuple[float, float]:
        """Relative errors of the loss, and of the gradient's worse part.

        Errors: WrongResult unless they are rounding.
        """
        expected = (self._nll * self._factors[weighted]).sum().item()
        loss_error = abs(result.loss.item() - expected) / abs(expected)
        parts = zip(self._pick(result.gradients), self._expected[weighted], strict=True)
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
        parts.append(rows[places])
    return torch.cat(parts)


def _nll(logits: Tensor, labels: Tensor) -> Tensor:
    at_label = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return (logits.logsumexp(1) - at_label) * (labels != IGNORED)


def _slope(logits: Tensor, labels: Tensor) -> Tensor:
    """softmax - onehot: the gradient of one token's loss in its logits."""
    slope = logits.softmax(1)
    slope.scatter_add_(1, labels.clamp(min=0)[:, None], slope.new_full((len(labels), 1), -1.0))
    return slope
