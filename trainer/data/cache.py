"""Latents and text embeddings, encoded once and kept on disk, named by the hash of their source."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps
from safetensors import safe_open
from torch import Tensor

from ...dataset.geometry import centred_box, crop_alike, resize_box
from ...dataset.image import open_rgb, picture_size
from ...dataset.masks import open_mask
from ...dataset.pair import Pair
from ...files import content_hash, storing
from ...language import say
from .. import host
from ..batch import EncodedPair
from ..config import GB, TrainConfig
from ..families import recognise
from ..files import is_whole, save_checked
from .pixels import tensor_of
from .sizes import training_sizes

MOST = 20 * GB  # on disk
IN_USE = 24 * 3600.0  # seconds: another process may be training on files used since then


class Cache:
    """Encodes what is not on disk yet. The files are only read back when a batch needs them."""

    def __init__(self, folder: Path, base: host.Base, config: TrainConfig) -> None:
        self.folder, self.base, self.config = folder, base, config
        self.family = recognise(base)
        self.dtype = host.training_dtype(base.model, config.dtype)
        self.vae_hash = host.vae_hash(base.vae)
        self.clip_hash = host.clip_hash(base.clip)
        self.limit = int(config.max_vram * GB)
        self.tiled: dict[tuple[int, int], int] = {}  # side of the tiles, by size of the picture
        self.used: set[Path] = set()

    def encode(self, pair: Pair, flip: bool = False, side: int = 0) -> EncodedPair:
        """Encode a pair's target, references and caption; with `flip`, its mirror image.

        `side` is the resolution, by default the run's first.
        """
        latents = self.encode_images(pair, flip, side)
        texts = self.encode_texts(pair, flip)
        text = texts[None, False]
        shape = (*(tensor_shape(key, "latent") for key in latents), tensor_shape(text, "cond"))
        mask = self.encode_mask(pair, pair.mask, flip, side) if pair.mask else None
        parts = latents[0], tuple(latents[1:]), text, shape, mask, texts
        return EncodedPair(pair.stem, *parts, self.family.pads_text)

    def encode_images(self, pair: Pair, flip: bool = False, side: int = 0) -> list[Path]:
        """Encode target and references; returns their files in this order."""
        paths = [pair.target, *pair.controls]
        sizes = self.sizes(pair, side)
        if pair.mask:
            self.encode_mask(pair, pair.mask, flip, side)
        frame = f"{picture_size(pair.target)} {sizes[0]} {flip}"
        keys = [
            self.key(self.vae_hash, content_hash(path), frame, f"{size}{self.tiles(size)}")
            for path, size in zip(paths, sizes, strict=True)
        ]
        if not all(map(is_whole, keys)):
            images = crop_alike([open_rgb(path) for path in paths], sizes)
            for key, image in zip(keys, images, strict=True):
                self.keep(key, partial(self.latent, mirrored(image, flip)))
        return keys

    def encode_mask(self, pair: Pair, mask: Path, flip: bool = False, side: int = 0) -> Path:
        """A target's mask [1, 1, h, w], cropped as the target is and averaged per latent pixel."""
        full, size = picture_size(pair.target), self.sizes(pair, side)[0]
        key = self.key("mask", content_hash(mask), f"{full} {size} {flip}")

        def encoded() -> dict[str, Tensor]:
            whole = open_mask(mask, pair.target, full)
            cut = resize_box(whole, centred_box(full, size[0] / size[1]), size)
            small = cut.reduce(self.family.pixels)
            return {"mask": tensor_of(mirrored(small, flip))[None, ..., 0]}

        return self.keep(key, encoded)

    def encode_texts(self, pair: Pair, flip: bool) -> dict[tuple[str | None, bool], Path]:
        """All texts that steps may use for a pair: see `EncodedPair`."""
        preserved = self.config.preserved if self.config.preserve else ()
        texts: dict[tuple[str | None, bool], Path] = {}
        for instruction in (None, "", *preserved):
            caption = pair.caption if instruction is None else instruction
            pictures = pair.controls if self.family.sees_pictures else ()
            texts[instruction, False] = self.encode_text(caption, pictures, flip)
            if self.config.reference_dropout and instruction in (None, ""):
                texts[instruction, True] = self.encode_text(caption)
        return texts

    def encode_text(self, caption: str, pictures: Sequence[Path] = (), flip: bool = False) -> Path:
        """Encode a caption, in the dtype that the transformer computes in.

        `pictures` are the controls that the encoder sees with it, uncropped and in their own size.
        """
        seen = [f"{content_hash(path)} {flip}" for path in pictures]
        key = self.key(self.clip_hash, str(self.dtype), caption, *seen)

        def encoded() -> dict[str, Tensor]:
            images = [tensor_of(mirrored(open_rgb(path), flip)) for path in pictures]
            text = self.family.encode_text(self.base.clip, caption, images, self.limit)
            parts = {"cond": text.cond, "pooled": text.pooled}
            return {name: part.to(self.dtype) for name, part in parts.items() if part is not None}

        return self.keep(key, encoded)

    def sizes(self, pair: Pair, side: int = 0) -> list[tuple[int, int]]:
        """Pixel sizes of target and references: within the budgets, never enlarged."""
        sizes = training_sizes(self.config, self.family.multiple, side)
        target, reference = sizes.fit(picture_size(pair.target))
        return [target, *(reference for _ in pair.controls)]

    def tiles(self, size: tuple[int, int]) -> str:
        """Part of a latent's file name: encoding in tiles, as the limit may require, changes it."""
        tile = host.tile_side(self.base.vae, (size[1], size[0]), self.limit)
        if not tile:
            return ""
        self.tiled[size] = tile
        return f" in tiles of {tile}"

    def notes(self) -> list[str]:
        """Notes on the latents, once all are named."""
        return [
            say(
                "max_vram {limit:g} GB: pictures of {width} × {height} are encoded in tiles of "
                "{tile}, which changes their latents.",
                limit=self.config.max_vram,
                width=width,
                height=height,
                tile=tile,
            )
            for (width, height), tile in self.tiled.items()
        ]

    def shrink(self, most: int = MOST) -> None:
        """Delete the least recently used files until `most` bytes are left."""
        for path in self.used:
            if path.exists():
                os.utime(path)
        files = [(path.stat().st_mtime, path) for path in self.folder.glob("*.safetensors")]
        size = sum(path.stat().st_size for _, path in files)
        for last_used, path in sorted(files):
            if size <= most or time.time() - last_used < IN_USE:
                return
            size -= path.stat().st_size
            with suppress(PermissionError):  # Windows: another process has it open
                path.unlink(missing_ok=True)

    def latent(self, image: Image.Image) -> dict[str, Tensor]:
        raw = self.family.encode_image(self.base.vae, tensor_of(image), self.limit)
        return {"latent": self.family.normalised(raw)}

    def key(self, *parts: str) -> Path:
        digest = hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()[:40]
        path = self.folder / f"{digest}.safetensors"
        self.used.add(path)
        return path

    def keep(self, path: Path, encoded: Callable[[], dict[str, Tensor]]) -> Path:
        if not is_whole(path):
            with storing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            save_checked(encoded(), path)
        return path


def mirrored(image: Image.Image, flip: bool) -> Image.Image:
    return ImageOps.mirror(image) if flip else image


def tensor_shape(path: Path, name: str) -> tuple[int, ...]:
    with safe_open(path, "pt") as file:
        return tuple(file.get_slice(name).get_shape())
