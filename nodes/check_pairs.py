"""Check Pairs: what is wrong with a dataset, before any model loads."""

from comfy_api.latest import io, ui
from PIL import Image

from ..dataset.check import CountTokens, check
from ..dataset.finding import ERROR, remember, report
from ..dataset.finding_sheet import finding_pages
from ..dataset.pair import DatasetError, PairedDataset
from ..trainer.data.pixels import tensor_of
from ..trainer.host import Progress, count_tokens
from .sockets import Pairs


class CheckPairs(io.ComfyNode):
    """Check every pair for what would spoil the LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextCheckPairs",
            display_name="Check Pairs",
            category="training/kontext/dataset",
            description=(
                "Finds swapped sides, shifted or identical pictures, duplicates, blur, noise, JPEG "
                "blocks, missing captions and more. Each finding names the file and the remedy."
            ),
            search_aliases=["dataset lint", "validate dataset", "misaligned", "duplicates"],
            inputs=[
                Pairs.Input("pairs", tooltip="The dataset to check. It is passed on unchanged."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Counts caption tokens with the model's own tokenizer. Leave empty to "
                    "check everything else before a model is loaded.",
                ),
                io.Combo.Input(
                    "on_errors",
                    options=["report", "stop"],
                    default="report",
                    tooltip="stop: do not go on to training while there is a finding of severity "
                    "error. Warnings and notes never stop.",
                ),
                io.Int.Input(
                    "most_shown",
                    default=48,
                    min=1,
                    max=1000,
                    advanced=True,
                    tooltip="Most pairs to show on the sheet of findings, the worst first.",
                ),
            ],
            outputs=[
                Pairs.Output(display_name="pairs"),
                io.String.Output(display_name="report"),
                io.Image.Output(display_name="findings"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, pairs: PairedDataset, on_errors: str, most_shown: int, clip=None
    ) -> io.NodeOutput:
        progress, done = Progress(len(pairs)), iter(range(1, len(pairs) + 1))
        findings = check(pairs, token_counter(clip), lambda: progress.update(next(done)))
        remember(pairs.pairs, findings)
        text = report(findings, len(pairs))
        if on_errors == "stop" and any(finding.severity == ERROR for finding in findings):
            raise DatasetError(text)
        sheet = finding_pages(pairs, findings, most_shown) or [Image.new("RGB", (64, 64), "white")]
        return io.NodeOutput(pairs, text, tensor_of(*sheet), ui=ui.PreviewText(text))


def token_counter(clip) -> CountTokens | None:
    """A function that counts tokens with the connected CLIP's own tokenizer."""
    return (lambda text: count_tokens(clip, text)) if clip else None


NODES = [CheckPairs]
