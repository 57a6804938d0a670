"""A LLaVA small enough for two processor cores: its words, its eyes and its weights.

The model is the `LlavaForConditionalGeneration` of transformers, built from a configuration of our
own and started from random weights: a CLIP vision tower of 16 patches, LLaVA's projector of two
layers, and a Llama of a few layers.  Words are whole words, numbers are digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

SPECIAL = ("<pad>", "<image>", "<bos>", "<answer>", "<eos>")
PAD, IMAGE, BOS, ANSWER, EOS = range(len(SPECIAL))
PATCH = 16
# The pictures' own mean and deviation: most of a picture is pale ground and should be near zero.
PIXEL_MEAN, PIXEL_SPREAD = 230.0, 50.0
# Llama's usual 0.02 suits thousands of channels; with so few, attention would start out blind.
SPREAD = 0.08


@dataclass(frozen=True)
class Size:
    """How large a model is: 0.4 million parameters as it stands."""

    width: int = 96
    layers: int = 2
    heads: int = 4


class Tokenizer:
    """Whole words, single digits and punctuation marks, each one token."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Know every word of these texts, and all digits."""
        words = {piece for text in texts for piece in self.split(text)}
        words |= set("0123456789")
        self.words = [*SPECIAL, *sorted(words)]
        self.ids = {word: number for number, word in enumerate(self.words)}

    @staticmethod
    def split(text: str) -> list[str]:
        """The text in pieces: "at [12, 4]" is at [ 1 2 , 4 ]."""
        return re.findall(r"[a-z]+|\d|[^\sa-z\d]", text.lower())

    def encode(self, text: str) -> list[int]:
        """The token ids of a text whose every word is known."""
        return [self.ids[piece] for piece in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids up to the end token, written the way the answers are."""
        pieces = []
        for number in ids:
            if number == EOS:
                break
            pieces.append(self.words[number])
        text = " ".join(pieces)
        text = re.sub(r"(?<=\d) (?=\d)", "", text)
        return re.sub(r"\[ | (?=[,\]?])", lambda match: match.group().strip(), text)


def image_tokens(side: int) -> int:
    """How many tokens a square picture becomes."""
    return (side // PATCH) ** 2


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """Pictures as uint8 [n, height, width, 3] -> what the vision tower reads."""
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return (torch.from_numpy(channels_first).float() - PIXEL_MEAN) / PIXEL_SPREAD


def build(vocabulary: int, side: int, size: Size, seed: int) -> LlavaForConditionalGeneration:
    """A new model with random weights; the same seed gives the same weights."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=size.width,
        intermediate_size=2 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        image_size=side,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=2 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=128,
        initializer_range=SPREAD,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        image_seq_length=image_tokens(side),
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.update(pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    return model


def save(path: Path, model: LlavaForConditionalGeneration, size: Size, words: int) -> None:
    """Writes a model."""
    path.mkdir(parents=True, exist_ok=True)
    state = {"size": asdict(size), "vocabulary": words, "weights": model.state_dict()}
    torch.save(state, path / "model.pt")


def load(path: Path, side: int) -> LlavaForConditionalGeneration:
    """Reads a model that `save` wrote."""
    state = torch.load(path / "model.pt", map_location="cpu", weights_only=True)
    model = build(state["vocabulary"], side, Size(**state["size"]), seed=0)
    model.load_state_dict(state["weights"])
    return model


def device() -> str:
    """Where models run."""
    return "cuda" if torch.cuda.is_available() else "cpu"
