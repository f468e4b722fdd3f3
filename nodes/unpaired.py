"""Targets Without a Control: the targets whose control is still to be made."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..dataset.files import resolve
from ..dataset.image import open_rgb
from ..dataset.unpaired import unpaired
from ..language import say
from ..trainer.data.pixels import tensor_of
from .shared import blocker, or_shipped, target_folder, unreadable_places, writable_place


class UnpairedTargets(io.ComfyNode):
    """The next pictures of a folder that have no control yet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextUnpairedTargets",
            display_name="Targets Without a Control",
            category="training/kontext/dataset",
            description="Hands out the pictures of a folder whose control Save Pair has not "
            "written yet, a few at a time: press Run again for the next ones.",
            search_aliases=["batch folder", "load image folder", "make control group", "resume"],
            inputs=[
                io.String.Input(
                    "folder",
                    default="after",
                    tooltip="Folder of the finished pictures (the targets), in ComfyUI's input "
                    "folder or a full path.",
                ),
                io.String.Input(
                    "pairs_folder",
                    default="new_pairs",
                    tooltip="The folder that Save Pair writes to. What it holds is skipped.",
                ),
                io.Int.Input(
                    "at_a_time",
                    default=8,
                    min=1,
                    max=1000,
                    tooltip="Pictures per run; they are in memory together.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="targets", is_output_list=True),
                io.String.Output(display_name="stems", is_output_list=True),
                io.String.Output(display_name="report"),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, folder: str | None, pairs_folder: str | None) -> bool | str:
        faults = unreadable_places(folder, folders_only=True)
        return "\n".join(faults) or writable_place(pairs_folder)

    @classmethod
    def fingerprint_inputs(
        cls, folder: str | None, pairs_folder: str | None, at_a_time: int | None
    ) -> str | float:
        if folder is None or pairs_folder is None:
            return float("nan")
        left, _ = unpaired(_source(folder), target_folder(pairs_folder))
        return "\n".join(f"{p.path}|{p.path.stat().st_mtime_ns}" for p in left[:at_a_time])

    @classmethod
    def execute(cls, folder: str, pairs_folder: str, at_a_time: int) -> io.NodeOutput:
        left, total = unpaired(_source(folder), target_folder(pairs_folder))
        todo = left[:at_a_time]
        report = say(
            "{done} of {total} done; {count} in this run.",
            done=total - len(left),
            total=total,
            count=len(todo),
        )
        text = ui.PreviewText(report)
        if not todo:
            nothing = [blocker()]
            return io.NodeOutput(nothing, nothing, report, ui=text)
        pictures = [tensor_of(open_rgb(picture.path)) for picture in todo]
        return io.NodeOutput(pictures, [picture.name for picture in todo], report, ui=text)


def _source(folder: str) -> Path:
    base = Path(folder_paths.get_input_directory())
    return resolve(or_shipped(folder, base), base)


NODES = [UnpairedTargets]
