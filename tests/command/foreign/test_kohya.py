"""What files for sd-scripts, musubi-tuner and lora-scripts become, worked out by hand from their
documentation and code: docs/flux_kontext.md, docs/dataset_config.md, library/flux_train_utils.py,
lora-scripts' config/*.toml and what its page saves for flux-lora.
"""

import sys

import pytest
from kontext.command.foreign.read import read_files
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.runs.job import JobError

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")

FLUX = "flux1-dev-kontext_fp8_scaled.safetensors"
TEXTS = ["clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"]

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


MASKED = """
pretrained_model_name_or_path = "flux1-dev.safetensors"
network_module = "networks.lora_flux"
network_dim = 8
train_data_dir = "after"
conditioning_data_dir = "masks"
masked_loss = true
"""


def optimised(name: str, rate: str, more: str = "") -> str:
    return f"""
network_module = "networks.lora_flux"
network_dim = 8
train_data_dir = "x"
optimizer_type = "{name}"
learning_rate = {rate}
{more}
"""


def test_musubi_arguments_with_their_dataset(read):
    job, ignored = read(restore__toml=MUSUBI_ARGUMENTS, pairs__toml=MUSUBI_PAIRS)
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
    for line in ("optimizer_args: ['eps=1e-8']", "sdpa", "output_dir",
                 "datasets[1].cache_directory", "datasets[1].enable_bucket"):  # fmt: skip
        assert line in told
    assert "weighting_scheme" not in told


def test_a_dataset_without_arguments_has_our_settings(read):
    job, _ = read(pairs__toml=MUSUBI_PAIRS)
    assert job.name == "pairs" and job.model["diffusion_model"] == FLUX
    assert job.config.steps == 0 and job.config.resolution == 880 and job.config.alpha == 0


def test_a_dataset_config_is_relative_to_where_the_trainer_was_started(read, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "pairs.toml").write_text(MUSUBI_PAIRS, encoding="utf-8")
    text = MUSUBI_ARGUMENTS.replace("pairs.toml", "configs/pairs.toml")
    (tmp_path / "configs" / "arguments.toml").write_text(text, encoding="utf-8")
    job, _ = read_files([tmp_path / "configs" / "arguments.toml"])
    assert len(job.pairs) == 2
    with pytest.raises(JobError, match=r"there is no .*gone.toml, which `dataset_config` names"):
        read(restore__toml=MUSUBI_ARGUMENTS.replace("pairs.toml", "gone.toml"))


def test_the_same_pictures_at_several_resolutions_are_one_entry(read):
    each = "  - {image_directory: a, control_directory: b, resolution: [%d, %d], batch_size: %d}\n"
    text = "datasets:\n" + each % (512, 512, 4) + each % (768, 768, 2)
    job, ignored = read(pairs__yaml=text)
    assert len(job.pairs) == 1 and job.config.sides == (512, 768) and ignored == []


def test_what_a_data_set_sets_for_itself_is_listed(read):
    each = "  - {image_directory: %s, control_directory: before, resolution: [%d, %d]}\n"
    text = "datasets:\n" + each % ("a", 512, 512) + each % ("b", 768, 768)
    job, ignored = read(pairs__yaml=text)
    assert job.config.resolution == 512 and ignored[0] == "datasets[2].resolution: 768"


def test_lora_scripts(read):
    """√(768 · 768); one folder must hold both sides, as lora-scripts has no controls."""
    job, ignored = read(rings__toml=LORA_SCRIPTS)
    assert job.pairs == [{"control_folder": "./train/rings", "holdout": 0.15}]
    assert job.config == TrainConfig(
        rank=16, alpha=8, learning_rate=5e-4, schedule="cosine_restarts", restarts=2,
        warmup_steps=0, optimizer="adamw8bit", save_dtype="bf16", dtype="bf16", resolution=768,
        timesteps="logit_normal", sigma_shift=1.0, seed=1337, batch_size=1, accumulate=1,
    )  # fmt: skip
    assert (job.epochs, job.save_every_epochs) == (10, 2)
    assert "clip_skip: 2" in ignored and "text_encoder_lr: 1e-05" in ignored


def test_lora_scripts_as_yaml_and_in_sections(read):
    text = "output_name: a\nnetwork_arguments: {network_dim: 8}\ntrain_data_dir: x\n"
    job, _ = read(a__yaml=text)
    assert job.name == "a" and job.config.rank == 8


def test_a_section_called_model_is_not_ours(read):
    """As lora-scripts' default.toml has, which is for Stable Diffusion."""
    text = '[model]\n{}\n[additional_network]\nnetwork_dim = 32\nnetwork_module = "{}"\n'
    flux = 'pretrained_model_name_or_path = "flux1-dev.safetensors"'
    more = '[dataset]\ntrain_data_dir = "x"\n'
    job, _ = read(a__toml=text.format(flux, "networks.lora_flux") + more)
    assert job.config.rank == 32 and job.model["diffusion_model"] == "flux1-dev.safetensors"
    checkpoint = 'pretrained_model_name_or_path = "./sd-models/model.ckpt"'
    with pytest.raises(JobError, match=r"Stable Diffusion 1 or 2 \(./sd-models/model.ckpt\)"):
        read(b__toml=text.format(checkpoint, "networks.lora") + more)
    with pytest.raises(JobError, match=r"Stable Diffusion \(network_module networks.lora\)"):
        read(c__toml=text.format("", "networks.lora") + more)


def test_with_masked_loss_the_pictures_beside_are_masks(read):
    """library/custom_train_functions.py, apply_masked_loss: the loss is 0 where the mask is."""
    job, _ = read(a__toml=MASKED)
    (entry,) = job.pairs
    assert entry == {"pictures_folder": "after", "mask_folder": "masks", "holdout": 0.15}
    assert job.config.outside_mask == 0
    job, _ = read(b__toml=MASKED.replace("masked_loss = true", ""))
    assert job.pairs[0]["control_folder"] == "masks" and job.pairs[0]["target_folder"] == "after"


@pytest.mark.parametrize(
    "name, more, ours, rate",
    [
        ("DAdaptAdam", "", "prodigy", 1.0),
        ("prodigy8bit", "", "prodigy", 1.0),
        ("prodigyplus.ProdigyPlusScheduleFree", "", "prodigyplus", 1.0),
        ("PagedLion8bit", "", "lion", 1.0),
        ("SGDNesterov", "", "adamw", 1e-4),
        ("some.package.Muon", "", "adamw", 1e-4),
        ("AdaFactor", "", "adafactor", 1e-4),  # relative steps, sd-scripts' own default
        ("AdaFactor", 'optimizer_args = ["relative_step=False"]', "adafactor", 1.0),
        ("adafactor", 'optimizer_args = "scale_parameter=False relative_step=False"',
         "adafactor", 1.0),
    ],
)  # fmt: skip
def test_a_rate_goes_with_its_optimiser(read, name, more, ours, rate):
    job, ignored = read(a__toml=optimised(name, "1.0", more))
    assert (job.config.optimizer, job.config.learning_rate) == (ours, rate)
    if rate != 1:
        assert any(line.startswith("learning_rate: 1.0") for line in ignored)
    if ours == "adamw":
        assert any(line.startswith("optimizer_type: ") for line in ignored)


def test_lycoris(read):
    arguments = '["algo=lokr", "factor=8", "dora_wd=False", "conv_dim=4"]'
    text = optimised("AdamW", "1e-4", f"network_args = {arguments}")
    job, ignored = read(a__toml=text.replace("networks.lora_flux", "lycoris.kohya"))
    assert (job.config.adapter, job.config.lokr_factor) == ("lokr", 8)
    assert not any("network_args" in line for line in ignored)
    with pytest.raises(JobError, match="network_args.algo is glora; this trainer has lora"):
        read(b__toml=text.replace("lokr", "glora"))


@pytest.mark.parametrize(
    "lines, settings",
    [
        ('timestep_sampling = "sigma"', {"timesteps": "uniform", "sigma_shift": 3.0}),
        ('timestep_sampling = "sigma"\ndit = "flux1-kontext-dev.safetensors"',
         {"timesteps": "uniform", "sigma_shift": 1.0}),  # musubi's default
        ('timestep_sampling = "shift"\ndiscrete_flow_shift = 3.1582',
         {"timesteps": "logit_normal", "sigma_shift": 3.1582}),
        ('timestep_sampling = "sigmoid"\nsigmoid_scale = 2.0',
         {"timesteps": "logit_normal", "sigma_shift": 1.0, "sigma_spread": 2.0}),
        ('timestep_sampling = "uniform"', {"timesteps": "detail"}),
        ('timestep_sampling = "qinglong"', {"timesteps": "balanced", "sigma_shift": 0.0}),
    ],
)  # fmt: skip
def test_densities(read, lines, settings):
    """library/flux_train_utils.py, get_noisy_model_input_and_timesteps."""
    job, ignored = read(a__toml=optimised("AdamW", "1e-4", lines))
    assert {name: getattr(job.config, name) for name in settings} == settings
    assert any("qinglong" in line for line in ignored) == ("qinglong" in lines)


def test_zero_is_off_and_a_share_is_of_the_steps(read):
    lines = "max_train_steps = 2000\nlr_warmup_steps = 0.05\nsave_every_n_steps = 0"
    job, _ = read(a__toml=optimised("AdamW", "1e-4", lines))
    assert job.config.warmup_steps == 100 and job.config.save_every == TrainConfig().save_every
    lines = "max_train_epochs = 8\nlr_warmup_steps = 0.05"
    _, ignored = read(b__toml=optimised("AdamW", "1e-4", lines))
    assert "lr_warmup_steps: 0.05" in ignored, "the steps are not known yet"


@pytest.mark.parametrize(
    "lines, words",
    [
        ('max_train_epochs = "ten"', "max_train_epochs is 'ten'; it must be a number"),
        ('max_train_steps = "many"', "max_train_steps is 'many'"),
        ('gradient_accumulation_steps = "1.5"', "gradient_accumulation_steps is '1.5'"),
        ("datasets = [1, 2]", "datasets: 1 stands where"),
        ('dit = "wan2.1_t2v_14B_bf16.safetensors"', "This file trains Wan"),
        ('dit = "z_image.safetensors"\ndataset_config = "gone.toml"', "trains Z-Image"),
    ],
)
def test_what_is_wrong_is_named_as_in_the_file(read, lines, words):
    with pytest.raises((JobError, ConfigError), match=words):
        read(a__toml=optimised("AdamW", "1e-4", lines))
