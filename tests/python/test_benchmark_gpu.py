from __future__ import annotations

import json
import subprocess
import sys
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
    assert "not run, the time was up" in done.stderr


def test_wrong_results_of_ours_fail_the_run_and_those_of_rivals_do_not() -> None:
    import gpu as program

    case = {"form": "logits", "rows": 1, "vocab": 2, "dtype": "float32"}
    ours = {"name": "visatb, in place", "group": "visatb", "wrong": "loss: 3; expected 2"}
    rival = {"name": "Liger", "group": "rival", "wrong": "loss: 3; expected 2"}
    missed = {"name": "visatb, in place", "group": "visatb", "met": False}
    record = {
        "cases": [{**case, "contestants": [ours, rival]}],
        "accuracy": [{**case, "contestants": [missed, {**missed, "met": True}]}],
        "training": {"steps": [{"name": "vitw_loss", "not_run": "RuntimeError: x", "ours": True}]},
    }
    wrong = program.wrong_of(record)
    assert len(wrong) == 3
    assert wrong[0] == "logits [1, 2] float32: loss: 3; expected 2"
    assert "beyond what is promised" in wrong[2]


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
    assert (gpu_report.NEVER in text) == (source is None)
    assert source is None or f"From `{source.name}`" in text


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
    assert "| Liger / visatb, in place, 100% valid | >= 1.5 | 1.60 met" in text
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
