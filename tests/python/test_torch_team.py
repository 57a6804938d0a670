"""The losses work on the threads that PyTorch has, and make none of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from reference import (  # noqa: E402
    linear_gradients,
    loss_and_gradient,
    make_batch,
    make_linear_batch,
)

from visatb.torch import call, team, vitw_linear_loss, vitw_loss  # noqa: E402


# Shapes with enough work for more than five threads.
def of_logits() -> tuple[Any, ...]:
    return tuple(loss_and_gradient(vitw_loss, *make_batch(seq=120, vocab=3000)))


def of_hidden() -> tuple[Any, ...]:
    return tuple(
        linear_gradients(vitw_linear_loss, make_linear_batch(seq=128, width=96, vocab=2000))
    )


FORMS = [of_logits, of_hidden]
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_this_pytorch_has_a_team() -> None:
    if "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        pytest.skip("this PyTorch does not run on OpenMP")
    assert team.torch_team() is not None
    assert team.torch_team() is team.torch_team()


@pytest.mark.parametrize("what", ["another backend", "no library", "no such function"])
def test_where_there_is_none_the_library_makes_its_own_threads(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "another backend":
        monkeypatch.setattr(torch.__config__, "parallel_info", lambda: "native thread pool")
    elif what == "no library":
        monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    else:
        monkeypatch.setattr(team.ctypes, "CDLL", lambda _: object())
    assert team.torch_team.__wrapped__() is None


@each_form
def test_the_library_s_own_threads_give_the_same_bits(
    form: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, workers: list[int]
) -> None:
    found = form()
    assert max(workers) == 2
    monkeypatch.setattr(call, "torch_team", lambda: None)
    for ours, theirs in zip(form(), found, strict=True):
        assert torch.equal(ours, theirs)


@each_form
def test_as_many_work_as_pytorch_says_before_each_call(
    form: Callable[[], Any], workers: list[int]
) -> None:
    expected = form()
    for threads in (4, 1, 3, 2, 5, 2):
        torch.set_num_threads(threads)
        workers.clear()
        found = form()
        assert max(workers, default=1) == threads
        assert torch.get_num_threads() == threads
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


PROGRAM = """
import os, sys, torch
sys.path.insert(0, {tests!r})
import test_torch_team as tests
from visatb.torch import call

torch.set_num_threads(2)
form = getattr(tests, {form!r})

def threads():
    return set(os.listdir("/proc/self/task"))

# Both of PyTorch's threads, and those of the autograd engine and of its products.
big = torch.randn(2**20, requires_grad=True)
big.exp().sum().backward()
a = torch.randn(512, 512, requires_grad=True)
(a @ a).sum().backward()
before = threads()
assert len(before) > 1, before
seen = set()
inner = call.torch_team()
for _ in range(3):
    form()
    seen |= threads()
print(len(seen - before))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads cannot be counted")
@each_form
def test_a_call_adds_no_threads_to_the_process(form: Callable[[], Any]) -> None:
    if team.torch_team() is None:
        pytest.skip("this PyTorch does not run on OpenMP")
    program = PROGRAM.format(tests=str(Path(__file__).parent), form=form.__name__)
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        # An OpenBLAS keeps threads of its own, from its start on.
        env={**os.environ, "VISATB_BLAS": "none"},
    )
    assert run.stderr == ""
    assert run.stdout == "0\n"
