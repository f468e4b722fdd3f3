"""Where the pack's files lie among ComfyUI's folders."""

from __future__ import annotations

from pathlib import Path

import folder_paths


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def latents_folder() -> Path:
    """Encoded pictures and captions. Not in the temp folder, which ComfyUI empties at its start."""
    return output_folder() / "kontext_cache"


def rescue_folder() -> Path:
    """Where work goes that the output folder refuses."""
    return Path(folder_paths.get_user_directory()) / "kontext_rescued"


def pairs_folder() -> Path:
    """Pairs made from pictures in a graph."""
    return Path(folder_paths.get_temp_directory()) / "kontext_pairs"


def hash_store() -> Path:
    """The file that remembers what pictures look like."""
    return pairs_folder() / "hashes.json"


def unpacked_folder() -> Path:
    """Where archives are unpacked."""
    return Path(folder_paths.get_temp_directory()) / "kontext_unpacked"


def chosen_folder() -> Path:
    """ComfyUI's first folder of LoRAs, where those go that are kept."""
    return Path(folder_paths.get_folder_paths("loras")[0])
