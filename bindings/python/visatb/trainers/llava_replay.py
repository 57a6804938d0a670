"""The labels as LLaVA's forward will expand them, known before it runs.

Image tokens become as many ignored labels as the image has features, and sequences are cut off
behind; only the model's own function knows how. So that function is run, on features that are one
number wide instead of thousands: what comes of lengths and labels is the same, and it costs
nothing. It runs in the collator, on the CPU, before anything goes to a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._errors import UnsupportedError

PREPARE = "prepare_inputs_labels_for_multimodal"


class LabelReplay:
    """Replays `prepare_inputs_labels_for_multimodal` of a model on lengths alone.

    Args:
        model: a LLaVA model that is not wrapped, with its vision tower loaded or none.
    """

    def __init__(self, model: Any) -> None:
        self._prepare = getattr(type(model), PREPARE)
        self._lengths = _Lengths(model)

    def labels_of(self, batch: dict[str, Any]) -> Tensor:
        """The expanded labels of a batch on the CPU, [batch, seq]; not yet shifted."""
        images = batch.get("images")
        arguments = {
            "images": None if images is None else _without_pixels(images),
            "image_sizes": batch.get("image_sizes"),
        }
        if "modalities" in batch:
            arguments["modalities"] = batch["modalities"]
        with torch.no_grad():
            *_, labels = self._prepare(
                self._lengths,
                batch["input_ids"],
                None,  # position_ids
                batch.get("attention_mask"),
                None,  # past_key_values
                batch["labels"],
                **arguments,
            )
        return labels  # type: ignore[no-any-return]


class _Lengths:
    """A model that knows how long everything is, and nothing else.

    It stands for the model itself, for `get_model()` and for `model.model`.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, model: Any) -> None:
        self._kind = type(model).__name__
        self.config = model.config
        tower = model.get_vision_tower()
        self._tower = None if tower is None else _Tower(tower)
        self.image_newline = torch.zeros(1)

    @property
    def model(self) -> _Lengths:
        return self

    def get_model(self) -> _Lengths:
        return self

    def get_vision_tower(self) -> _Tower | None:
        return self._tower

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        return torch.zeros(*tokens.shape, 1)

    def encode_images(self, images: Tensor) -> Tensor:
        assert self._tower is not None  # noqa: S101 - who has no tower asks for no features
        return torch.zeros(len(images), self._tower.features, 1)

    def __getattr__(self, name: str) -> Any:
        # Asked for by pickle, on an object that is not whole yet.
        if name.startswith("__") or "_kind" not in self.__dict__:
            raise AttributeError(name)
        raise UnsupportedError(
            f"{self._kind}.{PREPARE} uses self.{name}, of which a count ahead of the step knows "
            "nothing; expected that of LLaVA 1.2, or one that asks for no more"
        )


class _Tower:
    """What the model's function asks its vision tower."""

    def __init__(self, tower: Any) -> None:
        self.num_patches: int = tower.num_patches
        self.num_patches_per_side: int = tower.num_patches_per_side
        self.config = tower.config
        # The class token stands beside the patches where it is not dropped.
        whole = getattr(tower, "select_feature", "patch") == "cls_patch"
        self.features = self.num_patches + int(whole)

    @property
    def image_size(self) -> int:
        return int(self.config.image_size)


def _without_pixels(images: Any) -> Any:
    """The images in their number and form, without what is in them."""
    if isinstance(images, (list, tuple)):
        return [_without_pixels(image) for image in images]
    return images.new_empty((*images.shape[:-2], 0, 0))
