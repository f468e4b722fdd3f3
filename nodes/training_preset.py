"""Training Preset: settings for one kind of edit, with the reasons."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..dataset.pair import PairedDataset
from ..trainer import host
from ..trainer.advice import advice
from ..trainer.config import SETTINGS
from ..trainer.presets import PRESETS, reasons, settings_for
from .setting_inputs import more_input, with_more
from .sockets import Pairs, Settings


class TrainingPreset(io.ComfyNode):
    """All settings for a kind of edit, and advice for these pairs and this card."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTrainingPreset",
            display_name="Training Preset",
            category="training/kontext/train",
            description=(
                "All settings for one kind of edit, with the reasons, and what is usual for this "
                "number of pairs and this card. What is 0 on Train Kontext LoRA comes from here."
            ),
            search_aliases=["recipe", "recommended settings", "jewellery", "style lora", "relight"],
            inputs=[
                io.Combo.Input("preset", options=[*PRESETS], tooltip=reasons("en")),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=int(SETTINGS["resolution"].high),
                    step=16,
                    tooltip="0 = the preset's own. Less where memory is short; 128 for the demo "
                    "model.",
                ),
                Pairs.Input(
                    "pairs",
                    optional=True,
                    tooltip="Counted for the advice; nothing else is read.",
                ),
                more_input(),
            ],
            outputs=[
                Settings.Output(display_name="settings"),
                io.String.Output(display_name="advice"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, preset: str, resolution: int, pairs: PairedDataset | None = None, more: str = ""
    ) -> io.NodeOutput:
        config = with_more(settings_for(preset, resolution), more)
        text = advice(preset, config, len(pairs.train) if pairs else 0, host.card_bytes())
        host.Progress(1, cls.hidden.unique_id).say(text)
        return io.NodeOutput(config, text, ui=ui.PreviewText(text))


NODES = [TrainingPreset]
