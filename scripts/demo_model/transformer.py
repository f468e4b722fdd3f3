"""Train the demo transformer: a FLUX of hidden size 256 that copies and edits its reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from demo_model import lessons
from demo_model.batches import (
    CAPTIONS_UNKNOWN,
    NO_WORDS,
    PICKS,
    UNKNOWN,
    Captions,
    LatentPairs,
    odds_at,
    unlike,
)
from demo_model.data import augmented_crop, heldout_crops, to_tensor
from demo_model.edits import HELD_OUT, PRACTISED, TRAINED, composed
from demo_model.optimizer import HiddenAndRest
from demo_model.parallel import average_gradients, is_first, share, step_seed
from demo_model.separation import Separation
from demo_model.vae import psnr

SHAPE = (256, 2, 4)  # hidden size, double blocks, single blocks
SEPARATED_FROM, SEPARATION = 7500, 0.3  # the step, and the weight beside the loss
TAUGHT_FROM = 11500  # the step from which it learns with LoRAs applied
REACH_FROM, REACH = 16400, 2.0  # and from which what LoRAs reach is made smaller, and its weight
SMALL_STEPS = 800  # at 64 pixels, then at the sizes that the demo is used at
LATER_SIZES = (
    ((128, 128), 16, 0.7),
    ((64, 64), 48, 0.1),
    ((96, 160), 16, 0.1),
    ((160, 96), 16, 0.1),
)
RATES, BETAS = (1.5e-3, 1e-3), (0.9, 0.98)
READS = ("qkv.weight", "mlp.0.weight", "linear1.weight")  # modulated numbers
GATED = (".proj.", "mlp.2.", "linear2.")  # a gate follows, also on the bias
# Paces of LoRAs on these: FLUX has 9.5 times as many blocks, and what LoRAs cannot spoil learns
# slower. By linear2 they spoil most
LORA_PACES = 32, 4


def build_flux(shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    """The network as ComfyUI builds it, with trainable weights, near the identity at first."""
    import comfy.ldm.flux.model
    import comfy.ops

    hidden, double, single = shape
    flux = comfy.ldm.flux.model.Flux(
        in_channels=16,
        out_channels=16,
        patch_size=2,
        vec_in_dim=32,
        context_in_dim=64,
        hidden_size=hidden,
        mlp_ratio=4.0,
        num_heads=hidden // 128,
        depth=double,
        depth_single_blocks=single,
        axes_dim=[16, 56, 56],
        theta=10000,
        qkv_bias=True,
        guidance_embed=True,
        txt_ids_dims=[],
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    for name, weight in flux.named_parameters():
        if weight.ndim == 2:
            gain = 0.1 if "mod" in name or "final" in name else 1.0
            nn.init.normal_(weight, std=gain * weight.shape[1] ** -0.5)
        else:
            nn.init.constant_(weight, 1.0 if "norm" in name else 0.0)
        weight.requires_grad_(True)
    for module in flux.modules():
        if isinstance(module, nn.LayerNorm):
            # the blocks add to their input in place after the norm has saved it for backward
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
    return flux


def optimizer_of(flux: nn.Module) -> HiddenAndRest:
    """Muon for the matrices of the blocks, except those that only read time and pooled text."""
    hidden, rest = [], []
    for name, weight in flux.named_parameters():
        inner = "_blocks." in name and "mod" not in name and weight.ndim == 2
        (hidden if inner else rest).append(weight)
    return HiddenAndRest(hidden, rest, RATES, BETAS)


def at_pace(
    weights: dict[str, Tensor], paces: tuple[float, float], readings: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The same function from weights that are smaller, and read and give larger numbers.

    Six blocks move farther under a LoRA of the same size: FLUX has 57 to move. A block's
    modulation, x (1 + scale) + shift before its matrices and a gate after them, grows by these
    paces as the matrices before and after shrink; the numbers that a layer of `readings` reads
    grow by these times as much.
    """
    paced, hidden = dict(weights), len(weights["img_in.weight"])
    reading_pace, gate_pace = paces
    for name, weight in weights.items():
        layer, kind = name.rsplit(".", 1)
        if "_blocks." not in name:
            continue
        if "mod" in name:  # rows of shift, scale and gate, in double blocks twice
            paced[name] = weight.clone()
            rows = paced[name].unflatten(0, (-1, 3, hidden))
            for each, reader in zip(rows, readers(layer), strict=True):
                larger = reading_pace * readings.get(reader, weight.new_ones(hidden))
                each[:2] *= larger[:, None] if kind == "weight" else larger
                if kind == "bias":
                    each[1] += larger - 1
                each[2] *= gate_pace
        elif any(part in name for part in READS):
            paced[name] = weight / reading_pace / readings.get(layer, 1)
        elif any(part in name for part in GATED):
            paced[name] = weight / gate_pace
    return paced


def readers(modulation: str) -> list[str]:
    """The layers that read what this layer modulates."""
    if modulation.endswith("_mod.lin"):
        stream = modulation.removesuffix("_mod.lin")
        return [f"{stream}_attn.qkv", f"{stream}_mlp.0"]
    return [modulation.replace("modulation.lin", "linear1")]


def velocity(
    flux: nn.Module,
    x: Tensor,
    sigma: Tensor,
    text: tuple[Tensor, Tensor],
    guidance: Tensor,
    reference: Tensor,
) -> Tensor:
    """The network's output for noised latents, called as ComfyUI's sampler calls it."""
    from comfy.ldm.modules.attention import attention_pytorch

    options = {"optimized_attention_override": lambda _, *a, **k: attention_pytorch(*a, **k)}
    return flux(
        x,
        sigma,
        context=text[0],
        y=text[1],
        guidance=guidance,
        ref_latents=[reference],
        transformer_options=options,
    )


@torch.no_grad()
def sample(
    flux: nn.Module, text: tuple[Tensor, Tensor], reference: Tensor, steps: int = 10, seed: int = 3
) -> Tensor:
    """Euler steps on the schedule that ComfyUI uses for FLUX (shift 1.15)."""
    batch, device = reference.shape[0], reference.device
    x = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    times = torch.linspace(1, 0, steps + 1)
    shift = float(np.exp(1.15))
    sigmas = (shift * times / (1 + (shift - 1) * times)).to(device)
    text = tuple(t.expand(batch, *t.shape[1:]) for t in text)
    guidance = torch.full((batch,), 2.5, device=device)
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        v = velocity(flux, x, sigma.expand(batch), text, guidance, reference)
        x = x + (following - sigma) * v
    return x


class Training:
    """Everything a step needs: networks, captions, pools, optimizer, the averaged weights."""

    def __init__(
        self,
        photographs: list[np.ndarray],
        vae: nn.Module,
        clip,
        seed: int,
        device: str,
        shape: tuple[int, int, int] = SHAPE,
    ):
        import comfy.model_management

        # ComfyUI's fused rotary embedding has no backward
        comfy.model_management.in_training = True
        torch.manual_seed(seed)
        self.seed, self.step, self.device = seed, 0, device
        vae.to(device, torch.float32, memory_format=torch.channels_last)
        self.encoder, self.decoder = vae.taesd_encoder, vae.taesd_decoder
        self.clip = clip
        self.captions = Captions(clip, np.random.RandomState(seed))
        self.flux = build_flux(shape).to(device)
        self.average = build_flux(shape).to(device).requires_grad_(False)
        self.average.load_state_dict(self.flux.state_dict())
        self.separation = Separation(self.flux)
        self.lessons = lessons.Lessons(self.flux, lessons.PACE, self.separation.reading)
        self.optimizer = optimizer_of(self.flux)
        self.photographs = photographs
        self.pools = {
            size: LatentPairs(self.encode, photographs, size) for size, _, _ in LATER_SIZES
        }

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16):
            return self.encoder(images).float()

    def losses(self, reference: Tensor, target: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        """The squared error of the velocity, for each sample."""
        batch = len(target)
        reference, target = reference.to(self.device), target.to(self.device)
        # mostly the middle of the noise range, with every fifth example close to pure noise
        sigma = torch.sigmoid(0.4 + 1.1 * torch.randn(batch))
        sigma = torch.where(torch.rand(batch) < 0.2, 1 - 0.1 * torch.rand(batch), sigma)
        sigma = sigma.to(self.device)
        noise = torch.randn_like(target)
        noised = torch.lerp(target, noise, sigma[:, None, None, None])
        guidance = 1 + 3 * torch.rand(batch, device=self.device)  # its value comes to mean nothing
        with torch.autocast(self.device, torch.bfloat16):
            predicted = velocity(
                self.flux, noised, sigma, [t.to(self.device) for t in text], guidance, reference
            )
        return (predicted.float() - (noise - target)).square().mean((1, 2, 3))

    def teach(self, rng: np.random.RandomState) -> None:
        """One step of the LoRA that is trained beside: a new edit, under words without meaning."""
        if self.lessons.steps_left == 0:
            self.lessons.begin(float(np.exp(rng.uniform(*np.log(lessons.RATES)))))
            first, second = rng.choice([*TRAINED[1:], *PRACTISED], 2, replace=False)
            crops = [augmented_crop(rng, self.photographs, 128, 128) for _ in range(lessons.PAIRS)]
            pairs = [composed(first, second, x, rng) for x in to_tensor(crops)]
            self.lesson_pairs = self.encode(torch.stack([x for pair in pairs for x in pair]))
            self.lesson_words = rng.randint(NO_WORDS, CAPTIONS_UNKNOWN)
        at = rng.randint(lessons.PAIRS, size=lessons.BATCH)
        unknown = PICKS.index(UNKNOWN)
        words = [self.lesson_words if rng.rand() > 0.05 else 0 for _ in at]
        text = self.captions.of([(unknown, which) for which in words], self.captions.short)
        self.lessons.advance(
            lambda: self.losses(
                self.lesson_pairs[2 * at], self.lesson_pairs[2 * at + 1], text
            ).mean()
        )

    def advance(self, steps: int) -> dict[str, float]:
        """One optimizer step of `steps` in all; returns its loss, that under a LoRA, and how alike
        instructions are."""
        random_size = np.random.RandomState(self.step)  # the same in every process
        rng = np.random.RandomState(step_seed(self.seed, self.step))
        torch.manual_seed(step_seed(self.seed, self.step))
        size, batch = (64, 64), 32
        if self.step >= SMALL_STEPS:
            odds = [odds for _, _, odds in LATER_SIZES]
            size, batch, _ = LATER_SIZES[random_size.choice(len(LATER_SIZES), p=odds)]
        batch = share(batch)
        pool = self.pools[size]
        pool.add(rng, 8 * batch if pool.written == 0 else max(1, batch // 8), odds_at(self.step))
        reference, target, edits = pool.draw(rng, batch)
        text = self.captions.draw(rng, edits)

        strength = torch.zeros(batch)
        if self.step >= TAUGHT_FROM:
            while len(self.lessons.learnt) < 4:  # the base would counter a single one
                self.teach(rng)
            self.teach(rng)
            strength = (torch.rand(batch) < 0.4) * (0.5 + 0.75 * torch.rand(batch))
        with self.lessons.applied(self.lessons.any(rng), strength):
            losses = self.losses(reference, target, text)
        # what a LoRA makes of unknown words is not the base's to learn, but it is kept apart
        unknown = torch.from_numpy(edits == PICKS.index(UNKNOWN))
        alone, taught = losses[strength == 0], losses[(strength > 0) & ~unknown]
        alike = reached = torch.zeros(())
        if self.step >= SEPARATED_FROM:
            alike, reached = self.separation.compare(
                unlike(edits).to(self.device), unknown.to(self.device)
            )

        # warm up, hold, and fall to zero over the last 40 %
        rate = min(1.0, (self.step + 1) / 200, (steps - self.step) / (0.4 * steps))
        self.flux.zero_grad(set_to_none=True)
        apart = SEPARATION * alike + (REACH * reached if self.step >= REACH_FROM else 0)
        (torch.cat([alone, taught]).mean() + apart).backward()
        average_gradients(self.flux.parameters())
        nn.utils.clip_grad_norm_(self.flux.parameters(), 1.0)
        self.optimizer.step(rate)
        self.step += 1
        decay = min(0.998, self.step / (self.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.flux.parameters()), 1 - decay
            )
        figures = {"loss": alone, "taught": taught, "alike": alike, "reached": reached}
        return {name: each.mean().item() for name, each in figures.items() if each.numel()}

    @torch.no_grad()
    def heldout_figures(self, size: int) -> dict[str, float]:
        """PSNR against the true target on four held-out photographs, for some of the edits."""
        images = heldout_crops(size, per_photograph=1, everything=False)[:4]
        figures = {}
        for edit in (*TRAINED[:3], TRAINED[5], TRAINED[8], *HELD_OUT[:3]):
            pairs = [edit.make(x, np.random.RandomState(i)) for i, x in enumerate(images)]
            controls, targets = (torch.stack(side) for side in zip(*pairs, strict=True))
            ((cond, extra),) = self.clip.encode_from_tokens_scheduled(
                self.clip.tokenize(edit.instructions[0])
            )
            text = cond.to(self.device), extra["pooled_output"].to(self.device)
            with torch.autocast(self.device, torch.bfloat16):
                latent = sample(self.average, text, self.encode(controls), steps=8)
                edited = self.decoder(latent).float().clamp(0, 1).cpu()
            figures[edit.name] = round(float(psnr(edited, targets).mean()), 2)
        return figures

    def state(self) -> dict:
        return {
            "flux": self.flux.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "energies": self.separation.energies,
        }

    def restore(self, state: dict) -> None:
        self.flux.load_state_dict(state["flux"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.separation.energies = state["energies"]


def train_transformer(
    photographs: list[np.ndarray],
    work: Path,
    output: Path,
    steps: int,
    seed: int,
    device: str,
    shape: tuple[int, int, int],
    log: Callable[..., None],
) -> None:
    """Flow matching with the reference's tokens appended, as at inference; resumes from `work`.

    A resumed run draws the same batches, but from pools filled anew, and begins lessons anew.
    """
    from kontext.trainer.host.demo import load_text_encoder, load_vae
    from safetensors.torch import save_file

    training = Training(
        photographs, load_vae().first_stage_model, load_text_encoder(), seed, device, shape
    )
    checkpoint = work / "transformer.pt"
    if checkpoint.exists():
        training.restore(torch.load(checkpoint, map_location=device, weights_only=True))

    averages: dict[str, float] = {}
    while training.step < steps:
        for name, figure in training.advance(steps).items():
            averages[name] = 0.99 * averages.get(name, figure) + 0.01 * figure
        last = training.step == steps
        if is_first() and training.step % 50 == 0:
            log(step=training.step, **{name: round(x, 4) for name, x in averages.items()})
        if is_first() and (training.step % 100 == 0 or last):
            torch.save(training.state(), checkpoint)
            weights = at_pace(
                training.average.state_dict(), LORA_PACES, training.separation.readings()
            )
            save_file(
                {k: v.bfloat16().cpu().contiguous() for k, v in weights.items()},
                output / "demo_kontext.safetensors",
            )
        if is_first() and (training.step % 400 == 0 or last):
            size = 64 if training.step <= SMALL_STEPS else 128
            log(step=training.step, size=size, **training.heldout_figures(size))
