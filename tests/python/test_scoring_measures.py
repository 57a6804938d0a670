"""Exact match, agreement with ten people, boxes, and a judge's marks, against hand numbers."""

from __future__ import annotations

import math
import time

import pytest

from visatb import DataError
from visatb.scoring import score, score_answers
from visatb.scoring.boxes import Box, find_boxes, overlap
from visatb.scoring.pairs import Scored
from visatb.scoring.vqa import normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Yes\n", "yes"),
        ("The cat", "cat"),
        ("an apple a day", "apple day"),
        ("None", "0"),
        ("two dogs", "2 dogs"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("yes.", "yes"),
        ("U.S.A.", "usa"),
        ("2.5", "2.5"),
        ("v2.", "v2"),
        ("blue-green", "blue green"),  # a mark inside words parts them
        ("blue - green", "blue green"),  # beside a space it goes
        ("blue, red", "blue red"),
        ("red,blue", "red blue"),
        ("1,000", "1000"),  # no space between digits
        ("1,000-ish", "1000ish"),  # and then none anywhere, as in the challenge's own program
        ("1,,2", "1 2"),  # two commas are no thousands
        ("blue-green -ish", "bluegreen ish"),  # beside one space, nowhere a space
        ("blue- green-ish", "blue greenish"),
        ("2:50", "2:50"),  # a time
        ("girl's", "girl's"),  # a possessive
        ('"stop"', "stop"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("lets go", "lets go"),  # a word of its own
        ("were", "were"),
        ("A", "a"),  # of a choice's letter the rules would leave nothing
        ("?", "?"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_the_vqa_challenge_does(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("text", "normal"), [("somebodyd", "somebody'd"), ("A", "a"), (f"x{'.' * 40}", "x")]
)
def test_an_answer_is_normalised_otherwise_where_the_page_says_so(text, normal):
    assert normalise(text) == normal


def test_truths_that_disagree_are_normalised_as_answers_are():
    references = [{"id": 1, "answers": ["two dogs"] * 5 + ["The three dogs"] * 5}]
    for text in ("2 dogs", "3 dogs"):
        scores = score_answers("vqa_accuracy", [{"id": 1, "text": text}], references)
        assert scores.score == 100.0


def test_an_exact_match_is_with_any_truth():
    references = [{"id": 1, "answers": ["sofa", "The Couch."]}, {"id": 2, "answer": "A"}]
    answers = [{"id": 1, "text": "couch"}, {"id": 2, "text": "The"}]
    scores = score_answers("exact_match", answers, references)
    assert scores.values == {"1": 100.0, "2": 0.0}
    assert scores.score == 50.0


def test_an_empty_answer_matches_nothing():
    scores = score_answers("exact_match", [{"id": 1, "text": ""}], [{"id": 1, "answer": "A"}])
    assert scores.score == 0.0


@pytest.mark.parametrize(
    ("agreeing", "accuracy"),
    # By hand: k of ten agree; k leave one of themselves out, 10 - k another.
    [(0, 0.0), (1, 30.0), (2, 60.0), (3, 90.0), (4, 100.0), (10, 100.0)],
)
def test_vqa_accuracy_is_a_mean_of_nine_against_one(agreeing, accuracy):
    answers = ["Two dogs"] * agreeing + [f"other {n}" for n in range(10 - agreeing)]
    references = [{"question_id": 1, "answers": answers}]
    scores = score_answers("vqa_accuracy", [{"question_id": 1, "text": "2 dogs."}], references)
    assert scores.score == pytest.approx(accuracy, abs=1e-12)


def test_vqa_accuracy_of_an_empty_answer_is_zero():
    references = [{"id": 1, "answers": [""] * 4 + ["x"] * 6}]
    assert score_answers("vqa_accuracy", [{"id": 1, "text": " "}], references).score == 0.0


def test_vqa_accuracy_needs_ten_people():
    with pytest.raises(DataError) as error:
        score_answers("vqa_accuracy", [{"id": 1, "text": "x"}], [{"id": 1, "answers": ["x"] * 9}])
    assert str(error.value) == ("references: [0]: id 1: expected the answers of 10 people, found 9")


@pytest.mark.parametrize(
    "text",
    [
        "[0.1, 0.2, 0.3, 0.4]",
        "[0.1,0.2,0.3,0.4]",
        "The cat is at [ .1, 0.20, 3e-1, +0.4 ].",
        "(0.1, 0.2, 0.3, 0.4)",
        "[[0.1, 0.2, 0.3, 0.4]]",
        '{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "label": "cat"}',
        "<box>(0.1,0.2),(0.3,0.4)</box>",
        "[[0.1, 0.2], [0.3, 0.4]]",
        "{<0.1><0.2><0.3><0.4>}",
        "0.1 0.2 0.3 0.4",
        "0.1, 0.2, 0.3, 0.4",
    ],
)
def test_a_box_is_found_in_every_form_that_models_write(text):
    assert find_boxes(text) == [Box(0.1, 0.2, 0.3, 0.4)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box",
        "[0.1, 0.2, 0.3",
        "[0.1, 0.2, 0.3]",
        "[0.1, 0.2, 0.3, 0.4, 0.5]",
        "[0.1, 0.2, 0.3, nan]",
        "[a, b, c, d]",
        "0.1 0.2 0.3 0.4 0.5",
        "the 4 boxes 1 2 3",
        f"[0, 0, 1, {'9' * 400}]",
        "[0, 0, 1, 1 [0, 0",
        "(0.1,0.2) (0.3",
    ],
)
def test_what_is_no_box_is_none(text):
    assert find_boxes(text) == []


@pytest.mark.parametrize(
    "part", ["0", " ", "0.", "1 ", "1,", "(1,2)", "(1,2),", "<1>", "<1><", "[", "[1 "]
)
def test_a_text_of_any_length_is_read_without_going_back_and_forth(part):
    for begin in ("", "[", "(", "[1 ", "[0.", "[1e", "(1,2)", "<1><"):
        for end in ("", "x"):
            text = f"{begin}{part * (100_000 // len(part))}{end}"
            # A pattern that goes back takes minutes; Python tidying up the memory, half a second.
            before = time.process_time()
            find_boxes(text)
            assert time.process_time() - before < 4.0


def test_coordinates_of_many_digits_are_numbers():
    half = "0.5" + "0" * 100_000
    assert find_boxes(f"[0, 0, 1, {half}]") == [Box(0, 0, 1, 0.5)]
    assert find_boxes(f"({half},0),(1,1)") == [Box(0.5, 0, 1, 1)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 2), (1, 0, 3, 2), 0.5),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),
        ((2, 2, 0, 0), (0, 0, 2, 2), 0.0),
        ((2, 0, 0, 2), (0, 0, 2, 2), 0.0),
        ((0, 2, 2, 0), (0, 0, 2, 2), 0.0),
        ((0, 0, 0, 5), (0, 0, 2, 2), 0.0),
        ((0, 0, 1e200, 1e200), (0, 0, 2, 2), 0.0),
    ],
)
def test_overlap_by_hand(first, second, expected):
    assert overlap(Box(*first), Box(*second)) == pytest.approx(expected, abs=1e-15)
    assert overlap(Box(*second), Box(*first)) == overlap(Box(*first), Box(*second))


BOX_ANSWERS = [
    {"id": 1, "text": "[1, 1, 3, 3]"},  # 1/7
    {"id": 2, "text": "[0, 0, 4, 2] and [1, 0, 3, 2]"},  # the first: 1/2
    {"id": 3, "text": "[2, 2, 0, 0]"},
    {"id": 4, "text": "I see no cat"},
]
BOX_REFERENCES = [
    {"id": 1, "box": [0, 0, 2, 2]},
    {"id": 2, "box": "[1, 0, 3, 2]"},
    {"id": 3, "answer": "[0, 0, 2, 2]"},
    {"id": 4, "conversations": [{"from": "gpt", "value": "At [0, 0, 2, 2]."}]},
]


def test_boxes_that_are_none_or_reversed_score_zero_and_are_counted():
    scores = score_answers("iou", BOX_ANSWERS, BOX_REFERENCES)
    assert scores.values == pytest.approx({"1": 100 / 7, "2": 50.0, "3": 0.0, "4": 0.0})
    assert scores.score == math.fsum(scores.values.values()) / 4
    assert scores.notes == [
        "1 of 4 answers hold no box: they score 0",
        "1 of 4 answers are boxes with reversed corners or no area: they score 0",
    ]


def test_a_box_that_is_missing_is_none_that_is_malformed():
    scores = score_answers("iou", BOX_ANSWERS[1:], BOX_REFERENCES, missing="zero")
    assert scores.values["1"] == 0.0
    assert scores.notes[0] == "1 of 3 answers hold no box: they score 0"
    assert scores.notes[-1] == "1 of 4 references have no answer: they score 0"


def test_an_overlap_of_exactly_a_half_counts():
    scores = score_answers("accuracy_at_0.5", BOX_ANSWERS, BOX_REFERENCES)
    assert scores.values == {"1": 0.0, "2": 100.0, "3": 0.0, "4": 0.0}
    assert scores.score == 25.0


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        ([0, 0, 0.3, 0.3], [0, 0, 0.3, 0.6], 100.0),
        ([0.1, 0.1, 0.3, 0.4], [0.1, 0.1, 0.3, 0.7], 100.0),
        ([0, 0, 1, 0.5 - 1e-8], [0, 0, 1, 1], 0.0),
        ([0, 0, 49_999_999, 1], [0, 0, 99_999_999, 1], 0.0),
    ],
)
def test_a_half_counts_in_shares_too_and_less_in_no_unit(answer, truth, value):
    answers = [{"id": 1, "text": str(answer)}]
    scores = score_answers("accuracy_at_0.5", answers, [{"id": 1, "box": truth}])
    assert scores.score == value


@pytest.mark.parametrize(
    ("answer", "truth", "note"),
    [
        ("[10, 10, 30, 30]", [0.1, 0.1, 0.3, 0.3], "most truths lie within 0 and 1 and most answ"),
        ("[0.1, 0.1, 0.3, 0.3]", [10, 10, 30, 30], "most answers lie within 0 and 1 and most tru"),
    ],
)
def test_two_scales_are_noticed(answer, truth, note):
    scores = score_answers("iou", [{"id": 1, "text": answer}], [{"id": 1, "box": truth}])
    assert scores.score == 0.0
    assert [text[:44] for text in scores.notes] == [note]


@pytest.mark.parametrize(
    ("truth", "problem"),
    [
        ([0, 0, 1], "expected one box [x1, y1, x2, y2], found 0"),
        ([0, 0, 1, True], "expected one box [x1, y1, x2, y2], found 0"),
        ([0, 0, 1, 10**400], "expected one box [x1, y1, x2, y2], found 0"),
        ([0, 0, 1, math.nan], "expected one box [x1, y1, x2, y2], found 0"),
        ([-1e308, 0, 1e308, 1], "the box has no area; expected x1 < x2 and y1 < y2"),
        ("a cat", "expected one box [x1, y1, x2, y2], found 0"),
        ("[0, 0, 1, 1], [0, 0, 2, 2]", "expected one box [x1, y1, x2, y2], found 2"),
        ([1, 1, 0, 0], "the box has no area; expected x1 < x2 and y1 < y2"),
    ],
)
def test_a_truth_that_is_no_box_is_refused(truth, problem):
    with pytest.raises(DataError) as error:
        score_answers("iou", [{"id": "a", "text": "x"}], [{"id": "a", "box": truth}])
    assert str(error.value) == f"references: [0]: id a: {problem}"


REVIEWS = [
    {"id": 1, "question_id": 0, "category": "llava_bench_conv", "tuple": [8, 6], "content": "8 6"},
    {"id": 2, "question_id": 1, "category": "llava_bench_detail", "tuple": [10, 9]},
    {"id": 3, "question_id": 2, "score": [6.0, 3.0]},
]


def test_a_judges_score_is_the_ratio_of_sums_and_the_mean_of_its_values():
    scores = score_answers("judge", REVIEWS)
    assert scores.score == pytest.approx(100 * 18 / 24, abs=1e-12)
    assert scores.values == pytest.approx({"0": 75.0, "1": 112.5, "2": 37.5})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tuple": [-1, -1]}, "tuple: [-1, -1]: the review gave no marks; have it made again"),
        ({"tuple": [8, -0.1]}, "tuple: [8, -0.1]: the review gave no marks; have it made again"),
        ({"tuple": [8]}, "tuple: expected two numbers, reference and model, below 1e150"),
        ({"tuple": ["8", "9"]}, "tuple: expected two numbers, reference and model, below 1e150"),
        ({"tuple": [8, True]}, "tuple: expected two numbers, reference and model, below 1e150"),
        ({"tuple": [8, 10**400]}, "tuple: expected two numbers, reference and model, below 1e150"),
        ({"tuple": [1e308, 1]}, "tuple: expected two numbers, reference and model, below 1e150"),
        ({"tuple": [math.inf, 1]}, "tuple: expected two numbers, reference and model, below 1e150"),
        ({"content": "8 9"}, 'no marks; expected "tuple": [reference, model]'),
        ({"question_id": 0, "tuple": [1, 1]}, "id 0 stands in [0] already"),
    ],
)
def test_reviews_without_marks_are_refused(fields, problem):
    with pytest.raises(DataError) as error:
        score_answers("judge", [REVIEWS[0], {"question_id": 9} | fields])
    assert str(error.value) == f"reviews: [1]: {problem}"


@pytest.mark.parametrize("marks", [[5e-324, 1e100], [1e-100, 1e60]])
def test_marks_whose_ratio_no_value_by_sample_can_hold_are_refused(marks):
    times = f"{marks[1] / marks[0]:.3g}"
    with pytest.raises(DataError) as error:
        score_answers("judge", [{"id": 1, "tuple": marks}])
    assert str(error.value) == (
        f"reviews: [0]: the model's mark is {times} times the mean of the reference's marks; "
        "expected a value below 1e150"
    )


def test_a_score_that_is_no_finite_number_is_refused(monkeypatch):
    monkeypatch.setitem(score._SCORERS, "bleu_1", lambda _: Scored(None, math.nan))
    with pytest.raises(DataError) as error:
        score_answers("bleu_1", [{"id": 1, "text": "a"}], [{"id": 1, "answer": "a"}])
    assert str(error.value) == "bleu_1: these answers and references make no finite score"


def test_marks_of_a_reference_that_are_all_zero_are_refused():
    with pytest.raises(DataError, match="reviews: every mark of the reference is 0"):
        score_answers("judge", [{"id": 1, "tuple": [0, 5]}])
