"""vitw_vocab_parallel_loss gives on every rank what vitw_loss gives of whole rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)

import torch.distributed as dist  # noqa: E402
from ranks import (  # noqa: E402
    RANKS,
    VOCAB,
    Case,
    Found,
    Results,
    batch_of,
    refusal_of,
    results_of_ranks,
    untrained,
)
from reference import assert_gradient, loss_and_gradient, make_batch, reference  # noqa: E402

import visatb  # noqa: E402
from visatb.torch import gpu, vitw_loss, vitw_vocab_parallel_loss  # noqa: E402
from visatb.torch.slices import find_slice  # noqa: E402

TOGETHER = {"label_smoothing": 0.2, "softcap": 6.0, "z_loss": 1e-2}
UNEQUAL = (1, 2, 30, 4)
WITHOUT_ORDER = {1, 2, 30, 4}

CASES = {
    "two ranks": Case((20, 17)),
    "two ranks, one word": Case((36, 1)),
    "four ranks": Case((10, 9, 9, 9)),
    "four unequal ranks": Case(UNEQUAL),
    "widths said": Case(UNEQUAL, says_widths=True),
    "widths said in NumPy's integers": Case(tuple(np.array(UNEQUAL)), says_widths=True),
    "ranks without a target": Case((4, 11, 11, 11), change="labels among the first words"),
    "bf16": Case(UNEQUAL, torch.bfloat16),
    "fp16": Case(UNEQUAL, torch.float16),
    "fp64": Case(UNEQUAL, torch.float64),
    "label smoothing": Case(UNEQUAL, options={"label_smoothing": 0.1}),
    "full smoothing": Case(UNEQUAL, options={"label_smoothing": 1.0}),
    "softcap": Case((20, 17), options={"softcap": 5.0}),
    "z-loss": Case(UNEQUAL, options={"z_loss": 1e-2}),
    "all options": Case(UNEQUAL, torch.bfloat16, TOGETHER),
    "all options in place": Case((20, 17), torch.float32, {**TOGETHER, "inplace": True}),
    "sum": Case(UNEQUAL, options={"reduction": "sum"}),
    "denominator": Case(UNEQUAL, options={"denominator": 40.0}),
    "ignore_index": Case(UNEQUAL, options={"ignore_index": 7}, change="ignored as 7"),
    "in place": Case(UNEQUAL, torch.bfloat16, {"inplace": True}),
    "upstream factor": Case(UNEQUAL, factor=3.0),
    "grad_scale": Case(UNEQUAL, torch.float16, {"grad_scale": 1024.0}, factor=1024.0),
    "grad_scale and another factor": Case(UNEQUAL, options={"grad_scale": 8.0}, factor=3.0),
    "fp16 in place, formed in the backward": Case(
        UNEQUAL, torch.float16, {"inplace": True, "denominator": 1e7}, factor=65536.0
    ),
    "fp16 of tiny gradients": Case(UNEQUAL, torch.float16, {"denominator": 1e7}, factor=65536.0),
    "masked": Case((4, 11, 5, 17), change="masked"),
    "surely right": Case(UNEQUAL, change="surely right"),
}
# Of whole rows in the same order, so that both have the labels of the reference.
SPECIAL = {
    "all ignored": Case(UNEQUAL, change="all ignored"),
    "bad rows": Case((20, 17), change="bad rows"),
    "shift": Case(UNEQUAL, options={"shift": True}),
    "shift in two ranks in place": Case((20, 17), options={"shift": True, "inplace": True}),
}
COMPARED = list(CASES)
CASES |= SPECIAL


# --- what else ranks do ---------------------------------------------------------------------------


def slice_of(rank: int) -> Any:
    """This rank's words of a batch, and the terms."""
    logits, *terms = make_batch(vocab=VOCAB)
    return logits.split(list(UNEQUAL), dim=-1)[rank].clone(), terms


def refused_by_ranks(rank: int, *_: Any) -> dict[str, str]:
    logits, (labels, task_ids, weights) = slice_of(rank)
    beyond = labels.clone()
    beyond[1, 4] = VOCAB
    odd = logits[:, :5] if rank == 2 else logits
    odd_terms = labels[:, : odd.shape[1]], task_ids[:, : odd.shape[1]], weights

    def loss(*args: Any, **kwargs: Any) -> str:
        return refusal_of(lambda: vitw_vocab_parallel_loss(*args, **kwargs))

    return {
        "a label beyond all slices": loss(logits, beyond, task_ids, weights),
        "a task id": loss(logits, labels, task_ids + 1, weights),
        "rows": loss(odd, *odd_terms),
        "rows, widths said": loss(odd, *odd_terms, widths=UNEQUAL),
        "no rows, widths said": loss(
            *(x[:0] if rank == 1 else x for x in (logits, labels, task_ids)),
            weights,
            widths=UNEQUAL,
        ),
        "another's width": loss(logits, labels, task_ids, weights, widths=[3, *UNEQUAL[1:]]),
        "too few widths": loss(logits, labels, task_ids, weights, widths=[10, 27]),
        "width 0": loss(logits, labels, task_ids, weights, widths=[0, 3, 30, 4]),
        "one width": loss(logits, labels, task_ids, weights, widths=10),
        "widths without an order": loss(logits, labels, task_ids, weights, widths=WITHOUT_ORDER),
        "widths that are no integers": loss(
            logits, labels, task_ids, weights, widths=(1, 2.0, 30, 4)
        ),
        "a width that is True": loss(logits, labels, task_ids, weights, widths=(True, 2, 30, 4)),
        "an option": loss(logits, labels, task_ids, weights, label_smoothing=2.0),
    }


def group_of_others(rank: int, *_: Any) -> str:
    group = dist.new_group([0, 1])
    if rank < 2:
        return ""
    logits, terms = slice_of(rank)
    return refusal_of(lambda: vitw_vocab_parallel_loss(logits, *terms, group=group))


def exchanges(rank: int, *_: Any) -> list[tuple[int, ...]]:
    """The shapes of what is exchanged by a forward and a backward, where the widths are said."""
    seen = []
    inner = dist.all_gather

    def counted(gathered: Any, own: Any, **kwargs: Any) -> Any:
        seen.append(tuple(own.shape))
        return inner(gathered, own, **kwargs)

    dist.all_gather = counted
    try:
        logits, terms = slice_of(rank)
        vitw_vocab_parallel_loss(logits.requires_grad_(), *terms, widths=list(UNEQUAL)).backward()
    finally:
        dist.all_gather = inner
    return seen


def widths_on_a_gpu(rank: int, *_: Any) -> tuple[str, str, int]:
    """What right and wrong widths come to as on a GPU, and how often something is exchanged."""
    logits, _ = slice_of(rank)
    seen = []
    inner, is_gpu = dist.all_gather, gpu.is_gpu
    dist.all_gather = lambda *_, **__: seen.append(1)
    gpu.is_gpu = lambda _: True
    try:
        rows = logits.flatten(0, 1)
        right = refusal_of(lambda: find_slice(rows, None, UNEQUAL))
        wrong = refusal_of(lambda: find_slice(rows, None, [3, *UNEQUAL[1:]]))
    finally:
        dist.all_gather, gpu.is_gpu = inner, is_gpu
    return right, wrong, len(seen)


def second_backward(rank: int, *_: Any) -> bool:
    logits, terms = slice_of(rank)
    leaf = logits.requires_grad_()
    loss = vitw_vocab_parallel_loss(leaf, *terms)
    (once,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(loss, leaf)
    return torch.equal(once, again)


def second_backward_in_place(rank: int, *_: Any) -> str:
    logits, terms = slice_of(rank)
    loss = vitw_vocab_parallel_loss(logits.requires_grad_().clone(), *terms, inplace=True)
    loss.backward(retain_graph=True)
    try:
        loss.backward()
    except RuntimeError as error:
        return str(error)
    return "accepted"


def read_after_in_place(rank: int, *_: Any) -> str:
    logits, terms = slice_of(rank)
    computed = logits.requires_grad_() * 1
    squares = computed.square().sum()  # keeps the logits for its backward
    loss = vitw_vocab_parallel_loss(computed, *terms, inplace=True)
    try:
        (loss + squares).backward()
    except RuntimeError as error:
        return str(error)
    return "accepted"


def without_gradient(rank: int, *_: Any) -> tuple[Any, bool]:
    logits, terms = slice_of(rank)
    with torch.no_grad():
        before = logits.clone()
        loss = vitw_vocab_parallel_loss(logits.requires_grad_(), *terms, inplace=True)
    return loss, torch.equal(logits, before)


def compiled(rank: int, group: Any, _: Any) -> tuple[Any, Any] | None:
    """On two ranks: what compiles takes a second to import."""
    if rank >= 2:
        return None
    logits, *terms = make_batch(vocab=VOCAB)
    leaf = logits.split([20, 17], dim=-1)[rank].clone().requires_grad_()

    def step(x: Any) -> Any:
        return 2 * vitw_vocab_parallel_loss(x * 1, *terms, group=group)

    loss = torch.compile(step, backend="eager")(leaf)
    loss.backward()
    return loss.detach(), leaf.grad


def strided(rank: int, *_: Any) -> Any:
    """Of a tensor whose words lie apart, which takes a copy."""
    logits, terms = slice_of(rank)
    leaf = logits.transpose(1, 2).contiguous().requires_grad_()
    vitw_vocab_parallel_loss(leaf.transpose(1, 2), *terms).backward()
    return leaf.grad.transpose(1, 2)


def recipe(rank: int, of_vocabulary: Any, of_sequence: Any) -> tuple[Any, Any]:
    """The document's function on a grid of two parts of a vocabulary and two of a sequence."""
    from test_torch_docs import recipe as function_of

    loss_of_part, _ = function_of("loss_of_part")
    logits, labels, _, weights = make_batch(vocab=VOCAB)
    task_ids = torch.tensor([0, 1, 2])
    part = logits.chunk(2, dim=1)[rank // 2].split([20, 17], dim=-1)[rank % 2]
    leaf = part.clone().requires_grad_()
    loss = loss_of_part(leaf, labels, task_ids, weights, of_vocabulary, of_sequence)
    loss.backward()
    return loss.detach(), leaf.grad


WORK = {
    function.__name__: function
    for function in (
        refused_by_ranks,
        group_of_others,
        exchanges,
        widths_on_a_gpu,
        second_backward,
        second_backward_in_place,
        read_after_in_place,
        without_gradient,
        compiled,
        strided,
        recipe,
    )
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return results_of_ranks(Path(__file__).stem, tmp_path_factory.mktemp("ranks"))


def of_case(results: Results, name: str) -> list[Found]:
    """What the ranks of a case found, after all that found the same were compared."""
    found = results[name]
    assert not any(isinstance(each, str) for each in found), found
    for each in found:
        for own, first in zip(
            (each.loss, *each.stats), (found[0].loss, *found[0].stats), strict=True
        ):
            assert own.dtype == first.dtype
            assert torch.equal(own.nan_to_num(), first.nan_to_num())
            assert torch.equal(own.isnan(), first.isnan())
    ranks = len(CASES[name].widths)
    return found[:ranks]


def whole(found: list[Found]) -> Any:
    return torch.cat([each.gradient for each in found], dim=-1)


# --- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPARED)
def test_loss_and_gradient_are_those_of_the_formula(results: Results, name: str) -> None:
    case = CASES[name]
    found = of_case(results, name)
    own_options = {"inplace", "grad_scale"}
    options = {key: value for key, value in case.options.items() if key not in own_options}
    expected = reference(*batch_of(case), **options)
    torch.testing.assert_close(found[0].loss.double(), expected.loss, rtol=1e-6, atol=0)
    assert found[0].loss.dtype == (case.dtype if case.dtype == torch.float64 else torch.float32)
    assert whole(found).dtype == case.dtype
    assert_gradient(whole(found), case.factor * expected.gradient)
    names = ("numerator", "denominator", "task_nll", "task_tokens")
    for name_, value in zip(names, found[0].stats, strict=False):
        torch.testing.assert_close(value, getattr(expected, name_), rtol=1e-6, atol=1e-12)
    assert found[0].stats[-1].tolist() == [0, -1]


@pytest.mark.parametrize("name", [*COMPARED, *SPECIAL])
def test_it_is_the_loss_of_one_process(results: Results, name: str) -> None:
    case = CASES[name]
    found = of_case(results, name)
    logits, *terms = batch_of(case)
    options = {"return_stats": True, **case.options}
    leaf = logits.requires_grad_()
    loss, stats = vitw_loss(leaf.clone(), *terms, **options)
    (case.factor * loss).backward()
    # Sums in another order: last bits, of which a half-precision type shows one.
    eps = {torch.float64: 1e-12, torch.float32: 1e-6}.get(case.dtype, torch.finfo(case.dtype).eps)
    near = {"rtol": eps, "atol": 1e-7 * case.factor, "equal_nan": True}
    torch.testing.assert_close(found[0].loss, loss.detach(), rtol=1e-6, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(whole(found), leaf.grad, **near)
    for own, one in zip(found[0].stats, stats, strict=True):
        torch.testing.assert_close(own, one, rtol=1e-6, atol=1e-9, equal_nan=True)


def test_ignored_rows_have_loss_0_and_exact_zeros_over_nan(results: Results) -> None:
    found = of_case(results, "all ignored")
    assert found[0].loss == 0
    assert not whole(found).any()
    assert found[0].stats[-1].tolist() == [0, -1]


def test_bad_rows_are_nan_in_every_slice_and_reported_by_each(results: Results) -> None:
    found = of_case(results, "bad rows")
    assert found[0].loss.isnan()
    bad = torch.zeros(3, 6, dtype=torch.bool)
    bad[[0, 1, 2], [1, 2, 2]] = True
    batch = batch_of(CASES["bad rows"])
    rows = untrained(batch.labels, batch.task_ids)
    assert rows.any()
    for each in found:
        assert torch.equal(each.gradient.isnan().all(dim=-1), bad)
        assert torch.equal(each.gradient.isnan().any(dim=-1), bad)
        assert not each.gradient[rows].any()
        assert each.stats[-1].tolist() == [1, 1]


def test_words_that_lie_apart_are_copied(results: Results) -> None:
    assert torch.equal(
        torch.cat(results["strided"], dim=-1), whole(of_case(results, "four unequal ranks"))
    )


# --- autograd and the ranks' exchange -------------------------------------------------------------


def test_ranks_exchange_shapes_and_statistics_and_nothing_in_the_backward(
    results: Results,
) -> None:
    assert results["exchanges"] == [[(2,), (18, 6)]] * RANKS


def test_on_a_gpu_nothing_is_exchanged_before_the_statistics(results: Results) -> None:
    """Whose shapes would be waited for."""
    others = [("accepted", "accepted", 0)] * (RANKS - 1)
    refusal = REFUSED["another's width"]
    assert results["widths_on_a_gpu"] == [("accepted", refusal, 0), *others]


def test_a_second_backward_gives_the_same(results: Results) -> None:
    assert results["second_backward"] == [True] * RANKS


def test_a_second_backward_in_place_says_so(results: Results) -> None:
    message = (
        "vitw_vocab_parallel_loss: a second backward through an in-place loss: its gradient was "
        "handed out by the first; use inplace=False"
    )
    assert results["second_backward_in_place"] == [message] * RANKS


def test_who_kept_the_logits_fails_after_in_place(results: Results) -> None:
    assert all(
        "modified by an inplace operation" in each for each in results["read_after_in_place"]
    )


def test_without_a_gradient_the_logits_stay_as_they_are(results: Results) -> None:
    expected = of_case(results, "four unequal ranks")[0].loss
    for loss, kept in results["without_gradient"]:
        assert torch.equal(loss, expected)
        assert not loss.requires_grad
        assert kept


def test_compiled_code_is_interrupted_for_it(results: Results) -> None:
    plain = of_case(results, "two ranks")
    for (loss, gradient), each in zip(results["compiled"][:2], plain, strict=True):
        assert torch.equal(loss, 2 * each.loss)
        torch.testing.assert_close(gradient, 2 * each.gradient)


def test_a_grid_of_vocabulary_and_sequence_adds_up_to_the_whole(results: Results) -> None:
    logits, labels, _, weights = make_batch(vocab=VOCAB)
    terms = (labels, torch.tensor([0, 1, 2]), weights)
    loss, gradient = loss_and_gradient(vitw_loss, logits, *terms, shift=True)
    losses, gradients = zip(*results["recipe"], strict=True)
    assert losses[0] == losses[1]
    assert losses[2] == losses[3]
    torch.testing.assert_close(losses[0] + losses[2], loss)
    parts = [torch.cat(gradients[first : first + 2], dim=-1) for first in (0, 2)]
    assert_gradient(torch.cat(parts, dim=1), gradient.double())


# --- bad arguments --------------------------------------------------------------------------------

WIDTHS_EXPECTED = "expected a sequence of 4 integers of at least 1, one for each rank of the group"
REFUSED = {
    "a label beyond all slices": (
        "labels[1, 4] = 37; expected ignore_index (-100) or a value in [0, 37)"
    ),
    "rows": (
        "logits has 18 rows on rank 0 of the group and 15 on rank 2; expected the same rows on "
        "all, each with its own words"
    ),
    "no rows, widths said": (
        "logits has 18 rows on rank 0 of the group and 0 on rank 1; expected the same rows on "
        "all, each with its own words"
    ),
    "another's width": (
        "widths = [3, 2, 30, 4] with logits of 1 words on rank 0 of the group; expected 1 in that "
        "place"
    ),
    "too few widths": f"widths = [10, 27]; {WIDTHS_EXPECTED}",
    "width 0": f"widths = [0, 3, 30, 4]; {WIDTHS_EXPECTED}",
    "one width": f"widths = 10; {WIDTHS_EXPECTED}",
    "widths without an order": f"widths = {WITHOUT_ORDER}; {WIDTHS_EXPECTED}",
    "widths that are no integers": f"widths = (1, 2.0, 30, 4); {WIDTHS_EXPECTED}",
    "a width that is True": f"widths = (True, 2, 30, 4); {WIDTHS_EXPECTED}",
    "an option": "label_smoothing = 2; expected a value in [0, 1]",
}


REFUSED["rows, widths said"] = REFUSED["rows"]


@pytest.mark.parametrize("name", REFUSED)
def test_every_rank_refuses_alike(results: Results, name: str) -> None:
    assert [each[name] for each in results["refused_by_ranks"]] == [REFUSED[name]] * RANKS


def test_a_bad_task_id_is_shown_where_it_stands(results: Results) -> None:
    for each in results["refused_by_ranks"]:
        assert each["a task id"].startswith("task_ids[")
        assert each["a task id"].endswith("= 3; expected a value in [0, 3)")


def test_a_group_of_others_is_refused(results: Results) -> None:
    message = "group does not have this process; expected one that it is a rank of"
    assert results["group_of_others"][2:] == [message] * 2


def test_without_ranks_it_says_what_to_do() -> None:
    with pytest.raises(visatb.ArgumentError) as caught:
        vitw_vocab_parallel_loss(*make_batch())
    assert str(caught.value) == (
        "torch.distributed is not initialised; expected init_process_group before, for the slices "
        "of the vocabulary belong to the ranks of a group (vitw_loss takes whole rows)"
    )
