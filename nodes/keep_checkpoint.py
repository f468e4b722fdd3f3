"""Keep This Checkpoint: the chosen LoRA, under a good name, where every loader finds it."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..evaluation.keep import choose, keep
from ..language import say
from ..trainer.host import Progress, running_node
from ..trainer.host.folders import chosen_folder
from ..trainer.runs.name import checked_name
from .shared import LoraName, lora_name, named_right
from .sockets import RunSocket


class KeepCheckpoint(io.ComfyNode):
    """Copies one checkpoint into models/loras and hands its name to a LoRA loader."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextPickCheckpoint",
            display_name="Keep This Checkpoint",
            category="training/kontext/choose",
            description=(
                "Copies the chosen checkpoint of a run into models/loras under the name you give, "
                "with trigger, instruction and strength in its metadata and a sample picture "
                "beside it. Continuing the run will not delete the checkpoint."
            ),
            search_aliases=["save best lora", "choose checkpoint", "pick lora", "保存"],
            is_output_node=True,
            inputs=[
                RunSocket.Input("run", tooltip="The training run to take the checkpoint from."),
                io.String.Input(
                    "choice",
                    default="best",
                    tooltip="best (as scored before), last, or a step such as 1500. Or connect "
                    "`best` of Score Checkpoints.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="Name of the LoRA in models/loras. Empty: the run's name.",
                ),
                io.String.Input(
                    "trigger",
                    default="",
                    optional=True,
                    tooltip="The trigger word, kept in the file's metadata.",
                ),
                io.String.Input(
                    "instruction",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The instruction to prompt it with, kept in the file's metadata.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    optional=True,
                    tooltip="Replace another LoRA of this name, and your own picture beside it.",
                ),
                io.String.Input(
                    "author",
                    default="",
                    optional=True,
                    tooltip="Your name or page, kept in the file's metadata. Empty: none.",
                ),
            ],
            outputs=[
                LoraName.Output("lora_name", tooltip="For the stock LoRA loader."),
                io.Float.Output("strength", tooltip="The recommended strength, 1 if not scored."),
                io.String.Output("path", tooltip="The file."),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return named_right((name or "").strip() or None)  # empty: the run's name

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return float("nan")  # the run's scores may have changed

    @classmethod
    def execute(
        cls, run, choice, name, trigger="", instruction="", overwrite=False, author=""
    ) -> io.NodeOutput:
        chosen = choose(run, choice)
        folder = chosen_folder()
        path = folder / f"{checked_name(name.strip() or run.name)}.safetensors"
        notes = {
            "modelspec.trigger_phrase": trigger,
            "modelspec.usage_hint": instruction,
            "modelspec.author": author,
        }
        undone = keep(run, chosen, path, notes, overwrite)
        run.pin(chosen.checkpoint.step)
        kept = say(
            "Kept step {step} of {run} as {name}, to be used at strength {strength:g}.",
            step=chosen.checkpoint.step,
            run=run.name,
            name=path.name,
            strength=chosen.strength,
        )
        text = "\n".join(filter(None, [kept, undone]))
        Progress(1, running_node()).say(text)
        shown = ui.PreviewText(text)
        return io.NodeOutput(lora_name(path), chosen.strength, str(path), ui=shown)


NODES = [KeepCheckpoint]
