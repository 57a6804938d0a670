from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from benchmark_gpu import ROOT, Json, bare, gpu


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks' own modules, as their programs find them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What goes through all the code without a GPU, in small sizes."""
    pytest.importorskip("torch")
    output = tmp_path_factory.mktemp("benchmark") / "result.json"
    done = gpu("--device", "cpu", "--quick", "--output", output)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(output.read_text(encoding="utf-8")))


def by_name(contestants: list[Json], *, gathered: bool = False) -> dict[str, Json]:
    return {one["name"]: one for one in contestants if one.get("gathered", False) == gathered}


def test_all_cases_and_parts_are_there(smoke: Json) -> None:
    kinds = [(case["form"], case["dtype"], case["valid_percent"]) for case in smoke["cases"]]
    assert ("logits", "bfloat16", 100) in kinds
    assert ("logits", "float32", 100) in kinds
    assert ("linear", "bfloat16", 30) in kinds
    assert {case["device"] for case in smoke["cases"]} == {"cpu"}
    assert {(case["form"], case["dtype"]) for case in smoke["accuracy"]} == {
        *(("logits", dtype) for dtype in ("bfloat16", "float16", "float32")),
        *(("linear", dtype) for dtype in ("bfloat16", "float32")),
    }
    assert smoke["not_run"] == []
    assert smoke["wrong"] == []


def test_ours_eager_and_the_authors_run_and_others_say_why_not(smoke: Json) -> None:
    found = by_name(smoke["cases"][0]["contestants"])
    for name in (
        "visatb, in place",
        "visatb, new gradient",
        "PyTorch eager",
        "PyTorch eager, weighted",
        "as published, eager",
    ):
        assert len(found[name]["times_s"]) == 2
        assert found[name]["errors"]["loss"] < 3e-2
    for name in ("Liger", "quack", "quack, gradient in the forward"):
        assert found[name]["not_run"] == "its kernels need a GPU"


def test_gathered_rows_are_timed_apart(smoke: Json) -> None:
    (case,) = [
        case for case in smoke["cases"] if case["form"] == "linear" and case["valid_percent"] == 30
    ]
    assert "times_s" in by_name(case["contestants"], gathered=True)["PyTorch eager, linear"]
    all_rows = by_name(case["contestants"])
    for name in ("visatb, linear", "visatb, linear, valid rows only", "visatb, linear, one chunk"):
        assert "times_s" in all_rows[name]


def test_accuracy_is_judged_by_what_was_promised(smoke: Json) -> None:
    case = next(case for case in smoke["accuracy"] if case["dtype"] == "bfloat16")
    found = by_name(case["contestants"])
    assert found["visatb, in place"]["met"] is True
    assert found["visatb, in place"]["correctly_rounded"] >= 0.999
    assert "met" not in found["PyTorch eager"]


def test_training_steps_compute_the_same(smoke: Json) -> None:
    pytest.importorskip("transformers")
    steps = {step["name"]: step for step in smoke["training"]["steps"]}
    own = steps["the model's own loss"]
    for name in ("vitw_loss, in place", "vitw_linear_loss"):
        assert steps[name]["loss"] == pytest.approx(own["loss"], rel=1e-3)
        assert steps[name]["gradient_difference"] < 2e-2
        assert len(steps[name]["times_s"]) == 2


def test_no_gpu_is_said_plainly() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = gpu()
    assert done.returncode == 2
    assert done.stderr == "gpu.py: no GPU: PyTorch finds no CUDA device\n"


@pytest.mark.parametrize("program", ["gpu.py", "cpu.py"])
def test_a_python_without_pytorch_is_told_plainly(program: str) -> None:
    done = bare(program, "--quick")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{program}: this Python has no torch: pip install torch")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["other", None])
def test_other_modules_that_lack_are_faults(name: str | None) -> None:
    from comparison import missing

    def main() -> int:
        raise ModuleNotFoundError("x", name=name)

    with pytest.raises(ModuleNotFoundError):
        missing.told("gpu.py", main)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "expected --quick with it"),
        (["--parts", "cases,other"], "expected some of accuracy,training,cases"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    done = gpu(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_when_the_time_is_up_the_rest_is_not_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "result.json"
    done = gpu("--device", "cpu", "--quick", "--seconds", "0", "--output", output)
    assert done.returncode == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["cases"] == []
    assert len(found["not_run"]) == 13
    assert all(line.endswith(": the time was up") for line in found["not_run"])
    assert done.stderr.count("gpu.py: not run: ") == 13


def test_wrong_results_of_ours_fail_the_run_and_those_of_rivals_do_not() -> None:
    import gpu as program

    case = {"form": "logits", "rows": 1, "vocab": 2, "dtype": "float32"}
    ours = {"name": "visatb, in place", "group": "visatb", "wrong": "loss: 3; expected 2"}
    rival = {"name": "Liger", "group": "rival", "wrong": "loss: 3; expected 2"}
    missed = {"name": "visatb, in place", "group": "visatb", "met": False}
    record = {
        "cases": [{**case, "contestants": [ours, rival]}],
        "accuracy": [{**case, "contestants": [missed, {**missed, "met": True}]}],
        "training": {
            "steps": [
                {"name": "vitw_loss", "not_run": "RuntimeError: x", "ours": True},
                {"name": "vitw_linear_loss", "wrong": "loss: 3", "ours": True},
                {"name": "vitw_loss, in place", "ours": True},
                {"name": "the model's own loss", "not_run": "RuntimeError: x", "ours": False},
            ]
        },
    }
    wrong = program.wrong_of(record)
    assert len(wrong) == 4
    assert wrong[1:3] == [
        "training step: vitw_loss: RuntimeError: x",
        "training step: vitw_linear_loss: loss: 3",
    ]
    assert wrong[0] == "logits [1, 2] float32: loss: 3; expected 2"
    assert "beyond what is promised" in wrong[3]
    for group, count in (("rival", 4), ("visatb", 5)):
        broken = {"culprit": "x: RuntimeError: y", "group": group}
        assert len(program.wrong_of(record | {"broken": broken})) == count


class Jobs:
    """A run of jobs that a test makes up, and the result file at the end of each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import gpu as program
        from comparison import results

        self.output = folder / "result.json"
        self.written: list[Json] = []
        self._program, self._patch = program, monkeypatch
        write = results.write

        def keep(path: Path, record: Json) -> None:
            write(path, record)
            self.written.append(json.loads(path.read_text(encoding="utf-8")))

        monkeypatch.setattr(results, "write", keep)
        # A run sets it for the rest of its process.
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        monkeypatch.delenv(program.WHEELS, raising=False)

    def run(self, *jobs: Any) -> int:
        self._patch.setattr(
            self._program, "work", lambda *_: [(f"job {n}", job) for n, job in enumerate(jobs)]
        )
        arguments = ["--device", "cpu", "--quick", "--output", str(self.output)]
        return int(self._program.measure(arguments))


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    pytest.importorskip("torch")
    return Jobs(tmp_path, monkeypatch)


def fails(*_: Any) -> None:
    raise MemoryError("too large")


def finds_ours_wrong(record: Json, _: Any) -> None:
    record["accuracy"].append(
        {
            "form": "logits",
            "rows": 1,
            "vocab": 2,
            "dtype": "float32",
            "contestants": [{"name": "visatb, in place", "group": "visatb", "met": False}],
        }
    )


def test_a_job_that_fails_ends_itself_alone_and_every_file_says_what_is_wrong(jobs: Jobs) -> None:
    assert jobs.run(fails, finds_ours_wrong, lambda *_: None) == 1
    assert [len(found["wrong"]) for found in jobs.written] == [0, 1, 1, 1]
    assert jobs.written[-1]["not_run"] == ["job 0: MemoryError: too large"]
    assert jobs.written[-1]["broken"] is None


@pytest.mark.parametrize(("group", "status"), [("rival", 0), ("visatb", 1)])
def test_a_gpu_that_fails_ends_the_run_and_the_first_who_did_it_is_named(
    group: str, status: int, jobs: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    from comparison.timing import BrokenDevice

    def breaks(*_: Any) -> None:
        raise BrokenDevice("it", group, RuntimeError("illegal address"))

    assert jobs.run(lambda *_: None, breaks, finds_ours_wrong) == status
    assert jobs.written[-1]["not_run"] == ["job 1: the GPU failed", "job 2: the GPU failed"]
    assert "the GPU failed with it: RuntimeError: illegal address" in capfd.readouterr().err


def test_the_time_that_installing_takes_counts(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu as program

    monkeypatch.setattr(program, "add_wheels", lambda *_: time.sleep(0.2))
    monkeypatch.setattr(program, "SECONDS", 0.1)
    assert jobs.run(finds_ours_wrong) == 0
    assert jobs.written[-1]["not_run"] == ["job 0: the time was up"]


# --- contestants that fail ------------------------------------------------------------------------


class BadWatch:
    """Of a device that fails once something was run on it."""

    def __init__(self, *, is_broken: bool) -> None:
        self.is_broken = is_broken

    def time(self, *_: Any) -> tuple[float, dict[str, int]]:
        raise RuntimeError("illegal address")

    def peak_extra(self, run: Any) -> int | None:
        run()
        return None

    def wait(self) -> None:
        if self.is_broken:
            raise RuntimeError("illegal address")


def small_case(hidden: int | None = None, dtype: str = "float32") -> Any:
    from comparison.cases import Case, Size

    return Case(Size(64, 40, hidden), dtype, 50)


def one_case(group: str, *, is_broken: bool = False, **more: Any) -> list[Json]:
    """The records of a case of one contestant."""
    from comparison import progress, timing
    from comparison.contestants import Contestant

    one = Contestant("it", "what", group, lambda _: lambda: None, gathers=False, **more)
    bench = timing.Bench("cpu", {"logits": (one,)}, BadWatch(is_broken=is_broken), strict=False)
    plan = timing.Plan(1, [], 0.0, bench)
    return list(timing.run_case(small_case(), plan, progress.Progress(1))["contestants"])


def test_what_fails_in_a_round_is_dropped_and_ours_is_wrong() -> None:
    pytest.importorskip("torch")
    for group, wrong in (("visatb", "RuntimeError: illegal address"), ("rival", None)):
        (record,) = one_case(group)
        assert record["not_run"] == "RuntimeError: illegal address"
        assert record.get("wrong") == wrong


def test_details_that_fail_are_no_end_of_the_case() -> None:
    pytest.importorskip("torch")
    (record,) = one_case("rival", details=fails)
    assert record["not_run"] == "MemoryError: too large"


def test_a_device_that_fails_afterwards_too_is_the_end() -> None:
    pytest.importorskip("torch")
    from comparison.timing import BrokenDevice

    with pytest.raises(BrokenDevice, match=r"it \(what\): RuntimeError: illegal address") as error:
        one_case("rival", is_broken=True)
    assert error.value.group == "rival"


# --- what is promised -----------------------------------------------------------------------------


def exact(case: Any) -> tuple[Any, Any, Any]:
    """(data, loss, gradient) of logits, as near to fp64 as the type allows."""
    from comparison import reference
    from comparison.data import make_data

    data = make_data(case)
    scale = reference.factors(data)[reference.TASKS]
    wide = data.source.double()
    loss = (reference.nll(wide, data.labels) * scale).sum()
    return data, loss, (reference.slope(wide, data.labels) * scale[:, None]).to(data.source.dtype)


def is_met(data: Any, loss: Any, gradient: Any) -> bool:
    from comparison import accuracy
    from comparison.contestants import Result

    result = Result(loss, (gradient,))
    found = accuracy._errors_of_logits(data, result, "tasks", judged=True)
    return bool(found["met"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_nan_keeps_no_promise(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    data, loss, gradient = exact(small_case(dtype=dtype))
    assert is_met(data, loss, gradient)
    assert not is_met(data, loss * torch.nan, gradient)
    assert not is_met(data, loss, gradient * torch.nan)
    for bad in (torch.nan, torch.inf):
        for row in ((data.labels == -100).nonzero()[0], (data.labels >= 0).nonzero()[0]):
            one = gradient.clone()
            one[row, 3] = bad
            assert not is_met(data, loss, one)


def test_the_noise_of_a_row_is_that_of_its_own_weight() -> None:
    pytest.importorskip("torch")
    data, _, _ = exact(small_case())
    data.task_weights[:] = 1.0
    task = int(data.task_ids[(data.labels >= 0).nonzero()[0]])
    data.task_weights[task] = 1e-4
    from comparison import reference

    scale = reference.factors(data)["tasks"]
    wide = data.source.double()
    loss = (reference.nll(wide, data.labels) * scale).sum()
    gradient = (reference.slope(wide, data.labels) * scale[:, None]).float()
    assert is_met(data, loss, gradient)
    gradient[(data.task_ids == task) & (data.labels >= 0)] *= 1.0005
    assert not is_met(data, loss, gradient)


@pytest.mark.parametrize(
    ("dtype", "errors", "met"),
    [
        ("float32", (1e-7, 1e-6, 1e-6), True),
        ("float32", (1e-5, 1e-6, 1e-6), False),
        ("float32", (1e-7, 1e-5, 1e-6), False),
        ("float32", (1e-7, 1e-6, float("nan")), False),
        ("float32", (float("nan"), 1e-6, 1e-6), False),
        ("bfloat16", (1e-4, 2e-3, 2e-3), True),
        ("bfloat16", (1e-2, 2e-3, 2e-3), False),
        ("bfloat16", (1e-4, 2e-3, float("nan")), False),
    ],
)
def test_linear_losses_and_norms_are_judged(
    dtype: str, errors: tuple[float, ...], met: bool
) -> None:
    pytest.importorskip("torch")
    from comparison import accuracy

    def of(name: str, group: str, errors: tuple[float, ...]) -> Json:
        return {
            "name": name,
            "group": group,
            **dict(zip(("loss", "hidden", "weight"), errors, strict=True)),
        }

    ours = of("visatb, linear", "visatb", errors)
    authors = of("as published, eager, linear", "rival", (1e-4, 2e-3, 2e-3))
    accuracy._judge_norms([ours, authors], dtype)
    assert ours["met"] is met
    assert "met" not in authors
    if dtype == "bfloat16":
        ours = of("visatb, linear", "visatb", errors)
        accuracy._judge_norms([ours], dtype)
        assert ours.get("met") is (None if met else False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_nan_is_a_fault_of_rounding(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from devices import rounding_faults

    kind = getattr(torch, dtype)
    wide = torch.linspace(-1, 1, 4000, dtype=torch.float64)
    nearest = wide.to(kind)
    assert not rounding_faults(nearest, wide, 1e-9)
    assert rounding_faults(nearest * torch.nan, wide, 1e-9)
    nearest[7] = torch.nan
    assert rounding_faults(nearest, wide, 1e-9)
    far = torch.tensor([1e39, 1.0], dtype=torch.float64)
    if dtype != "float32":
        assert not rounding_faults(far.to(kind), far, 1e-9)


@pytest.mark.parametrize(
    ("loss", "gradient", "wrong"),
    [
        (2.0001, 1e-2, None),
        (2.01, 1e-2, "loss: relative error 0.005"),
        (2.0, 3e-2, "gradients: relative error 0.03"),
        (2.0, float("nan"), "gradients: relative error nan"),
        (float("nan"), 0.0, "loss: relative error nan"),
    ],
)
def test_a_training_step_is_judged(loss: float, gradient: float, wrong: str | None) -> None:
    pytest.importorskip("torch")
    from comparison import training

    found = training.judged({"loss": loss, "gradient_difference": gradient}, {"loss": 2.0})
    assert (found == {}) if wrong is None else found["wrong"].startswith(wrong)


def test_cases_come_in_the_order_of_what_they_tell() -> None:
    from comparison import gpu_cases

    cases = gpu_cases.all_cases()
    assert len(cases) == len(set(cases)) == 15 + 1 + 6
    assert [case.valid for case in cases[:6]].count(50) == 0
    assert {case.size.form for case in cases[:3]} == {"logits", "linear"}
