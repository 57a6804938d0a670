"""Training steps on a GPU: a loss scaler, and a real model.

What is cheap runs on the CPU too, so that the tests themselves are tried where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")

from devices import DEVICES, on  # noqa: E402
from reference import make_batch, reference  # noqa: E402

from visatb.torch import vitw_linear_loss, vitw_loss  # noqa: E402


@pytest.mark.skipif(
    not hasattr(torch.amp, "GradScaler"), reason="torch.amp.GradScaler: from 2.3 on"
)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_loss_scaler_in_fp16_gets_gradients_and_sees_overflow(inplace: bool, device: str) -> None:
    batch = on(device, make_batch())
    weight = torch.nn.Parameter(torch.eye(37, device=device))
    optimizer = torch.optim.SGD([weight], lr=0.0)

    def step(scaler: Any) -> None:
        logits = (batch.logits @ weight).half()
        loss = vitw_loss(logits, *batch[1:], denominator=1e6, inplace=inplace)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    exact = reference(batch.logits.half(), *batch[1:], denominator=1e6).gradient
    expected = batch.logits.double().flatten(0, 1).t() @ exact.flatten(0, 1)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**16)
    step(scaler)
    assert (weight.grad - expected).norm() < 2e-3 * expected.norm()
    assert scaler.get_scale() == 2.0**16
    overflowing = torch.amp.GradScaler(device, init_scale=2.0**126)
    step(overflowing)
    assert not weight.grad.isfinite().all()
    assert overflowing.get_scale() == 2.0**125


def make_llava(device: str) -> Any:
    """A LLaVA of random weights, too small to be of use."""
    transformers = pytest.importorskip("transformers", reason="the model is that of transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            **sizes, num_attention_heads=4, image_size=32, patch_size=16
        ),
        text_config=transformers.LlamaConfig(
            **sizes,
            num_attention_heads=4,
            vocab_size=99,
            max_position_embeddings=64,
            initializer_range=0.2,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
        ),
        image_token_index=1,
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    return transformers.LlavaForConditionalGeneration(config).to(device).train()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", ["logits", "in place", "linear"])
def test_a_training_step_of_llava_has_the_gradients_of_its_own_loss(form: str, device: str) -> None:
    model = make_llava(device)
    tokens = torch.randint(4, 99, (3, 16), generator=torch.Generator().manual_seed(1))
    tokens[:, 1:5] = 1
    labels = tokens.clone()
    labels[:, :8] = -100
    labels[2, 12:] = -100
    tokens, labels = tokens.to(device), labels.to(device)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(device)
    task_ids = torch.tensor([0, 1, 0], device=device)
    inputs = {"input_ids": tokens, "pixel_values": pixels}
    parameters = dict(model.named_parameters())

    def gradients(loss: Any) -> list[Any]:
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return [each for each in found if each is not None]

    def ours() -> Any:
        if form == "linear":
            hidden = model.model(**inputs).last_hidden_state
            head = model.get_output_embeddings()
            return vitw_linear_loss(hidden, head.weight, labels, task_ids, [1, 1], shift=True)
        logits = model(**inputs).logits
        return vitw_loss(logits, labels, task_ids, [1, 1], shift=True, inplace=form == "in place")

    stock = model(**inputs, labels=labels).loss
    loss = ours()
    torch.testing.assert_close(loss, stock, rtol=1e-5, atol=1e-6)
    expected, found = gradients(stock), gradients(loss)
    assert len(found) == len(expected) > 20
    # Some are 0 but for rounding, such as that of a key's bias.
    largest = max(each.abs().max().item() for each in expected)
    for theirs, mine in zip(expected, found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6 * largest)
