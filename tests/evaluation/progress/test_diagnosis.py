from string import Formatter

import numpy as np
import pytest
from kontext import language
from kontext.evaluation.progress.curves import Course
from kontext.evaluation.progress.diagnosis import SENTENCES, Symptom, diagnose
from kontext.trainer.loss.curve import falling_fit

from ..runs import STEPS, known_run, make_log

ALARMS = {"rate_too_high", "rate_too_high_held_out", "memorising", "held_out_rises"}


def kinds(log) -> list[str]:
    return [finding.kind for finding in diagnose(Course(log))]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("improving", {"improving"}),
        ("levelled", {"levelled", "stalled"}),  # at a third of the run: either is true
        ("memorising", {"memorising"}),
        ("oscillating", {"rate_too_high"}),
        ("nothing", {"stalled"}),
    ],
)
def test_known_curves_are_told(kind, said):
    """With eight pairs and little noise, in nine of ten runs."""
    right = sum(kinds(known_run(kind, seed, tests=20, pairs=8))[0] in said for seed in range(20))
    assert right >= 18


@pytest.mark.parametrize(
    "noise",
    [
        dict(pairs=5),
        dict(pairs=3, tests=6),
        dict(tests=20, pair_noise=0.04),
        dict(tests=10, shared_noise=0.02),
        dict(pairs=0),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["nothing", "levelled"])
def test_noise_without_a_trend_raises_no_alarm(kind, noise):
    """At most one in twenty, which of 60 runs is 3; 7 is beyond the 99th percentile of that."""
    alarms = sum(bool(ALARMS & {*kinds(known_run(kind, seed, **noise))}) for seed in range(60))
    assert alarms <= 7


def test_numbers_are_those_of_the_curves():
    """Hardly any noise: from -12 % the held-out loss climbs back to -3 %."""
    steps = np.linspace(0.5, 0.3, STEPS)
    curve = np.r_[np.linspace(-0.02, -0.12, 8), np.linspace(-0.11, -0.03, 8)]
    log = make_log(steps, curve, 0, pairs=8, step_noise=0.01, pair_noise=1e-4)
    (finding,) = diagnose(Course(log))
    best, last = curve[4:8].mean(), curve[12:].mean()
    assert finding.kind == "memorising"
    assert finding.numbers["rise"] == pytest.approx(100 * (last - best), rel=0.3)
    assert finding.numbers["low"] < finding.numbers["rise"]
    assert finding.numbers["step"] == round(8 / 16 * STEPS)
    assert f"since step {finding.numbers['step']}" in finding.text


def test_a_rise_that_training_shares_is_not_memorising():
    rising = np.r_[np.linspace(-0.02, -0.12, 8), np.linspace(-0.11, -0.03, 8)]
    log = make_log(np.full(STEPS, 0.4), rising, 3, pairs=8)
    assert kinds(log)[0] in ("held_out_rises", "memorising")
    log = make_log(np.linspace(0.4, 0.44, STEPS), rising, 0, pairs=8, step_noise=0.1)
    assert "memorising" not in kinds(log)


def test_without_enough_held_out_pairs_only_training_is_judged():
    assert kinds(known_run("memorising", pairs=2))[-1] == "few_held_out"
    assert kinds(known_run("improving", pairs=0)) == ["improving_training", "unmeasured"]
    assert kinds(known_run("oscillating", pairs=0)) == ["rate_too_high", "unmeasured"]


def test_a_run_whose_learning_rate_ran_out_is_not_told_that_steps_are_useless():
    """At -12 % from the middle on; the schedule is constant, then cosine."""
    curve = np.r_[np.linspace(-0.02, -0.12, 8), np.full(8, -0.12)]
    log = make_log(np.full(STEPS, 0.4), curve, 0, pairs=8, pair_noise=1e-3)
    assert kinds(log) == ["levelled"]
    for entry in log:
        entry["learning_rate"] = 1e-4 * (1 + np.cos(np.pi * entry["step"] / STEPS)) / 2
    (finding,) = diagnose(Course(log))
    assert finding.kind == "levelled_as_rate_fell"
    assert finding.numbers["rate"] == pytest.approx(8.65, abs=0.1)  # 1/2 - 3 √3 / 4π


def test_the_first_steps_say_nothing():
    assert kinds([]) == ["too_early"]
    assert kinds(known_run("improving")[:40]) == ["too_early"]


def test_measurements_of_few_pairs_are_counted_too():
    """Two pairs decide nothing, but the chart shows that they were measured."""
    few = make_log(np.full(40, 0.4), np.full(4, -0.02), 0, pairs=2)
    early, pairs = diagnose(Course(few))
    assert early.numbers["tests"] == len(Course(few).tested) > 0
    assert pairs.kind == "few_held_out"


def test_falling_fit_is_sklearns_isotonic_regression():
    from sklearn.isotonic import isotonic_regression

    random = np.random.default_rng(0)
    values, weights = random.normal(size=40), random.uniform(0.5, 2, 40)
    theirs = isotonic_regression(values, sample_weight=weights, increasing=False)
    np.testing.assert_allclose(falling_fit(values, weights), theirs, atol=1e-12)


def test_every_symptom_is_said_in_chinese_with_the_same_numbers(monkeypatch):
    for kind, sentence in SENTENCES.items():
        (english,) = [text for text in language.catalogue("zh") if text == sentence_of(sentence)]
        numbers = {name: 7.25 for _, name, _, _ in Formatter().parse(english) if name}
        monkeypatch.setattr(language, "_source", lambda: "zh")
        chinese = Symptom(kind, numbers).text
        assert chinese != english.format(**numbers) and chinese.count("7.25") == english.count("{")
        monkeypatch.undo()


def sentence_of(sentence) -> str:
    """The English template inside."""
    return next(each for each in sentence.__code__.co_consts if isinstance(each, str))
