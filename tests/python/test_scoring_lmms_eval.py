"""What lmms-eval writes, in its own shape: a table of results, and a log of samples a task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visatb import DataError, FileError
from visatb.scoring import ImportedScore, import_lmms_eval, read_lmms_eval

DATE = "20260105_120000"
RESULTS = f"{DATE}_results.json"


def sample(doc: int, **metrics: object) -> dict[str, object]:
    return {
        "doc_id": doc,
        "target": "['cat']",
        "filtered_resps": ["cat"],
        "doc_hash": "d",
        "prompt_hash": "p",
        "target_hash": "t",
        "input": "What?",
    } | metrics


def write(task: str, samples: list[dict[str, object]]) -> None:
    text = "".join(f"{json.dumps(line)}\n" for line in samples)
    Path(f"{DATE}_samples_{task}.jsonl").write_text(text)


def results(entries: dict[str, dict[str, object]], higher: object = None) -> str:
    document = {
        "results": entries,
        "group_subtasks": {},
        "configs": {},
        "n-shot": dict.fromkeys(entries, 0),
        "n-samples": {task: {"original": 500, "effective": 4} for task in entries},
        "higher_is_better": higher or {},
        "config": {"model": "llava"},
    }
    Path(RESULTS).write_text(json.dumps(document, indent=2))
    return RESULTS


def textvqa(score: object, **more: object) -> dict[str, dict[str, object]]:
    entry = {"alias": "textvqa_val", "exact_match,none": score, "exact_match_stderr,none": 0.2}
    return {"textvqa_val": entry | {"exact_match_stderr_clt,none": "N/A"} | more}


def test_a_score_comes_with_the_values_that_it_is_the_mean_of(folder):
    results(textvqa(0.65), {"textvqa_val": {"exact_match": True, "submission": True}})
    write("textvqa_val", [sample(n, exact_match=x) for n, x in enumerate((1, 0.3, 0.6, 0.7))])
    values = {"0": 1.0, "1": 0.3, "2": 0.6, "3": 0.7}
    expected = ImportedScore("textvqa_val", "exact_match", True, 0.65, values)
    assert import_lmms_eval(RESULTS) == [expected]
    assert read_lmms_eval(".").notes == []
    assert import_lmms_eval(".") == import_lmms_eval(RESULTS)


def test_a_log_of_true_and_false_has_the_values_1_and_0(folder):
    results(textvqa(0.25), {"textvqa_val": {"exact_match": True}})
    logged = [True, {"score": False}, False, 0]
    write("textvqa_val", [sample(n, exact_match=entry) for n, entry in enumerate(logged)])
    (score,) = import_lmms_eval(RESULTS)
    assert score.values == {"0": 1.0, "1": 0.0, "2": 0.0, "3": 0.0}


def test_numbers_inside_what_a_task_logs_are_found_and_shares_become_percent(folder):
    results({"mmvet": {"acc,none": 75.0}}, {"mmvet": {"acc": True}})
    logged = [{"question_id": n, "score": score} for n, score in enumerate((1.0, 0.5))]
    write("mmvet", [sample(n, acc=entry) for n, entry in enumerate(logged)])
    (score,) = import_lmms_eval(RESULTS)
    assert (score.score, score.values) == (75.0, {"0": 100.0, "1": 50.0})


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (None, "there is no log of them"),
        (
            [sample(0, exact_match=0.5), sample(1, exact_match=1)],
            "the mean of those in {} is 0.75,",
        ),
        ([sample(0, exact_match=0.5001)], "the mean of those in {} is 0.5001, the score 0.5"),
        ([sample(0, exact_match={"pred": "cat"})], "{} has not one number for each"),
        ([sample(0, exact_match=float("nan"))], "{} has not one number for each"),
        ([sample(0, exact_match=10**400)], "{} has not one number for each"),
        ([sample(0, exact_match=1e150)], "{} has not one number for each"),
        ([sample(0, exact_match=0.5, doc_id=None)], "{} has not one number for each"),
        ([sample(0, exact_match=0.5, doc_id="\ud800")], "{} has not one number for each"),
        ([sample(0, anls=0.5)], "{} has not one number for each"),
        ([sample(0, exact_match=0.5), sample(0, exact_match=0.5)], "{} has not one number for"),
    ],
)
def test_a_score_without_such_values_is_kept_and_says_why(folder, samples, why):
    results(textvqa(0.5), {"textvqa_val": {"exact_match": True}})
    if samples:
        write("textvqa_val", samples)
    imported = read_lmms_eval(RESULTS)
    assert imported.scores == [ImportedScore("textvqa_val", "exact_match", True, 0.5, None)]
    ((task, message),) = imported.notes
    begins = f"exact_match: no values of samples: {why.format(f'{DATE}_samples_textvqa_val.jsonl')}"
    assert (task, message[: len(begins)]) == ("textvqa_val", begins)


def test_a_filter_is_part_of_the_name_and_chooses_the_lines_of_the_log(folder):
    entry = {"acc,strict": 0.0, "acc,loose": 1.0}
    results({"t": entry}, {"t": {"acc": True}})
    write("t", [sample(0, acc=0, filter="strict"), sample(0, acc=1, filter="loose")])
    assert [(s.metric, s.score, s.values) for s in import_lmms_eval(RESULTS)] == [
        ("acc,strict", 0.0, {"0": 0.0}),
        ("acc,loose", 1.0, {"0": 1.0}),
    ]


def test_groups_directions_and_what_is_no_score(folder):
    results(
        {
            "group": {" ": " ", "alias": "group"},
            "a": {"alias": " - a", "wer,none": 0.2, "wer_stderr,none": float("nan")},
            "b": {
                "alias": " - b",
                "acc,none": 0.5,
                "submission,none": None,
                "nan,none": float("nan"),
                "many,none": 10**400,
            },
        },
        {"a": {"wer": False}, "b": {"acc": None}},
    )
    imported = read_lmms_eval(RESULTS)
    assert [score[:4] for score in imported.scores] == [
        ("a", "wer", False, 0.2),
        ("b", "acc", True, 0.5),
    ]
    assert [f"{note.task}: {note.message}" for note in imported.notes] == [
        "a: wer: no values of samples: there is no log of them",
        "b: acc: higher is taken to be better; the results do not say",
        "b: acc: no values of samples: there is no log of them",
        "b: submission,none: left out: it is no finite number",
        "b: nan,none: left out: it is no finite number",
        "b: many,none: left out: it is no finite number",
    ]


def test_a_folder_holds_one_results_file_at_any_depth(folder):
    Path("logs/llava__v1.5").mkdir(parents=True)
    with pytest.raises(FileError, match=r"^logs: no \*results\.json of lmms-eval in this folder$"):
        import_lmms_eval("logs")
    for date in ("1", "2"):
        text = json.dumps({"results": {"t": {"acc,none": 0.5}}})
        Path(f"logs/llava__v1.5/{date}_results.json").write_text(text)
    with pytest.raises(DataError) as error:
        import_lmms_eval("logs")
    assert str(error.value) == (
        "logs: 2 results files; name one: llava__v1.5/1_results.json, llava__v1.5/2_results.json"
    )
    Path("logs/llava__v1.5/2_results.json").unlink()
    assert import_lmms_eval("logs")[0].score == 0.5


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{}", 'no lmms-eval results; expected an object with "results"'),
        ("[]", 'no lmms-eval results; expected an object with "results"'),
        ('{"results": []}', 'no lmms-eval results; expected an object with "results"'),
        ('{"results": {"t": 1}}', "results.t: expected an object"),
        ('{"results": {"a\\u0000": {}}}', r"results: task = 'a\x00'; a name has no NUL in it"),
        (
            '{"results": {"t": {"\\ud800,none": 1}}}',
            r"results: metric = '\ud800,none'; expected a name in UTF-8",
        ),
        ('{"results": {"t": {" ": " "}}}', "results: no score"),
        ('{"results": {', "line 1: cut off: the file was not written to its end"),
        ("no", "line 1: no JSON: Expecting value at column 1"),
    ],
)
def test_other_files_are_refused(folder, document, problem):
    Path(RESULTS).write_text(document)
    with pytest.raises(DataError) as error:
        import_lmms_eval(RESULTS)
    assert str(error.value) == f"{RESULTS}: {problem}"


@pytest.mark.parametrize("task", ["org/set", "/set", "..", "x" * 300])
def test_a_task_may_be_called_what_no_file_can_be(folder, task):
    results({task: {"acc,none": 0.5}}, {task: {"acc": True}})
    imported = read_lmms_eval(RESULTS)
    assert imported.scores == [ImportedScore(task, "acc", True, 0.5, None)]
    assert imported.notes[0].message == "acc: no values of samples: there is no log of them"


def test_the_files_that_were_read_are_named(folder):
    results({"a": {"acc,none": 0.5}, "b": {"acc,none": 0.5}})
    write("a", [sample(0, acc=0.5)])
    assert [file.name for file in read_lmms_eval(".").files] == [RESULTS, f"{DATE}_samples_a.jsonl"]


def test_a_name_that_no_file_can_have_is_a_file_error(folder):
    with pytest.raises(FileError, match="File name too long"):
        import_lmms_eval("x" * 300)


def test_a_log_that_is_cut_off_is_refused(folder):
    results(textvqa(0.5))
    write("textvqa_val", [sample(0, exact_match=0.5)])
    log = Path(f"{DATE}_samples_textvqa_val.jsonl")
    log.write_text(log.read_text() + '{"doc_id": 1, "exa')
    with pytest.raises(DataError, match=r"textvqa_val\.jsonl: line 2: cut off: the file was not"):
        import_lmms_eval(RESULTS)
