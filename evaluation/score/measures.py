"""Measures of a generated picture against its control, its target and the training targets.

Pictures are [3, H, W] in 0..1. An `Embed` turns one into a vector, by a vision model or, without
one, by `thumbnail`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Embed = Callable[[Tensor], Tensor]

UNCHANGED = 0.03  # largest difference of any channel that counts as the same pixel
FEWEST_UNCHANGED = 0.05  # share of the picture


@dataclass(frozen=True)
class PictureScore:
    """The measures of one generated picture; NaN if there is nothing to measure.

    `psnr` and `ssim` are against the true target; `direction` is cos(E(out) - E(control),
    E(target) - E(control)); `done` is the share of the edit made, 0 for the unchanged control and 1
    for the target; `preserved` is the PSNR against the control where the target leaves it
    unchanged; `memorised` is 1 if a training target is much closer than the true one.
    """

    psnr: float
    ssim: float
    direction: float
    done: float
    preserved: float
    memorised: float


def score_picture(
    out: Tensor,
    control: Tensor | None,
    target: Tensor,
    training_targets: Sequence[Tensor],
    embed: Embed,
) -> PictureScore:
    """Measure a picture made from `control`, if there is one, whose true result is `target`.

    All are of the same size.
    """
    from kornia.metrics import ssim

    edit = (float("nan"),) * 3
    if control is not None:
        towards = direction(embed(out), embed(control), embed(target))
        edit = towards, edit_done(out, control, target), preserved(out, control, target)
    window = 11 if min(out.shape[1:]) >= 11 else 3
    return PictureScore(
        psnr=psnr(out, target),
        ssim=float(ssim(out[None], target[None], window, padding="valid").mean()),
        direction=edit[0],
        done=edit[1],
        preserved=edit[2],
        memorised=memorised(out, target, training_targets),
    )


def psnr(out: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels, 80 for equal pictures."""
    return float(-10 * (out - target).square().mean().clamp_min(1e-8).log10())


def direction(out: Tensor, control: Tensor, target: Tensor) -> float:
    """Whether the edit goes the right way in the embedding: 1 is right, 0 sideways, -1 away."""
    wanted, made = target - control, out - control
    if wanted.norm() < 1e-6:
        return float("nan")
    return float(F.cosine_similarity(made, wanted, dim=0)) if made.norm() > 1e-6 else 0.0


def edit_done(out: Tensor, control: Tensor, target: Tensor) -> float:
    """The share of the way from control to target that the pixels have gone."""
    wanted = target - control
    length = wanted.square().sum()
    return float(((out - control) * wanted).sum() / length) if length > 0 else float("nan")


def preserved(out: Tensor, control: Tensor, target: Tensor) -> float:
    """PSNR against the control over the pixels that the edit should leave alone."""
    same = (target - control).abs().amax(0) < UNCHANGED
    if same.float().mean() < FEWEST_UNCHANGED:
        return float("nan")
    return psnr(out[:, same], control[:, same])


def memorised(out: Tensor, target: Tensor, training_targets: Sequence[Tensor]) -> float:
    """1 if a training target is less than half as far away as the true target, on thumbnails.

    Half, because a picture that resembles nothing is a little closer to one of many by chance.
    """
    small = thumbnail(out)
    own = (small - thumbnail(target)).norm()
    return float(any((small - thumbnail(other)).norm() < own / 2 for other in training_targets))


def drift(out: Tensor, base: Tensor) -> float:
    """Root mean square change by the LoRA to a picture that it should leave to the base model."""
    return float((out - base).square().mean().sqrt())


def thumbnail(picture: Tensor, side: int = 32) -> Tensor:
    """The picture as a vector of side × side × 3 values, blurred enough to forgive a pixel."""
    small = F.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)
    return small.flatten()


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN."""
    return float(torch.tensor(values, dtype=torch.float64).nanmean())
