"""A tiny genuine Flux with random weights, its VAE and CLIP, and pairs of pictures on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import comfy.ldm.flux.model
import comfy.ops
import comfy.sd
import comfy.taesd.taesd
import comfy.utils
import numpy as np
import pytest
import torch
from kontext.dataset.pair import Pair, PairedDataset
from kontext.trainer import host
from kontext.trainer.batch import Batch, Text
from kontext.trainer.config import TrainConfig
from kontext.trainer.families import family_of
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.host.demo import T5, load_text_encoder
from kontext.trainer.host.training import plain_attention
from kontext.trainer.loop import train
from kontext.trainer.loss.objective import sample_losses
from kontext.trainer.network.attach import attached
from kontext.trainer.network.lora import Lora
from kontext.trainer.request import TrainingRequest
from PIL import Image

from ..streaming import as_card as as_card
from .short_runs import SHORT

SHAPE = dict(
    in_channels=16, out_channels=16, vec_in_dim=32, context_in_dim=T5["d_model"], hidden_size=128,
    mlp_ratio=4.0, num_heads=1, depth=2, depth_single_blocks=2, axes_dim=[16, 56, 56], theta=10000,
    patch_size=2, qkv_bias=True, guidance_embed=True, txt_ids_dims=[],
)  # fmt: skip


def random_weights(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, tensor in module.state_dict().items():
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
        weights[name] = torch.randn(tensor.shape, generator=generator) * spread
        if "norm" in name:
            weights[name] += 1
    return weights


def flux_weights(seed: int = 0, **shape) -> dict[str, torch.Tensor]:
    plain = comfy.ops.disable_weight_init
    module = comfy.ldm.flux.model.Flux(
        **{**SHAPE, **shape}, dtype=torch.float32, device="cpu", operations=plain
    )
    return random_weights(module, seed)


def load_flux(weights: dict[str, torch.Tensor], **options) -> host.Model:
    """As a loader node loads it: the weights are inference tensors."""
    with torch.inference_mode():
        copies = {name: tensor.clone() for name, tensor in weights.items()}
        return comfy.sd.load_diffusion_model_state_dict(copies, model_options=options)


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    return flux_weights()


@pytest.fixture(scope="session")
def wide_weights() -> dict[str, torch.Tensor]:
    """Hidden 256: some formats come in blocks of 256 inputs."""
    return flux_weights(hidden_size=256, num_heads=2, depth=1, depth_single_blocks=1)


@pytest.fixture(scope="session")
def clip():
    return load_text_encoder()


@pytest.fixture(scope="session")
def vae():
    return tiny_vae()


def tiny_vae() -> comfy.sd.VAE:
    module = comfy.taesd.taesd.TAESD(latent_channels=16)
    weights = random_weights(module, 1)
    weights["vae_scale"], weights["vae_shift"] = torch.tensor(0.3611), torch.tensor(0.1159)
    return comfy.sd.VAE(sd=weights)


@pytest.fixture
def base(weights, clip, vae) -> host.Base:
    return host.Base(load_flux(weights), clip, vae)


def write_pairs(folder: Path, count: int, size: tuple[int, int] = (64, 64)) -> PairedDataset:
    """Smooth random pictures; the edit swaps red and blue."""
    random = np.random.default_rng(0)
    pairs = []
    for side in ("control", "target"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
        paths = [folder / side / f"{number:03}.png" for side in ("control", "target")]
        for path, pixels in zip(paths, (picture, picture[..., ::-1]), strict=True):
            Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        pairs.append(Pair(f"{number:03}", (paths[0],), paths[1], f"swap the colours, {number}"))
    return PairedDataset(tuple(pairs))


@pytest.fixture
def pairs(tmp_path) -> PairedDataset:
    return write_pairs(tmp_path / "pairs", 4)


@pytest.fixture
def run_training(base, pairs, tmp_path):
    def run(config=SHORT, name="test", **options):
        with torch.inference_mode():  # as ComfyUI runs every node
            options = {"base": base, "pairs": pairs, **options}
            places = {"output": tmp_path / "out", "cache_folder": tmp_path / "cache"}
            return train(TrainingRequest(config=config, name=name, **places, **options))

    return run


def random_batch(size: int, seed: int = 0, tokens: int = 24) -> Batch:
    """Latents of 8 × 12, a reference of another size, and text, all random."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(size, *shape, generator=generator)

    text = Text(draw(tokens, SHAPE["context_in_dim"]), draw(SHAPE["vec_in_dim"]))
    return Batch(draw(16, 8, 12), (draw(16, 12, 8),), text)


@pytest.fixture
def make_batch():
    return random_batch


@pytest.fixture
def question(make_batch):
    batch = make_batch(1)
    return torch.randn(batch.target.shape), torch.tensor([0.6]), batch


def random_lora(flux: torch.nn.Module, rank: int = 4, targets: str = "all") -> Lora:
    """A LoRA whose `up` is not zero, so that every gradient is."""
    parts = flux.named_modules()
    linears = {name: host.FrozenLinear(part) for name, part in parts if host.is_linear(part)}
    lora = Lora.create({n: linears[n] for n in Flux1.targeted(linears, targets)}, rank, 2.0, 0)
    generator = torch.Generator().manual_seed(1)
    for layer in lora.layers.values():
        layer.up.data.normal_(std=0.05, generator=generator)
    return lora


@pytest.fixture
def make_lora():
    return random_lora


@pytest.fixture(scope="session")
def make_flux():
    """make_flux(seed, **shape), or with `weights=` and loader options."""

    def make(seed: int = 0, weights=None, options=None, **shape) -> host.Model:
        return load_flux(weights or flux_weights(seed, **shape), **(options or {}))

    return make


@pytest.fixture(scope="session")
def make_pairs():
    return write_pairs


def gradients_in_training(
    model, lora, batch, noise, sigma, checkpointing=False, dtype=torch.float32, **how
):
    family = family_of(model)
    flux, checkpointed = family.network, family.blocks() if checkpointing else ()
    for parameter in lora.parameters():
        parameter.grad = None
    with (
        host.differentiable(),
        attached(flux, lora, host.FrozenLinear, host.is_linear, checkpointed, **how),
    ):
        sample_losses(family, batch, sigma, noise, TrainConfig(), dtype).mean().backward()
    return [parameter.grad.clone() for parameter in lora.parameters()]


def gradients_of_dense_weights(make_flux, weights, lora, batch, noise, sigma):
    """Plain autograd: base and LoRA merged into dense weights by hand, gradients of those."""
    model = make_flux(weights=weights)
    flux = model.model.diffusion_model
    merged = {}
    with torch.inference_mode(False), torch.enable_grad():
        pairs = {n: (p.down, p.up, p.scale) for n, p in lora.layers.items()}
        for name, tensor in weights.items():
            layer = pairs.get(name.removesuffix(".weight"))
            merged[name] = tensor.clone()
            if layer and name.endswith(".weight"):
                down, up, scale = layer
                merged[name] = merged[name] + scale * up @ down

        def out_of_place(module, inputs):
            return (inputs[0].clone(),)

        for module in flux.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.register_forward_pre_hook(out_of_place)
        with host.differentiable():
            noised = torch.lerp(batch.target, noise, sigma.view(-1, 1, 1, 1))
            velocity = torch.func.functional_call(
                flux,
                merged,
                (noised, sigma),
                dict(
                    context=batch.text.cond,
                    y=batch.text.pooled,
                    guidance=torch.ones(len(sigma)),
                    ref_latents=list(batch.references),
                    transformer_options={"optimized_attention_override": plain_attention},
                ),
            )
            loss = (velocity - (noise - batch.target)).square().mean()
            return torch.autograd.grad(loss, lora.parameters())


@pytest.fixture
def lora_gradients():
    return gradients_in_training


@pytest.fixture
def dense_gradients():
    return gradients_of_dense_weights


def sha256_of(module):
    """Of all tensors as stored; GGUF layers answer with placeholders, so look behind them."""
    total, parameters = hashlib.sha256(), dict(module.named_parameters())
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.is_meta and name not in parameters:
            continue  # room for unpacking, which belongs to nothing
        if tensor.is_meta:
            tensor = parameters[name].as_subclass(torch.Tensor)
        total.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


@pytest.fixture
def digest():
    return sha256_of


@pytest.fixture
def trains_in_place(make_flux):
    """Holds where gradients are those of these dense weights within `bound` (relative norm), none
    of them is kept for backward, and the model is left as it was, to the last bit."""

    def check(model, dense, bound=1e-5):
        batch, lora = random_batch(2), random_lora(model.model.diffusion_model)
        noise, sigma = torch.randn(batch.target.shape), torch.tensor([0.2, 0.8])
        kept, before = set(), sha256_of(model.model)

        def look(tensor):
            kept.add(tuple(tensor.shape))
            return tensor

        theirs = gradients_of_dense_weights(make_flux, dense, lora, batch, noise, sigma)
        with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            ours = gradients_in_training(model, lora, batch, noise, sigma)
        again = gradients_in_training(model, lora, batch, noise, sigma, checkpointing=True)
        keeping = gradients_in_training(model, lora, batch, noise, sigma, True, keeping=True)
        for gradients in (ours, again, keeping):
            error = torch.cat([(a - b).flatten() for a, b in zip(gradients, theirs, strict=True)])
            assert error.norm() / torch.cat([b.flatten() for b in theirs]).norm() < bound
        shapes = [tuple(w.shape) for name, w in dense.items() if "_blocks." in name and w.ndim == 2]
        assert kept and not kept & {*shapes, *(shape[::-1] for shape in shapes)}
        assert sha256_of(model.model) == before
        assert not any("forward" in part.__dict__ for part in model.model.modules())

    return check


def convert_to_diffusers(weights, config):
    """diffusers' Kontext transformer with these weights, by ComfyUI's own table of names."""
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=config["depth"],
        num_single_layers=config["depth_single_blocks"],
        attention_head_dim=128,
        num_attention_heads=config["num_heads"],
        joint_attention_dim=config["context_in_dim"],
        pooled_projection_dim=config["vec_in_dim"],
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )
    table = comfy.utils.flux_to_diffusers(config)
    state = {}
    for theirs, ours in table.items():
        if theirs not in transformer.state_dict():
            continue
        if isinstance(ours, str):
            state[theirs] = weights[ours]
        else:
            name, rows = ours[0], ours[1]
            state[theirs] = weights[name].narrow(*rows) if rows else weights[name]
            if len(ours) > 2:
                state[theirs] = ours[2](state[theirs])
    transformer.load_state_dict(state)
    return transformer


def predict_with_diffusers(transformer, noised, sigma, batch, guidance):
    """Velocity for one sample, packed and unpacked as FluxKontextPipeline does."""
    from diffusers import FluxKontextPipeline

    def packed(latent):
        rows, columns = latent.shape[2] // 2, latent.shape[3] // 2
        ids = FluxKontextPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32)
        return FluxKontextPipeline._pack_latents(latent, 1, 16, *latent.shape[2:]), ids

    image, image_ids = packed(noised)
    reference, reference_ids = packed(batch.references[0])
    reference_ids[..., 0] = 1
    with torch.no_grad():
        output = transformer(
            hidden_states=torch.cat([image, reference], dim=1),
            timestep=sigma,
            guidance=torch.tensor([guidance]),
            pooled_projections=batch.text.pooled,
            encoder_hidden_states=batch.text.cond,
            txt_ids=torch.zeros(batch.text.cond.shape[1], 3),
            img_ids=torch.cat([image_ids, reference_ids]),
            return_dict=False,
        )[0][:, : image.shape[1]]
    height, width = (8 * side for side in noised.shape[2:])
    return FluxKontextPipeline._unpack_latents(output, height, width, 8)


@pytest.fixture
def diffusers_transformer():
    return convert_to_diffusers


@pytest.fixture
def diffusers_prediction():
    return predict_with_diffusers
