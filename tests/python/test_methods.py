"""Methods whose weights change from step to step, against their formulas in plain Python."""

from __future__ import annotations

import base64
import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from method_formulas import Step, dwa, igb, normals, philox_4x32_10, softmax

from visatb import METHODS, ArgumentError, DataError, Method

TIGHT = {"rtol": 1e-12, "atol": 0}


def random_steps(count: int, tasks: int, seed: int, absent: float = 0.4) -> list[Step]:
    """Losses that fall by task at their own rate; tasks that are often not there."""
    source = np.random.default_rng(seed)
    rates = source.uniform(0.9, 1.01, tasks).tolist()
    steps = []
    for number in range(count):
        step = []
        for rate in rates:
            tokens = 0 if source.random() < absent else int(source.integers(1, 5000))
            loss = 3 * max(rate**number, 1e-3) * source.uniform(0.5, 1.5)
            step.append((loss * tokens, tokens))
        steps.append(step)
    return steps


def tell(method: Method, step: Step) -> None:
    method.update([nll for nll, _ in step], [tokens for _, tokens in step])


@pytest.mark.parametrize("tasks", range(1, 9))
def test_dwa_is_its_formula(tasks: int) -> None:
    for seed, (window, temperature) in enumerate([(25, 2.0), (3, 0.7), (1, 5.0)]):
        steps = random_steps(160, tasks, 10 * tasks + seed)
        method = Method("DWA", tasks, window=window, temperature=temperature)
        for told in range(len(steps)):
            expected = dwa(steps[:told], tasks, window, temperature)
            np.testing.assert_allclose(method.weights(), expected, **TIGHT, err_msg=str(told))
            tell(method, steps[told])


@pytest.mark.parametrize("tasks", range(1, 9))
def test_igbv1_is_its_formula(tasks: int) -> None:
    for seed, (first, end) in enumerate([(100, 200), (0, 5), (7, 8)]):
        steps = random_steps(end + 60, tasks, 10 * tasks + seed)
        method = Method("IGBv1", tasks, base_steps=(first, end))
        for told in range(len(steps)):
            expected = igb(steps[:told], tasks, first, end)
            np.testing.assert_allclose(method.weights(), expected, **TIGHT, err_msg=str(told))
            tell(method, steps[told])


@pytest.mark.parametrize("tasks", range(1, 9))
def test_rlw_is_its_formula(tasks: int) -> None:
    for seed in (0, 1, 2**32, 2**64 - 1):
        method = Method("RLW", tasks, seed=seed)
        for step in range(100):
            expected = softmax(normals(seed, step, tasks))
            np.testing.assert_allclose(method.weights(), expected, **TIGHT)
            method.update()


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_generator_has_its_published_answers(
    counter: list[int], key: list[int], words: str
) -> None:
    assert philox_4x32_10(counter, key) == [int(word, 16) for word in words.split()]


def test_rlws_numbers_are_standard_normal() -> None:
    """Of their differences, which are what the weights show: log(w_i / w_j) = x_i - x_j."""
    tasks, steps = 400, 50
    method = Method("RLW", tasks, seed=5)
    drawn = []
    for _ in range(steps):
        logarithms = np.log(method.weights())
        # The mean over 400 tasks of the draws is 0 to 0.05; it is not in the weights.
        drawn.append((logarithms - logarithms.mean()) / math.sqrt(1 - 1 / tasks))
        method.update()
    numbers = np.sort(np.concatenate(drawn))
    count = len(numbers)
    assert abs(numbers.mean()) < 4 / math.sqrt(count)
    assert abs((numbers**2).mean() - 1) < 4 * math.sqrt(2 / count)
    assert abs((numbers**3).mean()) < 4 * math.sqrt(15 / count)
    assert abs((numbers**4).mean() - 3) < 4 * math.sqrt(96 / count)
    distribution = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in numbers])
    # Kolmogorov and Smirnov, at 1 in 1000.
    assert np.abs(distribution - np.arange(1, count + 1) / count).max() < 1.95 / math.sqrt(count)
    # No two steps, neighbouring tasks or neighbouring steps have to do with one another.
    table = np.array(drawn)
    for a, b in ((table[:, :-1], table[:, 1:]), (table[:-1], table[1:])):
        assert abs((a * b).mean()) < 4 / math.sqrt(a.size)


def test_rlw_differs_by_step_and_seed_and_not_by_anything_else() -> None:
    seen = set()
    for seed in range(20):
        method = Method("RLW", 3, seed=seed)
        for _ in range(20):
            assert method.weights().tobytes() == method.weights([5, 0, 7]).tobytes()
            seen.add(method.weights().tobytes())
            method.update([1.0, 2.0, 3.0], [1, 1, 1])
    assert len(seen) == 400


def test_ew_is_1_and_tla_is_1_by_tokens() -> None:
    tokens = [3, 0, 7, 2**62]
    assert Method("EW", 4).weights().tolist() == [1.0] * 4
    assert Method("TLA", 4).weights(tokens).tolist() == [1 / 3, 0.0, 1 / 7, 2.0**-62]
    assert Method("TLA", 2).weights([0, 0]).tolist() == [0.0, 0.0]


def test_ew_and_tla_read_no_losses() -> None:
    for name in ("EW", "TLA", "RLW"):
        method = Method(name, 2)
        assert not method.reads_losses
        method.update()
        method.update([math.nan, -1.0], [1, 1])
    assert Method("DWA", 2).reads_losses
    assert Method("IGBv1", 2).reads_losses


def make(name: str, tasks: int, **options: Any) -> Method:
    """With windows that are soon full."""
    return Method(name, tasks, **{"window": 4, "base_steps": (3, 6), **options})


@pytest.mark.parametrize("name", ["RLW", "DWA", "IGBv1"])
def test_weights_are_positive_and_sum_to_the_number_of_tasks(name: str) -> None:
    method = make(name, 6)
    for step in random_steps(40, 6, 1):
        weights = method.weights()
        assert weights.min() > 0
        assert weights.sum() == pytest.approx(6, rel=1e-14)
        tell(method, step)
    assert weights.max() > 1.01


@pytest.mark.parametrize("name", ["EW", "TLA", "DWA", "IGBv1"])
def test_permuting_tasks_permutes_weights(name: str) -> None:
    order = [4, 2, 0, 1, 3]
    method, permuted = make(name, 5), make(name, 5)
    for step in random_steps(30, 5, 2):
        other = [step[task] for task in order]
        weights = method.weights([tokens for _, tokens in step])
        np.testing.assert_allclose(
            permuted.weights([tokens for _, tokens in other]), weights[order], rtol=1e-14
        )
        tell(method, step)
        tell(permuted, other)


@pytest.mark.parametrize("name", METHODS)
def test_a_restored_method_goes_on_with_the_same_bits(name: str) -> None:
    source = np.random.default_rng(9)
    steps = random_steps(60, 4, 3)
    method = make(name, 4, seed=11)
    following: dict[int, Method] = {}
    for number, step in enumerate(steps):
        tokens = [tokens for _, tokens in step]
        weights = method.weights(tokens).tobytes()
        for started, other in following.items():
            assert other.weights(tokens).tobytes() == weights, (started, number)
            tell(other, step)
        tell(method, step)
        if source.random() < 0.3:
            other = make(name, 4, seed=11)
            # It forgets what it was told before.
            tell(other, steps[0])
            other.load_state_dict(method.state_dict())
            following[number] = other
    assert len(following) > 10
    assert {other.state_dict()["state"] for other in following.values()} == {
        method.state_dict()["state"]
    }


def test_a_state_goes_through_json_and_copies_go_their_own_way() -> None:
    method = make("DWA", 2, temperature=0.3)
    for step in random_steps(9, 2, 4):
        tell(method, step)
    state = method.state_dict()
    text = json.dumps({**state, "state": base64.b64encode(state["state"]).decode()})
    read = json.loads(text)
    other = make("DWA", 2, temperature=0.3)
    other.load_state_dict({**read, "state": base64.b64decode(read["state"])})
    copies = [other, copy.deepcopy(method), pickle.loads(pickle.dumps(method))]
    before = method.weights().tobytes()
    assert [each.weights().tobytes() for each in copies] == [before] * 3
    for _ in range(3):
        tell(copies[1], [(1.0, 1), (50.0, 1)])
    assert copies[1].weights().tobytes() != before
    assert method.weights().tobytes() == before


def test_an_option_that_a_method_does_not_read_does_not_count() -> None:
    Method("DWA", 2, seed=1, base_steps=(0, 1)).load_state_dict(Method("DWA", 2).state_dict())
    Method("RLW", 2, window=1, temperature=9).load_state_dict(Method("RLW", 2).state_dict())
    Method("IGBv1", 2, window=1, seed=2).load_state_dict(Method("IGBv1", 2).state_dict())


def test_losses_at_the_ends_of_what_is_finite_give_finite_weights() -> None:
    largest, smallest = 1.7976931348623157e308, 5e-324
    for name in ("DWA", "IGBv1"):
        method = make(name, 3)
        for _ in range(6):
            method.update([smallest, largest, 0.0], [1, 1, 1])
        for _ in range(4):
            method.update([largest, smallest, 1.0], [1, 1, 1])
        weights = method.weights()
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(3)


def test_a_task_that_came_with_the_second_window_or_lost_all_of_its_loss_has_ratio_1() -> None:
    method = make("DWA", 3, temperature=1.0)
    for number in range(8):
        late = number >= 4
        method.update([4.0, 0.0, 2.0 if late else 0.0], [2, 3, 1 if late else 0])
    assert method.weights().tolist() == [1.0, 1.0, 1.0]


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: Method("dwa", 3),
        ArgumentError,
        "method = 'dwa'; expected one of EW, TLA, RLW, DWA, IGBv1",
    ),
    (
        lambda: Method("EW", 0),
        ArgumentError,
        "tasks = 0; expected an integer in [1, 2^63 - 1]",
    ),
    (lambda: Method("EW", 2.0), ArgumentError, "tasks = 2.0; expected an integer"),  # type: ignore[arg-type]
    (lambda: Method("EW", True), ArgumentError, "tasks = True; expected an integer"),
    (
        lambda: Method("RLW", 3, seed=-1),
        ArgumentError,
        "seed = -1; expected an integer in [0, 2^64 - 1]",
    ),
    (
        lambda: Method("DWA", 3, window=0),
        ArgumentError,
        "window = 0; expected an integer in [1, 2^62]",
    ),
    (
        lambda: Method("DWA", 3, temperature="2"),  # type: ignore[arg-type]
        ArgumentError,
        "temperature = '2'; expected a number above 0",
    ),
    (
        lambda: Method("DWA", 3, temperature=0),
        ArgumentError,
        "visatb_method_create: temperature = 0; expected a finite number above 0",
    ),
    (
        lambda: Method("IGBv1", 3, base_steps=(5, 5)),
        ArgumentError,
        "base_steps = (5, 5); expected (first, end) with first below end",
    ),
    (
        lambda: Method("IGBv1", 3, base_steps=(-1, 5)),
        ArgumentError,
        "base_steps = -1; expected an integer in [0, 2^62]",
    ),
    (
        lambda: Method("DWA", 2**40, window=2**40),
        ArgumentError,
        "visatb_method_create: tasks = 1099511627776, window = 1099511627776; expected losses that "
        "fit into memory",
    ),
    (
        lambda: Method("TLA", 2).weights(),
        ArgumentError,
        "visatb_method_weights: task_tokens is NULL; expected 2 values",
    ),
    (
        lambda: Method("TLA", 2).weights([1, -1]),
        ArgumentError,
        "visatb_method_weights: task_tokens[1] = -1; expected 0 or more",
    ),
    (
        lambda: Method("TLA", 2).weights([1.0, 2.0]),
        ArgumentError,
        "task_tokens = [1.0, 2.0]; expected integers",
    ),
    (
        lambda: Method("EW", 2).weights([1, 2, 3]),
        ArgumentError,
        "task_tokens has shape (3,); expected (2,)",
    ),
    (
        lambda: Method("DWA", 2).update(["a", "b"], [1, 1]),
        ArgumentError,
        "task_nll = ['a', 'b']; expected numbers",
    ),
    (
        lambda: Method("DWA", 2).update(),
        ArgumentError,
        "visatb_method_update: task_nll is NULL; expected 2 values",
    ),
    (
        lambda: Method("DWA", 2).load_state_dict(b"VISATBMS"),
        ArgumentError,
        "state = b'VISATBMS'; expected what Method.state_dict returned",
    ),
    (
        lambda: Method("DWA", 2).load_state_dict({**Method("DWA", 2).state_dict(), "state": "a"}),
        ArgumentError,
        "state['state'] is a str; expected bytes",
    ),
    (
        lambda: Method("DWA", 2).load_state_dict(Method("IGBv1", 2).state_dict()),
        DataError,
        "the state is of a method with name = 'IGBv1'; expected 'DWA'",
    ),
    (
        lambda: Method("DWA", 2).load_state_dict(Method("DWA", 3).state_dict()),
        DataError,
        "the state is of a method with tasks = 3; expected 2",
    ),
    (
        lambda: Method("DWA", 2).load_state_dict(Method("DWA", 2, window=3).state_dict()),
        DataError,
        "visatb_method_restore: the state is of a method with window = 3; expected 25",
    ),
]


@pytest.mark.parametrize(("refused", "error", "message"), REFUSED)
def test_a_refusal_says_what_is_wrong(
    refused: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        refused()
    assert str(caught.value) == message
