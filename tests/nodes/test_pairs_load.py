"""Load Paired Dataset and Pairs from Images, called as ComfyUI calls them."""

import os
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch
from kontext.dataset.image import open_rgb
from kontext.dataset.pair import DatasetError
from kontext.nodes.load_pairs import LoadPairs, PairsFromImages
from kontext.nodes.load_pictures import LoadPictures
from PIL import Image

DEFAULTS = {
    "control_folder": "before",
    "target_folder": "after",
    "default_caption": "",
    "holdout": 0.15,
    "pattern": "",
    "several_controls": "one pair per folder",
    "unmatched": "stop",
    "preview": 24,
    "mask_folder": "",
}


@pytest.fixture
def input_folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    rng = np.random.default_rng(0)
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
        for i in range(16):
            coarse = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8))
            coarse.resize((64, 48)).save(tmp_path / side / f"{i:02}.png")
    return tmp_path


def test_pairs_sheet_and_report(input_folder: Path):
    pairs, sheet, report = LoadPairs.execute(**DEFAULTS).args
    assert (len(pairs.train), len(pairs.holdout)) == (12, 4)
    assert sheet.shape[0] == 2 and sheet.shape[3] == 3 and 0 <= sheet.min() < sheet.max() <= 1
    assert "16 pairs: 12 to train on, 4 held out" in report
    assert "steps" not in report and "64×48 (16)" in report  # they depend on the model
    assert all(pair.stem in report for pair in pairs.holdout)


def test_only_a_change_of_files_runs_the_graph_again(input_folder: Path):
    def fingerprint() -> str:
        return LoadPairs.fingerprint_inputs(**DEFAULTS)

    before = fingerprint()
    assert fingerprint() == before
    (input_folder / "after" / "03.txt").write_text("new caption", encoding="utf-8")
    captioned = fingerprint()
    assert captioned != before
    picture = input_folder / "before" / "05.png"
    os.utime(picture, ns=(0, picture.stat().st_mtime_ns + 10**9))
    changed = fingerprint()
    assert changed != captioned
    picture.unlink()
    assert "05.png" in fingerprint()


def test_a_linked_input_always_runs_again(input_folder: Path):
    linked = LoadPairs.fingerprint_inputs(**DEFAULTS | {"control_folder": None})
    assert linked != linked


def test_the_order_of_inputs_is_permanent():
    ids = [entry.id for entry in LoadPairs.define_schema().inputs]
    assert ids == list(DEFAULTS)


def test_a_missing_folder_is_known_before_the_run(input_folder: Path):
    assert LoadPairs.validate_inputs("before", "after") is True
    assert LoadPairs.validate_inputs("before", None) is True, "linked"
    told = LoadPairs.validate_inputs("befor | before", str(input_folder / "aftr"))
    assert "no folder" in told and f"{input_folder / 'befor'}." in told and "aftr" in told
    assert "no folder" in LoadPairs.validate_inputs("before", "after", "painted")
    file = "before/05.png"
    assert LoadPairs.validate_inputs(file, "") is True, "may be a table or a zip"
    assert "05.png is a file; a folder is needed here" in LoadPairs.validate_inputs(file, "after")
    assert LoadPictures.validate_inputs("after") is True
    assert "no folder" in LoadPictures.validate_inputs("nobody")
    assert "Choose a control folder" in LoadPairs.validate_inputs(" ", "after")
    assert "Choose a folder of pictures" in LoadPictures.validate_inputs("")


@pytest.mark.parametrize("again", ["before/", "./before", "link", "{base}/before"])
def test_the_same_folder_twice(input_folder: Path, again):
    (input_folder / "link").symlink_to("before", target_is_directory=True)
    twice = {"target_folder": again.format(base=input_folder)}
    with pytest.raises(DatasetError, match="chosen twice"):
        LoadPairs.execute(**DEFAULTS | twice)


@pytest.mark.parametrize("end", ["", "/"])
def test_swapped_folders_stop_wherever_the_side_is_named(input_folder: Path, end):
    for side in ("before", "after"):
        inside = input_folder / "set" / side
        inside.mkdir(parents=True)
        (input_folder / side).rename(inside / "10_ring")
    swapped = {"control_folder": f"set/after/10_ring{end}",
               "target_folder": f"set/before/10_ring{end}"}  # fmt: skip
    with pytest.raises(DatasetError, match="control folder is called “after/10_ring”"):
        LoadPairs.execute(**DEFAULTS | swapped)
    right = dict(zip(swapped, reversed(swapped.values()), strict=True))
    assert "swapped" not in LoadPairs.execute(**DEFAULTS | right).args[2]


def test_many_pictures_without_a_partner_are_said_first(input_folder: Path):
    for name in range(6):
        (input_folder / "after" / f"{name:02}.png").unlink()
    skipping = DEFAULTS | {"unmatched": "skip"}
    pairs, _, report = LoadPairs.execute(**skipping).args
    assert len(pairs) == 10
    assert report.splitlines()[1].startswith("⚠ 6 pictures are left out, and only 10 pairs remain.")
    assert pairs.with_captions({}).doubts == pairs.doubts != ()
    for name in ("00", "01"):
        Image.new("RGB", (64, 48)).save(input_folder / "after" / f"{name}.png")
    assert LoadPairs.execute(**skipping).args[0].doubts == ()


def test_masks_of_a_folder_of_any_name(input_folder: Path):
    (input_folder / "painted").mkdir()
    Image.new("L", (64, 48), 255).save(input_folder / "painted" / "03.png")
    pairs, _, report = LoadPairs.execute(**DEFAULTS | {"mask_folder": "painted"}).args
    assert [pair.stem for pair in pairs if pair.mask] == ["03"]
    assert "1 of 16 pairs have a mask" in report


def test_single_pictures_have_no_controls(input_folder: Path):
    (input_folder / "after" / "03.txt").write_text("a photo of anna", encoding="utf-8")
    arguments = {"folder": "after", "default_caption": "anna", "holdout": 4, "preview": 8}
    pairs, sheet, report = LoadPictures.execute(**arguments).args
    assert len(pairs.train) == 12 and len(pairs.holdout) == 4 and len(sheet) == 1
    assert all(pair.controls == () for pair in pairs)
    captions = {pair.stem: pair.caption for pair in pairs}
    assert captions["03"] == "a photo of anna" and captions["04"] == "anna"
    assert LoadPictures.fingerprint_inputs(**arguments) == LoadPictures.fingerprint_inputs(
        **arguments
    )


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 32, 40, 3, generator=torch.Generator().manual_seed(count))


def test_pictures_from_the_graph_become_pairs(input_folder: Path):
    control, target = pictures(5), pictures(5).flip(0)
    pairs, *_ = PairsFromImages.execute([control[:2], control[2:]], [target], ["shine"], [0]).args
    assert [pair.caption for pair in pairs] == ["shine"] * 5
    for pair, before, after in zip(pairs, control, target, strict=True):
        for path, values in ((pair.controls[0], before), (pair.target, after)):
            found = np.asarray(open_rgb(path), np.float32) / 255
            assert np.abs(found - values.numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_same_pictures_give_the_same_dataset(input_folder: Path):
    arguments = [pictures(4)], [pictures(4).flip(0)], ["a", "b", "c", "d"], [0]
    first = PairsFromImages.execute(*arguments).args[0].digest()
    for path in (input_folder / "temp").rglob("*.png"):
        path.unlink()
    assert PairsFromImages.execute(*arguments).args[0].digest() == first


def test_a_control_without_target_is_refused(input_folder: Path):
    with pytest.raises(DatasetError, match="4 control pictures, but 5 targets"):
        PairsFromImages.execute([pictures(4)], [pictures(5)], [""], [0])
    with pytest.raises(DatasetError, match="3 captions for 5 pairs"):
        PairsFromImages.execute([pictures(5)], [pictures(5)], ["a", "b", "c"], [0])


def test_swapped_sockets(input_folder: Path, graph):
    """Doubts reach the training through the pairs; certain mistakes stop."""
    wires = {"control": ["clean", 0], "target": ["worse", 0]}
    graph |= {
        "clean": {"class_type": "LoadImage", "inputs": {"image": "ring.png"}},
        "worse": {"class_type": "KontextDegrade", "inputs": {"image": ["clean", 0]}},
        "me": {"class_type": "KontextPairsFromImages", "inputs": wires},
    }
    arguments = [pictures(4)], [pictures(5)[:4]], ["shine"], [0]
    pairs, _, report = PairsFromImages.execute(*arguments).args
    (doubt,) = pairs.doubts
    assert "swapped: the target comes from Degrade Image. Exchange the two wires if" in doubt
    assert report.splitlines()[1] == f"⚠ {doubt}"
    wires["control"] = ["worse", 0]
    with pytest.raises(DatasetError, match="One wire leads into both"):
        PairsFromImages.execute(*arguments)


def test_a_full_disk_leaves_nothing_half_written(input_folder: Path, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(DatasetError, match=r"image_0001\.png could not be written: No space"):
        PairsFromImages.execute([pictures(4)], [pictures(4)], [""], [0])
    assert not [path for path in (input_folder / "temp").rglob("*") if path.is_file()]
