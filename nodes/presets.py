"""Training Preset: settings for one kind of edit, with the reasons."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..dataset.pair import PairedDataset
from ..trainer import host
from ..trainer.config import RANGES
from ..trainer.presets import PRESETS, advice, settings_for
from .sockets import Pairs, Settings

REASONS = " · ".join(f"{name}: {preset.why}" for name, preset in PRESETS.items())


class TrainingPreset(io.ComfyNode):
    """All settings of a kind of edit, and advice for these pairs and this card."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTrainingPreset",
            display_name="Training Preset",
            category="training/kontext/train",
            description=(
                "Fills in Train Kontext LoRA for one kind of edit, and says why and what is usual "
                "for this many pairs and this card. Connect settings, steps, rank, learning_rate "
                "and save_every to it."
            ),
            search_aliases=["recipe", "recommended settings", "jewellery", "style lora", "relight"],
            inputs=[
                io.Combo.Input("preset", options=[*PRESETS], tooltip=REASONS),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=int(RANGES["resolution"][1]),
                    step=16,
                    tooltip="0 = the preset's own. Less where memory is short; 128 for the demo "
                    "model.",
                ),
                Pairs.Input(
                    "pairs",
                    optional=True,
                    tooltip="Counted for the steps and the advice; nothing else is read.",
                ),
            ],
            outputs=[
                Settings.Output(display_name="settings"),
                io.Int.Output(display_name="steps"),
                io.Int.Output(display_name="rank"),
                io.Float.Output(display_name="learning_rate"),
                io.Int.Output(display_name="save_every"),
                io.String.Output(display_name="advice"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, preset: str, resolution: int, pairs: PairedDataset | None = None
    ) -> io.NodeOutput:
        count = len(pairs.train) if pairs else 0
        config = settings_for(preset, resolution, count)
        text = advice(preset, config, count, host.card_bytes())
        host.Progress(1, cls.hidden.unique_id).say(text)
        return io.NodeOutput(
            config,
            config.steps,
            config.rank,
            config.learning_rate,
            config.save_every,
            text,
            ui=ui.PreviewText(text),
        )


NODES = [TrainingPreset]
