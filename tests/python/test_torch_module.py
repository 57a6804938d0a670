"""VITWLoss and VITWLinearLoss keep lambda where nothing casts it, and their functions' options."""

from __future__ import annotations

import inspect
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import make_batch, make_linear_batch  # noqa: E402

import visatb  # noqa: E402
from visatb import ArgumentError, DataError  # noqa: E402
from visatb.torch import (  # noqa: E402
    Stats,
    VITWLinearLoss,
    VITWLoss,
    ops,
    vitw_denominator,
    vitw_linear_loss,
    vitw_loss,
)
from visatb.torch._require import require_torch  # noqa: E402

VECTORS = Path(__file__).parents[1] / "vectors"
LAMBDA = torch.tensor([1 / 3, 1.75, 0.0])  # 1/3 is another number in bf16.


@pytest.fixture
def weights_json(tmp_path: Path) -> Path:
    """A weights.json made from scores."""
    vector = json.loads((VECTORS / "scores_groups.json").read_text(encoding="utf-8"))
    path = tmp_path / "weights.json"
    visatb.compute_weights(vector["scores"]).save(path)
    return path


def test_the_module_gives_the_loss_of_the_function() -> None:
    batch = make_batch()
    assert torch.equal(VITWLoss(LAMBDA)(*batch[:3]), vitw_loss(*batch[:3], LAMBDA))


def options_of(function: Any) -> dict[str, Any]:
    """Its keywords, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_the_module_has_every_option_of_the_function_with_the_same_default() -> None:
    assert options_of(VITWLoss) == {"tasks": None, **options_of(vitw_loss)}


def test_the_module_of_a_head_has_every_option_either_when_made_or_when_called() -> None:
    made, called = options_of(VITWLinearLoss), options_of(VITWLinearLoss.forward)
    assert made.keys() & called.keys() == {"denominator", "grad_scale"}
    # The weights are the first argument of those that make it.
    assert called.pop("task_weights") is None
    assert called.keys() - made.keys() == {"bias", "max_valid_rows"}
    assert {**made, **called} == {"tasks": None, **options_of(vitw_linear_loss)}


def test_a_call_may_bring_weights_of_its_own() -> None:
    batch = make_batch()
    own = torch.tensor([0.5, 2.0, 1.0])
    loss = VITWLoss(LAMBDA)
    assert torch.equal(loss(*batch[:3], task_weights=own), vitw_loss(*batch[:3], own))
    assert torch.equal(loss(*batch[:3]), vitw_loss(*batch[:3], LAMBDA))
    hidden, head = torch.randn(*batch.labels.shape, 4), torch.randn(batch.logits.shape[-1], 4)
    assert torch.equal(
        VITWLinearLoss(LAMBDA)(hidden, head, *batch[1:3], task_weights=own),
        vitw_linear_loss(hidden, head, *batch[1:3], own),
    )
    with pytest.raises(ArgumentError) as caught:
        loss(*batch[:3], task_weights=torch.ones(4))
    assert str(caught.value) == "task_weights has shape (4,); expected (3,)"
    with pytest.raises(ArgumentError) as caught:
        loss(*batch[:3], task_weights=[1.0, 1.0, 1.0])
    assert str(caught.value) == "task_weights of a call is a list; expected a float tensor [3]"


@pytest.mark.parametrize(
    "options",
    [
        {"shift": True},
        {"reduction": "sum"},
        {"denominator": 9.0},
        {"ignore_index": 3},
        {"return_stats": True},
    ],
    ids=str,
)
def test_an_option_reaches_the_function(options: dict[str, Any]) -> None:
    batch = make_batch()
    labels = batch.labels.clamp(min=0)
    found = VITWLoss(LAMBDA, **options)(batch.logits, labels, batch.task_ids)
    expected = vitw_loss(batch.logits, labels, batch.task_ids, LAMBDA, **options)
    for ours, theirs in zip(flat(found), flat(expected), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"shift": True},
        {"reduction": "sum"},
        {"denominator": 9.0},
        {"ignore_index": 3},
        {"label_smoothing": 0.1},
        {"softcap": 5.0},
        {"z_loss": 0.01},
        {"return_stats": True},
        {"chunk_bytes": 2**20},
    ],
    ids=str,
)
def test_an_option_reaches_the_function_of_a_head(options: dict[str, Any]) -> None:
    hidden, weight, bias, labels, task_ids, _ = make_linear_batch()
    terms = (labels.clamp(min=0), task_ids)
    module = VITWLinearLoss(LAMBDA, **options)
    found = module(hidden, weight, *terms, bias=bias, max_valid_rows=18)
    expected = vitw_linear_loss(hidden, weight, *terms, LAMBDA, bias=bias, **options)
    for ours, theirs in zip(flat(found), flat(expected), strict=True):
        assert torch.equal(ours, theirs)


def flat(result: Any) -> list[Any]:
    return [result[0], *result[1]] if isinstance(result, tuple) else [result]


def test_a_call_gives_its_own_denominator_and_grad_scale() -> None:
    batch = make_batch()
    loss = VITWLoss(LAMBDA, denominator=3.0)
    expected = vitw_loss(*batch[:3], LAMBDA, denominator=5.0)
    assert torch.equal(loss(*batch[:3], denominator=5.0), expected)
    with pytest.raises(ArgumentError, match="^grad_scale"):
        loss(*batch[:3], grad_scale=0)


def test_in_place_the_logits_hold_the_gradient() -> None:
    batch = make_batch()
    logits = batch.logits.clone().requires_grad_() * 1
    VITWLoss(LAMBDA, inplace=True)(logits, *batch[1:3])
    assert not torch.equal(logits, batch.logits)


def test_statistics_come_by_name() -> None:
    loss, stats = VITWLoss(LAMBDA, return_stats=True)(*make_batch()[:3])
    assert isinstance(stats, Stats)
    assert Stats._fields == ("numerator", "denominator", "task_nll", "task_tokens", "report")
    assert loss.shape == ()


def test_a_call_for_a_head_gives_its_own_too() -> None:
    batch = make_linear_batch()
    loss = VITWLinearLoss(LAMBDA, denominator=3.0)
    arguments = (*batch[:2], *batch.terms[:2])
    expected = vitw_linear_loss(*arguments, LAMBDA, denominator=5.0)
    assert torch.equal(loss(*arguments, denominator=5.0), expected)
    for name in ("grad_scale", "max_valid_rows"):
        with pytest.raises(ArgumentError, match=f"^{name}"):
            loss(*arguments, **{name: 0})
    found = loss.denominator_of(*batch.terms[:2])
    assert torch.equal(found, vitw_denominator(*batch.terms[:2], LAMBDA))


@pytest.mark.parametrize("module", [VITWLoss, VITWLinearLoss])
@pytest.mark.parametrize("cast", ["to", "bfloat16", "half", "double"])
def test_a_cast_of_the_module_leaves_lambda_in_fp32(cast: str, module: Any) -> None:
    model = torch.nn.Sequential(module(LAMBDA))
    model.to(torch.bfloat16) if cast == "to" else getattr(model, cast)()
    assert model[0].task_weights.dtype == torch.float32
    assert torch.equal(model[0].task_weights, LAMBDA)


@pytest.mark.parametrize("module", [VITWLoss, VITWLinearLoss])
def test_lambda_is_neither_parameter_nor_buffer_nor_state(module: Any) -> None:
    loss = module(LAMBDA)
    assert not list(loss.parameters())
    assert not list(loss.buffers())
    assert not loss.state_dict()
    loss.load_state_dict({})


def test_the_module_can_be_saved_and_loaded_whole() -> None:
    file = io.BytesIO()
    torch.save(VITWLoss(LAMBDA, shift=True), file)
    file.seek(0)
    loss = torch.load(file, weights_only=False)
    assert torch.equal(loss.task_weights, LAMBDA)
    assert loss.shift


def test_lambda_can_be_set_for_the_next_step() -> None:
    batch = make_batch()
    loss = VITWLoss(LAMBDA)
    loss(*batch[:3])
    loss.task_weights = [2.0, 1.0, 0.5]
    assert torch.equal(loss(*batch[:3]), vitw_loss(*batch[:3], [2.0, 1.0, 0.5]))


def test_a_tensor_that_changes_later_does_not_change_lambda() -> None:
    weights = LAMBDA.clone()
    loss = VITWLoss(weights)
    weights.zero_()
    assert torch.equal(loss.task_weights, LAMBDA)


def test_a_weights_json_is_read_once_in_the_order_of_its_tasks(weights_json: Path) -> None:
    document = json.loads(weights_json.read_text(encoding="utf-8"))
    loss = VITWLoss(weights_json)
    expected = torch.tensor([document["weights"][task] for task in document["tasks"]])
    torch.testing.assert_close(loss.task_weights, expected, rtol=1e-7, atol=0)
    weights_json.unlink()
    batch = make_batch()
    assert torch.equal(loss(*batch[:3]), vitw_loss(*batch[:3], expected))


def test_the_function_takes_a_weights_json_too(weights_json: Path) -> None:
    batch = make_batch()
    expected = VITWLoss(weights_json)(*batch[:3])
    for path in (weights_json, str(weights_json)):
        assert torch.equal(vitw_loss(*batch[:3], path), expected)


def test_the_module_takes_the_order_of_the_trainer(weights_json: Path) -> None:
    document = json.loads(weights_json.read_text(encoding="utf-8"))
    order = sorted(document["tasks"], reverse=True)
    assert order != document["tasks"]
    expected = torch.tensor([document["weights"][task] for task in order])
    loss = VITWLoss(weights_json, tasks=order)
    torch.testing.assert_close(loss.task_weights, expected, rtol=1e-7, atol=0)
    loss.task_weights = [1.0, 2.0, 3.0]
    loss.task_weights = weights_json
    torch.testing.assert_close(loss.task_weights, expected, rtol=1e-7, atol=0)


def test_weights_are_taken_as_they_were_computed(weights_json: Path) -> None:
    vector = json.loads((VECTORS / "scores_groups.json").read_text(encoding="utf-8"))
    weights = visatb.compute_weights(vector["scores"])
    batch = make_batch()
    assert torch.equal(VITWLoss(weights).task_weights, VITWLoss(weights_json).task_weights)
    assert torch.equal(vitw_loss(*batch[:3], weights), vitw_loss(*batch[:3], weights_json))
    order = weights.tasks[::-1]
    found = VITWLoss(weights, tasks=order).task_weights
    assert torch.equal(found, VITWLoss(weights_json, tasks=order).task_weights)
    with pytest.raises(ArgumentError, match=r"^tasks names 'nowhere'; expected names that"):
        VITWLoss(weights, tasks=["nowhere"])


def test_names_that_a_file_does_not_have_are_refused(weights_json: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        VITWLoss(weights_json, tasks=["nowhere"])


@pytest.mark.parametrize("tasks", ["vqa", b"vqa", 7])
def test_names_that_are_no_list_are_refused(tasks: Any, weights_json: Path) -> None:
    with pytest.raises(ArgumentError, match=rf"^tasks = {tasks!r}; expected a list of names"):
        VITWLoss(weights_json, tasks=tasks)
    with pytest.raises(ArgumentError, match=r"^tasks = \[\]; expected at least one name"):
        VITWLoss(weights_json, tasks=[])


def test_the_order_of_the_names_is_kept(weights_json: Path) -> None:
    order = visatb.compute_weights(
        json.loads((VECTORS / "scores_groups.json").read_text(encoding="utf-8"))["scores"]
    ).tasks
    names = list(order)
    loss = VITWLoss(weights_json, tasks=names)
    before = loss.task_weights
    names.reverse()
    loss.task_weights = weights_json
    assert torch.equal(loss.task_weights, before)


def test_names_are_refused_for_weights_without() -> None:
    with pytest.raises(ArgumentError, match=r"^tasks with task_weights that have no names"):
        VITWLoss(LAMBDA, tasks=["a", "b", "c"])


def test_a_parameter_is_refused_when_the_module_is_made_and_later() -> None:
    parameter = torch.nn.Parameter(LAMBDA.clone())
    with pytest.raises(ArgumentError, match="^task_weights requires grad"):
        VITWLoss(parameter)
    loss = VITWLoss(LAMBDA)
    with pytest.raises(ArgumentError, match="^task_weights requires grad"):
        loss.task_weights = parameter
    assert not list(loss.parameters())
    loss.task_weights = torch.nn.Parameter(2 * LAMBDA, requires_grad=False)
    assert torch.equal(loss.task_weights, 2 * LAMBDA)
    assert not list(loss.parameters())


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
def test_a_module_of_a_head_made_from_a_file_compiles_without_a_graph_break(
    weights_json: Path,
) -> None:
    batch = make_linear_batch()
    loss = VITWLinearLoss(weights_json, shift=True)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    arguments = (*batch[:2], *batch.terms[:2])
    assert torch.equal(compiled(*arguments), loss(*arguments))


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
def test_a_module_made_from_a_file_compiles_without_a_graph_break(weights_json: Path) -> None:
    batch = make_batch()
    loss = VITWLoss(weights_json, shift=True)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*batch[:3]), loss(*batch[:3]))


def test_wrong_weights_are_refused_when_the_module_is_made() -> None:
    with pytest.raises(ArgumentError, match=r"^task_weights = \[\]"):
        VITWLoss([])


def test_the_module_shows_its_weights() -> None:
    assert repr(VITWLoss([1.0, 0.5])) == (
        "VITWLoss(task_weights=[1.0, 0.5], ignore_index=-100, reduction='mean', shift=False, "
        "inplace=False)"
    )
    assert repr(VITWLinearLoss([1.0, 0.5], softcap=30.0)) == (
        "VITWLinearLoss(task_weights=[1.0, 0.5], ignore_index=-100, reduction='mean', "
        "shift=False, softcap=30.0, chunk_bytes=None)"
    )


def test_the_package_exports_the_loss_without_importing_it_first() -> None:
    assert visatb.vitw_loss is vitw_loss
    assert visatb.visatb_vitw_loss is vitw_loss
    assert visatb.VITWLoss is VITWLoss
    assert visatb.vitw_linear_loss is vitw_linear_loss
    assert visatb.VITWLinearLoss is VITWLinearLoss
    assert visatb.vitw_denominator is vitw_denominator
    assert "vitw_denominator" in dir(visatb)
    assert visatb.Stats is Stats


def test_a_missing_pytorch_is_an_error_with_the_line_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"PyTorch is not installed; .* pip install 'torch>=2\.1'"
    ):
        require_torch()


def test_a_pytorch_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.0.1+cu118")
    with pytest.raises(ImportError, match=r"PyTorch is 2\.0\.1\+cu118; .* 2\.1 or newer"):
        require_torch()
