"""A run with everything that can be set, then what a user does with it: compare, score, keep."""

import json
from dataclasses import replace

import comfy.model_management as memory
import folder_paths
import numpy as np
import pytest
import torch
import yaml
from kontext.dataset.pair import PairedDataset
from kontext.nodes.compare import CompareCheckpoints
from kontext.nodes.keep_checkpoint import KeepCheckpoint
from kontext.nodes.score import ScoreCheckpoints
from kontext.trainer import host
from kontext.trainer.host.lora_files import load_lora_file
from kontext.trainer.loop import train
from kontext.trainer.network.lora import LoraLinear
from kontext.trainer.request import TrainingRequest
from PIL import Image, ImageOps

from ..trainer.conftest import sha256_of, write_pairs
from ..trainer.short_runs import SHORT, assert_same, last_lora

EVERYTHING = SHORT.replace(
    steps=2, save_every=2, batch_size=2, accumulate=2, resolution="64, 96", reference_resolution=32,
    caption_dropout=0.3, reference_dropout=0.3, preserve=0.5, preserve_every=2,
    preserve_prompts="Make the sky darker.", dropout=0.1, ema=0.5, outside_mask=0.1, targets="all",
    loss="huber", preview_steps=1,
)  # fmt: skip


@pytest.fixture
def pairs(tmp_path):
    """Two shapes, two controls each, a mask on one; one pair is held out."""
    wide = write_pairs(tmp_path / "wide", 3, size=(96, 64))
    high = write_pairs(tmp_path / "high", 2, size=(64, 96))
    mask = wide.pairs[0].target.with_name("000_mask.png")
    Image.fromarray(np.eye(64, 96, dtype=np.uint8) * 255).save(mask)
    both = []
    for place, pair in enumerate([*wide, *high]):
        second = pair.controls[0].with_name(f"second_{place}.png")
        ImageOps.mirror(Image.open(pair.controls[0])).save(second)
        both.append(replace(pair, stem=f"pair_{place}", controls=(pair.controls[0], second)))
    first, *others, last = both
    return PairedDataset((replace(first, mask=mask), *others, replace(last, split="holdout")))


@pytest.fixture
def trained(base, pairs, tmp_path):
    def run(config=EVERYTHING, name="edit"):
        places = tmp_path / "out", tmp_path / "out" / "kontext_cache"
        with torch.inference_mode():
            return train(TrainingRequest(base, pairs, config, name, *places))

    return run


def as_called(node):
    """As ComfyUI calls it, with nobody to show anything to."""
    return node.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute


@pytest.mark.slow
def test_it_trains_and_its_checkpoints_are_compared_scored_and_kept(
    base, trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "out"))
    loras = tmp_path / "loras"
    loras.mkdir()
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths,
        "loras",
        ([str(loras), str(tmp_path / "out" / "loras")], {".safetensors"}),
    )
    before, run = sha256_of(base.model.model), trained()
    assert sha256_of(base.model.model) == before
    log = run.logged()
    assert run.finished and len(log) == 2 and "holdout" in log[-1]
    for checkpoint in run.checkpoints():
        assert host.unmapped_keys(base.model, load_lora_file(checkpoint.path)) == []
    content = yaml.safe_load((run.folder / "run.yaml").read_text(encoding="utf-8"))
    assert content["config"]["resolution"] == "64, 96"

    model = dict(model=base.model, clip=base.clip, vae=base.vae)
    with torch.inference_mode():
        listed = {name: [value] for name, value in model.items()}
        axes = dict(prompt=[""], strengths=["1"], seeds=["1"], sampling_steps=["1"])
        grid = as_called(CompareCheckpoints)(**listed, run=[run], **axes).args[0]
        scores = as_called(ScoreCheckpoints)(
            **model, run=run, strengths="1", pictures=1, sampling_steps=1
        )
    assert grid.shape[-1] == 3 and grid.std() > 0.01
    (scored,) = json.loads(scores.args[-1])["checkpoints"]
    assert "held-out gain" in scores.args[0] and scored["step"] == 2
    name, *_ = as_called(KeepCheckpoint)(run, "2", "kept").args
    assert host.unmapped_keys(base.model, load_lora_file(loras / name)) == []
    memory.unload_all_models()  # with the LoRAs of the pictures
    assert sha256_of(base.model.model) == before


def break_in(monkeypatch, way, *errors):
    """Raise these in the fifth layer, and so on, that is gone through this way."""
    real, left, calls = getattr(LoraLinear, way), list(errors), []

    def broken(*arguments):
        calls.append(way)
        if left and len(calls) % 5 == 0:
            raise left.pop()
        return real(*arguments)

    monkeypatch.setattr(LoraLinear, way, staticmethod(broken))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_neither_running_out_of_memory_nor_an_error_leaves_a_trace(base, trained, monkeypatch, way):
    """The step is done again, with more blocks checkpointed: the same LoRA, and the same base. The
    second time forward breaks inside of a checkpointed block."""
    before, config = sha256_of(base.model.model), SHORT.replace(steps=2, resolution=64)
    plain = trained(config, "plain")
    with monkeypatch.context() as patch:
        break_in(patch, way, host.OutOfMemory(), host.OutOfMemory())
        spared = trained(config, "spared")
    assert spared.logged()[0]["note"].count("out of memory at step 1") == 2
    assert_same(last_lora(spared), last_lora(plain))
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        break_in(patch, way, ZeroDivisionError())
        trained(config.replace(checkpointing="on"), "broken")
    assert not any("forward" in part.__dict__ for part in base.model.model.modules())
    assert sha256_of(base.model.model) == before
