"""What ai-toolkit's files become, worked out by hand from its documentation and code:

config/examples/train_lora_flux_kontext_24gb.yaml, and the code in toolkit/.
"""

import pytest
import yaml
from kontext.trainer.config import ConfigError, TrainConfig
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


def test_a_file_by_hand(read):
    job, ignored = read(ring__yaml=AI_TOOLKIT)
    assert job.name == "ring_v1"
    assert job.model == {"diffusion_model": FLUX, "text_encoders": TEXTS, "vae": "ae.safetensors"}
    assert job.pairs == [
        {"control_folder": "D:\\rings\\before", "target_folder": "D:\\rings\\after",
         "trigger": "p0lish", "holdout": 0.15},
        {"control_folder": "more/before", "target_folder": "more/after", "repeats": 4,
         "trigger": "p0lish", "holdout": 0.15},
    ]  # fmt: skip
    assert job.config == TrainConfig(
        rank=32, save_dtype="fp16", save_every=200, keep=6, caption_dropout=0.1,
        resolution="512, 768", batch_size=1, steps=3000, accumulate=2, optimizer="adamw8bit",
        weight_decay=1e-4, learning_rate=1e-4, schedule="constant", timesteps="logit_normal",
        sigma_shift=1.0, ema=0.99, dtype="bf16", preview_steps=20,
    )  # fmt: skip
    told = "\n".join(ignored)
    assert "model black-forest-labs/FLUX.1-Kontext-dev" in told and FLUX in told
    for name in ("train.noise_scheduler", "sample.sample_every", "model.quantize", "device"):
        assert f" {name}" in told, "named with the others that mean nothing here"
    assert "train_text_encoder" not in told, "what is off is not worth a line"


def test_alpha_is_the_rank_whatever_the_file_says(read):
    """toolkit/lora_special.py, LoRASpecialNetwork: `if self.peft_format: alpha = lora_dim`, which
    holds for FLUX and all transformers. The file above has linear_alpha 16 with linear 32."""
    with_alpha, ignored = read(a__yaml=AI_TOOLKIT)
    without, _ = read(b__yaml=AI_TOOLKIT.replace(", linear_alpha: 16", ""))
    assert with_alpha.config.alpha == without.config.alpha == 0, "which is the rank"
    assert any("the rank as alpha" in line and "network.linear_alpha" in line for line in ignored)


def test_lokr(read):
    """toolkit/config_modules.py: lokr_full_rank is on by default, lokr_factor -1 is the largest."""
    text = AI_TOOLKIT.replace("type: lora, linear: 32, linear_alpha: 16", "type: lokr, linear: 32")
    job, ignored = read(a__yaml=text)
    assert (job.config.adapter, job.config.lokr_factor, job.config.rank) == ("lokr", 0, 256)
    assert any(line.startswith("network.lokr_full_rank: True") for line in ignored)
    sized = text.replace("linear: 32", "linear: 32, lokr_full_rank: false, lokr_factor: 4")
    job, _ = read(b__yaml=sized)
    assert (job.config.adapter, job.config.lokr_factor, job.config.rank) == ("lokr", 4, 32)


def test_an_adapter_of_another_kind_is_refused(read):
    text = AI_TOOLKIT.replace("type: lora", "type: lorm")
    with pytest.raises(JobError, match="network.type is lorm; this trainer has lora, dora, lokr"):
        read(a__yaml=text)


@pytest.mark.parametrize(
    "theirs, rate, ours, expected",
    [
        ("prodigy8bit", "1.0", "prodigy", 1.0),
        ("prodigy", "1e-4", "prodigy", 1.0),  # toolkit/optimizer.py: below 0.1 it takes 1
        ("dadaptation", "1.0", "prodigy", 1.0),
        ("adam8bit", "2e-4", "adamw8bit", 2e-4),
        ("ademamix8bit", "2e-4", "adamw8bit", 2e-4),
        ("automagic", "1e-6", "adamw", 1e-4),  # neither is taken: ours has none like it
        ("adagrad", "0.01", "adamw", 1e-4),
    ],
)
def test_a_rate_goes_with_its_optimiser(read, theirs, rate, ours, expected):
    text = AI_TOOLKIT.replace("adamw8bit", theirs).replace("lr: 1e-4", f"lr: {rate}")
    job, ignored = read(a__yaml=text)
    assert (job.config.optimizer, job.config.learning_rate) == (ours, expected)
    assert any("train.optimizer" in line for line in ignored) or theirs == ours


def test_several_references(read):
    for lines in (
        "control_path: [one, two]",
        "control_path_1: one\n          control_path_2: two",
        "control_path: one\n          control_path_1: one\n          control_path_2: two",
    ):
        text = AI_TOOLKIT.replace("control_path: more/before", lines)
        job, ignored = read(a__yaml=text)
        assert job.pairs[1]["control_folder"] == "one|two"
        assert job.pairs[1]["several_controls"] == "one pair with several references"
        assert not any("control_path" in line for line in ignored)


def test_masks(read):
    """toolkit/config_modules.py: mask_min_value is 0 by default."""
    mask = "control_path: more/before\n          mask_path: more/masks"
    text = AI_TOOLKIT.replace("control_path: more/before", mask)
    job, _ = read(a__yaml=text)
    assert job.pairs[1]["mask_folder"] == "more/masks"
    inverted = text.replace("mask_path", "invert_mask: true\n          mask_path")
    with pytest.raises(JobError, match=r"datasets\[2\].invert_mask is on"):
        read(b__yaml=inverted)


def test_single_pictures(read):
    """Another model than Kontext learns from pictures without a before."""
    text = AI_TOOLKIT.replace("FLUX.1-Kontext-dev", "FLUX.1-dev").replace("flux_kontext", "flux")
    text = text.replace("          control_path: more/before\n", "")
    job, _ = read(a__yaml=text)
    assert job.pairs[1]["pictures_folder"] == "more/after"
    assert job.model["diffusion_model"] == "flux1-dev.safetensors"
    assert job.pairs[0]["control_folder"], "where there is one, these are pairs"


def test_a_data_set_may_have_its_own_trigger(read):
    own = "control_path: more/before\n          trigger_word: sh1ne"
    job, _ = read(a__yaml=AI_TOOLKIT.replace("control_path: more/before", own))
    assert [entry["trigger"] for entry in job.pairs] == ["p0lish", "sh1ne"]


def test_what_a_data_set_sets_for_itself_is_listed(read):
    """Ours has one value for all pairs: the first data set's."""
    own = "num_repeats: 4\n          flip_x: true"
    job, ignored = read(ring__yaml=AI_TOOLKIT.replace("num_repeats: 4", own, 1))
    assert "datasets[2].flip: True" in ignored and not job.config.flip
    assert not any("resolution" in line for line in ignored)


def test_what_it_becomes_is_read_again(read):
    job, _ = read(ring__yaml=AI_TOOLKIT)
    again, ignored = read(ours__yaml=yaml.safe_dump(job.content()))
    assert again == job and ignored == []


@pytest.mark.parametrize(
    "text, words",
    [
        (AI_TOOLKIT.replace("arch: flux_kontext", "arch: hidream_e1"), "trains hidream"),
        (AI_TOOLKIT.replace("1-Kontext-dev", "1-schnell"), "trains FLUX.1-schnell"),
        (
            AI_TOOLKIT.replace("type: sd_trainer", "type: slider"),
            r"\(slider\) does not train a LoRA",
        ),
        (AI_TOOLKIT.replace("network:", "networks:"), "does not train a LoRA"),
        (AI_TOOLKIT.replace("steps: 3000", "steps: many"), "train.steps is 'many'"),
        ("config: {process: later}", "config.process: 'later'"),
        (AI_TOOLKIT.split("datasets:")[0], "`pairs` is missing"),
    ],
)
def test_what_is_no_lora_of_flux(read, text, words):
    text = text.replace("flux_kontext", "flux") if "schnell" in text else text
    with pytest.raises((JobError, ConfigError), match=words):
        read(a__yaml=text)
