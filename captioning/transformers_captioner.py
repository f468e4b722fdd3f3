"""The base of all captioners that use transformers: loading, keeping, one model call."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..language import say
from ..trainer.host import throw_if_interrupted
from .captioner import CaptionError, Sample
from .folders import check_complete, weight_bytes
from .residence import Pinned, Resident, best_dtype

PRECISIONS = ("auto", "bf16", "fp16", "fp32", "8-bit", "4-bit")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_QUANTISED = ("8-bit", "4-bit")
# the vision part is small and decides what is seen; output layers may share the embedding's weights
_LEFT_WHOLE = ["lm_head", "predictions.decoder"] + [
    f"{parent}{part}"
    for parent in ("", "model.")
    for part in ("vision_tower", "vision_model", "visual", "multi_modal_projector")
]


@dataclass(frozen=True)
class Weights:
    """Which model to load, and how."""

    folder: Path
    precision: str = "auto"
    source: str = ""


@dataclass(frozen=True)
class Loaded:
    model: Any
    processor: Any
    place: Resident | Pinned


_kept: dict[tuple[type, Weights], Loaded] = {}
"""The one model that stays loaded, until ComfyUI needs the memory or another is kept."""


class TransformersCaptioner:
    """A model folder, a way to ask it, and the generation settings.

    Subclasses say how pictures become model inputs and, where they must, how the model is read.
    """

    sees_several = False

    def __init__(
        self,
        weights: Weights,
        batch_size: int = 1,
        keep: bool = False,
        generation: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.weights = weights
        self.batch_size = batch_size
        self.keep = keep
        self.generation = {"do_sample": False, "max_new_tokens": 256} | (generation or {})
        self.seed = seed
        self._loaded: Loaded | None = None

    # ---- for subclasses --------------------------------------------------------------------

    def inputs(self, processor: Any, samples: Sequence[Sample]) -> Any:
        """The processor's tensors for a batch."""
        raise NotImplementedError

    def question(self) -> str:
        """The whole prompt."""
        raise NotImplementedError

    def read(self, options: dict[str, Any]) -> tuple[Any, Any]:
        """Model and processor from the folder; `options` are for `from_pretrained`."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = self.weights.folder
        model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, **options
        )
        return model, AutoProcessor.from_pretrained(folder, local_files_only=True)

    def prompt_length(self, model: Any, inputs: Any) -> int:
        """How many leading tokens of the output repeat the input."""
        if model.config.is_encoder_decoder or "input_ids" not in inputs:
            return 0
        return inputs["input_ids"].shape[1]

    def decode(self, processor: Any, output: torch.Tensor) -> list[str]:
        return processor.batch_decode(output, skip_special_tokens=True)

    def clean(self, text: str) -> str:
        return text.strip()

    # ---- the Captioner interface -----------------------------------------------------------

    def key(self) -> str:
        parts = (type(self).__name__, self.weights, self.question(), self.generation, self.seed)
        return repr(parts)

    def describe(self, samples: Sequence[Sample]) -> list[str]:
        loaded = self._load()
        device = loaded.place.bring()
        inputs = self.inputs(loaded.processor, samples)
        inputs = inputs.to(device=device, dtype=loaded.model.dtype)  # only float tensors are cast
        with torch.inference_mode(), _seeded(self.seed, device):
            output = loaded.model.generate(
                **inputs, **self.generation, stopping_criteria=[_stop_on_cancel]
            )
        answer = output[:, self.prompt_length(loaded.model, inputs) :]
        return [self.clean(text) for text in self.decode(loaded.processor, answer)]

    def release(self) -> None:
        loaded, self._loaded = self._loaded, None
        if self.keep and loaded is not None:
            _kept.clear()
            _kept[self._slot] = loaded
            return
        _kept.pop(self._slot, None)
        if loaded is not None:
            loaded.place.leave()

    # ---- loading ---------------------------------------------------------------------------

    @property
    def _slot(self) -> tuple[type, Weights]:
        return type(self), self.weights

    def _load(self) -> Loaded:
        if self._loaded is None:
            for slot, kept in list(_kept.items()):
                if kept.place.evicted:
                    del _kept[slot]
            self._loaded = _kept.get(self._slot) or self._read_checked()
        return self._loaded

    def _read_checked(self) -> Loaded:
        check_complete(self.weights.folder, self.weights.source)
        options, movable = _loading_options(self.weights)
        try:
            model, processor = self.read(options)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise _unreadable(self.weights, error) from error
        model.eval()
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is not None and not model.config.is_encoder_decoder:
            tokenizer.padding_side = "left"
        return Loaded(model, processor, Resident(model) if movable else Pinned(model))


def _loading_options(weights: Weights) -> tuple[dict[str, Any], bool]:
    """Arguments for `from_pretrained`, and whether the weights may be moved afterwards."""
    dtype = _DTYPES.get(weights.precision) or best_dtype()
    if weights.precision not in _QUANTISED and not _is_quantised(weights.folder):
        return {"dtype": dtype}, True
    if importlib.util.find_spec("bitsandbytes") is None:
        raise CaptionError(
            say(
                "{name} in {precision} needs the package bitsandbytes. Install it into ComfyUI's "
                "Python (pip install bitsandbytes), or choose bf16.",
                name=weights.folder.name,
                precision=weights.precision,
            )
        )
    device = Pinned.make_room(weight_bytes(weights.folder))
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}}
    if weights.precision in _QUANTISED and not _is_quantised(weights.folder):
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=weights.precision == "8-bit",
            load_in_4bit=weights.precision == "4-bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=_LEFT_WHOLE,
        )
    return options, False


def _is_quantised(folder: Path) -> bool:
    return '"quantization_config"' in (folder / "config.json").read_text(encoding="utf-8")


def _unreadable(weights: Weights, error: Exception) -> CaptionError:
    if any("torchaudio" in reason or "CUDA versions" in reason for reason in _reasons(error)):
        return CaptionError(
            say(
                "transformers cannot be imported because torchaudio does not match torch. Install "
                "the torchaudio that belongs to torch {torch}, or uninstall it. ({error})",
                torch=torch.__version__,
                error=error,
            )
        )
    return CaptionError(
        say(
            "{name} could not be loaded from {folder}: {error}. Download the folder again, or "
            "choose another model.",
            name=weights.folder.name,
            folder=weights.folder,
            error=error,
        )
    )


def _reasons(error: BaseException | None) -> Iterator[str]:
    """The messages of the error and of its causes, where transformers hides a failed import."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def _stop_on_cancel(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
    """Called after each token: lets ComfyUI's Cancel through."""
    throw_if_interrupted()
    return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Makes sampling repeatable, and leaves the global random state as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
