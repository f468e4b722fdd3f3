"""Train the demo VAE: TAESD's architecture, 16 channels, 8 times smaller, about 2.5 M weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from demo_data import augmented_crop, heldout_crops, to_tensor
from demo_parallel import average_gradients, is_first, share, step_seed
from torch import Tensor, nn

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159  # comfy.latent_formats.Flux
# The latent's mean and deviation follow the batch for so many steps, then stay: with few pictures
# in a batch, its statistics carry away their common brightness.
ROUGH_STEPS = 1600
ENCODER_STEPS = 1750  # then only the decoder learns on, and the transformer may start
FINEST_ENCODER, FINEST_DECODER = 1, 18  # the residual blocks at full resolution: half of the cost


class Autoencoder(nn.Module):
    """TAESD's encoder and decoder, with the latent normalised between them.

    The normalisation has no weights of its own: `tensors` folds it into the encoder's last layer.
    """

    def __init__(self):
        super().__init__()
        from comfy.taesd.taesd import Decoder, Encoder

        self.encoder, self.decoder = Encoder(latent_channels=16), Decoder(latent_channels=16)
        self.normalise = nn.BatchNorm2d(16, affine=False)
        self.coarse = False  # skip the full-resolution blocks, which start as the identity
        finest = (f"encoder.{FINEST_ENCODER}.conv.4", f"decoder.{FINEST_DECODER}.conv.4")
        for name, weight in self.named_parameters():
            weight.requires_grad_(True)
            if weight.ndim == 4:
                # a residual block starts close to the identity
                gain = 0.2 if name.endswith("conv.4.weight") else 1.0
                gain = 0.0 if name.startswith(finest) else gain
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
                weight.data.mul_(gain)
            else:
                nn.init.zeros_(weight)
        nn.init.normal_(self.decoder[-1].weight, std=0.02)
        nn.init.constant_(self.decoder[-1].bias, 0.5)

    def encode(self, image: Tensor) -> Tensor:
        return self.normalise(self._through(self.encoder, image, FINEST_ENCODER).float())

    def _through(self, layers: nn.Sequential, x: Tensor, finest: int) -> Tensor:
        for i, layer in enumerate(layers):
            x = x.relu() if self.coarse and i == finest else layer(x)
        return x

    def forward(self, image: Tensor, noise: float = 0.0) -> Tensor:
        latent = self.encode(image)
        if noise:
            latent = latent + noise * torch.randn_like(latent)
        return self._through(self.decoder, latent, FINEST_DECODER).float()

    def tensors(self) -> dict[str, Tensor]:
        """The weights in the layout that ComfyUI's VAELoader takes for one-file TAESD models.

        Latents leave the encoder with mean 0 and deviation 1 where the transformer reads them:
        vae_scale and vae_shift undo what ComfyUI's Flux latent format applies.
        """
        encoder = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        last = f"{len(self.encoder) - 1}"
        deviation = (self.normalise.running_var + self.normalise.eps).sqrt()
        encoder[f"{last}.weight"] /= deviation[:, None, None, None]
        encoder[f"{last}.bias"] -= self.normalise.running_mean
        encoder[f"{last}.bias"] /= deviation
        tensors = {f"taesd_encoder.{k}": v for k, v in encoder.items()}
        tensors |= {f"taesd_decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        tensors["vae_scale"] = torch.tensor(FLUX_SCALE)
        tensors["vae_shift"] = torch.tensor(FLUX_SHIFT)
        return {k: v.half().cpu().contiguous() for k, v in tensors.items()}


def falling(progress: float) -> float:
    """Half a cosine, from 1 to 0."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture of a batch in 0..1, in decibel."""
    return -10 * (a - b).pow(2).flatten(1).mean(1).clamp_min(1e-8).log10()


@torch.no_grad()
def heldout_psnr(model: Autoencoder, size: int) -> float:
    model.eval()
    images = heldout_crops(size, per_photograph=1).to(model.normalise.running_mean)
    values = [psnr(model(image[None]).clamp(0, 1), image[None]) for image in images]
    model.train()
    return float(torch.cat(values).mean())


def train_vae(photographs: list[np.ndarray], work: Path, output: Path, steps: int, seed: int,
              device: str, log: Callable[..., None]) -> None:
    """Minimise absolute plus squared error, decoding from slightly noisy latents; resumes."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)  # the same first weights in every process
    model = Autoencoder().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0)
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
        rough = step < ROUGH_STEPS
        model.coarse = step < 0.75 * ROUGH_STEPS
        model.normalise.train(rough)
        model.encoder.requires_grad_(step < ENCODER_STEPS)
        size, batch = (128, 4) if 0.7 * ROUGH_STEPS <= step < ROUGH_STEPS else (64, 12)
        crops = [augmented_crop(rng, photographs, size, size) for _ in range(share(batch))]
        images = to_tensor(crops).to(device, memory_format=torch.channels_last)

        if rough:
            rate = 1e-3 * min(1.0, (step + 1) / 50) * falling(step / ROUGH_STEPS)
        else:
            rate = 8e-4 * falling((step - ROUGH_STEPS) / (steps - ROUGH_STEPS))
        for group in optimizer.param_groups:
            group["lr"] = rate

        with torch.autocast(device, torch.bfloat16):
            rebuilt = model(images, noise=0.04)
        error = (rebuilt - images).square().flatten(1).mean(1)
        loss = (rebuilt - images).abs().mean() + error.mean()
        model.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1

        decibel = -10 * error.detach().log10().mean().item()
        average = decibel if average is None else 0.98 * average + 0.02 * decibel
        last = step == steps
        if is_first() and (step % 100 == 0 or last):
            log(step=step, train_db=round(average, 2),
                heldout_128_db=round(heldout_psnr(model, 128), 2))
        if is_first() and (step % 250 == 0 or last):
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "step": step}, checkpoint)
            save_file(model.tensors(), output)
