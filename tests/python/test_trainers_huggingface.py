"""Hugging Face's Trainer trains Eq. 2, whatever the micro-batches and the ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from method_formulas import dwa, igb

torch = pytest.importorskip("torch", minversion="2.1", reason="PyTorch 2.1 or newer is needed")
pytest.importorskip("transformers", reason="transformers is needed")
pytest.importorskip("accelerate", reason="accelerate is needed")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)

PROGRAM = Path(__file__).with_name("trainer_ranks.py")
ACCUMULATIONS = (1, 2, 4)
RANKS = (1, 2, 4)
WEIGHTS = {"caption": 0.4, "vqa": 1.7, "ocr": 1.0}
EMPTY_STEP, LONELY_STEP = 3, 5

PLANS: list[dict[str, Any]] = [
    {"name": f"{optimizer} {accumulation}", "accumulation": accumulation, "optimizer": optimizer}
    for optimizer in ("sgd", "adamw")
    for accumulation in ACCUMULATIONS
]
PLANS += [
    {"name": "local", "accumulation": 2, "optimizer": "sgd", "scope": "local"},
    {"name": "linear", "accumulation": 2, "optimizer": "sgd", "options": {"linear": True}},
    {"name": "inplace", "accumulation": 1, "optimizer": "sgd", "options": {"inplace": True}},
]
# With windows and bases that are over before the training is.
METHODS: list[dict[str, Any]] = [
    {"name": "DWA", "window": 2, "temperature": 0.1},
    {"name": "IGBv1", "base_steps": [1, 4]},
    {"name": "RLW", "seed": 5},
    {"name": "TLA"},
]
METHOD_PLANS: list[dict[str, Any]] = [
    {"name": method["name"], "accumulation": 2, "optimizer": "sgd", "method": method}
    for method in METHODS
]
METHOD_PLANS += [
    {**METHOD_PLANS[0], "name": "DWA 1", "accumulation": 1},
    {**METHOD_PLANS[0], "name": "DWA linear", "options": {"linear": True}},
]
LOCAL_PLANS: list[dict[str, Any]] = [
    {**plan, "name": f"local {plan['name']}", "scope": "local"}
    for plan in METHOD_PLANS
    if plan["name"] in ("DWA", "TLA")
]
# By one process and by two, which is what it takes to tell.
METHOD_RANKS = (1, 2)

Trained = Callable[[int, str], dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What a plan came to on so many ranks; every plan is trained at the first question."""
    known: dict[int, dict[str, dict[str, Any]]] = {}

    def ask(ranks: int, name: str) -> dict[str, Any]:
        if ranks not in known:
            output = tmp_path_factory.mktemp("trained") / "results.json"
            plans = PLANS + (METHOD_PLANS + LOCAL_PLANS if ranks in METHOD_RANKS else [])
            command = [sys.executable, PROGRAM, output, str(ranks), json.dumps(plans)]
            subprocess.run(command, check=True, capture_output=True, timeout=120, env=os.environ)
            known[ranks] = json.loads(output.read_text())
        return known[ranks][name]

    return ask


def distance(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Of all parameters, relative."""
    a, b = np.array(found["parameters"]), np.array(expected["parameters"])
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
@pytest.mark.parametrize("ranks", RANKS)
def test_sgd_with_momentum_ends_where_one_process_with_one_batch_does(
    trained: Trained, ranks: int, accumulation: int
) -> None:
    assert distance(trained(ranks, f"sgd {accumulation}"), trained(1, "sgd 1")) < 1e-6


@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
@pytest.mark.parametrize("ranks", RANKS)
def test_adamw_has_the_losses_of_one_process_with_one_batch(
    trained: Trained, ranks: int, accumulation: int
) -> None:
    found = trained(ranks, f"adamw {accumulation}")["losses"]
    np.testing.assert_allclose(found, trained(1, "adamw 1")["losses"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", ["linear", "inplace"])
def test_the_other_forms_of_the_loss_train_the_same(
    trained: Trained, ranks: int, name: str
) -> None:
    assert distance(trained(ranks, name), trained(1, "sgd 1")) < 1e-6


@pytest.mark.parametrize("ranks", RANKS)
def test_a_mean_of_micro_batches_is_another_training(trained: Trained, ranks: int) -> None:
    """The authors' normalisation; docs/trainers.md has what this prints."""
    off = distance(trained(ranks, "local"), trained(1, "sgd 1"))
    found, expected = trained(ranks, "local")["losses"], trained(1, "sgd 1")["losses"]
    print(f"{ranks} ranks, 2 micro-batches: parameters {off:.3f} off, losses {found} {expected}")
    assert off > 0.1
    # Where one sample in sixteen is trained on, its mean is taken with those of empty batches.
    assert found[LONELY_STEP] < 0.6 * expected[LONELY_STEP]


@pytest.mark.parametrize("ranks", RANKS)
def test_a_step_without_a_valid_token_has_zero_loss_and_gradients(
    trained: Trained, ranks: int
) -> None:
    """And nobody waits for a rank that had nothing to do, there or in the step with one sample."""
    log = trained(ranks, "sgd 2")["logs"][EMPTY_STEP]
    assert log["loss"] == 0
    assert log["grad_norm"] == 0
    assert not any(key.startswith(("loss/", "token_share/")) for key in log)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_logged_losses_of_tasks_add_up_to_the_loss(trained: Trained, ranks: int) -> None:
    for number, log in enumerate(trained(ranks, "sgd 2")["logs"]):
        if number == EMPTY_STEP:
            continue
        shares = {task: log.get(f"token_share/{task}", 0.0) for task in WEIGHTS}
        assert sum(shares.values()) == pytest.approx(1)
        weighted = {task: WEIGHTS[task] * shares[task] for task in WEIGHTS}
        numerator = sum(weighted[task] * log.get(f"loss/{task}", 0.0) for task in WEIGHTS)
        assert log["loss"] == pytest.approx(numerator / sum(weighted.values()), rel=1e-5)
        # A task that is absent has no loss; it is not 0.
        assert ("loss/ocr" in log) == (number != LONELY_STEP)


def weights_of(logs: list[dict[str, Any]]) -> list[list[float]]:
    return [[log[f"weight/{task}"] for task in WEIGHTS] for log in logs]


@pytest.mark.parametrize("name", [plan["name"] for plan in METHOD_PLANS])
@pytest.mark.parametrize("ranks", METHOD_RANKS)
def test_a_method_has_the_same_weights_whatever_the_micro_batches_and_the_ranks(
    trained: Trained, ranks: int, name: str
) -> None:
    found, expected = trained(ranks, name), trained(1, name.split(maxsplit=1)[0])
    np.testing.assert_allclose(weights_of(found["logs"]), weights_of(expected["logs"]), rtol=1e-5)
    assert distance(found, expected) < 1e-6


@pytest.mark.parametrize("ranks", METHOD_RANKS)
def test_the_weights_of_a_step_are_made_of_the_steps_before_it(
    trained: Trained, ranks: int
) -> None:
    for name, formula in (
        ("DWA", lambda told: dwa(told, 3, 2, 0.1)),
        ("local DWA", lambda told: dwa(told, 3, 2, 0.1)),
        ("IGBv1", lambda told: igb(told, 3, 1, 4)),
    ):
        logs = trained(ranks, name)["logs"]
        # An absent task has neither loss nor share.
        told = [
            [(log.get(f"loss/{task}", 0.0), int(f"loss/{task}" in log)) for task in WEIGHTS]
            for log in logs
        ]
        expected = [formula(told[:step]) for step in range(len(told))]
        np.testing.assert_allclose(weights_of(logs), expected, rtol=1e-5)
        assert np.ptp(expected[-1]) > 0.01


@pytest.mark.parametrize("ranks", METHOD_RANKS)
def test_tokens_of_a_step_are_those_of_all_ranks_in_a_mean_of_micro_batches_too(
    trained: Trained, ranks: int
) -> None:
    found, expected = trained(ranks, "local TLA"), trained(1, "TLA")
    np.testing.assert_allclose(weights_of(found["logs"]), weights_of(expected["logs"]), rtol=1e-6)


@pytest.mark.parametrize("ranks", METHOD_RANKS)
def test_the_loss_of_a_step_is_of_its_own_weights(trained: Trained, ranks: int) -> None:
    for method in ("DWA", "IGBv1", "RLW", "TLA"):
        for number, log in enumerate(trained(ranks, method)["logs"]):
            shares = [log.get(f"token_share/{task}", 0.0) for task in WEIGHTS]
            weights = [log[f"weight/{task}"] for task in WEIGHTS]
            weighted = [weight * share for weight, share in zip(weights, shares, strict=True)]
            losses = [log.get(f"loss/{task}", 0.0) for task in WEIGHTS]
            numerator = sum(a * b for a, b in zip(weighted, losses, strict=True))
            if number == EMPTY_STEP:
                assert log["loss"] == 0
            else:
                assert log["loss"] == pytest.approx(numerator / sum(weighted), rel=1e-5)
            if method == "TLA":
                absent = [share == 0 for share in shares]
                assert [weight == 0 for weight in weights] == absent
