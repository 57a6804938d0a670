"""A LLaVA in small: tokenizer, vision tower, images and data, with LLaVA's own code around."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from llava import conversation
from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM
from llava.train.llava_trainer import LLaVATrainer
from llava.train.train import (
    DataArguments,
    ModelArguments,
    TrainingArguments,
    make_supervised_data_module,
)
from PIL import Image

WEIGHTS = {"caption": 0.4, "vqa": 1.7, "chat": 1.0}
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SAMPLES = 24


def make_world(folder: Path) -> None:
    """Writes all that a training reads."""
    samples = [make_sample(folder, number) for number in range(SAMPLES)]
    (folder / "data.json").write_text(json.dumps(samples))
    texts = [turn["value"] for sample in samples for turn in sample["conversations"]]
    texts.append(conversation.conv_templates["v1"].system)
    (folder / "texts.txt").write_text("\n".join(texts * 4) + "\nUSER: ASSISTANT: hello there\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=160,
        model_type="bpe",
        byte_fallback=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=28,
        patch_size=7,
    )
    transformers.CLIPVisionModel(vision).save_pretrained(folder / "tower")
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder / "tower")


def make_sample(folder: Path, number: int) -> dict[str, Any]:
    """One of three tasks: descriptions of uneven length, short answers, talk without image."""
    task = ("vqa", "caption", "chat", "vqa")[number % 4]
    colour = COLOURS[number % len(COLOURS)]
    image = {}
    if task != "chat":
        Image.new("RGB", (40 + number, 30), colour).save(folder / f"{number}.png")
        image = {"image": f"{number}.png"}
    question, answer = {
        "vqa": ("<image>\nwhat colour is it?", colour),
        "caption": (
            "describe it.\n<image>",
            f"a wall that is {colour} " + "and wide " * (number // 2),
        ),
        "chat": ("hello there", f"good day, my {colour} friend"),
    }[task]
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    if number % 5 == 0:
        turns += [{"from": "human", "value": "sure?"}, {"from": "gpt", "value": "yes"}]
    return {"id": number, "task": task, "conversations": turns, **image}


def make_trainer(
    folder: Path, *, lora: bool = False, max_length: int = 2048, **arguments: Any
) -> Any:
    """The trainer as llava.train.train makes it, with the smallest model there is."""
    tokenizer = transformers.LlamaTokenizer(
        str(folder / "tokenizer.model"), model_max_length=max_length, padding_side="right"
    )
    tokenizer.pad_token = tokenizer.unk_token
    conversation.default_conversation = conversation.conv_templates["v1"]
    model = make_model(folder, tokenizer)
    if lora:
        from peft import LoraConfig, get_peft_model

        adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(model, adapter)
    data = DataArguments(
        data_path=str(folder / "data.json"),
        is_multimodal=True,
        image_folder=str(folder),
        image_aspect_ratio="pad",
    )
    data.image_processor = model.get_vision_tower().image_processor
    data.mm_use_im_start_end = False
    training = TrainingArguments(
        **{
            "output_dir": str(folder / "output"),
            "per_device_train_batch_size": 4,
            "num_train_epochs": 1,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            **arguments,
        }
    )
    data_module = make_supervised_data_module(tokenizer=tokenizer, data_args=data)
    return LLaVATrainer(model=model, tokenizer=tokenizer, args=training, **data_module)


def make_model(folder: Path, tokenizer: Any) -> Any:
    """A LlavaLlamaForCausalLM of random weights, always the same."""
    torch.manual_seed(1)
    config = LlavaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        use_cache=False,
    )
    model = LlavaLlamaForCausalLM(config)
    tower = ModelArguments(
        vision_tower=str(folder / "tower"),
        mm_vision_select_layer=-2,
        mm_projector_type="mlp2x_gelu",
    )
    model.get_model().initialize_vision_modules(tower)
    model.config.image_aspect_ratio = "pad"
    model.config.tokenizer_padding_side = tokenizer.padding_side
    model.config.tokenizer_model_max_length = tokenizer.model_max_length
    return model
