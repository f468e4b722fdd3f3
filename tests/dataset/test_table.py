"""Tables as other trainers write them."""

import csv
import json
from pathlib import Path

import pytest
from folders import save, save_both
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kontext.dataset.load import PairSource, find_pairs
from kontext.dataset.pair import DatasetError
from kontext.dataset.table import read_table


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_both(tmp_path, ["a", "b"])


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


ROWS = {
    "own": {"control": "before/a.png", "target": "after/a.png", "caption": "抛光, polish"},
    "musubi": {"image_path": "after/a.png", "control_path": "before/a.png",
               "caption": "抛光, polish"},
    "hugging face": {"file_name": "after/a.png", "control_file_name": "before/a.png",
                     "text": "抛光, polish"},
    "instruct-pix2pix": {"input_image": "before/a.png", "edited_image": "after/a.png",
                         "edit_prompt": "抛光, polish"},
    "DiffSynth, Kontext": {"image": "after/a.png", "prompt": "抛光, polish",
                           "kontext_images": "before/a.png"},
    "DiffSynth, Qwen": {"image": "after/a.png", "prompt": "抛光, polish",
                        "edit_image": "before/a.png"},
    "before without a name": {"image": "before/a.png", "edited_image": "after/a.png",
                              "prompt": "抛光, polish"},
    "MagicBrush": {"img_id": "7", "source_img": "before/a.png", "target_img": "after/a.png",
                   "instruction": "抛光, polish"},
    "HQ-Edit": {"input": "a dull ring", "input_image": "before/a.png", "edit": "抛光, polish",
                "output": "a bright ring", "output_image": "after/a.png"},
    "file names": {"input_file_name": "before/a.png", "output_file_name": "after/a.png",
                   "caption": "抛光, polish"},
    "camels": {"sourceImage": "before/a.png", "targetImage": "after/a.png",
               "text": "抛光, polish"},
    "Chinese": {"修改前": "before/a.png", "修改后": "after/a.png", "提示词": "抛光, polish"},
    "Windows": {"control": "before\\a.png", "target": "after\\a.png", "text": "抛光, polish"},
    "the same twice": {"file_name": "after/a.png", "target": "after/a.png",
                       "source": "before/a.png", "text": "抛光, polish"},
}  # fmt: skip


@pytest.mark.parametrize("dialect", ROWS)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "excel", "tsv"])
def test_known_columns(base: Path, dialect: str, kind: str):
    row = ROWS[dialect]
    path = base / f"metadata.{'csv' if kind == 'excel' else kind}"
    if kind == "jsonl":
        jsonl(path, row)
    else:
        delimiter = {"csv": ",", "excel": ";", "tsv": "\t"}[kind]
        encoding = "utf-8-sig" if kind == "excel" else "utf-8"
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(row), delimiter=delimiter)
            writer.writeheader()
            writer.writerow(row)
    (pair,) = read_table(path).pairs
    assert (pair.controls, pair.target) == ((base / "before/a.png",), base / "after/a.png")
    assert pair.caption == "抛光, polish"


def test_tables_in_other_forms(base: Path):
    """Excel's first line, an indented list, a mapping by file name, a byte order mark."""
    row = {"control": "before/a.png", "caption": "x"}
    forms = {
        "a.csv": "sep=;\r\ncontrol;target;caption\r\nbefore/a.png;after/a.png;x\r\n",
        "b.json": json.dumps([{**row, "target": "after/a.png"}], indent="\t"),
        "c.jsonl": json.dumps([{**row, "target": "after/a.png"}], indent=2),
        "d.json": json.dumps({"after/a.png": row}),
        "e.jsonl": "\ufeff" + json.dumps({**row, "target": "after/a.png"}) + "\r\n",
    }
    for name, text in forms.items():
        (base / name).write_text(text, "utf-8", newline="")
        (pair,) = read_table(base / name).pairs
        assert (pair.caption, pair.controls[0].name, pair.stem) == ("x", "a.png", "a"), name
    (base / "f.csv").write_text("sep=;\ncontrol;target\nbefore/x.png;after/a.png\n")
    with pytest.raises(DatasetError, match=r"x\.png \(line 3\)"):
        read_table(base / "f.csv")


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"image_0": "before/a.png", "image_1": "after/a.png"}, "image_1"),
        ({"target": "after/a.png", "control": "before/a.png", "depth": "before/b.png"}, "depth"),
        ({"image": "after/a.png", "picture_of_before": "before/a.png"}, "picture_of_before"),
        ({"target": "after/a.png", "control": "before/a.png", "image": "before/b.png"}, "image"),
        ({"target_1": "after/a.png", "target_2": "after/b.png", "in": "before/a.png"}, "target_2"),
    ],
)
def test_pictures_that_no_side_claims_are_refused(base: Path, row: dict, columns: str):
    path = jsonl(base / "set.jsonl", row)
    with pytest.raises(DatasetError, match=rf"the columns {columns} name pictures.*control_1"):
        read_table(path)


def test_columns_without_a_meaning_are_said(base: Path):
    path = jsonl(base / "set.jsonl", {**ROWS["own"], "width": 1024, "edit_prompt": "shine"})
    assert "set.jsonl: columns not read: width, edit_prompt" in read_table(path).notes


def test_a_table_without_controls_is_no_data_set_of_pairs(base: Path):
    row = {"image": "after/a.png", "prompt": "polish"}
    path = jsonl(base / "set.jsonl", {**row, "seed": 5})
    with pytest.raises(DatasetError, match=r"No pair has a control.*(\n.*)*not read: seed"):
        find_pairs(PairSource(str(path), "", base, base))
    (pair,) = find_pairs(PairSource(str(path), "", base, base, single=True)).dataset
    assert (pair.controls, pair.caption) == ((), "polish")
    path = jsonl(base / "set.jsonl", ROWS["own"], {"target": "after/b.png"})
    with pytest.raises(DatasetError, match="1 of 2 pairs have no control.*: b. Add it"):
        find_pairs(PairSource(str(path), "", base, base))
    with pytest.raises(DatasetError, match="before the edit for 1 of its pictures"):
        find_pairs(PairSource(str(path), "", base, base, single=True))


def test_a_target_may_have_a_caption_for_each_control(base: Path):
    row = {"target": "after/a.png", "control": ["before/a.png", "before/b.png"]}
    path = jsonl(base / "set.jsonl", {**row, "caption": ["from line art", "from clay"]})
    assert [pair.caption for pair in read_table(path).pairs] == ["from line art", "from clay"]
    rows = ({"target": "after/a.png", "control": f"before/{n}.png", "text": n} for n in "ab")
    pairs = find_pairs(PairSource(str(jsonl(path, *rows)), "", base, base)).dataset
    assert [(pair.stem, pair.caption) for pair in pairs] == [("a_a", "a"), ("a_b", "b")]


def test_lists_in_cells(base: Path):
    cells = ["before/a.png", "before/b.png"]
    path = base / "set.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["kontext_images", "image", "tags"], [json.dumps(cells), "after/a.png", "x"]]
        )
    (pair,) = read_table(path, together=True).pairs
    assert [control.name for control in pair.controls] == ["a.png", "b.png"]
    hugging_face = {"source": {"bytes": None, "path": "before/a.png"}, "target": "after/a.png"}
    (pair,) = read_table(jsonl(base / "t.jsonl", hugging_face)).pairs
    assert pair.controls == (base / "before/a.png",)


def test_a_folder_with_a_table_is_read_by_it(base: Path):
    jsonl(base / "metadata.jsonl", ROWS["own"])
    assert len(find_pairs(PairSource(str(base), "", base, base)).dataset) == 1


@pytest.mark.parametrize(
    "controls",
    [{"control_1": "before/a.png", "control_2": "before/b.png"},
     {"control_path_1": "before/b.png", "control_path_0": "before/a.png"},
     {"control": ["before/a.png", "before/b.png"]}],
)  # fmt: skip
def test_several_controls(base: Path, controls: dict):
    path = jsonl(base / "set.jsonl", {**controls, "target": "after/a.png"})
    (pair,) = read_table(path, together=True).pairs
    assert sorted(control.name for control in pair.controls) == ["a.png", "b.png"]
    if "control_path_0" in controls:
        assert pair.controls[0].name == "a.png"
    assert [pair.stem for pair in read_table(path).pairs] == ["a_1", "a_2"]


def test_split_and_repeats(base: Path):
    path = jsonl(
        base / "set.jsonl",
        {**ROWS["own"], "split": "validation"},
        {"target": "after/b.png", "repeats": 3},
    )
    first, second = read_table(path).pairs
    assert (first.split, second.split, second.repeats) == ("holdout", "train", 3)
    assert second.controls == ()


def test_targets_of_one_name_in_two_folders(base: Path):
    save(base / "more" / "a.png")
    path = jsonl(base / "set.jsonl", {"target": "after/a.png"}, {"target": "more/a.png"})
    assert [pair.stem for pair in read_table(path).pairs] == ["after_a", "more_a"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.jsonl", b'{"target": "after/a.png"}\n{"target": ', "line 2 is not JSON"),
        ("t.jsonl", b'["after/a.png"]', "line 1 is not an object"),
        ("t.jsonl", b'{"target": "after/x.png"}', r"x\.png \(line 1\)"),
        ("t.jsonl", b'{"pictures": "after/a.png"}', "line 1 names no target.*pictures"),
        ("t.jsonl", b'{"target": "after/a.png", "repeats": -1}', "repeats is -1"),
        ("t.jsonl", b"", "has no rows"),
        ("t.csv", b"target,caption\n", "has no rows"),
        ("t.csv", b"target,caption\nafter/a.png,one,two\n", "line 2 has more fields.*quot"),
        ("t.csv", "target,caption\nafter/a.png,抛光\n".encode("gbk"), "CSV UTF-8"),
    ],
)
def test_mistakes_are_told_with_their_line(base: Path, name: str, content: bytes, says: str):
    path = base / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=says):
        read_table(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["jsonl", "csv"]), st.binary(max_size=80) | st.text(max_size=80))
@example("csv", '"')
@example("csv", "target\r\rx")
@example("jsonl", '{"target": "a\\u0000b"}')
@example("jsonl", '{"target": "' + "y" * 300 + '"}')
@example("jsonl", '{"target": "after/a.png", "repeats": "²"}')
@example("jsonl", '{"target": "after/a.png", "control²": "before/a.png"}')
@example("jsonl", "[" * 100_000)
@example("jsonl", '{"target": ["after/a.png"]}')
@example("jsonl", '{"target": "after/a.png", "control' + "9" * 5000 + '": "before/a.png"}')
@example("csv", "a\0b,c\n1,2")
def test_no_table_breaks_the_reader(base: Path, suffix: str, content: bytes | str):
    """Anything at all is read, or refused with a message of ours."""
    path = base / f"fuzz.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    try:
        read_table(path)
    except DatasetError as error:
        assert str(path) in str(error)
