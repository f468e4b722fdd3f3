"""Training Settings: everything about a run that is not in the train node's short list."""

from __future__ import annotations

from comfy_api.latest import io

from ..trainer.config import SETTINGS, TrainConfig
from .setting_inputs import more_input, setting_input, with_more
from .sockets import Settings


class TrainingSettings(io.ComfyNode):
    """The finer settings, by topic: the basic ones are always visible, the rest unfolds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        shown = [each for each in SETTINGS.values() if each.on_node and each.topic != "run"]
        return io.Schema(
            node_id="KontextTrainingSettings",
            display_name="Kontext Training Settings",
            category="training/kontext/train",
            description="The finer settings of a training run; without this node, the defaults.",
            search_aliases=["lora settings", "alpha", "resolution", "batch size", "timesteps"],
            inputs=[
                *(setting_input(each.name, advanced=each.topic != "basic") for each in shown),
                more_input(),
            ],
            outputs=[Settings.Output(display_name="settings")],
        )

    @classmethod
    def execute(cls, more: str = "", **settings) -> io.NodeOutput:
        return io.NodeOutput(with_more(TrainConfig(**settings), more))


NODES = [TrainingSettings]
