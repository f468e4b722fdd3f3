"""What `scripts/benchmark.py` compares: this trainer, two others, and what the hardware allows.

Every case trains on the same random weights, latents, captions, noise and noise levels. A step is
timed from one optimiser step to the next, whoever calls the optimiser.
"""

# ruff: noqa: E402  ComfyUI must have been found before the pack can be imported

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

ROOT = Path(__file__).resolve().parents[1]


def boot_comfyui(small: bool) -> None:
    """Import ComfyUI, unless a test has done so, and the pack under the name `kontext`."""
    if "kontext" in sys.modules:
        return
    import importlib.util

    comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
    if not (comfyui / "main.py").exists():
        sys.exit(f"No ComfyUI in {comfyui}: run scripts/test.py once, or set COMFYUI_PATH.")
    sys.path.insert(0, str(comfyui))
    folder = tempfile.mkdtemp(prefix="kontext-benchmark-")
    for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (Path(folder) / name).mkdir()
    given, sys.argv = sys.argv, ["main.py", "--base-directory", folder, *["--cpu"] * small]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  reads sys.argv

    sys.argv = given
    spec = importlib.util.spec_from_file_location(
        "kontext", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    sys.modules["kontext"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["kontext"])


boot_comfyui(small="--small" in sys.argv or not torch.cuda.is_available())

import comfy.ldm.flux.model
import comfy.model_management as memory
import comfy.ops
import comfy.sd
import comfy.utils
from kontext.trainer import flow, host
from kontext.trainer.ahead import Ahead
from kontext.trainer.batches import Batches, EncodedPair, seeded
from kontext.trainer.config import TrainConfig
from kontext.trainer.identity import Identity
from kontext.trainer.loop import fit
from kontext.trainer.preserve import Preservation
from kontext.trainer.run import Run
from kontext.trainer.session import Session

DEVICE = memory.get_torch_device()
ON_CUDA = DEVICE.type == "cuda"
WARM_UP = 3
LAYERS = (
    r"(single_)?transformer_blocks\..*(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|"
    r"to_add_out|net\.0\.proj|net\.2|proj_mlp|proj_out)"
)


@dataclass(frozen=True)
class Size:
    """A FLUX.1 and the precision it is trained in."""

    hidden: int
    double: int
    single: int
    context: int
    pooled: int
    text: int
    dtype: torch.dtype

    @property
    def blocks(self) -> int:
        return self.double + self.single

    @property
    def parameters(self) -> int:
        """Of the linears of a token's way through the blocks, modulation aside."""
        return 12 * self.hidden**2 * self.blocks

    def flop(self, tokens: int, batch: int, linear: float, attention: float) -> float:
        """Of one step that goes `linear` and `attention` times through what a forward costs.

        A forward is 2 per parameter and token, and 4 · hidden · tokens² per block for attention. A
        step is 2 and 3.5 of these (no gradients of frozen weights), with checkpointing 3 and 4.5.
        """
        linears = 2 * self.parameters * tokens
        attentions = 4 * self.hidden * tokens**2 * self.blocks
        return batch * (linear * linears + attention * attentions)


FULL = Size(3072, 19, 38, 4096, 768, 256, torch.bfloat16)
SMALL = Size(256, 2, 4, 64, 32, 32, torch.bfloat16)


@dataclass(frozen=True)
class Work:
    """One training: pictures of `side` latent cells, as a reference too, on stored `weights`."""

    size: Size
    side: int
    steps: int
    reference: bool = True
    batch: int = 1
    rank: int = 16
    pairs: int = 8
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return (self.side // 2) ** 2 * (2 if self.reference else 1) + self.size.text

    @property
    def config(self) -> TrainConfig:
        return TrainConfig(
            steps=self.steps, rank=self.rank, alpha=float(self.rank), batch_size=self.batch,
            learning_rate=1e-4, schedule="constant", warmup_steps=0, save_every=self.steps,
            preview_steps=0, caption_dropout=0.0, seed=1,
            dtype={torch.bfloat16: "bf16", torch.float32: "fp32"}[self.size.dtype], **self.settings,
        )  # fmt: skip


@dataclass
class Result:
    """Seconds and processor seconds of each timed step, peak bytes, and the loss of each step."""

    name: str
    work: Work
    seconds: list[float]
    processor: list[float]
    peak: int
    losses: list[float] = field(default_factory=list)
    note: str = ""
    linear: float = 2.0
    attention: float = 3.5

    @property
    def step(self) -> float:
        """Median seconds; on a CPU the processor's in the fastest step, which programs beside this
        one disturb least."""
        return median(self.seconds) if ON_CUDA else min(self.processor)

    @property
    def flop_per_second(self) -> float:
        size, work = self.work.size, self.work
        return size.flop(work.tokens, work.batch, self.linear, self.attention) / self.step


class StepClock:
    """Times the steps that any optimiser takes while it runs, and finds the peak of memory.

    On a card the peak is torch's max_memory_allocated after the warm-up, weights included. On a CPU
    it is the most that torch's allocator handed out at once within one step, after the warm-up:
    what activations and gradients take, without weights and optimiser. That step is not timed.
    """

    def __init__(self, find_peak: bool = True) -> None:
        self.ends: list[tuple[float, float]] = []
        self.peak, self.find_peak = 0, find_peak
        self.profile: torch.profiler.profile | None = None

    def __enter__(self) -> StepClock:
        self.hook = register_optimizer_step_post_hook(self.tick)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()
        if ON_CUDA:
            self.peak = torch.cuda.max_memory_allocated()

    def tick(self, *_: object) -> None:
        if ON_CUDA:
            torch.cuda.synchronize()
        self.ends.append((time.perf_counter(), time.process_time()))
        if len(self.ends) == WARM_UP:
            if ON_CUDA:
                torch.cuda.reset_peak_memory_stats()
            elif self.find_peak:
                activities = [torch.profiler.ProfilerActivity.CPU]
                self.profile = torch.profiler.profile(activities=activities, profile_memory=True)
                self.profile.start()
        elif self.profile and len(self.ends) == WARM_UP + 1:
            self.profile.stop()
            self.peak, self.profile = highest_level(self.profile), None
            self.ends[-1] = time.perf_counter(), time.process_time()

    def results(self) -> tuple[list[float], list[float]]:
        ends = self.ends[WARM_UP - 1 if ON_CUDA else WARM_UP :]
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(ends, ends[1:], strict=False)]
        return [wall for wall, _ in spans], [processor for _, processor in spans]


def highest_level(profile: torch.profiler.profile) -> int:
    """Most bytes allocated at once since the profile began, by torch's CPU allocator."""
    assert profile.profiler
    events = profile.profiler.kineto_results.events()
    level = peak = 0
    for _, change in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        level += change
        peak = max(peak, level)
    return peak


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
        run = Run.create("benchmark", folder / "out", identity)
        with torch.inference_mode():
            session = Session(base, run, identity, work.batch * work.tokens, [])
            progress = host.Progress(work.steps)
            ahead = Ahead(batches, folder / "text.safetensors", work.config, session.device)
            with clock or StepClock() as clock, session.running(), ahead:
                fit(session, ahead, Preservation([], work.config), progress, None)
        full = session.plan.checkpointed / work.size.blocks
        losses = [entry["loss"] for entry in run.logged()]
        notes = [entry["note"] for entry in run.logged() if "note" in entry]
        note = "; ".join([session.plan.words(), *notes])
    return Result("ours", work, *clock.results(), clock.peak, losses, note, 2 + full, 3.5 + full)


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
    from kontext.trainer.batches import load_batch

    generator, pairs = seeded(config.seed, step, "step"), batches.at(step)
    quantiles = flow.draw_quantiles(len(pairs), generator, *flow.part_of_step(config.seed, step))
    torch.rand((), generator=generator), torch.rand((), generator=generator)  # the two dropouts
    batch = load_batch(pairs, None, DEVICE)
    noise = torch.randn(batch.target.shape, generator=generator).to(DEVICE)
    return batch, noise, flow.sigma_quantiles(quantiles, config, batch.target_tokens).to(DEVICE)


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


def ceilings(size: Size) -> dict[str, float]:
    """Measured FLOP per second of a square matrix product, and bytes per second of a copy."""
    side = 8192 if ON_CUDA else 768
    one, other = (torch.randn(side, side, device=DEVICE, dtype=size.dtype) for _ in range(2))
    source = torch.empty(2**30 if ON_CUDA else 2**26, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    with torch.no_grad():
        return {
            "matmul_flop_per_second": 2 * side**3 / timed(lambda: one @ other),
            "copy_bytes_per_second": 2 * source.numel() / timed(lambda: target.copy_(source)),
        }


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call, by the clock that `Result.step` uses."""
    clock, spans = time.perf_counter if ON_CUDA else time.process_time, []
    for _ in range(20 if ON_CUDA else 4):
        if ON_CUDA:
            torch.cuda.synchronize()
        started = clock()
        run()
        if ON_CUDA:
            torch.cuda.synchronize()
        spans.append(clock() - started)
    return median(spans[1:]) if ON_CUDA else min(spans)


def with_settings(work: Work, **settings: Any) -> Work:
    return replace(work, settings={**work.settings, **settings})
