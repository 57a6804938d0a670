"""From score files to weights files and evaluations."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import visatb


@pytest.mark.parametrize("name", ["scores_full.json", "scores_simple.json", "scores_groups.json"])
def test_worked_score_files_give_the_expected_weights(vector, name):
    case = vector(name)
    weights = visatb.compute_weights(case["scores"])
    assert weights.weights == pytest.approx(case["expected"]["weights"], rel=1e-9)
    for measure in ("outward", "inward", "difficulty"):
        assert list(weights.data[measure].values()) == pytest.approx(
            case["expected"][measure], rel=1e-9, abs=1e-12
        )


@pytest.mark.parametrize("name", ["full", "simple", "groups"])
def test_the_examples_are_the_worked_files(vector, examples, name):
    weights = visatb.compute_weights(examples / f"{name}.json").weights
    expected = vector(f"scores_{name}.json")["expected"]["weights"]
    assert list(weights.values()) == pytest.approx(list(expected.values()), rel=1e-9)


def test_groups_share_a_weight_and_fixed_weights_stay(vector):
    case = vector("scores_groups.json")
    weights = visatb.compute_weights(case["scores"])
    units = case["expected"]["units"]
    contribution = [[weights.data["contribution"][i][j] for j in units] for i in units]
    np.testing.assert_allclose(contribution, case["expected"]["contribution"], rtol=1e-9)
    assert weights.temperature == case["expected"]["temperature"]
    assert weights.temperature_from == "automatic"
    assert weights.units == {"a": "g1", "b": "g1", "c": "g2", "d": "g2", "e": "e", "f": None}
    assert weights.weights["f"] == 1.25


def test_weights_of_all_units_sum_to_their_number(vector):
    weights = visatb.compute_weights(vector("scores_groups.json")["scores"])
    by_unit = {unit: weights.weights[task] for task, unit in weights.units.items() if unit}
    assert sum(by_unit.values()) == pytest.approx(3.0, rel=1e-12)


def test_warnings_say_what_is_weak_and_where(scores):
    assert visatb.compute_weights(scores).warnings == [
        visatb.ScoreWarning(
            "negative_contribution",
            "runs.with_mini.grounding",
            "negative contribution: grounding -> caption",
        )
    ]


def test_task_id_i_is_task_i_of_the_score_file(scores):
    assert visatb.compute_weights(scores).tasks == ["caption", "vqa", "grounding", "sharegpt"]


def test_a_file_is_read_as_the_dict_is(scores, folder):
    Path("scores.json").write_text(json.dumps(scores), encoding="utf-8")
    from_file = visatb.compute_weights("scores.json")
    assert from_file.weights == visatb.compute_weights(scores).weights
    assert from_file.weights == visatb.compute_weights(folder / "scores.json").weights


@pytest.mark.parametrize("name", ["scores.json", "scores.txt"])
def test_json_files_may_begin_with_a_byte_order_mark(name, scores, vector, folder):
    expected = visatb.compute_weights(scores)
    Path(name).write_text(json.dumps(scores), encoding="utf-8-sig")
    weights = visatb.compute_weights(name)
    assert weights.weights == expected.weights
    assert weights.units == expected.units
    Path("weights.json").write_text(weights.to_json(), encoding="utf-8-sig")
    assert len(visatb.load_weights("weights.json")) == 4
    results = vector("improvement_7b.json")["results"]
    Path("results.json").write_text(json.dumps(results), encoding="utf-8-sig")
    assert visatb.evaluate("results.json") == visatb.evaluate(results)


def test_standard_input_is_read_for_a_dash(scores, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(scores).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert visatb.compute_weights("-").weights == visatb.compute_weights(scores).weights


def test_numbers_of_numpy_are_numbers(scores):
    scores["runs"]["mini"]["vqa"]["em"] = np.float32(60.0)
    scores["runs"]["mini"]["grounding"]["acc50"] = np.int64(30)
    visatb.compute_weights(scores)


def test_save_writes_the_text_of_to_json(scores, folder):
    weights = visatb.compute_weights(scores)
    weights.save("weights.json")
    assert Path("weights.json").read_text(encoding="utf-8") == weights.to_json()
    assert json.loads(weights.to_json()) == weights.data
    assert [entry.name for entry in folder.iterdir()] == ["weights.json"]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda weights: pickle.loads(pickle.dumps(weights))],
)
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_copy_outlives_what_it_was_made_from(duplicate, kind, examples, folder):
    original = visatb.compute_weights(examples / f"full.{kind}", temperature=0.5)
    text, warnings = original.to_json(), original.warnings
    copied = duplicate(original)
    del original
    copied.save("weights.json")
    assert Path("weights.json").read_text(encoding="utf-8") == copied.to_json() == text
    assert copied.warnings == warnings
    assert copied.temperature_from == "argument"
    assert copied.units["sharegpt"] is None
    np.testing.assert_array_equal(
        visatb.load_weights("weights.json"), np.float32(list(copied.weights.values()))
    )


def test_the_weights_are_to_be_read_only(scores):
    weights = visatb.compute_weights(scores)
    with pytest.raises(TypeError):
        weights.weights["vqa"] = 2.0
    weights.data["weights"]["vqa"] = 2.0
    assert weights.weights["vqa"] == pytest.approx(0.8843100537)
    assert json.loads(weights.to_json())["weights"] == dict(weights.weights)


def resident_memory() -> int:
    """Bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_computing_again_and_again_does_not_grow_memory(scores, vector):
    results = vector("improvement_7b.json")["results"]

    def work(times: int) -> None:
        for _ in range(times):
            visatb.compute_weights(scores)
            visatb.evaluate(results)
            with pytest.raises(visatb.DataError):
                visatb.compute_weights(scores, form="simple")

    work(300)
    before = resident_memory()
    work(2000)
    assert resident_memory() - before < 2 << 20


def test_the_weights_file_records_which_scores_it_came_from(scores, folder):
    content = json.dumps(scores).encode()
    (folder / "scores.json").write_bytes(content)
    data = visatb.compute_weights("scores.json").data
    assert data["scores_sha256"] == hashlib.sha256(content).hexdigest()


def test_arguments_win_over_the_file(scores):
    weights = visatb.compute_weights(scores, temperature=1e9, alphas=(0.0, 0.0, 1.0))
    assert weights.temperature == 1e9
    assert weights.temperature_from == "argument"
    assert weights.data["alphas"] == {"out": 0.0, "in": 0.0, "difficulty": 1.0}
    assert weights.weights["vqa"] == pytest.approx(1.0, abs=1e-8)
    assert visatb.compute_weights(scores).temperature_from == "file"
    assert visatb.compute_weights(scores, temperature="auto").temperature_from == "automatic"


def test_another_form_asks_for_other_runs(scores):
    with pytest.raises(visatb.DataError, match=r"^scores: runs\.base: missing$"):
        visatb.compute_weights(scores, form="simple")


def test_permuting_the_tasks_permutes_the_weights(scores):
    weights = visatb.compute_weights(scores).weights
    scores["tasks"].reverse()
    permuted = visatb.compute_weights(scores)
    assert permuted.tasks == ["sharegpt", "grounding", "vqa", "caption"]
    assert permuted.weights == pytest.approx(weights, rel=1e-12)


# --- what is refused ------------------------------------------------------------------------------


def refusal(scores, **arguments) -> visatb.DataError:
    with pytest.raises(visatb.DataError) as error:
        visatb.compute_weights(scores, **arguments)
    return error.value


def test_a_missing_score_is_named_by_its_path(scores, folder):
    del scores["runs"]["with_mini"]["vqa"]["caption"]["cider"]
    Path("scores.json").write_text(json.dumps(scores), encoding="utf-8")
    error = refusal("scores.json")
    assert str(error) == "scores.json: runs.with_mini.vqa.caption.cider: missing"
    assert error.path == "runs.with_mini.vqa.caption.cider"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (None, "expected a number, not null"),
        ("0.4", "expected a number, not a string"),
        (True, "expected a number, not a boolean"),
    ],
)
def test_what_is_no_number_is_refused(scores, broken, message):
    scores["runs"]["mini"]["vqa"]["em"] = broken
    assert str(refusal(scores)) == f"scores: runs.mini.vqa.em: {message}"


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), np.float32("nan")])
def test_nan_and_infinity_are_refused_with_their_path(scores, broken):
    scores["runs"]["mini"]["vqa"]["em"] = broken
    assert refusal(scores).path == "runs.mini.vqa.em"


def test_training_that_makes_its_own_task_worse_is_refused_unless_allowed(scores):
    scores["runs"]["with_mini"]["vqa"]["vqa"]["em"] = 59
    assert refusal(scores).path == "runs.with_mini.vqa.vqa.em"
    visatb.compute_weights(scores, allow_negative_denominator=True)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"visatb_scores": 2}', b'{"a": 1, "a": 1}', b'{"a": "\xff"}']
)
def test_what_is_no_score_file_is_refused(folder, content):
    (folder / "scores.json").write_bytes(content)
    assert str(refusal("scores.json")).startswith("scores.json: ")


def test_a_dict_that_json_cannot_say_is_refused(scores):
    scores["note"] = {1, 2}
    assert str(refusal(scores)) == "scores: {1, 2} is no JSON value"
    scores["note"] = scores
    assert str(refusal(scores)) == "scores: Circular reference detected"
    scores["note"] = "\ud800"
    assert "not UTF-8" in str(refusal(scores))


def test_a_file_that_cannot_be_read_is_a_file_error_and_an_os_error(folder):
    with pytest.raises(visatb.FileError, match=r"^none\.json: No such file or directory$"):
        visatb.compute_weights("none.json")
    with pytest.raises(OSError, match="Is a directory"):
        visatb.compute_weights(folder)


def test_a_file_that_cannot_be_written_is_a_file_error(scores, folder):
    weights = visatb.compute_weights(scores)
    with pytest.raises(visatb.FileError, match=r"^none/weights\.json: "):
        weights.save("none/weights.json")


def test_standard_input_that_is_closed_is_a_file_error(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(visatb.FileError, match=r"^standard input: closed$"):
        visatb.compute_weights("-")


@pytest.mark.parametrize(
    "call",
    [
        lambda _: visatb.load_weights("weights.json", ["vqa\0xyz"]),
        lambda _: visatb.load_weights("weights.json", ["vqa", "\udcff"]),
        lambda _: visatb.load_weights("weights.json", [1]),
        lambda _: visatb.load_weights("weights.json", 1),
        lambda _: visatb.load_weights("weights.json\0junk"),
        lambda _: visatb.load_weights(b"weights.json"),
        lambda weights: weights.save("nul.json\0junk"),
        lambda weights: weights.save("lone \ud800.json"),
        lambda weights: weights.save(1),
        lambda _: visatb.evaluate({}, baseline="EW\0x"),
        lambda _: visatb.evaluate({}, baseline="\udcff"),
        lambda _: visatb.evaluate({}, baseline=1),
        lambda _: visatb.compute_weights("scores.json\0junk"),
    ],
)
def test_a_name_that_cannot_be_one_is_an_argument_error(saved, folder, call):
    with pytest.raises(visatb.ArgumentError):
        call(saved)
    assert [entry.name for entry in folder.iterdir()] == ["weights.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": [1]}, 'temperature = [1]; expected "auto" or a number above 0'),
        ({"form": "fuller"}, 'form = \'fuller\'; expected "full", "simple" or "precise"'),
        ({"temperature": "hot"}, "temperature = 'hot'; expected \"auto\" or a number above 0"),
        ({"temperature": 0}, 'temperature = 0; expected "auto" or a number above 0'),
        (
            {"alphas": [0.5, 0.5]},
            "alphas = [0.5, 0.5]; expected three numbers: out, in, difficulty",
        ),
    ],
)
def test_arguments_that_cannot_be_right_are_named(scores, arguments, message):
    with pytest.raises(visatb.ArgumentError) as error:
        visatb.compute_weights(scores, **arguments)
    assert str(error.value) == message


def test_scores_are_a_path_or_a_dict():
    with pytest.raises(visatb.ArgumentError, match=r"^7 is neither a path nor a dict$"):
        visatb.compute_weights(7)


# --- weights for a trainer ------------------------------------------------------------------------


@pytest.fixture
def saved(scores, folder) -> visatb.Weights:
    weights = visatb.compute_weights(scores)
    weights.save("weights.json")
    return weights


def test_load_weights_gives_the_files_order(saved):
    loaded = visatb.load_weights("weights.json")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, np.float32(list(saved.weights.values())))


def test_load_weights_gives_the_trainers_order(saved):
    loaded = visatb.load_weights("weights.json", ["sharegpt", "vqa"])
    np.testing.assert_array_equal(loaded, np.float32([1.0, saved.weights["vqa"]]))


def test_load_weights_refuses_a_task_that_the_file_does_not_have(saved):
    with pytest.raises(visatb.DataError) as error:
        visatb.load_weights("weights.json", ["vqa", "ocr"])
    assert str(error.value) == (
        'weights.json: weights.ocr: missing; the file has no weight for the task "ocr"'
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "weights.json: "),
        ("[1]", "weights.json: expected an object, not an array"),
        (
            '{"visatb_scores": 1}',
            "weights.json: visatb_weights: missing; there is visatb_scores, so it is another file",
        ),
        (
            '{"visatb_weights": 1, "weights": {"a": 1}}',
            "weights.json: tasks: expected a list of names",
        ),
        (
            '{"visatb_weights": 1, "tasks": ["a"], "weights": {"a": -1}}',
            "weights.json: weights.a: -1; expected a number from 0 to 3.4e38",
        ),
    ],
)
def test_load_weights_refuses_what_is_no_weights_file(folder, content, message):
    (folder / "weights.json").write_text(content, encoding="utf-8")
    with pytest.raises(visatb.DataError) as error:
        visatb.load_weights("weights.json")
    assert str(error.value).startswith(message)


def test_load_weights_takes_names_not_a_name(saved):
    with pytest.raises(visatb.ArgumentError, match=r"^tasks = 'vqa'; expected a list of names$"):
        visatb.load_weights("weights.json", "vqa")


def test_the_recorded_hash_is_sha256_for_every_length_of_padding(scores, folder):
    text = json.dumps(scores)
    for blanks in range(130):
        padded = text + " " * blanks
        path = folder / f"{blanks}.json"
        path.write_text(padded, encoding="utf-8")
        assert (
            visatb.compute_weights(path).data["scores_sha256"]
            == hashlib.sha256(padded.encode()).hexdigest()
        )


# --- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["improvement_7b.json", "improvement_13b.json"])
def test_the_papers_tables_are_met_to_the_printed_digits(vector, name):
    case = vector(name)
    methods = visatb.evaluate(case["results"])["methods"]
    for method, printed in case["printed"].items():
        for key, value in printed.items():
            assert f"{methods[method][key]:.2f}" == f"{value:.2f}", (method, key)


def test_a_baseline_that_trains_each_task_alone_has_no_zero_shot_summary(vector):
    methods = visatb.evaluate(vector("improvement_7b.json")["results"])["methods"]
    assert "dI_zero" not in methods["STL"]
    assert methods["STL"]["dI"] == 0.0


def test_any_method_can_be_the_baseline(vector):
    evaluation = visatb.evaluate(vector("improvement_13b.json")["results"], baseline="EW")
    assert evaluation["baseline"] == "EW"
    assert evaluation["methods"]["EW"]["dI"] == 0.0


def test_an_unknown_baseline_is_refused(vector):
    with pytest.raises(visatb.DataError) as error:
        visatb.evaluate(vector("improvement_7b.json")["results"], baseline="SLT")
    assert str(error.value) == 'results: baseline: "SLT" is not among the methods'
