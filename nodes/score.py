"""Score Checkpoints: which one to keep, measured on held-out pairs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..evaluation.pictures.axes import parse_numbers
from ..evaluation.pictures.run_pairs import pairs_of_run, with_instruction
from ..evaluation.score.finalists import PicturePlan
from ..evaluation.score.measures import Embed, thumbnail
from ..evaluation.score.report import (
    advice,
    as_csv,
    as_json,
    as_table,
    as_verdicts,
    write_scores,
)
from ..evaluation.score.score import cost, score
from ..language import say
from ..trainer.config import TrainConfig
from ..trainer.data.pixels import tensor_of
from ..trainer.families import recognise
from ..trainer.host import Base, Progress
from ..trainer.host.folders import latents_folder
from .shared import LoraName, blocker, folder_of, lora_name, loras_to_try, wrong_numbers
from .sockets import Pairs, RunSocket


class ScoreCheckpoints(io.ComfyNode):
    """Measures every checkpoint on pairs it was not trained on, and says which one to keep."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextScoreCheckpoints",
            display_name="Score Checkpoints",
            category="training/kontext/choose",
            description=(
                "Measures every checkpoint on the held-out pairs, always with the same noise, and "
                "calls it under-fitted, good or over-fitted; says whether it shifts, zooms or "
                "borders the picture. Recommends the earliest whose pictures are as good as the "
                "best, and its strength. Scores are kept: Cancel loses nothing."
            ),
            search_aliases=["validation loss", "overfitting", "best checkpoint", "epoch", "评估"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model trained on, without the LoRAs to score."
                ),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                Pairs.Input(
                    "pairs",
                    optional=True,
                    tooltip="The dataset of the training, with the same hold-out: at least 4 "
                    "held-out pairs, better 8. Not connected: the pairs of the run.",
                ),
                RunSocket.Input(
                    "run", optional=True, tooltip="A training run: all of its saved checkpoints."
                ),
                io.String.Input(
                    "strengths",
                    default="0.6, 0.8, 1.0, 1.2",
                    optional=True,
                    tooltip="Strengths to score the best checkpoint at: a list or a range such as "
                    "0.5-1.0 (+0.1).",
                ),
                io.String.Input(
                    "checkpoints",
                    advanced=True,
                    default="",
                    optional=True,
                    tooltip="Which checkpoints of the run, by step, as in Compare Checkpoints. "
                    "Empty: all.",
                ),
                io.String.Input(
                    "loras",
                    advanced=True,
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="LoRAs of any trainer instead, a name, a folder or a pattern such as "
                    "my_run/* on each line. The number at the end of a name gives their order.",
                ),
                io.Int.Input(
                    "pictures",
                    default=8,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Held-out pairs to make pictures of with the best few checkpoints. "
                    "From 4 on, these pictures have the last word; 0 = none: losses alone. They "
                    "are kept, and Compare Checkpoints uses them again.",
                ),
                io.Int.Input(
                    "sampling_steps",
                    advanced=True,
                    default=20,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip="Sampling steps of these pictures.",
                ),
                io.String.Input(
                    "off_task",
                    advanced=True,
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="An instruction the LoRA was not trained for, such as: make the sky "
                    "green. Measures how far the LoRA leaks into it. Empty: not measured.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP, SigLIP or DINO, to measure the direction of the edit as an eye "
                    "would. Without it, small pictures are compared.",
                ),
            ],
            outputs=[
                io.String.Output("table", tooltip="A line for each checkpoint."),
                io.Image.Output("chart", tooltip="Gain over training, coloured by verdict."),
                io.String.Output("verdicts", tooltip="The advice, and each verdict's reason."),
                LoraName.Output("best", tooltip="The LoRA to keep, for a LoRA loader."),
                io.Float.Output("best_strength", tooltip="The strength to use it at."),
                io.String.Output("csv", tooltip="The table for a spreadsheet."),
                io.String.Output("json", tooltip="All scores for other programs."),
            ],
        )

    @classmethod
    def validate_inputs(cls, strengths: str | None = None) -> bool | str:
        return "\n".join(wrong_numbers(strengths=strengths)) or True

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        pairs=None,
        run=None,
        strengths="0.6, 0.8, 1.0, 1.2",
        checkpoints="",
        loras="",
        pictures=8,
        sampling_steps=20,
        off_task="",
        clip_vision=None,
    ) -> io.NodeOutput:
        base = Base(model, clip, vae)
        recognise(base)
        if pairs is None and run is None:
            raise ValueError(say("Connect a training run, or `pairs` to score other LoRAs on."))
        pairs = with_instruction(pairs, run) if pairs else pairs_of_run(run)
        tried = loras_to_try(run, checkpoints, loras)
        several = parse_numbers(strengths, "strengths")
        embed = vision(clip_vision) if clip_vision else thumbnail
        plan = PicturePlan(pictures, sampling_steps, off_task=off_task.strip(), embed=embed)
        first, more, sampling = cost(len(tried), pairs, len(several), plan)
        Progress(1, cls.hidden.unique_id).say(
            say(
                "Screening {loras} LoRAs takes {first} forward passes of the model, finalists and "
                "strengths at most {more} more, pictures {sampling}",
                loras=len(tried),
                first=first,
                more=more,
                sampling=sampling,
            )
        )
        scores = score(
            base,
            tried,
            pairs,
            several,
            run.config if run else TrainConfig(),
            latents_folder(),
            folder_of(run),
            plan,
            cls.hidden.unique_id,
        )
        chart = write_scores(scores, folder_of(run) / "scores")
        best = scores.best
        image = tensor_of(chart)
        Progress(1, cls.hidden.unique_id).say(advice(scores))
        return io.NodeOutput(
            as_table(scores),
            image,
            as_verdicts(scores),
            lora_name(best.path) if best else blocker(advice(scores)),
            scores.best_strength,
            as_csv(scores),
            as_json(scores),
            ui=ui.PreviewImage(image, cls=cls),
        )


def vision(model: Any) -> Embed:
    """A CLIP_VISION model as an embedding: its image vector, or the mean of its tokens (SigLIP)."""

    def embed(picture: Tensor) -> Tensor:
        output = model.encode_image(picture.movedim(0, -1)[None])
        embedded = output["image_embeds"][0].float().cpu()
        return embedded if embedded.ndim == 1 else embedded.mean(0)

    return embed


NODES = [ScoreCheckpoints]
