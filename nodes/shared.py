"""Shared by several nodes: folders, names of LoRAs, the outputs of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from PIL import Image

from ..captioning.desks import remember
from ..dataset.access import writable
from ..dataset.files import resolve
from ..dataset.load import LoadedPairs, PairSource, missing_places
from ..dataset.pair import DatasetError
from ..dataset.quick import NO_CAPTION, doubts, without_errors
from ..dataset.summary import describe, pages
from ..dataset.wires import swapped_wires
from ..evaluation.compare.comparison import LOOSE_FOLDER
from ..evaluation.pictures.axes import parse_numbers
from ..evaluation.pictures.loras import LoraFile, loras_of_files, loras_of_run, match_names
from ..language import say
from ..trainer.data.pixels import tensor_of
from ..trainer.host import Progress, comfy_module, running_node
from ..trainer.host.folders import data_sets, output_folder
from ..trainer.runs.identity import RunError
from ..trainer.runs.name import checked_name
from ..trainer.runs.run import Run

PACK = Path(__file__).resolve().parents[1]
HOLDOUT_TIP = (
    "Pairs kept out of training to compare checkpoints: a fraction below 1, or a number. At least "
    "4 are needed for a verdict. Versions of one picture stay together, and the same pairs are "
    "chosen again when you add some."
)


def blocker(reason: str | None = None) -> Any:
    """An output that keeps ComfyUI from running what follows; those nodes show the reason."""
    graph_utils = comfy_module("comfy_execution.graph_utils")
    return graph_utils.ExecutionBlocker(reason)


def named_right(name: str | None) -> bool | str:
    """The result of `validate_inputs` for a name: True, or why it will not do.

    None is linked to another node, and not known yet.
    """
    try:
        return bool(name is None or checked_name(name))
    except RunError as error:
        return str(error)


def folder_of(run: Run | None) -> Path:
    """Where pictures and scores go: into the run's folder, else into one for loose LoRAs."""
    return run.folder if run else output_folder() / LOOSE_FOLDER


def loras_to_try(run: Run | None, checkpoints: str, names: str) -> list[LoraFile]:
    """The run's checkpoints and the LoRAs of the name list. Raises ValueError if both are empty."""
    found = list(loras_of_run(run, checkpoints)) if run else []
    named = match_names(names, folder_paths.get_filename_list("loras"))
    paths = [Path(folder_paths.get_full_path_or_raise("loras", name)) for name in named]
    found += loras_of_files(paths)
    if not found:
        raise ValueError(
            say("Nothing to compare: connect a training run, or name LoRAs in `loras`.")
        )
    return found


def lora_name(path: Path) -> str:
    """A LoRA file as ComfyUI's LoRA loaders list it."""
    folders = map(Path, folder_paths.get_folder_paths("loras"))
    return next(str(path.relative_to(each)) for each in folders if path.is_relative_to(each))


LoraName = io.AnyType  # LoRA loaders take a list of files as their type: only this one fits


def or_shipped(folder: str, base: Path) -> str:
    """`sample_pairs/…` is in the pack, so that the shipped graphs run as they are."""
    own = folder.startswith("sample_pairs/") and not (base / "sample_pairs").exists()
    return str(PACK / folder) if own else folder


def unreadable_places(*chosen: str | None, folders_only: bool = False) -> list[str]:
    """For `validate_inputs`: what is wrong with places to read from, divided by `|`.

    None is linked to another node, and not known yet.
    """
    base = Path(folder_paths.get_input_directory())
    places = [part for text in chosen if text for part in or_shipped(text, base).split("|")]
    return missing_places(places, base, folders_only)


def wrong_numbers(
    parse: Callable[[str, str], object] = parse_numbers, **lists: str | None
) -> list[str]:
    """For `validate_inputs`: what is wrong with lists of numbers; None is not known yet."""
    faults = []
    for name, text in lists.items():
        try:
            if text is not None:
                parse(text, name)
        except ValueError as error:
            faults.append(str(error))
    return faults


def writable_place(text: str | None) -> bool | str:
    """The result of `validate_inputs` for a folder to write into."""
    try:
        return bool(text is None or target_folder(text))
    except DatasetError as error:
        return str(error)


def target_folder(text: str) -> Path:
    """The folder to write into. A relative one must stay inside ComfyUI's input folder."""
    base = Path(folder_paths.get_input_directory()).resolve()
    if not text.strip():
        raise DatasetError(say("Name a folder to write the pairs into."))
    folder = resolve(text, base)
    if not Path(text.strip()).expanduser().is_absolute() and not (
        folder.resolve().is_relative_to(base)
    ):
        raise DatasetError(
            say(
                "“{text}” leads out of ComfyUI's input folder {base}. Write a name.",
                text=text,
                base=base,
            )
        )
    return writable(folder)


def wire_doubts(hidden: io.HiddenHolder) -> tuple[str, ...]:
    """What is doubtful about the wires into `control` and `target` of the node that runs. Raises
    DatasetError where they are certainly wrong."""
    found = without_errors(swapped_wires(hidden.prompt, hidden.unique_id))
    return tuple(finding.sentence for finding in found)


def loaded_output(
    loaded: LoadedPairs, preview: int, source: PairSource | None = None
) -> io.NodeOutput:
    """PAIRS, contact sheet and report, the way every node that makes pairs returns them.

    Pairs of a `source` on disk have a page; its id goes to the node's button. Raises DatasetError
    for pairs that are certainly wrong; doubts come first in the report.
    """
    doubtful = doubts(loaded.dataset, without={NO_CAPTION})  # Caption Pairs may follow
    sheet = pages(loaded.dataset, preview) if preview else [Image.new("RGB", (64, 64), "white")]
    report = describe(loaded, doubtful)
    Progress(1, running_node()).say(report)
    shown = dict(ui.PreviewText(report).as_dict())
    if source:
        shown["kontext_pairs"] = [remember(data_sets(), source, loaded.matching)]
    return io.NodeOutput(loaded.dataset, tensor_of(*sheet), report, ui=shown)
