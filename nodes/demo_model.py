"""The demo model: a genuine but very small Kontext, for trying the pack on any machine."""

from __future__ import annotations

from comfy_api.latest import io

from ..trainer.host.demo import load_demo_model


class DemoModel(io.ComfyNode):
    """Load the small Kontext shipped with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextDemoModel",
            display_name="Load Demo Kontext",
            category="training/kontext/train",
            description=(
                "A very small Kontext that really edits 128-pixel pictures on a CPU. Use it to try "
                "every node of this pack before you load FLUX.1-Kontext itself."
            ),
            search_aliases=["tiny kontext", "demo flux", "example model"],
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="A genuine FLUX model of 9 million weights."),
                io.Clip.Output(tooltip="Its text encoder. Every instruction is new to it."),
                io.Vae.Output(tooltip="Its VAE: 16 channels, 8 times smaller, like FLUX's."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_model())


NODES = [DemoModel]
