"""Load Pictures: single pictures for a LoRA of a person, style or product."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..dataset.load import PairSource, find_pairs, load_pairs, nothing_chosen
from ..dataset.pair import DatasetError
from ..dataset.split import HOLDOUT
from ..trainer.host.folders import hash_store, unpacked_folder
from .shared import HOLDOUT_TIP, loaded_output, or_shipped, unreadable_places
from .sockets import Pairs


class LoadPictures(io.ComfyNode):
    """Read pictures that have no control."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextLoadPictures",
            display_name="Load Pictures",
            category="training/kontext/dataset",
            description="Single pictures with captions, for a plain LoRA of a person, style or "
            "product. To teach an edit, use Load Paired Dataset.",
            search_aliases=["image folder", "character lora", "style lora", "dataset", "kohya"],
            inputs=[
                io.String.Input(
                    "folder",
                    default="pictures",
                    tooltip="Folder of the pictures, in ComfyUI's input folder or anywhere (full "
                    "path, ~); also a table or a zip. Captions are .txt files beside them. A "
                    "subfolder 10_ring counts ten times.",
                ),
                io.String.Input(
                    "default_caption",
                    default="",
                    multiline=True,
                    tooltip="For pictures that have no caption of their own.",
                ),
                io.Float.Input(
                    "holdout", default=HOLDOUT, min=0, max=10000, step=0.05, tooltip=HOLDOUT_TIP
                ),
                io.Int.Input(
                    "preview",
                    default=24,
                    min=0,
                    max=2000,
                    advanced=True,
                    tooltip="Pictures shown on the contact sheet, 8 to a page. 0: none.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.Image.Output(display_name="contact sheet"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        if folder is not None and not folder.strip():
            return nothing_chosen(single=True)
        return "\n".join(unreadable_places(folder)) or True

    @classmethod
    def fingerprint_inputs(
        cls, folder: str | None, default_caption: str | None, holdout: float, preview: int
    ) -> str | float:
        if folder is None:
            return float("nan")  # linked to another node: run again
        try:
            found = find_pairs(_source(folder), default_caption or "")
            return "\n".join((found.dataset.digest(), *found.notes))
        except DatasetError as error:
            return str(error)

    @classmethod
    def execute(
        cls, folder: str, default_caption: str, holdout: float, preview: int
    ) -> io.NodeOutput:
        source = _source(folder)
        loaded = load_pairs(source, default_caption, holdout, hash_store())
        return loaded_output(loaded, preview, source)


def _source(folder: str) -> PairSource:
    base = Path(folder_paths.get_input_directory())
    return PairSource(or_shipped(folder, base), "", base, unpacked_folder(), single=True)


NODES = [LoadPictures]
