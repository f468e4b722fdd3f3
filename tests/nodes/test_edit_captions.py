"""Edit Captions and Caption Statistics as nodes: files on disk, undo, pictures out."""

import pytest
import torch
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.nodes.edit_captions import CaptionStats, EditCaptions
from PIL import Image

WIDGETS = {
    "find": "",
    "replace": "",
    "regex": False,
    "remove_tags": "",
    "remove_phrases": "",
    "keep_only": "",
    "deduplicate": False,
    "order": "as is",
    "max_tags": 0,
    "keep_first": 0,
    "case": "as is",
    "prefix": "",
    "suffix": "",
    "seed": 0,
    "edit_where": "all",
    "filter_text": "",
    "save_txt": False,
    "undo": "",
}


@pytest.fixture
def pairs(tmp_path):
    made = []
    for stem, caption in {"ring": "gold, ring", "brooch": "silver, brooch", "new": ""}.items():
        Image.new("RGB", (8, 8)).save(tmp_path / f"{stem}.png")
        if caption:
            (tmp_path / f"{stem}.txt").write_text(caption, encoding="utf-8")
        made.append(Pair(stem, (), tmp_path / f"{stem}.png", caption))
    return PairedDataset(tuple(made))


def clone(node):
    """The node class as the executor prepares it."""
    return node.PREPARE_CLASS_CLONE({"hidden_inputs": {}})


def edit(pairs, **widgets):
    captioned, shown = clone(EditCaptions).execute(pairs=pairs, **(WIDGETS | widgets)).result
    return captioned, {pair.stem: pair.caption for pair in captioned}, shown


def on_disk(pairs):
    folder = pairs.pairs[0].target.parent
    return {file.stem: file.read_text(encoding="utf-8") for file in folder.glob("*.txt")}


def test_only_the_selected_captions_change(pairs):
    _, captions, shown = edit(
        pairs, prefix="photo", edit_where="file name matches", filter_text="r*"
    )
    assert captions == {"ring": "photo, gold, ring", "brooch": "silver, brooch", "new": ""}
    assert shown.startswith("1 of 3 captions changed")
    assert on_disk(pairs) == {"ring": "gold, ring", "brooch": "silver, brooch"}


def test_saving_and_undoing(pairs):
    before = on_disk(pairs)
    edited, captions, _ = edit(pairs, prefix="photo", save_txt=True)
    assert on_disk(pairs) == captions == {s: c for s, c in captions.items() if s in on_disk(pairs)}
    assert captions["new"] == "photo"
    for _ in range(2):  # the backup stays, so undoing twice is the same
        _, restored, _ = edit(edited, undo="latest")
        assert restored == {"ring": "gold, ring", "brooch": "silver, brooch", "new": ""}
        assert on_disk(pairs) == before


def test_undo_without_a_backup(pairs):
    with pytest.raises(DatasetError, match="There are: none"):
        edit(pairs, undo="latest")


def test_statistics(pairs):
    table, chart = (
        clone(CaptionStats).execute(pairs=pairs, trigger="gold", count="tags", top=10).result
    )
    assert "⚠ Without: new" in table and "⚠ Without the trigger: brooch" in table
    assert chart.shape[0] == 1 and chart.shape[3] == 3 and chart.dtype == torch.float32
