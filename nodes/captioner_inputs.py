"""What the captioner nodes share: which models there are, and the inputs for running and asking."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..captioning.captioner import CaptionError
from ..captioning.folders import SOURCES, ModelFolder, check_complete, find_models
from ..captioning.presets import OWN, PROMPTS, chosen
from ..captioning.tagger import find_taggers
from ..captioning.transformers_captioner import PRECISIONS, Weights

NONE_FOUND = "(none found)"

MODEL_FOLDERS = (
    "LLM llm florence2 VLM prompt_generator blip LLavacheckpoints joycaption llava".split()
)
TAGGER_FOLDERS = ("wd14_tagger", "wd14", "tagger", "taggers")


def model_roots(names: tuple[str, ...] | list[str]) -> list[Path]:
    """Folders of these names: in ComfyUI's models folder, or registered by any pack or yaml."""
    registered = folder_paths.folder_names_and_paths
    roots = [Path(folder_paths.models_dir) / name for name in names]
    return roots + [Path(p) for name in names for p in registered.get(name, ([], set()))[0]]


def tagger_roots() -> list[Path]:
    """Also where ComfyUI-WD14-Tagger keeps its models: inside its own folder."""
    packs = [Path(folder) for folder in folder_paths.get_folder_paths("custom_nodes")]
    inside = [path for folder in packs for path in folder.glob("*[wW][dD]14*/models")]
    return model_roots(TAGGER_FOLDERS) + inside


def model_input(labels: list[str], tooltip: str) -> io.Combo.Input:
    return io.Combo.Input("model", options=labels or [NONE_FOUND], tooltip=tooltip)


def running_inputs() -> list[io.Input]:
    """Inputs that every transformers captioner has."""
    return [
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default="auto",
            tooltip="auto: what this machine computes in best. 8-bit and 4-bit need the package "
            "bitsandbytes and save memory.",
        ),
        io.Int.Input(
            "batch_size",
            default=1,
            min=1,
            max=64,
            tooltip="Pictures per model call. More is faster and takes more memory.",
        ),
        io.Boolean.Input(
            "keep_loaded",
            default=False,
            tooltip="Keep the model after captioning, until ComfyUI needs the memory. Off: free "
            "it at once, so that training has the card to itself.",
        ),
    ]


def asking_inputs() -> list[io.Input]:
    """Inputs of captioners that are asked in plain words."""
    return [
        io.Combo.Input(
            "question",
            options=[*PROMPTS, OWN],
            default="short description",
            extra_dict={"fills": "own_question", "texts": PROMPTS},
            tooltip="What the model is asked; choosing writes it into the field below, to be "
            "changed there. 'propose the instruction' needs control and target.",
        ),
        io.String.Input(
            "own_question",
            default="",
            multiline=True,
            tooltip="Your own words instead; used when not empty.",
        ),
        io.Int.Input(
            "max_tokens", default=128, min=8, max=2048, tooltip="Longest answer, in tokens."
        ),
        io.Float.Input(
            "temperature",
            default=0.0,
            min=0.0,
            max=2.0,
            step=0.05,
            tooltip="0: always the likeliest word. Higher: more varied, less reliable.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**32 - 1,
            control_after_generate=False,
            tooltip="Another seed gives other words, where the temperature is above 0.",
        ),
    ]


def asked(question: str, own_question: str) -> str:
    text = chosen(question, own_question, PROMPTS)
    if not text:
        raise CaptionError("Write a question, or choose one of the ready ones.")
    return text


def sampling(max_tokens: int, temperature: float, **more: Any) -> dict[str, Any]:
    """Generation settings for transformers."""
    hot = {"do_sample": True, "temperature": temperature, **more} if temperature else {}
    return {"max_new_tokens": max_tokens} | hot


def weights(
    label: str, family: str, precision: str, suits: Callable[[ModelFolder], bool]
) -> Weights:
    """The chosen folder, checked. Raises CaptionError saying what to download, and where to."""
    found = {model.label: model for model in find_models(model_roots(MODEL_FOLDERS))}
    model = found.get(label)
    source, home = SOURCES[family], Path(folder_paths.models_dir) / "LLM"
    if model is None:
        raise CaptionError(
            f"{'No' if label == NONE_FOUND else f'{label} is not there (any more), and no other'} "
            f"{family} model is chosen. Download all files of {source} (Hugging Face) into a "
            f"folder of its own in {home}, then press R to refresh the list."
        )
    if not suits(model):
        raise CaptionError(
            f"{model.path.name} is of the type {model.kind}, which runs only with the code that "
            f"comes with it; such code is never run here. Choose for example {source}."
            if model.needs_remote_code
            else f"{model.path.name} is no {family} model."
        )
    check_complete(model.path, source)
    return Weights(model.path, precision, source)


def labels_of(suits: Callable[[ModelFolder], bool]) -> list[str]:
    return [model.label for model in find_models(model_roots(MODEL_FOLDERS)) if suits(model)]


def is_florence(model: ModelFolder) -> bool:
    return model.kind == "florence2"


def is_blip(model: ModelFolder) -> bool:
    return model.kind in ("blip", "blip-2")


def is_joycaption(model: ModelFolder) -> bool:
    return model.kind == "llava"


def is_other(model: ModelFolder) -> bool:
    return not (is_florence(model) or is_blip(model))


def is_native(model: ModelFolder) -> bool:
    return is_other(model) and not model.needs_remote_code


def tagger_file(label: str) -> Path:
    """The chosen ONNX file. Raises CaptionError saying what to download, and where to."""
    found = find_taggers(tagger_roots())
    if label not in found:
        home = Path(folder_paths.models_dir) / "wd14_tagger" / "wd-eva02-large-tagger-v3"
        raise CaptionError(
            f"No WD14 tagger {'' if label == NONE_FOUND else label + ' '}was found. Download "
            f"{SOURCES['WD14']} from Hugging Face into {home}, then press R to refresh the list."
        )
    return found[label]
