"""A step at full size beside a plain diffusers + PEFT loop, in one process, in turns.

    python scripts/benchmark/side_by_side.py [--rounds 2] [--blocks 5 20] [--device cuda --side 64]

FLUX.2 Klein 4B in bf16 with random weights, both sides on the very same ones, one pair with a
reference of its size, rank 16 on all linears of the blocks, every block checkpointed; the same
latents, text, noise and noise levels. Seconds are the processor's, which programs beside this one
disturb least; on a card the clock's. Memory is what torch's allocator hands out within a step,
without weights and optimiser. The bound are the products of the blocks alone, each timed in this
run. `COMFYUI_PATH` names ComfyUI's folder; `pip install diffusers peft` brings the peer.
"""

# ruff: noqa: E402  the pack can be imported once ComfyUI has been found

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from boot import ROOT, boot

GB = 10**9
TEXT, RANK = 512, 16


@dataclass(frozen=True)
class Inputs:
    """What a step trains on: latents [1, 128, side, side], text [1, 512, 7680], sigma [1]."""

    target: Tensor
    reference: Tensor
    text: Tensor
    noise: Tensor
    sigma: Tensor

    @classmethod
    def drawn(cls, side: int, step: int, device: torch.device) -> Inputs:
        generator = torch.Generator().manual_seed(step)
        latents = [torch.randn(1, 128, side, side, generator=generator) for _ in range(3)]
        text = torch.randn(1, TEXT, 7680, generator=generator)
        sigma = torch.rand(1, generator=generator)
        parts = latents[0], latents[1], text, latents[2], sigma
        return cls(*(part.to(device) for part in parts))


class Ours:
    """This trainer: its LoRA on ComfyUI's network, its loss, its optimiser."""

    name = "ours"
    skipping = True

    def __init__(self, path: Path) -> None:
        import comfy.model_management as memory
        import comfy.sd
        from kontext.trainer import host
        from kontext.trainer.config import TrainConfig
        from kontext.trainer.families import family_of
        from kontext.trainer.learner import Learner
        from kontext.trainer.network.lora import Lora

        self.host = host
        # not in inference mode, as in a graph: the other side could not train on these weights
        self.model = comfy.sd.load_diffusion_model(
            str(path), model_options={"dtype": torch.bfloat16}
        )
        memory.load_models_gpu([self.model])
        self.family, self.device = family_of(self.model), self.model.load_device
        self.config = TrainConfig(
            rank=RANK, alpha=float(RANK), dtype="bf16", schedule="constant", warmup_steps=0
        )
        network = self.family.network
        linears = {name: part for name, part in network.named_modules() if host.is_linear(part)}
        names = self.family.targeted(linears, "blocks")
        adapted = {name: host.FrozenLinear(linears[name]) for name in names}
        self.lora = Lora.create(adapted, RANK, 1.0, 0).to(self.device)
        self.learner = Learner(self.lora, self.config, self.device, torch.bfloat16)

    def step(self, inputs: Inputs) -> float:
        from kontext.trainer.batch import Batch, Text
        from kontext.trainer.loss.objective import sample_losses
        from kontext.trainer.network.attach import attached

        batch = Batch(inputs.target, (inputs.reference,), Text(inputs.text.bfloat16()))
        parts = self.family.network, self.lora, self.host.FrozenLinear, self.host.is_linear
        unread = self.family.unread(self.lora.layers) if self.skipping else ()
        with self.host.differentiable(), attached(*parts, self.family.blocks(), unread=unread):
            drawn = batch, inputs.sigma, inputs.noise
            loss = sample_losses(self.family, *drawn, self.config, torch.bfloat16).mean()
            self.learner.backward(loss)
            self.learner.gradient_norm()
            self.learner.update(0)
        return loss.item()


class Theirs:
    """diffusers' transformer with a peft LoRA, gradient checkpointing and AdamW, as diffusers' own
    training scripts have it: float32 LoRA, the rest and the products in bf16."""

    name = "diffusers + peft"

    def __init__(self, weights: dict[str, Tensor]) -> None:
        from diffusers import Flux2Transformer2DModel
        from diffusers.training_utils import cast_training_params
        from kontext.trainer.families.flux2 import Flux2
        from peft import LoraConfig

        from benchmark.flux2_names import in_diffusers_names

        counts = [
            1 + max(int(name.split(".")[1]) for name in weights if name.startswith(kind.ours))
            for kind in Flux2.kinds
        ]
        with torch.device("meta"):
            self.network: Any = Flux2Transformer2DModel(
                num_layers=counts[0], num_single_layers=counts[1], num_attention_heads=24,
                joint_attention_dim=7680, guidance_embeds=False,
            )  # fmt: skip
        self.network.load_state_dict(in_diffusers_names(weights), assign=True)
        self.network.requires_grad_(False)
        self.network.enable_gradient_checkpointing()
        layers = [
            rf"{kind.theirs}\.\d+\.{re.escape(part)}"
            for kind in Flux2.kinds
            for parts in kind.linears.values()
            for part in parts
        ]
        lora = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="|".join(layers))
        self.network.add_adapter(lora)
        cast_training_params(self.network, dtype=torch.float32)
        self.trained = [part for part in self.network.parameters() if part.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=0.01)

    def step(self, inputs: Inputs) -> float:
        def sequence(latent: Tensor) -> Tensor:
            return latent.flatten(2).transpose(1, 2)

        def places(index: float, latent: Tensor) -> Tensor:
            sides = (torch.arange(float(side)) for side in latent.shape[2:])
            return torch.cartesian_prod(torch.tensor([index]), *sides, torch.zeros(1))

        device = inputs.target.device
        noised = torch.lerp(inputs.target, inputs.noise, inputs.sigma.view(-1, 1, 1, 1))
        hidden = torch.cat([sequence(noised), sequence(inputs.reference)], dim=1)
        ids = torch.cat([places(0.0, inputs.target), places(10.0, inputs.reference)])
        zero = torch.zeros(1)
        text_ids = torch.cartesian_prod(zero, zero, zero, torch.arange(float(TEXT)))
        with torch.autocast(device.type, torch.bfloat16):
            output = self.network(
                hidden.bfloat16(), inputs.text.bfloat16(), inputs.sigma, ids.to(device),
                text_ids.to(device), return_dict=False,
            )[0]  # fmt: skip
        target = sequence(inputs.noise - inputs.target)
        loss = F.mse_loss(output[:, : target.shape[1]].float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def products(
    network: nn.Module, side: int, timed: Callable[[Callable], float]
) -> tuple[float, int]:
    """Seconds and floating-point operations of the blocks' products alone, as often as a step with
    every block checkpointed makes them: twice forward, once back."""
    pictures = 2 * side**2
    rows = {"img_": pictures, "txt_": TEXT, "line": pictures + TEXT}
    counts: dict[tuple[int, int, int], int] = {}
    for name, weight in network.state_dict().items():
        part = name.split(".", 2)[-1]
        if "blocks." in name and weight.ndim == 2 and part[:4] in rows:
            key = (rows[part[:4]], *weight.shape)
            counts[key] = counts.get(key, 0) + 1
    seconds, operations = 0.0, 0
    like = next(network.parameters())
    for (count, out, wide), times in counts.items():
        x, weight, gradient = (
            torch.randn(*shape, device=like.device, dtype=torch.bfloat16)
            for shape in ((count, wide), (out, wide), (count, out))
        )
        with torch.no_grad():
            seconds += times * (
                2 * timed(lambda x=x, w=weight: F.linear(x, w))
                + timed(lambda g=gradient, w=weight: g @ w)
            )
        operations += times * 6 * count * out * wide
    return seconds, operations


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--side", type=int, default=16, help="of the latents: pixels / 16")
    parser.add_argument("--rounds", type=int, default=2, help="the last finds the peaks")
    parser.add_argument("--blocks", type=int, nargs=2, default=(), help="double, single; else all")
    parser.add_argument("--profile", action="store_true", help="list what takes most time of ours")
    parser.add_argument("--folder", type=Path, default=ROOT / ".host" / "full_size")
    asked = parser.parse_args(arguments)
    boot(
        Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI")), asked.folder, asked.device
    )
    from benchmark.full_size import give_back_freed_memory
    from benchmark.full_size_files import files_of, write
    from benchmark.measure import highest_level, timed

    give_back_freed_memory()
    (path,) = write(files_of("klein", asked.blocks)[:1], asked.folder / "models")
    ours = Ours(path)
    trainers = [ours, Theirs(ours.family.network.state_dict())]
    on_card = asked.device == "cuda"
    clock = time.perf_counter if on_card else time.process_time
    found: dict[str, dict[str, list[float]]] = {
        each.name: {"seconds": [], "losses": [], "peak": []} for each in trainers
    }
    for number in range(asked.rounds):
        inputs = Inputs.drawn(asked.side, number, ours.device)
        for each in trainers:
            results = found[each.name]
            profile = None
            if on_card:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            elif number == asked.rounds - 1:  # the optimiser has its state
                activities = [torch.profiler.ProfilerActivity.CPU]
                profile = torch.profiler.profile(activities=activities, profile_memory=True)
                profile.start()
            started = clock()
            loss = each.step(inputs)
            if on_card:
                torch.cuda.synchronize()
                results["peak"].append(torch.cuda.max_memory_allocated() - before)
            results["seconds"].append(clock() - started)
            results["losses"].append(loss)
            if profile:
                profile.stop()
                results["peak"].append(highest_level(profile))
                if asked.profile:
                    table = profile.key_averages().table("self_cpu_time_total", row_limit=25)
                    print(each.name, table, sep="\n", flush=True)
            print(each.name, number, {k: v[-1] for k, v in results.items() if v}, flush=True)
    bound, operations = products(ours.family.network, asked.side, timed)
    first, second = (found[each.name] for each in trainers)
    report = {
        "found": found,
        "seconds": min(first["seconds"]) / min(second["seconds"]),
        "peak": max(first["peak"]) / max(second["peak"]),
        "products": bound,
        "flop_per_second_of_products": operations / bound,
        "share_of_products": bound / min(first["seconds"]),
    }
    (asked.folder / "side_by_side.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(
        f"seconds {report['seconds']:.2f}, peak {report['peak']:.2f} of diffusers + peft; products "
        f"alone {bound:.1f} s at {operations / bound / 1e9:.0f} GFLOP/s, "
        f"{report['share_of_products']:.0%} of our step"
    )
    return report


if __name__ == "__main__":
    main()
