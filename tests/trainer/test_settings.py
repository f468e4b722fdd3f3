"""The settings of a run: each changes the LoRA, every optimiser learns."""

import sys
from dataclasses import replace

import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.config import OPTIMIZERS, ConfigError
from kontext.trainer.loop import train
from kontext.trainer.request import TrainingRequest

from .short_runs import SHORT, assert_same, last_lora


@pytest.mark.slow
def test_every_optimizer_learns(run_training):
    """The mean loss of the last steps is below that of the first, on two pairs seen often."""
    rates = {"prodigy": 1.0, "prodigyplus": 1.0, "lion": 1e-3}
    for name in OPTIMIZERS:
        config = SHORT.replace(
            optimizer=name, steps=80, save_every=80, learning_rate=rates.get(name, 1e-2),
            schedule="constant", timesteps="structure", rank=16, targets="all",
        )  # fmt: skip
        losses = [entry["loss"] for entry in run_training(config, name=name).logged()]
        assert sum(losses[-20:]) < 0.95 * sum(losses[:20]), name


def test_a_missing_optimizer_package_is_named(run_training, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        run_training(SHORT.replace(optimizer="adamw8bit"))


@pytest.fixture(scope="module")
def train_beside(weights, make_flux, make_pairs, clip, vae, tmp_path_factory):
    """The LoRA of a run that differs by a few settings; the plain one is trained once."""
    folder = tmp_path_factory.mktemp("settings")
    base, pairs = host.Base(make_flux(weights=weights), clip, vae), make_pairs(folder, 4)

    def lora(change):
        config = SHORT.replace(keep=1, save_every=SHORT.steps, **change)
        name = " ".join(f"{key} {value}" for key, value in change.items()) or "plain"
        with torch.inference_mode():
            places = folder / "out", folder / "cache"
            run = train(TrainingRequest(base, pairs, config, name, *places))
        return last_lora(run)

    return lora


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-2},
        {"rank": 8},
        {"alpha": 8.0},
        {"batch_size": 2},
        {"accumulate": 2},
        {"reference_resolution": 32},
        {"targets": "attention"},
        {"targets": "all"},
        {"timesteps": "structure"},
        {"timesteps": "detail"},
        {"schedule": "constant"},
        {"weight_decay": 0.5},
        {"max_grad_norm": 1e-4},
        {"caption_dropout": 1.0},
        {"guidance": 4.0},
        {"dtype": "bf16"},
        {"dtype": "fp16"},
        {"save_dtype": "bf16"},
        {"schedule": "polynomial"},
        {"schedule": "cosine_restarts", "restarts": 2},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"ema": 0.9},
        {"alpha": 64.0},
        {"lora_plus": 4.0},
        {"targets": "single_blocks.0.linear2"},
        {"loss": "huber"},
        {"edit_weight": 5.0},
        {"reference_dropout": 1.0},
        {"dropout": 0.3},
        {"adapter": "dora"},
        {"adapter": "lokr"},
        {"adapter": "lokr", "lokr_factor": 4},
        {"adapter": "loha"},
        {"flip": True},
        {"timesteps": "uniform", "sigma_shift": 2.0},
        {"timesteps": "logit_normal", "sigma_mean": 1.0},
        {"timesteps": "logit_normal", "sigma_spread": 2.0},
        {"preserve": 1.0},
        {"preserve": 1.0, "preserve_every": 1},
        {"preserve": 1.0, "preserve_prompts": "Make it rain"},
    ],
    ids=str,
)
def test_every_setting_changes_the_lora(train_beside, change):
    plain, changed = train_beside({}), train_beside(change)
    same = plain.keys() == changed.keys() and all(
        torch.equal(plain[name], changed[name]) for name in plain
    )
    assert not same


@pytest.mark.slow
def test_dropped_captions_are_no_captions(run_training, pairs):
    """Reference: pairs without a caption. With half of them dropped, neither comes out."""
    silent = PairedDataset(tuple(replace(pair, caption="") for pair in pairs))
    lora = {
        share: last_lora(run_training(SHORT.replace(caption_dropout=share), name=f"drop {share}"))
        for share in (0.0, 0.5, 1.0)
    }
    config = SHORT.replace(caption_dropout=0.0)
    assert_same(lora[1.0], last_lora(run_training(config, name="silent", pairs=silent)))
    for share in (0.0, 1.0):
        assert any(not torch.equal(lora[share][name], lora[0.5][name]) for name in lora[0.5])


def test_dropped_references_are_no_references(run_training, pairs):
    """Reference: pairs without a control picture."""
    blind = PairedDataset(tuple(replace(pair, controls=()) for pair in pairs))
    dropped = run_training(SHORT.replace(reference_dropout=1.0), name="dropped")
    assert_same(last_lora(dropped), last_lora(run_training(name="blind", pairs=blind)))


def test_repeats_are_what_writing_a_pair_twice_would_be(run_training, pairs):
    """Reference: the same picture under two names, in epochs of the same order."""
    first, second, *_ = pairs
    repeated = PairedDataset((replace(first, repeats=2), second))
    written = PairedDataset((first, replace(first, stem="again"), second))
    lora = last_lora(run_training(name="repeated", pairs=repeated))
    assert_same(lora, last_lora(run_training(name="written", pairs=written)))
