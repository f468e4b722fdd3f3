"""Describe Pairs: queued by the page of a data set to have pairs described."""

from typing import Any

from comfy_api.latest import io

from ..captioning.ask import describe_chosen
from ..captioning.captioner import CaptionError
from ..captioning.describe import Side
from ..captioning.desks import desk_of
from ..captioning.journal import Journal
from ..language import say
from ..trainer.host import Progress
from ..trainer.host.folders import data_sets, journal_file
from .sockets import CaptionerSocket


class DescribePairs(io.ComfyNode):
    """Describe some pairs of a data set for its page, where they are accepted or edited."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextDescribePairs",
            display_name="Describe Pairs",
            category="training/kontext/captions",
            description="Queued by the page of a data set: describes the pairs selected there. "
            "Nothing is saved until a description is accepted on the page.",
            search_aliases=["caption page"],
            is_dev_only=True,
            is_output_node=True,
            inputs=[
                io.String.Input("data_set", tooltip="The id of the data set."),
                io.String.Input("listing", tooltip="The listing of it that the numbers refer to."),
                io.String.Input("numbers", tooltip="Numbers of pairs, separated by commas."),
                io.Combo.Input(
                    "describe",
                    options=[side.value for side in Side],
                    default=Side.TARGET.value,
                    tooltip="Which picture of a pair is described.",
                ),
                CaptionerSocket.Input("captioner", tooltip="A captioner node."),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **_asked: str) -> float:
        return float("nan")  # who asks again wants the answers again

    @classmethod
    def execute(
        cls, data_set: str, listing: str, numbers: str, describe: str, captioner: Any
    ) -> io.NodeOutput:
        if not all(number.isdecimal() and len(number) < 7 for number in numbers.split(",")):
            raise CaptionError(say("Select the pairs to describe on their page."))
        desk = desk_of(data_set, data_sets())
        chosen = desk.opened.checked(listing, map(int, numbers.split(",")))
        progress = Progress(len(chosen), cls.hidden.unique_id)
        describe_chosen(
            desk, chosen, captioner, Side(describe), Journal(journal_file()), progress.update
        )
        return io.NodeOutput()


NODES = [DescribePairs]
