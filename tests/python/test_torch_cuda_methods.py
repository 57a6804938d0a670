"""The weights of a step by a method, where its counts and losses are on a GPU: who waits for it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import (  # noqa: E402
    GPU,
    NoSynchronisation,
    needs_real_gpu,
    returns_while_the_gpu_is_busy,
)

from visatb import METHODS, Error, Method  # noqa: E402
from visatb.torch import Stats, VITWLoss  # noqa: E402
from visatb.trainers import StepCounter  # noqa: E402
from visatb.trainers.agreement import Agreement  # noqa: E402

NLL, TOKENS = [3.0, 0.0, 2.5], [2, 0, 7]


def make_counter(name: str) -> StepCounter:
    method = Method(name, 3, window=1, base_steps=(0, 1))
    return StepCounter(VITWLoss([1.0, 1.0, 1.0]), method=method)


def begin(counter: StepCounter, device: str) -> Any:
    (step,) = counter.steps([torch.tensor([*TOKENS, 0]).to(device)])
    return step


def end(counter: StepCounter, step: Any, device: str, factor: float = 1.0) -> None:
    nothing = torch.zeros((), device=device)
    nll = torch.tensor(NLL, dtype=torch.float64).to(device) * factor
    counter.add(Stats(nothing, nothing, nll, torch.tensor(TOKENS).to(device), nothing), step)


@needs_real_gpu
@pytest.mark.parametrize("name", METHODS)
def test_the_weights_are_those_of_the_host(name: str) -> None:
    on_gpu, on_host = make_counter(name), make_counter(name)
    for number in range(4):
        step, expected = begin(on_gpu, GPU), begin(on_host, "cpu")
        assert step.task_weights.tolist() == expected.task_weights.tolist()
        assert float(step.denominator) == float(expected.denominator)
        end(on_gpu, step, GPU, 1.0 / (1 + number))
        end(on_host, expected, "cpu", 1.0 / (1 + number))


@needs_real_gpu
@pytest.mark.parametrize("name", ["EW", "TLA", "RLW"])
def test_a_method_that_reads_no_losses_waits_for_nothing(name: str) -> None:
    counter = make_counter(name)
    counts = torch.tensor([*TOKENS, 0], device=GPU)
    nothing = torch.zeros(3, dtype=torch.float64, device=GPU)
    stats = Stats(nothing, nothing, nothing, counts[:-1], nothing)

    def step() -> None:
        (begun,) = counter.steps([counts])
        counter.add(stats, begun)

    step()
    with NoSynchronisation():
        step()
    assert name != "TLA" or returns_while_the_gpu_is_busy(step)


@needs_real_gpu
@pytest.mark.parametrize("counted_on", ["cpu", GPU])
@pytest.mark.parametrize("name", ["DWA", "IGBv1"])
def test_losses_set_out_for_the_host_without_waiting(name: str, counted_on: str) -> None:
    counter = make_counter(name)
    end(counter, begin(counter, counted_on), GPU)
    step = begin(counter, counted_on)
    sums = torch.tensor(NLL, dtype=torch.float64, device=GPU)
    stats = Stats(sums[0], sums[0], sums, torch.tensor(TOKENS, device=GPU), sums[0])
    assert returns_while_the_gpu_is_busy(lambda: counter.add(stats, step))


@needs_real_gpu
@pytest.mark.parametrize("counted_on", ["cpu", GPU])
def test_an_agreement_is_looked_at_later_without_waiting(counted_on: str) -> None:
    agreement = Agreement("the collator")
    counted = torch.tensor(TOKENS).to(counted_on)
    found = torch.tensor(TOKENS, device=GPU)
    agreement.check(counted, found)
    assert returns_while_the_gpu_is_busy(lambda: agreement.check(counted, found))
    agreement.check(counted + 1, found)
    torch.cuda.synchronize()
    with pytest.raises(Error, match="the collator counted"):
        agreement.check(counted, found)
