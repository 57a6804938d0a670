"""Weights with intervals as a shell sees them."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from sample_files import rescore, sampled, shift, write

import visatb
from visatb import _intervals_member

TABLE = """\
task       weight  95% interval  outward  inward  difficulty  by-out  by-in  by-diff
caption    0.9933   0.854-1.167    0.127  -0.120       0.150   1.153  1.340    0.740
vqa        0.8835   0.758-1.032    0.137   0.086       0.146   1.176  0.887    0.736
grounding  1.1232   1.034-1.198   -0.143   0.155       0.511   0.672  0.773    1.524
sharegpt   1.0000                  fixed

weight = 0.25 by-out + 0.25 by-in + 0.5 by-diff
temperature 0.5 (from the scores file)
2000 resamples of the validation samples at this temperature; none refused
told apart from 1: grounding; not told apart: caption, vqa
1 of 3 pairs are told apart
"""


def test_the_table_has_a_column_and_says_what_is_told_apart(command, full_files):
    run = command("weights", "scores.json", "--seed", "7")
    assert (run.code, run.out) == (0, TABLE)
    assert run.err.count("negative contribution") == len(run.err.splitlines())


def test_pairs_are_of_what_is_weighed_and_a_group_is_one(command, worked, folder):
    document, values = sampled(worked("groups"), noise=0.02)
    write(document, values)
    # Five tasks make eight pairs of different weights; three units make three.
    assert len(visatb.compute_weights("scores.json").intervals["apart"]) == 8
    assert command("weights", "scores.json").out.endswith("\n3 of 3 pairs are told apart\n")


def test_the_column_is_called_by_its_confidence_and_none_is_none(command, full_files):
    document, values = full_files
    gain = document["runs"]["with_mini"]["vqa"]["vqa"]["em"] - document["runs"]["mini"]["vqa"]["em"]
    shift(values, ("with_mini:vqa", "vqa", "em"), 0.5 - gain)
    rescore(document, values)
    write(document, values)
    run = command("weights", "scores.json", "--confidence", "0.9", "--resamples", "100")
    lines = run.out.splitlines()
    assert lines[0].split()[:4] == ["task", "weight", "90%", "interval"]
    assert lines[1].split()[2] == "none"
    refused = visatb.compute_weights("scores.json", confidence=0.9, resamples=100)
    assert lines[-3].endswith(f"; {refused.intervals['refused']} refused")
    assert lines[-2] == "told apart from 1: none; not told apart: caption, vqa, grounding"
    assert lines[-1] == "0 of 3 pairs are told apart"
    assert "visatb: warning: scores.json: runs.with_mini.vqa.vqa.em: in " in run.err
    rows = list(csv.DictReader(io.StringIO(command("weights", "scores.json", "--format=csv").out)))
    assert [row["low"] for row in rows] == [""] * 4
    strict = command("weights", "scores.json", "--no-intervals", "--strict", "-o", "weights.json")
    assert command("weights", "scores.json", "--strict").code == 1
    assert "denominator" not in strict.err


def test_csv_has_both_ends_and_json_is_the_file(command, full_files):
    rows = list(csv.DictReader(io.StringIO(command("weights", "scores.json", "--format=csv").out)))
    weights = visatb.compute_weights("scores.json")
    ends = weights.intervals["weights"]
    assert list(rows[0])[:5] == ["task", "unit", "weight", "low", "high"]
    assert [float(rows[1]["low"]), float(rows[1]["high"])] == ends["vqa"]
    assert rows[3]["low"] == rows[3]["high"] == ""
    assert command("weights", "scores.json", "--format=json").out == weights.to_json()
    shell = command("weights", "scores.json", "--format=shell").out
    assert shell == command("weights", "scores.json", "--format=shell", "--no-intervals").out


def test_without_intervals_the_table_is_as_it_was(command, full_files):
    run = command("weights", "scores.json", "--no-intervals")
    assert "interval" not in run.out
    assert "apart" not in run.out
    rows = csv.DictReader(
        io.StringIO(command("weights", "scores.json", "--no-intervals", "--format=csv").out)
    )
    assert "low" not in next(rows)


def test_a_file_may_be_named_on_the_command_line(command, full_files):
    Path("answers.jsonl").rename("other.jsonl")
    warned = command("weights", "scores.json")
    assert warned.code == 0
    assert "interval" not in warned.out
    assert warned.err.endswith(
        "visatb: warning: scores.json: per_sample: no intervals: answers.jsonl: "
        "No such file or directory\n"
    )
    assert command("weights", "scores.json", "--strict").code == 1
    asked = command("weights", "scores.json", "--intervals")
    assert (asked.code, asked.out) == (3, "")
    assert asked.err == "visatb: answers.jsonl: No such file or directory\n"
    named = command("weights", "scores.json", "--per-sample", "other.jsonl", "--seed", "7")
    assert named.out == TABLE
    text = Path("scores.json").read_text(encoding="utf-8")
    assert command("weights", "-", "--per-sample=other.jsonl", "--seed=7", stdin=text).out == TABLE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resamples", "3"], "visatb: resamples = 3; expected an integer of 40 or more"),
        (
            ["--resamples", f"1{'0' * 30}"],
            f"visatb: resamples = 1{'0' * 30}; expected at most 1000000",
        ),
        (["--resamples", "1000001"], "visatb: resamples = 1000001; expected at most 1000000"),
        (
            ["--confidence", "0.9999999"],
            "visatb: confidence = 0.9999999; expected at most 0.999998, of which 1000000 resamples "
            "can tell",
        ),
        (["--resamples", "many"], "argument --resamples: invalid int value: 'many'"),
        (["--confidence", "95"], "visatb: confidence = 95.0; expected a number between 0 and 1"),
        (["--seed", "-1"], "visatb: seed = -1; expected an integer of 0 or more"),
        (
            ["--no-intervals", "--per-sample", "a.jsonl"],
            "visatb: per_sample = 'a.jsonl' without intervals; drop one of the two",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2(command, full_files, arguments, message):
    run = command("weights", "scores.json", *arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err


def test_a_wrong_line_is_exit_code_3_and_writes_nothing(command, full_files):
    with Path("answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"run": "mini"')
    run = command("weights", "scores.json", "-o", "weights.json")
    assert (run.code, run.out) == (3, "")
    assert run.err == "visatb: answers.jsonl: line 13: cut off; expected a whole JSON object\n"
    assert not Path("weights.json").exists()


@pytest.mark.parametrize("option", [[], ["--no-intervals"], ["--per-sample", "other.jsonl"]])
@pytest.mark.parametrize("output", ["scores.json", "answers.jsonl", "other.jsonl", "link.json"])
def test_weights_take_the_place_of_no_file_that_they_are_made_from(
    command, full_files, option, output
):
    if output == "other.jsonl" and "other.jsonl" not in option:
        pytest.skip("is no input then")
    Path("other.jsonl").write_bytes(Path("answers.jsonl").read_bytes())
    Path("link.json").symlink_to("answers.jsonl")
    before = {file: file.read_bytes() for file in Path().iterdir()}
    run = command("weights", "scores.json", "--resamples", "100", *option, "-o", output)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"visatb: output = {output}: the weights are made from this file\n"
    assert {file: file.read_bytes() for file in Path().iterdir()} == before


def test_what_standard_input_is_read_from_is_an_input_too(full_files):
    code = "import sys; from visatb.cli import main; sys.exit(main(sys.argv[1:]))"
    program = [sys.executable, "-c", code, "weights", "-", "--no-intervals", "-o"]
    before = Path("scores.json").read_bytes()
    for output, expected in (("scores.json", 2), ("weights.json", 0)):
        with Path("scores.json").open("rb") as file:
            run = subprocess.run([*program, output], stdin=file, capture_output=True, check=False)
        assert run.returncode == expected
    assert Path("scores.json").read_bytes() == before


def test_more_resamples_than_the_memory_holds_are_wrong_usage(command, full_files, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(_intervals_member, "resampled_means", full)
    run = command("weights", "scores.json", "--resamples", "500000")
    assert (run.code, run.out) == (2, "")
    assert run.err == "visatb: resamples = 500000: too many for this machine's memory\n"
