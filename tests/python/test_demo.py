"""The demo: what its tasks and scores mean, and that it goes through every step."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import visatb

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


def test_no_picture_is_in_two_splits_and_every_task_has_samples(demo):
    splits = demo("tasks").load(3, {"train": 60, "validation": 20, "test": 20}).samples
    pictures = {
        split: {sample.image for samples in of_task for sample in samples}
        for split, of_task in splits.items()
    }
    assert not pictures["train"] & pictures["validation"]
    assert not pictures["test"] & (pictures["train"] | pictures["validation"])
    assert all(samples for of_task in splits.values() for samples in of_task)


def test_mini_subsets_lie_inside_the_large_ones(demo):
    procedure = demo("procedure")
    scale = procedure.QUICK
    made = procedure.Procedure(demo("tasks").load(0, scale.pictures), scale, 0)
    for mini, large, whole in zip(made.mini, made.large, made.train, strict=True):
        assert len(mini) < len(large) < len(whole)
        assert set(mini) <= set(large) <= set(whole)


def test_every_answer_survives_the_tokenizer(demo):
    samples = demo("tasks").load(0, {"train": 200}).samples["train"]
    answers = [sample.answer for of_task in samples for sample in of_task]
    tokenizer = demo("model").Tokenizer(answers)
    assert [tokenizer.decode(tokenizer.encode(answer)) for answer in answers] == answers


def test_answers_are_scored_as_text(demo):
    answers = demo("answers")
    assert answers.iou("[0, 0, 50, 50]", "[0, 0, 100, 50]") == 0.5
    assert answers.iou("[0, 0, 50, 50]", "[50, 0, 100, 50]") == 0.0
    assert answers.iou("[0, 0, 50]", "[0, 0, 50, 50]") == 0.0
    assert answers.iou("[50, 0, 0, 50]", "[0, 0, 50, 50]") == 0.0
    truth = "a small red circle in the upper left"
    assert answers.facts_right(truth, truth) == 1.0
    assert answers.facts_right("a small red square in the upper left", truth) == 0.75
    assert answers.facts_right("a small red blue circle", truth) == 0.5
    assert answers.exact_match("yes", "yes") == 1.0
    assert answers.exact_match("yes yes", "yes") == 0.0


def test_refused_scores_are_shown_and_the_demo_goes_on_with_equal_weights(demo, vector, tmp_path):
    scores = vector("scores_full.json")["scores"]
    scores["runs"]["with_mini"]["vqa"]["vqa"]["em"] = scores["runs"]["mini"]["vqa"]["em"]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(scores), encoding="utf-8")
    with pytest.raises(visatb.DataError) as refusal:
        visatb.compute_weights(path)

    spec = importlib.util.spec_from_file_location("demo_program", DEMO / "__main__.py")
    program = importlib.util.module_from_spec(spec)
    demo("tasks")  # its folder is on the path
    spec.loader.exec_module(program)
    console = program.Console(file=io.StringIO(), width=80)
    assert program.make_weights(path, tmp_path / "weights.json", console) is None
    assert str(refusal.value) in console.file.getvalue()
    assert "Going on with equal weights" in console.file.getvalue()


def outcome(make, path):
    """What VisATB makes of a file, or its reason to refuse it."""
    try:
        return make(path), ""
    except visatb.DataError as error:
        return None, str(error)


def test_a_quick_run_goes_through_every_step(tmp_path):
    output = tmp_path / "demo-output"
    finished = subprocess.run(
        [sys.executable, str(DEMO), "--quick", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr
    assert (output / "report.png").read_bytes().startswith(b"\x89PNG")
    scores = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    assert set(scores["runs"]["with_mini"]) == {"yesno", "word", "caption", "box"}

    # With so little data, other rounding on another machine may lead to a refusal.
    weights, refusal = outcome(visatb.compute_weights, output / "scores.json")
    methods = json.loads((output / "results.json").read_text(encoding="utf-8"))["methods"]
    if weights is None:
        assert refusal in finished.stdout
    else:
        assert (output / "weights.json").read_text(encoding="utf-8") == weights.to_json()
    assert list(methods) == ["STL", "EW"] + ["VisATB"] * (weights is not None)
    evaluation, refusal = outcome(visatb.evaluate, output / "results.json")
    assert evaluation is not None or refusal in finished.stdout
