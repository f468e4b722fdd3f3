"""Verdicts on simulated runs whose truth is known by construction."""

import numpy as np
import pytest
from kontext.evaluation.score.verdict import BASE, Label, Losses, Series, judge, shortlist
from kontext.trainer.statistics import paired_interval

STEPS = np.arange(1, 11) * 100


def run(holdout, training, pairs=8, seed=0, scatter=0.1, jitter=0.002):
    """A series whose mean gain at each checkpoint is given, as shares of the base loss.

    Pairs differ in difficulty (30 %) and in how much they gain (`scatter` of the gain), and every
    loss has its own small noise (`jitter`), as fixed-noise losses do.
    """
    rng = np.random.default_rng(seed)
    level = 0.4 * rng.lognormal(0, 0.3, (pairs, 4, 1))
    ease = 1 + scatter * rng.normal(size=(pairs, 1, 1))

    def losses(gain):
        noise = jitter * rng.normal(size=(pairs, 4, 1))
        return level * (1 - gain * ease + noise)

    series = [Losses(losses(h), losses(t)) for h, t in zip(holdout, training, strict=True)]
    return Series(Losses(losses(0), losses(0)), series)


def labels(series):
    return [verdict.label for verdict in judge(series).verdicts]


RISING = 0.10 * (1 - np.exp(-STEPS / 150))
SLOW = 0.10 * STEPS / 3000
OVERFIT_HELD = 0.08 * (STEPS / 300) * np.exp(1 - STEPS / 300)
OVERFIT_TRAIN = 0.25 * (1 - np.exp(-STEPS / 400))


def test_a_run_that_converges_is_good_from_its_plateau_on():
    judgement = judge(run(RISING, RISING * 1.1))
    found = [verdict.label for verdict in judgement.verdicts]
    assert found[0] is Label.UNDER_FITTED
    assert found[-3:] == [Label.GOOD] * 3
    assert Label.OVER_FITTED not in found and Label.DIVERGED not in found
    # the plateau's first checkpoints: 95 % of the gain is reached at step 450
    assert 400 <= STEPS[judgement.recommended] <= 800


def test_a_run_stopped_too_early_asks_for_more_training():
    judgement = judge(run(SLOW, SLOW))
    assert judgement.verdicts[-1].label is Label.STILL_IMPROVING
    assert {verdict.label for verdict in judgement.verdicts[:-1]} == {Label.UNDER_FITTED}
    assert judgement.recommended == len(STEPS) - 1
    assert "train longer" in judgement.note


def test_an_over_fitted_run_recommends_the_checkpoint_at_its_peak():
    judgement = judge(run(OVERFIT_HELD, OVERFIT_TRAIN))
    found = [verdict.label for verdict in judgement.verdicts]
    assert STEPS[judgement.recommended] in (200, 300, 400)
    assert found[0] is Label.UNDER_FITTED
    assert found[-3:] == [Label.OVER_FITTED] * 3
    assert all(judgement.verdicts[-1].gap > verdict.gap for verdict in judgement.verdicts[:5])


def test_losing_training_pairs_too_is_divergence():
    fall = np.where(STEPS > 500, -0.2, RISING)
    assert labels(run(fall, fall))[-5:] == [Label.DIVERGED] * 5


def test_a_loss_that_is_not_a_number_is_divergence_and_leaves_the_others_alone():
    series = run(RISING, RISING)
    series.checkpoints[-1].holdout[:] = np.nan
    judgement = judge(series)
    assert judgement.verdicts[-1].label is Label.DIVERGED
    assert judgement.verdicts[-2].label is Label.GOOD


def test_weights_that_stand_still_have_no_effect():
    still = np.zeros(10)
    judgement = judge(run(still, still, jitter=0.0005))
    assert {verdict.label for verdict in judgement.verdicts} == {Label.NO_EFFECT}
    assert judgement.recommended is None


def test_learning_the_training_pairs_only_is_over_fitting():
    """As with pairs whose targets are noise, or hold-out pairs of another edit."""
    assert labels(run(-OVERFIT_TRAIN, OVERFIT_TRAIN))[-3:] == [Label.OVER_FITTED] * 3


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_three_pairs_carry_no_verdict(pairs):
    judgement = judge(run(RISING, RISING, pairs=pairs))
    assert {verdict.label for verdict in judgement.verdicts} == {Label.UNDECIDED}
    assert judgement.recommended is None


def test_pairs_that_disagree_carry_no_verdict():
    """The mean gain is positive, but some pairs gain and as many lose."""
    judgement = judge(run(RISING, RISING, pairs=5, scatter=4.0, seed=3))
    assert {verdict.label for verdict in judgement.verdicts} <= {Label.UNDECIDED, Label.NO_EFFECT}


def test_right_runs_are_hardly_ever_called_over_fitted():
    """200 plateaus with pairs that differ: at most 5 % of the runs get a false over-fitted."""
    wrong = sum(
        Label.OVER_FITTED in labels(run(RISING, 1.3 * RISING, seed=seed, scatter=0.3, jitter=0.004))
        for seed in range(200)
    )
    assert wrong <= 10


def test_a_loss_on_some_pairs_only_is_not_over_fitting():
    """The mean falls by a quarter of the gain, but half of the pairs do not fall at all."""
    series = run([0.1, 0.1, 0.075], [0.1, 0.15, 0.2], scatter=0.05)
    swing = np.where(np.arange(8) % 2, 1.05, 0.95)[:, None, None]
    series.checkpoints[-1].holdout[:] *= swing
    deficit = paired_interval(series.holdout_difference(2, 1))
    assert deficit.low < 0 < deficit.error < deficit.mean  # neither tied nor clear
    assert labels(series)[-1] is Label.GOOD


def test_the_best_is_a_finalist_even_if_fresh_noise_is_harder():
    series = run(RISING, RISING)
    finalists = shortlist(series)
    harder = run(RISING / 2, RISING / 2, seed=1)
    fresh = {place: harder.losses(place).holdout for place in (BASE, *finalists)}
    assert judge(Series(series.base, series.checkpoints, fresh)).best in finalists


def test_the_best_is_decided_on_fresh_noise():
    """A checkpoint that was only lucky in the screening loses to the one that is good again."""
    series = run(RISING, RISING)
    lucky = series.checkpoints[2]
    lucky.holdout[:] *= 0.85
    finalists = shortlist(series)
    assert 2 in finalists
    again = run(RISING, RISING, seed=1)
    fresh = {place: again.losses(place).holdout for place in (BASE, *finalists)}
    assert judge(series).best == 2
    assert judge(Series(series.base, series.checkpoints, fresh)).best != 2
