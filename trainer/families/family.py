"""The protocol of a family, and everything that families share."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from ...dataset.quick import LETTERS
from ...language import say
from ...patterns import SlowPatternError, matching
from .. import host
from ..batch import Text
from ..host import files as host_files
from ..network.frozen import STREAMS
from ..setting import ConfigError

FULL_WIDTH = 1024  # hidden size; miniatures are narrower


@dataclass(frozen=True)
class Blocks:
    """A kind of block: its list in ComfyUI's network and in diffusers', and its linears.

    `linears` maps each of ComfyUI's linears to diffusers' names. If there are several, their rows
    are stacked in ComfyUI's linear in this order, in parts of `shares`, or of equal size. `kept` is
    what one block keeps for backward, in the memory plan's units: tokens × width in the compute
    dtype. `last` are the linears that a block ends with: their output, times a gate made by one of
    `gates`, is added to a stream, and nothing in the block reads it.
    """

    ours: str
    theirs: str
    linears: Mapping[str, tuple[str, ...]]
    kept: int
    last: tuple[str, ...]
    gates: tuple[str, ...] = ()
    shares: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class Family:
    """A loaded model, wrapped with everything specific to its family.

    `classes` are the names of ComfyUI's classes of the model and of its network. `files` are the
    files to load, by ComfyUI's kinds; `clip_type` is its loaders' type of the text encoder, which
    has `clip_files` files. A latent has `channels`, and one value per `pixels` × `pixels`; `patch`
    × `patch` values are a token; the sides of pictures are multiples of `multiple`. `targets` are
    parts of the names of linears, by value of the setting `targets`. `transient` and `ends` are
    units like `Blocks.kept`: for a block's gradients, and for the layers outside the blocks.
    """

    title: ClassVar[str]
    classes: ClassVar[tuple[str, str]]
    files: ClassVar[Mapping[str, str]]
    clip_type: ClassVar[str]
    clip_files: ClassVar[int] = 1
    channels: ClassVar[int]
    pixels: ClassVar[int]
    patch: ClassVar[int]
    multiple: ClassVar[int] = 16
    kinds: ClassVar[tuple[Blocks, ...]]
    transient: ClassVar[int] = 14
    ends: ClassVar[int] = 2
    streams: ClassVar[Mapping[str, str]] = STREAMS  # the names of a block's inputs, for compiling
    targets: ClassVar[Mapping[str, tuple[str, ...]]]
    undoubted: ClassVar[Collection[str]] = (LETTERS,)  # findings that are no concern of this model
    sees_pictures: ClassVar[bool] = False  # whether the text encoder is shown the controls
    pads_text: ClassVar[bool] = False  # whether texts of several lengths may share a batch

    def __init__(self, model: host.Model) -> None:
        self.model = model
        self.network: Any = model.model.diffusion_model

    # ---- what is loaded ------------------------------------------------------------------------

    def check_model(self) -> None:
        """Raise BaseModelError for a model of the family that cannot be trained on."""
        host.check_readable(self.network)

    def check_vae(self, vae: host.Vae) -> None:
        """Raise BaseModelError unless this is the family's VAE."""
        if vae.latent_channels != self.channels:
            raise host.BaseModelError(
                say(
                    "The VAE makes {made} latent channels, {family} needs {needed}. Load {file}.",
                    made=vae.latent_channels,
                    family=self.title,
                    needed=self.channels,
                    file=self.files["vae"],
                )
            )

    @property
    def contrasts(self) -> bool:
        """Whether it is sampled with classifier-free guidance, against an empty prompt."""
        return False

    def check_text_encoder(self, encoder: Any) -> None:
        """Raise BaseModelError unless this is the text encoder of this very model."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """The hidden size."""
        raise NotImplementedError

    @property
    def full_size(self) -> bool:
        """False for the demo model and other miniatures, which learn in far fewer steps."""
        return self.width >= FULL_WIDTH

    def blocks(self) -> list[nn.Module]:
        """The blocks that are checkpointed, compiled and streamed, in the order they run in."""
        return [block for kind in self.kinds for block in getattr(self.network, kind.ours)]

    @property
    def file_name(self) -> str:
        """The name of the file that the model was loaded from; empty if unknown."""
        return host_files.file_name(self.model)

    @property
    def member(self) -> str:
        """Which model of the family this is."""
        return self.title

    @property
    def guidance(self) -> float:
        """The guidance that its maker recommends, for `sample`."""
        raise NotImplementedError

    @property
    def reference_method(self) -> str:
        """How references are placed, if not as the network would by itself."""
        return ""

    def description(self) -> str:
        """For the node: FLUX.2 Klein base 4B, bf16."""
        return f"{self.member}, {host.weight_format(self.network)}"

    @property
    def distilled(self) -> bool:
        """Whether it is made for few steps, judging by its file's name."""
        return False

    @property
    def base_file(self) -> str:
        """The file to train on in place of a distilled one."""
        return self.files["diffusion_model"]

    def notes(self) -> list[str]:
        """Warnings about this model, before training on it."""
        if not self.distilled:
            return []
        return [
            say(
                "{file} is a distilled model, judging by its name. Train on the base model "
                "({base}), and use the LoRA on the distilled one: training undoes what makes it "
                "fast.",
                file=self.file_name,
                base=self.base_file,
            )
        ]

    def block_memory(self) -> tuple[tuple[int, int], ...]:
        """For each kind of block in the order they run in: how many, and the units one keeps."""
        return tuple((len(getattr(self.network, kind.ours)), kind.kept) for kind in self.kinds)

    def unread(self, adapted: Collection[str]) -> set[str]:
        """The linears whose output no gradient depends on, if the `adapted` ones have adapters.

        A checkpointed block need not recompute them. The gradient of a trained gate does depend on
        that output.
        """
        return {
            block + linear
            for kind, block in self.named_blocks()
            if not any(block + gate in adapted for gate in kind.gates)
            for linear in kind.last
        }

    def used_again(self, adapted: Collection[str]) -> list[list[nn.Module]]:
        """For each block, the linears whose weights are used both in its recomputation and in its
        backward: those that make gates have no input with a gradient."""
        unread = self.unread(adapted)
        return [
            [
                self.network.get_submodule(block + linear)
                for linear in kind.linears
                if block + linear not in unread and linear not in kind.gates
            ]
            for kind, block in self.named_blocks()
        ]

    def named_blocks(self) -> Iterator[tuple[Blocks, str]]:
        """The kind of each block, and the prefix of its linears' names."""
        for kind in self.kinds:
            for place in range(len(getattr(self.network, kind.ours))):
                yield kind, f"{kind.ours}.{place}."

    # ---- encoding ------------------------------------------------------------------------------

    def encode_text(
        self, clip: host.Clip, text: str, pictures: Sequence[Tensor] = (), limit: int = 0
    ) -> Text:
        """A caption, as the nodes of this family's graphs encode it.

        `pictures` [1, H, W, 3] in 0..1 are the uncropped controls, for encoders that see them. With
        a `limit` in bytes, weights that exceed it are streamed.
        """
        return host.encode_text(clip, text, limit)

    def encode_prompts(
        self, clip: host.Clip, text: str, pictures: Sequence[Tensor] = ()
    ) -> tuple[Text, Text | None]:
        """A prompt to sample with, and the empty prompt if the family `contrasts`."""
        shown = pictures if self.sees_pictures else ()
        blank = self.encode_text(clip, "", shown) if self.contrasts else None
        return self.encode_text(clip, text, shown), blank

    def encode_image(self, vae: host.Vae, image: Tensor, limit: int = 0) -> Tensor:
        """`host.encode_image`: a raw latent, as ComfyUI's nodes pass it on."""
        return host.encode_image(vae, image, limit)

    def normalised(self, raw: Tensor) -> Tensor:
        """A raw latent in the range the network works in, [B, channels, h, w]."""
        return host.normalised(self.model, raw)

    @classmethod
    def tokens(cls, latent: Sequence[int]) -> int:
        """Length of the sequence that a latent of shape [..., h, w] becomes."""
        return math.prod(-(-side // cls.patch) for side in latent[-2:])

    @classmethod
    def sequence_length(cls, shape: Sequence[Sequence[int]]) -> int:
        """Length of the whole sequence of a pair: its latents and, last, its text."""
        *latents, text = shape
        return sum(map(cls.tokens, latents)) + text[1]

    # ---- training ------------------------------------------------------------------------------

    def predict(
        self,
        noised: Tensor,
        sigma: Tensor,
        text: Text,
        references: Sequence[Tensor],
        guidance: float,
    ) -> Tensor:
        """The velocity `noise - latent` [B, channels, h, w] that the network predicts.

        `noised` and `references` are normalised latents in the compute dtype, `sigma` [B] float32,
        `text` of batch size B.
        """
        given = noised, sigma, text, references, guidance, self.reference_method
        return host.predict_velocity(self.model.model, *given)

    def sampled_with(self, model: host.Model) -> host.Model:
        """The model, or a clone of it with LoRAs, as this family's graphs sample with it."""
        return model

    def sigmas(self, model: host.Model, width: int, height: int, steps: int) -> Tensor:
        """Noise levels of sampling [steps + 1], for a picture of this size in pixels."""
        return host.simple_sigmas(model, steps)

    def sample(
        self,
        model: host.Model,
        text: Text,
        references: Sequence[Tensor],
        width: int,
        height: int,
        seed: int,
        steps: int = 20,
        guidance: float = 0.0,
        blank: Text | None = None,
    ) -> Tensor:
        """The raw latent that this family's graphs give for the same inputs (euler).

        `references` are raw latents, `width` and `height` are in pixels; a guidance of 0 stands for
        the recommended one. `blank` is the empty prompt, if the family `contrasts`.
        """
        guidance = guidance or self.guidance
        model = self.sampled_with(model)
        sigmas = self.sigmas(model, width, height, steps)
        given = model, text, references, width, height, seed, steps, guidance
        if self.contrasts:
            return host.sample(*given, sigmas, blank, cfg=guidance, method=self.reference_method)
        return host.sample(*given, sigmas, method=self.reference_method)

    def shift(self, latent: Sequence[int]) -> float:
        """The timestep shift of the maker's sampler for a target of shape [..., h, w]."""
        raise NotImplementedError

    @classmethod
    def targeted(cls, names: Iterable[str], targets: str) -> list[str]:
        """The linears of the blocks that the setting `targets` selects.

        `attention`: projections around attention; `blocks`: also the MLPs; `all`: also the
        modulation; or a regular expression. Raises ConfigError if it matches none.
        """
        inside = tuple(f"{kind.ours}." for kind in cls.kinds)
        linears = [name for name in names if name.startswith(inside)]
        if targets in cls.targets:
            parts = cls.targets[targets]
            return [name for name in linears if any(part in name for part in parts)]
        try:
            chosen = matching(targets, linears)
        except SlowPatternError as error:
            raise ConfigError(say("{name}: {text}", name="targets", text=error)) from error
        if not chosen:
            raise ConfigError(
                say(
                    "targets is {value}, which matches no layer from {first} to {last}. Write "
                    "one of {known}, or a regular expression of layer names.",
                    value=repr(targets),
                    first=linears[0],
                    last=linears[-1],
                    known=", ".join(cls.targets),
                )
            )
        return chosen

    # ---- LoRA files ----------------------------------------------------------------------------

    @classmethod
    def linear_name(cls, words: str) -> str | None:
        """ComfyUI's name of a linear, from kohya's, which has `_` for `.`; None if unknown."""
        for kind in cls.kinds:
            match = re.fullmatch(rf"{kind.ours}_(\d+)_(.+)", words)
            linears = {linear.replace(".", "_"): linear for linear in kind.linears}
            if match and match[2] in linears:
                return f"{kind.ours}.{match[1]}.{linears[match[2]]}"
        return None

    @classmethod
    def split(cls, name: str, up: Tensor) -> dict[str, Tensor]:
        """The rows of `up` for each of diffusers' linears that ComfyUI's linear `name` combines."""
        start, index, linear = name.split(".", 2)
        kind = next(kind for kind in cls.kinds if kind.ours == start)
        parts = kind.linears[linear]
        shares = kind.shares.get(linear, (1,) * len(parts))
        unit = up.shape[0] // sum(shares)
        rows = up.split([unit * share for share in shares])
        names = (f"{kind.theirs}.{index}.{part}" for part in parts)
        return dict(zip(names, rows, strict=True))

    @classmethod
    def fits(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Whether `<linear>.<part>` tensors can be a LoRA for this family, by names and shapes."""
        names = {key.rsplit(".", 1)[0] for key in tensors}
        return all(cls.linear_name(name.replace(".", "_")) == name for name in names)

    @classmethod
    def metadata(cls) -> dict[str, str]:
        """Metadata of LoRA files about the model they are for."""
        raise NotImplementedError

    def about(self) -> dict[str, str]:
        """`metadata`, for this particular model."""
        return self.metadata()


def has_rows(tensors: Mapping[str, Tensor], linear: str, ratio: int) -> bool | None:
    """Whether LoRA pairs of this linear have `ratio` times as many rows as columns; None without
    such a pair."""
    sides = [
        (tensors[f"{key.removesuffix('.down')}.up"].shape[0], down.shape[1])
        for key, down in tensors.items()
        if key.endswith(f".{linear}.down")
    ]
    return all(rows == ratio * columns for rows, columns in sides) if sides else None
