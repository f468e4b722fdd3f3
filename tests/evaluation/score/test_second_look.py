"""Judgements after a look at pictures, on simulated runs whose truth is known by construction."""

import numpy as np
import pytest
from kontext.evaluation.score.second_look import look_again
from kontext.evaluation.score.verdict import BASE, Label, Losses, Rules, Series, judge

RULES = Rules()


def run(holdout, training, seed=0, pairs=8):
    """Losses whose gains at each checkpoint are these shares of the base model's."""
    rng = np.random.default_rng(seed)
    level = 0.4 * rng.lognormal(0, 0.3, (pairs, 4, 1))

    def losses(gain):
        return level * (1 - gain + 0.002 * rng.normal(size=(pairs, 4, 1)))

    series = [Losses(losses(h), losses(t)) for h, t in zip(holdout, training, strict=True)]
    return Series(Losses(losses(0), losses(0)), series)


def pictures(gains, seed=0, pairs=8, scatter=0.1):
    """PSNR of checkpoints that are so many decibel better than the base model on the average.

    Pairs differ in difficulty by 3 dB, and each in how much it gains by `scatter` decibel.
    """
    rng = np.random.default_rng(seed)
    base = 18 + 3 * rng.normal(size=pairs)
    found = {p: base + g + scatter * rng.normal(size=pairs) for p, g in gains.items()}
    return {BASE: base, **found}


def looked_at(series, seen):
    judgement = look_again(series, judge(series), seen, RULES)
    return judgement, [verdict.label for verdict in judgement.verdicts]


LOSS_FALLS = ([0.06, 0.10, 0.08, 0.05, 0.02], [0.06, 0.12, 0.16, 0.2, 0.22])


def test_a_loss_that_rises_is_no_over_fitting_where_pictures_stay_good():
    series = run(*LOSS_FALLS)
    assert judge(series).verdicts[-1].label is Label.OVER_FITTED
    judgement, found = looked_at(series, pictures({0: 1.0, 1: 2.0, 2: 2.0, 3: 2.0, 4: 2.0}))
    assert found == [Label.UNDER_FITTED, *[Label.GOOD] * 4]
    assert judgement.good == (1, 2, 3, 4)
    assert "2.0 dB nearer to the true results" in judgement.verdicts[1].reason


def test_the_earliest_whose_pictures_are_as_good_as_the_best_is_recommended():
    """0.1 dB behind is good as well, but not recommended; 0.04 dB behind is."""
    seen = pictures({0: 1.0, 1: 2.0, 2: 2.06, 3: 2.1, 4: 2.05}, scatter=0.0)
    judgement, found = looked_at(run(*LOSS_FALLS), seen)
    assert found == [Label.UNDER_FITTED, *[Label.GOOD] * 4]
    assert judgement.best == 3 and judgement.recommended == 2 and judgement.good[0] == 1


def test_pictures_that_fall_are_over_fitting_if_training_pairs_gain_and_else_divergence():
    seen = pictures({0: 1.0, 1: 2.0, 2: 1.2, 3: 0.8, 4: 0.2})
    judgement, found = looked_at(run(*LOSS_FALLS), seen)
    assert found[2:] == [Label.OVER_FITTED] * 3 and judgement.recommended == 1
    fall = [0.06, 0.10, 0.05, 0.02, -0.1]
    assert looked_at(run(fall, fall), seen)[1][2:] == [Label.DIVERGED] * 3


def test_losses_that_fall_have_no_effect_where_no_picture_changes():
    gain = [0.05, 0.08, 0.1]
    judgement, found = looked_at(run(gain, gain), pictures({0: 0.0, 1: 0.05, 2: 0.1}))
    assert found == [Label.NO_EFFECT] * 3 and judgement.recommended is None
    assert "No checkpoint's pictures are nearer" in judgement.note


@pytest.mark.parametrize(
    "training, label", [([0.2, 0.3], Label.OVER_FITTED), ([-0.2, -0.3], Label.DIVERGED)]
)
def test_pictures_worse_than_the_base_models(training, label):
    judgement, found = looked_at(run([-0.3, -0.4], training), pictures({0: -2.0, 1: -3.0}))
    assert found == [label] * 2 and judgement.best is None


def test_the_last_and_clearly_the_best_asks_for_more_training():
    gain = [0.02, 0.05, 0.08]
    judgement, found = looked_at(run(gain, gain), pictures({0: 0.5, 1: 1.0, 2: 1.5}))
    assert found == [Label.UNDER_FITTED, Label.UNDER_FITTED, Label.STILL_IMPROVING]
    assert judgement.recommended == 2 and "train longer" in judgement.note


def test_what_was_not_looked_at_is_judged_as_its_neighbour_of_equal_losses():
    series = run(*LOSS_FALLS)
    judgement, found = looked_at(series, pictures({0: 1.0, 1: 2.0, 2: 2.1, 3: 2.1}))
    assert found[4] is Label.GOOD and "neighbour" in judgement.verdicts[4].reason
    series = run([*LOSS_FALLS[0][:4], -0.5], [*LOSS_FALLS[1][:4], -0.5])
    assert looked_at(series, pictures({1: 2.0, 2: 2.1, 3: 2.1}))[1][4] is Label.DIVERGED


def test_three_pairs_of_pictures_change_nothing():
    series = run(*LOSS_FALLS)
    assert look_again(series, judge(series), pictures({0: 1.0, 1: 2.0}, pairs=3), RULES) == judge(
        series
    )
    assert look_again(series, judge(series), {}, RULES) == judge(series)


def test_plateaus_are_hardly_ever_called_over_fitted():
    """200 runs whose pictures stay equally good but for chance, also with 4 pairs only."""
    for pairs in (4, 8):
        wrong = 0
        for seed in range(200):
            seen = pictures(
                {0: 1.0, 1: 2.0, 2: 2.0, 3: 2.0, 4: 2.0}, seed, pairs=pairs, scatter=0.2
            )
            wrong += Label.OVER_FITTED in looked_at(run(*LOSS_FALLS, seed, pairs), seen)[1]
        assert wrong <= 10
