"""Train the demo VAE: TAESD's architecture, 16 channels, 8 times smaller, about 2.5 M weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from demo_model.data import augmented_crop, heldout_crops, to_tensor
from demo_model.optimizer import HiddenAndRest
from demo_model.parallel import average_gradients, is_first, share, step_seed

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159  # comfy.latent_formats.Flux
SIZES = ((64, 12), (128, 4))  # pixels and batch of each half of the training
RATES, BETAS = (1e-3, 1e-3), (0.9, 0.99)


class Autoencoder(nn.Module):
    """TAESD's encoder and decoder, with weights drawn anew."""

    def __init__(self):
        super().__init__()
        from comfy.taesd.taesd import Block, Decoder, Encoder

        self.encoder, self.decoder = Encoder(latent_channels=16), Decoder(latent_channels=16)
        for weight in self.parameters():
            weight.requires_grad_(True)
            if weight.ndim == 4:
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
                weight.data.mul_(0.7)
            else:
                nn.init.zeros_(weight)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.conv[-1].weight)  # a block passes its input on at first

    def optimizer(self) -> HiddenAndRest:
        """Muon for what lies between two layers of 64 channels."""
        weights = list(self.parameters())
        hidden = [w for w in weights if w.shape[:2] == (64, 64)]
        rest = [w for w in weights if w.shape[:2] != (64, 64)]
        return HiddenAndRest(hidden, rest, RATES, BETAS)

    def tensors(self) -> dict[str, Tensor]:
        """The weights in the layout that ComfyUI's VAELoader takes for one-file TAESD models.

        vae_scale and vae_shift undo what ComfyUI's Flux latent format applies, so that the
        transformer reads latents as the encoder gives them: mean 0, deviation 1.
        """
        tensors = {f"taesd_encoder.{k}": v for k, v in self.encoder.state_dict().items()}
        tensors |= {f"taesd_decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        tensors["vae_scale"] = torch.tensor(FLUX_SCALE)
        tensors["vae_shift"] = torch.tensor(FLUX_SHIFT)
        return {k: v.half().cpu().contiguous() for k, v in tensors.items()}


def one_cycle(progress: float) -> float:
    """Share of the highest learning rate: up within the first tenth, then half a cosine to 0."""
    if progress < 0.1:
        return 0.04 + 0.96 * progress / 0.1
    return 0.5 + 0.5 * math.cos(math.pi * (progress - 0.1) / 0.9)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture of a batch in 0..1, in decibel."""
    return -10 * (a - b).pow(2).flatten(1).mean(1).clamp_min(1e-8).log10()


@torch.no_grad()
def heldout_psnr(model: Autoencoder, size: int, device: str) -> float:
    images = heldout_crops(size, per_photograph=1).to(device)
    rebuilt = [model.decoder(model.encoder(image[None])).clamp(0, 1) for image in images]
    return float(psnr(torch.cat(rebuilt), images).mean())


def unit_moments(latent: Tensor) -> Tensor:
    """How far each channel is from mean 0 and deviation 1, squared."""
    return (latent.mean((0, 2, 3)).square() + (latent.std((0, 2, 3)) - 1).square()).mean()


def train_vae(
    photographs: list[np.ndarray],
    work: Path,
    output: Path,
    steps: int,
    seed: int,
    device: str,
    log: Callable[..., None],
) -> None:
    """Minimise absolute plus root mean square error, from slightly noisy latents; resumes."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)  # the same first weights in every process
    model = Autoencoder().to(device)
    optimizer = model.optimizer()
    checkpoint, step = work / "vae.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]

    average = None
    while step < steps:
        rng = np.random.RandomState(step_seed(seed, step))
        torch.manual_seed(step_seed(seed, step))
        size, batch = SIZES[2 * step // steps]
        crops = [augmented_crop(rng, photographs, size, size) for _ in range(share(batch))]
        images = to_tensor(crops).to(device, memory_format=torch.channels_last)

        with torch.autocast(device, torch.bfloat16):
            latent = model.encoder(images).float()
            rebuilt = model.decoder(latent + 0.05 * torch.randn_like(latent)).float()
        error = (rebuilt - images).square().flatten(1).mean(1)
        loss = (rebuilt - images).abs().mean() + error.sqrt().mean() + 0.02 * unit_moments(latent)
        model.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(one_cycle(step / steps))
        step += 1

        decibel = -10 * error.detach().log10().mean().item()
        average = decibel if average is None else 0.98 * average + 0.02 * decibel
        last = step == steps
        if is_first() and (step % 100 == 0 or last):
            log(
                step=step,
                train_db=round(average, 2),
                heldout_128_db=round(heldout_psnr(model, 128, device), 2),
            )
        if is_first() and (step % 250 == 0 or last):
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
                checkpoint,
            )
            save_file(model.tensors(), output)
