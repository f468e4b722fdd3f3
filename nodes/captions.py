"""Caption Pairs: one instruction for the whole dataset, one short description per picture."""

from comfy_api.latest import io, ui

from ..captioning.compose import DEFAULT_TEMPLATE
from ..captioning.existing import (
    Existing,
    compose_captions,
    match_descriptions,
    to_describe,
)
from ..dataset.pair import PairedDataset
from .sockets import Pairs


class CaptionPairs(io.ComfyNode):
    """Writes trigger, instruction, description and suffix into every pair's caption."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextCaptionPairs",
            display_name="Caption Pairs",
            category="training/kontext",
            description="Captions every pair: trigger word, the instruction that all pairs share, "
            "a short description of the picture, and a constant ending.",
            search_aliases=["caption", "prompt", "trigger word", "打标", "florence", "joycaption"],
            is_input_list=True,
            inputs=[
                Pairs.Input("pairs", tooltip="The paired dataset to caption."),
                io.String.Input(
                    "instruction",
                    default="",
                    multiline=True,
                    tooltip="What the edit does, the same for every pair. For example: "
                    "Transfer into Animal Story Style. English works best with FLUX.",
                ),
                io.String.Input(
                    "trigger",
                    default="",
                    tooltip="A rare word in front, so that the edit can be called by name. "
                    "Optional; a comma is added.",
                ),
                io.String.Input(
                    "suffix",
                    default="",
                    tooltip="A constant ending for every caption, for example: keep everything "
                    "else unchanged.",
                ),
                io.String.Input(
                    "descriptions",
                    optional=True,
                    force_input=True,
                    tooltip="Texts from any other captioning node: one per pair, in the order of "
                    "the pairs, or one for all.",
                ),
                io.Combo.Input(
                    "existing",
                    options=[choice.value for choice in Existing],
                    default=Existing.KEEP.value,
                    tooltip="Captions that are already there. keep: the old text becomes the "
                    "description. replace: it is dropped. only missing: such a pair stays exactly "
                    "as it is.",
                ),
                io.String.Input(
                    "template",
                    default=DEFAULT_TEMPLATE,
                    tooltip="Order of the parts: {trigger} {instruction} {description} {suffix} "
                    "{stem}. Words between them are kept.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.String.Output(display_name="preview"),
            ],
        )

    @classmethod
    def execute(
        cls,
        pairs: list[PairedDataset],
        instruction: list[str],
        trigger: list[str],
        suffix: list[str],
        existing: list[str],
        template: list[str],
        descriptions: list[str] | None = None,
    ) -> io.NodeOutput:
        dataset, choice = pairs[0], Existing(existing[0])
        given = match_descriptions(dataset, descriptions) if descriptions else {}
        wanted = set(to_describe(dataset, choice))
        captions = compose_captions(
            dataset,
            {stem: text for stem, text in given.items() if stem in wanted},
            choice,
            trigger[0],
            instruction[0],
            suffix[0],
            template[0],
        )
        captioned = dataset.with_captions(captions)
        preview = "\n".join(f"{pair.stem}: {pair.caption}" for pair in captioned)
        return io.NodeOutput(captioned, preview, ui=ui.PreviewText(preview))


NODES = [CaptionPairs]
