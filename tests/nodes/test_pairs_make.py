"""Crop & Resize Pairs, Degrade Image and Save Pair, called as ComfyUI calls them."""

from pathlib import Path

import folder_paths
import pytest
import torch
from kontext.dataset.load import PairSource, find_pairs
from kontext.dataset.pair import DatasetError
from kontext.nodes.degrade import Degrade
from kontext.nodes.prepare_pairs import PreparePairs, SavePair

PICTURES = torch.rand(3, 48, 64, 3, generator=torch.Generator().manual_seed(0))
RULES = {
    "size": "512 x 512", "resolution": 1024, "output_folder": "prepared", "fit": "crop",
    "crop_at": "centre", "x": 0.5, "y": 0.5, "undo_shift": False, "linear_light": False,
    "overwrite": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    return tmp_path


def save(count: int = 1, folder: str = "made", stem: str = "ring", overwrite: bool = False):
    return SavePair.execute(
        PICTURES[:count], PICTURES[:count].flip(1), " 抛光 ", folder, stem, overwrite
    ).args[0]


def read_back(base: Path, folder: str = "made"):
    return find_pairs(PairSource(folder, "", base, base / "scratch")).dataset


def test_a_saved_pair_reads_back_equal(base: Path):
    assert save(1) == read_back(base)
    assert save(3, "more") == read_back(base, "more")
    assert [pair.caption for pair in read_back(base)] == ["抛光"]


def test_nothing_is_overwritten_unless_told(base: Path):
    (pair,) = save(1)
    saved = pair.target.read_bytes()
    save(1)  # the same again is no harm
    with pytest.raises(DatasetError, match=r"ring\.png.* already exists.*overwrite"):
        SavePair.execute(PICTURES[1:2], PICTURES[2:], "other", "made", "ring", False)
    assert pair.target.read_bytes() == saved
    SavePair.execute(PICTURES[1:2], PICTURES[2:], "", "made", "ring", True)
    assert pair.target.read_bytes() != saved
    assert [pair.caption for pair in read_back(base)] == [""]


@pytest.mark.parametrize("stem", ["", "../ring", "a/b", "a\\b", "con", "a:b", ".hidden", "dot."])
def test_names_that_are_no_file_names(base: Path, stem: str):
    with pytest.raises(DatasetError, match="not a usable file name"):
        save(1, stem=stem)
    assert not list(base.rglob("*.png"))


@pytest.mark.parametrize("stem", ["项链 💍", "x" * 240, "a.b"])
def test_names_that_are(base: Path, stem: str):
    assert [pair.stem for pair in save(1, stem=stem)] == [stem]
    assert save(1, stem=stem) == read_back(base)


@pytest.mark.parametrize("folder", ["../outside", "a/../../b", " "])
def test_folders_that_lead_out(folder: str):
    with pytest.raises(DatasetError, match="leads out|Name a folder"):
        save(1, folder)


def test_prepared_pairs_load_again(base: Path):
    prepared, sheet, report = PreparePairs.execute(save(3), **RULES).args
    assert prepared == read_back(base, "prepared")
    assert len(sheet) == 1 and "ring_0001: 64×48 cut left 8, right 8 px" in report


def test_originals_cannot_be_the_output():
    with pytest.raises(DatasetError, match="holds the originals"):
        PreparePairs.execute(save(1), **RULES | {"output_folder": "made", "overwrite": True})


def test_degraded_pictures_do_not_depend_on_their_neighbours():
    arguments = ("old photo", 0.8, 5, 0.2, "ring")
    alone = Degrade.execute(PICTURES[:1], *arguments).args[0]
    batch = Degrade.execute(PICTURES, *arguments).args[0]
    assert torch.equal(alone[0], batch[0])
    assert batch.shape == PICTURES.shape and batch.min() >= 0 and batch.max() <= 1


def test_permanent_inputs_come_in_the_order_that_graphs_rely_on():
    def ids(node) -> list[str]:
        return [entry.id for entry in node.define_schema().inputs]

    assert ids(Degrade)[:4] == ["image", "recipe", "strength", "seed"]
    assert ids(SavePair)[:5] == ["control", "target", "caption", "folder", "stem"]
    assert ids(PreparePairs)[0] == "pairs"
