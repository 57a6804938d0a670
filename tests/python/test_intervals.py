"""The bootstrap on arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest

import visatb
from visatb.intervals import (
    Layout,
    Mix,
    Scores,
    apart_from,
    apart_in_pairs,
    check_options,
    generator_of,
    percentile_interval,
    resample_balance,
    resampled_means,
)

MIX = Mix((0.25, 0.25, 0.5), 0.5)


def plain(units: int) -> Layout:
    """Every unit is a task with one metric, and higher is better."""
    return Layout(np.zeros(units, dtype=bool), np.arange(units), np.arange(units))


def full(trained, baseline) -> Scores:
    """The full form's scores; both with resamples in front or without."""
    own = np.einsum("...ii->...i", trained)
    return Scores(trained, baseline, baseline, own)


TRAINED = np.array([[70.0, 42, 33], [62, 50, 34], [61, 41, 60]])
BASELINE = np.array([60.0, 40, 30])


# --- means ----------------------------------------------------------------------------------------


def test_a_mean_is_that_of_the_samples_that_were_drawn():
    values = np.random.default_rng(0).normal(size=(50, 3))
    means = resampled_means(values, 20, generator_of(3, "vqa"))
    drawn = generator_of(3, "vqa").integers(50, size=(20, 50))
    np.testing.assert_allclose(means, values[drawn].mean(axis=1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("block", [1, 7, 500, 1001, 10**6])
def test_the_bits_do_not_depend_on_the_block(block):
    values = 100 * np.random.default_rng(0).random((250, 41))
    expected = resampled_means(values, 300, generator_of(0, "vqa"))
    found = resampled_means(values, 300, generator_of(0, "vqa"), block=block)
    np.testing.assert_array_equal(found, expected)


def test_the_bits_do_not_depend_on_the_order_in_which_a_blas_adds():
    values = np.random.default_rng(0).gamma(0.3, 1e5, size=(300, 4))
    means = resampled_means(values, 50, generator_of(0, "vqa"))
    one_by_one = [
        resampled_means(values[:, [column]], 50, generator_of(0, "vqa"))[:, 0]
        for column in range(4)
    ]
    np.testing.assert_array_equal(means.T, one_by_one)


@pytest.mark.parametrize("value", [0.1, 61.2, -1e-300, 5e-324, 1e149])
def test_equal_values_have_that_mean_to_the_bit(value):
    means = resampled_means(np.full((17, 2), value), 40, generator_of(0, "vqa"))
    np.testing.assert_array_equal(means, value)


def test_values_may_be_as_small_as_numbers_are():
    values = np.array([[0.0], [5e-324], [1e-310]])
    means = resampled_means(values, 200, generator_of(0, "vqa"))
    assert means.min() == 0.0
    assert 0.9e-310 < means.max() <= 1e-310


def test_tasks_and_seeds_have_draws_of_their_own():
    values = np.random.default_rng(0).normal(size=(40, 1))
    draws = [
        resampled_means(values, 500, generator_of(seed, task))[:, 0]
        for seed in (0, 1)
        for task in ("vqa", "ocr")
    ]
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.15


def test_the_spread_of_the_means_is_the_standard_error():
    values = np.random.default_rng(0).normal(size=(400, 1))
    means = resampled_means(values, 4000, generator_of(0, "vqa"))
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=values.std() / 20 / 15)


# --- resamples of the measurement -----------------------------------------------------------------


def test_a_resample_is_what_the_functions_of_balance_give():
    noise = np.random.default_rng(0).normal(size=(5, 3, 3))
    resampled = full(TRAINED + noise, BASELINE + noise[:, 0])
    result = resample_balance(full(TRAINED, BASELINE), resampled, plain(3), MIX)
    for index in range(5):
        one = Scores(*(array[index] for array in resampled))
        contribution = visatb.contribution(one.trained, one.baseline)
        means = visatb.contribution_means(contribution)
        hard = visatb.difficulty(one.low, one.high)
        np.testing.assert_array_equal(result.contribution[index], contribution)
        np.testing.assert_array_equal(result.outward[index], means.outward)
        np.testing.assert_array_equal(result.inward[index], means.inward)
        np.testing.assert_array_equal(result.difficulty[index], hard)
        balanced = visatb.balance_weights(*means, hard, temperature=0.5)
        np.testing.assert_array_equal(result.weights[index], balanced.weights)


def one_resample(alphas=MIX.alphas, lower=False, **changes):
    """The scores themselves as the only resample, with these entries changed."""
    trained, baseline = TRAINED.copy(), BASELINE.copy()
    for name, (index, value) in changes.items():
        {"trained": trained, "baseline": baseline}[name][index] = value
    layout = plain(3)._replace(lower_is_better=np.full(3, lower))
    return resample_balance(
        full(TRAINED, BASELINE) if not lower else full(100 - TRAINED, 100 - BASELINE),
        full(trained[None], baseline[None])
        if not lower
        else full(100 - trained[None], 100 - baseline[None]),
        layout,
        Mix(alphas, 0.5),
    )


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("score", [39.0, 40.0, 40.0 + 1e-9])
def test_a_task_that_its_own_training_does_not_help_is_refused_and_the_others_are_not(score, lower):
    result = one_resample(lower=lower, trained=((1, 1), score))
    lost = np.isnan(result.contribution[0])
    np.testing.assert_array_equal(lost, [[0, 1, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(np.isnan(result.inward[0]), [0, 1, 0])
    # Its own outward mean has no such denominator.
    np.testing.assert_array_equal(np.isnan(result.outward[0]), [1, 0, 1])
    assert not np.isnan(result.difficulty).any()
    assert np.isnan(result.weights).all()
    np.testing.assert_array_equal(result.denominator_refused[0], [0, 1, 0])
    kept = one_resample(lower=lower)
    np.testing.assert_array_equal(result.contribution[0][~lost], kept.contribution[0][~lost])
    assert result.outward[0, 1] == kept.outward[0, 1]


def test_a_score_that_difficulty_cannot_divide_by_is_refused():
    shifted = [array - 45.0 for array in (TRAINED, BASELINE)]
    moved = shifted[0].copy()
    moved[1, 1] = 0.0  # measured: 5
    result = resample_balance(
        full(*shifted), full(moved[None], shifted[1][None]), plain(3), Mix((0.5, 0.5, 0.0), 1.0)
    )
    np.testing.assert_array_equal(np.isnan(result.difficulty[0]), [0, 1, 0])
    assert not np.isnan(result.contribution).any()
    assert not np.isnan(result.weights).any()  # difficulty has no share in them
    result = resample_balance(full(*shifted), full(moved[None], shifted[1][None]), plain(3), MIX)
    assert np.isnan(result.weights).all()


def test_where_lower_is_better_difficulty_divides_by_the_score_after_little_training():
    layout = plain(3)._replace(lower_is_better=np.array([False, True, False]))
    trained, baseline = TRAINED.copy(), BASELINE.copy()
    trained[1, 1] = 30.0
    measured = full(trained, baseline)
    drawn = Scores(*(array[np.newaxis].copy() for array in measured))
    drawn.high[0, 1] = -1.0
    assert not np.isnan(resample_balance(measured, drawn, layout, MIX).difficulty).any()
    drawn.low[0, 1] = 0.0
    lost = np.isnan(resample_balance(measured, drawn, layout, MIX).difficulty)
    np.testing.assert_array_equal(lost, [[False, True, False]])


@pytest.mark.parametrize(
    ("alphas", "lost"), [((0, 0, 1), False), ((1, 0, 0), True), ((0, 1, 0), True)]
)
def test_weights_are_refused_only_for_what_has_a_share_in_them(alphas, lost):
    result = one_resample(alphas, trained=((1, 1), 39.0))
    assert np.isnan(result.weights).all() == lost
    assert np.isnan(result.weights).any() == lost


def test_where_the_measurement_itself_has_a_negative_denominator_a_positive_one_is_refused():
    measured = full(np.where(np.eye(3) == 1, BASELINE - 5, TRAINED), BASELINE)
    both = np.stack([measured.trained, TRAINED])
    resampled = full(both, np.stack([BASELINE, BASELINE]))
    result = resample_balance(measured, resampled, plain(3), MIX)
    assert not np.isnan(result.weights[0]).any()
    assert np.isnan(result.weights[1]).all()


def test_a_resample_too_far_apart_for_finite_numbers_is_refused():
    result = one_resample(trained=((0, 1), 1e308), baseline=(1, 50 - 1e-6))
    assert result.denominator_refused.all()
    assert np.isnan(result.weights).all()


# --- intervals ------------------------------------------------------------------------------------


def test_the_interval_leaves_the_same_share_on_both_sides():
    values = np.random.default_rng(0).permutation(np.arange(201.0))
    np.testing.assert_allclose(percentile_interval(values, 0.9), [10, 190], rtol=1e-14)
    np.testing.assert_allclose(percentile_interval(values, 0.5), [50, 150], rtol=1e-14)


def test_a_refused_resample_lies_beyond_both_ends():
    values = np.arange(201.0)
    values[[7, 100, 180]] = np.nan
    # Below the low end lie these three and 0 to 6; above the high end these and 194 to 200.
    np.testing.assert_allclose(percentile_interval(values, 0.9), [8, 193], rtol=1e-14)


@pytest.mark.parametrize(("refused", "expected"), [(49, False), (50, True), (2000, True)])
def test_there_is_no_interval_where_as_many_are_refused_as_lie_beyond_an_end(refused, expected):
    values = np.linspace(0, 1, 2000)
    values[1000 - refused // 2 : 1000 - refused // 2 + refused] = np.nan
    low, high = percentile_interval(values, 0.95)
    assert math.isnan(low) == math.isnan(high) == expected


def test_apart_is_what_an_interval_leaves_out():
    values = np.random.default_rng(0).normal(size=(2000, 3)) * 0.1 + [1.5, 1.1, 0.5]
    np.testing.assert_array_equal(apart_from(values, 1.0, 0.95), [True, False, True])
    values[:60, 0] = np.nan
    np.testing.assert_array_equal(apart_from(values, 1.0, 0.95), [False, False, True])
    assert not apart_from(np.full((50, 1), 1.0 + 2e-16), 1.0, 0.95).any()


def test_pairs_are_told_apart_by_their_difference_in_each_resample():
    # They move together: their intervals overlap, and the difference is never 0.
    common = np.random.default_rng(0).normal(size=2000)
    weights = np.stack([common, common + 0.1, common[::-1]], axis=1)
    np.testing.assert_array_equal(
        apart_in_pairs(weights, 0.95), [[False, True, False], [False] * 3, [False] * 3]
    )


def test_intervals_cover_the_true_weight_as_often_as_they_say():
    """Samples are drawn from a population whose weights are known; 3 tasks, 0 or 100 a sample."""
    probabilities = np.vstack([TRAINED, BASELINE]) / 100
    true = resample_balance(
        full(TRAINED, BASELINE), full(TRAINED[None], BASELINE[None]), plain(3), MIX
    ).weights[0]
    generator = np.random.default_rng(1)
    covered = []
    for repeat in range(100):
        means = []
        for task in range(3):
            # What is answered in one run is likelier to be answered in another.
            luck = generator.normal(size=(600, 1)) + 0.7 * generator.normal(size=(600, 4))
            values = np.where(luck < _limits(probabilities[:, task]), 100.0, 0.0)
            drawn = resampled_means(values, 200, generator_of(repeat, str(task)))
            means.append(np.vstack([values.mean(axis=0), drawn]))
        scores = np.stack(means, axis=-1)  # [1 + B, run, task]
        both = full(scores[:, :3], scores[:, 3])
        result = resample_balance(
            Scores(*(array[0] for array in both)),
            Scores(*(array[1:] for array in both)),
            plain(3),
            MIX,
        )
        low, high = percentile_interval(result.weights, 0.95)
        covered.append((low <= true) & (true <= high))
    assert 0.90 <= np.mean(covered) <= 0.99


def _limits(probabilities):
    """Below which a normal of variance 1.49 falls with these probabilities."""
    grid = np.linspace(-6, 6, 12001)
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in grid])
    return math.sqrt(1.49) * np.interp(probabilities, below, grid)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (39, 0.95, 0),
            "resamples = 39; expected an integer of 40 or more at a confidence of 0.95",
        ),
        (
            (199, 0.99, 0),
            "resamples = 199; expected an integer of 200 or more at a confidence of 0.99",
        ),
        (
            (1e3, 0.95, 0),
            "resamples = 1000.0; expected an integer of 40 or more at a confidence of 0.95",
        ),
        (
            (True, 0.1, 0),
            "resamples = True; expected an integer of 3 or more at a confidence of 0.1",
        ),
        ((2000, 1.0, 0), "confidence = 1.0; expected a number between 0 and 1"),
        ((2000, math.nan, 0), "confidence = nan; expected a number between 0 and 1"),
        ((2000, "95%", 0), "confidence = '95%'; expected a number between 0 and 1"),
        ((2000, 0.95, -1), "seed = -1; expected an integer of 0 or more"),
        ((2000, 0.95, 0.5), "seed = 0.5; expected an integer of 0 or more"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(visatb.ArgumentError) as caught:
        check_options(*options)
    assert str(caught.value) == message


def test_the_fewest_resamples_will_do():
    check_options(40, 0.95, np.int64(7))
    check_options(200, 0.99, 2**70)
