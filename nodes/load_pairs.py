"""Where pairs come from: folders, tables, archives, or pictures already in the graph."""

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..dataset.load import (
    APART,
    SEVERAL_CONTROLS,
    SKIP,
    STOP,
    TOGETHER,
    UNMATCHED,
    LoadedPairs,
    PairSource,
    SourcePairs,
    find_pairs,
    load_pairs,
    nothing_chosen,
    split_pairs,
)
from ..dataset.pair import DatasetError, PairedDataset
from ..dataset.split import HOLDOUT
from ..dataset.store import write_set
from ..trainer.data.pixels import images_of
from ..trainer.host.folders import hash_store, pairs_folder, unpacked_folder
from .shared import HOLDOUT_TIP, loaded_output, or_shipped, unreadable_places, wire_doubts
from .sockets import Pairs


class LoadPairs(io.ComfyNode):
    """Read before/after pictures from disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextLoadPairs",
            display_name="Load Paired Dataset",
            category="training/kontext/dataset",
            description=(
                "Finds before/after pictures: two folders with the same file names, one folder "
                "with endings such as _before/_after, a table (metadata.csv, .jsonl) or a zip."
            ),
            search_aliases=["before after", "dataset", "control folder", "kohya", "metadata"],
            inputs=[
                io.String.Input(
                    "control_folder",
                    default="before",
                    tooltip="Folder of the pictures BEFORE the edit, in ComfyUI's input folder or "
                    "anywhere (full path, ~). Separate several folders by |. Leave the target "
                    "folder empty to choose one folder, table or zip that holds both sides.",
                ),
                io.String.Input(
                    "target_folder",
                    default="after",
                    tooltip="Folder of the pictures AFTER the edit, with the same file names. "
                    "Captions are .txt files beside them. A subfolder 10_ring counts ten times.",
                ),
                io.String.Input(
                    "default_caption",
                    default="",
                    multiline=True,
                    tooltip="For pairs that have no caption of their own.",
                ),
                io.Float.Input(
                    "holdout", default=HOLDOUT, min=0, max=10000, step=0.05, tooltip=HOLDOUT_TIP
                ),
                io.String.Input(
                    "pattern",
                    default="",
                    advanced=True,
                    tooltip="How the two sides are named in one folder, control first: "
                    "{name}_old | {name}_new. Empty: the usual endings are recognised.",
                ),
                io.Combo.Input(
                    "several_controls",
                    options=list(SEVERAL_CONTROLS),
                    default=APART,
                    advanced=True,
                    tooltip="With several control folders (line art and clay): a pair for each, "
                    "or all of them as references of one pair.",
                ),
                io.Combo.Input(
                    "unmatched",
                    options=list(UNMATCHED),
                    default=STOP,
                    advanced=True,
                    tooltip="Pictures without a partner: stop and list them, or leave them out.",
                ),
                io.Int.Input(
                    "preview",
                    default=24,
                    min=0,
                    max=2000,
                    advanced=True,
                    tooltip="Pairs shown on the contact sheet, 8 to a page. 0: none.",
                ),
                io.String.Input(
                    "mask_folder",
                    default="",
                    advanced=True,
                    tooltip="Folder of masks with the targets' file names: white is learnt. Empty: "
                    "masks are found beside the targets (ring_mask.png) and in a folder masks.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.Image.Output(display_name="contact sheet"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        control_folder: str | None = None,
        target_folder: str | None = None,
        mask_folder: str | None = None,
    ) -> bool | str:
        if control_folder is not None and not control_folder.strip():
            return nothing_chosen(single=False)
        apart = bool((target_folder or "").strip())  # else one file may hold both sides
        faults = unreadable_places(control_folder, target_folder, folders_only=apart)
        faults += unreadable_places(mask_folder, folders_only=True)
        return "\n".join(faults) or True

    @classmethod
    def fingerprint_inputs(cls, default_caption: str | None, **where) -> str | float:
        if None in where.values():
            return float("nan")  # linked to another node: its value is not known yet, so run again
        try:
            found = find_pairs(_source(**where), default_caption or "")
            return "\n".join((found.dataset.digest(), *found.notes))
        except DatasetError as error:
            return str(error)

    @classmethod
    def execute(cls, default_caption: str, holdout: float, preview: int, **where) -> io.NodeOutput:
        source = _source(**where)
        loaded = load_pairs(source, default_caption, holdout, hash_store())
        return loaded_output(loaded, preview, source)


class PairsFromImages(io.ComfyNode):
    """Make pairs of pictures that other nodes produced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextPairsFromImages",
            display_name="Pairs from Images",
            category="training/kontext/dataset",
            description="Pairs the first control with the first target, the second with the "
            "second, and so on. The pictures are kept as PNG in ComfyUI's temp folder.",
            search_aliases=["image list to pairs", "before after", "dataset from images"],
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            inputs=[
                io.Image.Input("control", tooltip="Pictures BEFORE the edit: list or batch."),
                io.Image.Input("target", tooltip="Pictures AFTER the edit, in the same order."),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    tooltip="One caption for all pairs, or a list with one for each.",
                ),
                io.Float.Input(
                    "holdout", default=HOLDOUT, min=0, max=10000, step=0.05, tooltip=HOLDOUT_TIP
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.Image.Output(display_name="contact sheet"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def execute(
        cls,
        control: list[torch.Tensor],
        target: list[torch.Tensor],
        captions: list[str],
        holdout: list[float],
    ) -> io.NodeOutput:
        doubtful, folder = wire_doubts(cls.hidden), pairs_folder()
        pairs = write_set(images_of(*control), images_of(*target), captions, folder)
        marked, warnings = split_pairs([SourcePairs(pairs, holdout[0])], hash_store())
        return loaded_output(LoadedPairs(PairedDataset(marked, doubtful), warnings), preview=24)


def _source(
    control_folder: str,
    target_folder: str,
    pattern: str,
    several_controls: str,
    unmatched: str,
    mask_folder: str,
    **_unused,
) -> PairSource:
    base = Path(folder_paths.get_input_directory())
    return PairSource(
        control=or_shipped(control_folder, base),
        target=or_shipped(target_folder, base),
        base=base,
        scratch=unpacked_folder(),
        pattern=pattern,
        together=several_controls == TOGETHER,
        skip_unmatched=unmatched == SKIP,
        masks=mask_folder,
    )


NODES = [LoadPairs, PairsFromImages]
