"""Training Samples: pictures to sample while a LoRA trains."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..trainer.config import SETTINGS
from ..trainer.data.pixels import images_of
from ..trainer.runs.job import SamplePlan
from .sockets import SamplesSocket


class TrainingSamples(io.ComfyNode):
    """Prompts and pictures that show what the LoRA has learnt so far."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTrainingSamples",
            display_name="Training Samples",
            category="training/kontext/train",
            description=(
                "Watch the edit being learnt: at regular steps, each prompt is tried on each "
                "picture with the LoRA as it is then. The results are shown on the train node and "
                "kept in the run's folder samples."
            ),
            search_aliases=["sample prompts", "preview", "validation images", "训练采样"],
            is_input_list=True,
            inputs=[
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One instruction a line. Empty: the captions of the pairs.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures to edit, of any size. None: the controls of up to four "
                    "held-out pairs, shown beside their targets.",
                ),
                io.Int.Input(
                    "every",
                    default=0,
                    min=0,
                    max=int(SETTINGS["save_every"].high),
                    tooltip="Steps between two rounds of samples; 0 = at every checkpoint.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Seed of the noise that every sample starts from. It stays the same, "
                    "so that any difference comes from the LoRA.",
                ),
                io.Int.Input(
                    "sampling_steps",
                    default=SETTINGS["preview_steps"].default,
                    min=0,
                    max=int(SETTINGS["preview_steps"].high),
                    tooltip="Sampling steps for each picture. A sampling step takes about a third "
                    "of a training step. 0 = no samples.",
                ),
            ],
            outputs=[SamplesSocket.Output(display_name="samples")],
        )

    @classmethod
    def execute(
        cls,
        prompts: list[str],
        every: list[int],
        seed: list[int],
        sampling_steps: list[int],
        images: tuple[torch.Tensor, ...] = (),
    ) -> io.NodeOutput:
        lines = [line.strip() for text in prompts for line in text.splitlines()]
        controls, shown = tuple(images_of(*images)), tuple(filter(None, lines))
        plan = SamplePlan(shown, controls, every[0], seed[0], sampling_steps[0])
        return io.NodeOutput(plan)


NODES = [TrainingSamples]
