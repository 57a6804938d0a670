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

The pictures are dealt into train, validation and test before they become samples, so no picture is
ever in two of the three.
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
    """One instruction about one picture, with the answer that is right."""

    task: int
    image: int
    prompt: str
    answer: str


@dataclass(frozen=True)
class Dataset:
    """All pictures as uint8 [images, height, width, 3], and samples[split][task]."""

    images: np.ndarray
    samples: dict[str, list[list[Sample]]]


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


def _yesno(box: Box, width: int, height: int) -> list[tuple[str, bool]]:
    """Three questions about where the shape is and how wide, each about as often yes as no."""
    left, top, right, bottom = box
    return [
        ("is the shape on the left?", left + right <= width),
        ("is the shape in the upper half?", top + bottom <= height),
        ("is the shape wider than a third of the image?", 3 * (right - left) > width),
    ]


def _word(picture: _Picture, rng: random.Random) -> list[Pair]:
    """One question for the colour and one for the shape, as far as the data set asks them."""
    kinds = ([pair for pair in picture.word if pair[1] in words] for words in (COLOURS, SHAPES))
    return [rng.choice(kind) for kind in kinds if kind]


def _samples_of(picture: _Picture, image: int, rng: random.Random) -> list[list[Sample]]:
    """The picture's samples of every task."""
    height, width = picture.pixels.shape[:2]
    box = measure_box(picture.pixels)
    colour, shape = picture.one_of(COLOURS), picture.one_of(SHAPES)
    caption = []
    if colour is not None and shape is not None:
        caption = [(rng.choice(CAPTION_PROMPTS), caption_text(colour, shape, box, width, height))]
    question, truth = rng.choice(_yesno(box, width, height))
    answers = (
        [(question, "yes" if truth else "no")],
        _word(picture, rng),
        caption,
        [(rng.choice(BOX_PROMPTS), box_text(box, width))],
    )
    return [[Sample(task, image, *pair) for pair in pairs] for task, pairs in enumerate(answers)]


def load(seed: int, pictures: dict[str, int]) -> Dataset:
    """Read the data set, deal this many pictures into each split, and make their samples."""
    rng = random.Random(seed)  # noqa: S311
    every = _read_pictures()
    order = rng.sample(range(len(every)), sum(pictures.values()))
    splits: dict[str, list[list[Sample]]] = {}
    for split, size in pictures.items():
        numbers, order = order[:size], order[size:]
        of_picture = [_samples_of(every[number], number, rng) for number in numbers]
        splits[split] = [
            [sample for samples in of_picture for sample in samples[task]]
            for task in range(len(TASKS))
        ]
    return Dataset(np.stack([picture.pixels for picture in every]), splits)
