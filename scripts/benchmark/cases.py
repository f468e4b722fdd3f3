"""What `scripts/benchmark` compares: this trainer, two others, and what the hardware allows.

Every case trains on the same random weights, latents, captions, noise and noise levels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.measure import DEVICE, Result, Size, StepClock, Work, timed

# isort: split
import comfy.ldm.flux.model
import comfy.model_management as memory
import comfy.ops
import comfy.sd
import comfy.utils
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.batch import EncodedPair, seeded
from kontext.trainer.config import TrainConfig
from kontext.trainer.data.batches import Batches
from kontext.trainer.data.prefetch import Prefetch
from kontext.trainer.loop import fit
from kontext.trainer.loss import flow
from kontext.trainer.loss.preserve import Preservation
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.run import Run
from kontext.trainer.session import Session

LAYERS = (
    r"(single_)?transformer_blocks\..*(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|"
    r"to_add_out|net\.0\.proj|net\.2|proj_mlp|proj_out)"
)


# ---- the same weights and data for all -----------------------------------------------------


def random_weights(size: Size) -> dict[str, Tensor]:
    """ComfyUI's state dict of a FLUX.1 of this size; drawn on the device, kept on the CPU."""
    flux = comfy.ldm.flux.model.Flux(
        in_channels=16, out_channels=16, vec_in_dim=size.pooled, context_in_dim=size.context,
        hidden_size=size.hidden, mlp_ratio=4.0, num_heads=size.hidden // 128, depth=size.double,
        depth_single_blocks=size.single, axes_dim=[16, 56, 56], theta=10000, patch_size=2,
        qkv_bias=True, guidance_embed=True, txt_ids_dims=[], dtype=size.dtype, device="meta",
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    generator, weights = torch.Generator(DEVICE).manual_seed(0), {}
    for name, like in flux.state_dict().items():
        spread = like[0].numel() ** -0.5 if like.ndim > 1 else 0.02
        drawn = torch.randn(like.shape, generator=generator, device=DEVICE, dtype=size.dtype)
        weights[name] = (drawn * spread + ("norm" in name)).cpu()
    return weights


def write_pairs(work: Work, folder: Path) -> list[EncodedPair]:
    """Random latents and captions as the trainer's cache holds them. Eight sets serve all pairs."""
    size, generator = work.size, torch.Generator().manual_seed(2)
    latent = (1, 16, work.side, work.side)
    text = torch.randn(1, size.text, size.context, generator=generator)
    pooled = torch.randn(1, size.pooled, generator=generator)
    for number in range(8):
        for kind in ("target", "reference"):
            drawn = torch.randn(latent, generator=generator)
            save_file({"latent": drawn}, folder / f"{kind}{number}.safetensors")
    save_file({"cond": text, "pooled": pooled}, folder / "text.safetensors")
    references = 1 if work.reference else 0
    shape = (latent, *[latent] * references, tuple(text.shape))
    return [
        EncodedPair(
            str(number),
            folder / f"target{number % 8}.safetensors",
            (folder / f"reference{number % 8}.safetensors",) * references,
            folder / "text.safetensors",
            shape,
            texts={("", False): folder / "text.safetensors"},
        )
        for number in range(work.pairs)
    ]


def load_model(weights: dict[str, Tensor], stored: str = "") -> host.Model:
    """As a loader node loads them; `stored` is the precision they are kept in."""
    dtype = getattr(torch, stored) if stored else weights["img_in.weight"].dtype
    options = {"dtype": dtype}
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(dict(weights), model_options=options)


@contextmanager
def nothing_else_loaded() -> Iterator[Path]:
    """A temporary folder; before and after, the device is empty."""
    memory.unload_all_models()
    memory.soft_empty_cache()
    with tempfile.TemporaryDirectory(prefix="kontext-benchmark-") as folder:
        yield Path(folder)
    memory.unload_all_models()
    memory.soft_empty_cache()


# ---- the cases -----------------------------------------------------------------------------


def train_ours(work: Work, weights: dict[str, Tensor], clock: StepClock | None = None) -> Result:
    """This trainer's own loop, from cached latents to the last checkpoint."""
    with nothing_else_loaded() as folder:
        base = host.Base(load_model(weights, work.weights), None, None)
        batches = Batches(write_pairs(work, folder), [1] * work.pairs, work.batch, 1)
        identity = Identity(work.config, "", "")
        places = folder / "out", folder / "cache"
        request = TrainingRequest(base, PairedDataset(()), work.config, "benchmark", *places)
        run = Run.create(request.name, request.output, identity)
        with torch.inference_mode():
            session = Session.begin(request, run, identity, work.batch * work.tokens, [])
            progress = host.Progress(work.steps)
            ahead = Prefetch(batches, session.family, work.config, session.device)
            with clock or StepClock() as clock, session.running(), ahead:
                fit(session, ahead, Preservation(work.config), progress, None)
        full = session.memory.plan.checkpointed / work.size.blocks
        losses = [entry["loss"] for entry in run.logged()]
        notes = [entry["note"] for entry in run.logged() if "note" in entry]
        note = "; ".join([session.memory.plan.summary(), *notes])
    linear = 2 + full * (1 - work.size.unread)
    return Result("ours", work, *clock.results(), clock.peak, losses, note, linear, 3.5 + full)


def train_peft(work: Work, weights: dict[str, Tensor]) -> Result:
    """diffusers' FluxTransformer2DModel with a peft LoRA, gradient checkpointing and AdamW, as
    diffusers' own training scripts have it: float32 LoRA, the rest and the products in bf16."""
    from diffusers import FluxKontextPipeline
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    config, dtype = work.config, work.size.dtype
    with nothing_else_loaded() as folder:
        transformer = diffusers_model(work.size, weights).to(DEVICE, dtype).requires_grad_(False)
        transformer.enable_gradient_checkpointing()
        transformer.add_adapter(
            LoraConfig(r=work.rank, lora_alpha=work.rank, target_modules=LAYERS)
        )
        cast_training_params(transformer, dtype=torch.float32)
        trained = [weight for weight in transformer.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.01)
        batches = Batches(write_pairs(work, folder), [1] * work.pairs, work.batch, 1)

        def packed(latent: Tensor, index: int) -> tuple[Tensor, Tensor]:
            count, _, rows, columns = latent.shape
            ids = FluxKontextPipeline._prepare_latent_image_ids(
                count, rows // 2, columns // 2, latent.device, torch.float32
            )
            ids[..., 0] = index
            return FluxKontextPipeline._pack_latents(latent, count, 16, rows, columns), ids

        losses = []
        with StepClock() as clock:
            for step in range(work.steps):
                batch, noise, sigma = same_draw(config, batches, step)
                target, ids = packed(batch.target, 0)
                noised = torch.lerp(target, packed(noise, 0)[0], sigma.view(-1, 1, 1))
                sequence = [noised]
                if batch.references:
                    reference, more = packed(batch.references[0], 1)
                    sequence, ids = [noised, reference], torch.cat([ids, more])
                with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
                    output = transformer(
                        hidden_states=torch.cat(sequence, 1).to(dtype),
                        timestep=sigma,
                        guidance=torch.full_like(sigma, config.guidance),
                        pooled_projections=batch.text.pooled.to(dtype),
                        encoder_hidden_states=batch.text.cond.to(dtype),
                        txt_ids=torch.zeros(work.size.text, 3, device=DEVICE),
                        img_ids=ids,
                        return_dict=False,
                    )[0][:, : noised.shape[1]]
                loss = F.mse_loss(output.float(), packed(noise, 0)[0] - target)
                loss.backward()
                nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.item())
    return Result("diffusers + peft", work, *clock.results(), clock.peak, losses, "", 3, 4.5)


def diffusers_model(size: Size, weights: dict[str, Tensor]) -> nn.Module:
    """diffusers' transformer with these weights, by ComfyUI's own table of names."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=size.double, num_single_layers=size.single,
            attention_head_dim=128, num_attention_heads=size.hidden // 128,
            joint_attention_dim=size.context, pooled_projection_dim=size.pooled,
            guidance_embeds=True, axes_dims_rope=(16, 56, 56),
        )  # fmt: skip
    table = comfy.utils.flux_to_diffusers(
        {"depth": size.double, "depth_single_blocks": size.single, "hidden_size": size.hidden}
    )
    state = {}
    for theirs, ours in table.items():
        if theirs in transformer.state_dict():
            name, rows, change = (ours, None, None) if isinstance(ours, str) else (*ours, None)[:3]
            part = weights[name].narrow(*rows) if rows else weights[name]
            state[theirs] = change(part) if change else part
    transformer.load_state_dict(state, assign=True)
    return transformer


def same_draw(config: TrainConfig, batches: Batches, step: int) -> tuple[Any, Tensor, Tensor]:
    """The batch, noise and noise levels that this trainer draws for a step."""
    from kontext.trainer.batch import load_batch
    from kontext.trainer.families.flux1 import resolution_shift

    generator, pairs = seeded(config.seed, step, "step"), batches.at(step)
    quantiles = flow.sample_quantiles(len(pairs), generator, *flow.part_of_step(config.seed, step))
    torch.rand((), generator=generator), torch.rand((), generator=generator)  # the two dropouts
    batch = load_batch(pairs, None, DEVICE)
    noise = torch.randn(batch.target.shape, generator=generator).to(DEVICE)
    shift = resolution_shift(batch.target[0, 0].numel() // 4)
    return batch, noise, flow.sigma_quantiles(quantiles, config, shift).to(DEVICE)


def train_comfyui(work: Work, weights: dict[str, Tensor]) -> Result:
    """ComfyUI's own TrainLoraNode with its defaults. It fails on reference latents."""
    from comfy_extras.nodes_train import TrainLoraNode

    with nothing_else_loaded() as folder:
        # the node loads a second copy, so there must be a file
        path = folder / "model.safetensors"
        save_file(weights, path)
        with torch.inference_mode():
            model = comfy.sd.load_diffusion_model(str(path))
            size, count = work.size, work.pairs
            latents = torch.randn(count, 16, work.side, work.side)
            text, pooled = torch.randn(1, size.text, size.context), torch.randn(1, size.pooled)
            precision = work.config.dtype
            with StepClock() as clock:
                output = TrainLoraNode.execute(
                    model=[model], latents=[{"samples": latents}],
                    positive=[[[text, {"pooled_output": pooled}]]] * count,
                    batch_size=[work.batch], steps=[work.steps], grad_accumulation_steps=[1],
                    learning_rate=[1e-4], rank=[work.rank], optimizer=["AdamW"],
                    loss_function=["MSE"], seed=[1], training_dtype=[precision],
                    lora_dtype=[precision], quantized_backward=[False], algorithm=["LoRA"],
                    gradient_checkpointing=[True], checkpoint_depth=[1], offloading=[False],
                    existing_lora=["[None]"], bucket_mode=[False], bypass_mode=[False],
                )  # fmt: skip
        losses = output.result[1]["loss"]
    note = "another loss (x0) and more layers; its losses do not compare"
    return Result("ComfyUI TrainLoraNode", work, *clock.results(), clock.peak, losses, note, 3, 4.5)


def time_bound(work: Work) -> Result:
    """The blocks' matrix products and attention alone, forward and back, in plain torch."""
    size, count = work.size, work.batch * work.tokens
    h, dtype = size.hidden, size.dtype
    double = {(h, 3 * h), (h, h), (h, 4 * h), (4 * h, h)}
    shapes = dict.fromkeys(double, size.double) | dict.fromkeys(
        [(h, 7 * h), (5 * h, h)], size.single
    )
    seconds = 0.0
    with torch.no_grad():
        for (wide, out), times in shapes.items():
            x = torch.randn(count, wide, device=DEVICE, dtype=dtype)
            weight = torch.randn(out, wide, device=DEVICE, dtype=dtype)
            gradient = torch.randn(count, out, device=DEVICE, dtype=dtype)

            def products(x: Tensor = x, weight: Tensor = weight, g: Tensor = gradient) -> None:
                F.linear(x, weight)
                g @ weight

            seconds += times * timed(products)
    q, k, v = (
        torch.randn(
            work.batch, h // 128, work.tokens, 128, device=DEVICE, dtype=dtype, requires_grad=True
        )
        for _ in range(3)
    )

    def attention() -> None:
        F.scaled_dot_product_attention(q, k, v).backward(torch.ones_like(q))

    seconds += size.blocks * timed(attention)
    return Result("lower bound: products and attention alone", work, [seconds], [seconds], 0)
