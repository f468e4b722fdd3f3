"""Encoding within `max_vram`: ComfyUI's own loader, on a CPU that plays a card of so many bytes."""

import json
from types import SimpleNamespace

import comfy.model_management as memory
import pytest
import torch
from kontext.trainer import host
from kontext.trainer.config import GB, TrainConfig
from kontext.trainer.data.cache import Cache
from safetensors.torch import load_file

from ..short_runs import SHORT


@pytest.fixture
def card(monkeypatch):
    """card(total): a card of so many bytes, of which a hundredth is ComfyUI's reserve. Returns the
    bytes of weights on it, noted whenever ComfyUI asks what is free."""
    taken: list[int] = []

    def turn(total):
        def free(device=None, torch_free_too=False):
            loaded = {id(one.model.model): one.model for one in memory.current_loaded_models}
            taken.append(sum(model.loaded_size() for model in loaded.values()))
            left = total - taken[-1]
            return (left, 0) if torch_free_too else left

        memory.free_memory(1e30, torch.device("cpu"))
        monkeypatch.setattr(memory, "get_free_memory", free)
        monkeypatch.setattr(memory, "is_device_cpu", lambda device: False)
        monkeypatch.setattr(memory, "vram_state", memory.VRAMState.NORMAL_VRAM)
        monkeypatch.setattr(memory, "lowvram_available", True)
        monkeypatch.setattr(memory, "MIN_WEIGHT_MEMORY_RATIO", 0.0)  # as on NVIDIA
        monkeypatch.setattr(memory, "EXTRA_RESERVED_VRAM", total // 100)
        monkeypatch.setattr(memory, "minimum_inference_memory", memory.extra_reserved_memory)
        monkeypatch.setattr(host.device, "free_bytes", lambda model: total)
        return taken

    yield turn
    memory.free_memory(1e30, torch.device("cpu"))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_as_many_weights_as_fit_beside_the_work_are_on_the_card(base, card, share):
    """ComfyUI counts a buffer for those on their way in."""
    model, size = base.model, base.model.model_size()
    taken, work = card(10 * size), size // 4
    with host.within(int(share * size) + work, model, work):
        memory.load_models_gpu([model], work)
    largest, *_ = host.weight_bytes(model, torch.float32)[2:]
    assert share * size - 3 * largest < model.loaded_size() <= share * size
    memory.load_models_gpu([model])
    assert model.loaded_size() == size and max(taken) <= size


def test_text_is_the_very_same_with_its_encoders_streamed(base, card):
    """And what an earlier node left on the card makes room."""
    clip, transformer = base.clip, base.model
    with torch.inference_mode():
        whole = host.encode_text(clip, "swap the colours")
        size = clip.patcher.model_size()
        taken, limit = card(10 * (size + transformer.model_size())), size // 4
        memory.load_models_gpu([transformer])
        assert transformer.loaded_size() == transformer.model_size()
        text = host.encode_text(clip, "swap the colours", limit)
    assert transformer.loaded_size() == 0
    assert clip.patcher.loaded_size() <= limit and taken[-1] <= limit
    assert torch.equal(text.cond, whole.cond) and torch.equal(text.pooled, whole.pooled)


def test_without_a_limit_nothing_makes_room(base, card):
    with torch.inference_mode():
        card(10 * (base.clip.patcher.model_size() + base.model.model_size()))
        memory.load_models_gpu([base.model])
        host.encode_text(base.clip, "swap the colours")
        host.encode_image(base.vae, torch.rand(1, 64, 64, 3))
    for model in (base.model, base.clip.patcher, base.vae.patcher):
        assert model.loaded_size() == model.model_size()


def test_a_limit_above_what_is_there_reserves_no_less(base, card):
    """Nor does an error inside leave the reserve changed."""
    total = 10 * base.clip.patcher.model_size()
    card(total)
    with pytest.raises(KeyError), host.within(2 * total, base.clip.patcher):
        assert memory.extra_reserved_memory() == total // 100
        raise KeyError
    with pytest.raises(KeyError), host.within(total // 4, base.clip.patcher):
        assert memory.extra_reserved_memory() == total - total // 4
        raise KeyError
    assert memory.extra_reserved_memory() == total // 100


def work(height: int, width: int, vae) -> float:
    """ComfyUI's estimate for encoding with Flux's VAE."""
    return 1767 * height * width * vae.vae_dtype.itemsize


def test_only_what_does_not_fit_is_encoded_in_tiles(vae, card):
    """The largest that fit; always the same for the same limit, whatever is free."""
    weights = vae.model_size()

    def tile(height, width, limit):
        return host.tile_side(vae, (height, width), int(limit))

    assert tile(2048, 2048, 1) == 0  # on a real CPU
    card(10 * GB)
    for side in (1024, 512, 256):
        assert tile(1536, 1024, work(side, side, vae) + weights + 1) == side
    assert tile(1536, 1024, work(1536, 1024, vae) + weights + 1) == 0
    assert tile(1536, 1024, 1) == 256  # the least there is
    assert tile(200, 300, 1) == 0 and tile(2048, 2048, 0) == 0


def test_tiles_are_comfyuis_and_it_makes_room_for_one(vae, card, monkeypatch):
    """Reference: VAE.encode_tiled, what VAEEncodeTiled calls."""
    monkeypatch.setattr(host.comfy, "TILES", (128, 64))
    monkeypatch.setattr(host.comfy, "TILE_OVERLAP", 16)
    image, asked = torch.rand(1, 144, 136, 3), []
    estimate, load = vae.memory_used_encode, memory.load_models_gpu
    limit = int(work(128, 128, vae)) + vae.model_size() + 1
    with torch.inference_mode():
        whole = host.encode_image(vae, image)
        expected = vae.encode_tiled(image, 128, 128, 16)
        card(10 * limit)

        def noted(models, memory_required=0, **options):
            asked.append(memory_required)
            return load(models, memory_required, **options)

        monkeypatch.setattr(memory, "load_models_gpu", noted)
        tiled = host.encode_image(vae, image, limit)
        small = host.encode_image(vae, image[:, :64, :64], limit)
    torch.testing.assert_close(tiled, expected, rtol=0, atol=0)
    assert not torch.equal(tiled, whole)
    assert asked == [work(128, 128, vae), work(64, 64, vae)]
    assert small.shape == (1, 16, 8, 8) and vae.patcher.loaded_size() == vae.model_size()
    assert vae.memory_used_encode is estimate


def test_tiled_latents_have_names_of_their_own(base, card, make_pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(host.comfy, "TILES", (128, 64))
    monkeypatch.setattr(host.comfy, "TILE_OVERLAP", 16)
    (pair,) = make_pairs(tmp_path / "pairs", 1, (144, 128)).pairs
    enough = work(128, 128, base.vae) + base.vae.model_size() + 1
    card(10 * GB)
    names = {}
    for limit in (0.0, enough / GB, 100.0):
        cache = Cache(tmp_path / "cache", base, TrainConfig(dtype="fp32", max_vram=limit))
        with torch.inference_mode():
            names[limit] = cache.encode_images(pair)
        said = "; ".join(cache.notes())
        assert ("pictures of 144 × 128 are encoded in tiles of 128" in said) == (0 < limit < 1)
        assert bool(said) == (0 < limit < 1)
    whole, tiled, again = names.values()
    assert whole == again and not {*whole} & {*tiled}
    for path, other in zip(whole, tiled, strict=True):
        assert not torch.equal(load_file(path)["latent"], load_file(other)["latent"])


def test_captions_are_cached_within_the_limit(base, card, tmp_path):
    encoders = base.clip.patcher
    card(10 * encoders.model_size())
    limit = encoders.model_size() / 4 / GB
    with torch.inference_mode():
        config = TrainConfig(dtype="fp32", max_vram=limit)
        Cache(tmp_path, base, config).encode_text("swap the colours")
    assert encoders.loaded_size() <= limit * GB


@pytest.mark.slow
def test_a_run_says_that_its_latents_are_in_tiles(run_training, monkeypatch):
    for room in (host, host.comfy):
        monkeypatch.setattr(room, "tile_side", lambda vae, size, limit: 32 if limit else 0)
    monkeypatch.setattr(host.comfy, "TILE_OVERLAP", 8)
    run = run_training(SHORT.replace(max_vram=8.0))
    first = json.loads((run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert "max_vram 8 GB: pictures of 64 × 64 are encoded in tiles of 32" in first["note"]


def test_dynamic_vram_gets_a_watermark_and_gives_back_what_is_above(monkeypatch, card):
    """A stand-in for its pager, which is there on a card only: below the limit less the work, or
    less what ComfyUI always leaves for work."""
    card(100 * GB)
    monkeypatch.setattr(memory, "minimum_inference_memory", lambda: 2 * GB)  # 1 GB is the reserve
    marks, pushed = [], []
    model = SimpleNamespace(
        load_device=torch.device("cpu"), offload_device=torch.device("cpu"),
        is_dynamic=lambda: True,
        loaded_size=lambda: 9 * GB, partially_unload=lambda device, most: pushed.append(most),
        _vbar_get=lambda create: SimpleNamespace(set_watermark_limit=marks.append),
    )  # fmt: skip
    for limit, needed in [(8, 3), (8, 0), (20, 3), (2, 3)]:
        with host.within(limit * GB, model, needed * GB):
            pass
    assert [mark / GB for mark in marks] == [5, 7, 17, 0]
    assert [most / GB for most in pushed] == [4, 2, 0, 9]
