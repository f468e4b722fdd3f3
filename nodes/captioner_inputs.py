"""Shared by the captioner nodes: the models on disk, and the inputs for running and asking them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..captioning.captioner import CaptionError
from ..captioning.folders import SOURCES, ModelFolder, check_complete, find_models
from ..captioning.presets import OWN, PROMPTS, chosen
from ..captioning.tagger import find_taggers
from ..captioning.transformers_captioner import PRECISIONS, TransformersCaptioner, Weights
from ..language import say

NONE_FOUND = "(none found)"


@dataclass(frozen=True)
class CaptionerFamily:
    """A family of captioning models: its name in SOURCES, and which folders hold one.

    `listed` says which folders the node shows, `runs` which of these can be used.
    """

    name: str
    listed: Callable[[ModelFolder], bool]
    runs: Callable[[ModelFolder], bool]


def kinds(*names: str) -> Callable[[ModelFolder], bool]:
    return lambda model: model.kind in names


def other(model: ModelFolder) -> bool:
    return model.kind not in ("florence2", "blip", "blip-2")


FLORENCE = CaptionerFamily("Florence-2", kinds("florence2"), kinds("florence2"))
BLIP = CaptionerFamily("BLIP", kinds("blip", "blip-2"), kinds("blip", "blip-2"))
JOYCAPTION = CaptionerFamily("JoyCaption", kinds("llava"), kinds("llava"))
VISION_LANGUAGE = CaptionerFamily(
    "Vision-language", other, lambda model: other(model) and not model.needs_remote_code
)

MODEL_FOLDERS = (
    "LLM llm florence2 VLM prompt_generator blip LLavacheckpoints joycaption llava".split()
)
TAGGER_FOLDERS = ("wd14_tagger", "wd14", "tagger", "taggers")


def model_roots(names: tuple[str, ...] | list[str]) -> list[Path]:
    """Folders of these names: in ComfyUI's models folder, or registered by any pack or yaml."""
    registered = folder_paths.folder_names_and_paths
    roots = [Path(folder_paths.models_dir) / name for name in names]
    return roots + [Path(p) for name in names for p in registered.get(name, ([], set()))[0]]


def model_folders() -> list[ModelFolder]:
    return find_models(model_roots(MODEL_FOLDERS))


def tagger_roots() -> list[Path]:
    """Also where ComfyUI-WD14-Tagger keeps its models: inside its own folder."""
    packs = [Path(folder) for folder in folder_paths.get_folder_paths("custom_nodes")]
    inside = [path for folder in packs for path in folder.glob("*[wW][dD]14*/models")]
    return model_roots(TAGGER_FOLDERS) + inside


def model_input(family: CaptionerFamily, tooltip: str) -> io.Combo.Input:
    labels = [model.label for model in model_folders() if family.listed(model)]
    return io.Combo.Input("model", options=labels or [NONE_FOUND], tooltip=tooltip)


def tagger_input() -> io.Combo.Input:
    return io.Combo.Input(
        "model",
        options=list(find_taggers(tagger_roots())) or [NONE_FOUND],
        tooltip="ONNX files with their tag list, in models/wd14_tagger or in ComfyUI-WD14-Tagger.",
    )


def running_inputs() -> list[io.Input]:
    """Inputs that every transformers captioner has."""
    return [
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default="auto",
            tooltip="auto: the best for this machine. 8-bit and 4-bit need the package "
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
            tooltip="What to ask the model. Choosing writes the question into the field below, "
            "where you can change it. 'propose the instruction' needs control and target.",
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
            tooltip="Another seed gives other words, if the temperature is above 0.",
        ),
    ]


def question_of(question: str, own_question: str) -> str:
    text = chosen(question, own_question, PROMPTS)
    if not text:
        raise CaptionError(say("Write a question, or choose one of the ready ones."))
    return text


def sampling(max_tokens: int, temperature: float, **more: Any) -> dict[str, Any]:
    """Generation settings for transformers."""
    hot = {"do_sample": True, "temperature": temperature, **more} if temperature else {}
    return {"max_new_tokens": max_tokens} | hot


def transformers_captioner(
    kind: type[TransformersCaptioner],
    family: CaptionerFamily,
    model: str,
    generation: dict[str, Any],
    precision: str,
    batch_size: int,
    keep_loaded: bool,
    **own: Any,
) -> io.NodeOutput:
    """A captioner of this kind, on the chosen folder of its family."""
    weights = chosen_weights(model, family, precision)
    return io.NodeOutput(kind(weights, batch_size, keep_loaded, generation, **own))


def chosen_weights(label: str, family: CaptionerFamily, precision: str) -> Weights:
    """The chosen folder, checked. Raises CaptionError saying what to download, and where to."""
    model = next((model for model in model_folders() if model.label == label), None)
    source, home = SOURCES[family.name], Path(folder_paths.models_dir) / "LLM"
    if model is None:
        where = dict(family=family.name, source=source, home=home)
        advice = say(
            "Download all files of {source} (Hugging Face) into a folder of its own in {home}, "
            "then press R to refresh the list.",
            **where,
        )
        if label == NONE_FOUND:
            raise CaptionError(say("There is no {family} model.", **where) + " " + advice)
        raise CaptionError(
            say("The {family} model {label} is gone.", label=label, **where) + " " + advice
        )
    if family.runs(model):
        check_complete(model.path, source)
        return Weights(model.path, precision, source)
    if model.needs_remote_code:
        raise CaptionError(
            say(
                "{folder} is of the type {kind}, which needs the code that comes with it. Such "
                "code is never run here. Choose {source}, for example.",
                folder=model.path.name,
                kind=model.kind,
                source=source,
            )
        )
    raise CaptionError(
        say("{folder} is not a {family} model.", folder=model.path.name, family=family.name)
    )


def tagger_file(label: str) -> Path:
    """The chosen ONNX file. Raises CaptionError saying what to download, and where to."""
    found = find_taggers(tagger_roots())
    if label not in found:
        home = Path(folder_paths.models_dir) / "wd14_tagger" / "wd-eva02-large-tagger-v3"
        raise CaptionError(
            say(
                "There is no WD14 tagger {label}. Download {source} from Hugging Face into {home}, "
                "then press R to refresh the list.",
                label=label,
                source=SOURCES["WD14"],
                home=home,
            )
        )
    return found[label]
