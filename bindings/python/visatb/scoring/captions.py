"""Captions: BLEU, CIDEr, ROUGE-L and METEOR of pycocoevalcap, which needs Java.

Its scorers are used as they are. Its tokeniser is called by ourselves: the package's own writes
into its installation, talks on standard error, and loses captions that are empty or have line
breaks of another kind, so that the later ones belong to other images.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from visatb._errors import Error, UnsupportedError

from .pairs import Pairs, Scored

_Tokens = dict[str, list[str]]


def bleu(order: int) -> Callable[[Pairs], Scored]:
    """BLEU of n-grams up to that length, over the whole corpus, in percent."""

    def score(pairs: Pairs) -> Scored:
        truths, answers = _tokenised(pairs, f"bleu_{order}")
        from pycocoevalcap.bleu.bleu import Bleu

        scores, _ = Bleu(order).compute_score(truths, answers, verbose=0)
        return Scored(None, 100.0 * float(scores[order - 1]))

    return score


def cider(pairs: Pairs) -> Scored:
    """CIDEr of each image, times 100; how rare a word is, is counted in the truths of all."""
    truths, answers = _tokenised(pairs, "cider")
    from pycocoevalcap.cider.cider import Cider

    values = Cider().compute_score(truths, answers)[1]
    notes = ("CIDEr of one image is 0: no word is rarer than another",) if len(values) == 1 else ()
    return Scored([100.0 * float(value) for value in values], notes=notes)


def rouge_l(pairs: Pairs) -> Scored:
    """ROUGE-L of each image, in percent."""
    truths, answers = _tokenised(pairs, "rouge_l")
    from pycocoevalcap.rouge.rouge import Rouge

    values = Rouge().compute_score(truths, answers)[1]
    return Scored([100.0 * float(value) for value in values])


def meteor(pairs: Pairs) -> Scored:
    """METEOR over the whole corpus, in percent; it is not the mean of the images' own."""
    truths, answers = _tokenised(pairs, "meteor")
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        score, _ = scorer.compute_score(truths, answers)
    except (OSError, ValueError) as reason:
        raise Error("meteor: its Java program stopped; it needs 2 GB of memory") from reason
    finally:
        # Where something goes wrong it keeps its lock, and waits for it when it is destroyed.
        if scorer.lock.locked():
            scorer.lock.release()
        for stream in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            with suppress(OSError):
                stream.close()
    return Scored(None, 100.0 * float(score))


def _tokenised(pairs: Pairs, measure: str) -> tuple[_Tokens, _Tokens]:
    """{id: tokenised captions} of the truths and of the answers.

    Errors: UnsupportedError (pycocoevalcap or Java is missing), DataError (a truth without a word),
    Error (Java failed).
    """
    jar, punctuation = require(measure)
    counts = [len(truths) for truths in pairs.truths]
    texts = [text for truths in pairs.truths for text in truths]
    lines = _tokenise([*texts, *((text or "") for text in pairs.answers)], jar, punctuation)
    truths: _Tokens = {}
    position = 0
    for number, (sample, count) in enumerate(zip(pairs.ids, counts, strict=True)):
        truths[sample] = lines[position : position + count]
        if "" in truths[sample]:
            raise pairs.bad_truth(number, "a truth without a word")
        position += count
    answers = [[line] for line in lines[position:]]
    return truths, dict(zip(pairs.ids, answers, strict=True))


def require(measure: str) -> tuple[Path, frozenset[str]]:
    """The tokeniser's program, and what it writes for punctuation."""
    try:
        from pycocoevalcap.tokenizer import ptbtokenizer
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] != "pycocoevalcap":
            raise
        text = f"{measure} needs pycocoevalcap: pip install pycocoevalcap"
        raise UnsupportedError(text) from missing
    if shutil.which("java") is None:
        text = f"{measure} needs Java: install a runtime, as Debian's package default-jre-headless"
        raise UnsupportedError(text)
    folder = Path(ptbtokenizer.__file__).parent
    jar = folder / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    return jar, frozenset(ptbtokenizer.PUNCTUATIONS)


def _tokenise(texts: list[str], jar: Path, punctuation: frozenset[str]) -> list[str]:
    """Every text as words with spaces between them, without punctuation."""
    # A line a text; what splits lines, and is no newline, would make two of one.
    lines = [" ".join(text.split()) for text in texts]
    made = _run_tokeniser(lines, jar)
    return [" ".join(word for word in line.split() if word not in punctuation) for line in made]


def _run_tokeniser(lines: list[str], jar: Path) -> list[str]:
    program = "edu.stanford.nlp.process.PTBTokenizer"
    command: list[Any] = ["java", "-cp", jar, program, "-preserveLines", "-lowerCase"]
    given = "".join(f"{line}\n" for line in lines).encode()
    # Without a shell, and with nothing in it that a user wrote.
    run = subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603
    made = run.stdout.decode(errors="replace").split("\n")[:-1]
    if run.returncode != 0 or len(made) != len(lines):
        said = run.stderr.decode(errors="replace").strip().split("\n")[-1]
        raise Error(f"the tokeniser (Java) failed: {said}")
    return made
