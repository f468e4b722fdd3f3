"""Conversion between pictures and ComfyUI's IMAGE tensors."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from ...dataset.pixels import to_image, to_values


def tensor_of(*images: Image.Image) -> Tensor:
    """Pictures of one size as an IMAGE batch [B, H, W, 3] in 0..1."""
    return torch.stack([torch.from_numpy(to_values(image)) for image in images])


def images_of(*batches: Tensor) -> list[Image.Image]:
    """The pictures of IMAGE batches [B, H, W, C] in 0..1."""
    return [to_image(picture.detach().cpu().numpy()) for batch in batches for picture in batch]


def image_of(pixels: Tensor) -> Image.Image:
    """The first picture of an IMAGE batch [B, H, W, C] in 0..1."""
    return images_of(pixels[:1])[0]
