"""What diffusion-pipe's files become, worked out by hand from examples/ and docs/ there."""

import sys

import pytest
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.job import JobError

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")

PAIRS = """
resolutions = [512, 768]
enable_ar_bucket = true
num_repeats = 2

[[directory]]
path = "/rings/after"
control_path = "/rings/before"
mask_path = "/rings/masks"
"""
SETTINGS = """
output_dir = "/runs"
dataset = "pairs.toml"
epochs = 20
micro_batch_size_per_gpu = 2
gradient_accumulation_steps = 4
gradient_clipping = 0.5
warmup_steps = 30
save_every_n_epochs = 5
activation_checkpointing = true
pseudo_huber_c = 0.5

[model]
type = "flux"
transformer_path = "/models/flux1-kontext-dev.safetensors"
dtype = "bfloat16"
flux_shift = true

[adapter]
type = "lora"
rank = 32
dtype = "bfloat16"

[optimizer]
type = "adamw_optimi"
lr = 2e-5
betas = [0.9, 0.99]
weight_decay = 0.02
eps = 1e-8
"""


def test_settings_and_their_directories(read):
    job, ignored = read(ring__toml=SETTINGS, pairs__toml=PAIRS)
    assert job.model["diffusion_model"] == "/models/flux1-kontext-dev.safetensors"
    assert job.pairs == [
        {"control_folder": "/rings/before", "target_folder": "/rings/after", "repeats": 2,
         "mask_folder": "/rings/masks", "holdout": 0.15}
    ]  # fmt: skip
    assert job.config.sides == (512, 768)
    wanted = dict(
        rank=32, optimizer="adamw", learning_rate=2e-5, beta1=0.9, beta2=0.99, weight_decay=0.02,
        batch_size=2, accumulate=4, max_grad_norm=0.5, warmup_steps=30, schedule="constant",
        timesteps="balanced", dtype="bf16",
    )  # fmt: skip
    assert {name: getattr(job.config, name) for name in wanted} == wanted
    assert (job.epochs, job.save_every_epochs) == (20, 5)
    assert "pseudo_huber_c: 0.5" in ignored and "optimizer.eps: 1e-08" in ignored


def test_the_directories_alone(read):
    job, _ = read(pairs__toml=PAIRS)
    assert job.name == "pairs" and job.config.sides == (512, 768)
    assert job.config.learning_rate == TrainConfig().learning_rate


def test_another_model_is_refused_before_its_pairs_are_looked_for(read):
    with pytest.raises(JobError, match="trains Hunyuan"):
        read(a__toml=SETTINGS.replace('type = "flux"', 'type = "hunyuan-video"'))
    with pytest.raises(JobError, match="no pairs.toml, which `dataset` names"):
        read(b__toml=SETTINGS)
