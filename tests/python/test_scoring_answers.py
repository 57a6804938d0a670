"""Answers and references in files of every shape, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visatb import ArgumentError, DataError, FileError
from visatb.scoring import METRICS, score_answers

REFERENCES = [{"id": "a", "answer": "cat"}, {"id": "b", "answer": "dog"}]
LLAVA_ANSWER = {"prompt": "What?", "answer_id": "x", "model_id": "m", "metadata": {}}


def lines(name: str, records: list[object]) -> str:
    Path(name).write_text("".join(f"{json.dumps(r)}\n" for r in records), encoding="utf-8")
    return name


def conversation(*truths: str) -> list[dict[str, str]]:
    turns = [({"from": "human", "value": "?"}, {"from": "gpt", "value": t}) for t in truths]
    return [part for turn in turns for part in turn]


def refused(answers: object, references: object = None, metric: str = "exact_match", **options):
    with pytest.raises(DataError) as error:
        score_answers(metric, answers, REFERENCES if references is None else references, **options)
    return str(error.value)


def test_llavas_own_files_are_read(folder):
    answers = [{"question_id": i, "text": t} | LLAVA_ANSWER for i, t in ((7, "Cat."), (8, "hen"))]
    Path("data.json").write_text(
        json.dumps(
            [
                {"id": "7", "image": "i.jpg", "conversations": conversation("cat")},
                {"id": "8", "image": "j.jpg", "conversations": conversation("dog")},
            ]
        )
    )
    scores = score_answers("exact_match", lines("answers.jsonl", answers), "data.json")
    assert (scores.score, scores.values, scores.notes) == (50.0, {"7": 100.0, "8": 0.0}, [])


@pytest.mark.parametrize(
    "answer",
    [
        {"question_id": "a", "text": "cat"},
        {"id": "a", "answer": "cat"},
        {"id": "a", "prediction": "cat", "answer": "the truth beside it"},
        {"id": "a", "response": "cat", "text": "the question beside it"},
        {"image_id": "a", "caption": "cat"},
    ],
)
def test_an_answer_may_have_any_of_these_names(answer):
    assert score_answers("exact_match", [answer], REFERENCES[:1]).score == 100.0


@pytest.mark.parametrize(
    "reference",
    [
        {"question_id": "a", "answers": ["hen", "cat"]},
        {"question_id": "a", "answers": [{"answer": "cat", "answer_id": 1}, {"answer": "hen"}]},
        {"id": "a", "references": ["cat"]},
        {"id": "a", "conversations": conversation("cat")},
    ],
)
def test_a_reference_may_hold_its_truth_under_any_of_these_names(reference):
    answer = [{"id": "a", "text": "cat"}]
    assert score_answers("exact_match", answer, [reference]).score == 100.0


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("key", ["annotations", "data"])
def test_the_files_of_vqa_and_textvqa_hold_their_list_in_an_object(folder, key, indent):
    annotations = {key: [{"question_id": 1, "image_id": 9, "answers": [{"answer": "cat"}]}]}
    Path("r.json").write_text(json.dumps(annotations, indent=indent))
    assert score_answers("exact_match", [{"id": 1, "text": "cat"}], "r.json").score == 100.0


def test_every_turn_of_a_conversation_is_a_sample():
    references = [
        {"id": "a", "conversations": conversation("cat", "two", "red")},
        {"id": "b", "conversations": conversation("dog")},
    ]
    answers = [{"id": "a", "text": ["cat", "3", "red"]}, {"id": "b", "text": ["dog"]}]
    by_list = score_answers("exact_match", answers, references)
    assert by_list.values == {"a#1": 100.0, "a#2": 0.0, "a#3": 100.0, "b": 100.0}
    assert by_list.score == 75.0
    flat = [{"id": f"a#{n}", "text": t} for n, t in ((2, "3"), (1, "cat"), (3, "red"))]
    assert score_answers("exact_match", [*flat, answers[1]], references) == by_list


def test_one_answer_to_several_turns_is_refused():
    references = [{"id": "a", "conversations": conversation("cat", "two")}]
    assert refused([{"id": "a", "text": "cat"}], references) == (
        "answers: [0]: id a: one answer to 2 turns; expected a list of 2, or the ids a#1 to a#2"
    )
    assert refused([{"id": "a", "text": ["cat", "2", "3"]}], references) == (
        "answers: [0]: id a#3 has no reference in references"
    )


def test_values_stand_in_the_order_of_the_references():
    answers = [{"id": "b", "text": "dog"}, {"id": "a", "text": "cat"}]
    assert list(score_answers("exact_match", answers, REFERENCES).values) == ["a", "b"]


def test_missing_answers_are_an_error_unless_they_are_to_score_zero(folder):
    references = lines("r.jsonl", [{"id": i, "answer": "cat"} for i in range(5)])
    answers = lines("a.jsonl", [{"id": i, "text": "cat"} for i in (0, 2, 4)])
    assert refused(answers, references) == (
        "a.jsonl: no answer for 2 of 5 references, first for id 1 (r.jsonl: line 2)"
    )
    scores = score_answers("exact_match", answers, references, missing="zero")
    assert scores.values == {"0": 100.0, "1": 0.0, "2": 100.0, "3": 0.0, "4": 100.0}
    assert scores.score == 60.0
    assert scores.notes == ["2 of 5 references have no answer: they score 0"]


def test_an_answer_without_a_reference_is_refused(folder):
    references = [{"id": i, "answer": "cat"} for i in range(3)]
    answers = [{"id": i, "text": "cat"} for i in (0, 1, 2, "c", "d")]
    assert refused(lines("a.jsonl", answers), references) == (
        "a.jsonl: line 4: id c has no reference in references (2 answers have none)"
    )


def test_files_whose_ids_do_not_match_are_told_by_an_id_of_each(folder):
    references = lines("r.jsonl", [{"id": f"r{i}", "answer": "cat"} for i in range(4)])
    assert refused(lines("a.jsonl", [{"id": "r2", "text": "cat"}]), references) == (
        "a.jsonl: no answer for 3 of 4 references, first for id r0 (r.jsonl: line 1); the ids of "
        "the two files do not match: the answers have 1, first r2"
    )
    half = lines("a.jsonl", [{"id": i, "text": "cat"} for i in ("r0", "x")])
    assert refused(half, references) == (
        "a.jsonl: line 2: id x has no reference in r.jsonl; the ids of the two files do not "
        "match: the references have 4, first r0"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty; expected answers"),
        (b"\n \n", "empty; expected answers"),
        (b"[]", "empty; expected answers"),
        (b'{"id": "a", "text": "cat"}\n{"id": "b", "te', "line 2: cut off: the file was not"),
        (b'[{"id": "a", "text": "cat"},\n {"id"', "line 2: cut off: the file was not"),
        (b'{"id": "a", text}\n{}\n', "line 1: no JSON: Expecting property name enclosed"),
        (b'\n{"id": "a", "text": "\xff"}\n', "line 2: not UTF-8"),
        (b'{"id": "a", "id": "b", "text": ""}\n', 'line 1: key "id" stands there twice'),
        (b'{"id": "a", "text": NaN}\n', "line 1: NaN is no number that JSON knows"),
        (b'{"id": "a", "text": ' + b"[" * 100_000, "line 1: nested too deeply"),
        (b'{"id": ' + b"1" * 5000 + b"}\n", "line 1: a number has too many digits"),
        (b'"cat"\n', "line 1: expected an object"),
        (b'[{"id": "a", "text": "x"}, 1]', "[1]: expected an object"),
        (b'{\n"list": []}', 'expected JSON Lines, a list, or an object with a list "annotations"'),
        (b'{"text": "cat"}\n', "line 1: no id; expected one of question_id, id, image_id"),
        (b'{"id": 1.5, "text": "cat"}\n', "line 1: id: expected a text or a whole number"),
        (b'{"id": true, "text": "cat"}\n', "line 1: id: expected a text or a whole number"),
        (b'{"id": "", "text": "cat"}\n', "line 1: id: expected a text or a whole number"),
        (b'{"id": "\\u0000", "text": "cat"}\n', "line 1: id: an id has no NUL in it"),
        (b'{"id": "\\ud800", "text": "cat"}\n', "line 1: id: half a character"),
        (b'{"id": "a", "text": "\\ud800"}\n', "line 1: text: half a character"),
        (b'{"id": "a"}\n', "line 1: no answer; expected one of text, answer, caption, prediction"),
        (b'{"id": "a", "text": 3}\n', "line 1: text: expected a text"),
        (b'{"id": "a", "text": null}\n', "line 1: text: expected a text"),
        (b'{"id": "a", "text": []}\n', "line 1: no answer: the list is empty"),
        (b'{"id": "a", "text": "x", "answer": "y"}\n', 'line 1: both "text" and "answer": which'),
        (b'{"id": "a", "text": "x"}\n\n{"id": "a", "text": "y"}\n', "line 3: id a stands in line"),
        (b'{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}\n', "line 2: id 1 stands in line 1 al"),
    ],
)
def test_wrong_answers_are_refused_with_file_and_line(folder, content, problem):
    Path("a.jsonl").write_bytes(content)
    assert refused("a.jsonl").startswith(f"a.jsonl: {problem}")


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ({"id": "a"}, "no truth; expected one of answer, answers, references, conversations"),
        ({"id": "a", "answer": "x", "answers": ["y"]}, 'both "answer" and "answers": which is the'),
        ({"id": "a", "answer": 3}, "answer: expected a text"),
        ({"id": "a", "answers": []}, "answers: expected a list of texts"),
        ({"id": "a", "answers": "cat"}, "answers: expected a list of texts"),
        ({"id": "a", "answers": ["cat", 3]}, "answers: expected a text"),
        ({"id": "a", "answer": " "}, "id a: an empty truth"),
        ({"id": "a", "conversations": "cat"}, "conversations: expected a list of turns"),
        ({"id": "a", "conversations": [{"from": "human"}]}, 'conversations: no turn is from "gpt"'),
        ({"id": "a", "conversations": [{"from": "gpt"}]}, "conversations: value: expected a text"),
    ],
)
def test_wrong_references_are_refused_with_file_and_line(folder, reference, problem):
    name = lines("r.jsonl", [reference])
    assert refused([{"id": "a", "text": "x"}], name).startswith(f"r.jsonl: line 1: {problem}")


def test_a_last_line_without_a_newline_and_a_byte_order_mark_are_no_fault(folder):
    Path("a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"id": "a", "text": "cat"}\r\n{"id":"b","text":"dog"}'
    )
    assert score_answers("exact_match", "a.jsonl", REFERENCES).score == 100.0


def test_a_line_ends_at_a_newline_only(folder):
    Path("a.jsonl").write_text(
        '{"id": "a", "text": "cat\u2028\x85"}\n{"id": "b", "text": "dog"}\n', encoding="utf-8"
    )
    assert score_answers("exact_match", "a.jsonl", REFERENCES).score == 100.0


def test_wrong_arguments_are_named():
    with pytest.raises(ArgumentError, match="metric = 'em'; expected one of exact_match, vqa_acc"):
        score_answers("em", [], [])
    with pytest.raises(ArgumentError, match='missing = None; expected "refuse" or "zero"'):
        score_answers("exact_match", [], [], missing=None)
    with pytest.raises(ArgumentError, match="references = None; iou needs answers and references"):
        score_answers("iou", [])
    with pytest.raises(ArgumentError, match=r"references = \[\]; judge needs reviews alone"):
        score_answers("judge", [], [])
    with pytest.raises(ArgumentError, match="answers = 3; expected a path or a list of records"):
        score_answers("exact_match", 3, [])
    with pytest.raises(FileError, match=r"none\.jsonl: No such file"):
        score_answers("exact_match", "none.jsonl", [])


def test_what_a_measure_is_can_be_asked():
    assert all(metric.higher_is_better for metric in METRICS.values())
    corpus = {name for name, metric in METRICS.items() if not metric.per_sample}
    assert corpus == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor"}
    assert METRICS["vqa_accuracy"].references == ("answers", "references")
