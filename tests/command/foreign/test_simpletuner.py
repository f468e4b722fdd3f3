"""What SimpleTuner's files become, by hand from documentation/quickstart/FLUX_KONTEXT.md there."""

import json

import pytest
from kontext.command.foreign.read import read_files
from kontext.trainer.runs.job import JobError

BACKENDS = [
    {"id": "after", "type": "local", "instance_data_dir": "/d/after", "resolution": 1024,
     "conditioning_data": ["before", "sketch"], "caption_strategy": "textfile", "repeats": 2},
    {"id": "before", "type": "local", "instance_data_dir": "/d/before",
     "conditioning_type": "reference_strict"},
    {"id": "sketch", "type": "local", "instance_data_dir": "/d/sketch"},
    {"id": "text", "dataset_type": "text_embeds", "default": True, "cache_dir": "cache"},
]  # fmt: skip
CONFIG = {
    "model_family": "flux", "model_flavour": "kontext", "model_type": "lora", "lora_rank": 16,
    "lora_type": "standard", "data_backend_config": "config/backends.json", "seed": 42,
    "optimizer": "optimi-lion", "learning_rate": 1e-5, "lr_scheduler": "polynomial",
    "lr_warmup_steps": 100, "max_train_steps": 10000, "num_train_epochs": 0, "resolution": 1024,
    "train_batch_size": 1, "checkpoint_step_interval": 500, "checkpoints_total_limit": 5,
    "caption_dropout_probability": 0.1, "mixed_precision": "bf16", "use_ema": False,
    "base_model_precision": "int8-quanto", "snr_gamma": 5,
}  # fmt: skip


@pytest.fixture
def read_config(tmp_path):
    def run(**changes):
        folder = tmp_path / "config" / "ring"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "config" / "backends.json").write_text(json.dumps(BACKENDS), "utf-8")
        (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}), "utf-8")
        return read_files([folder / "config.json"])

    return run


def test_a_configuration_and_its_backends(read_config):
    """Where it was started, config/backends.json is; `repeats` is what comes after the first."""
    job, ignored = read_config()
    assert job.name == "ring" and "kontext" in job.model["diffusion_model"]
    (entry,) = job.pairs
    assert entry["control_folder"] == "/d/before|/d/sketch" and entry["repeats"] == 3
    assert entry["target_folder"] == "/d/after"
    wanted = dict(
        rank=16, optimizer="lion", learning_rate=1e-5, schedule="polynomial", warmup_steps=100,
        steps=10000, resolution=1024, save_every=500, keep=5, caption_dropout=0.1, seed=42,
    )  # fmt: skip
    assert {name: getattr(job.config, name) for name in wanted} == wanted
    assert "snr_gamma: 5" in ignored
    assert read_config(**{"--lora_alpha": 32})[0].config.alpha == 32, "as older files write them"


def test_what_is_no_lora_of_flux(read_config):
    for changes, words in (
        ({"model_family": "sd3"}, "Stable Diffusion 3"),
        ({"lora_type": "lycoris"}, "lora_type is lycoris"),
        ({"data_backend_config": "gone.json"}, "no gone.json, which `data_backend_config` names"),
    ):
        with pytest.raises(JobError, match=words):
            read_config(**changes)
