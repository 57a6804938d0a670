"""What the losses take of a GPU's memory, and sizes that 32 bits cannot count."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import GPU, needs_real_gpu, rounding_faults  # noqa: E402
from gpu_batches import make_large_batch  # noqa: E402
from reference import reference  # noqa: E402

from visatb.torch import ops, vitw_denominator, vitw_linear_loss, vitw_loss  # noqa: E402


@needs_real_gpu
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


@needs_real_gpu
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


@needs_real_gpu
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
