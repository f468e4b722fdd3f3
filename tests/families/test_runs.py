"""A whole run on each member: encoded, trained, sampled, saved, continued; its LoRA elsewhere."""

from dataclasses import replace

import comfy.model_management as memory
import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.families import recognise
from kontext.trainer.host.lora_files import load_lora_file
from kontext.trainer.loop import train
from kontext.trainer.network.attach import attached
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs.export import comfyui_tensors, export_lora

from ..trainer.conftest import sha256_of, write_pairs
from ..trainer.short_runs import SHORT, assert_same, interrupt_after, last_lora
from .miniatures import MINIATURES, load_model, qwen_weights

CONFIG = SHORT.replace(
    steps=3, save_every=3, batch_size=2, resolution=64, caption_dropout=0.3, reference_dropout=0.3,
    preserve=0.5, preserve_every=1, flip=True, preview_steps=1, learning_rate=0.01, ema=0.5,
    edit_weight=1.0, preserve_prompts="Make the sky darker.",
)  # fmt: skip


@pytest.fixture
def run_training(base, tmp_path):
    def run(config=CONFIG, name="edit", count=3, **changes):
        pairs = changes.pop("pairs", None) or write_pairs(tmp_path / "pairs", count)
        places = tmp_path / "out", tmp_path / "cache"
        with torch.inference_mode():
            return train(TrainingRequest(base, pairs, config, name, *places, **changes))

    return run


@pytest.mark.slow
def test_a_run_leaves_the_model_and_a_lora_that_comfyui_reads_whole(base, run_training):
    before = sha256_of(base.model.model)
    run = run_training()
    assert run.finished and len(run.logged()) == 3
    path = run.checkpoints()[-1].path
    assert host.unmapped_keys(base.model, load_lora_file(path)) == []
    metadata = run.checkpoints()[-1].metadata()
    family = recognise(base)
    assert metadata["modelspec.architecture"] == family.about()["modelspec.architecture"]
    assert list((run.folder / "samples").glob("*.png"))
    assert sha256_of(base.model.model) == before


@pytest.mark.slow
def test_a_continued_run_is_an_unbroken_one(run_training, monkeypatch):
    whole = last_lora(run_training(name="whole"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(host.Interrupted):
            run_training(name="parts")
    assert_same(last_lora(run_training(name="parts")), whole)


@pytest.mark.slow
def test_single_pictures_train_without_controls(base, run_training, tmp_path):
    """A person, a style, a product: one folder of pictures and their captions."""
    pairs = write_pairs(tmp_path / "pairs", 2)
    alone = PairedDataset(tuple(replace(pair, controls=()) for pair in pairs))
    config = CONFIG.replace(steps=2, save_every=2, edit_weight=0.0, preserve=0.0)
    run = run_training(config, "alone", pairs=alone)
    assert run.finished and list((run.folder / "samples").glob("*.png"))


def test_qwen_image_itself_learns_from_single_pictures(encoders, folder, tmp_path):
    model = load_model(qwen_weights(), folder / "qwen_image_fp8_e4m3fn.safetensors")
    base = host.Base(model, *encoders(MINIATURES["qwen 2509"]))
    pairs = write_pairs(tmp_path / "pairs", 2)
    alone = PairedDataset(tuple(replace(pair, controls=()) for pair in pairs))
    config = SHORT.replace(steps=2, save_every=2, resolution=64, preview_steps=1, flip=True)
    places = tmp_path / "out", tmp_path / "cache"
    with torch.inference_mode():
        run = train(TrainingRequest(base, alone, config, "person", *places))
    assert run.finished and list((run.folder / "samples").glob("*.png"))
    metadata = run.checkpoints()[-1].metadata()
    assert metadata["modelspec.architecture"] == "Qwen-Image/lora"


@pytest.mark.parametrize("format", ["comfyui", "diffusers"])
def test_the_stock_loader_predicts_what_training_did(
    family, model, lora, make_batch, miniature, tmp_path, format
):
    """Reference: ComfyUI's own loader at strength 1, on the file in each of its forms."""
    tensors = comfyui_tensors(lora.file_tensors(), 8.0, torch.float32)
    path = export_lora(tensors, {}, tmp_path / "edit.safetensors", format)
    named = load_lora_file(path)
    batch = make_batch(1)
    given = batch.target, torch.tensor([0.6]), batch.text, batch.references, miniature.guidance
    parts = family.network, lora, host.FrozenLinear, host.is_linear
    with host.differentiable(), attached(*parts):
        live = family.predict(*given).detach()
    assert host.unmapped_keys(model, named) == []
    with torch.inference_mode():
        memory.load_models_gpu([model])
        plain = family.predict(*given)
        patched = host.with_lora(model, named, 1.0)
        memory.load_models_gpu([patched])
        stock = family.predict(*given)
        patched.unpatch_model()
    assert (stock - live).norm() / live.norm() < 1e-5
    assert (stock - plain).norm() / live.norm() > 1e-2
