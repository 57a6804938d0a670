"""VITW through the engines that trainers use: each trains what one plain process trains in fp32."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="PyTorch 2.6 or newer is needed")
pytest.importorskip("transformers", reason="transformers is needed")
pytest.importorskip("accelerate", reason="accelerate is needed")

from torch import nn  # noqa: E402
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: E402
from trainer_ranks import (  # noqa: E402
    EVALUATED,
    SEQ,
    TASKS,
    VOCAB,
    Samples,
    collate,
    make_model,
    make_optimizer,
    make_tokenizer,
)
from transformers import TrainingArguments  # noqa: E402

from visatb.torch import VITWLinearLoss, VITWLoss  # noqa: E402
from visatb.trainers import (  # noqa: E402
    LinearHead,
    StepLoader,
    TaskCollator,
    TaskTable,
    VITWTrainer,
    VITWTrainerMixin,
)

WEIGHTS = list(TASKS.values())
LINEAR = {"options": {"linear": True}}
CHECKPOINTING = {"gradient_checkpointing": True}
REENTRANT = {**CHECKPOINTING, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
COMPILED = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
SHARDED = {"fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}}

Settings = dict[str, Any]
# By Hugging Face's Trainer where no engine is named; each with two micro-batches a step.
ONE_PROCESS: dict[str, Settings] = {
    "evaluated": {"evaluates": True},
    "evaluated, linear": {"evaluates": True, **LINEAR},
    "checkpointed": {"arguments": CHECKPOINTING},
    "checkpointed by re-entry": {"arguments": REENTRANT},
    "checkpointed, linear": {"arguments": CHECKPOINTING, **LINEAR},
    "compiled": {"arguments": COMPILED},
    "compiled, linear": {"arguments": COMPILED, **LINEAR},
}
ONE_PROCESS_LORA: dict[str, Settings] = {
    "LoRA": {},
    "LoRA, linear": LINEAR,
    "LoRA checkpointed, linear": {"arguments": CHECKPOINTING, **LINEAR},
}
ONE_PROCESS_BF16: dict[str, Settings] = {
    "autocast": {"arguments": {"bf16": True}},
    "autocast, linear": {"arguments": {"bf16": True}, **LINEAR},
}
TWO_RANKS: dict[str, Settings] = {
    "DDP in a loop": {"engine": "ddp"},
    "DDP in a loop, compiled loss": {"engine": "ddp", "loop": {"compiled": True}},
    "DDP in a loop, unused": {"engine": "ddp", "loop": {"find_unused_parameters": True}},
    "DDP in a loop, static": {"engine": "ddp", "loop": {"static_graph": True}},
    "DDP in a loop, linear": {"engine": "ddp", "loop": {"linear": True}},
    "DDP in a loop, linear, unused": {
        "engine": "ddp",
        "loop": {"linear": True, "find_unused_parameters": True},
    },
    "DDP in a loop, linear, static": {
        "engine": "ddp",
        "loop": {"linear": True, "static_graph": True},
    },
    "DDP": {"evaluates": True},
    "DDP, linear": {"evaluates": True, **LINEAR},
    "DDP in place": {"options": {"inplace": True}},
    "FSDP2 in a loop": {"engine": "fsdp2"},
    "FSDP2 in a loop, head alone": {"engine": "fsdp2", "loop": {"head_alone": True}},
    "FSDP2 in a loop, linear": {"engine": "fsdp2", "loop": {"linear": True}},
    "FSDP2": {"arguments": SHARDED, "evaluates": True},
    "FSDP2 in place": {"arguments": SHARDED, "options": {"inplace": True}},
    "FSDP2, linear": {"arguments": SHARDED, "evaluates": True, **LINEAR},
    "FSDP2 compiled": {"arguments": {**SHARDED, **COMPILED}},
}
TWO_RANKS_LORA: dict[str, Settings] = {
    "DDP, LoRA": {},
    "DDP, LoRA, linear": LINEAR,
    "FSDP2, LoRA": {"arguments": SHARDED},
}
TWO_RANKS_BF16: dict[str, Settings] = {
    "FSDP2 in a loop, bf16": {"engine": "fsdp2", "loop": {"bf16": True}},
    "FSDP2 in a loop, bf16, linear": {"engine": "fsdp2", "loop": {"bf16": True, "linear": True}},
    "FSDP2, bf16": {"arguments": {"bf16": True, **SHARDED}},
}
# What the others are compared with: plain runs, and one that is not Eq. 2.
BY_HAND: dict[str, Settings] = {
    "by hand": {"engine": "by hand", "accumulation": 1},
    "by hand, LoRA": {"engine": "by hand", "accumulation": 1, "adapter": True},
    "by hand, gently": {"engine": "by hand", "accumulation": 1, "optimizer": "gentle"},
    "a mean of each micro-batch": {"accumulation": 8, "scope": "local", "optimizer": "gentle"},
}
LORA, GENTLE = {"adapter": True}, {"optimizer": "gentle"}


def plans(*groups: tuple[dict[str, Settings], Settings]) -> list[Settings]:
    return [
        {"name": name, "accumulation": 2, "optimizer": "sgd", **common, **settings}
        for group, common in groups
        for name, settings in group.items()
    ]


PLANS = {
    1: plans(
        (BY_HAND, {}), (ONE_PROCESS, {}), (ONE_PROCESS_LORA, LORA), (ONE_PROCESS_BF16, GENTLE)
    ),
    2: plans((TWO_RANKS, {}), (TWO_RANKS_LORA, LORA), (TWO_RANKS_BF16, GENTLE)),
}
HAS_PEFT = importlib.util.find_spec("peft") is not None


@functools.cache
def run(ranks: int) -> tuple[str, dict[str, Any]]:
    """What went wrong, and what all plans of so many processes came to, trained in one go."""
    wanted = [plan for plan in PLANS[ranks] if HAS_PEFT or not plan.get("adapter")]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "results.json"
        program = [sys.executable, Path(__file__).with_name("trainer_ranks.py"), output]
        done = subprocess.run(
            [*program, str(ranks), json.dumps(wanted)], capture_output=True, text=True, check=False
        )
        return (done.stderr, {}) if done.returncode else ("", json.loads(output.read_text()))


def results(ranks: int) -> dict[str, Any]:
    failure, found = run(ranks)
    assert not failure, failure
    return found


def trained(ranks: int, name: str) -> Any:
    return torch.tensor(results(ranks)[name]["parameters"], dtype=torch.float64)


def everything(group_of_one: dict[str, Settings], group_of_two: dict[str, Settings]) -> Any:
    return pytest.mark.parametrize(
        ("ranks", "name"),
        [(1, name) for name in group_of_one] + [(2, name) for name in group_of_two],
        ids=[*group_of_one, *group_of_two],
    )


@everything(ONE_PROCESS, TWO_RANKS)
def test_an_engine_trains_what_one_plain_process_trains(ranks: int, name: str) -> None:
    """Over steps of which one has no label at all, and one has them all on one rank."""
    expected = results(1)["by hand"]
    losses = results(ranks)[name]["losses"]
    assert losses == pytest.approx(expected["losses"], rel=1e-5, abs=1e-6)
    torch.testing.assert_close(trained(ranks, name), trained(1, "by hand"), rtol=0, atol=5e-6)


@pytest.mark.skipif(not HAS_PEFT, reason="peft is needed")
@everything(ONE_PROCESS_LORA, TWO_RANKS_LORA)
def test_an_adapter_beside_a_frozen_head_is_trained_as_in_one_plain_process(
    ranks: int, name: str
) -> None:
    torch.testing.assert_close(trained(ranks, name), trained(1, "by hand, LoRA"), rtol=0, atol=1e-6)


@everything(ONE_PROCESS_BF16, TWO_RANKS_BF16)
def test_in_bf16_an_engine_differs_from_fp32_by_rounding(ranks: int, name: str) -> None:
    """By little of what another denominator would make of it."""
    expected = trained(1, "by hand, gently")
    error = torch.linalg.norm(trained(ranks, name) - expected)
    other = torch.linalg.norm(trained(1, "a mean of each micro-batch") - expected)
    assert error < 0.02 * other
    losses = results(ranks)[name]["losses"]
    assert losses == pytest.approx(results(1)["by hand, gently"]["losses"], rel=1e-3)


EVALUATING = {
    ranks: [name for name, settings in group.items() if settings.get("evaluates")]
    for ranks, group in ((1, ONE_PROCESS), (2, TWO_RANKS))
}


@pytest.mark.parametrize("kind", ["evaluated", "predicted"])
@pytest.mark.parametrize(
    ("ranks", "name"), [(ranks, name) for ranks, names in EVALUATING.items() for name in names]
)
def test_the_loss_of_an_evaluation_is_that_of_all_samples_each_once(
    ranks: int, name: str, kind: str
) -> None:
    """Whatever its batches, the samples that fill them up, and whether predictions are kept."""
    result = results(ranks)[name]
    expected = result["evaluated_by_hand"]
    found = {key: value for key, value in result[kind].items() if key.startswith("eval_loss")}
    assert found == pytest.approx(expected, rel=1e-5)
    shares = [result[kind][f"eval_token_share/{task}"] for task in TASKS]
    assert shares == pytest.approx(token_shares(), rel=1e-9)
    # The linear form, too, gives logits where they are wanted.
    assert result["prediction_shape"] == [EVALUATED, SEQ, VOCAB]


def test_the_linear_form_evaluates_without_logits_unless_they_are_wanted(tmp_path: Path) -> None:
    model = make_model()
    widths = set()
    model.lm_head.register_forward_hook(lambda _, __, output: widths.add(output.shape[-1]))
    trainer = VITWTrainer(
        model,
        TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True),
        data_collator=collate,
        task_weights=TASKS,
        linear=True,
    )
    trainer.evaluate(Samples().items[:8])
    assert widths == {model.config.hidden_size}
    trainer.predict(Samples().items[:8])
    assert widths == {model.config.hidden_size, VOCAB}


def token_shares() -> list[float]:
    given = batch_of(Samples().items[:EVALUATED])
    valid = (given["labels"][:, 1:] != -100).sum(1)
    tokens = [int(valid[given["task_ids"] == task].sum()) for task in range(len(TASKS))]
    return [count / sum(tokens) for count in tokens]


def batch_of(items: list[dict[str, Any]]) -> dict[str, Any]:
    return TaskCollator(collate, TaskTable(TASKS))(items)


class Whole(nn.Module):
    """Takes a batch with all that is in it, as some trainers call their models."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make_model()
        self.criterion = VITWLoss(WEIGHTS, shift=True)
        self.seen: dict[str, Any] = {}

    def forward(self, batch: dict[str, Any]) -> Any:
        logits = self.model(input_ids=batch["input_ids"]).logits
        self.seen = {**batch, "logits": logits, "lambda": self.criterion.weights_on(logits.device)}
        return self.criterion(
            logits,
            batch["labels"],
            batch["task_ids"],
            denominator=batch["visatb_step"].denominator,
        )


@pytest.mark.usefixtures("one_rank")
def test_an_engine_that_casts_what_it_is_given_to_bf16_leaves_step_and_lambda_exact() -> None:
    # The policy casts what floats in a batch: as tensors there, both would have been rounded.
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, cast_forward_inputs=True)
    whole = fully_shard(Whole(), mp_policy=policy)
    items = Samples().items[:16]
    batches = [batch_of(items[:8]), batch_of(items[8:])]
    for batch in batches:
        batch["floats"] = torch.tensor([0.4, 1.7])
    denominator = loss_weight(batches)
    for batch in StepLoader(batches, whole.criterion, accumulation_steps=2):
        whole(batch).backward()
        assert whole.seen["floats"].dtype == whole.seen["logits"].dtype == torch.bfloat16
        step = whole.seen["visatb_step"]
        assert step.denominator.dtype == torch.float64
        assert step.denominator.item() == pytest.approx(denominator, rel=1e-15)
        assert torch.equal(whole.seen["lambda"], torch.tensor(WEIGHTS, dtype=torch.float32))


def loss_weight(batches: list[dict[str, Any]]) -> float:
    weights = torch.tensor(WEIGHTS).double()
    valid = [(batch["labels"][:, 1:] != -100).sum(1) for batch in batches]
    return sum(
        float((weights[batch["task_ids"]] * count).sum())
        for batch, count in zip(batches, valid, strict=True)
    )


def test_the_linear_form_is_compiled_once_and_not_for_every_batch() -> None:
    compiled = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model = make_model()
    criterion = VITWLinearLoss(WEIGHTS, shift=True, return_stats=True)
    head = LinearHead(model, criterion)
    fast = torch.compile(model, backend=backend)
    graphs = []
    for step in range(6):
        given = batch_of(Samples().items[4 * step : 4 * step + 4])
        loss = loss_in(head, fast, given)
        torch.testing.assert_close(loss, loss_in(head, model, given))
        graphs.append(len(compiled))
    assert graphs[0] > 0
    assert graphs[-1] == graphs[1]


def loss_in(head: LinearHead, model: Any, given: dict[str, Any]) -> Any:
    inputs = {key: given[key] for key in ("input_ids", "labels")}
    return head.loss_of(model, inputs, given["task_ids"], None)[0]


@pytest.mark.parametrize("linear", [False, True], ids=["logits", "linear"])
def test_trl_trains_what_one_plain_process_trains(tmp_path: Path, linear: bool) -> None:
    trl = pytest.importorskip("trl", reason="TRL is needed")
    datasets = pytest.importorskip("datasets", reason="datasets is needed")

    class InOrder(VITWTrainerMixin, trl.SFTTrainer):  # type: ignore[misc, name-defined]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model = make_model()
    optimizer = make_optimizer("sgd", model)
    arguments = trl.SFTConfig(
        str(tmp_path),
        max_length=None,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        max_grad_norm=0,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    items = [
        {"input_ids": item["input_ids"].tolist(), "labels": item["labels"].tolist(), "task": task}
        for item in Samples().items
        for task in [item["task"]]
    ]
    InOrder(
        model,
        arguments,
        train_dataset=datasets.Dataset.from_list(items),
        processing_class=make_tokenizer(),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)),
        task_weights=TASKS,
        linear=linear,
    ).train()
    found = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    torch.testing.assert_close(found, trained(1, "by hand"), rtol=0, atol=5e-6)
