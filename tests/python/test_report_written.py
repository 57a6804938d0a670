"""What the report writes: all of it or nothing, and over no file that it is made from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from report_cases import change, make_folder, refusal, results_for, save

import visatb
from visatb.report import write_report
from visatb.report.gather import gather


@pytest.fixture
def three(scores, folder) -> Path:
    """The working folder with weights.json and the scores.json that it was made from."""
    return make_folder(folder, scores)


def test_the_page_takes_the_place_of_no_file_that_it_is_made_from(three):
    Path("link.html").symlink_to("weights.json")
    for name in ("weights.json", "link.html", "scores.json"):
        assert refusal(visatb.ArgumentError, output=name) == (
            f"output = {name}: the report is made from this file"
        )


def test_a_page_that_cannot_be_written_leaves_what_was_there(three):
    Path("report.html").write_text("before", encoding="utf-8")
    message = refusal(visatb.FileError, output="missing/report.html")
    assert message == "missing/report.html: cannot be written: No such file or directory"
    change("weights/vqa", 2)
    with pytest.raises(visatb.DataError):
        write_report(".")
    assert Path("report.html").read_text(encoding="utf-8") == "before"


def test_a_folder_for_figures_that_is_a_file(three):
    Path("figures").write_text("", encoding="utf-8")
    with pytest.raises(visatb.FileError, match=r"^figures: cannot be made: File exists$"):
        write_report(".", figures="figures")
    assert not Path("report.html").exists()


def test_figures_take_the_place_of_no_file_that_the_page_is_made_from(three, scores):
    names = [task["name"] for task in scores["tasks"]]
    save(Path("results.svg"), results_for(names, ["EW"]))
    assert refusal(visatb.ArgumentError, results="results.svg", figures=".") == (
        "figures = results.svg: the report is made from this file"
    )
    assert refusal(visatb.ArgumentError, figures="f", output="f/../f/weights.svg") == (
        "output = f/../f/weights.svg: a figure gets this name"
    )


@pytest.mark.parametrize("output", ["missing/report.html", "taken"])
def test_where_the_page_cannot_be_written_no_figures_are(three, output):
    Path("taken").mkdir()
    assert refusal(visatb.FileError, output=output, figures="figures").startswith(
        f"{output}: cannot be written: "
    )
    assert not Path("figures").exists()


def test_where_a_figure_cannot_be_written_no_page_is(three):
    Path("figures/temperature.png").mkdir(parents=True)
    Path("report.html").write_text("before", encoding="utf-8")
    assert refusal(visatb.FileError, figures="figures") == (
        "figures/temperature.png: cannot be written: Is a directory"
    )
    assert [file.name for file in Path("figures").iterdir()] == ["temperature.png"]


def test_results_may_come_through_a_pipe_that_is_read_once(three, scores):
    names = [task["name"] for task in scores["tasks"]]
    file = save(Path("r.json"), results_for(names, ["EW", "VisATB"]))
    out, into = os.pipe()
    os.write(into, file.read_bytes())
    os.close(into)
    piped = gather(".", results=f"/dev/fd/{out}")
    os.close(out)
    assert piped.results == gather(".", results="r.json").results
    assert piped.inputs[-1].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
