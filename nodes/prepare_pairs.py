"""Crop & Resize Pairs, and Save Pair."""

from dataclasses import replace
from pathlib import Path

import torch
from comfy_api.latest import io

from ..dataset.pair import DatasetError, Pair, PairedDataset
from ..dataset.prepare import BUCKET, CENTRE, EDIT, POINT, SIZES, Policy, prepare
from ..dataset.store import write_pair
from ..dataset.summary import pages
from ..language import say
from ..trainer.data.pixels import images_of, tensor_of
from ..trainer.host import Progress
from .shared import target_folder, wire_doubts, writable_place
from .sockets import Pairs


class PreparePairs(io.ComfyNode):
    """Crop both sides of every pair with the same transform."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextPreparePairs",
            display_name="Crop & Resize Pairs",
            category="training/kontext/dataset",
            description="Crops and resizes control and target alike and saves them as PNG with "
            "their captions. The originals are never touched.",
            search_aliases=["birme", "crop dataset", "resize dataset", "align pairs"],
            inputs=[
                Pairs.Input("pairs", tooltip="The pairs to crop."),
                io.Combo.Input(
                    "size",
                    options=list(SIZES),
                    default=BUCKET,
                    tooltip="A square, the sizes Kontext was trained at, a size of about "
                    "resolution² in the pair's own shape, or a length for the shortest edge.",
                ),
                io.Int.Input(
                    "resolution",
                    default=1024,
                    min=256,
                    max=4096,
                    step=16,
                    tooltip="For the bucket: the side of the square with as many pixels. For the "
                    "shortest edge: its length.",
                ),
                io.String.Input(
                    "output_folder",
                    default="prepared_pairs",
                    tooltip="Where control/ and target/ are written: in ComfyUI's input folder, "
                    "or a full path.",
                ),
                io.Combo.Input(
                    "fit",
                    options=["crop", "pad"],
                    default="crop",
                    tooltip="crop: cut off what does not fit. pad: keep all, with white margins.",
                ),
                io.Combo.Input(
                    "crop_at",
                    options=[CENTRE, EDIT, POINT],
                    default=CENTRE,
                    tooltip="What stays in the frame: the centre, the place that the edit "
                    "changes, or the point below.",
                ),
                io.Float.Input(
                    "x", default=0.5, min=0, max=1, step=0.01, advanced=True,
                    tooltip="The point, from left (0) to right (1).",
                ),
                io.Float.Input(
                    "y", default=0.5, min=0, max=1, step=0.01, advanced=True,
                    tooltip="The point, from top (0) to bottom (1).",
                ),
                io.Boolean.Input(
                    "undo_shift",
                    default=False,
                    tooltip="Measure a shift of up to 16 pixels between the two sides and crop "
                    "them so that they line up.",
                ),
                io.Boolean.Input(
                    "linear_light",
                    default=False,
                    advanced=True,
                    tooltip="Resize light instead of sRGB values: fine bright detail keeps its "
                    "brightness. Off is what other tools do.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace files of an earlier, different run in the output folder.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.Image.Output(display_name="contact sheet"),
                io.String.Output(display_name="report"),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, output_folder: str | None) -> bool | str:
        return writable_place(output_folder)

    @classmethod
    def execute(
        cls,
        pairs: PairedDataset,
        output_folder: str,
        overwrite: bool,
        fit: str,
        x: float,
        y: float,
        **rules,
    ) -> io.NodeOutput:
        policy = Policy(pad=fit == "pad", point=(x, y), **rules)
        folder = target_folder(output_folder)
        _keep_originals(pairs, folder)
        progress = Progress(len(pairs))
        written: list[Pair] = []
        lines: list[str] = []
        for number, pair in enumerate(pairs, 1):
            cut, line = prepare(pair, policy, folder, overwrite)
            written.append(cut)
            lines.append(line)
            progress.update(number)
        prepared = replace(pairs, pairs=tuple(written))
        count = say("{count} pairs in {folder}", count=len(prepared), folder=folder)
        report = "\n".join((count, *lines))
        return io.NodeOutput(prepared, tensor_of(*pages(prepared, 24)), report)


class SavePair(io.ComfyNode):
    """Write one pair where Load Paired Dataset finds it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextSavePair",
            display_name="Save Pair",
            category="training/kontext/dataset",
            description="Saves control/<stem>.png, target/<stem>.png and target/<stem>.txt. Load "
            "Paired Dataset reads the folder back as it is.",
            search_aliases=["save before after", "write dataset", "paired image saver"],
            inputs=[
                io.Image.Input("control", tooltip="The picture BEFORE the edit."),
                io.Image.Input("target", tooltip="The picture AFTER the edit."),
                io.String.Input(
                    "caption", default="", multiline=True, tooltip="Text of the pair; may be empty."
                ),
                io.String.Input(
                    "folder",
                    default="new_pairs",
                    tooltip="In ComfyUI's input folder, or a full path.",
                ),
                io.String.Input(
                    "stem",
                    default="pair",
                    tooltip="Name of the files, without ending. Of a batch, the pictures get "
                    "_0001, _0002, … added.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace a pair of this name. Off: stop if it exists with other "
                    "content.",
                ),
            ],
            outputs=[Pairs.Output(display_name="pairs")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, folder: str | None) -> bool | str:
        return writable_place(folder)

    @classmethod
    def execute(
        cls,
        control: torch.Tensor,
        target: torch.Tensor,
        caption: str,
        folder: str,
        stem: str,
        overwrite: bool,
    ) -> io.NodeOutput:
        doubtful = wire_doubts(cls.hidden)
        if doubtful:
            Progress(1, cls.hidden.unique_id).say("\n".join(f"⚠ {doubt}" for doubt in doubtful))
        if len(control) != len(target):
            raise DatasetError(
                say(
                    "{controls} controls, but {targets} targets for {stem}. Connect batches of the "
                    "same size.",
                    controls=len(control),
                    targets=len(target),
                    stem=stem,
                )
            )
        sides = zip(images_of(control), images_of(target), strict=True)
        place = target_folder(folder)
        pairs = [
            write_pair(
                place,
                stem if len(target) == 1 else f"{stem}_{number:04d}",
                [before],
                after,
                caption.strip(),
                overwrite,
            )
            for number, (before, after) in enumerate(sides, 1)
        ]
        return io.NodeOutput(PairedDataset(tuple(pairs), doubtful))


def _keep_originals(pairs: PairedDataset, folder: Path) -> None:
    sources = {path.parent.resolve() for p in pairs for path in (*p.controls, p.target)}
    if taken := sorted(str(side) for side in sources if side.parent == folder.resolve()):
        raise DatasetError(
            say(
                "{folder} holds the originals ({taken}). Choose another output folder.",
                folder=folder,
                taken=say(", ").join(taken),
            )
        )


NODES = [PreparePairs, SavePair]
