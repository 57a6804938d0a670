from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_gpu import CPU_PART, PAGE, ROOT, Json, bare


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks' own modules, as their programs find them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


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


def test_a_reason_has_no_colours_of_a_terminal() -> None:
    from comparison import results

    assert results.plain("Error: \x1b[91m\x1b[1mno\x1b[0m IR") == "Error: no IR"


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
    # As a package has it whose modules lie deeper.
    (tmp_path / "site/deeper").mkdir(parents=True)
    (tmp_path / "site/a.pth").write_text("deeper\n", encoding="utf-8")
    program.add_wheels(str(tmp_path), tmp_path / "site")
    (command,) = commands
    assert {"--no-index", "--no-deps", "--target"} <= set(command)
    assert sys.path[0] == str(tmp_path / "site")
    assert str(tmp_path / "site/deeper") in sys.path
