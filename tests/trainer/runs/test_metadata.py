"""What other programs read from a LoRA file, by the definitions that they publish."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer.files import save_tensors
from kontext.trainer.runs.export import export_lora
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.metadata import origin, run_metadata, shared_words, thumbnail
from PIL import Image
from safetensors import safe_open

from ..short_runs import SHORT, last_lora


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def data_of(path):
    """All bytes after the header, by the safetensors format."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


@pytest.fixture
def run(run_training, pairs):
    """Two of the four pairs count three times, one is held out."""
    first, second, third, last = pairs.pairs
    chosen = replace(first, repeats=3), second, third, replace(last, split="holdout")
    return run_training(SHORT.replace(batch_size=2), pairs=PairedDataset(chosen))


@pytest.mark.slow
def test_the_hash_is_that_of_the_tensor_content(run, tmp_path):
    """Reference: the model specification, "all tensor content (ie excluding the header section),
    with 0x prefix"; kohya's sshs_model_hash, the sha256 of the file from the end of its header."""
    path = run.checkpoints()[-1].path
    exported = export_lora(
        last_lora(run), metadata_of(path), tmp_path / "other.safetensors", "diffusers"
    )
    for file in (path, exported):
        digest = hashlib.sha256(data_of(file)).hexdigest()
        assert metadata_of(file)["modelspec.hash_sha256"] == f"0x{digest}"
        assert metadata_of(file)["sshs_model_hash"] == digest
    assert data_of(path) != data_of(exported)


@pytest.mark.slow
def test_a_checkpoint_says_what_it_was_trained_on(run):
    """6 steps of 2 of 5 pictures are 2.4 epochs: the third is under way."""
    notes = metadata_of(run.checkpoints()[-1].path)
    assert notes["modelspec.resolution"] == "512x512" and notes["ss_resolution"] == "(512, 512)"
    assert notes["ss_num_train_images"] == "5" and notes["ss_epoch"] == "3"
    assert notes["modelspec.usage_hint"] == "Prompt: swap the colours,"
    assert "modelspec.trigger_phrase" not in notes
    assert notes["modelspec.description"] == "Trained for 6 steps on 3 before/after pairs."
    assert notes["modelspec.date"] == run.file.read()["begun"]
    # Lora-Manager reads the first group's words with their counts, the most frequent first
    (words,) = json.loads(notes["ss_tag_frequency"]).values()
    assert words == {"swap the colours": 5, "0": 3, "1": 1, "2": 1}


def test_a_checkpoint_that_is_written_again_has_the_same_bytes(run_training):
    """It was lost after the state had been saved; its scores and votes go by its bytes."""
    run = run_training(SHORT)
    last = run.checkpoints()[-1].path
    before = last.read_bytes()
    last.unlink()
    assert run_training(SHORT).checkpoints()[-1].path.read_bytes() == before


def test_the_same_content_makes_the_same_file(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.int8)}
    notes = {name: name.upper() for name in "zyxwvu"} | {"caption": "好 \ud83d"}
    for name, metadata in (("one", notes), ("two", dict(reversed(notes.items())))):
        save_tensors(tensors, tmp_path / name, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(tmp_path / "one", "pt") as file:
        assert file.metadata() == {**notes, "caption": "好 ?"}
        assert all(torch.equal(file.get_tensor(name), tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "captions, trigger, hint",
    [
        (["ohwx, retouch it, a ring", "ohwx, retouch it, a chain"], "ohwx", "ohwx, retouch it,"),
        (["亮珠宝，修图，戒指", "亮珠宝，修图，项链"], "亮珠宝", "亮珠宝，修图，"),
        (["把背景换成纯白色，主体不变"] * 2, None, "把背景换成纯白色，主体不变"),
        (["Turn into Animal Story Style."] * 3, None, "Turn into Animal Story Style."),
        (["retouch rings", "retouch ringlets"], None, "retouch"),
        (["a ring", "blue chain"], None, None),
        ([""], None, None),
    ],
)
def test_the_trigger_and_the_instruction_are_what_the_captions_share(captions, trigger, hint):
    pairs = {str(place): {"caption": text} for place, text in enumerate(captions)}
    notes = run_metadata("ring", 250, Identity(SHORT, "", "", pairs=pairs))
    assert notes.get("modelspec.trigger_phrase") == trigger
    assert notes.get("modelspec.usage_hint") == (hint and f"Prompt: {hint}")
    assert shared_words(captions) == (hint or "")


@pytest.mark.parametrize(
    "model, name",
    [
        ({"diffusion_model": "flux/kontext_fp8.safetensors"}, "kontext_fp8.safetensors"),
        ({"diffusion_model": "flux\\kontext.gguf"}, "kontext.gguf"),
        ({"checkpoint": "all in one.safetensors"}, "all in one.safetensors"),
        ("demo", "demo"),
        ({"diffusion_model": None}, None),
        (None, None),
    ],
)
def test_the_base_model_is_named_by_its_file(model, name):
    found = origin({"model": model, "begun": "2026-11-27"})
    assert found.get("ss_sd_model_name") == name and found["modelspec.date"] == "2026-11-27"


def test_a_thumbnail_is_a_small_square_jpeg():
    """256 × 256 is what the specification recommends, of at most a few kilobytes."""
    import base64
    import io

    text = thumbnail(Image.effect_noise((900, 400), 60).convert("RGB"))
    kind, _, content = text.partition(",")
    assert kind == "data:image/jpeg;base64" and len(text) < 60_000
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (256, 256)
