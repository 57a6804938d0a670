from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks/gpu.py"
CPU_PART = "<!-- cpu: begin -->\ncpu\n<!-- cpu: end -->\n"
PAGE = f"# Page\n\n{CPU_PART}<!-- gpu: begin -->\n<!-- gpu: end -->\n"
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks' own modules, as their programs find them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def bare(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """As by a Python to which nothing was added."""
    command = [sys.executable, "-S", str(ROOT / "benchmarks" / program), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def gpu(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


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


# --- the report -----------------------------------------------------------------------------------


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "benchmarks.md").write_text(PAGE, encoding="utf-8")
    return tmp_path


def text_of(docs: Path) -> str:
    return (docs / "benchmarks.md").read_text(encoding="utf-8")


def contestant(name: str, *times: float, group: str = "rival", **more: Any) -> Json:
    return {
        "name": name,
        "what": "`x`",
        "group": group,
        "weighted": False,
        "gathered": False,
        "first_call_s": 0.1,
        "errors": None,
        "peak_extra_bytes": 1_000_000,
        "times_s": list(times),
    } | more


def case_of(vocab: int, contestants: list[Json], **more: Any) -> Json:
    return {
        "device": "cuda",
        "form": "logits",
        "rows": 8192,
        "vocab": vocab,
        "hidden": None,
        "dtype": "bfloat16",
        "valid_percent": 100,
        "valid_rows": 8192,
        "input_bytes": 1,
        "cores_others_used": 0.0,
        "contestants": contestants,
    } | more


def result(cases: list[Json]) -> Json:
    return {
        "visatb_gpu_check": 1,
        "date": "2030-01-02",
        "commit": "0123456789abcdef",
        "dirty": False,
        "gpu": {"name": "NVIDIA H200", "driver": "580.1"},
        "stages": {
            "build": {
                "status": "passed",
                "parts": {
                    "library": {
                        "status": "passed",
                        "kernels": [
                            {
                                "name": "one<2>",
                                "architecture": "sm_90",
                                "registers": 64,
                                "spill_stores": 8,
                                "spill_loads": 16,
                            }
                        ],
                    }
                },
            },
            "test": {
                "status": "passed in part",
                "parts": {"C tests": {"status": "not run", "reason": "they need cmocka"}},
            },
        },
        "benchmark": {
            "cases": cases,
            "accuracy": [],
            "training": None,
            "versions": {"torch": "2.11.0", "quack-kernels": "0.6.5"},
        },
    }


def passing(stage: str, part: str, **more: Any) -> Json:
    """A result file of one part."""
    return {**result([]), "stages": {stage: {"status": "passed", "parts": {part: more}}}}


TIMED = contestant("visatb, in place", 1.0, group="visatb")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (result([]), False),
        (passing("test", "import visatb", status="passed"), False),
        (passing("test", "C tests", status="passed", passed=9), False),
        (passing("test", "C tests of the GPU", status="not run", passed=0), False),
        (passing("test", "C tests of the GPU", status="failed", passed=1), True),
        (passing("test", "test_torch_loss.py", status="passed", passed=9), False),
        (
            passing(
                *("test", "test_torch_cuda_rules.py"),
                status="passed",
                passed=9,
                skip_reasons={"PyTorch sees no GPU": 3},
            ),
            False,
        ),
        (passing("test", "test_torch_cuda_rules.py", status="passed", passed=9), True),
        (passing("sanitize", "compile every_kernel", status="passed"), False),
        (passing("sanitize", "known answers", status="passed"), True),
        (result([case_of(32000, [TIMED])]), True),
        (result([case_of(32000, [TIMED], device="cpu")]), False),
        (result([case_of(32000, [contestant("Liger", 1.0)])]), False),
    ],
)
def test_the_code_has_run_where_a_test_passed_or_a_case_was_timed(
    found: Json, expected: bool
) -> None:
    from comparison import gpu_report

    assert gpu_report.has_run(found) == expected


def test_without_a_result_file_the_page_says_so(docs: Path) -> None:
    from comparison import gpu_report

    (docs / "images/benchmark-gpu.png").write_bytes(b"of a file that is gone")
    gpu_report.write(None, docs)
    text = text_of(docs)
    assert "The CUDA code has never run on a GPU: there is no result file." in text
    assert "copy to memory already there / visatb, in place, 100% valid | >= 0.92; >= 0.85" in text
    assert " met" not in text
    assert CPU_PART in text
    assert not (docs / "images/benchmark-gpu.png").exists()


def test_the_page_of_this_tree_says_what_its_files_back() -> None:
    from comparison import gpu_report

    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    source = gpu_report.newest(ROOT / "benchmarks/results")
    files = (ROOT / "benchmarks/results").glob("gpu-*.json")
    ran = any(gpu_report.has_run(gpu_report.read(path)) for path in files)
    assert (gpu_report.NEVER in text) != ran
    assert source is None or f"From `{source.name}`" in text
    assert gpu_report.NEEDS in text


def test_a_file_of_nothing_on_a_gpu_takes_nothing_back(docs: Path) -> None:
    from comparison import gpu_report

    source, other = docs / "gpu-b-2030-01-03.json", docs / "gpu-a-2030-01-02.json"
    source.write_text(json.dumps(result([])), encoding="utf-8")
    gpu_report.write(source, docs, [source])
    assert gpu_report.NOTHING_RAN in text_of(docs)
    assert "there is no result file" not in text_of(docs)
    ran = passing("sanitize", "known answers", status="passed")
    other.write_text(json.dumps(ran), encoding="utf-8")
    gpu_report.write(source, docs, [source, other])
    assert gpu_report.NEVER not in text_of(docs)


def test_without_matplotlib_pictures_are_refused_and_the_page_stays(docs: Path) -> None:
    needs = "the pictures need matplotlib: pip install matplotlib, or copy the result file to"
    source = docs / "gpu-a-2030-01-02.json"
    source.write_text(json.dumps(result([case_of(32000, [TIMED])])), encoding="utf-8")
    (of_cpu, *_) = (ROOT / "benchmarks/results").glob("cpu-*.json")
    for program, file in (("gpu.py", source), ("cpu.py", of_cpu)):
        done = bare(program, "report", file, "--docs", docs)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{program}: {needs}")
        assert done.stderr.count("\n") == 1
    assert text_of(docs) == PAGE
    source.write_text(json.dumps(result([])), encoding="utf-8")
    assert bare("gpu.py", "report", source, "--docs", docs).returncode == 0


def test_targets_are_met_missed_or_not_run(docs: Path) -> None:
    pytest.importorskip("matplotlib")
    from comparison import gpu_report

    def timed(copy: float) -> list[Json]:
        return [
            contestant("visatb, in place", 1.0, 1.0, group="visatb"),
            contestant("copy to memory already there", copy, copy, group="floor"),
            contestant("Liger", 1.6, 1.6, wrong="loss: relative error 1"),
        ]

    cases = [case_of(32064, timed(0.9)), case_of(32003, timed(0.9)), case_of(32000, timed(0.93))]
    absent = {key: value for key, value in contestant("quack").items() if key != "times_s"}
    cases.append(case_of(32064, [{**absent, "not_run": "no module"}], valid_percent=30))
    source = docs / "gpu-nvidia-h200-2030-01-02.json"
    source.write_text(json.dumps(result(cases)), encoding="utf-8")
    written = gpu_report.write(source, docs)
    text = text_of(docs)
    line = next(line for line in text.splitlines() if line.startswith("| copy to memory already"))
    assert line.split("|")[3:8] == [
        " 0.93 met ",
        " 0.90 met ",
        " 0.90 **missed** ",
        " not run ",
        " not run ",
    ]
    (line,) = [
        line for line in text.splitlines() if line.startswith("| Liger / visatb, in place, 1")
    ]
    assert " met" not in line
    assert "| quack, linear / visatb, linear, one chunk, 100% valid | >= 0.97 | not run" in text
    assert "commit 012345678." in text
    assert "quack-kernels 0.6.5, cut-cross-entropy not installed" in text
    assert "| test | passed in part | C tests: not run: they need cmocka |" in text
    assert "| sanitize | not run |  |" in text
    assert "1 kernels, of which 1 spill registers" in text
    assert "wrong: loss: relative error 1" in text
    assert written[1:] == [docs / "images/benchmark-gpu.png"]


def test_another_file_is_refused(docs: Path) -> None:
    from comparison import gpu_report

    source = docs / "gpu-x-2030-01-02.json"
    source.write_text('{"visatb_cpu_benchmark": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"no result file of tools/gpu-check, format 1"):
        gpu_report.write(source, docs)


def test_the_newest_file_is_that_of_the_last_day(tmp_path: Path) -> None:
    from comparison import gpu_report

    assert gpu_report.newest(tmp_path) is None
    for name in ("gpu-z-2030-01-02.json", "gpu-a-2030-02-01.json", "cpu-a-2031-01-01.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert gpu_report.newest(tmp_path) == tmp_path / "gpu-a-2030-02-01.json"


def test_bounds_of_one_ratio_are_for_different_sizes() -> None:
    from comparison.results import GPU_BOUNDS, measured

    times = [
        contestant("visatb, in place", 1.0, group="visatb"),
        contestant("copy to memory already there", 0.9, group="floor"),
    ]

    def verdict(case: Json) -> tuple[str, bool | None]:
        (ratio,) = measured(case, GPU_BOUNDS)
        return ratio.target, ratio.met

    assert verdict(case_of(32000, times)) == (">= 0.92", False)
    assert verdict(case_of(32003, times)) == (">= 0.85", True)
    assert verdict(case_of(32000, times, valid_percent=50)) == ("", None)
    assert verdict(case_of(32000, times, dtype="float32")) == ("", None)


def test_what_is_wrong_meets_no_target() -> None:
    from comparison.results import GPU_BOUNDS, measured, spoiled

    ours = contestant("visatb, in place", 1.0, group="visatb")
    rivals = [contestant("Liger", 1.6), contestant("as published, eager", 9.0)]
    what = ["Liger / visatb, in place", "as published, eager / visatb, in place"]
    good = case_of(32000, [ours, *rivals])
    assert [ratio.what for ratio in measured(good, GPU_BOUNDS)] == what
    assert spoiled(good, GPU_BOUNDS) == set()
    bad = case_of(32000, [ours, rivals[0] | {"wrong": "loss"}, rivals[1]])
    assert [ratio.what for ratio in measured(bad, GPU_BOUNDS)] == what[1:]
    assert what[0] in spoiled(bad, GPU_BOUNDS)
    assert what[1] not in spoiled(bad, GPU_BOUNDS)
    assert measured(case_of(32000, [ours | {"wrong": "loss"}, *rivals]), GPU_BOUNDS) == []


def test_wheels_are_installed_for_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu as program

    commands: list[list[str]] = []
    monkeypatch.setattr(
        program.subprocess, "run", lambda command, **_: commands.append(list(command))
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    program.add_wheels(None, tmp_path / "site")
    program.add_wheels(str(tmp_path), tmp_path / "site")
    assert commands == []
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"")
    program.add_wheels(str(tmp_path), tmp_path / "site")
    (command,) = commands
    assert {"--no-index", "--no-deps", "--target"} <= set(command)
    assert sys.path[0] == str(tmp_path / "site")
