"""The code of docs/trainers.md and docs/engines.md runs, or says with what it was last run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="PyTorch 2.6 or newer is needed")
pytest.importorskip("accelerate", reason="accelerate is needed")
transformers = pytest.importorskip("transformers", reason="transformers is needed")

from visatb import compute_weights  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("trainers", "engines", "trainers-recipes")
WORDS, NAMES = 19, ("caption", "vqa", "grounding")


def sections(page: str) -> dict[str, str]:
    """Of a page, by their titles."""
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def code_of(section: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def run(page: str, title: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names that a section's code leaves, which is all there is."""
    (code,) = code_of(sections(page)[title])
    exec(compile(code, f"docs/{page}.md", "exec"), names)  # noqa: S102 - our own file
    return names


def samples(count: int = 8) -> list[dict[str, Any]]:
    return [
        {
            "input_ids": (words := torch.arange(n, n + 6) % WORDS),
            "labels": words,
            "task": NAMES[n % 3],
        }
        for n in range(count)
    ]


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def make_model() -> Any:
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )


@pytest.fixture
def world(examples: Path, folder: Path) -> dict[str, Any]:
    """What the pages take for granted: a model, data, and a weights.json in the working folder."""
    compute_weights(examples / "full.json").save(folder / "weights.json")
    return {
        "model": make_model(),
        "dataset": samples(),
        "collator": collate,
        "args": transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=2,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_strategy="no",
        ),
    }


def test_hugging_faces_trainer(world: dict[str, Any]) -> None:
    log = run("trainers", "Hugging Face's Trainer", world)["trainer"].state.log_history
    assert [entry["loss"] > 0 for entry in log[:2]] == [True, True]
    assert "loss/vqa" in log[0]


def test_trls_trainer(world: dict[str, Any]) -> None:
    trl = pytest.importorskip("trl", reason="trl is needed")
    datasets = pytest.importorskip("datasets", reason="datasets is needed")
    from test_trainers_trl import PLAIN, make_tokenizer

    tokenizer = make_tokenizer()
    rows = [{**row, "task": NAMES[n % 3]} for n, row in enumerate(PLAIN)]
    world |= {"dataset": datasets.Dataset.from_list(rows), "tokenizer": tokenizer}
    world["model"].resize_token_embeddings(len(tokenizer))
    world["args"] = trl.SFTConfig(
        world["args"].output_dir,
        max_steps=2,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    trainer = run("trainers", "TRL's SFTTrainer", world)["trainer"]
    trainer.train()
    assert "loss/vqa" in trainer.state.log_history[0]


def test_any_loop(world: dict[str, Any]) -> None:
    train_epoch = run("trainers", "Any loop of your own", {})["train_epoch"]
    model = world["model"]
    before = model.lm_head.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_epoch(lambda words: model(input_ids=words).logits, optimizer, samples(), collate)
    assert not torch.equal(model.lm_head.weight, before)


def test_weights_that_change_from_step_to_step(world: dict[str, Any]) -> None:
    names = run("trainers", "Weights that change from step to step", {})
    items = samples()
    for item in items:
        item["task_ids"] = torch.tensor(NAMES.index(item.pop("task")))
    batches = [collate(items[n : n + 2]) for n in range(0, 8, 2)]
    model, counter = world["model"], names["counter"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = counter.step_weights.state_dict()
    names["train_epoch"](lambda words: model(input_ids=words).logits, optimizer, batches)
    assert counter.step_weights.state_dict() != before


@pytest.mark.usefixtures("one_rank")
def test_the_linear_form_inside_an_engine(world: dict[str, Any]) -> None:
    items = samples()
    for item in items:
        item["task_ids"] = torch.tensor(NAMES.index(item.pop("task")))
    loader = [collate(items[n : n + 2]) for n in range(0, 8, 2)]
    names = run(
        "engines", "The linear form inside an engine", {"model": world["model"], "loader": loader}
    )
    assert names["loss"].isfinite()
    assert world["model"].lm_head.weight.grad.any()


@pytest.mark.parametrize("page", PAGES)
def test_every_code_runs_here_or_says_with_what_it_was_last_run(page: str) -> None:
    source = Path(sys.modules[__name__].__file__ or "").read_text(encoding="utf-8")
    for title, section in sections(page).items():
        if code_of(section):
            is_run = f'"{page}", "{title}"' in source
            is_marked = "Last run with" in section or "not run" in title
            assert is_run or is_marked, title
