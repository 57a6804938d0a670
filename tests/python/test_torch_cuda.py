"""vitw_loss on a GPU keeps every promise that it makes on the CPU, and those of a GPU alone.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import (  # noqa: E402
    DEVICES,
    GPU,
    NoSynchronisation,
    needs_gpu,
    on,
    returns_while_the_gpu_is_busy,
    rounding_faults,
)
from reference import (  # noqa: E402
    Batch,
    LargestTensor,
    assert_gradient,
    loss_and_gradient,
    make_batch,
    reference,
)

from visatb import ArgumentError, Error, UnsupportedError  # noqa: E402
from visatb.torch import (  # noqa: E402
    VITWLoss,
    ops,
    vitw_denominator,
    vitw_loss,
    vitw_loss_plan,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
OPTIONS: list[dict[str, Any]] = [
    {"reduction": "sum"},
    {"denominator": 40.5},
    {"label_smoothing": 0.1},
    {"softcap": 5.0},
    {"z_loss": 1e-2},
    {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2},
]
OTHER = 1.75  # The weight of task 1 in what `make_rows` makes.
SHAPES: list[Any] = [("cpu", 1, 1003), ("cpu", 131, 1003)]
SHAPES += [
    pytest.param(GPU, rows, vocab, marks=needs_gpu)
    for vocab in (32000, 32003, 32064, 128256, 131073, 152064, 262144)
    for rows in (1, 131)
]
SHAPES += [pytest.param(GPU, 8192, 1003, marks=needs_gpu)]


def make_rows(device: str, dtype: torch.dtype, rows: int, vocab: int) -> Batch:
    """Rows of logits, made where they are used: some certain of their label, some ignored."""
    generator = torch.Generator(device).manual_seed(rows + vocab)
    logits = torch.randn(rows, vocab, generator=generator, device=device).mul_(3).to(dtype)
    labels = torch.randint(vocab, (rows,), generator=generator, device=device)
    row = torch.arange(rows, device=device)
    certain, ignored = row[row % 5 == 1], row[row % 4 == 3]
    logits[certain, labels[certain]] = 30
    labels[ignored] = -100
    logits[ignored] = torch.nan
    task_ids = torch.randint(3, (rows,), generator=generator, device=device)
    task_ids[0] = 1
    return Batch(logits, labels, task_ids, torch.tensor([0.5, OTHER, 0.0], device=device))


def reference_of_rows(batch: Batch, **options: Any) -> Any:
    """As `reference`, for logits that may be NaN where they do not count."""
    counted = (batch.labels != -100).unsqueeze(-1)
    return reference(torch.where(counted, batch.logits, 0), *batch[1:], **options)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "rows", "vocab"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradient_are_as_accurate_as_promised(
    dtype: torch.dtype, device: str, rows: int, vocab: int
) -> None:
    batch = make_rows(device, dtype, rows, vocab)
    expected = reference_of_rows(batch)
    # As a loss scaler would, or half of what is to be compared underflows in fp16.
    scale = 1024.0 if dtype == torch.float16 else 1.0
    logits = batch.logits.requires_grad_()
    loss, stats = vitw_loss(logits, *batch[1:], grad_scale=scale, return_stats=True)
    (gradient,) = torch.autograd.grad(scale * loss, logits)
    torch.testing.assert_close(loss.detach().double(), expected.loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(stats.task_nll, expected.task_nll, rtol=1e-6, atol=1e-9)
    assert torch.equal(stats.task_tokens, expected.task_tokens)
    assert stats.report.tolist() == [0, -1]
    weight = batch.task_weights[batch.task_ids].double().unsqueeze(-1)
    floor = 1e-7 * scale * weight / expected.denominator
    assert not rounding_faults(gradient, scale * expected.gradient, floor)
    idle = (batch.labels == -100) | (batch.task_ids == 2)
    assert not gradient[idle].any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vocab", [1, 37, 4099])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_options(dtype: torch.dtype, options: dict[str, Any], vocab: int, device: str) -> None:
    batch = on(device, make_batch(dtype, vocab=vocab))
    expected = reference(*batch, **options)
    loss, gradient = loss_and_gradient(vitw_loss, *batch, **options)
    torch.testing.assert_close(loss.double(), expected.loss, rtol=1e-6, atol=1e-12)
    scale = 30.0 if options.get("reduction") == "sum" else 1.0
    torch.testing.assert_close(
        gradient.double(),
        expected.gradient,
        rtol=max(torch.finfo(dtype).eps, 2e-6),
        atol=1e-7 * scale,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("stride", [37, 40, 64])
def test_padded_rows_in_place_or_not_touch_nothing_beside_them(
    stride: int, shift: bool, inplace: bool, device: str
) -> None:
    batch = on(device, make_batch())
    plain, gradient = loss_and_gradient(vitw_loss, *batch, shift=shift)
    leaf = batch.logits.clone().requires_grad_()
    computed = torch.nn.functional.pad(leaf, (0, stride - 37), value=7.0)
    loss = vitw_loss(computed[..., :37], *batch[1:], shift=shift, inplace=inplace)
    loss.backward()
    torch.testing.assert_close(loss.detach(), plain)
    torch.testing.assert_close(leaf.grad, gradient)
    assert (computed[..., 37:] == 7).all()
    assert torch.equal(computed[..., :37], leaf.grad if inplace else batch.logits)


@pytest.mark.parametrize("device", DEVICES)
def test_no_rows_and_rows_that_are_all_ignored(device: str) -> None:
    none = torch.empty(0, dtype=torch.int64, device=device)
    loss, gradient = loss_and_gradient(vitw_loss, torch.empty(0, 5, device=device), none, none, [1])
    assert loss == 0
    assert gradient.shape == (0, 5)
    batch = on(device, make_batch())
    labels = torch.full_like(batch.labels, -100)
    loss, gradient = loss_and_gradient(vitw_loss, batch.logits, labels, *batch[2:])
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("device", DEVICES)
def test_stats_are_on_the_device_and_tell_of_bad_logits(device: str) -> None:
    batch = on(device, make_batch())
    loss, stats = vitw_loss(*batch, return_stats=True)
    expected = reference(*batch)
    for name in ("numerator", "denominator", "task_nll", "task_tokens"):
        found = getattr(stats, name)
        assert found.device == batch.logits.device
        torch.testing.assert_close(found, getattr(expected, name), rtol=1e-6, atol=1e-12)
    assert torch.equal(loss, (stats.numerator / stats.denominator).float())
    row = int(((batch.labels != -100) & (batch.task_ids == 1)).flatten().nonzero()[0])
    batch.logits.view(18, 37)[row, 3] = torch.inf
    loss, stats = vitw_loss(*batch, return_stats=True)
    assert loss.isnan()
    assert stats.report.tolist() == [1, row]


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_and_a_tensor_of_either_place_are_the_same_denominator_and_scale(
    device: str,
) -> None:
    batch = on(device, make_batch())
    expected = loss_and_gradient(vitw_loss, *batch, denominator=40.5, grad_scale=3.0)
    for place in ("cpu", device):
        for dtype in (torch.float32, torch.float64):
            scalars = {
                "denominator": torch.tensor(40.5, dtype=dtype, device=place),
                "grad_scale": torch.tensor(3.0, dtype=dtype, device=place),
            }
            found = loss_and_gradient(vitw_loss, *batch, **scalars)
            assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("device", DEVICES)
def test_the_denominator_is_counted_on_the_device(device: str) -> None:
    batch = on(device, make_batch())
    found = vitw_denominator(*batch[1:])
    assert found.device == batch.labels.device
    assert found == reference(*batch).denominator
    module = VITWLoss([0.5, 1.75, 0.0])
    assert torch.equal(module.denominator_of(*batch[1:3]), found)
    assert torch.equal(module(*batch[:3]), vitw_loss(*batch))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_on_every_run(dtype: torch.dtype, device: str) -> None:
    vocab = 32003 if device != "cpu" else 1003
    batch = make_rows(device, dtype, 131, vocab)

    def run() -> list[Any]:
        leaf = batch.logits.detach().clone().requires_grad_()
        loss, stats = vitw_loss(leaf, *batch[1:], return_stats=True)
        loss.backward()
        return [loss.detach(), leaf.grad.nan_to_num(), *stats]

    first = run()
    for _ in range(3):
        assert all(map(torch.equal, run(), first))


# --- what the CPU refuses -------------------------------------------------------------------------


def gradient_and_report(batch: Batch, **options: Any) -> tuple[Any, Any, list[int]]:
    leaf = batch.logits.detach().clone().requires_grad_()
    loss, stats = vitw_loss(leaf, *batch[1:], return_stats=True, **options)
    loss.backward()
    return loss.detach(), leaf.grad.flatten(0, -2), stats.report.tolist()


def rows_of_task(batch: Batch, task: int) -> list[int]:
    valid = (batch.labels != -100) & (batch.task_ids == task)
    return [int(row) for row in valid.flatten().nonzero()]


BAD_ROWS: dict[str, tuple[str, int, int]] = {
    "a label beyond the vocabulary": ("labels", 37, 2),
    "a negative label": ("labels", -1, 2),
    "a label of 2^40": ("labels", 2**40, 2),
    "a task id beyond the tasks": ("task_ids", 3, 3),
    "a negative task id": ("task_ids", -1, 3),
    "a task id that would wrap to 0": ("task_ids", 2**32, 3),
}


@needs_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_reported_and_spoils_itself_alone(case: str, inplace: bool) -> None:
    name, value, code = BAD_ROWS[case]
    batch = on(GPU, make_batch())
    row = rows_of_task(batch, 1)[-1]
    # What its neighbours get is what they would get if it were ignored.
    labels = batch.labels.clone()
    labels.view(-1)[row] = -100
    _, expected, _ = gradient_and_report(batch._replace(labels=labels))
    getattr(batch, name).view(-1)[row] = value
    leaf = batch.logits.clone().requires_grad_()
    loss, stats = vitw_loss(leaf * 1, *batch[1:], inplace=inplace, return_stats=True)
    loss.backward()
    gradient = leaf.grad.view(18, 37)
    assert loss.isnan()
    assert stats.report.tolist() == [code, row]
    assert gradient[row].isnan().all()
    gradient[row] = expected[row]
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


@needs_gpu
def test_the_first_of_several_bad_rows_is_reported() -> None:
    batch = on(GPU, make_batch())
    rows = sorted(rows_of_task(batch, 0) + rows_of_task(batch, 1))
    batch.labels.view(-1)[rows[-1]] = 99
    batch.task_ids.view(-1)[rows[1]] = 7
    batch.logits.view(18, 37)[rows[3]] = torch.nan
    assert gradient_and_report(batch)[2] == [3, rows[1]]


@needs_gpu
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_bad_weight_is_reported_with_its_first_row(weight: float) -> None:
    batch = on(GPU, make_batch())
    weights = torch.tensor([0.5, weight, 0.0], device=GPU)
    loss, gradient, report = gradient_and_report(batch._replace(task_weights=weights))
    rows = rows_of_task(batch, 1)
    assert loss.isnan()
    assert report == [4, rows[0]]
    assert gradient[rows].isnan().all()
    assert gradient[rows_of_task(batch, 0)].isfinite().all()


@needs_gpu
@pytest.mark.parametrize("denominator", [0.0, -2.0, float("nan"), float("inf")])
def test_a_bad_denominator_of_the_gpu_is_reported_and_one_of_the_host_refused(
    denominator: float,
) -> None:
    batch = on(GPU, make_batch())
    there = torch.tensor(denominator, dtype=torch.float64, device=GPU)
    loss, gradient, report = gradient_and_report(batch, denominator=there)
    assert loss.isnan()
    assert report[0] == 5
    weighted = rows_of_task(batch, 0) + rows_of_task(batch, 1)
    assert gradient[weighted].isnan().all()
    idle = [row for row in range(18) if row not in weighted]
    assert not gradient[idle].any()
    if denominator != 0:  # For 0 it takes the rows to know whether it is right.
        with pytest.raises(ArgumentError, match="^denominator = "):
            vitw_loss(*batch, denominator=denominator)


@needs_gpu
def test_a_scale_of_the_gpu_that_is_not_finite_makes_the_gradient_nan() -> None:
    batch = on(GPU, make_batch())
    for scale in (torch.inf, torch.nan):
        there = torch.tensor(scale, device=GPU)
        gradient = gradient_and_report(batch, grad_scale=there)[1]
        assert gradient[rows_of_task(batch, 1)].isnan().all()
        with pytest.raises(ArgumentError, match="^grad_scale = "):
            vitw_loss(*batch, grad_scale=scale)


@needs_gpu
def test_a_bad_task_id_makes_a_counted_denominator_nan_and_ends_nothing() -> None:
    batch = on(GPU, make_batch())
    for task_id in (3, -1, 2**40):
        task_ids = batch.task_ids.clone()
        task_ids.view(-1)[rows_of_task(batch, 1)[0]] = task_id
        assert vitw_denominator(batch.labels, task_ids, batch.task_weights).isnan()
    task_ids[batch.labels != -100] = 0
    assert vitw_denominator(batch.labels, task_ids, batch.task_weights) == 6


@needs_gpu
def test_fp64_and_tensors_of_two_places_are_refused() -> None:
    batch = on(GPU, make_batch())
    with pytest.raises(ArgumentError, match="^float64 on a GPU; expected float32"):
        vitw_loss(batch.logits.double(), *batch[1:])
    with pytest.raises(ArgumentError, match="^labels is on device 'cpu'; expected that of logits"):
        vitw_loss(batch.logits, batch.labels.cpu(), *batch[2:])


# --- backward -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("grad_scale", [None, 3.0, 49.0, "tensor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_upstream_times_that_of_the_loss(
    dtype: torch.dtype, grad_scale: Any, inplace: bool, device: str
) -> None:
    batch = on(device, make_batch(dtype))
    scale = torch.tensor(49.0, device=device) if grad_scale == "tensor" else grad_scale
    expected = reference(*batch).gradient
    for upstream in (1.0, 3.0, 49.0):

        def scaled(*args: Any, upstream: float = upstream) -> Any:
            return upstream * vitw_loss(*args, grad_scale=scale, inplace=inplace)

        _, gradient = loss_and_gradient(scaled, *batch)
        if dtype == torch.float32:
            assert_gradient(gradient, expected, scale=upstream)
            continue
        # One rounding if the factor was the expected one or is first known in the backward, else 2.
        atol = 1e-7 * upstream
        rtol = 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(gradient.double(), upstream * expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_a_second_backward_gives_the_same_again(upstream: float, device: str) -> None:
    batch = on(device, make_batch())
    leaf = batch.logits.requires_grad_()
    loss = upstream * vitw_loss(leaf, *batch[1:])
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(first, kept)
    assert torch.equal(second, kept)
    assert_gradient(kept, reference(*batch).gradient, scale=upstream)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_the_gradients_of_two_backwards_add_up_in_a_leaf(upstream: float, device: str) -> None:
    if not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        pytest.skip("this PyTorch does not tell whether the graph is retained")
    batch = on(device, make_batch())
    leaf = batch.logits.requires_grad_()
    loss = upstream * vitw_loss(leaf, *batch[1:])
    loss.backward(retain_graph=True)
    loss.backward()
    assert_gradient(leaf.grad, reference(*batch).gradient, scale=2 * upstream)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_upstream_factor_that_overflowed_reaches_the_gradient(
    dtype: torch.dtype, factor: float, device: str
) -> None:
    batch = on(device, make_batch(dtype))
    _, gradient = loss_and_gradient(lambda *args: factor * vitw_loss(*args), *batch)
    weighted = (batch.labels != -100) & (batch.task_ids != 2)
    assert not gradient[weighted].isfinite().any()


@pytest.mark.parametrize("device", DEVICES)
def test_in_place_is_for_one_backward(device: str) -> None:
    batch = on(device, make_batch())
    loss = vitw_loss(batch.logits.requires_grad_() * 1, *batch[1:], inplace=True)
    loss.backward(retain_graph=True)
    with pytest.raises(Error, match="a second backward through an in-place loss"):
        loss.backward()


@needs_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_the_backward_makes_no_tensor_of_the_size_of_the_logits(
    upstream: float, inplace: bool
) -> None:
    if not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        pytest.skip("this PyTorch does not tell whether the graph is retained")
    batch = on(GPU, make_batch())
    logits = batch.logits.flatten(0, 1).requires_grad_() * 1
    loss = upstream * vitw_loss(logits, *batch[1:], inplace=inplace)
    with LargestTensor() as largest:
        torch.autograd.grad(loss, logits)
    assert largest.elements < logits.numel()


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators")
@pytest.mark.parametrize("device", DEVICES)
def test_who_calls_the_operator_keeps_the_gradient_that_it_returned(device: str) -> None:
    batch = on(device, make_batch())
    logits = batch.logits.flatten(0, 1).requires_grad_()
    rows = batch.labels.flatten(), batch.task_ids.flatten().int(), batch.task_weights
    options = (None, None, -100, "mean", 0.0, 0.0, 0.0)
    loss, *_, returned = torch.ops.visatb.vitw_loss(logits, *rows, *options, True)
    before = returned.clone()
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    assert torch.equal(returned, before)
    torch.testing.assert_close(gradient, 3 * before)


# --- streams, graphs, compilers -------------------------------------------------------------------


def steps(batch: Batch) -> dict[str, Callable[[], Any]]:
    """Calls of every kind, forward and backward, that must not wait for the GPU."""
    leaf = batch.logits.requires_grad_()
    scalars = {
        "denominator": torch.tensor(7.0, dtype=torch.float64, device=leaf.device),
        "grad_scale": torch.tensor(3.0, device=leaf.device),
    }
    module = VITWLoss([0.5, 1.75, 0.0], shift=True, return_stats=True)

    def step(**options: Any) -> Callable[[], Any]:
        weights = options.pop("weights", batch.task_weights)
        upstream = options.pop("upstream", 1.0)

        def run() -> Any:
            loss = vitw_loss(leaf * 1, *batch[1:3], weights, **options)
            (upstream * loss).backward()

        return run

    def of_module() -> Any:
        loss, _ = module(leaf, *batch[1:3])
        loss.backward()

    return {
        "plain": step(),
        "upstream": step(upstream=3.0),
        "shift": step(shift=True),
        "in place": step(inplace=True),
        "in place, upstream": step(inplace=True, upstream=3.0),
        "numbers": step(denominator=7.0, grad_scale=3.0, upstream=3.0),
        "tensors": step(**scalars, upstream=3.0),
        "tensors of the host": step(
            denominator=torch.tensor(7.0), grad_scale=torch.tensor(3.0), upstream=3.0
        ),
        "options": step(label_smoothing=0.1, softcap=9.0, z_loss=0.1, reduction="sum"),
        "weights of a list": step(weights=[0.5, 1.75, 0.0]),
        "weights of the host": step(weights=torch.tensor([0.5, 1.75, 0.0])),
        "the module": of_module,
        "the denominator": lambda: module.denominator_of(*batch[1:3]),
        "without a gradient": lambda: vitw_loss(*(each.detach() for each in batch)),
    }


STEPS = list(steps(make_batch()))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_steps_that_shall_not_wait_are_steps(dtype: torch.dtype, name: str) -> None:
    steps(make_batch(dtype))[name]()


@needs_gpu
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_waits_for_the_gpu(dtype: torch.dtype, name: str) -> None:
    step = steps(on(GPU, make_batch(dtype)))[name]
    step()  # The module copies its weights at its first call.
    with NoSynchronisation():
        step()
    # A driver may copy from memory of the host as it likes.
    if not name.startswith("weights"):
        assert returns_while_the_gpu_is_busy(step)


@needs_gpu
def test_the_plan_and_a_bad_argument_wait_for_nothing_either() -> None:
    batch = on(GPU, make_batch())
    with NoSynchronisation():
        vitw_loss_plan(batch.logits)
        with pytest.raises(ArgumentError, match="^label_smoothing = 2"):
            vitw_loss(*batch, label_smoothing=2.0)


@needs_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_stream(dtype: torch.dtype, inplace: bool) -> None:
    batch = on(GPU, make_batch(dtype))
    expected = loss_and_gradient(vitw_loss, *batch)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Late, so that a kernel on a wrong stream would come too early.
        torch.cuda._sleep(50_000_000)
        logits = batch.logits * 1
        found = loss_and_gradient(vitw_loss, logits, *batch[1:], inplace=inplace)
    stream.synchronize()
    assert all(map(torch.equal, found, expected))


def captured(step: Callable[[], Any]) -> tuple[Any, Any]:
    """(a CUDA graph of the step, what it returned), after calls that open what must be open."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        returned = step()
    return graph, returned


@needs_gpu
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("upstream", [1.0, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cuda_graph_is_replayed_with_other_inputs(
    dtype: torch.dtype, upstream: float, inplace: bool
) -> None:
    batch = on(GPU, make_batch(dtype))
    logits = batch.logits.requires_grad_()
    denominator = torch.tensor(7.0, dtype=torch.float64, device=GPU)
    scale = torch.tensor(3.0, device=GPU)

    def step() -> tuple[Any, ...]:
        loss, stats = vitw_loss(
            logits * 1,
            *batch[1:],
            denominator=denominator,
            grad_scale=scale,
            inplace=inplace,
            return_stats=True,
        )
        return loss, *stats, *torch.autograd.grad(upstream * loss, logits)

    graph, returned = captured(step)
    for seed in (1, 2):
        other = on(GPU, make_batch(dtype, seed=seed))
        with torch.no_grad():
            for ours, new in zip(batch, other, strict=True):
                ours.copy_(new)
            denominator.fill_(7.0 + seed)
            scale.fill_(1.0 + 2 * (seed - 1))
        graph.replay()
        found = [tensor.detach().clone() for tensor in returned]
        assert all(map(torch.equal, found, (tensor.detach() for tensor in step())))
        expected = reference(*batch, denominator=7.0 + seed)
        torch.testing.assert_close(found[0].double(), expected.loss, rtol=1e-6, atol=0)


@needs_gpu
def test_weights_that_are_set_reach_the_replays_of_a_graph() -> None:
    batch = on(GPU, make_batch())
    module = VITWLoss([0.5, 1.75, 0.0])
    graph, loss = captured(lambda: module(*batch[:3]))
    module.task_weights = [2.0, 1.0, 0.5]
    graph.replay()
    assert torch.equal(loss, vitw_loss(*batch[:3], [2.0, 1.0, 0.5]))


@needs_gpu
def test_what_a_graph_cannot_hold_is_refused_while_it_is_captured() -> None:
    batch = on(GPU, make_batch())
    vitw_loss(*batch)
    module = VITWLoss([0.5, 1.75, 0.0])
    for step in (lambda: vitw_loss(*batch[:3], [0.5, 1.75, 0.0]), lambda: module(*batch[:3])):
        with (
            pytest.raises(UnsupportedError, match="^task_weights is on device 'cpu' while a CUDA"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            batch.logits * 1  # A graph of nothing is a warning.
            step()
    module(*batch[:3])


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_takes_forward_and_backward_without_a_graph_break(
    dtype: torch.dtype, backend: str, device: str
) -> None:
    batch = on(device, make_batch(dtype))
    leaf = batch.logits.requires_grad_()
    module = VITWLoss([0.5, 1.75, 0.0], shift=True)

    def step(denominator: float) -> Any:
        return 3 * module(leaf * 2, *batch[1:3], denominator=denominator, grad_scale=3.0)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    try:
        compiled(7.0)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"{backend} does not work here: {error}")
    for denominator in (7.0, 9.0):
        losses = [form(denominator) for form in (compiled, step)]
        torch.testing.assert_close(*losses)
        gradients = [torch.autograd.grad(loss, leaf)[0] for loss in losses]
        torch.testing.assert_close(*gradients)


@needs_gpu
def test_a_device_that_is_not_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    expected = loss_and_gradient(vitw_loss, *on("cuda:0", make_batch()))
    batch = on("cuda:1", make_batch())
    with torch.cuda.device(0):
        for scalar in (7.0, torch.tensor(7.0), torch.tensor(7.0, device="cuda:0")):
            vitw_loss(*batch, denominator=scalar)
        found = loss_and_gradient(vitw_loss, *batch)
        assert torch.cuda.current_device() == 0
    assert found[1].device.index == 1
    assert all(
        torch.equal(ours.cpu(), theirs.cpu()) for ours, theirs in zip(found, expected, strict=True)
    )


# --- memory and size ------------------------------------------------------------------------------


@needs_gpu
def test_in_place_takes_no_memory_to_speak_of() -> None:
    rows, vocab = 4096, 32000
    labels = torch.randint(vocab, (rows,), device=GPU)
    task_ids = torch.zeros(rows, dtype=torch.int32, device=GPU)
    weights = torch.ones(1, device=GPU)
    leaf = torch.randn(rows, vocab, device=GPU, dtype=torch.bfloat16, requires_grad=True)
    logits = leaf * 1
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    (gradient,) = torch.autograd.grad(
        vitw_loss(logits, labels, task_ids, weights, inplace=True), logits
    )
    assert gradient.data_ptr() == logits.data_ptr()
    taken = torch.cuda.max_memory_allocated() - before
    assert taken < logits.nbytes / 50, taken


@needs_gpu
@pytest.mark.slow
def test_more_logits_than_32_bits_can_count() -> None:
    rows, vocab = 70000, 65536
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("takes 12 GiB of the GPU's memory")
    logits = torch.empty(rows, vocab, dtype=torch.bfloat16, device=GPU)
    for part in logits.split(4096):
        part.normal_(0, 3)
    labels = torch.randint(vocab, (rows,), device=GPU)
    task_ids = torch.arange(rows, device=GPU) % 2
    weights = torch.tensor([0.5, 1.75], device=GPU)
    sampled = torch.tensor([0, 1, 32767, 32768, 65535, 65536, 69999], device=GPU)
    kept = logits[sampled].clone()
    denominator = vitw_denominator(labels, task_ids, weights)
    terms = (labels, task_ids.int(), weights, denominator, None, -100, "mean", 0.0, 0.0, 0.0)
    loss, _, _, _, tokens, report = ops.loss_inplace(logits, *terms)
    assert report.tolist() == [0, -1]
    assert tokens.tolist() == [rows // 2, rows // 2]
    assert loss.isfinite()
    expected = reference(
        kept, labels[sampled], task_ids[sampled], weights, denominator=denominator.item()
    )
    floor = 1e-7 * weights.double()[task_ids[sampled]].unsqueeze(-1) / denominator
    assert not rounding_faults(logits[sampled], expected.gradient, floor)


# --- loss scalers ---------------------------------------------------------------------------------


@pytest.mark.skipif(
    not hasattr(torch.amp, "GradScaler"), reason="torch.amp.GradScaler: from 2.3 on"
)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_loss_scaler_in_fp16_gets_gradients_and_sees_overflow(inplace: bool, device: str) -> None:
    batch = on(device, make_batch())
    weight = torch.nn.Parameter(torch.eye(37, device=device))
    optimizer = torch.optim.SGD([weight], lr=0.0)

    def step(scaler: Any) -> None:
        logits = (batch.logits @ weight).half()
        loss = vitw_loss(logits, *batch[1:], denominator=1e6, inplace=inplace)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    exact = reference(batch.logits.half(), *batch[1:], denominator=1e6).gradient
    expected = batch.logits.double().flatten(0, 1).t() @ exact.flatten(0, 1)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**16)
    step(scaler)
    assert (weight.grad - expected).norm() < 2e-3 * expected.norm()
    assert scaler.get_scale() == 2.0**16
    overflowing = torch.amp.GradScaler(device, init_scale=2.0**126)
    step(overflowing)
    assert not weight.grad.isfinite().all()
    assert overflowing.get_scale() == 2.0**125
