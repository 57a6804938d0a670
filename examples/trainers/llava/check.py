"""VITW in LLaVA's own trainer: what comes of two lines, checked against fp64 and against itself.

    python check.py

runs where requirements.txt is installed, and llava-torch 1.2.2.post1 without its own requirements.
record.txt is what it printed, and with which versions.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.metadata
import io
import os
import platform
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# This transformers reads its own checkpoints as PyTorch before 2.6 let it.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

import accelerate  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from world import SAMPLES, WEIGHTS, make_trainer, make_world  # noqa: E402

import visatb  # noqa: E402
import visatb.trainers.llava  # noqa: E402

Gradients = dict[str, torch.Tensor]

LOSSES = ("loss", "eval_loss")


def main() -> None:
    """Every check, in the order of trust: each stands on those before."""
    print(
        f"llava-torch {importlib.metadata.version('llava-torch')}, torch {torch.__version__}, ",
        end="",
    )
    print(f"transformers {transformers.__version__}, accelerate {accelerate.__version__}, ", end="")
    print(f"Python {platform.python_version()}, visatb {visatb.__version__}\n")
    # Ranks are forked from here, and would wait for ever for threads that stayed behind.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        without_the_two_lines(folder)
        for options in ({}, {"linear": True}, {"inplace": True}):
            loss_and_gradients(folder, options)
        loss_and_gradients(folder, {}, max_length=107)
        loss_and_gradients(folder, {"linear": True}, lora=True)
        several_images_and_sizes(folder)
        steps_of_the_trainer(folder)
        evaluations(folder)
        resumed(folder)
        wrong_use(folder)
    print("\nall checks passed")


# --- loss and gradients ---------------------------------------------------------------------------


def without_the_two_lines(folder: Path) -> None:
    """Stock LLaVA: the mean of the batch's tokens."""
    trainer = make_trainer(folder)
    batch = first_batch(trainer)
    found = float(trainer.compute_loss(trainer.model, batch))
    expected = in_fp64(trainer.model, batch, None)[0]
    report("without the two lines: stock loss", found, expected)


def loss_and_gradients(folder: Path, options: dict[str, Any], **trained: Any) -> None:
    """One batch through the trainer's own compute_loss, and by plain PyTorch in fp64."""
    trainer = make_trainer(folder, **trained)
    visatb.trainers.llava.install(trainer, WEIGHTS, **options)
    batch = first_batch(trainer)
    task_ids = batch["task_ids"]
    expected, gradients = in_fp64(trainer.model, batch, task_ids)
    # A Step's denominator stands for what the trainer divides by afterwards; here that is nothing.
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    what = ", ".join([*(f"{k}={v}" for k, v in {**options, **trained}.items()), "one batch"])
    report(what, float(loss), expected)
    compare(trainer.model, gradients, what)


def in_fp64(model: Any, batch: dict[str, Any], task_ids: Any) -> tuple[float, Gradients]:
    """Eq. 2 over the labels that LLaVA expands, by a copy in fp64; task_ids None: Eq. 1."""
    copied = copy.deepcopy(model)
    base = copied.get_base_model() if hasattr(copied, "get_base_model") else copied
    base.__dict__.pop("forward", None)  # Without the two lines.
    copied = copied.double()
    for module in copied.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = functools.partial(norm_in_fp64, module)  # Its own rounds to fp32.
    images = batch["images"]
    images = [i.double() for i in images] if isinstance(images, list) else images.double()
    torch.set_default_dtype(torch.float64)
    _, positions, mask, _, embeddings, labels = base.prepare_inputs_labels_for_multimodal(
        batch["input_ids"], None, batch["attention_mask"], None, batch["labels"], images
    )
    hidden = base.model(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions)[0]
    # Not the model's own forward, which rounds its logits to fp32.
    logits = torch.nn.functional.linear(hidden, base.lm_head.weight)[:, :-1]
    predicted = labels[:, 1:]
    nll = -logits.log_softmax(-1).gather(-1, predicted.clamp(min=0)[..., None])[..., 0]
    weights = torch.ones(len(WEIGHTS), dtype=torch.float32)
    if task_ids is not None:
        weights = torch.tensor(list(WEIGHTS.values()), dtype=torch.float32)
    each = weights.double()[
        torch.zeros(len(labels), dtype=torch.int64) if task_ids is None else task_ids
    ]
    each = each[:, None] * (predicted != -100)
    loss = (each * nll).sum() / each.sum()
    loss.backward()
    torch.set_default_dtype(torch.float32)
    return float(loss), {n: p.grad for n, p in copied.named_parameters() if p.grad is not None}


def norm_in_fp64(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """LlamaRMSNorm."""
    return (
        norm.weight
        * hidden
        * (hidden.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    )


def compare(model: Any, expected: Gradients, what: str) -> None:
    """All gradients, by their distance over their length."""
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    off = {
        name: float((found[name].double() - each).norm() / each.norm().clamp(min=1e-30))
        for name, each in expected.items()
    }
    worst = max(off, key=off.__getitem__)
    print(f"  {len(off)} gradients, at most {off[worst]:.1e} off ({worst})")
    assert off[worst] < 2e-5, what


def several_images_and_sizes(folder: Path) -> None:
    """What the replay counts, for batches that LLaVA lays out in other ways."""
    trainer = make_trainer(folder)
    model = trainer.model
    replay = visatb.trainers.llava.LabelReplay(model)
    batch = first_batch(trainer)
    ids, labels, mask = batch["input_ids"], batch["labels"], batch["attention_mask"]
    images = batch["images"]
    stack = torch.stack([images[0]] * 5)
    model.config.image_grid_pinpoints = [[28, 56], [56, 28], [56, 56]]
    newline = torch.nn.Parameter(torch.zeros(model.config.hidden_size))
    layouts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "one image each": ({"images": images}, {}),
        "cut off": ({"images": images}, {"tokenizer_model_max_length": 105}),
        "padded left": ({"images": images}, {"tokenizer_padding_side": "left"}),
        "a list of images": ({"images": list(images)}, {}),
        "patches of images, flat": ({"images": [stack] * len(ids)}, {}),
        "anyres": (
            {"images": [stack] * len(ids), "image_sizes": [(50, 50)] * len(ids)},
            {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial"},
        ),
        "anyres, unpadded": (
            {"images": [stack] * len(ids), "image_sizes": [(90, 70)] * len(ids)},
            {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"},
        ),
    }
    for name, (given, settings) in layouts.items():
        before = {key: getattr(model.config, key, None) for key in settings}
        model.config.update(settings)
        model.model.image_newline = newline
        with torch.no_grad():
            *_, expanded = model.prepare_inputs_labels_for_multimodal(
                ids, None, mask, None, labels, given["images"], given.get("image_sizes")
            )
        counted = replay.labels_of(
            {**batch, "image_sizes": given.get("image_sizes"), "images": given["images"]}
        )
        assert torch.equal(counted, expanded), name
        print(f"replay, {name}: {tuple(expanded.shape)}, the labels are those of the model")
        model.config.update(before)


# --- whole trainings ------------------------------------------------------------------------------


def steps_of_the_trainer(folder: Path) -> None:
    """Three steps in one process, with accumulation, and on two ranks; and the authors' mean."""
    plans: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
        "1 rank, batch 8": (1, {"per_device_train_batch_size": 8}, {}),
        "1 rank, batch 4, 2 micro-batches": (1, {"gradient_accumulation_steps": 2}, {}),
        "2 ranks, batch 4": (2, {}, {}),
        "2 ranks, batch 2, 2 micro-batches": (
            2,
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
            {},
        ),
        "2 ranks, batch 2, 2 micro-batches, linear": (
            2,
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
            {"linear": True},
        ),
    }
    results = {name: train(folder, *plan) for name, plan in plans.items()}
    first = results["1 rank, batch 8"]
    for name, (losses, parameters) in results.items():
        off = distance(parameters, first[1])
        worst = max(abs(a - b) / b for a, b in zip(losses, first[0], strict=True))
        print(f"3 steps, {name}: logged losses {worst:.1e} off, parameters {off:.1e}")
        assert worst < 1e-5
        assert off < 1e-6
    plan = plans["2 ranks, batch 2, 2 micro-batches"]
    losses, parameters = train(folder, plan[0], plan[1], {"scope": "local"})
    worst = max(abs(a - b) / b for a, b in zip(losses, first[0], strict=True))
    off = distance(parameters, first[1])
    print(f'3 steps, the same, scope="local": logged losses {worst:.1e} off, parameters {off:.1e}')
    assert off > 1e-4


def evaluations(folder: Path) -> None:
    """All samples, in batches and on ranks that do not divide them; the training stays the same."""
    for options in ({}, {"linear": True}):
        trainer = make_trainer(folder, per_device_eval_batch_size=5)
        trainer.eval_dataset = trainer.train_dataset
        visatb.trainers.llava.install(trainer, WEIGHTS, **options)
        batch = first_batch(trainer, SAMPLES)
        expected = in_fp64(trainer.model, batch, batch["task_ids"])[0]
        found = quietly(trainer.evaluate)["eval_loss"]
        what = ", ".join([*(f"{k}={v}" for k, v in options.items()), "evaluation"])
        report(f"{what}, {SAMPLES} samples in batches of 5", found, expected)
    plan = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 5}
    evaluating = {**plan, "evaluation_strategy": "steps", "eval_steps": 1}
    losses, parameters = train(folder, 2, plan, {})
    found_losses, found_parameters = train(folder, 2, evaluating, {})
    off = distance(found_parameters, parameters)
    print(f"3 steps, 2 ranks, evaluated after each: parameters {off:.1e} off")
    assert off == 0
    # In the log every step is followed by its evaluation.
    assert found_losses[::2] == losses
    alone, _ = train(folder, 1, {**evaluating, "per_device_train_batch_size": 8}, {})
    pairs = list(zip(found_losses[1::2], alone[1::2], strict=True))
    worst = max(abs(a - b) / b for a, b in pairs)
    print(f"3 evaluations, 2 ranks, batch 5: losses {worst:.1e} off those of 1 rank")
    assert len(pairs) == 3
    assert worst < 1e-5


def resumed(folder: Path) -> None:
    """A training that went on from a checkpoint inside of an epoch, with the same bits."""
    arguments = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "output_dir": str(folder / "kept"),
        "save_strategy": "steps",
        "save_steps": 2,
        "optim": "adamw_torch",
        "save_safetensors": False,
        "group_by_modality_length": True,
    }
    trainer = make_trainer(folder, **arguments)
    visatb.trainers.llava.install(trainer, WEIGHTS)
    whole = quietly(trainer.train)
    expected = flat(trainer.model)
    again = make_trainer(folder, **arguments)
    visatb.trainers.llava.install(again, WEIGHTS)
    quietly(lambda: again.train(resume_from_checkpoint=str(folder / "kept" / "checkpoint-4")))
    off = distance(flat(again.model), expected)
    print(f"grouped by length, resumed at step 4 of {whole.global_step}: parameters {off:.1e} off")
    assert off == 0


def train(folder: Path, ranks: int, arguments: dict[str, Any], options: dict[str, Any]) -> Any:
    """(losses as logged, with those of evaluations, parameters) of rank 0 of so many processes."""
    output = folder / "trained.pt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            train_rank(folder, rank, ranks, port, arguments, options, output)
            os._exit(0)
        children.append(child)
    assert not any(os.waitpid(child, 0)[1] for child in children)
    return torch.load(output)


def train_rank(
    folder: Path,
    rank: int,
    ranks: int,
    port: int,
    arguments: dict[str, Any],
    options: dict[str, Any],
    output: Path,
) -> None:
    """One process of a training; samples come in their order."""
    if ranks > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        arguments = {**arguments, "ddp_backend": "gloo"}
    trainer = make_trainer(folder, learning_rate=0.1, max_grad_norm=0, optim="sgd", **arguments)
    if trainer.args.evaluation_strategy != "no":
        trainer.eval_dataset = trainer.train_dataset
    visatb.trainers.llava.install(trainer, WEIGHTS, **options)
    trainer._get_train_sampler = lambda: torch.utils.data.SequentialSampler(trainer.train_dataset)
    quietly(trainer.train)
    losses = [entry[key] for entry in trainer.state.log_history for key in LOSSES if key in entry]
    if rank == 0:
        shares = [
            k for k in trainer.state.log_history[0] if k.startswith(("loss/", "token_share/"))
        ]
        assert len(shares) == 6, shares
        torch.save((losses, flat(trainer.model)), output)


# --- wrong use ------------------------------------------------------------------------------------


def wrong_use(folder: Path) -> None:
    """Each is one clear error."""
    with refused("a task without a weight"):
        visatb.trainers.llava.install(make_trainer(folder), {"caption": 1.0, "vqa": 1.0})
    with refused("no task in the data"):
        visatb.trainers.llava.install(make_trainer(folder), WEIGHTS, task_field="source")
    with refused("installed twice"):
        trainer = make_trainer(folder)
        visatb.trainers.llava.install(trainer, WEIGHTS)
        visatb.trainers.llava.install(trainer, WEIGHTS)
    with refused("another collator afterwards"):
        trainer = make_trainer(folder)
        stock = trainer.data_collator
        visatb.trainers.llava.install(trainer, WEIGHTS)
        plain = [trainer.train_dataset._dataset[i] for i in range(2)]
        trainer.model(**stock(plain))
    with refused("steps that reach into the next epoch"):
        trainer = make_trainer(folder, num_train_epochs=2, gradient_accumulation_steps=4)
        visatb.trainers.llava.install(trainer, WEIGHTS)
        quietly(trainer.train)
    with refused("labels in forward that were not counted"):
        trainer = make_trainer(folder)
        visatb.trainers.llava.install(trainer, WEIGHTS)
        batches = iter(trainer.get_train_dataloader())
        batch = next(batches)
        trainer.model.config.tokenizer_model_max_length = 103
        trainer.model(**batch)


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Prints the error that must come."""
    try:
        yield
    except (visatb.ArgumentError, visatb.Error) as error:
        print(f"refused, {what}:\n  {type(error).__name__}: {error}")
    else:
        raise AssertionError(f"{what} was not refused")


# --- small things ---------------------------------------------------------------------------------


def first_batch(trainer: Any, samples: int = 8) -> dict[str, Any]:
    """The first samples in their order, by the trainer's own dataset and collator; no Step."""
    batch: dict[str, Any] = trainer.data_collator(
        [trainer.train_dataset[i] for i in range(samples)]
    )
    return batch


def report(what: str, found: float, expected: float) -> None:
    """Prints and asserts a loss."""
    off = abs(found - expected) / expected
    print(f"{what}: {found:.7f}, in fp64 {expected:.7f}, {off:.1e} off")
    assert off < 2e-6, what


def flat(model: Any) -> torch.Tensor:
    """All parameters in one."""
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative, of two vectors."""
    return float((a - b).norm() / b.norm())


def quietly(call: Callable[[], Any]) -> Any:
    """The call, without what a trainer prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call()


if __name__ == "__main__":
    main()
