"""Degrade Image: makes a control from a clean target."""

import numpy as np
import torch
from comfy_api.latest import io

from ..dataset.degrade import RECIPES, degrade


class Degrade(io.ComfyNode):
    """Give a clean picture the flaws that the LoRA is to remove."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextDegrade",
            display_name="Degrade Image",
            category="training/kontext/dataset",
            description="Adds flaws to a clean picture, to be the control of a pair. Chain several "
            "to combine them.",
            search_aliases=["synthetic pairs", "add noise", "jpeg artifacts", "scratches", "dust"],
            inputs=[
                io.Image.Input("image", tooltip="The clean picture; it will be the target."),
                io.Combo.Input(
                    "recipe",
                    options=list(RECIPES),
                    default=next(iter(RECIPES)),
                    tooltip="A mixture for a purpose, or a single flaw.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.8,
                    min=0,
                    max=1,
                    step=0.05,
                    tooltip="Maximum strength; 1 ruins the picture.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53,
                    control_after_generate=False,
                    tooltip="Another seed gives other flaws. The same seed and stem give the same.",
                ),
                io.Float.Input(
                    "weakest",
                    default=0.15,
                    min=0,
                    max=1,
                    step=0.05,
                    tooltip="Minimum strength. Each picture gets its own strength "
                    "in between: a LoRA trained on strong flaws alone ignores weak ones.",
                ),
                io.String.Input(
                    "stem",
                    default="",
                    tooltip="Name of the picture, so that its flaws do not depend on the order. "
                    "Connect the stem that Save Pair gets.",
                ),
            ],
            outputs=[io.Image.Output(display_name="control")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        recipe: str,
        strength: float,
        seed: int,
        weakest: float,
        stem: str,
    ) -> io.NodeOutput:
        pictures = [
            degrade(picture[..., :3].cpu().numpy(), recipe, weakest, strength, seed, f"{stem}#{i}")
            for i, picture in enumerate(image)
        ]
        return io.NodeOutput(torch.from_numpy(np.stack(pictures)))


NODES = [Degrade]
