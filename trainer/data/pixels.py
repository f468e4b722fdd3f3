"""Between pictures and ComfyUI's IMAGE tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def tensor_of(image: Image.Image) -> Tensor:
    """RGB picture as an IMAGE batch [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255)[None]


def image_of(pixels: Tensor) -> Image.Image:
    """The first picture of an IMAGE batch [B, H, W, 3] in 0..1."""
    return Image.fromarray(pixels[0].mul(255).round().clamp(0, 255).byte().cpu().numpy())
