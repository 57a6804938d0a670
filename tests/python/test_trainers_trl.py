"""TRL's SFTTrainer trains with the mix-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")
trl = pytest.importorskip("trl", reason="trl is needed")
datasets = pytest.importorskip("datasets", reason="datasets is needed")

from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from visatb import ArgumentError  # noqa: E402
from visatb.trainers import VITWTrainerMixin  # noqa: E402

WEIGHTS = {"sums": 0.5, "names": 2.0}
ROWS = [
    {"prompt": "what is one and one ?", "completion": " two", "task": "sums"},
    {"prompt": "who is there ?", "completion": " it is one of us and no other", "task": "names"},
    {"prompt": "what is two and one ?", "completion": " three", "task": "sums"},
    {"prompt": "who is it ?", "completion": " us", "task": "names"},
] * 2
PLAIN = [{"text": f"{row['prompt']} {row['completion']}", "task": row["task"]} for row in ROWS]


class VITWSFTTrainer(VITWTrainerMixin, trl.SFTTrainer):
    """The two lines."""


def make_tokenizer() -> Any:
    words = sorted({word for row in PLAIN for word in row["text"].split()})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_trainer(folder: Path, rows: list[dict[str, Any]] = ROWS, **arguments: Any) -> Any:
    tokenizer = make_tokenizer()
    torch.manual_seed(2)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )
    options = arguments.pop("options", {"task_weights": WEIGHTS})
    config = trl.SFTConfig(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "completion_only_loss": True if rows is ROWS else None,
            **arguments,
        }
    )
    return VITWSFTTrainer(
        model,
        config,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        **options,
    )


def eq_2(model: Any, batches: list[dict[str, Any]]) -> float:
    """The loss of a step in fp64, by the batches that the trainer's own loader gives."""
    numerator = denominator = 0.0
    for batch in batches:
        with torch.no_grad():
            inputs = {k: v for k, v in batch.items() if k not in ("labels", "task_ids")}
            logits = model(**inputs).logits.double()[:, :-1]
        labels = batch["labels"][:, 1:]
        nll = -logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        by_token = torch.tensor(list(WEIGHTS.values())).double()[by_row(batch, labels)]
        weight = by_token * (labels != -100)
        numerator += float((weight * nll).sum())
        denominator += float(weight.sum())
    return numerator / denominator


def by_row(batch: dict[str, Any], labels: Any) -> Any:
    ids = batch["task_ids"]
    return ids[:, 1:] if ids.dim() == 2 else ids[:, None].expand_as(labels)


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_a_few_steps(folder: Path, linear: bool, padding_free: bool) -> None:
    options = {"task_weights": WEIGHTS, "linear": linear}
    trainer = make_trainer(folder, options=options, padding_free=padding_free, max_length=None)
    torch.manual_seed(trainer.args.seed)
    batches = [dict(batch) for batch in trainer.get_train_dataloader()][:2]
    for batch in batches:
        batch.pop("visatb_valid_rows", None)
    before = eq_2(trainer.model, batches)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(losses) == 4
    assert losses[0] == pytest.approx(before, rel=1e-5)
    assert losses[-1] < losses[0]
    first = trainer.state.log_history[0]
    assert first["token_share/sums"] + first["token_share/names"] == pytest.approx(1)


def test_packing_is_refused_for_it_drops_the_tasks(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="a dataset has no column 'task' .*packing=True"):
        make_trainer(folder, PLAIN, packing=True, max_length=16)


def test_another_loss_beside_is_refused(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="loss_type = 'dft'; expected none"):
        make_trainer(folder, loss_type="dft")
