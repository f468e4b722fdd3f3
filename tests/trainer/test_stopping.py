"""Ending in time: what decides it, on curves of known truth, and what becomes of the run."""

import numpy as np
import pytest
from kontext.dataset.pair import PairedDataset
from kontext.trainer import stopping
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.host import Interrupted
from kontext.trainer.loss.curve import has_levelled_off, rise_from_best
from kontext.trainer.runs.ending import Ending, ending_of, plan_of

from .short_runs import SHORT, assert_same, interrupt_after, last_lora

TESTS, PAIRS = 20, 8


def curve(truth, seed, jitter=0.01, pairs=PAIRS):
    """Shares of the base's loss [measurement, pair]: every pair gains up to 30 % more or less than
    the truth, all together scatter from one measurement to the next, and each by itself."""
    random = np.random.default_rng(seed)
    gains = 1 + 0.3 * random.normal(size=pairs)
    together = random.normal(0, jitter / 2, (len(truth), 1))
    return 1 + truth[:, None] * gains + together + random.normal(0, jitter, (len(truth), pairs))


def first_stop(truth, seed, says=has_levelled_off, **noise):
    """The measurement at which a run of this truth is stopped; None if at none."""
    shares = curve(truth, seed, **noise)
    return next((end for end in range(4, len(shares) + 1) if says(shares[:end])), None)


def test_a_run_that_goes_on_improving_is_not_stopped():
    """By a twentieth of its whole gain in every measurement, to the end."""
    improving = -0.5 * np.linspace(0.05, 1, TESTS)
    assert sum(first_stop(improving, seed) is not None for seed in range(100)) <= 5


def test_a_run_that_has_levelled_off_is_stopped_soon():
    """The gain has come within a twentieth of its end after the sixth measurement."""
    levelled = -0.5 * (1 - np.exp(-0.5 * np.arange(1, TESTS + 1)))
    stops = [first_stop(levelled, seed) or TESTS for seed in range(100)]
    assert np.median(stops) <= 14 and np.percentile(stops, 90) < TESTS and min(stops) >= 7


def test_what_gains_nothing_is_not_called_levelled_off():
    assert sum(first_stop(np.zeros(TESTS), seed) is not None for seed in range(100)) <= 5


@pytest.mark.slow
def test_a_rise_stops_and_scatter_does_not():
    def past(shares):
        return rise_from_best(shares) is not None

    falling = -0.4 * (1 - np.exp(-0.6 * np.arange(1, TESTS + 1)))
    rising = falling + 0.03 * np.maximum(0, np.arange(TESTS) - 8)
    stops = [first_stop(rising, seed, past) or TESTS + 1 for seed in range(100)]
    assert np.percentile(stops, 90) <= 16
    assert sum(first_stop(falling, seed, past) is not None for seed in range(100)) <= 5


# ---- a whole run ---------------------------------------------------------------------------

EARLY = SHORT.replace(steps=40, stop="levelled_off", validate_every=2, schedule="constant")


@pytest.fixture
def held(make_pairs, tmp_path):
    """Four pairs to train on and three held out."""
    found = [*make_pairs(tmp_path / "pairs", 7)]
    from dataclasses import replace

    return PairedDataset((*found[:4], *(replace(pair, split="holdout") for pair in found[4:])))


@pytest.fixture
def levelled_at(monkeypatch):
    """Says that the held-out pairs have levelled off from this step on."""

    def at(step):
        def reason(shares, steps, stop):
            return {"late": 1.0, "change": -20.0} if steps[-1] >= step else {}

        monkeypatch.setattr(stopping, "reason", reason)

    return at


@pytest.mark.slow
def test_an_early_end_lets_the_rate_fall_over_the_last_tenth(run_training, held, levelled_at):
    levelled_at(18)
    run = run_training(EARLY, pairs=held)
    log = run.logged()
    assert run.finished and log[-1]["step"] == run.last_step() == 20 == run.checkpoints()[-1].step
    rates = [entry["learning_rate"] for entry in log]
    assert rates[17:] == pytest.approx([1e-2, 1e-2, 0.5e-2])  # of steps 18, 19, 20
    assert "Ends at step 20 instead of 40" in log[17]["note"]
    assert ending_of(run.folder).why == "levelled_off"


@pytest.mark.slow
def test_a_run_killed_in_its_last_tenth_ends_as_if_it_had_not_been(
    run_training, held, levelled_at, monkeypatch
):
    levelled_at(18)
    config = EARLY.replace(save_every=100)
    straight = run_training(config, pairs=held)
    for step in (19, 18):  # within the last tenth, and right at the decision
        with monkeypatch.context() as patch:
            interrupt_after(patch, step)
            with pytest.raises(Interrupted):
                run_training(config, name=f"cut {step}", pairs=held)
        run = run_training(config, name=f"cut {step}", pairs=held)
        assert run.finished and run.last_step() == 20
        assert_same(last_lora(straight), last_lora(run))


@pytest.mark.slow
def test_run_again_with_another_stop_goes_on(run_training, held, levelled_at):
    levelled_at(18)
    run = run_training(EARLY, pairs=held)
    again = run_training(EARLY, pairs=held)
    assert again.logged()[-1]["step"] == 20, "it has finished"
    run_training(EARLY.replace(stop="last_step", steps=24), pairs=held)
    log = run.logged()
    assert log[-1]["step"] == 24 and ending_of(run.folder) is None
    assert log[20]["learning_rate"] == pytest.approx(1e-2)
    assert run.finished


@pytest.mark.slow
def test_what_was_measured_before_an_end_that_was_lifted_decides_nothing(
    run_training, held, levelled_at
):
    levelled_at(10)
    run_training(EARLY.replace(steps=30), pairs=held)
    run = run_training(EARLY.replace(steps=40), pairs=held)
    steps = [entry["step"] for entry in run.logged() if "Ends at step" in entry.get("note", "")]
    assert steps == [10, 12], "at step 10, to end at 11; then at the next measurement"


def test_without_a_schedule_it_ends_at_once(held):
    config = EARLY.replace(optimizer="schedulefree")
    found = stopping.HeldOutCurve()
    for step in range(1, 21):
        share = 0.5 + 0.5 * np.exp(-step)
        found.add({"step": step, "holdout": [share] * 3, "holdout_base": [1.0] * 3})
    assert stopping.ending(found, config, 20).step == 20
    assert stopping.ending(found, EARLY, 20).step == 22


def test_an_end_that_is_as_near_as_the_plans_is_none():
    curve = stopping.HeldOutCurve([2, 4, 6, 8, 10, 12, 14], [[0.5] * 3] * 7)
    assert stopping.ending(curve, EARLY.replace(steps=16), 14) is None
    assert stopping.ending(curve, EARLY.replace(steps=17), 14).step == 16


def test_automatic_steps_end_early_where_pairs_are_held_out():
    assert TrainConfig().settled(30, True, 3).stop == "levelled_off"
    assert TrainConfig().settled(30, True, 2).stop == "last_step"
    assert TrainConfig(steps=500).settled(30, True, 8).stop == "last_step"
    with pytest.raises(ConfigError, match="at least 3 held-out pairs, but there are 2"):
        TrainConfig(stop="past_best").settled(30, True, 2)


def test_an_ending_is_written_and_read_back(tmp_path):
    from kontext.trainer.runs.ending import write_ending

    config = TrainConfig(steps=40, learning_rate=3.3e-5)
    ending = Ending(18, 20, "past_best", {"rise": 3.1, "best": 12}, plan_of(config))
    write_ending(tmp_path, ending)
    read = ending_of(tmp_path)
    assert (
        read == ending and read.holds_for(config) and not read.holds_for(config.replace(steps=41))
    )
    write_ending(tmp_path, None)
    assert ending_of(tmp_path) is None
