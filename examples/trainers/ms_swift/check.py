"""VITW in ms-swift, for real: `swift sft` with the plugin, compared with Eq. 2 in fp64.

    python -m pip install -r examples/trainers/ms_swift/requirements.txt ./bindings/python
    python examples/trainers/ms_swift/check.py

Makes a tiny random Qwen2, its tokenizer and a dataset; trains a few steps on the CPU by ms-swift's
own command line, in one process and in two, with and without gradient accumulation, on the same
samples; and does the same steps again by autograd on the formula. Nothing is downloaded. Prints the
losses, and fails unless they agree; record.txt is what it printed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

import visatb

WEIGHTS = {"caption": 0.4, "vqa": 1.7, "ocr": 0.9}
STEPS, SAMPLES_A_STEP, RATE = 4, 16, 0.2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Relative, of fp32 in another order of its sums.
TOLERANCE = 1e-5

PLUGIN = "import visatb.trainers.swift\n"
# There is no flash attention without a GPU; transformers' own attention knows where the sequences
# in a row begin, too.
PLUGIN_WITHOUT_FLASH_ATTENTION = PLUGIN + (
    "from swift.arguments import SftArguments\n"
    "SftArguments._check_padding_free = lambda arguments: None\n"
)


class Run(NamedTuple):
    """One training by ms-swift.

    Attributes:
        name: what is printed.
        processes: how many, by torchrun if more than one.
        accumulation: micro-batches of a process in a step.
        options: more of its command line.
        plugin: the file for --external_plugins.
        steps: how many of its steps are those of the reference.
    """

    name: str
    processes: int
    accumulation: int
    options: tuple[str, ...] = ()
    plugin: str = PLUGIN
    steps: int = STEPS


VITW = ("--loss_type", "vitw")
PADDING_FREE = (*VITW, "--padding_free", "true", "--attn_impl", "sdpa")
STREAMED = (*VITW, "--streaming", "true", "--max_steps", str(STEPS))
# All samples of the first step in a row, in the order that packing likes.
PACKED = ("--packing", "true", "--packing_length", "4096", "--dataset", "first.jsonl")
RUNS = [
    Run("1 process, accumulation 1", 1, 1, VITW),
    Run("1 process, accumulation 2", 1, 2, VITW),
    Run("1 process, accumulation 16: batches of 1", 1, 16, VITW),
    Run("2 processes, accumulation 1", 2, 1, VITW),
    Run("2 processes, accumulation 2", 2, 2, VITW),
    Run("2, 2, padding_free", 2, 2, PADDING_FREE, PLUGIN_WITHOUT_FLASH_ATTENTION),
    Run("2, 2, streaming", 2, 2, STREAMED),
    Run(
        "1, 16, packing (first step)",
        1,
        16,
        (*PADDING_FREE, *PACKED),
        PLUGIN_WITHOUT_FLASH_ATTENTION,
        steps=1,
    ),
    # What is trained is another model after the first step.
    Run("2, 2, LoRA (first step)", 2, 2, (*VITW, "--tuner_type", "lora"), steps=1),
]


class Reference(NamedTuple):
    """What Eq. 2 gives.

    Attributes:
        losses: of each step.
        task_losses: the mean nll of each task in the first step.
        mean_of_halves: of the first step, what a mean over two micro-batches' own means would give.
    """

    losses: list[float]
    task_losses: dict[str, float]
    mean_of_halves: float


def make_model(folder: Path) -> None:
    """A tiny Qwen2, and a tokenizer whose every letter is a token."""
    padding, start, end = special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    # A space and the end of a line, as they are written in byte-level vocabularies.
    vocabulary = [*special, "\u0120", "\u010a", *LETTERS]
    model = models.BPE(vocab={token: place for place, token in enumerate(vocabulary)}, merges=[])
    letters = Tokenizer(model)
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        eos_token=end,
        pad_token=padding,
        additional_special_tokens=[start],
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        # Wide enough that tokens differ in their losses from the beginning.
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def make_samples() -> list[dict[str, Any]]:
    """Conversations of uneven length and task, so that no two micro-batches weigh the same."""
    source = random.Random(7)  # noqa: S311 - samples, not secrets

    def word(letters: int) -> str:
        return "".join(source.choices(LETTERS, k=letters))

    return [
        {
            "messages": [
                {"role": "user", "content": word(source.randint(3, 9))},
                {"role": "assistant", "content": word(source.randint(1, 40))},
            ],
            "channel": source.choices(list(WEIGHTS), [6, 2, 1])[0],
        }
        for _ in range(STEPS * SAMPLES_A_STEP)
    ]


def write_inputs(folder: Path, samples: list[dict[str, Any]]) -> None:
    """The model, the data, the weights and the plugins."""
    make_model(folder / "model")
    lines = [json.dumps(sample) for sample in samples]
    (folder / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "first.jsonl").write_text("\n".join(lines[:SAMPLES_A_STEP]), encoding="utf-8")
    weights = {"visatb_weights": 1, "tasks": list(WEIGHTS), "weights": WEIGHTS}
    (folder / "weights.json").write_text(json.dumps(weights), encoding="utf-8")
    for number, plugin in enumerate((PLUGIN, PLUGIN_WITHOUT_FLASH_ATTENTION)):
        (folder / f"plugin{number}.py").write_text(plugin, encoding="utf-8")


def free_port() -> str:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def command_of(run: Run, output: Path) -> list[str]:
    """The command line of ms-swift."""
    settings = {
        "model": "model",
        "model_type": "qwen2",
        "template": "qwen",
        "dataset": "data.jsonl",
        "split_dataset_ratio": 0,
        "dataset_shuffle": "false",
        "train_dataloader_shuffle": "false",
        "tuner_type": "full",
        "torch_dtype": "float32",
        "per_device_train_batch_size": SAMPLES_A_STEP // (run.processes * run.accumulation),
        "gradient_accumulation_steps": run.accumulation,
        "num_train_epochs": 1,
        "optim": "sgd",
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0,
        # Clipped gradients would all have one length, right or wrong.
        "max_grad_norm": 1000000000,
        "logging_steps": 1,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": "false",
        "gradient_checkpointing": "false",
        # Else accelerate would leave two processes apart, each with a model of its own.
        "use_cpu": "true",
        "save_strategy": "no",
        "report_to": "none",
        "check_model": "false",
        "add_version": "false",
        "output_dir": output,
        "external_plugins": "plugin0.py" if run.plugin == PLUGIN else "plugin1.py",
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "swift.cli.main", "sft", *words, *run.options]


def train(run: Run, folder: Path) -> list[dict[str, Any]]:
    """What ms-swift logs at each step."""
    output = Path(tempfile.mkdtemp(dir=folder))
    environment = os.environ | {
        "VISATB_WEIGHTS": "weights.json",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    if run.processes > 1:
        environment |= {"NPROC_PER_NODE": str(run.processes), "MASTER_PORT": free_port()}
    command = command_of(run, output)
    done = subprocess.run(  # noqa: S603 - ms-swift, with what stands above
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{run.name}: ms-swift failed\n{done.stdout}\n{done.stderr}")
    last = (output / "logging.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return [entry for entry in json.loads(last)["log_history"] if "loss" in entry]


def tokenize(folder: Path, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """input_ids and labels of each sample, by ms-swift's own template."""
    from swift.model import get_processor
    from swift.template import get_template

    processor = get_processor(str(folder / "model"), model_type="qwen2")
    template = get_template(processor, template_type="qwen")
    template.set_mode("train")
    return [template.encode(sample) for sample in samples]


def nll_of(model: Any, tokens: dict[str, Any]) -> Tensor:
    """Of each label of a sample that is not ignored; alone, so that nothing is padded."""
    labels = torch.tensor(tokens["labels"])[1:]
    logits = model(input_ids=torch.tensor([tokens["input_ids"]])).logits[0, :-1]
    log_p = logits.double().log_softmax(-1)
    valid = labels != -100
    return -log_p[valid].gather(1, labels[valid].unsqueeze(1)).squeeze(1)


def follow(folder: Path, samples: list[dict[str, Any]]) -> Reference:
    """The same steps by autograd on Eq. 2, as it is written, in fp64.

    But for what transformers computes in fp32 whatever the model's type, such as its norms.
    """
    model = Qwen2ForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    tokens = tokenize(folder, samples)
    losses, first = [], None
    for start in range(0, len(samples), SAMPLES_A_STEP):
        places = range(start, start + SAMPLES_A_STEP)
        nll = [nll_of(model, tokens[place]) for place in places]
        tasks = [samples[place]["channel"] for place in places]
        if first is None:
            first = [part.detach() for part in nll], tasks
        loss = equation_two(nll, tasks)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert first is not None
    return Reference(losses, *look_at(*first))


def equation_two(nll: list[Tensor], tasks: list[str]) -> Tensor:
    """Its numerator over its denominator, for the nll of each sample's tokens."""
    weighted = [WEIGHTS[task] * part.sum() for part, task in zip(nll, tasks, strict=True)]
    weight = sum(WEIGHTS[task] * len(part) for part, task in zip(nll, tasks, strict=True))
    return torch.stack(weighted).sum() / weight


def look_at(nll: list[Tensor], tasks: list[str]) -> tuple[dict[str, float], float]:
    """The mean nll of each task; and the mean of the two halves' own losses."""
    by_task = {
        name: torch.cat([part for part, task in zip(nll, tasks, strict=True) if task == name])
        for name in set(tasks)
    }
    half = len(nll) // 2
    halves = [equation_two(nll[part], tasks[part]) for part in (slice(half), slice(half, None))]
    return {name: float(each.mean()) for name, each in by_task.items()}, float(sum(halves)) / 2


def distance(losses: list[float], expected: list[float]) -> float:
    """The largest relative one."""
    return max(abs(one - two) / two for one, two in zip(losses, expected, strict=True))


def show(name: str, losses: list[float], expected: list[float]) -> float:
    """Prints a line of the table."""
    far = distance(losses, expected)
    numbers = "  ".join(f"{loss:.8f}" for loss in losses)
    print(f"{name:46} {numbers:46}   {far:.1e}", flush=True)
    return far


def compare_sgd(folder: Path, reference: Reference) -> None:
    """Each way of splitting a step against the reference."""
    for run in RUNS:
        logs = train(run, folder)[: run.steps]
        expected = reference.losses[: run.steps]
        far = show(run.name, [entry["loss"] for entry in logs], expected)
        require(far <= TOLERANCE, f"{run.name} is {far} off Eq. 2")
        for task, nll in reference.task_losses.items():
            logged = logs[0][f"loss/{task}"]
            off = abs(logged - nll) / nll
            require(off <= TOLERANCE, f"{run.name} logs loss/{task} = {logged}, not {nll}")


def compare_stock(folder: Path, reference: Reference) -> None:
    """ms-swift's own loss, which must be another."""
    logs = train(Run("stock", 1, 1), folder)
    far = show("ms-swift's own loss", [entry["loss"] for entry in logs], reference.losses)
    require(far > 100 * TOLERANCE, "the stock loss is the same")


def require(holds: bool, otherwise: str) -> None:
    """Ends the program unless that holds."""
    if not holds:
        sys.exit(f"FAILED: {otherwise}")


def main() -> None:
    """Prints versions, losses and what they were compared with."""
    packages = ("ms-swift", "transformers", "accelerate", "torch", "peft", "datasets", "modelscope")
    print(f"visatb {visatb.__version__}, Python {sys.version.split()[0]}")
    print(", ".join(f"{package} {version(package)}" for package in packages))
    print(f"Weights {WEIGHTS}; {SAMPLES_A_STEP} samples a step; SGD at {RATE}; fp32, on the CPU\n")
    with tempfile.TemporaryDirectory() as name:
        folder, samples = Path(name), make_samples()
        write_inputs(folder, samples)
        reference = follow(folder, samples)
        print(f"{'The loss of each step':46} {'farthest, relative':>58}")
        show("Eq. 2 by autograd in fp64", reference.losses, reference.losses)
        compare_sgd(folder, reference)
        compare_stock(folder, reference)
    first, halves = reference.losses[0], reference.mean_of_halves
    require(abs(halves - first) / first > 100 * TOLERANCE, "halves of a step weigh the same")
    print(f"\nStep 1 as a mean of two micro-batches' own losses would be {halves:.8f}.")
    print(f"All agree within {TOLERANCE:.0e}; the stock loss is another.")


if __name__ == "__main__":
    main()
