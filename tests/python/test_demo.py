"""The demo: what its tasks and scores mean, and that it goes through every step."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import visatb
from visatb.procedure.commands import check_commands

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples/python/demo"

for needed in ("torch", "transformers", "easy_vqa", "matplotlib"):
    pytest.importorskip(needed, reason="the demo's requirements are not installed")


@pytest.fixture
def demo(monkeypatch):
    """The modules of the demo, which is a program and no package."""
    monkeypatch.syspath_prepend(str(DEMO))
    return importlib.import_module


def test_a_box_is_measured_from_the_pixels(demo):
    pixels = np.full((64, 64, 3), 230, dtype=np.uint8)
    pixels[10:31, 20:41] = (200, 30, 30)
    tasks = demo("tasks")
    assert tasks.measure_box(pixels) == (20, 10, 41, 31)
    assert tasks.box_text((20, 10, 41, 31), 64) == "[31, 16, 64, 48]"


def test_samples_are_written_as_a_trainer_reads_them_and_read_as_they_were(demo, tmp_path):
    _, samples = demo("tasks").load(3, 40, 1)
    assert {sample.task for sample in samples} == {"yesno", "word", "caption", "box"}
    demo("data").write_samples(tmp_path / "samples.jsonl", samples)
    assert demo("data").read_samples(tmp_path / "samples.jsonl") == samples
    record = json.loads((tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert list(record) == ["id", "task", "image", "conversations"]
    assert [turn["from"] for turn in record["conversations"]] == ["human", "gpt"]


def test_data_that_a_training_still_reads_is_replaced_and_not_rewritten(
    demo, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["data.py", str(tmp_path), "--pictures", "5"])
    demo("data").main()
    first = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (tmp_path / "samples.jsonl").open("rb") as samples:
        inode = (tmp_path / "pictures.npy").stat().st_ino
        demo("data").main()
        assert (tmp_path / "pictures.npy").stat().st_ino != inode
        assert (tmp_path / "samples.jsonl").stat().st_ino != os.fstat(samples.fileno()).st_ino
    assert np.array_equal(first, np.load(tmp_path / "pictures.npy"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents
    assert set(contents) == {"pictures.npy", "samples.jsonl"}


def test_a_larger_demo_asks_each_picture_more(demo):
    few, many = (len(demo("tasks").load(3, 40, each)[1]) for each in (1, 3))
    assert 2.5 * few < many <= 3 * few


def test_every_answer_survives_the_tokenizer(demo):
    answers = [sample.answer for sample in demo("tasks").load(0, 200, 1)[1]]
    tokenizer = demo("model").Tokenizer(answers)
    assert [tokenizer.decode(tokenizer.encode(answer)) for answer in answers] == answers


def test_a_caption_is_scored_by_its_facts(demo):
    facts_right = demo("answers").facts_right
    truth = "a small red circle in the upper left"
    assert facts_right(truth, truth) == 1.0
    assert facts_right("a small red square in the upper left", truth) == 0.75
    assert facts_right("a small red blue circle", truth) == 0.5


def test_answers_get_points_by_sample(demo):
    tasks, points = demo("tasks"), demo("answers").points
    by_name = {task.name: task for task in tasks.TASKS}

    def of(task, answer, truth):
        return points(by_name[task], [tasks.Sample("7-0", task, 7, "", truth)], [answer])

    assert of("yesno", "yes", "yes") == {"7-0": 100.0}
    assert of("yesno", "yes yes", "yes") == {"7-0": 0.0}
    assert of("box", "[0, 0, 50, 50]", "[0, 0, 100, 50]") == {"7-0": 50.0}
    assert of("box", "[0, 0, 50]", "[0, 0, 50, 50]") == {"7-0": 0.0}
    assert of("caption", "a small red box", "a small red circle in the upper left") == {"7-0": 50.0}


def test_its_project_plans_the_runs_that_its_page_describes(demo):
    project = visatb.procedure.load_project(DEMO / "full.toml")
    assert [task.name for task in project.tasks] == [task.name for task in demo("tasks").TASKS]
    assert {task.name: task.metrics[0].name for task in project.tasks} == {
        task.name: task.metric for task in demo("tasks").TASKS
    }
    check_commands(project)


def made_of(path):
    """The weights of a score file, or why it is refused."""
    try:
        return visatb.compute_weights(path), ""
    except visatb.DataError as error:
        return None, str(error).partition(": ")[2]


def test_a_quick_run_goes_through_every_step(tmp_path):
    shutil.copytree(DEMO, tmp_path / "examples/python/demo")
    finished = subprocess.run(
        [str(tmp_path / "examples/python/demo/run"), str(Path(sys.executable).parent), "quick"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    output = tmp_path / "demo-output-quick"
    # Whatever folder it was started in, what it names is named from the root.
    first, *_ = finished.stdout.splitlines()
    assert first.endswith(" samples of 480 pictures: demo-output-quick/samples.jsonl")
    assert "../" not in finished.stdout + finished.stderr
    scores = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    assert set(scores["runs"]["with_mini"]) == {"yesno", "word", "caption", "box"}
    assert scores["per_sample"] == "per_sample.jsonl"
    # With so little data, other rounding on another machine may lead to a refusal.
    weights, refusal = made_of(output / "scores.json")
    if weights is None:
        plan = json.loads((output / "plan.json").read_text(encoding="utf-8"))
        others = len(plan["runs"]) - 1  # EW's with them
        assert f"no weights for VisATB: {output / 'scores.json'}: {refusal}" in finished.stderr
        expected = f"{others} runs are done; waiting for weights: VisATB"
        assert finished.stdout.splitlines()[-1] == expected
        assert finished.returncode == 3
        for name in ("weights.json", "results.json", "report.html"):
            assert not (output / name).exists()
        pytest.skip(f"no weights on this machine: {refusal}")
    assert finished.returncode == 0, finished.stderr
    assert (output / "weights.json").read_text(encoding="utf-8") == weights.to_json()
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    assert list(results["methods"]) == ["EW", "VisATB"]
    assert "<html" in (output / "report.html").read_text(encoding="utf-8")
