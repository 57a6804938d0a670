from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sample_files import Key, sampled, write

from visatb.cli import main

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]


class Run(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def vector() -> Callable[[str], Json]:
    """A case with a known answer, from tests/vectors."""

    def load(name: str) -> Json:
        return dict(json.loads((ROOT / "tests/vectors" / name).read_text(encoding="utf-8")))

    return load


@pytest.fixture
def scores(vector: Callable[[str], Json]) -> Json:
    """A score file of three tasks and one of fixed weight, to be broken by a test."""
    return dict(vector("scores_full.json")["scores"])


@pytest.fixture
def examples() -> Path:
    return ROOT / "examples/scores"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages name files as users see them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def worked(examples: Path) -> Callable[[str], Json]:
    """A worked score file by its name; the precise form's is made of the full's."""

    def of(name: str) -> Json:
        file = "full" if name == "precise" else name
        document = json.loads((examples / f"{file}.json").read_text(encoding="utf-8"))
        if name == "precise":
            document["form"] = "precise"
            runs = document["runs"]
            runs["only"] = {u: {u: dict(s[u])} for u, s in runs["with_mini"].items()}
            runs["mini_only"] = {u: {u: dict(runs["mini"][u])} for u in runs["with_mini"]}
            runs["mini_only"]["vqa"]["vqa"]["em"] = 49.0
        return document

    return of


@pytest.fixture
def full_files(
    worked: Callable[[str], Json], folder: Path
) -> tuple[Json, dict[Key, dict[str, float]]]:
    """The full form's files in the working folder, to be broken by a test."""
    document, values = sampled(worked("full"))
    write(document, values, folder)
    return document, values


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Runs `visatb` with these arguments."""

    def run(*arguments: str | Path, stdin: str | bytes = "") -> Run:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run


@pytest.fixture(params=["torch.library", "autograd.Function"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways into the library: torch.library's, and that of PyTorch before 2.4."""
    from visatb.torch import ops

    if request.param == "autograd.Function":
        monkeypatch.setattr(ops, "REGISTERED", False)
    elif not ops.REGISTERED:
        pytest.skip("PyTorch before 2.4 has no torch.library.custom_op")


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """On how many of PyTorch's threads the library worked, each time that it asked for some."""
    from visatb import _lib
    from visatb.torch import call
    from visatb.torch.team import torch_team

    found: list[int] = []
    inner = torch_team()
    if inner is None:
        pytest.skip("this PyTorch does not run on OpenMP")

    def run(body: Any, context: Any, threads: int, flags: int) -> None:
        found.append(threads)
        inner(body, context, threads, flags)

    team = _lib.Team(run)
    monkeypatch.setattr(call, "torch_team", lambda: team)
    return found


@pytest.fixture
def formed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, ...]]:
    """Of each call for a linear head, whether it forms the gradients of hidden, weight and bias."""
    from visatb.torch import linear_ops

    calls = []
    inner = linear_ops.call_vitw_linear_loss

    def call(*args: Any, gradients: Any) -> Any:
        calls.append(tuple(gradient is not None for gradient in gradients))
        return inner(*args, gradients=gradients)

    monkeypatch.setattr(linear_ops, "call_vitw_linear_loss", call)
    return calls


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores interrupts for what it starts in the background, nohup the end of a terminal,
    # and so would all that the tests start, what is to be stopped by them among it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "slow: takes gigabytes; -m 'not slow' leaves it out")
