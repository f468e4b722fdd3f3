"""Edit Captions and Caption Statistics."""

from typing import Any

from comfy_api.latest import io, ui

from ..captioning.edit import Case, Edits, Order, Where, applies, changes, edit_caption
from ..captioning.sidecars import LATEST, restore_captions, write_caption
from ..captioning.stats import caption_stats, chart, table
from ..dataset.pair import PairedDataset
from ..files import moment
from ..trainer.data.pixels import tensor_of
from ..trainer.host import Progress, throw_if_interrupted
from .sockets import Pairs


class EditCaptions(io.ComfyNode):
    """Edits all captions of a dataset, or those that a filter selects."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextEditCaptions",
            display_name="Edit Captions",
            category="training/kontext/captions",
            description="Corrects captions in bulk, in this order: find and "
            "replace, remove, keep only, deduplicate, sort or shuffle, limit, case, prefix "
            "and suffix. Commas separate tags. Chain several nodes for several edits.",
            search_aliases=["tag editor", "find replace", "prefix", "remove tags", "shuffle tags"],
            is_output_node=True,
            inputs=[
                Pairs.Input("pairs", tooltip="The captioned dataset."),
                io.String.Input("find", default="", tooltip="Text to find; empty = off."),
                io.String.Input(
                    "replace",
                    default="",
                    tooltip="Replacement text; \\1 is the first group of a regex.",
                ),
                io.Boolean.Input(
                    "regex", default=False, tooltip="Read 'find' as a regular expression."
                ),
                io.String.Input(
                    "remove_tags",
                    default="",
                    multiline=True,
                    tooltip="Whole tags to remove, separated by commas: what the LoRA is to bind. "
                    "* stands for any letters: * hair.",
                ),
                io.String.Input(
                    "remove_phrases",
                    default="",
                    tooltip="Phrases to remove anywhere, separated by commas.",
                ),
                io.String.Input(
                    "keep_only",
                    default="",
                    multiline=True,
                    tooltip="If not empty: all other tags are removed.",
                ),
                io.Boolean.Input(
                    "deduplicate", default=False, tooltip="Keep only the first of equal tags."
                ),
                io.Combo.Input(
                    "order",
                    options=[order.value for order in Order],
                    default=Order.AS_IS.value,
                    tooltip="Order of the tags. Shuffled: the same way each time for one seed.",
                ),
                io.Int.Input(
                    "max_tags",
                    default=0,
                    min=0,
                    max=500,
                    tooltip="Maximum number of tags per caption. 0: all.",
                ),
                io.Int.Input(
                    "keep_first",
                    default=0,
                    min=0,
                    max=20,
                    tooltip="Number of leading tags (trigger, instruction) that stay as they are.",
                ),
                io.Combo.Input(
                    "case",
                    options=[case.value for case in Case],
                    default=Case.AS_IS.value,
                    tooltip="Lower or upper case.",
                ),
                io.String.Input(
                    "prefix", default="", tooltip="Text to put in front, with a comma."
                ),
                io.String.Input(
                    "suffix", default="", tooltip="Text to put at the end, with a comma."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="For the shuffled order.",
                ),
                io.Combo.Input(
                    "edit_where",
                    options=[where.value for where in Where],
                    default=Where.ALL.value,
                    tooltip="Which captions to edit.",
                ),
                io.String.Input(
                    "filter_text",
                    default="",
                    tooltip="The phrase, or the file name with * for any letters.",
                ),
                io.Boolean.Input(
                    "save_txt",
                    default=False,
                    tooltip="Write changed captions beside their targets. The previous files are "
                    "kept in the folder caption_backup.",
                ),
                io.String.Input(
                    "undo",
                    default="",
                    advanced=True,
                    tooltip=f"Put back a backup instead of editing: its name (date-time), or "
                    f"'{LATEST}'. Empty: edit.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.String.Output(display_name="before and after"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        pairs: PairedDataset,
        order: str,
        case: str,
        edit_where: str,
        filter_text: str,
        save_txt: bool,
        undo: str,
        **edits: Any,
    ) -> io.NodeOutput:
        before = {pair.stem: pair.caption for pair in pairs}
        if undo.strip():
            after = before | restore_captions(pairs, undo.strip())
        else:
            wanted = Edits(order=Order(order), case=Case(case), **edits)
            after = dict(before)
            for pair in pairs:
                throw_if_interrupted()
                if applies(pair, Where(edit_where), filter_text):
                    after[pair.stem] = edit_caption(pair.caption, pair.stem, wanted)
            if save_txt:
                backup = moment()
                for pair in pairs:
                    if after[pair.stem] != pair.caption:
                        write_caption(pair.target, after[pair.stem], backup)
        shown = changes(before, after)
        Progress(len(pairs), cls.hidden.unique_id).say(shown)
        return io.NodeOutput(pairs.with_captions(after), shown, ui=ui.PreviewText(shown))


class CaptionStats(io.ComfyNode):
    """Counts tags and words over all captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextCaptionStats",
            display_name="Caption Statistics",
            category="training/kontext/captions",
            description="Counts tags and words: those in all captions bind to the LoRA, those in "
            "some stay promptable. Also lists missing captions and lengths.",
            search_aliases=["tag frequency", "word cloud", "caption statistics", "tag count"],
            is_output_node=True,
            inputs=[
                Pairs.Input("pairs", tooltip="The captioned dataset."),
                io.String.Input(
                    "trigger",
                    default="",
                    tooltip="Trigger word; captions that lack it are listed.",
                ),
                io.Combo.Input(
                    "count",
                    options=["tags", "words"],
                    default="tags",
                    tooltip="Commas separate tags; words suit captions in sentences.",
                ),
                io.Int.Input(
                    "top",
                    default=30,
                    min=1,
                    max=200,
                    tooltip="How many of the most common to show.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="table"),
                io.Image.Output(display_name="chart"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, pairs: PairedDataset, trigger: str, count: str, top: int) -> io.NodeOutput:
        stats = caption_stats(pairs, trigger)
        entries = stats.tags if count == "tags" else stats.words
        image = tensor_of(chart(stats, entries, top))
        text = table(stats, entries, top)
        Progress(len(pairs), cls.hidden.unique_id).say(text)
        shown = ui.PreviewImage(image, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        return io.NodeOutput(text, image, ui=shown)


NODES = [EditCaptions, CaptionStats]
