"""The pack's files in ComfyUI's folders."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...dataset.known import Register


def input_folder() -> Path:
    return Path(folder_paths.get_input_directory())


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def latents_folder() -> Path:
    """Encoded pictures and captions. Not in the temp folder, which ComfyUI empties at start."""
    return output_folder() / "kontext_cache"


def rescue_folder() -> Path:
    """Where work goes if the output folder cannot be written."""
    return Path(folder_paths.get_user_directory()) / "kontext_rescued"


def pairs_folder() -> Path:
    """Pairs made from pictures in a graph."""
    return Path(folder_paths.get_temp_directory()) / "kontext_pairs"


def hash_store() -> Path:
    """The file with perceptual hashes of pictures."""
    return pairs_folder() / "hashes.json"


def unpacked_folder() -> Path:
    """Where archives are unpacked."""
    return Path(folder_paths.get_temp_directory()) / "kontext_unpacked"


def chosen_folder() -> Path:
    """ComfyUI's first LoRA folder, for the checkpoints that are kept."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def thumbnails_folder() -> Path:
    """Thumbnails of pairs. ComfyUI empties the folder at start, so it does not grow forever."""
    return pairs_folder() / "thumbnails"


def journal_file() -> Path:
    """Descriptions of earlier runs, kept with the user's settings across restarts."""
    return Path(folder_paths.get_user_directory()) / "kontext" / "descriptions.jsonl"


def data_sets() -> Register:
    """The data sets that nodes have read. ComfyUI's pages cannot reach this folder."""
    file = Path(folder_paths.get_user_directory()) / "__kontext" / "data_sets.json"
    return Register(file, input_folder(), unpacked_folder())
