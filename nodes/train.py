"""Train: the training itself, and opening a run again."""

from __future__ import annotations

from comfy_api.latest import io

from ..evaluation.pictures.axes import choose_steps
from ..evaluation.progress.follow import Follower
from ..evaluation.progress.loss_plot import draw_loss
from ..evaluation.progress.overview import ending
from ..evaluation.progress.run_page import run_title
from ..evaluation.score.conclude import conclude
from ..trainer import host
from ..trainer.config import SETTINGS, TrainConfig
from ..trainer.data.pixels import tensor_of
from ..trainer.host.folders import latents_folder, output_folder, rescue_folder
from ..trainer.loop import train
from ..trainer.request import TrainingRequest
from ..trainer.runs.identity import RunError
from ..trainer.runs.run import Run
from .setting_inputs import setting_input
from .shared import named_right
from .sockets import Pairs, RunSocket, SamplesSocket, Settings

AS_IN_SETTINGS = ("steps", "rank", "learning_rate", "save_every")
FOLDED = ("rank", "save_every")  # seldom changed here: `settings` carries them


def or_as_in_settings(name: str) -> io.Input:
    """The input for a setting that 0 leaves to the `settings` input."""
    usual = SETTINGS[name].zero or f"{SETTINGS[name].default:g}"
    zero = f"as in settings; without them, {usual}"
    return setting_input(name, zero, default=0, min=0, advanced=name in FOLDED)


class TrainLora(io.ComfyNode):
    """Train a LoRA on the loaded weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTrainLora",
            display_name="Train Kontext LoRA",
            category="training/kontext/train",
            description=(
                "Learns an edit from before/after pairs, on the FLUX.1-Kontext, FLUX.2 or "
                "Qwen-Image-Edit that is already loaded. Saves checkpoints into the LoRA folder as "
                "it goes. Cancel loses nothing: run again with the same name to continue."
            ),
            search_aliases=["lora training", "kontext trainer", "flux lora", "finetune", "alchemy"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="FLUX.1-Kontext, FLUX.2 (Klein base, dev) or Qwen-Image-Edit. Used in "
                    "place, left unchanged. The node shows which model it recognised.",
                ),
                io.Clip.Input(
                    "clip",
                    tooltip="The model's text encoder: clip_l and t5xxl with DualCLIPLoader for "
                    "FLUX.1, one file with CLIPLoader for FLUX.2 and Qwen-Image.",
                ),
                io.Vae.Input("vae", tooltip="The model's VAE: ae, flux2-vae or qwen_image_vae."),
                Pairs.Input("pairs", tooltip="The pairs to learn from, with their captions."),
                io.String.Input(
                    "name",
                    default="my_edit",
                    tooltip="Name of the run and of its LoRA files in output/loras.",
                ),
                *map(or_as_in_settings, AS_IN_SETTINGS),
                setting_input("keep"),
                # JavaScript has no larger whole numbers
                setting_input(
                    "seed", min=0, max=2**53 - 1, control_after_generate=False, advanced=True
                ),
                Settings.Input(
                    "settings",
                    optional=True,
                    tooltip="From Training Preset, Kontext Training Settings or Try Settings.",
                ),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    optional=True,
                    tooltip="Move a run of this name that was made from something else into "
                    "output/kontext_trash.",
                ),
                io.LoraModel.Input(
                    "start_from",
                    optional=True,
                    tooltip="Begin with this LoRA instead of from zero. Its rank may be at most "
                    "this run's; its layers must be among the targets.",
                ),
                SamplesSocket.Input(
                    "samples",
                    optional=True,
                    tooltip="From Training Samples: what to show during training. Without it, the "
                    "first held-out pair at every checkpoint.",
                ),
            ],
            outputs=[
                RunSocket.Output(display_name="run"),
                io.LoraModel.Output(display_name="lora"),
                io.LossMap.Output(display_name="loss_map"),
                io.Image.Output(display_name="loss_plot"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return named_right(name)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        pairs,
        name,
        keep,
        seed,
        settings=None,
        replace=False,
        start_from=None,
        samples=None,
        **short_list,
    ) -> io.NodeOutput:
        chosen = {setting: value for setting, value in short_list.items() if value}
        config = (settings or TrainConfig()).replace(keep=keep, seed=seed, **chosen)
        request = TrainingRequest(
            host.Base(model, clip, vae),
            pairs,
            config,
            name,
            output_folder(),
            latents_folder(),
            replace,
            start_from,
            node_id=cls.hidden.unique_id,
            watcher=Follower(pairs, cls.hidden.unique_id, graph_of(cls.hidden.extra_pnginfo)),
            samples=samples,
            rescue_places=[rescue_folder()],
        )
        run = train(request)
        host.Progress(1, cls.hidden.unique_id).say(ending(run))
        verdict = conclude(request, run)
        log = run.logged()
        steps = [checkpoint.step for checkpoint in run.checkpoints()]
        plot = draw_loss(log, steps, run_title(run.name, run.last_step()))
        plot.save(run.folder / "loss.png")
        lora = host.load_lora_file(
            run.checkpoint_at((verdict and verdict.step) or run.last_step()).path
        )
        losses = {"loss": [entry["loss"] for entry in log]}
        image = tensor_of(plot)
        return io.NodeOutput(run, lora, losses, image, ui={"kontext_run": [run.name]})


def graph_of(embedded: object) -> dict | None:
    """The graph that ComfyUI's page sent along; a script sends none."""
    graph = embedded.get("workflow") if isinstance(embedded, dict) else None
    return graph if isinstance(graph, dict) else None


class OpenRun(io.ComfyNode):
    """Open a finished or cancelled training run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextOpenRun",
            display_name="Open Training Run",
            category="training/kontext/train",
            description="A training run made earlier, to compare, score or save its checkpoints.",
            search_aliases=["load run", "training run", "resume", "checkpoints"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=Run.names(output_folder()) or [""],
                    tooltip="One of the runs in output/kontext_runs.",
                ),
                io.String.Input(
                    "pin",
                    default="",
                    optional=True,
                    tooltip="Steps of checkpoints that are never deleted when the run continues: "
                    "500, 1250 or last. Empty: no change.",
                ),
            ],
            outputs=[RunSocket.Output(display_name="run")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        try:
            return bool(name is None or Run.open(name, output_folder()))
        except RunError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, name: str, pin: str = "") -> list[tuple[str, int]]:
        checkpoints = Run.open(name, output_folder()).checkpoints()
        return [(each.path.name, each.path.stat().st_mtime_ns) for each in checkpoints]

    @classmethod
    def execute(cls, name: str, pin: str = "") -> io.NodeOutput:
        run = Run.open(name, output_folder())
        saved = [checkpoint.step for checkpoint in run.checkpoints()]
        for step in choose_steps(pin, saved) if pin.strip() else ():
            run.pin(step)
        return io.NodeOutput(run)


NODES = [TrainLora, OpenRun]
