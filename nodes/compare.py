"""Compare Checkpoints: the grid that shows which LoRA does the edit."""

from collections.abc import Sequence
from pathlib import Path

import torch
from comfy_api.latest import io, ui

from ..dataset.pair import PairedDataset
from ..evaluation.compare.compare import (
    PICTURE_FORMATS,
    compare,
    cost_table,
    save_grid,
    settings_of,
    trials_of,
)
from ..evaluation.compare.comparison import LOOSE
from ..evaluation.pictures.axes import parse_numbers, parse_whole_numbers
from ..evaluation.pictures.run_pairs import instruction_of, pairs_of_run, with_instruction
from ..evaluation.pictures.samples import Samples
from ..language import say
from ..trainer.data.pixels import images_of, tensor_of
from ..trainer.data.sizes import Sizes
from ..trainer.data.subject import Subject, subject_of_image, subject_of_pair
from ..trainer.families import recognise
from ..trainer.host import Base, Progress
from ..trainer.host.folders import output_folder
from ..trainer.runs.run import Run
from .shared import folder_of, loras_to_try, wrong_numbers
from .sockets import Pairs, RunSocket

AXIS = " A list such as 0.5, 0.75, 1.0 or a range such as 0.5-1.0 (+0.1) or 0.5-1.0 [6]."


class CompareCheckpoints(io.ComfyNode):
    """Pictures of every checkpoint at every strength, beside the base model and the target."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextCompareCheckpoints",
            display_name="Compare Checkpoints",
            category="training/kontext/choose",
            description=(
                "Makes one labelled grid: test pictures down; control, base model, every "
                "checkpoint at every strength and the target across, all from the same seed. Each "
                "picture is saved at once, so a cancelled grid continues where it stopped."
            ),
            search_aliases=["xy plot", "xyz plot", "lora grid", "checkpoint comparison", "对比"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model trained on, without the LoRAs to compare."
                ),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                RunSocket.Input(
                    "run", optional=True, tooltip="A training run: all of its saved checkpoints."
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Test pictures, of any size: a batch or a list. None: the held-out "
                    "pairs.",
                ),
                Pairs.Input(
                    "pairs",
                    optional=True,
                    tooltip=(
                        "Uses the held-out pairs, whose true result is shown as well. Without "
                        "held-out pairs, training pairs. Not connected: those of the run."
                    ),
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The instruction. Several lines: every line is tried. Empty: each "
                    "pair's own caption; where there is none, the run's most frequent one.",
                ),
                io.String.Input(
                    "strengths", default="1.0", tooltip="LoRA strengths to try." + AXIS
                ),
                io.String.Input(
                    "seeds", default="1", tooltip="Seeds, one row each: 1, 2, 3 or 1-3."
                ),
                io.String.Input(
                    "sampling_steps",
                    advanced=True,
                    default="20",
                    tooltip="Sampling steps of each picture: 20, or several to compare: 10, 20.",
                ),
                io.String.Input(
                    "checkpoints",
                    advanced=True,
                    default="",
                    optional=True,
                    tooltip="Which checkpoints of the run, by step: 500-3000 takes all saved in "
                    "that range, 500-3000 (+500) every 500, last the newest. Empty: all.",
                ),
                io.String.Input(
                    "loras",
                    advanced=True,
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="More LoRAs from ComfyUI's LoRA folders, by any trainer: a name, a "
                    "folder or a pattern such as my_run/* on each line.",
                ),
                io.String.Input(
                    "guidance",
                    advanced=True,
                    default="",
                    optional=True,
                    tooltip="Guidance for sampling. Empty: as the model's maker advises." + AXIS,
                ),
                io.Int.Input(
                    "resolution",
                    advanced=True,
                    default=0,
                    min=0,
                    max=2048,
                    step=16,
                    optional=True,
                    tooltip="Largest area of the pictures, as the side of a square; they are never "
                    "enlarged. 0: as the run was trained, 1024 without a run.",
                ),
                io.Int.Input(
                    "most_pictures",
                    advanced=True,
                    default=4,
                    min=1,
                    max=256,
                    optional=True,
                    tooltip="At most this many test pictures; the rest are left out.",
                ),
                io.Combo.Input(
                    "grid_format",
                    advanced=True,
                    options=list(PICTURE_FORMATS),
                    default="png",
                    optional=True,
                    tooltip="File format of the grid. A PDF holds all pages of a big grid.",
                ),
            ],
            outputs=[
                io.Image.Output("grid", tooltip="The grid; a big one as a batch of pages."),
                io.String.Output("grid_path", tooltip="Where the grid was saved, page by page."),
                io.String.Output(
                    "costs",
                    tooltip="Seconds to load and apply each LoRA, seconds per picture, and memory.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        strengths: Sequence[str | None],
        seeds: Sequence[str | None],
        sampling_steps: Sequence[str | None],
        guidance: Sequence[str | None] = (None,),
    ) -> bool | str:
        whole = {"seeds": seeds[0], "sampling_steps": sampling_steps[0]}
        faults = wrong_numbers(parse_whole_numbers, **whole)
        own = (guidance[0] or "").strip() or None  # empty: as the model's maker advises
        faults += wrong_numbers(strengths=strengths[0], guidance=own)
        return "\n".join(faults) or True

    @classmethod
    def execute(
        cls,
        model: list,
        clip: list,
        vae: list,
        prompt: list[str],
        strengths: list[str],
        seeds: list[str],
        sampling_steps: list[str],
        run: tuple[Run, ...] = (),
        images: tuple[torch.Tensor, ...] = (),
        pairs: tuple[PairedDataset, ...] = (),
        checkpoints: tuple[str, ...] = ("",),
        loras: tuple[str, ...] = ("",),
        guidance: tuple[str, ...] = ("",),
        resolution: tuple[int, ...] = (0,),
        most_pictures: tuple[int, ...] = (4,),
        grid_format: tuple[str, ...] = ("png",),
    ) -> io.NodeOutput:
        base = Base(model[0], clip[0], vae[0])
        family = recognise(base)
        the_run = run[0] if run else None
        settings = settings_of(
            loras_to_try(the_run, checkpoints[0], loras[0]),
            parse_numbers(strengths[0], "strengths"),
        )
        prompts = [line.strip() for text in prompt for line in text.splitlines() if line.strip()]
        sizes = resolution[0], most_pictures[0]
        trials = trials_of(
            test_pictures(the_run, images, pairs, *sizes, family.multiple, bool(prompts)),
            prompts,
            parse_whole_numbers(seeds[0], "seeds"),
            parse_whole_numbers(sampling_steps[0], "sampling_steps"),
            parse_numbers(guidance[0].strip() or f"{family.guidance}", "guidance"),
        )
        samples = Samples(folder_of(the_run) / "samples")
        title = the_run.name if the_run else say("LoRA comparison")
        progress = Progress(len(settings) * len(trials), cls.hidden.unique_id)
        grid, comparison = compare(
            base, settings, trials, samples, title, progress, embedded_graph(cls)
        )
        comparison.write(folder_of(the_run))

        pages = grid.pages()
        paths = save_grid(samples.folder / "grids", comparison, pages, grid_format[0])
        image = torch.cat([tensor_of(page) for page in pages])
        if grid_format[0] == "pdf":
            shown = ui.PreviewImage(image, cls=cls).as_dict()
        else:
            shown = ui.SavedImages([saved_result(path) for path in paths]).as_dict()
        # for the button that opens the viewer: web/viewer.js
        name = the_run.name if the_run else LOOSE
        shown["kontext_compare"] = [{"run": name, "comparison": comparison.id}]
        paths_text = "\n".join(map(str, paths))
        return io.NodeOutput(image, paths_text, cost_table(comparison), ui=shown)


def test_pictures(
    run: Run | None,
    images: tuple[torch.Tensor, ...],
    pairs: tuple[PairedDataset, ...],
    resolution: int,
    most: int,
    multiple: int,
    prompted: bool,
) -> list[Subject]:
    """The held-out pairs (training pairs where there are none), then the images; at most `most`.

    With neither, the held-out pairs of the run. What has no caption gets the run's instruction.
    """
    config = run.config if run else None
    side = resolution or (config.sides[0] if config else 1024)
    reference = config.reference_resolution if config and not resolution else 0
    sizes = Sizes(side, reference, multiple)
    if run and not pairs and not images:
        pairs = (pairs_of_run(run),)
    elif not prompted:
        pairs = tuple(with_instruction(dataset, run) for dataset in pairs)
    tested = [pair for dataset in pairs for pair in dataset.holdout or dataset.train][:most]
    loose = images_of(*images)[: most - len(tested)]
    instruction = instruction_of(pairs_of_run(run)) if run and loose and not prompted else ""
    subjects = [subject_of_pair(pair, sizes) for pair in tested]
    subjects += [
        subject_of_image(image, say("picture {number}", number=number), sizes, instruction)
        for number, image in enumerate(loose, start=1)
    ]
    if not subjects:
        raise ValueError(say("Nothing to test on: connect a run, `pairs` or `images`."))
    return subjects


def embedded_graph(cls: type[io.ComfyNode]) -> dict[str, object]:
    """The graph as ComfyUI embeds it into pictures: dropping one onto the canvas opens it."""
    return {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}


def saved_result(path: Path) -> ui.SavedResult:
    """A file in the output folder as the front end names it."""
    relative = path.relative_to(output_folder())
    return ui.SavedResult(relative.name, str(relative.parent), io.FolderType.output)


NODES = [CompareCheckpoints]
