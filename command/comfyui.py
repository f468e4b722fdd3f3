"""ComfyUI in this process, without its server."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..language import say

PACK = Path(__file__).absolute().parents[1]  # where it is linked from, if it is a link


class NotFound(RuntimeError):
    """ComfyUI is not where it was looked for."""


def find(given: str | None) -> Path:
    """ComfyUI's folder: the one given, the one this pack is installed in, or the current one."""
    installed = PACK.parents[1]
    places = [given] if given else [os.environ.get("COMFYUI_PATH"), installed, Path.cwd()]
    tried = [Path(place).resolve() for place in places if place]
    for folder in tried:
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            return folder
    raise NotFound(
        say(
            "No ComfyUI in {places}. Name its folder with --comfyui.",
            places=", ".join(map(str, tried)),
        )
    )


def boot(comfyui: Path, arguments: Sequence[str], whole: bool) -> None:
    """Make ComfyUI importable, with these of its own arguments.

    `whole` sets up memory management and model folders as ComfyUI's start does; without it the
    graphics card is not touched.
    """
    show_own_gpu()
    if str(comfyui) not in sys.path[:1]:
        sys.path.insert(0, str(comfyui))
    before, sys.argv = sys.argv, [
        "main.py", "--disable-all-custom-nodes", "--verbose", "WARNING", *arguments
    ]  # fmt: skip
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        options = importlib.import_module("comfy.cli_args").args  # parses sys.argv, once
    finally:
        sys.argv = before
    if whole:
        importlib.import_module("main")
    elif options.output_directory:
        folder_paths = importlib.import_module("folder_paths")
        folder_paths.set_output_directory(os.path.abspath(options.output_directory))


def show_own_gpu() -> None:
    """Let a process of torchrun see its own graphics card alone: ComfyUI takes the first."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        local, shown = int(os.environ["LOCAL_RANK"]), os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = shown.split(",")[local] if shown else str(local)
