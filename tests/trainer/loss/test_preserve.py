"""Other instructions keep the answers they had; this one is still learnt."""

from dataclasses import replace

import pytest
import torch
from kontext.dataset.pair import DatasetError
from kontext.trainer import host
from kontext.trainer.batch import Batch, load_batch
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.data.cache import Cache
from kontext.trainer.families import family_of
from kontext.trainer.loss.preserve import prediction_drift
from kontext.trainer.network.attach import attached
from kontext.trainer.runs.export import read_lora

from ..short_runs import assert_same, last_lora

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    steps=60, rank=8, learning_rate=5e-3, save_every=60, dtype="fp32", save_dtype="fp32",
    preview_steps=0, schedule="constant", caption_dropout=0.0, preserve_every=1,
    preserve_prompts="Make the sky darker.\nAdd snow to the scene.",
)  # fmt: skip


def test_drift_is_what_the_lora_changes(base, make_batch, make_lora):
    """Reference: ComfyUI's prediction with and without the LoRA's own forward."""
    batch, lora = make_batch(2), make_lora(base.network)
    sigma, noise = torch.tensor([0.3, 0.8]), torch.randn(batch.references[0].shape)
    noised = torch.lerp(batch.references[0], noise, sigma.view(-1, 1, 1, 1))

    def predict():
        return host.predict_velocity(
            base.model.model, noised, sigma, batch.text, batch.references, 1.0
        )

    with host.differentiable():
        without = predict().detach()
        with attached(base.network, lora, host.FrozenLinear, host.is_linear):
            drift = prediction_drift(
                family_of(base.model), lora, batch, sigma, noise, TrainConfig(), torch.float32
            )
            drift.sum().backward()
            with torch.no_grad():
                moved = predict()
    expected = (moved - without).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(drift, expected, rtol=1e-4, atol=1e-8)
    assert all(parameter.grad.abs().sum() > 0 for parameter in lora.parameters())
    assert lora.strength == 1.0


def test_a_plain_lora_starts_from_its_target(base, make_batch, make_lora):
    batch: Batch = replace(make_batch(1), references=())
    sigma, noise = torch.tensor([0.5]), torch.randn(batch.target.shape)
    with (
        host.differentiable(),
        attached(base.network, lora := make_lora(base.network), host.FrozenLinear, host.is_linear),
    ):
        drift = prediction_drift(
            family_of(base.model), lora, batch, sigma, noise, TrainConfig(), torch.float32
        )
    assert drift.item() > 0


@pytest.fixture
def drift_and_loss(run_training, base, weights, pairs, tmp_path):
    """drift(config, caption): of a run's LoRA, merged into the weights by hand; and its losses."""

    def predictions(tensors, caption, cache):
        found = []
        for pair in pairs:
            batch = load_batch([cache.encode(replace(pair, caption=caption))], None, CPU)
            noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(1))
            for level in (0.3, 0.6, 0.9):
                noised = torch.lerp(batch.references[0], noise, level)
                options = dict(
                    context=batch.text.cond, y=batch.text.pooled, guidance=torch.ones(1),
                    ref_latents=[*batch.references],
                )  # fmt: skip
                inputs = noised, torch.tensor([level])
                found.append(torch.func.functional_call(base.network, tensors, inputs, options))
        return torch.cat(found)

    def measure(config, *captions):
        run = run_training(config, name=f"preserve {config.preserve}")
        low_rank, alpha = read_lora(last_lora(run))
        merged = dict(weights)
        for name in {key.rpartition(".")[0] for key in low_rank}:
            change = low_rank[f"{name}.up"] @ low_rank[f"{name}.down"] * alpha / config.rank
            merged[f"{name}.weight"] = weights[f"{name}.weight"] + change
        with torch.inference_mode():
            cache = Cache(tmp_path / "cache", base, config)
            drifts = [
                (predictions(merged, text, cache) - predictions(weights, text, cache))
                .square()
                .mean()
                .item()
                for text in captions
            ]
        return drifts, [entry["loss"] for entry in run.logged()]

    return measure


@pytest.mark.slow
def test_other_instructions_drift_less_and_this_one_is_learnt(drift_and_loss, pairs):
    """Drift on an instruction that is neither learnt nor preserved."""
    (free,), losses = drift_and_loss(CONFIG, "Make it rain.")
    (kept,), kept_losses = drift_and_loss(CONFIG.replace(preserve=1.0), "Make it rain.")
    assert kept < 0.7 * free
    for run in (losses, kept_losses):
        assert sum(run[-10:]) < 0.7 * sum(run[:10])
    assert sum(kept_losses[-10:]) < 1.1 * sum(losses[-10:])


def test_what_the_training_draws_is_the_same_with_it(run_training):
    """At the first step the LoRA does nothing yet, so that there is nothing to pull back."""
    config = CONFIG.replace(steps=4, caption_dropout=0.5, reference_dropout=0.5)
    without = run_training(config, name="without")
    at_first = run_training(config.replace(preserve=1.0, preserve_every=1000), name="at first")
    assert_same(last_lora(at_first), last_lora(without))
    assert [entry.get("drift") for entry in at_first.logged()] == [0.0, None, None, None]


def test_no_instruction_is_preserved_unless_it_is_to_work():
    config = CONFIG.replace(preserve_prompts=" Add snow. \n\n")
    assert config.preserved == ("Add snow.", "")
    assert config.replace(caption_dropout=0.05).preserved == ("Add snow.",)
    with pytest.raises(ConfigError, match="preserve_prompts"):
        config.replace(caption_dropout=0.05, preserve=1.0, preserve_prompts=" \n")


def test_what_is_learnt_cannot_be_preserved(run_training, pairs):
    caption = pairs.pairs[0].caption
    with pytest.raises(DatasetError, match=f"'{caption}' is both a caption"):
        run_training(CONFIG.replace(preserve=1.0, preserve_prompts=f"Snow.\n{caption}"))
