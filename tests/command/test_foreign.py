"""Other trainers' files. What they should become is worked out by hand from their documentation:

ai-toolkit's config/examples/train_lora_flux_kontext_24gb.yaml, musubi-tuner's docs/flux_kontext.md
and docs/dataset_config.md, lora-scripts' config/lora.toml and what its page saves for flux-lora.
"""

import sys

import pytest
from kontext.command import foreign
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.job import JobError

FLUX = "flux1-dev-kontext_fp8_scaled.safetensors"
TEXTS = ["clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"]

AI_TOOLKIT = r"""
job: extension
config:
  name: ring_v1
  process:
    - type: sd_trainer
      training_folder: output
      device: cuda:0
      trigger_word: p0lish
      network: {type: lora, linear: 32, linear_alpha: 16}
      save: {dtype: float16, save_every: 200, max_step_saves_to_keep: 6, push_to_hub: false}
      datasets:
        - folder_path: D:\rings\after
          control_path: D:\rings\before
          caption_ext: txt
          caption_dropout_rate: 0.1
          shuffle_tokens: false
          cache_latents_to_disk: true
          resolution: [512, 768]
        - folder_path: more/after
          control_path: more/before
          num_repeats: 4
          resolution: [512, 768]
      train:
        batch_size: 1
        steps: 3000
        gradient_accumulation_steps: 2
        train_text_encoder: false
        gradient_checkpointing: true
        noise_scheduler: flowmatch
        optimizer: adamw8bit
        optimizer_params: {weight_decay: 1e-4}
        lr: 1e-4
        timestep_type: sigmoid
        ema_config: {use_ema: true, ema_decay: 0.99}
        dtype: bf16
      model:
        name_or_path: black-forest-labs/FLUX.1-Kontext-dev
        arch: flux_kontext
        quantize: true
      sample: {sampler: flowmatch, sample_every: 250, sample_steps: 20, seed: 42}
meta: {name: "[name]", version: "1.0"}
"""

MUSUBI_PAIRS = """
[general]
resolution = [1024, 768]
caption_extension = ".txt"
batch_size = 2
enable_bucket = true

[[datasets]]
image_directory = "/data/after"
control_directory = "/data/before"
cache_directory = "/data/cache"
control_resolution = [512, 512]
num_repeats = 3

[[datasets]]
image_jsonl_file = "/data/more.jsonl"
"""
MUSUBI_ARGUMENTS = """
dataset_config = "pairs.toml"
dit = "/models/flux1-kontext-dev.safetensors"
vae = "/models/ae.safetensors"
text_encoder1 = "/models/t5xxl_fp16.safetensors"
text_encoder2 = "/models/clip_l.safetensors"
sdpa = true
mixed_precision = "bf16"
timestep_sampling = "flux_shift"
weighting_scheme = "none"
optimizer_type = "adamw8bit"
optimizer_args = ["weight_decay=0.05", "eps=1e-8"]
learning_rate = 1e-4
network_module = "networks.lora_flux"
network_dim = 32
max_train_epochs = 16
save_every_n_epochs = 2
seed = 42
output_dir = "/out"
output_name = "restore"
"""

LORA_SCRIPTS = """
model_train_type = "flux-lora"
pretrained_model_name_or_path = "./sd-models/flux1-kontext-dev.safetensors"
ae = "./sd-models/ae.safetensors"
clip_l = "./sd-models/clip_l.safetensors"
t5xxl = "./sd-models/t5xxl_fp16.safetensors"
timestep_sampling = "sigmoid"
train_data_dir = "./train/rings"
resolution = "768,768"
output_name = "rings"
save_every_n_epochs = 2
max_train_epochs = 10
train_batch_size = 1
gradient_accumulation_steps = 1
unet_lr = 0.0005
text_encoder_lr = 1e-5
lr_scheduler = "cosine_with_restarts"
lr_warmup_steps = 0
lr_scheduler_num_cycles = 2
optimizer_type = "PagedAdamW8bit"
network_dim = 16
network_alpha = 8
save_precision = "bf16"
mixed_precision = "bf16"
seed = 1337
clip_skip = 2
xformers = false
"""


def read(tmp_path, **files):
    paths = []
    for name, text in files.items():
        paths.append(tmp_path / name.replace("__", "."))
        paths[-1].write_text(text, encoding="utf-8")
    return foreign.read_files(paths[:1])


def test_ai_toolkit(tmp_path):
    job, ignored = read(tmp_path, ring__yaml=AI_TOOLKIT)
    assert job.name == "ring_v1"
    assert job.model == {"diffusion_model": FLUX, "text_encoders": TEXTS, "vae": "ae.safetensors"}
    assert job.pairs == [
        {"control_folder": "D:\\rings\\before", "target_folder": "D:\\rings\\after",
         "holdout": 0.15},
        {"control_folder": "more/before", "target_folder": "more/after", "repeats": 4,
         "holdout": 0.15},
    ]  # fmt: skip
    assert job.config == TrainConfig(
        rank=32, alpha=16, save_dtype="fp16", save_every=200, keep=6, caption_dropout=0.1,
        resolutions="512, 768", batch_size=1, steps=3000, accumulate=2, optimizer="adamw8bit",
        weight_decay=1e-4, learning_rate=1e-4, schedule="constant", timesteps="logit_normal",
        sigma_shift=1.0, ema=0.99, dtype="bf16", preview_steps=20,
    )  # fmt: skip
    told = "\n".join(ignored)
    assert "model black-forest-labs/FLUX.1-Kontext-dev" in told and FLUX in told
    assert "trigger_word: p0lish (write it into the captions)" in told
    for line in ("network.type", "train.noise_scheduler", "sample.sample_every", "model.quantize"):
        assert f"{line}: " in told
    assert "train_text_encoder" not in told, "what is off is not worth a line"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_musubi_arguments_with_their_dataset(tmp_path):
    job, ignored = read(tmp_path, restore__toml=MUSUBI_ARGUMENTS, pairs__toml=MUSUBI_PAIRS)
    assert (job.name, job.epochs, job.save_every_epochs) == ("restore", 16, 2)
    assert job.model == {
        "diffusion_model": "/models/flux1-kontext-dev.safetensors",
        "text_encoders": ["/models/clip_l.safetensors", "/models/t5xxl_fp16.safetensors"],
        "vae": "/models/ae.safetensors",
    }
    assert job.pairs == [
        {"control_folder": "/data/before", "target_folder": "/data/after", "repeats": 3,
         "holdout": 0.15},
        {"control_folder": "/data/more.jsonl", "holdout": 0.15},
    ]  # fmt: skip
    assert job.config == TrainConfig(
        rank=32, alpha=1.0, learning_rate=1e-4, schedule="constant", optimizer="adamw8bit",
        weight_decay=0.05, timesteps="balanced", batch_size=2, seed=42, dtype="bf16",
        resolution=880, reference_resolution=512,
    )  # fmt: skip
    told = "\n".join(ignored)
    for line in ("optimizer_args: ['eps=1e-8']", "network_module", "sdpa", "output_dir",
                 "datasets[1].cache_directory", "datasets[1].enable_bucket"):  # fmt: skip
        assert line in told
    assert "weighting_scheme" not in told


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_a_dataset_without_arguments_has_our_settings(tmp_path):
    job, _ = read(tmp_path, pairs__toml=MUSUBI_PAIRS)
    assert job.name == "pairs" and job.model["diffusion_model"] == FLUX
    assert job.config.steps == 0 and job.config.resolution == 880


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_lora_scripts(tmp_path):
    """√(768 · 768); one folder must hold both sides, as lora-scripts has no controls."""
    job, ignored = read(tmp_path, rings__toml=LORA_SCRIPTS)
    assert job.pairs == [{"control_folder": "./train/rings", "holdout": 0.15}]
    assert job.config == TrainConfig(
        rank=16, alpha=8, learning_rate=5e-4, schedule="cosine_restarts", restarts=2,
        warmup_steps=0, optimizer="adamw8bit", save_dtype="bf16", dtype="bf16", resolution=768,
        timesteps="logit_normal", sigma_shift=1.0, seed=1337, batch_size=1, accumulate=1,
    )  # fmt: skip
    assert (job.epochs, job.save_every_epochs) == (10, 2)
    assert "clip_skip: 2" in ignored and "text_encoder_lr: 1e-05" in ignored


def test_lora_scripts_as_yaml_and_in_sections(tmp_path):
    text = "output_name: a\nnetwork_arguments: {network_dim: 8}\ntrain_data_dir: x\n"
    job, _ = read(tmp_path, a__yaml=text)
    assert job.name == "a" and job.config.rank == 8


def test_what_it_becomes_is_read_again(tmp_path):
    import yaml

    job, _ = read(tmp_path, ring__yaml=AI_TOOLKIT)
    again, ignored = read(tmp_path, ours__yaml=yaml.safe_dump(job.content()))
    assert again == job and ignored == []


def test_what_a_dataset_sets_for_itself_is_listed(tmp_path):
    """Ours has one value for all pairs: the first dataset's."""
    own = "num_repeats: 4\n          flip_x: true"
    text = AI_TOOLKIT.replace("num_repeats: 4", own, 1)
    job, ignored = read(tmp_path, ring__yaml=text)
    assert "datasets[2].flip: True" in ignored and not job.config.flip
    assert not any("resolution" in line for line in ignored)

    each = "  - {image_directory: %s, control_directory: before, resolution: [%d, %d]}\n"
    text = "datasets:\n" + each % ("a", 512, 512) + each % ("b", 768, 768)
    job, ignored = read(tmp_path, pairs__yaml=text)
    assert job.config.resolution == 512 and ignored[0] == "datasets[2].resolution: 768"


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a__yaml", "[1, 2]", "holds no settings"),
        ("a__yaml", "a: [", "is broken"),
        ("a__yaml", "lora: {rank: 3}", "neither ours"),
        ("a__toml", "a = ", "is broken"),
    ],
)
def test_files_of_no_kind(tmp_path, name, text, words):
    with pytest.raises(JobError, match=words):
        read(tmp_path, **{name: text})


def test_toml_without_a_reader(tmp_path, monkeypatch):
    """As on Python 3.10, for which ComfyUI brings none."""

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(foreign.importlib, "import_module", missing)
    with pytest.raises(JobError, match="Python 3.11, or the package tomli"):
        read(tmp_path, a__toml="a = 1")
