"""Model files by the names in ComfyUI's loaders: which were loaded, and loading them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ...language import say
from .comfy import Base
from .weights import BaseModelError

KINDS = {"diffusion_model": "diffusion_models", "text_encoders": "text_encoders", "vae": "vae"}
EXAMPLES = {
    "diffusion_model": "flux1-dev-kontext_fp8_scaled.safetensors",
    "text_encoders": "[clip_l.safetensors, t5xxl_fp8_e4m3fn_scaled.safetensors]",
    "vae": "ae.safetensors",
}


def model_files(base: Base) -> dict[str, Any]:
    """The files that model, text encoders and VAE were loaded from; None for unknown ones.

    ComfyUI's loaders record their call on the patcher: for the VAE since 0.30.
    """
    model, weight_dtype = _loaded(base.model), _weight_dtype(base.model)
    texts, vae = _loaded(base.clip.patcher), _loaded(getattr(base.vae, "patcher", None))
    if model and model == texts:
        return {"checkpoint": _named("checkpoints", model[0])}
    return {
        "diffusion_model": _named("diffusion_models", model[0]) if model else None,
        **({"weight_dtype": weight_dtype} if weight_dtype else {}),
        "text_encoders": [_named("text_encoders", path) for path in texts] or None,
        "vae": _named("vae", vae[0]) if vae else None,
    }


def lacking(files: Mapping[str, Any]) -> list[str]:
    """In words, which of a job's model files are not named, or not where ComfyUI looks."""
    problems = []
    kinds = {"checkpoint": "checkpoints"} if files.get("checkpoint") else KINDS
    for key, kind in kinds.items():
        names = files.get(key) or []
        for name in [names] if isinstance(names, str) else names:
            if not folder_paths.get_full_path(kind, _known(kind, name)):
                there = ", ".join(folder_paths.get_filename_list(kind)[:8])
                problems.append(
                    say(
                        "{key}: {name} is not in models/{kind}, which holds {there}.",
                        key=key,
                        name=name,
                        kind=kind,
                        there=there or say("nothing: it is empty"),
                    )
                )
        if not names:
            problems.append(
                say(
                    "model: {key} is not named. Write the name of its file in models/{kind}, for "
                    "example {key}: {example}",
                    key=key,
                    kind=kind,
                    example=EXAMPLES[key],
                )
            )
        elif str(names).endswith(".gguf"):
            problems.append(
                say(
                    "{key}: {name} is read by ComfyUI-GGUF's own node: use the graph.",
                    key=key,
                    name=names,
                )
            )
    return problems


def load_base(files: Mapping[str, Any], encoders: Callable[[Any], tuple[str, int]]) -> Base:
    """Load a job's model with ComfyUI's loader nodes.

    `encoders` gives the type of a loaded model's text encoders, and their number of files. Raises
    BaseModelError if a file is missing.
    """
    import nodes  # ComfyUI's

    problems = lacking(files)
    if problems:
        raise BaseModelError("\n".join(problems))
    if files.get("checkpoint"):
        name = _known("checkpoints", files["checkpoint"])
        return Base(*nodes.CheckpointLoaderSimple().load_checkpoint(name)[:3])
    texts = [_known("text_encoders", name) for name in files["text_encoders"]]
    dtype = files.get("weight_dtype") or "default"
    name = _known("diffusion_models", files["diffusion_model"])
    model = nodes.UNETLoader().load_unet(name, dtype)[0]
    kind, count = encoders(model)
    if len(texts) != count:
        raise BaseModelError(
            say(
                "text_encoders: {name} needs {count}, not {named}.",
                name=files["diffusion_model"],
                count=count,
                named=len(texts),
            )
        )
    loader = nodes.CLIPLoader() if count == 1 else nodes.DualCLIPLoader()
    vae = nodes.VAELoader().load_vae(_known("vae", files["vae"]))[0]
    return Base(model, loader.load_clip(*texts, kind)[0], vae)


def file_name(patcher: Any) -> str:
    """The name, without its folder, of the file that a model was loaded from; "" if unknown."""
    return os.path.basename(next(iter(_loaded(patcher)), ""))


def _loaded(patcher: Any) -> list[str]:
    """Paths that this patcher was loaded from."""
    how = getattr(patcher, "cached_patcher_init", None)
    paths = how[1][0] if how else []
    return [paths] if isinstance(paths, str) else list(paths)


def _weight_dtype(model: Any) -> str:
    how = model.cached_patcher_init
    options = how[1][1] if how and how[0].__name__ == "load_diffusion_model" else {}
    dtype: Any = options.get("dtype")
    fast = "_fast" if options.get("fp8_optimizations") else ""
    names = {torch.float8_e4m3fn: "fp8_e4m3fn" + fast, torch.float8_e5m2: "fp8_e5m2"}
    return names.get(dtype, "")


def _named(kind: str, path: str) -> str:
    """The name of this file in a loader's menu; its path if it is in none of ComfyUI's folders."""
    for folder in folder_paths.get_folder_paths(kind):
        if Path(path).is_relative_to(folder):
            return os.path.relpath(path, folder)
    return path


def _known(kind: str, name: str) -> str:
    """The name of a file for ComfyUI's loaders; registers its folder if it is a full path."""
    path = Path(name).expanduser()
    if not path.is_absolute():
        return name
    folder_paths.add_model_folder_path(kind, str(path.parent))
    return path.name
