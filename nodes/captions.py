"""Caption Pairs: one instruction for the whole dataset, one short description per picture."""

from typing import Any

from comfy_api.latest import io, ui

from ..captioning.captioner import CaptionError
from ..captioning.compose import DEFAULT_TEMPLATE
from ..captioning.describe import Side
from ..captioning.journal import Journal
from ..captioning.presets import INSTRUCTIONS, OWN, chosen
from ..captioning.recipe import Existing, Recipe, Unit, match_descriptions
from ..captioning.run import Options, caption_pairs
from ..language import say
from ..trainer.host import Progress
from ..trainer.host.folders import journal_file
from .sockets import CaptionerSocket, Pairs


class CaptionPairs(io.ComfyNode):
    """Writes trigger, instruction, description and suffix into every pair's caption."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextCaptionPairs",
            display_name="Caption Pairs",
            category="training/kontext/captions",
            description="Captions every pair: trigger word, the instruction that all pairs share, "
            "a short description of the picture, and a constant ending.",
            search_aliases=["caption", "prompt", "trigger word", "打标", "florence", "joycaption"],
            is_input_list=True,
            is_output_node=True,
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
                    advanced=True,
                    tooltip="A constant ending for every caption, for example: keep everything "
                    "else unchanged.",
                ),
                CaptionerSocket.Input(
                    "captioner",
                    optional=True,
                    tooltip="A captioner node: Florence-2, BLIP, JoyCaption, a vision-language "
                    "model or WD14 tags. Without one, no new descriptions are written.",
                ),
                io.String.Input(
                    "descriptions",
                    optional=True,
                    force_input=True,
                    tooltip="Instead of a captioner: texts from any other node, one per pair in "
                    "the order of the pairs, or one for all.",
                ),
                io.Combo.Input(
                    "existing",
                    options=[choice.value for choice in Existing],
                    default=Existing.KEEP.value,
                    tooltip="Pairs that already have a caption. keep: the old text becomes the "
                    "description. replace: it is dropped. only missing: the pair stays exactly as "
                    "it is.",
                ),
                io.String.Input(
                    "template",
                    default=DEFAULT_TEMPLATE,
                    advanced=True,
                    tooltip="Order of the parts: {trigger} {instruction} {description} {suffix} "
                    "{stem}. Words between them are kept.",
                ),
                io.Combo.Input(
                    "instruction_preset",
                    options=[OWN, *INSTRUCTIONS],
                    default=OWN,
                    extra_dict={"fills": "instruction", "texts": INSTRUCTIONS},
                    tooltip="Writes a ready instruction into the field above, where you can change "
                    "it. Used as it is while that field is empty.",
                ),
                io.Combo.Input(
                    "describe",
                    options=[side.value for side in Side],
                    default=Side.TARGET.value,
                    advanced=True,
                    tooltip="Which picture of a pair is described. what changed: both are shown, "
                    "and each pair gets its own instruction. Both together needs a "
                    "vision-language model.",
                ),
                io.Int.Input(
                    "limit",
                    default=0,
                    min=0,
                    max=500,
                    advanced=True,
                    tooltip="Longest description; 10–30 simple words teach best. It is cut after a "
                    "clause if possible. 0: any length.",
                ),
                io.Combo.Input(
                    "limit_unit",
                    options=[unit.value for unit in Unit],
                    default=Unit.WORDS.value,
                    advanced=True,
                    tooltip="Count the limit in words (a Chinese character is one) or T5 tokens.",
                ),
                io.Boolean.Input(
                    "save_txt",
                    default=False,
                    tooltip="Write each caption beside its target as .txt, as soon as it is "
                    "known. The previous file is kept in the folder caption_backup.",
                ),
                io.Boolean.Input(
                    "save_tables",
                    default=False,
                    advanced=True,
                    tooltip="Also write metadata.csv and metadata.jsonl into the target folder.",
                ),
                io.Combo.Input(
                    "failed_pictures",
                    options=["stop", "skip"],
                    default="stop",
                    advanced=True,
                    tooltip="A picture that cannot be read or described: stop, or leave its "
                    "caption as it was and report it.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.String.Output(display_name="preview"),
                io.String.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        captioner: list[Any] | None = None,
        descriptions: list[str] | None = None,
        **single: list[Any],
    ) -> io.NodeOutput:
        """`is_input_list`: every value comes in a list, of one entry but for descriptions."""
        value = {name: entries[0] for name, entries in single.items()}
        pairs = value["pairs"]
        if captioner and descriptions:
            raise CaptionError(
                say("Connect either a captioner or descriptions to Caption Pairs, not both.")
            )
        source = match_descriptions(pairs, descriptions) if descriptions else None
        recipe = Recipe(
            trigger=value["trigger"],
            instruction=chosen(value["instruction_preset"], value["instruction"], INSTRUCTIONS),
            suffix=value["suffix"],
            existing=Existing(value["existing"]),
            template=value["template"],
            limit=value["limit"],
            unit=Unit(value["limit_unit"]),
        )
        options = Options(
            side=Side(value["describe"]),
            skip_failed=value["failed_pictures"] == "skip",
            save=value["save_txt"],
            tables=value["save_tables"],
        )
        progress = Progress(len(pairs), cls.hidden.unique_id)
        captioned, report = caption_pairs(
            pairs,
            recipe,
            captioner[0] if captioner else source,
            options,
            journal=Journal(journal_file()),
            progress=progress.update,
        )
        progress.say(report)
        preview = "\n".join(f"{pair.stem}: {pair.caption}" for pair in captioned)
        return io.NodeOutput(
            captioned, preview, report, ui=ui.PreviewText(f"{report}\n\n{preview}")
        )


NODES = [CaptionPairs]
