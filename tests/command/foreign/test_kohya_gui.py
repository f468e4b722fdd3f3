"""The JSON files of kohya_ss' page, as kohya_gui/lora_gui.py there makes settings of them."""

import json

import pytest
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.job import JobError

# What the page saves where nothing was chosen: "" is not set, and 0 is off
FIELDS = {
    "LoRA_type": "Flux1", "flux1_checkbox": True, "sdxl": False, "v2": False, "ae": "D:/m/ae.sft",
    "clip_l": "", "t5xxl": "", "pretrained_model_name_or_path": "D:/m/flux1-dev.safetensors",
    "train_data_dir": "D:/rings", "output_name": "rings", "output_dir": "D:/out",
    "max_resolution": "768,768", "optimizer": "AdamW8bit", "optimizer_args": "", "seed": "",
    "learning_rate": 0.0003, "unet_lr": 0, "text_encoder_lr": 0, "lr_scheduler": "cosine",
    "lr_warmup": 10, "lr_scheduler_num_cycles": "", "lr_scheduler_power": 1, "epoch": 8,
    "max_train_steps": "", "max_train_epochs": "", "save_every_n_epochs": 2,
    "save_every_n_steps": 0, "network_dim": 16, "network_alpha": 8, "train_batch_size": 2,
    "gradient_accumulation_steps": "1", "caption_dropout_rate": 0.05, "flip_aug": False,
    "mixed_precision": "bf16", "save_precision": "fp16", "guidance_scale": 1,
    "timestep_sampling": "sigmoid", "discrete_flow_shift": 3, "loss_type": "l2", "huber_c": 0.1,
    "masked_loss": False, "dataset_config": "", "network_dropout": 0, "network_weights": "",
    "clip_skip": 1, "noise_offset": 0.05, "min_snr_gamma": 7, "max_timestep": 1000,
    "train_blocks": "all", "split_qkv": False, "factor": -1, "additional_parameters": "",
    "xformers": "sdpa", "model_list": "custom", "max_grad_norm": 1, "wandb_api_key": "",
}  # fmt: skip


def saved(**changes: object) -> str:
    return json.dumps({**FIELDS, **changes}, indent="\t")


def test_a_lora_of_flux(read):
    job, ignored = read(rings__json=saved())
    assert job.name == "rings" and job.pairs == [{"pictures_folder": "D:/rings", "holdout": 0.15}]
    assert job.model == {
        "diffusion_model": "D:/m/flux1-dev.safetensors", "vae": "D:/m/ae.sft",
        "text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"],
    }  # fmt: skip
    assert (job.epochs, job.save_every_epochs) == (8, 2)
    assert job.config == TrainConfig(
        rank=16, alpha=8, resolution=768, optimizer="adamw8bit", learning_rate=3e-4,
        schedule="cosine", batch_size=2, caption_dropout=0.05, dtype="bf16", save_dtype="fp16",
        timesteps="logit_normal", sigma_shift=1.0,
    )  # fmt: skip
    assert ignored[0] == "lr_warmup_steps: 0.1", "a tenth of steps that are not known yet"
    told = "\n".join(ignored[1:])
    assert all(f" {name}" in told for name in ("clip_skip", "noise_offset", "output_dir"))
    assert len(ignored) < 8, "by their reasons, not one by one"


def test_steps_go_before_epochs(read):
    job, _ = read(a__json=saved(max_train_steps="1600", lr_warmup=10, seed="1234"))
    assert job.epochs == 0 and job.config.steps == 1600 and job.config.seed == 1234
    assert job.config.warmup_steps == 160


def test_what_stands_in_the_field_for_more(read):
    more = "--max_grad_norm=0.5 --blocks_to_swap 18 --min_snr_gamma 5 --wavelet_loss"
    job, ignored = read(a__json=saved(additional_parameters=more))
    assert job.config.max_grad_norm == 0.5
    assert "wavelet_loss: True" in ignored and any("blocks_to_swap" in line for line in ignored)


def test_lycoris_for_flux(read):
    job, _ = read(a__json=saved(LoRA_type="LyCORIS/LoKr", factor=6, network_dim=32))
    assert (job.config.adapter, job.config.lokr_factor, job.config.rank) == ("lokr", 6, 32)
    job, _ = read(b__json=saved(LoRA_type="LyCORIS/LoCon", dora_wd=True))
    assert job.config.adapter == "dora"
    with pytest.raises(JobError, match="network_args.algo is ia3"):
        read(c__json=saved(LoRA_type="LyCORIS/iA3"))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"LoRA_type": "Standard", "flux1_checkbox": False, "sdxl": True}, "Diffusion XL"),
        ({"LoRA_type": "LyCORIS/LoHa", "flux1_checkbox": False}, "Stable Diffusion 1"),
        ({"LoRA_type": ""}, "a whole model, or an embedding"),
        ({"epoch": "ten"}, "max_train_epochs is 'ten'"),
        ({"lr_warmup": "a tenth"}, "lr_warmup is 'a tenth'"),
        ({"train_data_dir": ""}, "`pairs` names no folder"),
    ],
)
def test_what_is_none_says_why(read, changes, words):
    with pytest.raises(JobError, match=words):
        read(a__json=saved(**changes))
