"""Samples beside the training: which, when, by ComfyUI's own sampler; the LoRA never notices."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.data.pixels import image_of
from kontext.trainer.runs.job import SamplePlan
from PIL import Image

from .short_runs import SHORT, assert_same, last_lora

RED = Image.new("RGB", (64, 64), "red")
WIDE = Image.new("RGB", (96, 64), "blue")


def samples(run):
    return sorted(path.name for path in (run.folder / "samples").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"ema": 0.9}, {"optimizer": "schedulefree"}], ids=str)
def test_the_lora_is_the_same_with_and_without(run_training, change):
    """Bit for bit, and torch's own random stream stands where it would have stood."""
    config = SHORT.replace(**change)
    torch.manual_seed(5)
    plain = run_training(config, name="plain")
    after = torch.get_rng_state()
    torch.manual_seed(5)
    shown = run_training(config, name="shown", samples=SamplePlan(every=1, steps=2, seed=3))
    assert torch.equal(torch.get_rng_state(), after)
    assert len(samples(shown)) == 24 and not samples(plain)
    assert_same(last_lora(shown), last_lora(plain))
    losses = [[entry["loss"] for entry in run.logged()] for run in (shown, plain)]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "every, steps", [(0, [2, 4, 6]), (1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (5, [5, 6])]
)
def test_samples_are_made_every_so_often_and_at_the_end(run_training, every, steps):
    run = run_training(samples=SamplePlan(controls=(RED,), every=every, steps=1))
    assert samples(run) == [f"step_{step:06}.png" for step in steps]


@pytest.mark.slow
def test_every_prompt_on_every_picture(run_training):
    plan = SamplePlan(("swap", "keep"), (RED, WIDE), steps=1, seed=9)
    run = run_training(SHORT.replace(save_every=6), samples=plan)
    names = [f"step_000006{suffix}.png" for suffix in ("", "_2", "_3", "_4")]
    assert samples(run) == names
    pictures = [Image.open(run.folder / "samples" / name) for name in names]
    assert [picture.size for picture in pictures] == [(128, 64)] * 2 + [(192, 64)] * 2
    facts = [json.loads(picture.info["kontext_sample"]) for picture in pictures]
    assert facts[1] == {"step": 6, "prompt": "keep", "seed": 9}
    assert [fact["prompt"] for fact in facts] == ["swap", "keep", "swap", "keep"]
    assert pictures[0].getpixel((5, 5)) == (255, 0, 0)


def test_given_pictures_are_sampled_at_the_first_of_several_resolutions(run_training):
    config = SHORT.replace(steps=1, save_every=1, resolution="64, 96")
    large = Image.new("RGB", (128, 128), "red")
    run = run_training(config, samples=SamplePlan(("swap",), (large,), steps=1))
    strip = Image.open(run.folder / "samples" / "step_000001.png")
    assert strip.size == (128, 64)  # control and result


@pytest.mark.slow
def test_held_out_pairs_are_shown_with_their_targets(run_training, make_pairs, tmp_path):
    more = make_pairs(tmp_path / "pairs", 6).pairs
    held = [replace(pair, split="holdout") for pair in more[4:]]
    run = run_training(pairs=PairedDataset((*more[:4], *held)), samples=SamplePlan(steps=1))
    for number, pair in zip(("", "_2"), held, strict=True):
        strip = Image.open(run.folder / "samples" / f"step_000006{number}.png")
        assert json.loads(strip.info["kontext_sample"])["prompt"] == pair.caption
        for left, path in ((0, pair.controls[0]), (128, pair.target)):
            part = strip.crop((left, 0, left + 64, 64))
            assert np.array_equal(np.asarray(part), np.asarray(Image.open(path)))


@pytest.mark.slow
def test_a_sample_is_what_comfyui_makes_with_the_saved_lora(run_training, base, pairs):
    """Reference: the last checkpoint through ComfyUI's LoRA loader and sampler."""
    plan = SamplePlan(("swap the colours",), steps=3, seed=7, most=1)
    run = run_training(samples=plan)
    pair = pairs.pairs[0]
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(Image.open(pair.controls[0]), np.float32) / 255)
        model = host.with_lora(base.model, last_lora(run), 1.0)
        text = host.encode_text(base.clip, "swap the colours")
        reference = host.encode_image(base.vae, pixels[None])
        latent = host.sample(model, text, [reference], 64, 64, seed=7, steps=3)
        expected = np.asarray(image_of(host.decode_latent(base.vae, latent)), np.int16)
    strip = Image.open(run.folder / "samples" / "step_000006.png")
    found = np.asarray(strip.crop((64, 0, 128, 64)), np.int16)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.slow
def test_the_node_shows_all_samples_of_a_step_at_once(run_training, monkeypatch):
    seen = []
    real = host.Progress.update

    def update(self, done, text="", preview=None):
        if preview is not None:
            seen.append((done, preview.size))
        real(self, done, text, preview)

    monkeypatch.setattr(host.Progress, "update", update)
    run_training(samples=SamplePlan(("swap",), (RED, WIDE), every=3, steps=1))
    assert seen == [(3, (192, 128)), (6, (192, 128))]


@pytest.mark.slow
def test_no_memory_for_samples_is_no_reason_to_stop(run_training, monkeypatch):
    plain = run_training(name="plain")
    real, calls = host.sample, []

    def sample(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise host.OutOfMemory()
        return real(*arguments, **options)

    monkeypatch.setattr(host, "sample", sample)
    run = run_training(samples=SamplePlan(("swap",), (RED,), every=3, steps=1))
    assert samples(run) == ["step_000006.png"]
    assert run.logged()[3]["note"] == "no samples of step 3: out of memory"
    assert_same(last_lora(run), last_lora(plain))
