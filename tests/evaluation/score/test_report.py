"""The table, the sentences and the chart say what was measured."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kontext.evaluation.pictures.loras import LoraFile
from kontext.evaluation.score.displacement import Displacement
from kontext.evaluation.score.finalists import PictureSummary
from kontext.evaluation.score.report import (
    COLOURS,
    advice,
    as_csv,
    as_json,
    as_table,
    as_verdicts,
    draw_chart,
)
from kontext.evaluation.score.score import Scores, StrengthScore, bands
from kontext.evaluation.score.verdict import BASE, Label, Losses, Series, judge
from kontext.trainer.statistics import Interval


def scores_of(gains, strengths=(), pictures=None, pairs=8):
    """Runs in which every pair gains alike: held-out and training shares of the base loss."""

    def losses(held, trained):
        level = 0.4 + 0.01 * np.arange(pairs)[:, None, None] * np.ones((1, 4, 1))
        return Losses(level * (1 - held), level * (1 - trained))

    series = Series(losses(0, 0), [losses(*gain) for gain in gains])
    loras = tuple(
        LoraFile(f"step {100 * n}", Path(f"ring_{100 * n:06d}.safetensors"), 100 * n)
        for n in range(1, len(gains) + 1)
    )
    several = tuple(StrengthScore(s, Interval(g, g - 0.01, g + 0.01, 0.005)) for s, g in strengths)
    return Scores(loras, series, judge(series), several, pictures or {})


OVER = [(0.06, 0.06), (0.10, 0.11), (0.10, 0.13), (0.06, 0.16), (0.02, 0.2)]


def test_the_advice_names_the_checkpoint_the_strength_and_the_range():
    found = scores_of(OVER, strengths=[(0.6, 0.07), (0.8, 0.098), (1.0, 0.1)])
    assert advice(found) == "Keep step 200 at strength 1. Just as good: step 200 to step 300."


@pytest.mark.parametrize(
    "gains, best",
    [
        ([(0.6, 0.05), (0.8, 0.10), (1.0, 0.07), (1.2, 0.02)], 0.8),
        ([(0.6, 0.05), (0.8, 0.099), (1.0, 0.1), (1.2, 0.101)], 1.0),
        ([(0.8, 0.08), (1.0, 0.09), (1.2, 0.11)], 1.2),
    ],
)
def test_the_strength_is_the_best_or_the_tied_one_nearest_to_one(gains, best):
    assert scores_of(OVER, strengths=gains).best_strength == best


def test_csv_json_and_table_agree():
    found = scores_of(OVER)
    records = list(csv.DictReader(io.StringIO(as_csv(found))))
    content = json.loads(as_json(found))
    assert [r["verdict"] for r in records] == [c["verdict"] for c in content["checkpoints"]]
    assert content["best"] == "ring_000200.safetensors" and content["best_step"] == 200
    assert float(records[1]["gain"]) == pytest.approx(0.10)
    lines = as_table(found).splitlines()
    assert lines[2].startswith(">  step 200") and lines[3].startswith("=  step 300")
    assert "10.0%" in lines[2] and "over-fitted" in lines[5]


def test_numbers_that_do_not_exist_are_null_in_json():
    content = json.loads(as_json(scores_of(OVER, pairs=2)))
    assert content["checkpoints"][0]["gain_low"] is None and content["best"] is None


def test_pictures_that_hardly_change_are_part_of_the_advice():
    weak = PictureSummary(18, 0.6, 0.4, 0.18, float("nan"), 0.0, float("nan"), (17.0, 19.0))
    found = scores_of(OVER, pictures={1: weak})
    assert advice(found).endswith("Its pictures show only 18% of the edit.")
    assert "only 18% of the edit" in as_verdicts(found).splitlines()[3]
    assert "18.0 dB" in as_table(found)


def test_a_checkpoint_that_moves_the_picture_is_named_with_the_numbers():
    still = PictureSummary(18, 0.6, 0.4, 0.8, 30.0, 0.0, float("nan"), (17.0, 19.0))
    pictures = {
        place: replace(still, displacement=Displacement(*moved))
        for place, moved in {BASE: (0.3, 1.001, 0), 1: (2.1, 0.98, 12)}.items()
    }
    found = scores_of(OVER, pictures=pictures)
    for words in (
        "It shifts the picture by 2.1 px (base model: 0.3 px).",
        "It zooms the picture by -2.0% (base model: +0.1%).",
        "It gives the picture a border of 12 px (base model: 0 px).",
    ):
        assert words in advice(found) and words in as_verdicts(found).splitlines()[3]
    content = json.loads(as_json(found))["checkpoints"]
    assert content[1]["picture_shift"] == 2.1 and content[0]["picture_shift"] is None
    assert "2.1 px" in as_table(found) and "-2.0%" in as_table(found)


def test_bands_tell_texture_from_composition():
    found = scores_of([(0.0, 0.0)])
    found.series.checkpoints[0].holdout[:, -1] *= 0.5
    assert bands(found.series, 0) == pytest.approx((0, 0, 0.5))


def test_the_chart_shows_each_verdict_in_its_colour():
    found = scores_of(OVER)
    found = replace(found, loras=tuple(replace(lora, label="a$_$b") for lora in found.loras))
    pixels = np.asarray(draw_chart(found)).reshape(-1, 3).astype(int)
    for label in (Label.UNDER_FITTED, Label.GOOD, Label.OVER_FITTED):
        colour = [int(COLOURS[label][i : i + 2], 16) for i in (1, 3, 5)]
        band = 255 - 0.16 * (255 - np.array(colour))
        assert (np.abs(pixels - band).max(1) <= 1).mean() > 0.02
    assert not (np.abs(pixels - [198, 40, 57]).max(1) <= 1).any()  # nothing diverged


def test_the_chart_shows_how_much_nearer_pictures_are():
    made = {
        place: PictureSummary(psnr, 0.8, 0.5, 0.6, 30.0, 0.0, float("nan"), (psnr,))
        for place, psnr in ((BASE, 18.0), (0, 19.0), (1, 20.0))
    }
    purple = [0x7B, 0x3F, 0xA0]
    for pictures, shown in ((made, True), (None, False)):
        chart = draw_chart(scores_of(OVER, pictures=pictures))
        pixels = np.asarray(chart).reshape(-1, 3).astype(int)
        assert bool((np.abs(pixels - purple).max(1) <= 1).any()) == shown
