"""The arithmetic of the proofs about quality and automatic training, on figures made up here."""

import numpy as np
import pytest
from scipy import stats

from proofs import automatic, quality


def cases():
    for seed, gain in ((0, 0.5), (1, 1.5)):
        for edit, more in (("seal", 0.0), ("board", 2.0)):
            decibel = {"base": 10.0, "nothing": 20.0, "stages": 20.0 + gain + more}
            seconds = {"nothing": 0.1, "stages": 0.05}
            kind = "local" if edit == "seal" else "texture"
            about = {"edit": edit, "kind": kind, "pairs": 6, "seed": seed}
            yield {**about, "decibel": decibel, "seconds": seconds}


def test_seeds_of_an_edit_count_once():
    gains = quality.gains(list(cases()), "stages", pairs=6)
    assert gains == pytest.approx([1.0, 3.0])
    mean, half = quality.interval(gains)
    low, high = stats.t.interval(0.95, 1, loc=np.mean(gains), scale=stats.sem(gains))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_the_table_of_changes():
    (row,) = [line for line in quality.summary(list(cases())).splitlines() if "stages" in line]
    assert row == "| stages | +2.00 ± 12.71 | +1.00 | +3.00 | × 0.50 |"


def test_figures_of_the_automatic_way():
    """Steps count from the first try; what was kept is compared with the last of fixed settings."""
    found = {
        "rate": 1e-3, "tried": 70, "ended": 80, "marked": 40, "lowest": 80,
        "fixed": {"0": 10.0, "100": 19.0, "200": 20.0},
        "automatic": {"0": 10.0, "40": 20.9, "80": 20.5},
        "whole": {"0": 10.0, "100": 20.8, "200": 21.0},
    }  # fmt: skip
    figures = automatic.summary(found)
    assert figures["steps_automatic"] == 110 and figures["steps_fixed"] == float("inf")
    assert figures["gain"] == pytest.approx(0.9)
    assert figures["kept_short_of_whole"] == pytest.approx(0.1)
    assert figures["lowest_loss_short_of_whole"] == pytest.approx(0.5)
    assert figures["all_steps"] == 150


def test_the_rates_whose_runs_are_there_already_are_not_trained_again():
    chosen = automatic.RATES[6]
    found = {f"at {rate:g}": {"0": 10.0, "9": 12.0 + place} for place, rate in
             enumerate(automatic.RATES) if rate not in (1e-4, chosen)}  # fmt: skip
    found |= {"rate": chosen, "fixed": {"0": 10.0, "5": 19.0, "9": 14.0}, "whole": {"9": 18.5}}
    assert automatic.course_at(1e-4, found) == "fixed"
    assert automatic.course_at(chosen, {"rate": chosen}) == f"at {chosen:g}"
    peaks = automatic.peaks(found)
    assert list(peaks.values()) == [12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.5, 19.0, 20.0]
