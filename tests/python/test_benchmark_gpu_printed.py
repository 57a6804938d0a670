"""What gpu-check reads out of what compilers, test runners and compute-sanitizer print."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from gpu_check import junit, ptxas, sanitize  # noqa: E402

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z5plainPi' for 'sm_80'
ptxas info    : Function properties for _Z5plainPi
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 256 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 6.577 ms
ptxas info    : Compiling entry function '_Z5spillILi300EEvPf' for 'sm_90'
ptxas info    : Function properties for _Z6helperv
    8 bytes stack frame, 1 bytes spill stores, 2 bytes spill loads
ptxas info    : Function properties for _Z5spillILi300EEvPf
    1200 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 1200 bytes cumulative stack size
"""
PYTEST = """\
<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" tests="4">
<testcase classname="tests.python.test_x" name="test_good" time="0.1" />
<testcase classname="tests.python.test_x" name="test_bad"><failure
 message="AssertionError: assert 1 == 2&#10; + where">long text</failure></testcase>
<testcase classname="tests.python.test_x" name="test_broken"><error message="RuntimeError: no"/>
</testcase>
<testcase classname="tests.python.test_x" name="test_none"><skipped message="no GPU">x</skipped>
</testcase></testsuite></testsuites>
"""
CTEST = """\
<?xml version="1.0" encoding="UTF-8"?><testsuite name="(empty)" tests="2" failures="1">
<testcase name="test_error" classname="test_error" time="0.0" status="run"/>
<testcase name="test_cuda" classname="test_cuda" status="fail"><failure message=""/>
<system-out>[ RUN ] a&#10;[  ERROR   ] --- 1 != 2&#10;[  FAILED  ] a</system-out></testcase>
<testcase name="test_off" classname="test_off" status="disabled"/></testsuite>
"""
CLEAN = """\
========= COMPUTE-SANITIZER
taken: one_read, cluster of 1, 512 threads, as at a width of 1024
every_kernel: ok, 4581 checks, 0 wrong
========= ERROR SUMMARY: 0 errors
"""
OUT_OF_BOUNDS = """\
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at one_read<bf16>(cuda_loss)+0x70 in one_read.cu:5
=========     by thread (0,0,0) in block (0,0,0)
=========     Address 0x7f is out of bounds
=========
every_kernel: ok, 4581 checks, 0 wrong
========= ERROR SUMMARY: 1 error
"""
RACE = """\
========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at two_read<float>(sums)+0x90 in two_read.cu:7
=========     and Read access at two_read<float>(sums)+0xb0 in two_read.cu:9 [496 hazards]
=========
every_kernel: ok, 4581 checks, 0 wrong
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
OF_CUBLAS = """\
========= COMPUTE-SANITIZER
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void cutlass::Kernel2<x>(T1::Params)+0x40
=========     by thread (0,0,0) in block (0,0,0)
=========
every_kernel: ok, 4581 checks, 0 wrong
========= ERROR SUMMARY: 1 error
"""
UNSUPPORTED = """\
========= COMPUTE-SANITIZER
========= Error: Device not supported. Please refer to the "Supported Devices" section
=========
wrong: cudaMalloc: unknown error
"""


def test_ptxas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    plain, spilling = ptxas.kernels_of(PTXAS)
    assert plain == {
        "name": "_Z5plainPi",
        "architecture": "sm_80",
        "registers": 10,
        "shared": 256,
        "stack": 0,
        "spill_stores": 0,
        "spill_loads": 0,
    }
    assert spilling["registers"] == 255
    assert (spilling["stack"], spilling["spill_stores"], spilling["spill_loads"]) == (1200, 40, 44)
    assert ptxas.kernels_of("nothing of it") == []


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="c++filt is not installed")
def test_ptxas_names_are_those_of_the_source() -> None:
    assert [one["name"] for one in ptxas.kernels_of(PTXAS)] == ["plain", "spill<300>"]


def test_junit_of_pytest(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text(PYTEST, encoding="utf-8")
    assert junit.read(path) == {
        "passed": 1,
        "failed": 2,
        "skipped": 1,
        "skip_reasons": {"no GPU": 1},
        "failures": [
            {"name": "tests.python.test_x::test_bad", "message": "AssertionError: assert 1 == 2"},
            {"name": "tests.python.test_x::test_broken", "message": "RuntimeError: no"},
        ],
    }


def test_junit_of_ctest_and_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text(CTEST, encoding="utf-8")
    found = junit.read(path)
    assert found is not None
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 1, 1)
    assert found["failures"] == [{"name": "test_cuda", "message": "[  ERROR   ] --- 1 != 2"}]
    path.write_text(CTEST[:100], encoding="utf-8")
    assert junit.read(path) is None
    assert junit.read(tmp_path / "none.xml") is None


@pytest.mark.parametrize(
    ("tool", "code", "text", "status", "reason"),
    [
        ("memcheck", 0, CLEAN, "passed", ""),
        ("memcheck", 0, OUT_OF_BOUNDS, "failed", "1 errors, the first: Invalid __global__ write"),
        ("racecheck", 0, RACE, "failed", "1 errors, the first: Error: Race reported"),
        ("initcheck", 0, OF_CUBLAS, "passed", ""),
        ("memcheck", 0, OF_CUBLAS, "failed", "1 errors"),
        ("memcheck", 1, UNSUPPORTED, "not run", "the tool did not work here: Error: Device not"),
        ("memcheck", None, CLEAN, "not run", "cut after 150 s"),
        ("memcheck", 1, "", "not run", "the tool did not work here: no summary"),
        (
            "synccheck",
            1,
            CLEAN.replace("every_kernel: ok", "every_kernel: wrong"),
            "failed",
            "the program did not come to its end",
        ),
    ],
)
def test_sanitizer(tool: str, code: int | None, text: str, status: str, reason: str) -> None:
    outcome = sanitize.judge(tool, code, text, 150.0)
    assert outcome["status"] == status
    assert outcome.get("reason", "").startswith(reason)


def test_sanitizer_says_where() -> None:
    assert sanitize.judge("racecheck", 0, RACE, 1.0)["places"] == ["two_read<float>(sums)"]


def test_errors_that_are_not_all_shown_are_not_taken_for_those_of_others() -> None:
    many = OF_CUBLAS.replace("SUMMARY: 1 error", "SUMMARY: 7 errors")
    assert sanitize.judge("initcheck", 0, many, 1.0)["status"] == "failed"
