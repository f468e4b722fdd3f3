"""A LoRA to start from does in the run what ComfyUI makes of its file, or is refused by name."""

import comfy.lora
import pytest
import torch
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.files import LoraError
from kontext.trainer.network.lora import Lora
from kontext.trainer.runs.export import comfyui_tensors, diffusers_tensors
from kontext.trainer.runs.start import cut, start_from
from safetensors.torch import save_file

from ..short_runs import SHORT, last_lora

HIDDEN = 128
DIFFUSERS = {  # linears of one double and one single block, as (out, in)
    "transformer_blocks.0.attn.to_q": (HIDDEN, HIDDEN),
    "transformer_blocks.0.attn.to_k": (HIDDEN, HIDDEN),
    "transformer_blocks.0.attn.to_v": (HIDDEN, HIDDEN),
    "transformer_blocks.0.attn.add_k_proj": (HIDDEN, HIDDEN),
    "transformer_blocks.0.ff.net.0.proj": (4 * HIDDEN, HIDDEN),
    "transformer_blocks.0.norm1.linear": (6 * HIDDEN, HIDDEN),
    "single_transformer_blocks.1.attn.to_v": (HIDDEN, HIDDEN),
    "single_transformer_blocks.1.proj_mlp": (4 * HIDDEN, HIDDEN),
    "single_transformer_blocks.1.proj_out": (HIDDEN, 5 * HIDDEN),
}


def named_in(form: str, rank: int = 2, alpha: float | None = None) -> dict[str, torch.Tensor]:
    """A LoRA in another trainer's names, each part with matrices of its own."""
    generator = torch.Generator().manual_seed(3)
    named = {}
    for name, (out, into) in DIFFUSERS.items():
        prefix, up, down = {
            "ai-toolkit": (f"transformer.{name}", "lora_B.weight", "lora_A.weight"),
            "DiffSynth": (name, "lora_B.default.weight", "lora_A.default.weight"),
            "OneTrainer": (
                f"lora_transformer_{name.replace('.', '_')}", "lora_up.weight", "lora_down.weight",
            ),
            "SimpleTuner": (
                f"lycoris_{name.replace('.', '_')}", "lora_up.weight", "lora_down.weight",
            ),
        }[form]  # fmt: skip
        named[f"{prefix}.{up}"] = torch.randn(out, rank, generator=generator)
        named[f"{prefix}.{down}"] = torch.randn(rank, into, generator=generator)
        if alpha is not None:
            named[f"{prefix}.alpha"] = torch.tensor(alpha)
    return named


def fresh(base: host.Base, rank: int, targets: str = "all", scale: float = 0.5) -> Lora:
    linears = {name: part for name, part in base.network.named_modules() if host.is_linear(part)}
    chosen = {name: host.FrozenLinear(linears[name]) for name in Flux1.targeted(linears, targets)}
    return Lora.create(chosen, rank, scale, seed=0)


def changes(lora: Lora) -> dict[str, torch.Tensor]:
    layers = lora.layers.items()
    return {name: (layer.scale * layer.up @ layer.down).detach() for name, layer in layers}


def assert_as_in_comfyui(base: host.Base, named: dict, lora: Lora) -> None:
    """Reference: what ComfyUI's loader adds to each weight at strength 1."""
    patches = host.with_lora(base.model, dict(named), 1.0).patches
    ours = changes(lora)
    assert patches
    for name, delta in ours.items():
        key = f"diffusion_model.{name}.weight"
        zero = torch.zeros_like(delta)
        expected = comfy.lora.calculate_weight(patches[key], zero, key) if key in patches else zero
        torch.testing.assert_close(delta, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "form, alpha",
    [("ai-toolkit", None), ("DiffSynth", None), ("OneTrainer", 1.0), ("SimpleTuner", 4.0)],
)
def test_whatever_comfyui_loads(base, form, alpha):
    """q, k and v are one linear here, the MLP with them in single blocks: three or four times the
    rank holds them exactly, and what is added to a smaller one changes nothing."""
    named = named_in(form, 2, alpha)
    lora = fresh(base, rank=8)
    assert start_from(lora, named, base.model, TrainConfig(rank=8)) == []
    assert_as_in_comfyui(base, named, lora)
    downs = [layer.down.norm(dim=1) for layer in lora.layers.values()]
    assert all((norm > 0).all() for norm in downs), "every row can still learn"


@pytest.mark.parametrize("write", [comfyui_tensors, diffusers_tensors])
def test_our_own_exports_keep_their_rank(base, make_lora, write):
    """diffusers' names split q, k and v, but they read their input alike."""
    theirs = make_lora(base.network)
    named = write(theirs.state_dict(), 8.0, torch.float32)
    lora = fresh(base, rank=4)
    start_from(lora, named, base.model, TrainConfig(rank=4))
    for name, delta in changes(theirs).items():
        torch.testing.assert_close(changes(lora)[name], delta, rtol=1e-5, atol=1e-6)


def test_a_larger_rank_is_cut_down_when_asked(base):
    """Reference: Eckart and Young, by a full decomposition of the change itself."""
    named = named_in("ai-toolkit", 4)
    lora = fresh(base, rank=3)
    with pytest.raises(LoraError, match="has rank 12, the run 3.*resize: true"):
        start_from(lora, named, base.model, TrainConfig(rank=3))
    assert all(not layer.up.any() for layer in lora.layers.values()), "nothing was taken up"
    (note,) = start_from(lora, named, base.model, TrainConfig(rank=3), resize=True)
    assert "from rank 12 to 3" in note
    whole = fresh(base, rank=12)
    start_from(whole, named, base.model, TrainConfig(rank=12))
    for name, delta in changes(whole).items():
        sizes = torch.linalg.svdvals(delta)
        error = torch.linalg.norm(changes(lora)[name] - delta)
        torch.testing.assert_close(error, sizes[3:].norm(), rtol=1e-3, atol=1e-4)


def test_cutting_keeps_the_longest():
    up, down = torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.eye(3)
    small_up, small_down, share = cut(up, down, 2)
    expected = torch.diag(torch.tensor([3.0, 2.0, 0.0]))
    torch.testing.assert_close(small_up @ small_down, expected, atol=1e-5, rtol=1e-5)
    assert share == pytest.approx((13 / 14) ** 0.5)
    zero = cut(torch.zeros(4, 3), torch.randn(3, 5), 2)
    assert zero[2] == 1 and not (zero[0] @ zero[1]).any()


def test_layers_that_are_not_trained_are_not_lost_silently(base):
    named = named_in("ai-toolkit")
    with pytest.raises(LoraError, match="1 layers that this run does not train.*img_mod.lin"):
        start_from(fresh(base, 8, "blocks"), named, base.model, TrainConfig(rank=8))
    text = {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(4, 2)}
    (note,) = start_from(fresh(base, 8), {**named, **text}, base.model, TrainConfig(rank=8))
    assert "1 keys (1 of text encoders): lora_te1" in note


def test_comfyuis_own_trainer(base):
    """It writes changes of biases too, which a run does not train: they are named."""
    linear = "diffusion_model.double_blocks.0.img_attn.proj"
    named = {
        f"{linear}.lora_up.weight": torch.ones(HIDDEN, 2),
        f"{linear}.lora_down.weight": torch.ones(2, HIDDEN),
        f"{linear}.alpha": torch.tensor(1.0),
        f"{linear}.diff_b": torch.ones(HIDDEN),
    }
    lora = fresh(base, 4)
    (note,) = start_from(lora, named, base.model, TrainConfig(rank=4))
    assert "1 keys (0 of text encoders)" in note and "double_blocks.0.img_attn.proj.bias" in note
    torch.testing.assert_close(
        changes(lora)["double_blocks.0.img_attn.proj"], torch.ones(HIDDEN, HIDDEN)
    )


@pytest.mark.parametrize(
    "named, words",
    [
        ({"lora_unet_down_blocks_0.lora_up.weight": torch.ones(4, 2)}, "knows none of its 1 keys"),
        ({}, "none of its 0 keys"),
        (  # x-flux' own names, which need its own nodes
            {"double_blocks.0.processor.qkv_lora1.down.weight": torch.ones(4, 128)},
            "knows none of its 1 keys",
        ),
        (  # a trainer's mistake that users report: an underscore too many
            {"lora_unet_single_transformer_blocks_0_attn_to_k_.lora_up.weight": torch.ones(9, 2)},
            "knows none of its 1 keys",
        ),
        (
            {
                "diffusion_model.double_blocks.0.img_attn.proj.lora_up.weight": torch.ones(64, 2),
                "diffusion_model.double_blocks.0.img_attn.proj.lora_down.weight": torch.ones(2, 64),
            },
            "another size: double_blocks.0.img_attn.proj is 64×64 there, 128×128 here",
        ),
        (
            {
                "lora_unet_single_blocks_0_linear2.lokr_w1": torch.ones(4, 4),
                "lora_unet_single_blocks_0_linear2.lokr_w2": torch.ones(32, 160),
            },
            "of another kind, a LoKr: train with `adapter` lokr",
        ),
    ],
)
def test_what_does_not_fit_is_refused(base, named, words):
    with pytest.raises(LoraError, match=words):
        start_from(fresh(base, 8), named, base.model, TrainConfig(rank=8))


def test_a_run_starts_from_another_trainers_file_and_is_continued(run_training, base):
    """By its own state, without the file being cut down again."""
    config = SHORT.replace(steps=2, rank=3, targets="all")
    start = named_in("ai-toolkit", 4)
    run = run_training(config, start=start, resize_start=True)
    assert "cut down from rank 12 to 3" in run.logged()[0]["note"]
    longer = config.replace(steps=4)
    assert run_training(longer, start=start, resize_start=True).finished
    assert last_lora(run)


# ---- the files -----------------------------------------------------------------------------


def damages(whole: bytes) -> list[bytes]:
    """Files that have been cut, written over, or were never LoRAs."""
    html = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    cuts = [whole[:size] for size in (0, 1, 7, 8, 9, 40, len(whole) // 2, len(whole) - 1)]
    over = [whole[:at] + bytes([255]) + whole[at + 1 :] for at in range(0, 300, 7)]
    return [*cuts, *over, html, pointer, b"\x00" * 500, b"\xff" * 500, b"PK\x03\x04" + b"x" * 90]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_damaged_file_is_a_sentence(tmp_path, suffix):
    """Or it is read: where only a value was written over."""
    good, path = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    tensors = {"a.lora_up.weight": torch.ones(4, 2), "a.lora_down.weight": torch.ones(2, 4)}
    save_file(tensors, good) if suffix == ".safetensors" else torch.save(tensors, good)
    assert host.load_lora_file(good).keys() == tensors.keys()
    said = 0
    for content in damages(good.read_bytes()):
        path.write_bytes(content)
        try:
            host.load_lora_file(path)
        except LoraError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            said += 1
    assert said > 12
    with pytest.raises(LoraError, match="There is no LoRA file"):
        host.load_lora_file(tmp_path / "gone.safetensors")


def test_a_file_of_something_else(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1, "b": "c"}, tmp_path / "numbers.pt")
    for name in ("list.pt", "numbers.pt"):
        with pytest.raises(LoraError, match=name):
            host.load_lora_file(tmp_path / name)
