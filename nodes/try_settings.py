"""Try Settings: short runs that find the learning rate, rank, … for the long one."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io, ui

from ..evaluation.tries.axes import read_axes, read_values
from ..evaluation.tries.report import as_table, draw, result, write
from ..evaluation.tries.search import Leg, plan, price
from ..language import say
from ..trainer import host
from ..trainer.config import TrainConfig
from ..trainer.data.pixels import tensor_of
from ..trainer.families import recognise
from ..trainer.host.folders import latents_folder, output_folder, rescue_folder
from ..trainer.loop import train
from ..trainer.request import TrainingRequest
from ..trainer.runs.name import checked_name
from .shared import named_right, wrong_numbers
from .sockets import Pairs, Settings

AXES = "learning_rate: 5e-5, 1e-4, 2e-4, 4e-4"


class TrySettings(io.ComfyNode):
    """Compares settings by short runs on the same held-out pairs, and hands on the best."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTrySettings",
            display_name="Try Settings",
            category="training/kontext/train",
            description=(
                "Trains short runs with different settings, continues the better half for twice as "
                "long, and hands the best settings to Train Kontext LoRA. Compared on held-out "
                "pairs: at least 4, better 8. Cancel loses nothing: run again to continue."
            ),
            search_aliases=["learning rate finder", "sweep", "grid search", "tune", "试参数"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="As on Train Kontext LoRA."),
                io.Clip.Input("clip", tooltip="Its text encoders."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                Pairs.Input("pairs", tooltip="The pairs of the long run, some of them held out."),
                io.String.Input(
                    "name",
                    default="my_edit",
                    tooltip="The beginning of the short runs' names.",
                ),
                io.String.Input(
                    "axes",
                    default=AXES,
                    multiline=True,
                    tooltip="What to try, one setting a line, its values with commas between: "
                    "rank: 8, 32. Several lines: every combination.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="Steps of the longest tries. 0 = a tenth of the long run's, at least "
                    "80.",
                ),
                Settings.Input(
                    "settings",
                    optional=True,
                    tooltip="From Training Preset or Kontext Training Settings: everything that is "
                    "not tried.",
                ),
            ],
            outputs=[
                Settings.Output("settings", tooltip="With the best values, for the train node."),
                io.String.Output("report", tooltip="A line for each try, and the verdict."),
                io.Image.Output("chart", tooltip="Held-out loss of every try."),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None, axes: str | None) -> bool | str:
        faults = wrong_numbers(lambda text, _: read_values(read_axes(text)), axes=axes)
        return "\n".join(faults) or named_right(name)

    @classmethod
    def execute(cls, model, clip, vae, pairs, name, axes, steps, settings=None) -> io.NodeOutput:
        config, node_id = settings or TrainConfig(), cls.hidden.unique_id
        request = TrainingRequest(
            host.Base(model, clip, vae),
            pairs,
            config,
            name,
            output_folder(),
            latents_folder(),
            node_id=node_id,
            rescue_places=[rescue_folder()],
        )
        full_model = recognise(request.base).full_size
        search = plan(name, request.output, pairs, config, axes, steps, full_model)
        host.Progress(1, node_id).say(price(search, full_model))

        def train_leg(leg: Leg) -> None:
            words = say("{label}: to step {step}", label=leg.label, step=leg.step)
            heading = f"{words}\n{price(search, full_model)}"
            train(replace(request, name=leg.name, config=leg.config, heading=heading))

        search.run(train_leg)
        found = result(search)
        write(found, output_folder() / "kontext_tries" / checked_name(name))
        report, chart = as_table(found), tensor_of(draw(found))
        host.Progress(1, node_id).say(found.verdict)
        return io.NodeOutput(
            found.settings(config), report, chart, ui=ui.PreviewImage(chart, cls=cls)
        )


NODES = [TrySettings]
