"""Train the demo VAE: TAESD's architecture, 16 channels, 8 times smaller, about 2.5 M weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from demo_data import augmented_crop, heldout_crops, to_tensor
from torch import Tensor, nn

FLUX_SCALE, FLUX_SHIFT = 0.3611, 0.1159  # comfy.latent_formats.Flux


class Autoencoder(nn.Module):
    """TAESD's encoder and decoder, with the latent normalised between them.

    The normalisation has no weights of its own: `tensors` folds it into the encoder's last layer.
    """

    def __init__(self):
        super().__init__()
        from comfy.taesd.taesd import Decoder, Encoder

        self.encoder, self.decoder = Encoder(latent_channels=16), Decoder(latent_channels=16)
        self.normalise = nn.BatchNorm2d(16, affine=False, momentum=0.02)
        for name, weight in self.named_parameters():
            weight.requires_grad_(True)
            if weight.ndim == 4:
                # a residual block starts close to the identity
                gain = 0.2 if name.endswith("conv.4.weight") else 1.0
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
                weight.data.mul_(gain)
            else:
                nn.init.zeros_(weight)
        nn.init.normal_(self.decoder[-1].weight, std=0.02)
        nn.init.constant_(self.decoder[-1].bias, 0.5)

    def encode(self, image: Tensor) -> Tensor:
        return self.normalise(self.encoder(image).float())

    def forward(self, image: Tensor, noise: float = 0.0) -> Tensor:
        latent = self.encode(image)
        if noise:
            latent = latent + noise * torch.randn_like(latent)
        return self.decoder(latent).float()

    def tensors(self) -> dict[str, Tensor]:
        """The weights in the layout that ComfyUI's VAELoader takes for one-file TAESD models.

        Latents leave the encoder with mean 0 and deviation 1 where the transformer reads them:
        vae_scale and vae_shift undo what ComfyUI's Flux latent format applies.
        """
        encoder = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        last = f"{len(self.encoder) - 1}"
        deviation = (self.normalise.running_var + self.normalise.eps).sqrt()
        encoder[f"{last}.weight"] /= deviation[:, None, None, None]
        encoder[f"{last}.bias"] = (encoder[f"{last}.bias"] - self.normalise.running_mean) / deviation
        tensors = {f"taesd_encoder.{k}": v for k, v in encoder.items()}
        tensors |= {f"taesd_decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        tensors["vae_scale"] = torch.tensor(FLUX_SCALE)
        tensors["vae_shift"] = torch.tensor(FLUX_SHIFT)
        return {k: v.half().contiguous() for k, v in tensors.items()}


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture of a batch in 0..1, in decibel."""
    return -10 * (a - b).pow(2).flatten(1).mean(1).clamp_min(1e-8).log10()


@torch.no_grad()
def heldout_psnr(model: Autoencoder, size: int) -> float:
    model.eval()
    images = heldout_crops(size, per_photograph=1)
    values = [psnr(model(image[None]).clamp(0, 1), image[None]) for image in images]
    model.train()
    return float(torch.cat(values).mean())


def train_vae(photographs: list[np.ndarray], work: Path, output: Path, steps: int, seed: int,
              log: Callable[..., None]) -> None:
    """Minimise the mean PSNR's own quantity, log MSE, on noisy latents; resumes from `work`."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = Autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0)
    checkpoint, step = work / "vae.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]

    average = None
    while step < steps:
        rng = np.random.RandomState((seed * 1_000_003 + step) % 2**32)
        torch.manual_seed(seed * 1_000_003 + step)
        size, batch = (64, 12) if step < 0.65 * steps else (128, 4)
        images = to_tensor([augmented_crop(rng, photographs, size, size) for _ in range(batch)])
        images = images.to(memory_format=torch.channels_last)

        warmup = min(1.0, (step + 1) / 100)
        decay = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        for group in optimizer.param_groups:
            group["lr"] = 1.2e-3 * warmup * decay + 2e-6

        with torch.autocast("cpu", torch.bfloat16):
            rebuilt = model(images, noise=0.04)
        error = (rebuilt - images).pow(2).flatten(1).mean(1)
        loss = (error + 2e-4).log().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1

        decibel = float(-10 * error.log10().mean())
        average = decibel if average is None else 0.98 * average + 0.02 * decibel
        if step % 100 == 0 or step == steps:
            log(step=step, train_db=round(average, 2), heldout_128_db=round(
                heldout_psnr(model, 128), 2), heldout_256_db=round(heldout_psnr(model, 256), 2))
        if step % 250 == 0 or step == steps:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "step": step}, checkpoint)
            save_file(model.tensors(), output)
