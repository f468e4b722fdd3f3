"""Masks are found where other trainers keep them, and never taken for pictures of the edit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folders import picture, save, save_both
from kontext.dataset.check import check, leftovers
from kontext.dataset.load import LoadedPairs, PairSource, find_pairs
from kontext.dataset.masks import open_mask
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.dataset.prepare import SIZES, Policy, prepare
from kontext.dataset.unpaired import unpaired
from PIL import Image


def find(base: Path, control: str = "before", target: str = "after", **options) -> LoadedPairs:
    return find_pairs(PairSource(control, target, base, base / "scratch", **options))


def masks(loaded: LoadedPairs) -> dict[str, str | None]:
    """Path of each pair's mask, by stem."""
    return {pair.stem: pair.mask and pair.mask.as_posix() for pair in loaded.dataset}


@pytest.mark.parametrize(
    "place",
    [
        "after/a_mask.png",
        "after/A-MaskLabel.jpg",
        "after/mask/a.png",
        "after/Masks/a_mask.png",
        "masks/a.png",
        "after_mask/a.png",
        "before/a_mask.png",
    ],
)
def test_a_mask_lies_where_trainers_keep_it(tmp_path: Path, place: str):
    save_both(tmp_path, ["a", "b"])
    save(tmp_path / place)
    loaded = find(tmp_path)
    assert masks(loaded) == {"a": (tmp_path / place).as_posix(), "b": None}
    assert "1 of 2 pairs have a mask" in loaded.notes
    assert leftovers(loaded.dataset.pairs) == []


def test_masks_of_repeat_folders(tmp_path: Path):
    for side in ("before", "after"):
        save(tmp_path / side / "5_ring" / "a.png")
        save(tmp_path / side / "2_chain" / "a.png")
    save(tmp_path / "after" / "5_ring" / "a_mask.png")
    save(tmp_path / "masks" / "2_chain" / "a.png", seed=1)
    found = {pair.repeats: pair.mask for pair in find(tmp_path).dataset}
    assert found[5] == tmp_path / "after" / "5_ring" / "a_mask.png"
    assert found[2] == tmp_path / "masks" / "2_chain" / "a.png"


def test_the_mask_beside_the_target_goes_first(tmp_path: Path):
    save_both(tmp_path, ["a"])
    for place in ("masks/a.png", "after/mask/a.png", "after/a_mask.png"):
        save(tmp_path / place)
    assert masks(find(tmp_path)) == {"a": (tmp_path / "after/a_mask.png").as_posix()}


def test_a_picture_with_a_partner_is_no_mask(tmp_path: Path):
    """People who put on a mask, say: both sides have it."""
    save_both(tmp_path, ["face", "face_mask"])
    loaded = find(tmp_path)
    assert masks(loaded) == {"face": None, "face_mask": None}
    assert any("face_mask.png" in note and "rather than masks" in note for note in loaded.notes)


def test_a_mask_of_nothing_is_a_target_without_control(tmp_path: Path):
    save_both(tmp_path, ["a"])
    save(tmp_path / "after" / "b_mask.png")
    with pytest.raises(DatasetError, match=r"1 targets have no control .* b_mask\.png"):
        find(tmp_path)


def test_a_folder_of_controls_is_none_of_masks(tmp_path: Path):
    for side in ("masks", "after"):
        save(tmp_path / side / "a.png")
    assert masks(find(tmp_path, "masks")) == {"a": None}


def test_masks_without_a_target_are_told(tmp_path: Path):
    save_both(tmp_path, ["a"])
    save(tmp_path / "masks" / "z.png")
    assert "Masks without a target: z.png" in find(tmp_path).notes


def test_a_root_with_three_folders(tmp_path: Path):
    save_both(tmp_path, ["a"])
    save(tmp_path / "image_masks" / "a.png")
    save(tmp_path / "after_masks" / "a.png")
    found = find(tmp_path, str(tmp_path), "")
    assert masks(found) == {"a": (tmp_path / "after_masks" / "a.png").as_posix()}


@pytest.mark.parametrize("mask", ["ring_mask.png", "ring_after_mask.png", "mask/ring_after.png"])
@pytest.mark.parametrize("pattern", ["", "{name}_before | {name}_after"])
def test_one_folder_with_endings(tmp_path: Path, mask: str, pattern: str):
    for name in ("ring_before", "ring_after", "mask_before", "mask_after"):
        save(tmp_path / "all" / f"{name}.png")
    save(tmp_path / "all" / mask)
    found = find(tmp_path, "all", "", pattern=pattern)
    assert masks(found) == {"ring": (tmp_path / "all" / mask).as_posix(), "mask": None}


def test_a_table_names_masks(tmp_path: Path):
    save_both(tmp_path, ["a", "b"])
    save(tmp_path / "where.png")
    rows = "control,target,mask\nbefore/a.png,after/a.png,where.png\nbefore/b.png,after/b.png,\n"
    (tmp_path / "metadata.csv").write_text(rows, encoding="utf-8")
    assert masks(find(tmp_path, str(tmp_path), "")) == {
        "a": (tmp_path / "where.png").as_posix(),
        "b": None,
    }
    (tmp_path / "where.png").unlink()
    with pytest.raises(DatasetError, match=r"where\.png \(line 2\)"):
        find(tmp_path, str(tmp_path), "")


def test_a_mask_needs_no_control(tmp_path: Path):
    save(tmp_path / "after" / "a.png")
    save(tmp_path / "after" / "a_mask.png")
    left, count = unpaired(tmp_path / "after", tmp_path / "made")
    assert ([p.name for p in left], count) == (["a"], 1)


def test_a_mask_belongs_to_what_a_run_is_made_from(tmp_path: Path):
    bare = Pair("a", (), save(tmp_path / "a.png"), "")
    masked = replace(bare, mask=save(tmp_path / "a_mask.png"))
    digests = {PairedDataset((pair,)).digest() for pair in (bare, masked)}
    save(tmp_path / "a_mask.png", seed=3, size=(64, 64))
    assert len(digests | {PairedDataset((masked,)).digest()}) == 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", [{}, {"pad": True}, {"crop_at": "point", "point": (0.8, 0.2)}])
def test_a_mask_is_cut_as_its_target_is(tmp_path: Path, size: str, change: dict):
    """Reference: the prepared target itself. The mask is the target in grey, half as large."""
    target = picture(1, (300, 200))
    target.save(tmp_path / "a.png")
    picture(2, (300, 200)).save(tmp_path / "b.png")
    target.convert("L").resize((150, 100)).save(tmp_path / "a_mask.png")
    pair = Pair("a", (tmp_path / "b.png",), tmp_path / "a.png", "", mask=tmp_path / "a_mask.png")
    policy = Policy(size=size, resolution=256, **change)
    made, _ = prepare(pair, policy, tmp_path / "out", False)
    assert made.mask == tmp_path / "out" / "mask" / "a.png"
    cut, whole = (np.asarray(Image.open(p).convert("L"), float) for p in (made.mask, made.target))
    assert cut.shape == whole.shape
    page = np.asarray(Image.open(made.target)).min(axis=-1) == 255
    if change.get("pad") and page.any():
        assert cut[page].max() == 0
    assert np.abs(cut - whole)[~page].mean() < 2.5
    again = find_pairs(PairSource("control", "target", tmp_path / "out", tmp_path))
    assert masks(again) == {"a": made.mask.as_posix()}


def test_what_is_transparent_is_not_painted(tmp_path: Path):
    painted = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
    painted.putpixel((1, 0), (255, 255, 255, 255))
    painted.save(tmp_path / "m.png")
    mask = open_mask(tmp_path / "m.png", tmp_path / "t.png", (8, 4))
    assert mask.mode == "L" and list(mask.tobytes()) == [0, 255, 0, 0, 0, 0, 0, 0]


def test_a_mask_that_cannot_be_meant_is_refused(tmp_path: Path):
    path = tmp_path / "a_mask.png"
    Image.new("L", (40, 40), 255).save(path)
    with pytest.raises(DatasetError, match=r"a_mask\.png \(40x40\) has another shape .*80x40"):
        open_mask(path, tmp_path / "a.png", (80, 40))
    Image.new("L", (80, 40)).save(path)
    with pytest.raises(DatasetError, match="black all over"):
        open_mask(path, tmp_path / "a.png", (80, 40))


def test_the_check_finds_every_such_mask(tmp_path: Path):
    save_both(tmp_path, ["fine", "long", "black"])
    save(tmp_path / "masks" / "fine.png")
    save(tmp_path / "masks" / "long.png", size=(64, 32))
    Image.new("L", (32, 32)).save(tmp_path / "masks" / "black.png")
    findings = [found for found in check(find(tmp_path).dataset) if found.kind == "mask"]
    assert sorted(stem for found in findings for stem in found.stems) == ["black", "long"]
