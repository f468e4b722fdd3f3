"""Save a trained LoRA under a name and in a format of the user's choice."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io, ui

from ..language import say
from ..trainer import host
from ..trainer.config import SETTINGS
from ..trainer.host.folders import output_folder
from ..trainer.runs.export import FORMATS, export_lora
from ..trainer.runs.name import checked_name
from .shared import named_right
from .sockets import RunSocket


class SaveCheckpoint(io.ComfyNode):
    """Save one checkpoint of a run, or a LoRA from another node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextSaveCheckpoint",
            display_name="Save Kontext LoRA",
            category="training/kontext/train",
            description="Writes a LoRA into output/loras, where every LoRA loader finds it.",
            search_aliases=["save lora", "export lora", "diffusers", "peft"],
            inputs=[
                RunSocket.Input("run", optional=True, tooltip="The run that has the checkpoint."),
                io.Int.Input(
                    "step",
                    default=0,
                    min=0,
                    max=int(SETTINGS["steps"].high),
                    tooltip="Step of the checkpoint; 0 = the last.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="File name in output/loras; empty = the run's name and the step.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="comfyui",
                    tooltip=(
                        "comfyui: for ComfyUI, Forge, SwarmUI and most others. diffusers: for its "
                        "pipelines. peft: a folder with adapter_config.json."
                    ),
                ),
                io.LoraModel.Input(
                    "lora", optional=True, tooltip="A LoRA from another node instead of a run."
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    optional=True,
                    tooltip="Replace another LoRA of this name.",
                ),
            ],
            outputs=[io.String.Output(display_name="path")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return named_right((name or "").strip() or None)  # empty: the run's name and the step

    @classmethod
    def execute(cls, step, name, format, run=None, lora=None, overwrite=False) -> io.NodeOutput:
        if (run is None) == (lora is None):
            raise ValueError(say("Connect either a run or a LoRA, not both."))
        metadata: dict[str, str] = {}
        if run is not None:
            checkpoint = run.checkpoint_at(step)
            lora, metadata = host.load_lora_file(checkpoint.path), checkpoint.metadata()
            name = name or checkpoint.path.stem
        path = output_folder() / "loras" / f"{checked_name(name)}.safetensors"
        path = export_lora(lora, metadata, path, format, overwrite)
        where = _where(path)
        host.Progress(1, host.running_node()).say(where)
        return io.NodeOutput(str(path), ui=ui.PreviewText(where))


def _where(saved: Path) -> str:
    if saved.is_dir():
        return say("Saved in the folder {folder}.", folder=saved)
    return say(
        "Saved as {name}. Choose it in any LoRA loader (the R key refreshes its list).",
        name=saved.name,
    )


NODES = [SaveCheckpoint]
