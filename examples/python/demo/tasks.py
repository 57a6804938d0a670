"""From the easy-VQA pictures to four instruction tasks with four kinds of answer.

Every picture shows one coloured shape on a pale ground.  What its questions and answers do not say
(how large the shape is and where it stands) is measured from the pixels.  The four tasks are

    yesno    "is the shape on the left?"      yes | no
    word     "what color is the triangle?"    one word, a colour or a shape
    caption  "describe the image"             a small red circle in the upper left
    box      "where is the shape?"            [12, 40, 33, 61], in percent of the picture's sides

The data set has yes/no questions of its own ("is there not a red shape?").  They are read for what
they tell of a picture, but not asked: in the few minutes of a demo, a model of this size does not
learn to answer them better than their wording alone allows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import easy_vqa
import numpy as np
from PIL import Image

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SIZES = ("small", "medium", "large")
PLACES = ("upper left", "upper right", "lower left", "lower right")
MEDIUM_FROM, LARGE_FROM = 18, 26

CAPTION_PROMPTS = ("describe the image", "what does the image show?", "write a caption")
BOX_PROMPTS = ("where is the shape?", "locate the shape", "what is the box of the shape?")

Pair = tuple[str, str]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Task:
    """A kind of instruction: its name, how its answers are scored, how long they may become."""

    name: str
    metric: str
    max_answer_tokens: int


TASKS = (
    Task("yesno", "exact_match", 2),
    Task("word", "exact_match", 2),
    Task("caption", "facts", 10),
    Task("box", "iou", 15),
)


@dataclass(frozen=True)
class Sample:
    """One instruction about one picture, with the answer that is right.

    Attributes:
        id: its name among all samples.
        task: the name of its task.
        image: the number of its picture.
    """

    id: str
    task: str
    image: int
    prompt: str
    answer: str


@dataclass
class _Picture:
    """One picture, its questions by kind of answer, and the words that are true of it."""

    pixels: np.ndarray
    word: list[Pair] = field(default_factory=list)
    words: set[str] = field(default_factory=set)

    def add(self, question: str, answer: str) -> None:
        """Take in one question and what its answer tells."""
        words = set(question.rstrip("?").split())
        if answer not in ("yes", "no"):
            self.word.append((question, answer))
            self.words |= words | {answer}
            return
        negated = bool(words & {"not", "no"})
        if (answer == "yes") != negated:
            self.words |= words

    def one_of(self, choices: tuple[str, ...]) -> str | None:
        """The one of these words that is true of the picture, if the answers tell it."""
        return next((word for word in choices if word in self.words), None)


def measure_box(pixels: np.ndarray) -> Box:
    """The shape's box in pixels: left, top, right, bottom, the last two exclusive.

    The ground is the commonest colour.  Shapes are drawn with soft edges; a pixel belongs to the
    shape if it differs from the ground by at least half of the largest difference in the picture.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    colours, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    commonest = int(colours[counts.argmax()])
    ground = np.array([commonest >> 16, commonest >> 8 & 255, commonest & 255])
    difference = np.abs(pixels - ground).sum(axis=-1)
    rows, columns = np.nonzero(2 * difference >= difference.max())
    return (
        int(columns.min()),
        int(rows.min()),
        int(columns.max()) + 1,
        int(rows.max()) + 1,
    )


def box_text(box: Box, side: int) -> str:
    """The box as an answer, in percent of the picture's side: "[12, 40, 33, 61]"."""
    return "[" + ", ".join(str(round(100 * edge / side)) for edge in box) + "]"


def caption_text(colour: str, shape: str, box: Box, width: int, height: int) -> str:
    """One sentence with four facts: size, colour, shape and the quarter of the picture."""
    left, top, right, bottom = box
    extent = max(right - left, bottom - top)
    size = SIZES[(extent >= MEDIUM_FROM) + (extent >= LARGE_FROM)]
    place = PLACES[2 * (top + bottom > height) + (left + right > width)]
    return f"a {size} {colour} {shape} in the {place}"


def _read_pictures() -> list[_Picture]:
    """Both published halves of the data set in one list, each picture with its questions."""
    pictures: list[_Picture] = []
    halves = (
        (easy_vqa.get_train_image_paths(), easy_vqa.get_train_questions()),
        (easy_vqa.get_test_image_paths(), easy_vqa.get_test_questions()),
    )
    for paths, questions in halves:
        first = len(pictures)
        for number in range(len(paths)):
            with Image.open(paths[number]) as image:
                pictures.append(_Picture(np.asarray(image.convert("RGB"))))
        for question, answer, number in zip(*questions, strict=True):
            pictures[first + number].add(question, answer)
    return pictures


def _yesno(box: Box, width: int, height: int) -> list[Pair]:
    """Questions about where the shape is and how wide, each about as often yes as no."""
    left, top, right, bottom = box
    asked = [
        ("is the shape on the left?", left + right <= width),
        ("is the shape in the upper half?", top + bottom <= height),
        ("is the shape wider than a third of the image?", 3 * (right - left) > width),
    ]
    return [(question, "yes" if truth else "no") for question, truth in asked]


def _word(picture: _Picture, rng: random.Random, each: int) -> list[Pair]:
    """Questions for the colour and for the shape, as far as the data set asks them."""
    kinds = ([pair for pair in picture.word if pair[1] in words] for words in (COLOURS, SHAPES))
    return [pair for kind in kinds for pair in rng.sample(kind, min(each, len(kind)))]


def _samples_of(picture: _Picture, image: int, rng: random.Random, each: int) -> list[Sample]:
    """The picture's samples: of every task as many as there are, up to so many of each kind."""
    height, width = picture.pixels.shape[:2]
    box = measure_box(picture.pixels)
    colour, shape = picture.one_of(COLOURS), picture.one_of(SHAPES)
    caption = []
    if colour is not None and shape is not None:
        text = caption_text(colour, shape, box, width, height)
        caption = [(prompt, text) for prompt in rng.sample(CAPTION_PROMPTS, each)]
    answers = (
        rng.sample(_yesno(box, width, height), each),
        _word(picture, rng, each),
        caption,
        [(prompt, box_text(box, width)) for prompt in rng.sample(BOX_PROMPTS, each)],
    )
    return [
        Sample(f"{image}-{number}", task.name, image, *pair)
        for task, pairs in zip(TASKS, answers, strict=True)
        for number, pair in enumerate(pairs)
    ]


def load(seed: int, pictures: int, each: int) -> tuple[np.ndarray, list[Sample]]:
    """Reads the data set and makes its samples.

    Args:
        seed: of the choice of pictures and questions.
        pictures: how many.
        each: how many questions of a kind are asked of a picture, up to 3.

    Returns:
        The pictures as uint8 [all, height, width, 3], and the samples.
    """
    rng = random.Random(seed)  # noqa: S311
    every = _read_pictures()
    numbers = rng.sample(range(len(every)), pictures)
    samples = [one for n in numbers for one in _samples_of(every[n], n, rng, each)]
    return np.stack([picture.pixels for picture in every]), samples
