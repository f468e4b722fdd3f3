"""Command lines of diffusers and DiffSynth-Studio, and T2ITrainer's JSON, worked out by hand from
their examples."""

import json

import pytest
from kontext.trainer.runs.job import JobError

DIFFUSERS = """
export MODEL_NAME="black-forest-labs/FLUX.1-Kontext-dev"
accelerate launch train_dreambooth_lora_flux_kontext.py \\
  --pretrained_model_name_or_path=$MODEL_NAME --instance_data_dir="photos" \\
  --instance_prompt="restore the photo" --resolution=1024 --guidance_scale=1 \\
  --optimizer="adamw" --use_8bit_adam --learning_rate=1e-4 --lr_scheduler="constant" \\
  --max_train_steps=500 --rank=16 --seed="0" --cond_image_column="before" 2>&1 | tee log.txt
"""
DIFFSYNTH = """
accelerate launch examples/flux/model_training/train.py \\
  --dataset_base_path data/rings --dataset_metadata_path data/rings/metadata.csv \\
  --data_file_keys "image,kontext_images" --max_pixels 589824 --dataset_repeat 40 \\
  --model_id_with_origin_paths "black-forest-labs/FLUX.1-Kontext-dev:flux1-kontext-dev.safetensors" \\
  --learning_rate 1e-4 --num_epochs 5 --lora_base_model "dit" --lora_rank 32 \\
  --lora_target_modules "a_to_qkv" --extra_inputs "kontext_images" --use_gradient_checkpointing
"""  # noqa: E501
PAIRS = {
    "pretrained_model_name_or_path": "D:/models/FLUX.1-Kontext-dev", "save_name": "rings",
    "train_data_dir": "D:/rings", "repeats": 10, "num_train_epochs": 10, "rank": 32,
    "rank_alpha": 16.0, "learning_rate": 1.0, "optimizer": "prodigy", "use_lokr": False,
    "lokr_factor": 4, "validation_ratio": 0.1, "resolution": "512", "caption_dropout": 0.1,
    "image_configs": {"train": {"suffix": "_T"}, "a": {"suffix": "_R"}, "b": {"suffix": "_G"}},
}  # fmt: skip


def test_diffusers(read):
    """Its defaults are rank 4 and alpha 4; columns of a table are found by their names here."""
    job, ignored = read(photo__sh=DIFFUSERS)
    assert job.pairs == [
        {"control_folder": "photos", "default_caption": "restore the photo", "holdout": 0.15}
    ]
    wanted = dict(rank=16, alpha=4.0, optimizer="adamw8bit", steps=500, guidance=1, resolution=1024)
    assert {name: getattr(job.config, name) for name in wanted} == wanted
    assert "cond_image_column: before" in ignored and job.config.seed == 0
    with pytest.raises(JobError, match="FLUX.1-schnell"):
        read(b__sh=DIFFUSERS.replace("1-Kontext-dev", "1-schnell"))


def test_diffsynth(read):
    job, ignored = read(ring__sh=DIFFSYNTH)
    assert job.pairs == [
        {"control_folder": "data/rings/metadata.csv", "repeats": 40, "holdout": 0.15}
    ]
    assert (job.config.rank, job.config.resolution, job.epochs) == (32, 768, 5)
    assert "lora_target_modules: a_to_qkv" in ignored
    with pytest.raises(JobError, match="trains a whole model"):
        read(b__sh=DIFFSYNTH.replace('--lora_base_model "dit"', ""))


def test_t2itrainer(read):
    """config_template/: the first image is the target, the others are its references."""
    job, _ = read(rings__json=json.dumps(PAIRS))
    assert job.pairs == [
        {"control_folder": "D:/rings", "repeats": 10, "holdout": 0.1,
         "pattern": "{name}_R | {name}_G | {name}_T",
         "several_controls": "one pair with several references"}
    ]  # fmt: skip
    wanted = dict(rank=32, alpha=16.0, optimizer="prodigy", learning_rate=1.0, adapter="lora")
    assert {name: getattr(job.config, name) for name in wanted} == wanted
    inner = {"train_data_dir": "D:/more", "repeats": 2, "image_configs": {"train": {"suffix": ""}}}
    job, _ = read(more__json=json.dumps({**PAIRS, "dataset_configs": [inner]}))
    assert job.pairs == [{"pictures_folder": "D:/more", "repeats": 2, "holdout": 0.1}]


def test_a_rank_without_end_is_for_lokr_alone(read):
    """LyCORIS: where w2 is a full matrix, the scale is 1 whatever alpha says."""
    full = {**PAIRS, "use_lokr": True, "rank": 10000, "rank_alpha": 1.0}
    job, ignored = read(a__json=json.dumps(full))
    assert (job.config.adapter, job.config.rank, job.config.alpha) == ("lokr", 256, 0)
    assert any(line.startswith("rank: 10000 (here the rank is at most 256)") for line in ignored)
    with pytest.raises(JobError, match="rank is 10000; the rank is at most 256"):
        read(b__json=json.dumps({**full, "use_lokr": False}))
