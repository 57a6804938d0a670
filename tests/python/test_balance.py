"""The mathematics on arrays, against published and worked numbers, and its invariants."""

from __future__ import annotations

import numpy as np
import pytest

import visatb

# Three tasks: mini, and each with mini (tests/vectors/scores_full.json).
MINI = [0.4, 60.0, 30.0]
WITH_MINI = [[0.5, 62.0, 33.0], [0.42, 70.0, 36.0], [0.39, 61.0, 60.0]]


def random_measures(units: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return tuple(generator.uniform(0.05, 0.4, size=(3, units)))


def test_the_authors_published_block_is_met_to_the_last_digits(vector):
    block = vector("academic_7b.json")
    balance = visatb.balance_weights(
        block["outward"], block["inward"], 1.0 - np.array(block["mini_over_full"])
    )
    expected = block["expected"]
    assert balance.temperature == 0.5
    np.testing.assert_allclose(balance.weights, expected["weights"], rtol=1e-12)
    np.testing.assert_allclose(
        balance.components,
        [expected["out"], expected["in"], expected["difficulty"]],
        rtol=1e-12,
    )


def test_contribution_is_the_share_of_what_training_on_the_task_itself_brings():
    contribution = visatb.contribution(WITH_MINI, MINI)
    expected = [[1.0, 0.2, 0.1], [0.2, 1.0, 0.2], [-0.1, 0.1, 1.0]]
    np.testing.assert_allclose(contribution, expected, rtol=1e-12)


def test_means_leave_out_the_diagonal():
    means = visatb.contribution_means([[1.0, 0.2, 0.1], [0.2, 1.0, 0.2], [-0.1, 0.1, 1.0]])
    np.testing.assert_allclose(means.outward, [0.15, 0.2, 0.0], atol=1e-15)
    np.testing.assert_allclose(means.inward, [0.05, 0.15, 0.15], rtol=1e-12)


def test_difficulty_is_what_little_training_misses():
    difficulty = visatb.difficulty(MINI, np.diag(WITH_MINI))
    np.testing.assert_allclose(difficulty, [0.2, 1.0 / 7.0, 0.5], rtol=1e-12)


def test_difficulty_turns_its_ratio_where_lower_is_better():
    difficulty = visatb.difficulty([40.0, 10.0], [50.0, 8.0], lower_is_better=[False, True])
    np.testing.assert_allclose(difficulty, [0.2, 0.2], rtol=1e-12)


def test_groups_average_metrics_within_a_task_and_tasks_within_a_group(vector):
    case = vector("scores_groups.json")
    runs, expected = case["scores"]["runs"], case["expected"]

    def flat(run):
        return [run["a"]["em"], run["b"]["cider"], run["b"]["bleu"], run["c"]["acc"],
                run["d"]["ppl"], run["e"]["iou"]]  # fmt: skip

    layout = {
        "metric_task": [0, 1, 1, 2, 3, 4],
        "task_unit": [0, 0, 1, 1, 2],
        "lower_is_better": [False, False, False, False, True, False],
    }
    mini, trained = flat(runs["mini"]), [flat(runs["with_mini"][u]) for u in expected["units"]]
    own = [trained[unit][metric] for metric, unit in enumerate([0, 0, 0, 1, 1, 2])]

    contribution = visatb.contribution(trained, mini, **layout)
    difficulty = visatb.difficulty(mini, own, **layout)
    balance = visatb.balance_weights(*visatb.contribution_means(contribution), difficulty)

    np.testing.assert_allclose(contribution, expected["contribution"], rtol=1e-9)
    np.testing.assert_allclose(difficulty, expected["difficulty"], rtol=1e-9)
    assert balance.temperature == expected["temperature"]
    by_unit = [expected["weights"][task] for task in ("a", "c", "e")]
    np.testing.assert_allclose(balance.weights, by_unit, rtol=1e-9)


@pytest.mark.parametrize("units", [2, 7, 300])
def test_weights_and_components_sum_to_the_number_of_tasks(units):
    balance = visatb.balance_weights(*random_measures(units), temperature=0.5)
    assert balance.weights.sum() == pytest.approx(units, rel=1e-12)
    np.testing.assert_allclose(balance.components.sum(axis=1), units, rtol=1e-12)


def test_permuting_the_tasks_permutes_the_weights():
    measures = random_measures(9)
    order = np.random.default_rng(1).permutation(9)
    weights = visatb.balance_weights(*measures).weights
    permuted = visatb.balance_weights(*(measure[order] for measure in measures)).weights
    np.testing.assert_allclose(permuted, weights[order], rtol=1e-12)


def test_a_high_temperature_makes_all_weights_equal():
    balance = visatb.balance_weights(*random_measures(7), temperature=1e9)
    np.testing.assert_allclose(balance.weights, 1.0, atol=1e-9)


def test_what_tasks_give_is_what_tasks_receive():
    matrix = np.random.default_rng(2).normal(size=(12, 12))
    means = visatb.contribution_means(matrix)
    assert means.outward.sum() == pytest.approx(means.inward.sum(), rel=1e-12)


def test_softmax_weights_are_n_times_a_softmax():
    expected = 3 * np.exp([0.2, 0.4, 0.0]) / np.exp([0.2, 0.4, 0.0]).sum()
    np.testing.assert_allclose(visatb.softmax_weights([0.1, 0.2, 0.0], 0.5), expected, rtol=1e-12)


def test_alphas_choose_the_mixture():
    outward, inward, difficulty = random_measures(5)
    balance = visatb.balance_weights(
        outward, inward, difficulty, alphas=(1.0, 0.0, 0.0), temperature=0.5
    )
    np.testing.assert_allclose(balance.weights, visatb.softmax_weights(outward, 0.5), rtol=1e-12)


def test_improvement_is_a_fraction_of_the_baseline_with_its_sign_turned_for_losses():
    assert visatb.improvement([55.0], [50.0]) == pytest.approx(0.1)
    assert visatb.improvement([55.0, 9.0], [50.0, 10.0], lower_is_better=[False, True]) == (
        pytest.approx(0.1)
    )


def test_improvement_summary_is_in_percent():
    summary = visatb.improvement_summary([0.1, -0.02, 0.04])
    assert summary.delta_improvement == pytest.approx(4.0)
    assert summary.delta_error == pytest.approx(2.0 / 3.0)


def test_lists_integers_and_strided_arrays_are_taken_as_they_are():
    strided = np.zeros((3, 6))
    strided[:, ::2] = WITH_MINI
    np.testing.assert_array_equal(
        visatb.contribution(strided[:, ::2], np.array(MINI)[:, None][:, 0]),
        visatb.contribution(WITH_MINI, MINI),
    )
    assert visatb.improvement([2], [1]) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: visatb.contribution([1.0, 2.0], [1.0, 2.0]),
            "trained has shape (2,); expected 2 axes",
        ),
        (
            lambda: visatb.contribution(WITH_MINI, [1.0, 2.0]),
            "baseline has length 2; expected 3",
        ),
        (
            lambda: visatb.contribution([[1.0, 2.0, 3.0]] * 2, [1.0, 2.0, 3.0]),
            "3 metrics of 2 tasks need metric_task, the task of each metric",
        ),
        (
            lambda: visatb.contribution(WITH_MINI, MINI, task_unit=[0, 1, -2]),
            "task_unit = [0, 1, -2]; expected a list of integers of 0 or more",
        ),
        (
            lambda: visatb.contribution(WITH_MINI, MINI, lower_is_better=[1, 0, 0]),
            "lower_is_better is int64 of shape (3,); expected bool of shape (3,)",
        ),
        (
            lambda: visatb.contribution_means([[1.0, 2.0]]),
            "contribution has shape (1, 2); expected a square",
        ),
        (
            lambda: visatb.balance_weights([0.1, 0.2], [0.1], [0.1, 0.2]),
            "inward has length 1; expected 2",
        ),
        (
            lambda: visatb.balance_weights(*random_measures(3), temperature=0.0),
            'temperature = 0.0; expected "auto" or a number above 0',
        ),
        (
            lambda: visatb.balance_weights(*random_measures(3), alphas=(0.5, 0.5)),
            "alphas = (0.5, 0.5); expected three numbers: out, in, difficulty",
        ),
        (
            lambda: visatb.balance_weights(*random_measures(3), temperature=[1]),
            'temperature = [1]; expected "auto" or a number above 0',
        ),
        (
            lambda: visatb.softmax_weights([0.1, 0.2], [1]),
            "temperature = [1]; expected a number above 0",
        ),
        (
            lambda: visatb.balance_weights(*random_measures(3), range=(0.5,)),
            "range = (0.5,); expected two numbers: low, high",
        ),
        (
            lambda: visatb.balance_weights(*random_measures(3), range=("0.5", None)),
            "range = ('0.5', None); expected two numbers: low, high",
        ),
        (
            lambda: visatb.balance_weights(*random_measures(3), alphas="123"),
            "alphas = '123'; expected three numbers: out, in, difficulty",
        ),
        (
            lambda: visatb.difficulty([0.1, 0.2], [0.2, 0.3], task_unit=[0, 10**12]),
            "task_unit has 1000000000000 among 2; they are counted from 0 without a gap",
        ),
        (
            lambda: visatb.difficulty([0.1, 0.2], [0.2, 0.3], metric_task=[0, 2**62]),
            "metric_task has 4611686018427387904 among 2; they are counted from 0 without a gap",
        ),
        (
            lambda: visatb.improvement(["much"], [1.0]),
            "scores is not an array of numbers: could not convert string to float: 'much'",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_named(call, message):
    with pytest.raises(visatb.ArgumentError) as error:
        call()
    assert str(error.value) == message


def test_scalars_of_numpy_are_numbers():
    measures = random_measures(3)
    balance = visatb.balance_weights(
        *measures,
        temperature=np.float32(0.5),
        alphas=np.array([0.25, 0.25, 0.5]),
        range=np.array([0.1, 3]),
    )
    np.testing.assert_array_equal(
        balance.weights, visatb.balance_weights(*measures, temperature=0.5).weights
    )
    np.testing.assert_array_equal(
        visatb.softmax_weights([1.0, 2.0], np.array(2)), visatb.softmax_weights([1.0, 2.0], 2)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: visatb.difficulty([0.1], [0.2], task_unit=[[0], [0, 1]]),
        lambda: visatb.contribution([[1.0, np.nan], [1.0, 2.0]], [0.5, 0.5]),
        lambda: visatb.contribution([[1.0]], [0.5]),
        lambda: visatb.contribution(WITH_MINI, MINI, task_unit=[0, 1, 7]),
        lambda: visatb.softmax_weights([0.1, 0.2], -1.0),
        lambda: visatb.balance_weights(*random_measures(3), alphas=(0.5, 0.5, 0.5)),
        lambda: visatb.balance_weights(*random_measures(3), range=(1.5, 2.0)),
    ],
)
def test_what_the_library_finds_wrong_with_an_argument_is_a_value_error(call):
    with pytest.raises(visatb.ArgumentError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: visatb.contribution([[1.0, 2.0], [1.0, 0.4]], [0.5, 0.5]),  # got worse
        lambda: visatb.contribution([[0.5, 2.0], [1.0, 0.9]], [0.5, 0.5]),  # did not move
        lambda: visatb.difficulty([0.1, 0.2], [0.0, 0.3]),
        lambda: visatb.improvement([1.0], [0.0]),
        lambda: visatb.balance_weights([0.0, 9.0], [0.0, 0.0], [0.0, 9.0]),  # no temperature fits
    ],
)
def test_scores_that_carry_no_weights_are_a_data_error(call):
    with pytest.raises(visatb.DataError):
        call()


def test_a_negative_denominator_can_be_let_through():
    contribution = visatb.contribution(
        [[1.0, 0.6], [1.0, 0.4]], [0.5, 0.5], allow_negative_denominator=True
    )
    np.testing.assert_allclose(contribution, [[1.0, -1.0], [1.0, 1.0]], rtol=1e-12)
