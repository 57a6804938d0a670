"""The code of docs/loss.md and docs/gpu.md does what it is shown for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import make_batch  # noqa: E402

import visatb  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTED = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


def recipe(name: str = "train_step") -> Any:
    """The function `name` of the document, with its criterion if there is one."""
    text = (ROOT / "docs/loss.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if f"def {name}(" in block)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/loss.md", "exec"), names)  # noqa: S102 - our own file
    return names[name], names.get("criterion")


def batches_of(seed: int) -> list[tuple[Any, Any, Any]]:
    """Three micro-batches of one sequence; they have different numbers of valid tokens."""
    inputs, labels, _, _ = make_batch(vocab=11, seed=seed)
    labels[1, 3:] = -100
    labels[2] = -100 if seed else 4
    task_ids = torch.tensor([0, 2, 3])
    return [(inputs[i : i + 1], labels[i : i + 1], task_ids[i : i + 1]) for i in range(3)]


class KeepGradients(torch.optim.Optimizer):
    """Keeps what a step would have used."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, _: Any = None) -> None:
        self.kept = [p.grad.clone() for group in self.param_groups for p in group["params"]]


def make_model() -> Any:
    torch.manual_seed(7)
    return torch.nn.Linear(11, 11)


def expected_gradient(criterion: Any, batches: list[tuple[Any, Any, Any]]) -> Any:
    """That of one loss over all batches at once."""
    model = make_model()
    inputs, labels, task_ids = (torch.cat(parts) for parts in zip(*batches, strict=True))
    criterion(model(inputs), labels, task_ids).backward()
    return model.weight.grad


@pytest.fixture
def weights_json(examples: Path, folder: Path) -> Path:
    """The weights.json of the document, in the working folder."""
    shutil.copy(examples / "full.json", folder / "scores.json")
    visatb.compute_weights("scores.json").save("weights.json")
    return folder / "weights.json"


def test_micro_batches_add_up_to_the_step(weights_json: Path) -> None:
    train_step, criterion = recipe()
    model = make_model()
    optimizer = KeepGradients(model.parameters())
    train_step(model, optimizer, batches_of(0))
    torch.testing.assert_close(optimizer.kept[0], expected_gradient(criterion, batches_of(0)))


def test_the_loss_of_a_linear_head_is_that_of_its_logits(weights_json: Path) -> None:
    loss_of, criterion = recipe("loss_of")
    model, head = torch.nn.Linear(11, 7), torch.nn.Linear(7, 11)
    inputs, labels, task_ids = (torch.cat(parts) for parts in zip(*batches_of(0), strict=True))
    found = loss_of(model, head, inputs, labels, task_ids)
    plain = visatb.VITWLoss(criterion.task_weights, shift=True)
    torch.testing.assert_close(found, plain(head(model(inputs)), labels, task_ids))


def work(rank: int, folder: str, store: str) -> None:
    """One rank; it writes the gradient that it would have used."""
    import os

    os.chdir(folder)
    torch.set_num_threads(1)
    meeting = torch.distributed.FileStore(store, 2)
    torch.distributed.init_process_group("gloo", store=meeting, rank=rank, world_size=2)
    train_step, _ = recipe()
    model = torch.nn.parallel.DistributedDataParallel(make_model())
    optimizer = KeepGradients(model.parameters())
    train_step(model, optimizer, batches_of(rank))
    torch.save(optimizer.kept[0], f"gradient{rank}.pt")
    # Who leaves while the other still reads would close the connection under it.
    meeting.set(f"done{rank}", "")
    meeting.wait([f"done{other}" for other in range(2)])
    torch.distributed.destroy_process_group()


@DISTRIBUTED
def test_ranks_add_up_to_the_step(weights_json: Path, tmp_path: Path) -> None:
    folder = weights_json.parent
    torch.multiprocessing.spawn(work, (str(folder), str(tmp_path / "store")), nprocs=2)
    _, criterion = recipe()
    expected = expected_gradient(criterion, batches_of(0) + batches_of(1))
    for rank in range(2):
        torch.testing.assert_close(
            torch.load(folder / f"gradient{rank}.pt", weights_only=True), expected
        )


def test_code_for_a_gpu_gives_the_same_on_the_cpu() -> None:
    text = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/gpu.md", "exec"), names)  # noqa: S102 - our own file
    torch.manual_seed(3)
    head = torch.nn.Linear(5, 11, bias=False)
    hidden = torch.randn(2, 7, 5, requires_grad=True)
    labels = torch.randint(11, (2, 7))
    labels[:, :3] = -100
    task_ids, weights = torch.tensor([0, 1]), [1.0, 0.5]
    most_valid = names["most_valid_rows"](labels)
    assert most_valid == 8
    loss = names["loss_on_gpu"](head(hidden), labels, task_ids, weights)
    linear = names["linear_loss_on_gpu"](hidden, head, labels, task_ids, weights, most_valid)
    denominator = visatb.vitw_denominator(labels, task_ids, weights, shift=True)
    of_rank = names["loss_of_rank"](hidden, head, labels, task_ids, denominator, 2, most_valid)
    torch.testing.assert_close(linear, loss)
    torch.testing.assert_close(of_rank, 2 * loss)
