"""Train: the settings, the training itself, and opening a run again."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..evaluation.pictures.axes import choose_steps
from ..evaluation.progress.follow import Follower
from ..evaluation.progress.loss_plot import draw_loss
from ..trainer import host
from ..trainer.config import CHOICES, RANGES, TrainConfig
from ..trainer.data.pixels import tensor_of
from ..trainer.loop import train
from ..trainer.loss.flow import TIMESTEPS
from ..trainer.network.adapters import ADAPTERS
from ..trainer.optimizers import OPTIMIZERS
from ..trainer.request import TrainingRequest
from ..trainer.runs.run import Run, RunError, checked_name
from .shared import output_folder
from .sockets import Pairs, RunSocket, SamplesSocket, Settings

DEFAULTS = TrainConfig()
# The settings that are shown at once; the others unfold
BASIC = {
    "resolution", "reference_resolution", "batch_size", "timesteps", "optimizer", "edit_weight",
    "flip", "preserve",
}  # fmt: skip


def number(name: str, tooltip: str, **options) -> io.Input:
    """An input for one of TrainConfig's numbers, with the range that TrainConfig allows."""
    low, high = RANGES[name]
    kind = io.Float.Input if isinstance(getattr(DEFAULTS, name), float) else io.Int.Input
    return kind(
        name, default=getattr(DEFAULTS, name), min=low, max=high, tooltip=tooltip, **options
    )


def choice(name: str, tooltip: str) -> io.Input:
    return io.Combo.Input(
        name, options=list(CHOICES[name]), default=getattr(DEFAULTS, name), tooltip=tooltip
    )


def explained(meanings: dict[str, str]) -> str:
    return " ".join(f"{name}: {meaning}" for name, meaning in meanings.items())


class TrainingSettings(io.ComfyNode):
    """Everything that is not in the train node's short list."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="KontextTrainingSettings",
            display_name="Kontext Training Settings",
            category="training/kontext/train",
            description="The finer settings of a training run; without this node, the defaults.",
            search_aliases=["lora settings", "alpha", "resolution", "batch size", "timesteps"],
            inputs=[
                number(
                    "resolution",
                    "Side of the square whose area a target may have: 512, 768 or 1024. Pictures "
                    "keep their shape and are never enlarged.",
                    step=16,
                ),
                number(
                    "reference_resolution",
                    "The same for the control picture; 0 = as the target. Half of it makes a step "
                    "at 1024 almost twice as fast.",
                    step=16,
                ),
                choice(
                    "aspect",
                    "bucket: each pair keeps its own shape. square: the middle of every picture.",
                ),
                number(
                    "batch_size", "Pairs per step. 1 is right for most; more needs more memory."
                ),
                number("accumulate", "Batches whose gradients are gathered for one step."),
                number(
                    "alpha",
                    "Strength of the LoRA relative to its rank; 0 = equal to the rank.",
                    step=0.5,
                ),
                choice(
                    "targets",
                    "Layers to train. blocks: attention and MLP of every block. attention: without "
                    "the MLPs. all: with the modulation too.",
                ),
                choice("timesteps", f"How noisy the training pictures are. {explained(TIMESTEPS)}"),
                choice("schedule", "How the learning rate falls after the warm-up."),
                number(
                    "warmup_steps", "Steps over which the learning rate rises; a tenth at most."
                ),
                number("weight_decay", "AdamW's pull of the LoRA towards zero.", step=0.001),
                number(
                    "max_grad_norm", "Longer gradients are shortened to this; 0 = never.", step=0.1
                ),
                number(
                    "caption_dropout",
                    "Share of steps that see no caption, so that the edit also works without.",
                    step=0.01,
                ),
                number("guidance", "Guidance that the model is told in training.", step=0.1),
                choice(
                    "dtype",
                    "Precision of the computation; auto = the one ComfyUI samples in. The LoRA "
                    "itself is always trained in fp32.",
                ),
                choice("save_dtype", "Precision of the saved LoRA. bf16 is half as large as fp32."),
                choice(
                    "checkpointing",
                    "Compute activations twice instead of keeping them: a third slower, much less "
                    "memory. auto = only where they don't fit.",
                ),
                number(
                    "preview_steps",
                    "Sampling steps of the preview made at every checkpoint; 0 = no preview.",
                ),
                number(
                    "validate_every",
                    "Steps between two measurements of the held-out pairs, besides those at every "
                    "checkpoint; 0 = at checkpoints only.",
                ),
                io.Boolean.Input(
                    "tensorboard",
                    default=DEFAULTS.tensorboard,
                    tooltip="Also log for TensorBoard, into the run's folder tensorboard.",
                ),
                choice("optimizer", f"What takes the steps. {explained(OPTIMIZERS)}"),
                number("beta1", "Momentum of the optimiser.", step=0.01),
                number("beta2", "Memory of the optimiser for the size of gradients.", step=0.001),
                number("restarts", "Cycles of the schedule cosine_restarts."),
                number(
                    "ema",
                    "Save a moving average of the weights with this decay, such as 0.99; 0 = off. "
                    "Smooths a run that oscillates.",
                    step=0.001,
                ),
                io.Boolean.Input(
                    "rank_stabilised",
                    default=DEFAULTS.rank_stabilised,
                    tooltip="Divide alpha by the root of the rank: large ranks learn as fast.",
                ),
                number("lora_plus", "How much faster the second matrix learns (LoRA+); 1 = no."),
                io.String.Input(
                    "pattern",
                    default="",
                    tooltip="A regular expression of layer names to train, instead of targets: "
                    "single_blocks.*linear2",
                ),
                choice("loss", "mse, or huber, which forgives pixels that cannot be learnt."),
                number("huber_delta", "Errors larger than this count less with huber.", step=0.01),
                number(
                    "edit_weight",
                    "How much more the places count where target and control differ; 0 = equally.",
                    step=0.5,
                ),
                number(
                    "reference_dropout",
                    "Share of steps that see no control picture.",
                    step=0.01,
                ),
                io.Boolean.Input(
                    "flip",
                    default=DEFAULTS.flip,
                    tooltip="Also train on mirror images of the pairs. Not for text or left/right.",
                ),
                number("sigma_mean", "Mean of logit_normal timesteps; more is noisier.", step=0.1),
                number("sigma_spread", "Spread of logit_normal timesteps.", step=0.1),
                number(
                    "sigma_shift",
                    "Shift of logit_normal and uniform timesteps towards noise; 1 = none, "
                    "0 = by the picture's size.",
                    step=0.1,
                ),
                choice("adapter", f"What is trained on a layer. {explained(ADAPTERS)}"),
                number(
                    "dropout",
                    "Share of each layer's inputs that the LoRA does not see in a training step: "
                    "0.05 to 0.1 against memorising few pairs; 0 = none.",
                    step=0.01,
                ),
                number(
                    "lokr_factor",
                    "Size of LoKr's small matrix. 4: large files that learn more; 16: small ones; "
                    "0: the smallest.",
                ),
                number(
                    "max_vram",
                    "GB of the card that training may take; 0 = what is free. Less is slower: more "
                    "is computed twice, then weights are streamed.",
                    step=0.5,
                ),
                number(
                    "outside_mask",
                    "How much the black of a pair's mask counts; white counts in full. 1 = masks "
                    "are not used. A mask lies beside its target: 001_mask.png, or in a folder "
                    "masks.",
                    step=0.05,
                ),
                io.String.Input(
                    "resolutions",
                    default=DEFAULTS.resolutions,
                    tooltip="Several resolutions in place of the one above, such as 512, 768: "
                    "every pair is seen at each, so that the edit works at all sizes.",
                ),
                number(
                    "preserve",
                    "How strongly the LoRA is held to what the model does on other instructions, "
                    "so that it stays out of other prompts: 1 is firm, 0 = not. Slower by a third.",
                    step=0.1,
                ),
                number("preserve_every", "Steps between two such pulls. More is faster, weaker."),
                io.String.Input(
                    "preserve_prompts",
                    default=DEFAULTS.preserve_prompts,
                    multiline=True,
                    tooltip="Instructions to stay out of, one a line. Remove any that is close to "
                    "your own. Without caption dropout, an empty prompt is preserved too.",
                ),
                choice(
                    "matmul",
                    "How the frozen layers multiply. int8 (RTX 30 and newer), fp8 (RTX 40, H100) "
                    "and mxfp8 (RTX 50, B200) round activations and weights to 8 bits where the "
                    "first step shows that it makes little difference: faster, not exact.",
                ),
                choice(
                    "compile",
                    "blocks: torch compiles the blocks at the start, which takes minutes, compares "
                    "them with the uncompiled ones, and says after how many steps that pays off. "
                    "Needs Triton (Windows: triton-windows); without it, trains as with off.",
                ),
            ],
            outputs=[Settings.Output(display_name="settings")],
        )
        for entry in schema.inputs:
            entry.advanced = entry.id not in BASIC
        return schema

    @classmethod
    def execute(cls, **settings) -> io.NodeOutput:
        return io.NodeOutput(TrainConfig(**settings))


class TrainLora(io.ComfyNode):
    """Train a Kontext LoRA on the loaded Flux weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTrainLora",
            display_name="Train Kontext LoRA",
            category="training/kontext/train",
            description=(
                "Learns an edit from before/after pairs, on the FLUX.1-Kontext that is already "
                "loaded. Saves checkpoints into the LoRA folder as it goes. Cancel keeps what is "
                "done; running again with the same name continues."
            ),
            search_aliases=["lora training", "kontext trainer", "flux lora", "finetune", "alchemy"],
            inputs=[
                io.Model.Input("model", tooltip="FLUX.1-Kontext. Used in place, left unchanged."),
                io.Clip.Input("clip", tooltip="clip_l and t5xxl, loaded with DualCLIPLoader."),
                io.Vae.Input("vae", tooltip="FLUX.1's VAE, ae.safetensors."),
                Pairs.Input("pairs", tooltip="The pairs to learn from, with their captions."),
                io.String.Input(
                    "name",
                    default="my_edit",
                    tooltip="Name of the run and of its LoRA files in output/loras.",
                ),
                number(
                    "steps",
                    "0 = automatic: 100 per pair, and at least 1,500 on the full model.",
                ),
                number("rank", "Size of the LoRA. 8 for styles, 16 to 64 for fine retouching."),
                number(
                    "learning_rate",
                    "1e-4 suits most edits. Halve it when the loss oscillates.",
                    step=1e-6,
                ),
                number("save_every", "Steps between two checkpoints."),
                number(
                    "keep",
                    "How many checkpoints to keep: the latest ones, the best on held-out pairs and "
                    "those you have pinned or kept; 0 = all.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Same seed, same pairs, same machine: the same LoRA; on a GPU up to "
                    "rounding.",
                ),
                Settings.Input(
                    "settings", optional=True, tooltip="From Kontext Training Settings."
                ),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    optional=True,
                    tooltip="Delete a run of this name that was made from something else.",
                ),
                io.LoraModel.Input(
                    "start_from",
                    optional=True,
                    tooltip="A LoRA of the same rank and targets to go on from, not from zero.",
                ),
                SamplesSocket.Input(
                    "samples",
                    optional=True,
                    tooltip="From Training Samples: what to show meanwhile. Without it, the first "
                    "held-out pair at every checkpoint.",
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
        try:
            return bool(name is None or checked_name(name))
        except RunError as error:
            return str(error)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        pairs,
        name,
        settings=None,
        replace=False,
        start_from=None,
        samples=None,
        **short_list,
    ) -> io.NodeOutput:
        request = TrainingRequest(
            host.Base(model, clip, vae),
            pairs,
            (settings or DEFAULTS).replace(**short_list),
            name,
            output_folder(),
            output_folder() / "kontext_cache",
            replace,
            start_from,
            node_id=cls.hidden.unique_id,
            watcher=Follower(pairs, cls.hidden.unique_id, graph_of(cls.hidden.extra_pnginfo)),
            samples=samples,
            rescue_places=[Path(folder_paths.get_user_directory()) / "kontext_rescued"],
        )
        run = train(request)
        log = run.logged()
        steps = [checkpoint.step for checkpoint in run.checkpoints()]
        plot = draw_loss(log, steps, f"{run.name}: {run.config.steps} steps")
        plot.save(run.folder / "loss.png")
        lora = host.load_lora_file(run.checkpoint_at(run.config.steps).path)
        losses = {"loss": [entry["loss"] for entry in log]}
        image = tensor_of(plot)
        return io.NodeOutput(run, lora, losses, image, ui={"kontext_run": [run.name]})


def graph_of(embedded: object) -> dict | None:
    """The graph as the page sent it along; a script sends none."""
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
                    tooltip="Steps of checkpoints that going on with the run shall never delete, "
                    "such as 500, 1250 or last. Empty: as they are.",
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


NODES = [TrainingSettings, TrainLora, OpenRun]
