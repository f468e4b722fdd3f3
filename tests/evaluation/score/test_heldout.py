"""Held-out losses: ComfyUI's own prediction at fixed noise, computed once."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from kontext.dataset.pair import Pair, PairedDataset
from kontext.evaluation.pictures.generate import Setting
from kontext.evaluation.pictures.loras import LoraFile
from kontext.evaluation.score.finalists import PicturePlan
from kontext.evaluation.score.heldout import Draws, LossFile, LossQuery, score_losses
from kontext.evaluation.score.report import as_json, as_table, as_verdicts, draw_chart
from kontext.evaluation.score.score import cost, evenly, score
from kontext.evaluation.score.verdict import BASE
from kontext.trainer import host
from kontext.trainer.batch import load_batch, seeded
from kontext.trainer.config import TrainConfig
from kontext.trainer.data.cache import Cache
from kontext.trainer.families import family_of
from kontext.trainer.loss.flow import sigma_quantiles
from PIL import Image

CONFIG = TrainConfig(resolution=64)
DRAWS = Draws(levels=2, noises=2, seed=5)


@pytest.fixture
def pairs(tmp_path):
    """Ten pairs of 64-pixel pictures, the last four held out."""
    random, made = np.random.default_rng(0), []
    for number in range(10):
        paths = tmp_path / f"{number}_before.png", tmp_path / f"{number}_after.png"
        for path in paths:
            colours = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(colours).resize((64, 64)).save(path)
        split = "holdout" if number > 5 else "train"
        made.append(Pair(f"{number}", (paths[0],), paths[1], "edit", split))
    return PairedDataset(tuple(made))


@pytest.fixture
def lora(make_lora):
    return LoraFile("step 1", make_lora("run_000001", seed=1), 1)


def test_the_loss_is_that_of_comfyuis_own_prediction(base, pairs, lora, tmp_path):
    """apply_model with the stock loader's LoRA, at the same noise and sigma."""
    pair = Cache(tmp_path, base, CONFIG).encode(pairs.holdout[0])
    query = LossQuery(Setting(lora, 0.7), pair, DRAWS)
    ours = score_losses(base, [query], CONFIG, LossFile(tmp_path / "losses.jsonl"))[query]

    model = host.with_lora(base.model, host.load_lora_file(lora.path), 0.7)
    host.load_alone(model, 0)
    batch = load_batch([pair], None, torch.device("cpu"))
    shift = family_of(base.model).shift(batch.target.shape)
    sigmas = sigma_quantiles(torch.tensor([0.25, 0.75]), TrainConfig(), shift)
    expected = np.empty((2, 2))
    for level, draw in np.ndindex(2, 2):
        generator = seeded(5, level * 2 + draw, f"held out {pair.stem}")
        noise = torch.randn(batch.target.shape, generator=generator)
        sigma = sigmas[level]
        noised = sigma * noise + (1 - sigma) * batch.target
        with torch.inference_mode():
            clean = model.model.apply_model(
                noised,
                sigma.view(1),
                c_crossattn=batch.text.cond,
                y=batch.text.pooled,
                guidance=torch.tensor([CONFIG.guidance]),
                ref_latents=list(batch.references),
            )
        velocity = (noised - clean) / sigma
        expected[level, draw] = (velocity - (noise - batch.target)).square().mean()
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_only_what_is_new_is_computed(base, pairs, lora, tmp_path, monkeypatch):
    encoded = [Cache(tmp_path, base, CONFIG).encode(pair) for pair in pairs.holdout]
    computed = []
    predict = host.predict_velocity
    monkeypatch.setattr(
        host, "predict_velocity", lambda *a, **k: computed.append(1) or predict(*a, **k)
    )

    def forwards(settings):
        computed.clear()
        queries = [LossQuery(setting, pair, DRAWS) for setting in settings for pair in encoded]
        losses = score_losses(base, queries, CONFIG, LossFile(tmp_path / "losses.jsonl"))
        return len(computed), [losses[query] for query in queries]

    first, before = forwards([Setting()])
    again, after = forwards([Setting()])
    added, three = forwards([Setting(), Setting(lora), Setting(lora, 0.5)])
    assert (first, again, added) == (16, 0, 32)
    np.testing.assert_array_equal(before, after)
    _, kept = forwards([Setting(lora, 0.5)])
    np.testing.assert_array_equal(kept, three[8:])
    assert not np.allclose(three[:4], three[4:8]) and not np.allclose(three[4:8], three[8:])


def test_a_line_cut_short_by_a_crash_is_computed_again(tmp_path):
    path = tmp_path / "losses.jsonl"
    LossFile(path).add("one", "base", np.ones((2, 1)))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"label": "base", "los')
    assert "one" in LossFile(path) and len(LossFile(path).known) == 1


def test_scoring_leaves_the_random_state_and_the_weights_alone(base, pairs, lora, tmp_path):
    before, state = host.base_hash(base.model), torch.get_rng_state()
    pair = Cache(tmp_path, base, CONFIG).encode(pairs.holdout[0])
    score_losses(
        base, [LossQuery(Setting(lora), pair, DRAWS)], CONFIG, LossFile(tmp_path / "l.jsonl")
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert host.base_hash(base.model) == before


@pytest.mark.slow
def test_the_cost_said_first_is_what_is_spent(base, pairs, lora, tmp_path):
    plan = PicturePlan(pairs=2, sampling_steps=1, off_task="make it green")
    first, more, sampling = cost(1, pairs, 1, plan)
    found = score(base, [lora], pairs, (1.0,), CONFIG, tmp_path / "cache", tmp_path, plan)
    file = LossFile(tmp_path / "scores" / "losses.jsonl")
    spent = sum(len(np.ravel(losses)) for losses in file.known.values())
    assert first == 2 * 8 * 4
    assert first < spent <= first + more
    assert len(list((tmp_path / "samples").glob("*.png"))) == sampling == 2 * 2 * 2
    assert found.pictures[BASE].drift == 0 < found.pictures[0].drift


@pytest.mark.slow
def test_pictures_without_a_control_are_scored_by_their_target_alone(base, pairs, lora, tmp_path):
    """How much of an edit was made cannot be said where nothing was edited."""
    alone = PairedDataset(tuple(replace(pair, controls=()) for pair in pairs))
    plan = PicturePlan(pairs=2, sampling_steps=1)
    found = score(base, [lora], alone, (1.0,), CONFIG, tmp_path / "cache", tmp_path, plan)
    seen = found.pictures[0]
    assert np.isfinite([seen.psnr, seen.ssim, *seen.each_psnr]).all()
    assert np.isnan([seen.done, seen.direction, seen.preserved]).all()
    assert "nan" not in as_table(found) + as_verdicts(found)
    assert json.loads(as_json(found)) and draw_chart(found)


def test_training_pairs_are_spread_over_the_dataset(pairs):
    assert [pair.stem for pair in evenly(pairs.train, 4)] == ["0", "2", "3", "5"]
