"""What OneTrainer's files become, by hand from modules/util/config/TrainConfig.py there."""

import json

import pytest
from kontext.trainer.runs.job import JobError

CONFIG = {
    "training_method": "LORA", "model_type": "FLUX_DEV_1", "peft_type": "LORA", "epochs": 40,
    "base_model_name": "black-forest-labs/FLUX.1-dev", "learning_rate": 0.0003, "batch_size": 4,
    "resolution": "512,768", "lora_rank": 8, "train_dtype": "BFLOAT_16", "lora_decompose": False,
    "optimizer": {"optimizer": "ADAMW_8BIT", "weight_decay": 0.01, "fused": False},
    "timestep_distribution": "LOGIT_NORMAL", "dynamic_timestep_shifting": True, "ema": "OFF",
    "learning_rate_scheduler": "COSINE", "learning_rate_warmup_steps": 200.0,
    "transformer": {"train": True, "weight_dtype": "NFLOAT_4"}, "offset_noise_weight": 0.1,
    "concepts": [{"path": "/d/rings", "enabled": True, "balancing": 3.0},
                 {"path": "/d/off", "enabled": False}],
}  # fmt: skip


def saved(**changes) -> str:
    return json.dumps({**CONFIG, **changes})


def test_a_saved_configuration(read):
    job, ignored = read(ring__json=saved())
    assert job.pairs == [{"pictures_folder": "/d/rings", "repeats": 3, "holdout": 0.15}]
    assert job.model["diffusion_model"] == "flux1-dev.safetensors" and job.epochs == 40
    wanted = dict(
        rank=8, alpha=1.0, optimizer="adamw8bit", learning_rate=3e-4, batch_size=4, dtype="bf16",
        schedule="cosine", warmup_steps=200, timesteps="balanced", sides=(512, 768),
    )  # fmt: skip
    assert {name: getattr(job.config, name) for name in wanted} == wanted
    assert "offset_noise_weight: 0.1" in ignored


def test_what_is_no_lora_of_flux(read):
    for changes, words in (
        ({"training_method": "FINE_TUNE"}, "training_method is FINE_TUNE"),
        ({"model_type": "STABLE_DIFFUSION_XL_10_BASE"}, "Stable Diffusion XL"),
        ({"concepts": None}, "names no pictures"),
        ({"peft_type": "OFT_2"}, "peft_type is OFT_2; this trainer has lora"),
    ):
        with pytest.raises(JobError, match=words):
            read(a__json=saved(**changes))
