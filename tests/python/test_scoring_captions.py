"""Caption measures, against pycocoevalcap called directly and by hand.

Java tokenises in a tenth of a second, but METEOR's program needs some to start: one test.
"""

from __future__ import annotations

import gc
import math
import os
import stat
import sys
from pathlib import Path

import pytest

from visatb import DataError, Error, UnsupportedError
from visatb.scoring import score_answers

TRUTHS = {
    "1": ["A cat sits on the mat.", "The cat is on a mat"],
    "2": ["Two dogs run in the park!", "dogs running"],
    "3": ["A caf\u00e9 table, with food."],
    "4": ["x y z"],
}
ANSWERS = {"1": "a cat on the mat", "2": "", "3": "a cafe\u2028 table\r", "4": "!"}


def score(metric: str, answers: dict[str, str], truths: dict[str, list[str]], **options):
    references = [{"id": sample, "captions": texts} for sample, texts in truths.items()]
    given = [{"id": sample, "text": text} for sample, text in answers.items()]
    return score_answers(metric, given, references, **options)


def fake_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def tokenised_by_the_package(texts: dict[str, list[str]]) -> dict[str, list[str]]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    records = {sample: [{"caption": text} for text in of] for sample, of in texts.items()}
    return PTBTokenizer().tokenize(records)


def test_scores_are_those_of_the_package_in_percent():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    answers = {"1": ["A cat, on the mat."], "2": ["Dogs (two) don't run"], "3": ["A table; food"]}
    truths = {sample: TRUTHS[sample] for sample in answers}
    gts, res = tokenised_by_the_package(truths), tokenised_by_the_package(answers)
    given = {sample: text for sample, (text,) in answers.items()}
    for metric, scorer in (("cider", Cider()), ("rouge_l", Rouge())):
        mean, values = scorer.compute_score(gts, res)
        scores = score(metric, given, truths)
        assert list(scores.values.values()) == [100.0 * float(value) for value in values]
        assert scores.score == pytest.approx(100.0 * mean, rel=1e-14)
        assert scores.score == math.fsum(scores.values.values()) / 3
    means, _ = Bleu(4).compute_score(gts, res, verbose=0)
    scores = score("bleu_4", given, truths)
    assert (scores.score, scores.values) == (100.0 * means[3], None)
    assert score("bleu_2", given, truths).score == pytest.approx(100.0 * means[1], rel=1e-14)


def test_captions_by_hand():
    truths = {"1": ["A cat sits on the mat."], "2": ["Two brown dogs run fast"]}
    same = {"1": "a cat sits on the mat", "2": "two brown dogs run fast!"}
    # Every n-gram is rare and the same: cosine 1 for n = 1 to 4, which CIDEr counts tenfold.
    assert score("cider", same, truths).values == pytest.approx({"1": 1000.0, "2": 1000.0})
    shorter = same | {"1": "a cat on the mat"}
    # 5 of 5 words are right, 6 in the truth: P = 1, R = 5/6, weighted by beta = 1.2.
    rouge = 100 * 2.44 * (5 / 6) / (5 / 6 + 1.44)
    assert score("rouge_l", shorter, truths).values == pytest.approx({"1": rouge, "2": 100.0})
    # All 10 of 10 words, 11 in the truths: the brevity penalty alone.
    assert score("bleu_1", shorter, truths).score == pytest.approx(100 * math.exp(1 - 11 / 10))


def test_an_empty_caption_and_breaks_of_lines_leave_the_others_in_their_places():
    scores = score("rouge_l", ANSWERS, TRUTHS)
    assert scores.values["2"] == scores.values["4"] == 0.0
    # P = 2/3, R = 2/5 of "a cafe table" in "a caf\u00e9 table with food".
    assert scores.values["3"] == pytest.approx(100 * 2.44 * (2 / 3) * 0.4 / (0.4 + 1.44 * 2 / 3))


def test_meteor_is_that_of_the_corpus():
    scores = score("meteor", ANSWERS, TRUTHS)
    # From the package itself; the mean over the four images is 16.976.
    assert (scores.score, scores.values) == (pytest.approx(18.848597680762608), None)


def test_missing_captions_score_zero_on_request():
    answers = {"1": "a cat on the mat"}
    some = score("rouge_l", answers, TRUTHS, missing="zero")
    assert some.values == score("rouge_l", ANSWERS | {"3": ""}, TRUTHS).values
    corpus = score("bleu_1", answers, TRUTHS, missing="zero")
    assert corpus.score == score("bleu_1", ANSWERS | {"3": ""}, TRUTHS).score
    assert corpus.notes == ["3 of 4 references have no answer: they score 0"]


def test_captions_as_coco_lists_them():
    references = [
        {"id": number, "image_id": image, "caption": text}
        for number, (image, text) in enumerate([(5, "a cat"), (6, "a dog"), (5, "the kitten")], 10)
    ]
    answers = [{"image_id": 5, "caption": "the kitten"}, {"image_id": 6, "caption": "a dog"}]
    scores = score_answers("rouge_l", answers, references)
    assert scores.values == {"5": 100.0, "6": 100.0}


def test_cider_of_one_image_is_zero_and_says_so():
    scores = score("cider", {"1": "a cat"}, {"1": ["a cat"]})
    assert scores.score == 0.0
    assert scores.notes == ["CIDEr of one image is 0: no word is rarer than another"]


def test_a_truth_without_a_word_is_refused():
    with pytest.raises(DataError) as error:
        score("rouge_l", {"1": "a cat"}, {"1": ["a cat", "..."]})
    assert str(error.value) == "references: [0]: id 1: a truth without a word"


def test_what_is_missing_is_said_in_a_line(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(UnsupportedError) as error:
            score("cider", {"1": "a"}, {"1": ["a"]})
    assert str(error.value) == (
        "cider needs Java: install a runtime, as Debian's package default-jre-headless"
    )
    for module in ("pycocoevalcap", "pycocoevalcap.tokenizer"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError) as error:
        score("meteor", {"1": "a"}, {"1": ["a"]})
    assert str(error.value) == "meteor needs pycocoevalcap: pip install pycocoevalcap"


def test_a_meteor_that_stops_is_an_error_and_no_wait(folder, monkeypatch):
    fake_java(folder, monkeypatch, 'case "$1" in -cp) cat ;; *) exit 1 ;; esac')
    with pytest.raises(Error) as error:
        score("meteor", {"1": "a"}, {"1": ["a"]})
    assert str(error.value) == "meteor: its Java program stopped; it needs 2 GB of memory"
    del error
    gc.collect()


@pytest.mark.parametrize(
    "script", ["echo a; echo a; echo no memory >&2; exit 1", "echo one line; echo no memory >&2"]
)
def test_a_tokeniser_that_fails_is_an_error(folder, monkeypatch, script):
    fake_java(folder, monkeypatch, script)
    with pytest.raises(Error) as error:
        score("cider", {"1": "a"}, {"1": ["a"]})
    assert str(error.value) == "the tokeniser (Java) failed: no memory"
