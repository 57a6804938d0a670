from __future__ import annotations

import json
from pathlib import Path

import pytest

ANSWERS = '{"question_id": "a", "text": "Two cats."}\n{"question_id": "b", "text": "dog"}\n'
REFERENCES = '{"id": "a", "answer": "2 cats"}\n{"id": "b", "answer": "hen"}\n'
LINE = {
    "run": "with_mini:vqa",
    "task": "vqa",
    "metric": "exact_match",
    "values": {"a": 100.0, "b": 0.0},
}
NAMED = ("--task", "vqa", "--run", "with_mini:vqa")


@pytest.fixture
def files(folder):
    Path("a.jsonl").write_text(ANSWERS)
    Path("r.jsonl").write_text(REFERENCES)
    return folder


def test_a_score_is_shown_as_a_table(command, files):
    run = command("score", "exact_match", "a.jsonl", "r.jsonl")
    assert (run.code, run.err) == (0, "")
    assert run.out == (
        "metric         score  samples  by sample\nexact_match  50.0000        2  yes\n"
    )
    named = command("score", "exact_match", "a.jsonl", "r.jsonl", "--task", "vqa")
    assert named.out.splitlines()[1] == "vqa   exact_match  50.0000        2  yes"


def test_json_is_what_the_runner_takes(command, files):
    run = command("score", "exact_match", "-", "r.jsonl", "--format", "json", *NAMED, stdin=ANSWERS)
    assert json.loads(run.out) == {
        "visatb_run_scores": 1,
        "scores": {"vqa": {"exact_match": 50.0}},
    }


def test_per_sample_is_a_line_of_the_values(command, files):
    run = command("score", "exact_match", "a.jsonl", "r.jsonl", "--per-sample", "s.jsonl", *NAMED)
    assert run.code == 0
    text = Path("s.jsonl").read_text()
    assert text.count("\n") == 1
    assert json.loads(text) == LINE


def test_notes_go_to_standard_error(command, files):
    run = command("score", "iou", "a.jsonl", "b.jsonl")
    assert (run.code, run.err) == (3, "visatb: b.jsonl: No such file or directory\n")
    Path("b.jsonl").write_text('{"id": "a", "box": [0, 0, 1, 1]}\n{"id": "b", "box": [0, 0, 1, 1]}')
    run = command("score", "iou", "a.jsonl", "b.jsonl")
    assert run.err == "visatb: note: a.jsonl: 2 of 2 answers hold no box: they score 0\n"


def test_missing_answers_are_refused_unless_they_score_zero(command, files):
    Path("r.jsonl").write_text(REFERENCES + '{"id": "c", "answer": "cow"}\n')
    run = command("score", "exact_match", "a.jsonl", "r.jsonl", "--per-sample", "s", *NAMED)
    assert run.code == 3
    assert run.err == (
        "visatb: a.jsonl: no answer for 1 of 3 references, first for id c (r.jsonl: line 3)"
        "; --missing zero scores 0 for them\n"
    )
    assert not Path("s").exists()
    run = command("score", "exact_match", "a.jsonl", "r.jsonl", "--missing", "zero")
    assert run.code == 0
    assert run.err.endswith("1 of 3 references have no answer: they score 0\n")


def test_a_score_of_zero_is_not_advised_where_half_of_the_answers_are_missing(command, files):
    Path("a.jsonl").write_text(ANSWERS.split("\n", maxsplit=1)[0])
    run = command("score", "exact_match", "a.jsonl", "r.jsonl")
    assert (run.code, run.err) == (
        3,
        "visatb: a.jsonl: no answer for 1 of 2 references, first for id b (r.jsonl: line 2); the "
        "ids of the two files do not match: the answers have 1, first a\n",
    )


def test_a_judge_needs_reviews_only(command, files):
    Path("reviews.jsonl").write_text('{"question_id": 0, "tuple": [8, 6]}\n')
    run = command("score", "judge", "reviews.jsonl")
    assert run.out.splitlines()[1] == "judge   75.0000        1  yes"
    assert command("score", "judge", "reviews.jsonl", "r.jsonl").code == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["a.jsonl", "r.jsonl", "--format", "json"], "--format json needs --task"),
        (["a.jsonl", "r.jsonl", "--per-sample", "s"], "--per-sample needs --task"),
        (["a.jsonl", "r.jsonl", "--per-sample", "s", "--task", "t"], "--per-sample needs --run"),
        (["-", "-"], "-: standard input is either the answers or the references"),
        *(
            (
                ["a.jsonl", "r.jsonl", "--per-sample", name, *NAMED],
                f"per_sample = {name}: the scores are made from this file",
            )
            for name in ("a.jsonl", "./r.jsonl", "link.jsonl")
        ),
    ],
)
def test_wrong_usage_is_named(command, files, options, problem):
    Path("link.jsonl").symlink_to("r.jsonl")
    run = command("score", "exact_match", *options)
    assert (run.code, run.out, run.err) == (2, "", f"visatb: {problem}\n")
    assert not Path("s").exists()
    assert (Path("a.jsonl").read_text(), Path("r.jsonl").read_text()) == (ANSWERS, REFERENCES)


def test_per_sample_is_a_file(command, files):
    run = command("score", "exact_match", "a.jsonl", "r.jsonl", "--per-sample", "-", *NAMED)
    assert run.code == 2
    assert run.err.endswith("argument --per-sample: -: expected a file\n")


def test_captions_without_java_say_what_to_install(command, files, monkeypatch):
    monkeypatch.setenv("PATH", "")
    run = command("score", "cider", "a.jsonl", "r.jsonl")
    assert (run.code, run.out) == (4, "")
    assert run.err.startswith("visatb: cider needs Java: install a runtime, as Debian's package")


def test_per_sample_of_a_corpus_measure_is_refused_before_it_is_computed(command, files):
    run = command("score", "bleu_4", "a.jsonl", "r.jsonl", "--per-sample", "s", *NAMED)
    assert (run.code, run.err) == (
        2,
        "visatb: --per-sample: bleu_4 is a measure of the whole corpus: no mean over samples\n",
    )


@pytest.fixture
def lmms(folder):
    scores = {"a": {"acc,none": 0.5}, "b": {"anls,none": 0.7}}
    document = {"results": scores, "higher_is_better": {"a": {"acc": True}, "b": {"anls": True}}}
    Path("d_results.json").write_text(json.dumps(document))
    lines = [{"doc_id": n, "acc": n} for n in range(2)]
    Path("d_samples_a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_the_scores_of_lmms_eval_are_taken_over(command, lmms):
    run = command("score", "lmms-eval", ".", "--per-sample", "s.jsonl", "--run", "mini")
    assert run.out == (
        "task  metric   score  samples  by sample\n"
        "a     acc     0.5000        2  yes\n"
        "b     anls    0.7000           no\n"
    )
    assert run.err == "visatb: note: .: b: anls: no values of samples: there is no log of them\n"
    assert json.loads(Path("s.jsonl").read_text()) == {
        "run": "mini",
        "task": "a",
        "metric": "acc",
        "values": {"0": 0.0, "1": 1.0},
    }


def test_tasks_of_lmms_eval_can_be_chosen(command, lmms):
    run = command("score", "lmms-eval", "d_results.json", "--task", "b", "--format", "json")
    assert json.loads(run.out)["scores"] == {"b": {"anls": 0.7}}
    assert run.err.startswith("visatb: note: d_results.json: b: anls: no values")
    assert command("score", "lmms-eval", ".", "--task", "a").err == ""
    run = command("score", "lmms-eval", ".", "--task", "c")
    assert (run.code, run.err) == (2, "visatb: --task c: not in the results, which have a, b\n")
    run = command("score", "lmms-eval", ".", "--task", "b", "--per-sample", "s", "--run", "mini")
    assert (run.code, run.err) == (
        3,
        "visatb: .: --per-sample: none of these scores has values of samples\n",
    )
    assert not Path("s").exists()


@pytest.mark.parametrize("name", ["d_results.json", "d_samples_a.jsonl"])
def test_the_files_of_lmms_eval_are_not_written_over(command, lmms, name):
    before = Path(name).read_text()
    run = command("score", "lmms-eval", ".", "--per-sample", name, "--run", "mini")
    assert (run.code, run.out) == (2, "")
    assert run.err == f"visatb: per_sample = {name}: the scores are made from this file\n"
    assert Path(name).read_text() == before
