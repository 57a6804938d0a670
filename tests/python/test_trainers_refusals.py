"""What would train another loss than was asked for is refused, and says what would be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="PyTorch 2.6 or newer is needed")
transformers = pytest.importorskip("transformers", reason="transformers is needed")
pytest.importorskip("accelerate", reason="accelerate is needed")

from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.nn import functional  # noqa: E402
from trainer_loops import loss_by_hand  # noqa: E402
from trainer_ranks import (  # noqa: E402
    SEQ,
    TASKS,
    VOCAB,
    Samples,
    collate,
    make_model,
    make_tokenizer,
)
from transformers import (  # noqa: E402
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    TrainingArguments,
)

from visatb import ArgumentError, UnsupportedError  # noqa: E402
from visatb.torch import VITWLinearLoss  # noqa: E402
from visatb.trainers import (  # noqa: E402
    LinearHead,
    TaskCollator,
    TaskTable,
    VITWTrainer,
    huggingface,
)
from visatb.trainers.refusals import refuse_sharded_head, refuse_zero3  # noqa: E402

WEIGHTS = list(TASKS.values())


@pytest.fixture
def arguments(tmp_path: Path) -> Any:
    return TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], save_strategy="no")


def make_trainer(model: Any, arguments: Any, **options: Any) -> VITWTrainer:
    return VITWTrainer(
        model,
        arguments,
        train_dataset=Samples(),
        data_collator=collate,
        task_weights=TASKS,
        **options,
    )


def refusal(call: Callable[[], Any], error: type[Exception] = UnsupportedError) -> str:
    with pytest.raises(error) as raised:
        call()
    return str(raised.value)


def batch() -> dict[str, Any]:
    return TaskCollator(collate, TaskTable(TASKS))(Samples().items[6:12])


def linear_loss(model: Any) -> Any:
    head = LinearHead(model, VITWLinearLoss(WEIGHTS, shift=True, return_stats=True))
    inputs = batch()
    return head.loss_of(model, inputs, inputs.pop("task_ids"), None)[0]


def make_gemma(cap: float | None) -> Any:
    torch.manual_seed(3)
    config = Gemma2Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=8,
        final_logit_softcapping=cap,
        initializer_range=1.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config).eval()


class OwnLoss(LlamaForCausalLM):
    """Computes its loss without self.loss_function."""

    def forward(self, input_ids: Any, labels: Any) -> Any:
        logits = self.lm_head(self.model(input_ids).last_hidden_state)
        return {"loss": functional.cross_entropy(logits.flatten(0, 1), labels.flatten())}


class Scaled(LlamaForCausalLM):
    """Changes what its head gives where it lies."""

    def forward(self, input_ids: Any, labels: Any) -> Any:
        logits = self.lm_head(self.model(input_ids).last_hidden_state).mul_(0.5)
        return {"loss": self.loss_function(logits=logits, labels=labels)}


def of_kind(kind: type[LlamaForCausalLM], vocab: int = VOCAB) -> Any:
    config: LlamaConfig = make_model().config
    config.vocab_size = vocab
    config.hidden_size = 32
    return kind(config)


# --- a head in pieces -----------------------------------------------------------------------------

IN_PIECES = (
    "linear=True with a head that {} keeps in pieces; expected linear=False, whose loss takes the "
    "logits and leaves the head to the model"
)


@pytest.mark.usefixtures("one_rank")
def test_the_linear_form_refuses_a_head_that_fsdp2_shards_by_itself() -> None:
    model = make_model()
    fully_shard(model.lm_head)
    fully_shard(model)
    said = refusal(lambda: linear_loss(model))
    assert said == IN_PIECES.format("FSDP or tensor parallelism")


def test_the_linear_form_refuses_a_head_of_zero3_and_one_in_a_flat_parameter() -> None:
    partitioned = torch.nn.Parameter(torch.empty(0))
    partitioned.ds_id = 7
    said = refusal(lambda: refuse_sharded_head(partitioned))
    assert said == IN_PIECES.format("DeepSpeed's ZeRO-3")
    said = refusal(lambda: refuse_sharded_head(torch.nn.Parameter(torch.empty(12))))
    assert said == IN_PIECES.format("FSDP")


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_linear_form_is_refused_before_zero3_trains_and_not_for_its_lower_stages(
    stage: int,
) -> None:
    def accelerator(zero_stage: int) -> Any:
        plugin = SimpleNamespace(zero_stage=zero_stage)
        return SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin))

    refuse_zero3(accelerator(stage))
    assert refusal(lambda: refuse_zero3(accelerator(3))) == IN_PIECES.format("DeepSpeed's ZeRO-3")


# --- a head that is more than its weight ----------------------------------------------------------


@pytest.mark.parametrize(
    ("lora", "found"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, "peft.tuners.lora.layer.Linear"),
        (
            {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
            "peft.utils.other.ModulesToSaveWrapper",
        ),
    ],
)
def test_the_linear_form_refuses_lora_on_the_head(
    arguments: Any, lora: dict[str, Any], found: str
) -> None:
    peft = pytest.importorskip("peft", reason="peft is needed")
    model = peft.get_peft_model(make_model(), peft.LoraConfig(task_type="CAUSAL_LM", **lora))
    assert refusal(lambda: make_trainer(model, arguments, linear=True)) == (
        f"linear=True: the head of LlamaForCausalLM is a {found}; expected a plain nn.Linear, "
        "without an adapter (LoRA: leave lm_head out of target_modules and modules_to_save) and "
        "without a hook; or linear=False"
    )


def test_the_linear_form_refuses_a_model_that_caps_its_logits() -> None:
    assert refusal(lambda: linear_loss(make_gemma(cap=5.0))) == (
        "linear=True: Gemma2ForCausalLM changes what its head gives (a cap, a scale or another "
        "type) before it computes its loss; expected linear=False"
    )


def test_the_linear_form_refuses_logits_that_are_scaled_in_place() -> None:
    assert refusal(lambda: linear_loss(of_kind(Scaled))) == (
        "linear=True: Scaled changes what its head gives (a cap, a scale or another type) before "
        "it computes its loss; expected linear=False"
    )


def test_the_logits_form_is_right_for_a_model_that_caps_its_logits(arguments: Any) -> None:
    model = make_gemma(cap=5.0)
    given = batch()
    expected = loss_by_hand(model(given["input_ids"]).logits, given, WEIGHTS)
    # The cap matters here, or this would show nothing.
    uncapped = loss_by_hand(make_gemma(cap=None)(given["input_ids"]).logits, given, WEIGHTS)
    assert abs(expected - uncapped).item() > 0.1
    loss = make_trainer(model, arguments).compute_loss(model, given)
    torch.testing.assert_close(loss, expected)


def test_the_linear_form_takes_a_model_that_gives_its_loss_function_no_names() -> None:
    model = make_gemma(cap=None)
    given = batch()
    expected = loss_by_hand(model(given["input_ids"]).logits, given, WEIGHTS)
    torch.testing.assert_close(linear_loss(model), expected)


# --- a loss of the model's own --------------------------------------------------------------------


@pytest.mark.parametrize("vocab", [32, VOCAB], ids=["goes through", "fails"])
def test_the_linear_form_refuses_a_model_with_a_loss_of_its_own(vocab: int) -> None:
    """Whether or not its labels happen to fit in what it takes for logits."""
    model = of_kind(OwnLoss)
    head = LinearHead(model, VITWLinearLoss(WEIGHTS, shift=True, return_stats=True))
    inputs = batch()
    inputs["labels"] = inputs["labels"].clamp(max=vocab - 1)
    task_ids = inputs.pop("task_ids")
    assert refusal(lambda: head.loss_of(model, inputs, task_ids, None)) == (
        "linear=True: the forward of OwnLoss does not compute its loss by self.loss_function; "
        "expected linear=False"
    )


def test_after_a_refusal_the_model_is_what_it_was() -> None:
    model = make_gemma(cap=5.0)
    before = model(**{key: batch()[key] for key in ("input_ids", "labels")})
    refusal(lambda: linear_loss(model))
    after = model(**{key: batch()[key] for key in ("input_ids", "labels")})
    assert torch.equal(after.loss, before.loss)
    assert after.logits.shape == (6, SEQ, VOCAB)


def test_the_forward_of_liger_is_refused(arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def lce_forward(self: Any, **_: Any) -> Any:
        raise AssertionError("not to be called")

    lce_forward.__module__ = "liger_kernel.transformers.model.llama"
    monkeypatch.setattr(LlamaForCausalLM, "forward", lce_forward)
    assert refusal(lambda: make_trainer(make_model(), arguments), ArgumentError) == (
        "LlamaForCausalLM.forward is Liger's; expected the model's own, for both would compute the "
        "loss: use_liger_kernel=False, and no apply_liger_kernel_to_..."
    )


def test_liger_asked_for_by_the_arguments_is_refused(arguments: Any) -> None:
    arguments.use_liger_kernel = True
    assert refusal(lambda: make_trainer(make_model(), arguments), ArgumentError) == (
        "use_liger_kernel=True; expected False, for Liger's loss would take the place of VITW, or "
        "VITW that of Liger's"
    )


# --- batches that cannot be counted ---------------------------------------------------------------


def test_several_gpus_in_one_process_are_refused(arguments: Any) -> None:
    arguments._n_gpu = 2
    assert refusal(lambda: make_trainer(make_model(), arguments)) == (
        "2 GPUs in one process, by DataParallel, which splits a batch where nobody can count it; "
        "expected a process for each (torchrun, accelerate launch), or CUDA_VISIBLE_DEVICES=0"
    )


def test_a_model_that_predicts_no_next_token_is_refused(arguments: Any) -> None:
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.BertForMaskedLM(config)
    assert refusal(lambda: make_trainer(model, arguments), ArgumentError) == (
        "BertForMaskedLM is trained by ForMaskedLMLoss; expected a causal language model, of which "
        "each token predicts the next"
    )


def test_a_model_that_sees_ahead_without_its_labels_is_refused(
    arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    model.config.model_type = "paligemma"
    make_trainer(model, arguments)
    monkeypatch.setattr(huggingface, "_VERSION", (4, 57))
    make_trainer(model, arguments, linear=True)
    assert refusal(lambda: make_trainer(model, arguments)) == (
        f"LlamaForCausalLM of transformers {transformers.__version__}, whose answers see their own "
        "future where it is not given its labels; expected linear=True, or transformers 5"
    )


def test_tokens_before_those_with_labels_are_refused(arguments: Any) -> None:
    peft = pytest.importorskip("peft", reason="peft is needed")
    adapter = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(make_model(), adapter)
    assert refusal(lambda: make_trainer(model, arguments)) == (
        "PromptTuningConfig, which puts tokens of its own before each sequence, so that logits and "
        "labels are not of the same length; expected an adapter that adds none, such as LoRA"
    )


def test_generation_in_evaluations_is_refused(tmp_path: Path) -> None:
    arguments = transformers.Seq2SeqTrainingArguments(
        str(tmp_path), use_cpu=True, report_to=[], predict_with_generate=True
    )
    assert refusal(lambda: make_trainer(make_model(), arguments), ArgumentError) == (
        "predict_with_generate=True; expected False, for an evaluation would hand the task ids to "
        "generate()"
    )


def test_packing_by_trl_is_refused(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is needed")
    datasets = pytest.importorskip("datasets", reason="datasets is needed")
    from visatb.trainers import VITWTrainerMixin

    class VITWSFTTrainer(VITWTrainerMixin, trl.SFTTrainer):  # type: ignore[misc, name-defined]
        pass

    items = [{"input_ids": [3, 4, 5, 6], "task": task} for task in TASKS for _ in range(4)]
    arguments = trl.SFTConfig(
        str(tmp_path), packing=True, max_length=8, use_cpu=True, report_to=[], bf16=False
    )
    assert refusal(
        lambda: VITWSFTTrainer(
            make_model(),
            arguments,
            train_dataset=datasets.Dataset.from_list(items),
            processing_class=make_tokenizer(),
            task_weights=TASKS,
        ),
        ArgumentError,
    ) == (
        "a dataset has no column 'task' (it has: input_ids, labels, seq_lengths); expected one "
        "that names each item's task, or has its id: task_column= says which. If it was there "
        "before, its preparation dropped it, as packing=True does"
    )
