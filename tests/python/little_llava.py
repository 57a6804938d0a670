"""What visatb.trainers.llava needs of LLaVA and its trainer, in small, for tests without them.

The real one is checked by examples/trainers/llava, in an environment of its own.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

IMAGE, IGNORED, PATCHES, VOCAB, WIDTH = -200, -100, 3, 19, 8


class Tower(nn.Module):
    """Gives PATCHES features for an image."""

    num_patches = PATCHES
    num_patches_per_side = 1
    select_feature = "patch"
    config = SimpleNamespace(image_size=2)

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, PATCHES * WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(images.flatten(1)).reshape(len(images), PATCHES, WIDTH)


class Outputs(dict[str, Any]):
    """A ModelOutput of transformers."""

    __getattr__ = dict.__getitem__


class LittleLlava(nn.Module):
    """Expands image tokens inside of its forward, and computes a plain mean of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(tokenizer_model_max_length=None)
        self.tower = Tower()
        self.model = nn.ModuleDict({"embed_tokens": nn.Embedding(VOCAB, WIDTH)})
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)

    def get_vision_tower(self) -> Tower:
        return self.tower

    def get_model(self) -> Any:
        return SimpleNamespace(embed_tokens=self.model["embed_tokens"])

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def encode_images(self, images: Tensor) -> Tensor:
        return self.tower(images)

    def prepare_inputs_labels_for_multimodal(
        self,
        input_ids: Any,
        position_ids: Any,
        attention_mask: Any,
        past_key_values: Any,
        labels: Any,
        images: Any,
        image_sizes: Any = None,
    ) -> tuple[Any, ...]:
        del image_sizes
        features = iter(self.encode_images(images))
        rows, kept = [], []
        for ids, mask, row in zip(input_ids, attention_mask, labels, strict=True):
            parts, targets = [], []
            for word, target in zip(ids[mask], row[mask], strict=True):
                if word == IMAGE:
                    parts.append(next(features))
                    targets.append(torch.full((len(parts[-1]),), IGNORED))
                else:
                    parts.append(self.get_model().embed_tokens(word[None]))
                    targets.append(target[None])
            most = self.config.tokenizer_model_max_length
            rows.append(torch.cat(parts)[:most])
            kept.append(torch.cat(targets)[:most])
        pad = nn.utils.rnn.pad_sequence
        embeddings, expanded = pad(rows, True), pad(kept, True, IGNORED)
        return None, position_ids, attention_mask, past_key_values, embeddings, expanded

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        labels: Any = None,
        images: Any = None,
        return_dict: bool = True,
    ) -> Outputs:
        del return_dict
        *_, embeddings, labels = self.prepare_inputs_labels_for_multimodal(
            input_ids, None, attention_mask, None, labels, images
        )
        logits = self.lm_head(embeddings.cumsum(1).tanh()).float()
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
            )
        return Outputs(loss=loss, logits=logits)


class Samples(Dataset):
    """As LazySupervisedDataset: samples stand in `list_data_dict`, and items lack their task."""

    def __init__(self, count: int = 8) -> None:
        self.list_data_dict = [{"id": n, "task": ("vqa", "ocr")[n % 3 == 0]} for n in range(count)]

    modality_lengths = "of the dataset"

    def __len__(self) -> int:
        return len(self.list_data_dict)

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        words = torch.randint(0, VOCAB, (4 + index % 4,), generator=generator)
        labels = words.clone()
        labels[:2] = IGNORED
        words[1], labels[1] = IMAGE, IGNORED
        return {
            "input_ids": words,
            "labels": labels,
            "image": torch.rand(1, 2, 2, generator=generator),
        }


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    pad = nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad([item["input_ids"] for item in items], True, 0),
        "labels": pad([item["labels"] for item in items], True, IGNORED),
        "attention_mask": pad(
            [torch.ones(len(item["input_ids"]), dtype=torch.bool) for item in items], True
        ),
        "images": torch.stack([item["image"] for item in items]),
    }


def skip_first_batches(loader: Any, batches: int = 0) -> Any:
    """As accelerate's: another loader over the same dataset, which is not ours."""
    sampler = list(loader.batch_sampler)[batches:]
    return DataLoader(loader.dataset, batch_sampler=sampler, collate_fn=loader.collate_fn)


class Evaluated(NamedTuple):
    """An EvalLoopOutput of transformers, as far as it is looked at."""

    predictions: list[Any]
    metrics: dict[str, float]


class LittleTrainer:
    """What the Trainer of transformers 4.36 has, and does with a loss."""

    def __init__(self, accumulation: int = 1, epochs: int = 1, max_steps: int = -1) -> None:
        torch.manual_seed(4)
        self.model: Any = LittleLlava()
        self.train_dataset: Any = Samples()
        self.eval_dataset: Any = None
        self.compute_metrics: Any = None
        self.data_collator: Any = collate
        self.label_smoother: Any = "one of transformers"
        self.accelerator = SimpleNamespace(
            unwrap_model=lambda model: model,
            distributed_type=SimpleNamespace(value="NO"),
            gradient_state=SimpleNamespace(end_of_dataloader=False, remainder=-1),
        )
        self.args = SimpleNamespace(
            gradient_accumulation_steps=accumulation,
            num_train_epochs=epochs,
            max_steps=max_steps,
            label_smoothing_factor=0.0,
            n_gpu=1,
            seed=42,
            should_save=True,
            process_index=0,
        )
        self.logged: list[dict[str, float]] = []
        self.state = SimpleNamespace(global_step=0)

    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, 2, collate_fn=self.data_collator)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        Path(output_dir, "optimizer.pt").write_bytes(b"")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        assert checkpoint is None or Path(checkpoint, "optimizer.pt").exists()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return DataLoader(dataset, 3, collate_fn=self.data_collator)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        return self.get_eval_dataloader(test_dataset)

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Its metrics; the loss is a mean over batches, each as often as it has samples."""
        output = self.evaluation_loop(
            self.get_eval_dataloader(eval_dataset),
            prediction_loss_only=True if self.compute_metrics is None else None,
            metric_key_prefix=metric_key_prefix,
        )
        self.log(output.metrics)
        return output.metrics

    def predict(self, test_dataset: Any, metric_key_prefix: str = "test") -> Evaluated:
        loader = self.get_test_dataloader(test_dataset)
        return self.evaluation_loop(loader, metric_key_prefix=metric_key_prefix)

    def evaluation_loop(
        self, loader: Any, prediction_loss_only: bool | None = None, metric_key_prefix: str = "eval"
    ) -> Evaluated:
        self.model.eval()
        state = self.accelerator.gradient_state
        losses, predictions = [], []
        for number, batch in enumerate(loader, start=1):
            state.end_of_dataloader = number == len(loader)
            loss, logits = self.prediction_step(self.model, batch, bool(prediction_loss_only))
            losses += [float(loss)] * len(batch["input_ids"])
            predictions.append(logits)
        state.end_of_dataloader = False
        mean = sum(losses) / len(losses)
        return Evaluated(predictions, {f"{metric_key_prefix}_loss": mean})

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool) -> Any:
        with torch.no_grad():
            outputs = model(**inputs)
        return outputs["loss"], None if prediction_loss_only else outputs["logits"].detach()

    def log(self, logs: dict[str, float]) -> None:
        self.logged.append(logs)

    def train(self, skipped: int = 0) -> Tensor:
        """The gradients of one epoch, and their loss, as if it were one step."""
        return self._inner_training_loop(skipped)

    def _inner_training_loop(self, skipped: int) -> Tensor:
        self.state = SimpleNamespace(global_step=0)
        loader = self.get_train_dataloader()
        if skipped:
            loader = skip_first_batches(loader, skipped)
        total = torch.zeros(())
        for number, batch in enumerate(loader, start=1):
            self.model.train()
            loss = self.model(**batch)["loss"] / self.args.gradient_accumulation_steps
            loss.backward()
            total += loss.detach()
            self.state.global_step = number // self.args.gradient_accumulation_steps
        self.log({"loss": float(total)})
        return total
