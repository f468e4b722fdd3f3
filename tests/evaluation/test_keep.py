"""Keeping a checkpoint: the right one, whole, with its notes, and never over another LoRA."""

import base64
import io
import json

import pytest
import torch
from kontext.evaluation.keep import Choice, KeepError, choose, keep
from kontext.evaluation.pictures.samples import Cell, Samples, file_digest
from kontext.files import DamagedFileError
from kontext.trainer import host
from kontext.trainer.runs.checkpoint import Checkpoint
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.metadata import save_lora
from kontext.trainer.runs.run import Run
from PIL import Image
from PIL.PngImagePlugin import PngInfo


@pytest.fixture
def run(tmp_path, make_lora):
    run = Run("rings", tmp_path / "output")
    run.lora_folder.mkdir(parents=True)
    for step in (100, 200):
        make_lora("x", step).rename(run.lora_folder / f"rings_{step:06d}.safetensors")
    return run


def write_scores(run, best, strength=0.8, note=""):
    folder = run.folder / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"best": best, "best_strength": strength, "note": note}
    (folder / "scores.json").write_text(json.dumps(content), encoding="utf-8")


def test_best_is_what_was_scored_best_with_its_strength(run):
    write_scores(run, "rings_000100.safetensors")
    assert choose(run, "best") == Choice(run.checkpoint_at(100), 0.8)
    assert choose(run, "last").checkpoint.step == 200
    assert choose(run, " 100 ").checkpoint.step == 100
    assert choose(run, "rings\\rings_000200.safetensors").checkpoint.step == 200


@pytest.mark.parametrize(
    "choice, best, message",
    [
        ("best", "rings_000050.safetensors", "no checkpoint 'rings_000050.*deleted since"),
        ("best", None, "can be called the best: only 2 held-out pairs"),
        ("newest", None, "Write best, last or the step"),
        ("0", None, "Write best, last or the step"),
    ],
)
def test_a_choice_that_cannot_be_met_says_why(run, choice, best, message):
    write_scores(run, best, note="only 2 held-out pairs")
    with pytest.raises(KeepError, match=message):
        choose(run, choice)


def test_best_without_scores_asks_for_them(run):
    with pytest.raises(KeepError, match="Run Score Checkpoints"):
        choose(run, "best")


@pytest.mark.parametrize("choice", ["best", "rings_000100.safetensors", "100"])
def test_a_damaged_checkpoint_is_not_kept(run, choice):
    """Its header is whole, one byte of its weights is another: a copy would get a valid hash."""
    whole = run.checkpoint_at(100).path
    save_lora(host.load_lora_file(whole), whole, {"kontext.step": "100"})  # with a hash
    content = bytearray(whole.read_bytes())
    content[-1] ^= 1
    whole.write_bytes(content)
    write_scores(run, whole.name)
    with pytest.raises(RunError, match="is damaged"):
        choose(run, choice)


def test_a_step_that_was_not_saved_lists_those_that_were(run):
    with pytest.raises(RunError, match="100, 200"):
        choose(run, "150")


def test_the_kept_file_has_the_same_weights_and_the_notes(run, tmp_path):
    path = tmp_path / "models" / "亮珠宝.safetensors"
    notes = {"modelspec.trigger_phrase": "亮珠宝，", "modelspec.usage_hint": ""}
    keep(run, Choice(run.checkpoint_at(100), 0.8), path, notes)
    kept, original = (host.load_lora_file(p) for p in (path, run.checkpoint_at(100).path))
    assert kept.keys() == original.keys()
    assert all(torch.equal(kept[name], original[name]) for name in kept)
    metadata = Checkpoint(0, path).metadata()
    assert metadata["modelspec.trigger_phrase"] == "亮珠宝，"
    assert metadata["kontext.recommended_strength"] == "0.8"
    assert metadata["kontext.step"] == "100"
    assert "modelspec.usage_hint" not in metadata


def test_another_lora_of_the_name_is_kept_unless_overwriting(run, tmp_path):
    path = tmp_path / "ring.safetensors"
    keep(run, Choice(run.checkpoint_at(100)), path, {})
    keep(run, Choice(run.checkpoint_at(100)), path, {})
    before = path.read_bytes()
    with pytest.raises(KeepError, match="another LoRA named ring.safetensors"):
        keep(run, Choice(run.checkpoint_at(200)), path, {})
    assert path.read_bytes() == before
    keep(run, Choice(run.checkpoint_at(200)), path, {}, overwrite=True)
    assert Checkpoint(0, path).metadata()["kontext.step"] == "200"


def test_the_preview_is_a_sample_of_this_checkpoint_near_its_strength(run, tmp_path):
    samples = Samples(run.folder / "samples")
    digests = {step: file_digest(run.checkpoint_at(step).path) for step in (100, 200)}
    for step, strength, colour in ((100, 0.75, "red"), (100, 1.0, "green"), (200, 0.8, "blue")):
        cell = Cell("base", digests[step], strength, "gold", (), 8, 8, 1, 4, 2.5)
        samples.save(cell, Image.new("RGB", (8, 8), colour), f"{step} {strength}")
    (samples.folder / "0.png").write_bytes(b"")  # damaged
    Image.new("RGB", (8, 8)).save(samples.folder / "1.png")  # of another program
    path = tmp_path / "ring.safetensors"
    assert keep(run, Choice(run.checkpoint_at(100), 0.8), path, {}) == ""
    assert shown_colour(path) == (255, 0, 0)
    data = (
        Checkpoint(0, path)
        .metadata()["modelspec.thumbnail"]
        .removeprefix("data:image/jpeg;base64,")
    )
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert small.size == (256, 256) and small.getpixel((9, 9))[0] > 250


def shown_colour(lora):
    with Image.open(lora.with_suffix(".png")) as preview:
        return preview.getpixel((4, 4))


def sampled(run, colour, strength=1.0):
    digest = file_digest(run.checkpoint_at(100).path)
    cell = Cell("base", digest, strength, colour, (), 8, 8, 1, 4, 2.5)
    return Samples(run.folder / "samples").save(cell, Image.new("RGB", (8, 8), colour), colour)


@pytest.mark.parametrize("text", ["kontext", "parameters"])
def test_a_picture_of_the_users_own_stays_unless_overwriting(run, tmp_path, text):
    sampled(run, "red")
    path = tmp_path / "ring.safetensors"
    words = PngInfo()
    words.add_text(text, "{}")
    Image.new("RGB", (8, 8), "blue").save(path.with_suffix(".png"), pnginfo=words)
    before = path.with_suffix(".png").read_bytes()
    choice = Choice(run.checkpoint_at(100))
    for _ in range(2):
        assert "ring.png is your own picture and stays" in keep(run, choice, path, {})
        assert path.with_suffix(".png").read_bytes() == before
    assert keep(run, choice, path, {}, overwrite=True) == ""
    assert shown_colour(path) == (255, 0, 0)


def test_a_sample_kept_before_gives_way_to_a_nearer_one(run, tmp_path):
    sampled(run, "red", strength=0.5)
    path, choice = tmp_path / "ring.safetensors", Choice(run.checkpoint_at(100))
    keep(run, choice, path, {})
    sampled(run, "green")
    assert keep(run, choice, path, {}) == "" and shown_colour(path) == (0, 128, 0)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"best": "a"}', '{"best": 1, "best_strength": "x"}']
)
def test_broken_scores_are_named_where_they_are_needed(run, content):
    write_scores(run, None)
    (run.folder / "scores" / "scores.json").write_text(content, encoding="utf-8")
    with pytest.raises(DamagedFileError, match="scores.json is damaged.*Run Score Checkpoints"):
        choose(run, "best")
    assert choose(run, "200") == Choice(run.checkpoint_at(200))
