"""vitw_linear_loss on a GPU keeps every promise that it makes on the CPU, and those of a GPU alone.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
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
)
from reference import (  # noqa: E402
    LinearBatch,
    LinearReference,
    assert_close,
    distance,
    linear_gradients,
    linear_reference,
    make_linear_batch,
    materialised,
)
from test_torch_cuda import captured  # noqa: E402

from visatb import ArgumentError, UnsupportedError  # noqa: E402
from visatb.torch import VITWLinearLoss, context, ops, vitw_linear_loss, vitw_loss  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"denominator": 40.5},
    {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2},
    {"chunk_bytes": 2**16},
    {"max_valid_rows": 140},
]
# 138 of 210 rows are valid: several chunks of 2^16 bytes, and less than a bound that is rounded up.
SHAPE = {"seq": 70, "width": 24, "vocab": 301}
# Logits are rounded to their type on a GPU.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
NAMES = ("hidden", "weight", "bias")


def make_large_batch(device: str, dtype: torch.dtype, rows: int, vocab: int) -> LinearBatch:
    """Hidden states of 1024 numbers, made where they are used; a quarter of the rows is valid."""
    generator = torch.Generator(device).manual_seed(rows + vocab)

    def normal(*shape: int, scale: float) -> Any:
        return torch.randn(*shape, generator=generator, device=device).mul_(scale).to(dtype)

    labels = torch.randint(vocab, (rows,), generator=generator, device=device)
    labels[torch.arange(rows, device=device) % 4 != 1] = -100
    return LinearBatch(
        normal(rows, 1024, scale=1),
        normal(vocab, 1024, scale=4 / 32),
        normal(vocab, scale=1),
        labels,
        torch.randint(3, (rows,), generator=generator, device=device),
        torch.tensor([0.5, 1.75, 0.0], device=device),
    )


def skip_without_products(dtype: torch.dtype, device: str) -> None:
    """Skips what compares with a product of PyTorch's that older versions lack."""
    if device == "cpu" and dtype == torch.float16 and not ops.REGISTERED:
        pytest.skip("this PyTorch multiplies no fp16 on a CPU")


def assert_near(found: LinearReference, expected: LinearReference, scale: float = 1.0) -> None:
    """As `assert_close`, for logits of the type of the head."""
    tolerance = TOLERANCE[found.hidden.dtype]
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=tolerance, atol=1e-12)
    for name in NAMES:
        error = distance(getattr(found, name), scale * getattr(expected, name))
        assert error <= tolerance, f"{name}: {error}"


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradients_are_those_of_the_formula(
    dtype: torch.dtype, options: dict[str, Any], device: str
) -> None:
    batch = on(device, make_linear_batch(dtype, **SHAPE))
    if device == "cpu" and "chunk_bytes" in options:
        options = {"chunk_bytes": 2**20}
    of_formula = {k: v for k, v in options.items() if k not in ("chunk_bytes", "max_valid_rows")}
    found = linear_gradients(vitw_linear_loss, batch, **options)
    assert_near(found, linear_reference(*batch, **of_formula))
    assert [gradient.dtype for gradient in found[1:]] == [dtype] * 3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("width", "vocab"), [(1, 2), (3, 7), (17, 33), (300, 70)])
def test_any_width_and_vocabulary(width: int, vocab: int, device: str) -> None:
    batch = on(device, make_linear_batch(width=width, vocab=vocab, seq=9))
    found = linear_gradients(vitw_linear_loss, batch)
    assert_close(found, linear_reference(*batch), torch.float32)


LARGE: list[Any] = [("cpu", 200, 1003)]
LARGE += [
    pytest.param(GPU, rows, vocab, marks=needs_gpu)
    for rows, vocab in ((4096, 32000), (2048, 32003))
]


@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 2**25}], ids=str)
@pytest.mark.parametrize(("device", "rows", "vocab"), LARGE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_errors_are_at_most_those_of_a_product_in_the_same_type_with_an_fp32_softmax(
    dtype: torch.dtype, device: str, rows: int, vocab: int, options: dict[str, Any]
) -> None:
    skip_without_products(dtype, device)
    batch = make_large_batch(device, dtype, rows, vocab)
    exact = linear_reference(*batch)
    scale = 1024.0 if dtype == torch.float16 else 1.0  # Else both underflow.
    ours = linear_gradients(scaled_by(scale, grad_scale=scale), batch, **options)
    theirs = materialised(batch, scale=scale)
    for name in NAMES:
        errors = [
            distance(getattr(form, name), scale * getattr(exact, name)) for form in (ours, theirs)
        ]
        assert errors[0] <= 1.1 * errors[1], f"{name}: {errors}"
    torch.testing.assert_close(ours.loss.double() / scale, exact.loss, rtol=1e-3, atol=0)


@needs_gpu
@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 2**26}], ids=str)
def test_fp32_is_no_tf32(options: dict[str, Any]) -> None:
    batch = make_large_batch(GPU, torch.float32, 1024, 32000)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = linear_gradients(vitw_linear_loss, batch, **options)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert_near(found, linear_reference(*batch))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_loss_of_the_logits_with_its_statistics(dtype: torch.dtype, device: str) -> None:
    skip_without_products(dtype, device)
    batch = on(device, make_linear_batch(dtype))
    logits = torch.nn.functional.linear(*batch[:3])
    found, stats = vitw_linear_loss(
        *batch[:2], *batch.terms, bias=batch.bias, shift=True, return_stats=True
    )
    expected, others = vitw_loss(logits, *batch.terms, shift=True, return_stats=True)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": 1e-6}
    torch.testing.assert_close(found, expected, **tolerance)
    for ours, theirs in zip(stats, others, strict=True):
        assert ours.device == batch.hidden.device
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_ignored_rows_and_rows_of_weight_0_may_hold_nan(device: str) -> None:
    batch = on(device, make_linear_batch(**SHAPE))
    expected = linear_reference(*batch)
    idle = (batch.labels == -100) | (batch.task_ids == 2)
    batch.hidden[idle] = torch.nan
    found = linear_gradients(vitw_linear_loss, batch)
    assert_close(found, expected, torch.float32)
    assert not found.hidden[idle].any()


@pytest.mark.parametrize("device", DEVICES)
def test_no_rows_and_rows_that_are_all_ignored(device: str) -> None:
    batch = on(device, make_linear_batch())
    for rows in (
        on(device, make_linear_batch(seq=0)),
        batch._replace(labels=torch.full_like(batch.labels, -100)),
    ):
        for bound in (None, 0):
            found = linear_gradients(vitw_linear_loss, rows, max_valid_rows=bound)
            assert found.loss == 0
            assert not any(gradient.any() for gradient in found[1:])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("needed", list(itertools.product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_requires_no_grad_gets_none(
    dtype: torch.dtype, needed: tuple[bool, ...], device: str
) -> None:
    batch = on(device, make_linear_batch(dtype))
    leaves = [
        each.requires_grad_(is_needed) for each, is_needed in zip(batch[:3], needed, strict=True)
    ]
    loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    assert loss.requires_grad == any(needed)
    if any(needed):
        loss.backward()
    expected = linear_reference(*batch)
    for leaf, is_needed, name in zip(leaves, needed, NAMES, strict=True):
        assert (leaf.grad is not None) == is_needed
        if is_needed:
            assert distance(leaf.grad, getattr(expected, name)) < TOLERANCE[dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"allow_sync": True}, {"max_valid_rows": 140}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_on_every_run(
    dtype: torch.dtype, options: dict[str, Any], device: str
) -> None:
    batch = on(device, make_linear_batch(dtype, **SHAPE))
    first = linear_gradients(vitw_linear_loss, batch, **options)
    for _ in range(3):
        assert all(map(torch.equal, linear_gradients(vitw_linear_loss, batch, **options), first))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_casts_as_a_linear_layer_does(dtype: torch.dtype, device: str) -> None:
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("PyTorch's autocast to fp16 on a CPU is young")
    batch = on(device, make_linear_batch())
    cast = torch.autocast(device, dtype=dtype) if dtype != torch.float32 else nullcontext()
    with cast:
        found = linear_gradients(vitw_linear_loss, batch)
    assert [gradient.dtype for gradient in found[1:]] == [torch.float32] * 3
    by_hand = LinearBatch(*(each.to(dtype) for each in batch[:3]), *batch.terms)
    expected = linear_gradients(vitw_linear_loss, by_hand)
    assert torch.equal(found.loss, expected.loss)
    assert all(
        torch.equal(ours, theirs.float())
        for ours, theirs in zip(found[1:], expected[1:], strict=True)
    )


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_a_bound_and_the_count_of_valid_rows_change_last_bits_only(device: str) -> None:
    batch = on(device, make_linear_batch(**SHAPE))
    plain = linear_gradients(vitw_linear_loss, batch)
    for options in ({"allow_sync": True}, {"max_valid_rows": 138}, {"max_valid_rows": 1000}):
        found = linear_gradients(vitw_linear_loss, batch, **options)
        for ours, theirs in zip(found, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_on_the_cpu_allow_sync_changes_nothing() -> None:
    batch = make_linear_batch(**SHAPE)
    module = VITWLinearLoss(batch.task_weights, allow_sync=True)
    found = module(*batch[:2], *batch.terms[:2], bias=batch.bias)
    assert torch.equal(found, vitw_linear_loss(*batch[:2], *batch.terms, bias=batch.bias))


@needs_gpu
def test_more_valid_rows_than_the_bound_are_nan_and_reported() -> None:
    batch = on(GPU, make_linear_batch(**SHAPE))  # 138 valid rows; a bound of 1 is one of 128.
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss, stats = vitw_linear_loss(
        *leaves[:2], *batch.terms, bias=leaves[2], max_valid_rows=1, return_stats=True
    )
    loss.backward()
    valid = (batch.labels != -100).flatten().nonzero().flatten()
    assert loss.isnan()
    assert stats.report.tolist() == [6, int(valid[128])]
    weighted = (batch.labels != -100) & (batch.task_ids != 2)
    assert leaves[0].grad[weighted].isnan().all()
    assert not leaves[0].grad[batch.labels == -100].any()
    for leaf in leaves[1:]:
        assert leaf.grad.isnan().all()


@needs_gpu
@pytest.mark.parametrize(
    ("name", "value", "code"), [("labels", 301, 2), ("labels", -7, 2), ("task_ids", 3, 3)]
)
def test_a_bad_row_is_reported_and_spoils_no_other_row_of_hidden(
    name: str, value: int, code: int
) -> None:
    batch = on(GPU, make_linear_batch(**SHAPE))
    row = int(((batch.labels != -100) & (batch.task_ids == 1)).flatten().nonzero()[3])
    labels = batch.labels.clone()
    labels.view(-1)[row] = -100
    expected = linear_gradients(vitw_linear_loss, batch._replace(labels=labels))
    getattr(batch, name).view(-1)[row] = value
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss, stats = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2], return_stats=True)
    loss.backward()
    assert loss.isnan()
    assert stats.report.tolist() == [code, row]
    gradient = leaves[0].grad.view(210, 24)
    assert gradient[row].isnan().all()
    gradient[row] = 0
    torch.testing.assert_close(gradient, expected.hidden.view(210, 24), rtol=1e-4, atol=1e-7)


# --- backward -------------------------------------------------------------------------------------


def scaled_by(upstream: float, **options: Any) -> Callable[..., Any]:
    """The loss by an upstream factor."""

    def loss(*args: Any, **kwargs: Any) -> Any:
        return upstream * vitw_linear_loss(*args, **options, **kwargs)

    return loss


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grad_scale", [None, 3.0, 49.0, "tensor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradients_are_upstream_times_those_of_the_loss(
    dtype: torch.dtype, grad_scale: Any, device: str
) -> None:
    batch = on(device, make_linear_batch(dtype))
    scale = torch.tensor(49.0, device=device) if grad_scale == "tensor" else grad_scale
    expected = linear_reference(*batch)
    for upstream in (1.0, 3.0, 49.0):
        found = linear_gradients(scaled_by(upstream, grad_scale=scale), batch)
        assert_near(found._replace(loss=found.loss / upstream), expected, upstream)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_a_second_backward_gives_the_same_again(upstream: float, device: str) -> None:
    batch = on(device, make_linear_batch())
    leaves = [each.requires_grad_() for each in batch[:3]]
    loss = upstream * vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2])
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(loss, leaves)
    assert all(map(torch.equal, first, kept))
    assert all(map(torch.equal, second, kept))


# --- streams, graphs, compilers -------------------------------------------------------------------


def steps(batch: LinearBatch) -> dict[str, Callable[[], Any]]:
    """Calls of every kind, forward and backward, that must not wait for the GPU."""
    leaves = [each.requires_grad_() for each in batch[:3]]
    there = {
        "denominator": torch.tensor(7.0, dtype=torch.float64, device=leaves[0].device),
        "grad_scale": torch.tensor(3.0, device=leaves[0].device),
    }
    module = VITWLinearLoss([0.5, 1.75, 0.0], shift=True)

    def step(upstream: float = 1.0, **options: Any) -> Callable[[], Any]:
        def run() -> Any:
            loss = vitw_linear_loss(*leaves[:2], *batch.terms, bias=leaves[2], **options)
            (upstream * loss).backward()

        return run

    def of_module() -> Any:
        module(*leaves[:2], *batch.terms[:2], max_valid_rows=17).backward()

    return {
        "plain": step(),
        "upstream": step(3.0),
        "bound": step(max_valid_rows=15),
        "bound of 0": step(max_valid_rows=0),
        "numbers": step(3.0, denominator=7.0, grad_scale=3.0),
        "tensors": step(3.0, **there),
        "chunks": step(chunk_bytes=2**19),
        "options": step(label_smoothing=0.1, softcap=9.0, z_loss=0.1, reduction="sum"),
        "the module": of_module,
        "without a gradient": lambda: vitw_linear_loss(*batch[:2], *batch.terms),
    }


STEPS = list(steps(make_linear_batch()))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_steps_that_shall_not_wait_are_steps(dtype: torch.dtype, name: str) -> None:
    if name == "bound of 0":  # A CPU counts, and refuses.
        with pytest.raises(ArgumentError, match="^max_valid_rows = 0; expected None or"):
            steps(make_linear_batch(dtype))[name]()
        return
    steps(make_linear_batch(dtype))[name]()


@needs_gpu
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_waits_for_the_gpu(dtype: torch.dtype, name: str) -> None:
    step = steps(on(GPU, make_linear_batch(dtype)))[name]
    step()  # Opens cuBLAS, and copies weights.
    with NoSynchronisation():
        step()
    assert returns_while_the_gpu_is_busy(step)


@needs_gpu
def test_allow_sync_waits_once_and_nowhere_else() -> None:
    batch = on(GPU, make_linear_batch())
    loss = VITWLinearLoss(batch.task_weights, allow_sync=True)
    loss(*batch[:2], *batch.terms[:2])
    with NoSynchronisation():
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            loss(*batch[:2], *batch.terms[:2])
        loss(*batch[:2], *batch.terms[:2], max_valid_rows=12)


@needs_gpu
@pytest.mark.parametrize("options", [{"max_valid_rows": 140}, {"allow_sync": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cuda_graph_is_replayed_with_other_labels(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    batch = on(GPU, make_linear_batch(dtype, **SHAPE))
    leaves = [each.requires_grad_() for each in batch[:3]]

    def step(**options: Any) -> tuple[Any, ...]:
        loss, stats = vitw_linear_loss(
            *leaves[:2], *batch.terms, bias=leaves[2], grad_scale=3.0, return_stats=True, **options
        )
        return loss, *stats, *torch.autograd.grad(3 * loss, leaves)

    graph, returned = captured(lambda: step(**options))
    # While it is captured nobody can count, so that all rows are multiplied.
    bound = {key: value for key, value in options.items() if key != "allow_sync"}
    for seed in (1, 2):
        other = on(GPU, make_linear_batch(dtype, seed=seed, **SHAPE))
        with torch.no_grad():
            for ours, new in zip(batch, other, strict=True):
                ours.copy_(new)
            batch.labels[seed] = -100  # Fewer than before.
        graph.replay()
        found = [tensor.detach().clone() for tensor in returned]
        assert all(map(torch.equal, found, (tensor.detach() for tensor in step(**bound))))
        assert_near(LinearReference(found[0], *found[6:]), linear_reference(*batch), 3.0)


@needs_gpu
def test_a_graph_cannot_capture_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = on(GPU, make_linear_batch())
    vitw_linear_loss(*batch[:2], *batch.terms)
    monkeypatch.setattr(context, "_free", defaultdict(list))
    with (
        pytest.raises(UnsupportedError, match="^the first call on 'cuda:0' is captured into a"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        batch.hidden * 1  # A graph of nothing is a warning.
        vitw_linear_loss(*batch[:2], *batch.terms)


@pytest.mark.skipif(not ops.REGISTERED, reason="PyTorch before 2.4 has no operators to compile")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_takes_forward_and_backward_without_a_graph_break(
    dtype: torch.dtype, backend: str, device: str
) -> None:
    batch = on(device, make_linear_batch(dtype))
    leaves = [each.requires_grad_() for each in batch[:3]]
    labels, task_ids, _ = batch.terms
    module = VITWLinearLoss([0.5, 1.75, 0.0], shift=True, allow_sync=True)

    def step(bound: int) -> Any:
        return 3 * module(
            leaves[0] * 2, leaves[1], labels, task_ids, bias=leaves[2], max_valid_rows=bound
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    try:
        compiled(18)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"{backend} does not work here: {error}")
    for bound in (18, 17):
        losses = [form(bound) for form in (compiled, step)]
        torch.testing.assert_close(*losses)
        for found, expected in zip(
            *(torch.autograd.grad(loss, leaves) for loss in losses), strict=True
        ):
            torch.testing.assert_close(found, expected)


@needs_gpu
def test_another_stream() -> None:
    batch = on(GPU, make_linear_batch(**SHAPE))
    expected = linear_gradients(vitw_linear_loss, batch)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Late, so that a kernel on a wrong stream would come too early.
        torch.cuda._sleep(50_000_000)
        late = batch._replace(hidden=batch.hidden * 1, weight=batch.weight * 1)
        found = linear_gradients(vitw_linear_loss, late)
    stream.synchronize()
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("device", DEVICES)
def test_several_threads_at_once(device: str) -> None:
    batch = on(device, make_linear_batch(torch.bfloat16, **SHAPE))
    expected = linear_gradients(vitw_linear_loss, batch)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            found = linear_gradients(vitw_linear_loss, batch)
            if not all(map(torch.equal, found, expected)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_gpu
def test_a_device_that_is_not_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    expected = linear_gradients(vitw_linear_loss, on("cuda:0", make_linear_batch()))
    with torch.cuda.device(0):
        found = linear_gradients(vitw_linear_loss, on("cuda:1", make_linear_batch()))
        assert torch.cuda.current_device() == 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.index == 1
        assert torch.equal(ours.cpu(), theirs.cpu())


# --- memory ---------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize(("options", "of_logits"), [({}, 2**30), ({"chunk_bytes": 2**25}, 2**25)])
def test_memory_is_that_of_the_gradients_and_of_the_chunks(
    options: dict[str, Any], of_logits: int
) -> None:
    batch = make_large_batch(GPU, torch.bfloat16, 8192, 32000)  # 2048 valid rows
    leaves = [each.requires_grad_() for each in batch[:3]]
    vitw_linear_loss(*batch[:2], *batch.terms, max_valid_rows=2048)  # opens cuBLAS
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss = vitw_linear_loss(
        *leaves[:2], *batch.terms, bias=leaves[2], max_valid_rows=2048, **options
    )
    gradients = torch.autograd.grad(loss, leaves)
    taken = torch.cuda.max_memory_allocated() - before
    wide_head = 4 * batch.weight.numel() if options else 0  # summed over chunks in fp32
    chunk = min(of_logits, 2048 * 32000 * 2)
    rest = 2048 * 1024 * 2 + 48 * 2**20  # the gathered rows, cuBLAS and what goes with the rows
    assert taken < sum(each.nbytes for each in gradients) + wide_head + chunk + rest, taken


# --- a real model ---------------------------------------------------------------------------------


def make_llava(device: str) -> Any:
    """A LLaVA of random weights, too small to be of use."""
    transformers = pytest.importorskip("transformers", reason="the model is that of transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            **sizes, num_attention_heads=4, image_size=32, patch_size=16
        ),
        text_config=transformers.LlamaConfig(
            **sizes,
            num_attention_heads=4,
            vocab_size=99,
            max_position_embeddings=64,
            initializer_range=0.2,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
        ),
        image_token_index=1,
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    return transformers.LlavaForConditionalGeneration(config).to(device).train()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", ["logits", "in place", "linear"])
def test_a_training_step_of_llava_has_the_gradients_of_its_own_loss(form: str, device: str) -> None:
    model = make_llava(device)
    tokens = torch.randint(4, 99, (3, 16), generator=torch.Generator().manual_seed(1))
    tokens[:, 1:5] = 1
    labels = tokens.clone()
    labels[:, :8] = -100
    labels[2, 12:] = -100
    tokens, labels = tokens.to(device), labels.to(device)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(device)
    task_ids = torch.tensor([0, 1, 0], device=device)
    inputs = {"input_ids": tokens, "pixel_values": pixels}
    parameters = dict(model.named_parameters())

    def gradients(loss: Any) -> list[Any]:
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return [each for each in found if each is not None]

    def ours() -> Any:
        if form == "linear":
            hidden = model.model(**inputs).last_hidden_state
            head = model.get_output_embeddings()
            return vitw_linear_loss(hidden, head.weight, labels, task_ids, [1, 1], shift=True)
        logits = model(**inputs).logits
        return vitw_loss(logits, labels, task_ids, [1, 1], shift=True, inplace=form == "in place")

    stock = model(**inputs, labels=labels).loss
    loss = ours()
    torch.testing.assert_close(loss, stock, rtol=1e-5, atol=1e-6)
    expected, found = gradients(stock), gradients(loss)
    assert len(found) == len(expected) > 20
    # Some are 0 but for rounding, such as that of a key's bias.
    largest = max(each.abs().max().item() for each in expected)
    for theirs, mine in zip(expected, found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6 * largest)
