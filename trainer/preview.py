"""What the LoRA makes of one pair so far: control, result and target side by side."""

from __future__ import annotations

from PIL import Image

from ..dataset.geometry import crop_alike
from ..dataset.image import open_rgb
from ..dataset.pair import Pair
from . import host
from .cache import Cache
from .files import storing
from .pixels import image_of, tensor_of
from .run import Run


class Preview:
    """Samples one pair with ComfyUI's own sampler, always from the same noise."""

    def __init__(self, base: host.Base, cache: Cache, pair: Pair, run: Run) -> None:
        self.base, self.run, self.config = base, run, cache.config
        sizes = cache.sizes(pair)
        paths = [pair.target, *pair.controls]
        self.size = sizes[0]
        self.target, *self.controls = crop_alike([open_rgb(path) for path in paths], sizes)
        self.references = [host.encode_image(base.vae, tensor_of(image)) for image in self.controls]
        self.text = host.encode_text(base.clip, pair.caption)

    def sample(self, model: host.Model, step: int) -> Image.Image:
        """The strip after `step` steps, also kept in the run's `samples` folder."""
        with host.sampling_allowed():
            latent = host.sample(
                model,
                self.text,
                self.references,
                *self.size,
                seed=self.config.seed,
                steps=self.config.preview_steps,
            )
            image = host.decode_latent(self.base.vae, latent)
        strip = side_by_side([*self.controls, image_of(image), self.target])
        path = self.run.folder / "samples" / f"step_{step:06d}.png"
        with storing(path):
            path.parent.mkdir(exist_ok=True)
            strip.save(path)
        return strip


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Images of any sizes in a row, as high as the last one."""
    height = images[-1].height
    scaled = [image.resize((image.width * height // image.height, height)) for image in images]
    strip = Image.new("RGB", (sum(image.width for image in scaled), height))
    left = 0
    for image in scaled:
        strip.paste(image, (left, 0))
        left += image.width
    return strip
