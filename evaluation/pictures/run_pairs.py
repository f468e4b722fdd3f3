"""The pairs that a run was trained with."""

from collections import Counter
from pathlib import Path

from ...dataset.pair import DatasetError, PairedDataset
from ...dataset.records import read_records
from ...dataset.text import read_text
from ...files import understanding
from ...language import say
from ...trainer.runs.run import Run
from ...values import read_yaml


def pairs_of_run(run: Run) -> PairedDataset:
    """The pairs that the run was trained with, with the captions and split of that time.

    Raises DatasetError if they were not recorded or have moved, and DamagedFileError.
    """
    path, remedy = run.folder / "run.yaml", say("Connect `pairs` instead.")
    with understanding(path, remedy):
        source = read_yaml(read_text(path)).get("pairs")
        noted = isinstance(source, dict) and "file" in source
        table = run.folder / source["file"] if noted else Path()
        folder = Path(source["folder"]) if noted else Path()
    if not noted:
        raise DatasetError(
            say("Run '{run}' has no record of its pairs: connect `pairs`.", run=run.name)
        )
    return PairedDataset(read_records(table, folder))


def with_instruction(pairs: PairedDataset, run: Run | None) -> PairedDataset:
    """The pairs; those without a caption have the run's instruction."""
    bare = [pair.stem for pair in pairs if not pair.caption]
    if not run or not bare:
        return pairs
    return pairs.with_captions(dict.fromkeys(bare, instruction_of(pairs_of_run(run))))


def instruction_of(pairs: PairedDataset) -> str:
    """The most frequent caption of the training pairs."""
    return Counter(pair.caption for pair in pairs.train).most_common(1)[0][0] if pairs.train else ""
