"""Short answers: exact match, and the accuracy of the VQA challenge.

Both sides are normalised by the rules of the challenge's evaluation
(https://visualqa.org/evaluation.html): lower case, punctuation, number words, articles, and the
apostrophes of contractions. docs/scoring.md says what the challenge's own program does otherwise.
"""

from __future__ import annotations

import functools
import re

from .pairs import Pairs, Scored

PEOPLE = 10  # who answered each question of VQA, TextVQA and VizWiz
_AGREEING = 3  # as many who gave an answer make it right

# Not the apostrophe, which tells girl's from girls, nor the colon of 2:50.
_MARKS = ';/[]"{}()=+\\_->@`,?!<'
_TO_CLEAN = re.compile(f"[.{re.escape(_MARKS)}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
you're you've
"""


def _contractions() -> dict[str, str]:
    """Every spelling that lacks one apostrophe, and the right one."""
    result = {}
    for word in _CONTRACTED.split():
        for place, char in enumerate(word):
            if char == "'":
                result[word[:place] + word[place + 1 :]] = word
    return result


_CONTRACTIONS = _contractions()


# In a file of answers most stand there many times.
@functools.lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """A short answer as two are compared.

    An answer of which the rules leave nothing, as the letter "A" of a choice, stays as it is but
    for its case: else it would equal every other such answer.
    """
    # Splitting takes newlines and spaces at the ends away.
    plain = " ".join(text.lower().split())
    cleaned = _without_punctuation(plain) if _TO_CLEAN.search(plain) else plain
    words = [_DIGITS.get(word, word) for word in cleaned.split() if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words) or plain


def _without_punctuation(text: str) -> str:
    """A mark becomes a space, or nothing where it stands beside one or digits have a comma."""
    result = text
    always = _THOUSANDS.search(text) is not None
    for mark in _MARKS:
        if mark in text:
            nothing = always or f"{mark} " in text or f" {mark}" in text
            result = result.replace(mark, "" if nothing else " ")
    return _PERIOD.sub("", result)


def exact_match(pairs: Pairs) -> Scored:
    """100 for an answer that equals one of its truths, else 0.

    Errors: DataError for a truth without text.
    """
    values = []
    for position, (answer, truths) in enumerate(zip(pairs.answers, pairs.truths, strict=True)):
        known = [normalise(truth) for truth in truths]
        if "" in known:
            raise pairs.bad_truth(position, "an empty truth")
        values.append(100.0 * (answer is not None and normalise(answer) in known))
    return Scored(values)


def vqa_accuracy(pairs: Pairs) -> Scored:
    """How far ten people agree with an answer, in percent.

    For each person: 1 where three of the other nine gave the answer, else a third for each of them;
    the value is the mean over the ten.

    Errors: DataError for a truth that is not ten answers.
    """
    values = []
    for position, (answer, truths) in enumerate(zip(pairs.answers, pairs.truths, strict=True)):
        if len(truths) != PEOPLE:
            what = f"expected the answers of {PEOPLE} people, found {len(truths)}"
            raise pairs.bad_truth(position, what)
        given = None if answer is None else normalise(answer)
        agreeing = sum(given == normalise(truth) for truth in truths) if given else 0
        values.append(100.0 * _leave_one_out(agreeing))
    return Scored(values)


def _leave_one_out(agreeing: int) -> float:
    without_one = min(max(agreeing - 1, 0), _AGREEING) / _AGREEING
    without_another = min(agreeing, _AGREEING) / _AGREEING
    return (agreeing * without_one + (PEOPLE - agreeing) * without_another) / PEOPLE
