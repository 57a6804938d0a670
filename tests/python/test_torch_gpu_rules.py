"""What the Python side does for a GPU, as far as it shows without one."""

from __future__ import annotations

import threading
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

import pretended_gpu  # noqa: E402
from reference import make_batch, make_linear_batch  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from visatb import ArgumentError, UnsupportedError, _lib, vitw_loss_plan  # noqa: E402
from visatb.torch import (  # noqa: E402
    LossPlan,
    VITWLoss,
    call,
    context,
    denominator,
    gpu,
    linear_call,
    ops,
    upstream,
    vitw_denominator,
    vitw_linear_loss,
    vitw_loss,
    workspace,
)

tells_of_graph = pytest.mark.skipif(
    not upstream._TELLS_OF_GRAPH, reason="this PyTorch does not tell whether a graph is retained"
)
needs_operators = pytest.mark.skipif(not ops.REGISTERED, reason="operators came with PyTorch 2.4")

# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("valid", "rounded"),
    [
        (1, 128),
        (128, 128),
        (129, 256),
        (1023, 1024),
        (1024, 1024),
        (1025, 1152),
        (2047, 2048),
        (2049, 2304),
        (5000, 5120),
        (8191, 8192),
    ],
)
def test_a_bound_is_rounded_up_to_what_serves_more_batches(valid: int, rounded: int) -> None:
    assert linear_call.rounded_up(valid, 10**6) == rounded


def test_bounds_are_few_and_near_and_never_above_the_rows() -> None:
    found = {valid: linear_call.rounded_up(valid, 10**6) for valid in range(1, 20000)}
    for valid, rounded in found.items():
        assert valid <= rounded < valid + max(128, valid / 8 + 1)
        assert rounded % 128 == 0
    assert len({rounded for rounded in found.values() if rounded >= 8192}) <= 16
    assert linear_call.rounded_up(100, 100) == 100
    assert linear_call.rounded_up(1, 0) == 0


# --- fake tensors ---------------------------------------------------------------------------------


@needs_operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scalars", ["none", "numbers", "of the host", "of the GPU"])
def test_no_value_of_a_gpu_is_looked_at_on_the_way_to_the_operators(
    scalars: str, dtype: torch.dtype
) -> None:
    """A fake tensor has no values, and fails where one is asked for."""
    with FakeTensorMode():

        def there(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
            return torch.empty(shape, dtype=dtype, device="cuda")

        options: dict[str, Any] = {
            "none": {},
            "numbers": {"denominator": 7, "grad_scale": 3.0},
            "of the host": {"denominator": torch.tensor(7.0), "grad_scale": torch.tensor(3.0)},
            "of the GPU": {"denominator": there(), "grad_scale": there()},
        }[scalars]
        rows = (
            there(3, 6, dtype=torch.int64),
            there(3, dtype=torch.int64),
            there(4, dtype=torch.float32),
        )
        loss, stats = vitw_loss(there(3, 6, 37, dtype=dtype), *rows, return_stats=True, **options)
        found = [loss, *stats, vitw_denominator(*rows)]
        for bound in (None, 0, 5):
            hidden, weight = there(3, 6, 16, dtype=dtype), there(37, 16, dtype=dtype)
            linear = vitw_linear_loss(hidden, weight, *rows, max_valid_rows=bound, **options)
            found.append(linear)
    assert all(tensor.device.type == "cuda" for tensor in found)
    assert [tuple(tensor.shape) for tensor in stats] == [(), (), (4,), (4,), (2,)]


# --- a library without CUDA -----------------------------------------------------------------------


def pretend_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU passes for a GPU, as far as Python can tell."""
    for name, function in pretended_gpu.FUNCTIONS.items():
        monkeypatch.setattr(gpu, name, function)


@pytest.mark.skipif(
    not _lib.build_info()["cuda"].startswith("no"), reason="this library is built with CUDA"
)
def test_a_library_without_cuda_says_so_and_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_a_gpu(monkeypatch)
    batch, linear = make_batch(), make_linear_batch()
    says = (
        "^tensors on a GPU; expected them on the CPU, because this library was built without CUDA"
    )
    mends = r" \(.*\); python -m visatb says how to mend it$"
    with pytest.raises(UnsupportedError, match=says + mends):
        vitw_loss(*batch)
    with pytest.raises(UnsupportedError, match=says + mends):
        vitw_loss_plan(batch.logits)
    logits = batch.logits.clone().requires_grad_() * 1
    with pytest.raises(UnsupportedError, match=says):
        vitw_loss(logits, *batch[1:], inplace=True)
    assert torch.equal(logits, batch.logits)
    with pytest.raises(UnsupportedError, match="^this library was built without CUDA" + mends):
        vitw_linear_loss(*linear[:2], *linear.terms)


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_plan_of_a_cpu(dtype: torch.dtype, inplace: bool) -> None:
    logits = make_batch(dtype).logits
    plan = vitw_loss_plan(logits, inplace=inplace)
    taken = "portable" if dtype == torch.float64 else _lib.build_info()["cpu loss"]
    assert isinstance(plan, LossPlan)
    assert plan.path in taken
    assert plan._replace(path="") == LossPlan("cpu", "", 0, 0, 0)
    for other in (logits[0], logits.flatten(0, 1), logits.transpose(1, 2), logits[:0]):
        assert vitw_loss_plan(other) == plan


def test_the_plan_refuses_what_the_loss_refuses() -> None:
    with pytest.raises(ArgumentError, match="^logits has shape"):
        vitw_loss_plan(torch.zeros(3))
    with pytest.raises(UnsupportedError, match="^logits is on device 'meta'"):
        vitw_loss_plan(torch.zeros(3, 4, device="meta"))


# --- the workspace --------------------------------------------------------------------------------


def test_the_library_is_asked_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_bytes", {})
    asked: list[int] = []

    def plan_of(shape: int) -> int:
        asked.append(shape)
        return 8 * shape

    cpu = torch.device("cpu")
    for shape in (1, 2, 1, 2, 3):
        memory = workspace.workspace_on(cpu, shape, lambda shape=shape: plan_of(shape))
        assert memory.numel() == 8 * shape
        assert memory.dtype == torch.uint8
    assert asked == [1, 2, 3]
    for shape in range(2 * workspace.MOST_REMEMBERED):
        workspace.workspace_on(cpu, shape, lambda: 1)
    assert len(workspace._bytes) <= workspace.MOST_REMEMBERED


def test_what_a_plan_depends_on_is_told_apart() -> None:
    batch = make_batch().logits.flatten(0, 1)
    views = (batch, batch[1:], batch[:, 1:], batch[:, :36], batch.bfloat16(), batch.repeat(2, 1))
    layouts = [call.layout_of(view) for view in views]
    assert len(set(layouts)) == len(views)
    assert call.layout_of(batch) == layouts[0]
    assert call.layout_of(None) is None


# --- contexts -------------------------------------------------------------------------------------


class Contexts:
    """The functions of the library that a context has, which count."""

    def __init__(self) -> None:
        self.made = 0
        self.destroyed: list[int] = []

    def visatb_context_create(self, _: Any) -> int:
        self.made += 1
        return 0

    def visatb_context_destroy(self, _: Any) -> None:
        self.destroyed.append(1)


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> Contexts:
    pretend_a_gpu(monkeypatch)
    counted = Contexts()
    monkeypatch.setattr(context, "_free", defaultdict(list))
    monkeypatch.setattr(context, "library", lambda: counted)
    return counted


def test_a_context_serves_one_call_at_a_time_and_then_the_next(contexts: Contexts) -> None:
    cpu = torch.device("cpu")
    for _ in range(3):
        with context.context_of(cpu) as first, context.context_of(cpu) as second:
            assert first is not second
    assert contexts.made == 2
    with pytest.raises(KeyError), context.context_of(cpu):
        raise KeyError
    assert len(context._free[cpu]) == 2
    with context.context_of(torch.device("meta")) as none:  # no GPU here
        assert none is None


def test_threads_share_contexts_but_not_at_once(contexts: Contexts) -> None:
    cpu = torch.device("cpu")
    together = threading.Barrier(3)

    def work() -> None:
        with context.context_of(cpu):
            together.wait()

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert contexts.made == 3


def test_a_context_is_destroyed_once_and_not_by_a_fork(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with context.context_of(torch.device("cpu")):
        pass
    context._free.clear()
    assert contexts.destroyed == [1]
    with context.context_of(torch.device("cpu")):
        pass
    monkeypatch.setattr(context.os, "getpid", lambda: -1)
    context._free.clear()
    assert contexts.destroyed == [1]


def test_the_first_call_cannot_be_captured(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "is_capturing", lambda _: True)
    with (
        pytest.raises(UnsupportedError, match="^the first call on 'cpu' is captured into a CUDA"),
        context.context_of(torch.device("cpu")),
    ):
        pass
    assert contexts.made == 0


# --- the backward ---------------------------------------------------------------------------------


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The backward does as on a GPU; the places of what it scaled there, in place."""
    places: list[int] = []

    def scale(gradient: Any, factor: Any, expected: Any) -> None:
        assert factor.dtype == torch.float32
        assert expected is None or expected.dtype == torch.float32
        places.append(gradient.data_ptr())
        if expected is None or factor != expected:
            gradient.mul_(factor if expected is None else factor / expected)

    monkeypatch.setattr(upstream, "gpu", SimpleNamespace(is_gpu=lambda _: True))
    monkeypatch.setattr(upstream, "_scale", scale)
    monkeypatch.setattr(ops, "is_operator_enough", lambda _: False)
    return places


def forms(batch: Any, linear: Any) -> list[Any]:
    return [
        (lambda leaf, **options: vitw_loss(leaf, *batch[1:], **options), batch.logits),
        (
            lambda leaf, **options: vitw_linear_loss(leaf, linear.weight, *linear.terms, **options),
            linear.hidden,
        ),
    ]


@tells_of_graph
@pytest.mark.parametrize("grad_scale", [None, 3.0, 49.0])
@pytest.mark.parametrize("factor", [1.0, 3.0, 49.0])
@pytest.mark.parametrize("form", [0, 1])
def test_a_gradient_that_nobody_else_has_is_scaled_where_it_is(
    form: int, factor: float, grad_scale: float | None, scaled: list[int]
) -> None:
    loss, leaf = forms(make_batch(), make_linear_batch())[form]
    leaf.requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    scaled.clear()
    value = factor * loss(leaf, grad_scale=grad_scale)
    kept = torch.autograd.grad(value, leaf, retain_graph=True)[0]
    assert not scaled  # Somebody may come again.
    (last,) = torch.autograd.grad(value, leaf)
    assert scaled == [last.data_ptr()]
    for gradient in (kept, last):
        torch.testing.assert_close(gradient, factor * expected, rtol=1e-5, atol=1e-7)


def test_what_is_scaled_in_place_is_seen_by_who_kept_it(scaled: list[int]) -> None:
    batch = make_batch()
    logits = batch.logits.requires_grad_() * 1
    loss = 3 * vitw_loss(logits, *batch[1:], inplace=True)
    loss.backward()
    assert scaled == [logits.data_ptr()]


def test_rows_with_something_between_them_are_scaled_without_it(scaled: list[int]) -> None:
    batch = make_batch()
    leaf = batch.logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(vitw_loss(leaf, *batch[1:]), leaf)
    scaled.clear()
    padded = torch.nn.functional.pad(leaf, (0, 3), value=7.0)
    (3 * vitw_loss(padded[..., :37], *batch[1:], inplace=True)).backward()
    assert scaled == [padded.data_ptr()]
    torch.testing.assert_close(leaf.grad, 3 * expected)
    assert (padded[..., 37:] == 7).all()


def test_a_pytorch_that_does_not_tell_of_the_graph_multiplies(
    scaled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_TELLS_OF_GRAPH", False)
    batch = make_batch()
    leaf = batch.logits.requires_grad_()
    loss = 3 * vitw_loss(leaf, *batch[1:])
    first = torch.autograd.grad(loss, leaf, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(loss, leaf)[0], first)
    assert not scaled


# --- what nobody looks at -------------------------------------------------------------------------


def test_a_denominator_that_nobody_looks_at_is_nan_for_a_bad_task_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = make_batch()
    expected = vitw_denominator(*batch[1:])
    monkeypatch.setattr(denominator, "ops", SimpleNamespace(has_value=lambda _: False))
    assert torch.equal(vitw_denominator(*batch[1:]), expected)
    ignored = batch.task_ids.masked_fill(batch.labels == -100, 99)
    assert torch.equal(vitw_denominator(batch.labels, ignored, batch.task_weights), expected)
    for task_id in (3, -1, 2**40):
        task_ids = batch.task_ids.clone()
        task_ids[0, 1] = task_id
        assert vitw_denominator(batch.labels, task_ids, batch.task_weights).isnan()


def test_the_operators_called_directly_want_all_tensors_in_one_place() -> None:
    batch = make_batch()
    rows = batch.labels.flatten(), batch.task_ids.flatten().int(), batch.task_weights
    elsewhere = (rows[0].to("meta"), *rows[1:])
    with pytest.raises(ArgumentError, match="^labels is on device 'meta'; expected 'cpu'"):
        ops.form_loss(
            batch.logits.flatten(0, 1), *elsewhere, None, None, -100, "mean", 0.0, 0.0, 0.0, False
        )


def test_new_weights_go_into_the_copy_that_a_gpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "is_gpu", lambda device: device.type == "meta")
    monkeypatch.setattr(gpu, "is_capturing", lambda _: False)
    loss = VITWLoss([1.0, 2.0])
    copy = loss.weights_on(torch.device("meta"))
    loss.task_weights = [3.0, 4.0]
    assert loss.weights_on(torch.device("meta")) is copy
    loss.task_weights = [3.0, 4.0, 5.0]
    assert loss.weights_on(torch.device("meta")).shape == (3,)
    assert list(loss.__getstate__()["_by_device"]) == [torch.device("cpu")]
