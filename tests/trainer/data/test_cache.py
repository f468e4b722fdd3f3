"""Encoded once, by content."""

import os
import time

import comfy.sd
import pytest
import torch
from kontext.dataset.pair import Pair
from kontext.trainer import host
from kontext.trainer.batch import load_batch, seeded
from kontext.trainer.config import TrainConfig
from kontext.trainer.data.batches import Batches
from kontext.trainer.data.cache import Cache
from kontext.trainer.data.pixels import tensor_of
from PIL import Image
from safetensors.torch import load_file, save_file


@pytest.fixture
def cache(base, tmp_path):
    return Cache(tmp_path / "cache", base, TrainConfig(dtype="fp32"))


def files(cache):
    return sorted(path.name for path in cache.folder.glob("*"))


def test_latents_are_the_vaes_mode_in_the_models_range(base, cache, pairs):
    """Reference: VAE.encode and BaseModel.process_latent_in."""
    pair = pairs.pairs[0]
    with torch.inference_mode():
        batch = load_batch([cache.encode(pair)], None, torch.device("cpu"))
        for path, cached in [(pair.target, batch.target), (pair.controls[0], *batch.references)]:
            raw = base.vae.encode(tensor_of(Image.open(path)))
            torch.testing.assert_close(cached, base.model.model.process_latent_in(raw))
        expected = host.encode_text(base.clip, pair.caption)
    torch.testing.assert_close(batch.text.cond, expected.cond, rtol=0, atol=0)


def test_nothing_is_encoded_twice(cache, pairs, monkeypatch):
    with torch.inference_mode():
        first = [cache.encode(pair) for pair in pairs]
        monkeypatch.delattr(comfy.sd.VAE, "encode")
        monkeypatch.delattr(comfy.sd.CLIP, "encode_from_tokens")
        assert [cache.encode(pair) for pair in pairs] == first


def test_the_same_picture_elsewhere_is_the_same_latent(cache, pairs, tmp_path):
    one = pairs.pairs[0]
    moved = tmp_path / "另一个 name.png"
    moved.write_bytes(one.target.read_bytes())
    with torch.inference_mode():
        first = cache.encode(one)
        again = cache.encode(Pair("moved", one.controls, moved, one.caption))
    assert again.target == first.target


def test_another_picture_under_the_same_name_is_not(cache, pairs):
    pair = pairs.pairs[0]
    with torch.inference_mode():
        first = cache.encode(pair)
        Image.new("RGB", (64, 64), "red").save(pair.target)
        assert cache.encode(pair).target != first.target


def test_turned_pictures_keep_their_shape(cache, pairs):
    """EXIF orientation 6 turns a wide file into a tall picture."""
    pair = pairs.pairs[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64)).save(pair.target, exif=exif)
    assert cache.sizes(pair)[0] == (64, 96)


def test_an_epoch_sees_every_pair_as_often_as_it_repeats(cache, pairs):
    with torch.inference_mode():
        encoded = [cache.encode(pair) for pair in pairs]
    batches = Batches(encoded, [1, 1, 3, 1], size=4, seed=0)
    assert batches.per_epoch == 2
    for epoch in range(3):
        seen = [pair.stem for i in (0, 1) for pair in batches.at(2 * epoch + i)]
        assert sorted(seen) == ["000", "001", "002", "002", "002", "003"]
    assert [batches.at(5), batches.at(0)] == [batches.at(5), batches.at(0)]


def test_generators_differ_by_step_seed_and_purpose():
    draws = {
        torch.rand((), generator=seeded(*words)).item()
        for words in [(0, 0, "step"), (0, 1, "step"), (1, 0, "step"), (0, 0, "epoch")]
    }
    assert len(draws) == 4


def test_what_was_unused_for_longest_goes_first_and_nothing_that_may_be_in_use(cache, pairs):
    with torch.inference_mode():
        used = cache.encode_images(pairs.pairs[0])
    for name, age in (("old", 3), ("older", 5), ("new", 0.1)):
        path = cache.folder / f"{name}.safetensors"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (time.time() - age * 24 * 3600,) * 2)
    for path in used:
        os.utime(path, (0, 0))  # from long ago, but this run has just asked for it
    room = sum(path.stat().st_size for path in used) + 2000
    cache.shrink(room)
    assert files(cache) == sorted(["old.safetensors", "new.safetensors", *(p.name for p in used)])
    cache.shrink(0)
    assert files(cache) == sorted(["new.safetensors", *(path.name for path in used)])


@pytest.mark.parametrize("left", [0, 5, 0.5, 0.99])
def test_what_was_cut_is_encoded_again(cache, pairs, left):
    """By a full disk or a copy that was broken off: latents, text."""
    encoded = cache.encode(pairs.pairs[0])
    files = {path: path.read_bytes() for path in cache.folder.iterdir()}
    assert len(files) > 2
    for path, content in files.items():
        path.write_bytes(content[: int(left * len(content)) if left < 1 else left])
    assert cache.encode(pairs.pairs[0]) == encoded
    assert {path: path.read_bytes() for path in cache.folder.iterdir()} == files


@pytest.mark.parametrize("damage", ["NULs", "a bit", "other names"])
def test_what_is_not_what_was_written_is_encoded_again(cache, pairs, damage):
    encoded = cache.encode(pairs.pairs[0])
    files = {path: path.read_bytes() for path in cache.folder.iterdir()}
    for path, content in files.items():
        if damage == "other names":
            save_file({f"x.{name}": each for name, each in load_file(path).items()}, path)
        else:
            end = b"\0" * 20 if damage == "NULs" else bytes([content[-20] ^ 1]) + content[-19:]
            path.write_bytes(content[:-20] + end)
    assert cache.encode(pairs.pairs[0]) == encoded
    assert {path: path.read_bytes() for path in cache.folder.iterdir()} == files
