"""VITW inside of LLaVA's forward: over the labels it expands, by counts that were made ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from little_llava import LittleTrainer, Samples, collate  # noqa: E402

from visatb import ArgumentError, Error, Method, UnsupportedError  # noqa: E402
from visatb.trainers import llava  # noqa: E402
from visatb.trainers.llava_replay import LabelReplay  # noqa: E402

WEIGHTS = {"vqa": 0.5, "ocr": 3.0}


def installed(weights: Any = None, trainer: Any = None, **options: Any) -> Any:
    trainer = trainer or LittleTrainer()
    llava.install(trainer, weights or WEIGHTS, **options)
    return trainer


def eq_2(max_length: int | None = None) -> tuple[float, dict[str, Any]]:
    """The loss of all samples in one step, and its gradients, without anything of ours."""
    trainer = LittleTrainer()
    trainer.model.double()
    trainer.model.config.tokenizer_model_max_length = max_length
    numerator = denominator = 0.0
    for index, sample in enumerate(trainer.train_dataset.list_data_dict):
        batch = collate([trainer.train_dataset[index]])
        labels = batch.pop("labels")
        batch["images"] = batch["images"].double()
        prepared = trainer.model.prepare_inputs_labels_for_multimodal(
            batch["input_ids"], None, batch["attention_mask"], None, labels, batch["images"]
        )
        logits = trainer.model.lm_head(prepared[-2].cumsum(1).tanh())[0, :-1]
        predicted = prepared[-1][0, 1:]
        valid = predicted != -100
        nll = -logits.log_softmax(-1)[valid].gather(-1, predicted[valid][:, None])
        numerator += WEIGHTS[sample["task"]] * nll.sum()
        denominator += WEIGHTS[sample["task"]] * int(valid.sum())
    loss = numerator / denominator
    loss.backward()
    return loss.item(), {n: p.grad for n, p in trainer.model.named_parameters()}


def compare(trainer: Any, expected: dict[str, Any]) -> None:
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), expected[name], rtol=1e-5, atol=1e-7, msg=name
        )


@pytest.mark.parametrize("options", [{}, {"linear": True}, {"inplace": True}])
def test_micro_batches_add_up_to_eq_2_over_the_expanded_labels(options: dict[str, Any]) -> None:
    expected, gradients = eq_2()
    trainer = installed(trainer=LittleTrainer(accumulation=4), **options)
    assert float(trainer.train()) == pytest.approx(expected, rel=1e-6)
    compare(trainer, gradients)


def test_what_is_cut_off_behind_the_images_is_not_counted() -> None:
    expected, gradients = eq_2(max_length=7)
    trainer = LittleTrainer(accumulation=4)
    trainer.model.config.tokenizer_model_max_length = 7
    assert float(installed(trainer=trainer).train()) == pytest.approx(expected, rel=1e-6)
    compare(trainer, gradients)


def test_without_it_the_loss_is_llavas_own() -> None:
    trainer = LittleTrainer(accumulation=4)
    assert float(trainer.train()) != pytest.approx(eq_2()[0], rel=1e-3)


def test_label_smoothing_is_the_trainers_and_leaves_the_labels_to_the_model() -> None:
    plain = float(installed(trainer=LittleTrainer(accumulation=4)).train())
    trainer = LittleTrainer(accumulation=4)
    trainer.args.label_smoothing_factor = 0.1
    assert float(installed(trainer=trainer).train()) != pytest.approx(plain, rel=1e-4)
    assert trainer.label_smoother is None


def test_a_resumed_training_looks_ahead_from_where_it_goes_on() -> None:
    trainer = installed(trainer=LittleTrainer(accumulation=2))
    whole = [loss.item() for loss in losses_of(trainer)]
    again = installed(trainer=LittleTrainer(accumulation=2))
    assert float(again.train(skipped=2)) == pytest.approx(sum(whole[2:]) / 2, rel=1e-6)


def losses_of(trainer: Any) -> list[Any]:
    return [trainer.model(**batch)["loss"] for batch in trainer.get_train_dataloader()]


def test_the_log_has_each_task() -> None:
    trainer = installed()
    trainer.train()
    (logged,) = trainer.logged
    assert logged["token_share/vqa"] + logged["token_share/ocr"] == pytest.approx(1)
    assert {"loss", "loss/vqa", "loss/ocr"} < set(logged)


@pytest.mark.parametrize("options", [{}, {"linear": True}])
def test_a_method_makes_the_weights_of_the_loss(options: dict[str, Any]) -> None:
    """TLA is VITW by 1 / tokens of each task: the mean of the tasks' means."""
    trainer = installed(trainer=LittleTrainer(accumulation=4), method="TLA", **options)
    loss = float(trainer.train())
    (logged,) = trainer.logged
    assert loss == pytest.approx((logged["loss/vqa"] + logged["loss/ocr"]) / 2, rel=1e-6)
    ratio = logged["token_share/ocr"] / logged["token_share/vqa"]
    assert logged["weight/vqa"] / logged["weight/ocr"] == pytest.approx(ratio, rel=1e-6)


def test_a_methods_state_goes_with_the_optimizers(tmp_path: Path) -> None:
    def make() -> Any:
        method = Method("DWA", 2, window=1, temperature=0.01)
        return installed(trainer=LittleTrainer(accumulation=1), method=method)

    trainer = make()
    trainer.train()  # Four steps.
    trainer._save_optimizer_and_scheduler(str(tmp_path))
    resumed = make()
    resumed._load_optimizer_and_scheduler(None)
    resumed._load_optimizer_and_scheduler(str(tmp_path))
    assert (tmp_path / "optimizer.pt").exists()
    weights = [
        next(iter(each.get_train_dataloader()))["visatb_step"].task_weights.tolist()
        for each in (trainer, resumed, make())
    ]
    assert weights[0] == weights[1] != weights[2] == [1.0, 1.0]


def method_state(trainer: Any, folder: Path) -> str:
    trainer._save_optimizer_and_scheduler(str(folder))
    return (folder / "visatb_method.json").read_text()


def test_a_step_that_the_optimizer_has_not_made_is_in_no_checkpoint(tmp_path: Path) -> None:
    trainer = installed(trainer=LittleTrainer(accumulation=1), method="RLW")
    states = [method_state(trainer, tmp_path)]
    for batch in trainer.get_train_dataloader():
        assert method_state(trainer, tmp_path) == states[-1]
        trainer.model(**batch)
        assert method_state(trainer, tmp_path) == states[-1]
        trainer.state.global_step += 1
        states.append(method_state(trainer, tmp_path))
    assert len(set(states)) == 5


def test_every_training_begins_with_the_method_as_it_was_installed(tmp_path: Path) -> None:
    method = Method("RLW", 2)
    method.update()
    trainer = installed(trainer=LittleTrainer(accumulation=1), method=method)
    first = method_state(trainer, tmp_path)
    states = []
    for _ in range(2):
        trainer.train()
        states.append(method_state(trainer, tmp_path))
    assert states[0] == states[1] != first


def test_the_dataset_has_what_it_had() -> None:
    trainer = installed()
    assert trainer.train_dataset.modality_lengths == "of the dataset"
    assert len(trainer.train_dataset) == 8
    assert trainer.train_dataset[1]["task"] == "vqa"


def test_a_dataset_that_gives_the_next_sample_for_a_broken_image() -> None:
    """As LLaVA-NeXT's does; the item says by its id which it is."""

    class Next(Samples):
        def __getitem__(self, index: int) -> dict[str, Any]:
            given = index + 1 if index == 2 else index
            return {**super().__getitem__(given), "id": self.list_data_dict[given]["id"]}

    trainer = LittleTrainer()
    trainer.train_dataset = Next()
    installed(trainer=trainer)
    assert [trainer.train_dataset[index]["task"] for index in (1, 2, 3)] == ["vqa", "ocr", "ocr"]


@pytest.mark.parametrize(
    ("accumulation", "plan"),
    [(3, {"epochs": 2}), (3, {"max_steps": 2}), (5, {"epochs": 2}), (8, {"max_steps": 2})],
)
def test_a_step_that_reaches_into_the_next_epoch_is_refused(
    accumulation: int, plan: dict[str, int]
) -> None:
    trainer = installed(trainer=LittleTrainer(accumulation, **plan))
    with pytest.raises(UnsupportedError) as caught:
        trainer.train()
    assert str(caught.value) == (
        f"4 micro-batches an epoch, {accumulation} a step, and several epochs: this trainer lets a "
        "step reach into the next epoch, which nobody can look ahead to; expected micro-batches "
        "that make up whole steps, or one epoch"
    )


@pytest.mark.parametrize(
    ("accumulation", "plan"), [(3, {}), (3, {"max_steps": 1}), (8, {}), (2, {"epochs": 3})]
)
def test_steps_within_an_epoch_are_not_refused(accumulation: int, plan: dict[str, int]) -> None:
    assert float(installed(trainer=LittleTrainer(accumulation, **plan)).train()) > 0


def test_generation_is_left_alone() -> None:
    trainer = installed()
    batch = collate([trainer.train_dataset._dataset[0]])
    batch["labels"] = None
    trainer.model.prepare_inputs_labels_for_multimodal = lambda *_: (
        *[None] * 4,
        torch.zeros(1, 3, 8),
        None,
    )
    assert trainer.model(**batch)["loss"] is None


def test_labels_that_were_not_counted_raise() -> None:
    trainer = installed()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.config.tokenizer_model_max_length = 4
    with pytest.raises(Error) as caught:
        trainer.model(**batch)
    assert str(caught.value) == (
        "the replay of LLaVA's image expansion counted [3, 2] valid tokens by task, and the loss "
        "found [0, 0]; expected the same, for the step was divided by what was counted"
    )


def test_a_model_that_asks_for_more_than_lengths_is_refused() -> None:
    class Other(type(LittleTrainer().model)):
        def encode_images(self, images: Any) -> Any:
            return super().encode_images(images)

        def prepare_inputs_labels_for_multimodal(self, *args: Any, **kwargs: Any) -> Any:
            return self.resample(*args, **kwargs)

    replay = LabelReplay(Other())
    with pytest.raises(UnsupportedError) as caught:
        replay.labels_of(collate([Samples()[0]]))
    assert str(caught.value) == (
        "Other.prepare_inputs_labels_for_multimodal uses self.resample, of which a count ahead of "
        "the step knows nothing; expected that of LLaVA 1.2, or one that asks for no more"
    )


def evaluated_on(count: int, **options: Any) -> Any:
    """A trainer whose evaluation has so many samples, in batches of three."""
    trainer = LittleTrainer(accumulation=2)
    trainer.eval_dataset = Samples(count)
    return installed(trainer=trainer, **options)


@pytest.mark.parametrize("options", [{}, {"linear": True}, {"inplace": True}, {"method": "TLA"}])
def test_an_evaluation_has_eq_2_over_all_of_its_samples(options: dict[str, Any]) -> None:
    metrics = evaluated_on(8, **options).evaluate()
    assert metrics["eval_loss"] == pytest.approx(eq_2()[0], rel=1e-6)
    share = metrics["eval_token_share/ocr"]
    assert share + metrics["eval_token_share/vqa"] == pytest.approx(1)
    by_task = WEIGHTS["ocr"] * share * metrics["eval_loss/ocr"]
    by_task += WEIGHTS["vqa"] * (1 - share) * metrics["eval_loss/vqa"]
    weight = WEIGHTS["ocr"] * share + WEIGHTS["vqa"] * (1 - share)
    assert metrics["eval_loss"] == pytest.approx(by_task / weight, rel=1e-6)


def test_samples_that_only_fill_up_the_last_batch_of_an_evaluation_do_not_count() -> None:
    """As accelerate fills up the batches of uneven ranks, from the beginning."""
    trainer = evaluated_on(8)
    alone = trainer.evaluate()
    again = torch.utils.data.Subset(trainer.eval_dataset, [*range(8), 0])
    trainer.accelerator.gradient_state.remainder = 2
    assert trainer.evaluate(again) == alone


def test_an_evaluation_leaves_the_training_and_its_log_as_they_were() -> None:
    logged = []
    for evaluates in (False, True):
        trainer = evaluated_on(5, method="DWA")
        loader = iter(trainer.get_train_dataloader())
        for batch in loader:
            trainer.model(**batch)["loss"].backward()
            if evaluates:
                trainer.evaluate()
                trainer.evaluate()
        trainer.log({"loss": 1.0})
        logged.append((trainer.logged[-1], [p.grad for p in trainer.model.parameters()]))
    assert logged[0][0] == logged[1][0]
    assert all(torch.equal(a, b) for a, b in zip(logged[0][1], logged[1][1], strict=True))


def test_each_evaluation_begins_anew_and_is_called_as_the_trainer_calls_it() -> None:
    trainer = evaluated_on(8)
    trainer.model(**next(iter(trainer.get_eval_dataloader())))
    first = trainer.evaluate()
    assert trainer.evaluate() == first
    named = trainer.evaluate(metric_key_prefix="eval_cats")
    assert named == {key.replace("eval_", "eval_cats_"): value for key, value in first.items()}


@pytest.mark.parametrize("options", [{}, {"linear": True}, {"inplace": True}])
def test_who_asks_an_evaluation_for_logits_gets_them(options: dict[str, Any]) -> None:
    found, plain = evaluated_on(8, **options), LittleTrainer()
    plain.eval_dataset = Samples(8)
    logits = plain.predict(plain.eval_dataset).predictions
    output = found.predict(Samples(8))
    for one, other in zip(output.predictions, logits, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert output.metrics["test_loss"] == pytest.approx(eq_2()[0], rel=1e-6)


def test_a_training_that_goes_on_after_logits_were_asked_for_has_none_again() -> None:
    trainer = evaluated_on(8, linear=True)
    trainer.predict(Samples(8))
    batch = next(iter(trainer.get_train_dataloader()))
    assert trainer.model(**batch)["logits"] is None


def test_an_evaluation_needs_no_count_of_its_tokens() -> None:
    batch = next(iter(evaluated_on(8).get_eval_dataloader()))
    assert {"task_ids"} == {key for key in batch if key.startswith(("visatb", "task"))}


def test_each_of_several_evaluations_has_its_own_samples() -> None:
    trainer = LittleTrainer()
    trainer.eval_dataset = {"few": Samples(3), "all": Samples(8), "other": [Samples(1)[0]]}
    installed(trainer=trainer)
    losses = [trainer.evaluate(trainer.eval_dataset[name])["eval_loss"] for name in ("few", "all")]
    assert losses[1] == pytest.approx(eq_2()[0], rel=1e-6) != losses[0]
    with pytest.raises(ArgumentError, match="an item of the dataset has no 'task'"):
        trainer.evaluate(trainer.eval_dataset["other"])


def test_samples_that_come_with_the_evaluation_are_looked_at_too() -> None:
    trainer = installed()
    assert trainer.evaluate(Samples(8))["eval_loss"] == pytest.approx(eq_2()[0], rel=1e-6)
    samples = Samples()
    samples.list_data_dict[0]["task"] = "ocr2"
    with pytest.raises(ArgumentError) as caught:
        trainer.evaluate(samples)
    assert str(caught.value) == (
        "'task' of the evaluation data: task 'ocr2'; expected one of those that the task weights "
        "have: vqa, ocr"
    )


def test_a_collator_around_the_installed_one_is_counted_too() -> None:
    expected, _ = eq_2()
    trainer = installed(trainer=LittleTrainer(accumulation=4))
    inner = trainer.data_collator
    trainer.data_collator = lambda items: dict(inner(items))
    assert float(trainer.train()) == pytest.approx(expected, rel=1e-6)


def evaluated_without_task() -> Any:
    trainer = LittleTrainer()
    trainer.eval_dataset = Samples()
    del trainer.eval_dataset.list_data_dict[3]["task"]
    return trainer


def with_another_collator() -> Any:
    trainer = installed()
    trainer.data_collator = collate
    return trainer


def without_task() -> Any:
    trainer = LittleTrainer()
    del trainer.train_dataset.list_data_dict[3]["task"]
    return trainer


def of_another_kind() -> Any:
    trainer = LittleTrainer()
    trainer.model = torch.nn.Linear(2, 2)
    return trainer


def with_other_data() -> Any:
    trainer = LittleTrainer()
    trainer.train_dataset = [1, 2]
    return trainer


def of_newer_transformers() -> Any:
    trainer = LittleTrainer()
    trainer.get_batch_samples = None
    return trainer


def on_two_gpus() -> Any:
    trainer = LittleTrainer()
    trainer.args.n_gpu = 2
    return trainer


def with_liger() -> Any:
    trainer = LittleTrainer()
    type(trainer.model).forward.__module__, before = "liger_kernel.model", "little_llava"
    try:
        return llava.install(trainer, WEIGHTS)
    finally:
        type(trainer.model).forward.__module__ = before


@pytest.mark.parametrize(
    ("install", "error", "message"),
    [
        (
            lambda: installed({"vqa": 1.0}),
            ArgumentError,
            "'task' of the data: task 'ocr'; expected one of those that the task weights have: vqa",
        ),
        (
            lambda: installed(trainer=without_task()),
            ArgumentError,
            "sample 3 of the data has no 'task' (it has: id); expected its task, by name or id: "
            "task_field= says where it stands",
        ),
        (
            lambda: installed(trainer=evaluated_without_task()),
            ArgumentError,
            "sample 3 of the evaluation data has no 'task' (it has: id); expected its task, by "
            "name or id: task_field= says where it stands",
        ),
        (
            lambda: with_another_collator().train(),
            ArgumentError,
            "a batch with labels and without task_ids; expected those that the collator added: was "
            "the trainer's data_collator changed after visatb.trainers.llava.install, or "
            "remove_unused_columns set?",
        ),
        (
            lambda: installed(trainer=of_another_kind()),
            ArgumentError,
            "the trainer's model is a Linear; expected one of LLaVA's, which has "
            "prepare_inputs_labels_for_multimodal. For others there is visatb.trainers.VITWTrainer",
        ),
        (
            lambda: installed(trainer=with_other_data()),
            ArgumentError,
            "the trainer's train_dataset is a list; expected LLaVA's, which has its samples in "
            "list_data_dict",
        ),
        (
            lambda: installed(trainer=installed()),
            ArgumentError,
            "install was called before for this model; expected it once",
        ),
        (
            lambda: installed(trainer=of_newer_transformers()),
            UnsupportedError,
            "the trainer is that of transformers 4.46 or newer, which divides the loss in another "
            "way; expected the version that LLaVA names, older than that",
        ),
        (
            lambda: installed(trainer=on_two_gpus()),
            UnsupportedError,
            "2 GPUs in one process, by DataParallel, which splits a batch where nobody can count "
            "it; expected a process for each (torchrun, accelerate launch), or "
            "CUDA_VISIBLE_DEVICES=0",
        ),
        (
            with_liger,
            ArgumentError,
            "LittleLlava.forward is Liger's; expected the model's own, for both would compute the "
            "loss: use_liger_kernel=False, and no apply_liger_kernel_to_...",
        ),
        (
            lambda: installed().model(**collate([Samples()[0]])),
            ArgumentError,
            "a batch with labels and without task_ids; expected those that the collator added: was "
            "the trainer's data_collator changed after visatb.trainers.llava.install, or "
            "remove_unused_columns set?",
        ),
    ],
)
def test_wrong_use(install: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        install()
    assert str(caught.value) == message
