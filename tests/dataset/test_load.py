"""Every way in leads to the same pairs; every mistake is told with its file and its remedy."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folders import save, save_both
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kontext.dataset.load import (
    LoadedPairs,
    PairSource,
    SourcePairs,
    find_pairs,
    load_pairs,
    split_pairs,
)
from kontext.dataset.pair import DatasetError

NAMES = ["ring_01", "ring 02", "项链", "💍", "x" * 245, "é", "a.b"]


def find(base: Path, control: str = "before", target: str = "after", **options) -> LoadedPairs:
    return find_pairs(PairSource(control, target, base, base / "scratch", **options))


def files(loaded: LoadedPairs) -> dict[str, tuple[tuple[str, ...], str]]:
    return {
        pair.stem: (tuple(path.name for path in pair.controls), pair.target.name)
        for pair in loaded.dataset
    }


@pytest.mark.parametrize("name", NAMES)
def test_two_folders_by_name(tmp_path: Path, name: str):
    save_both(tmp_path, [name, "other"])
    assert files(find(tmp_path))[name] == ((f"{name}.png",), f"{name}.png")


def test_extensions_may_differ(tmp_path: Path):
    for kind in ("png", "jpg", "webp", "bmp", "tiff", "avif"):
        save(tmp_path / "before" / f"to_{kind}.PNG")
        save(tmp_path / "after" / f"to_{kind}.{kind}")
    assert len(find(tmp_path).dataset) == 6


def test_case_and_accent_form_do_not_matter(tmp_path: Path):
    save(tmp_path / "before" / "Cafe\u0301 1.png")
    save(tmp_path / "after" / "CAF\u00c9 1.jpg")
    assert files(find(tmp_path)) == {"CAFÉ 1": (("Cafe\u0301 1.png",), "CAFÉ 1.jpg")}


def test_hidden_and_system_files_are_ignored(tmp_path: Path):
    save_both(tmp_path, ["a"])
    for name in ("._a.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "before" / name).write_bytes(b"")
    save(tmp_path / "before" / "__MACOSX" / "b.png")
    assert list(files(find(tmp_path))) == ["a"]


def test_paths_from_home_absolute_and_quoted(tmp_path: Path, monkeypatch):
    save_both(tmp_path / "data", ["a"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    elsewhere = tmp_path / "input"
    quoted = f'"{tmp_path / "data" / "after"}"'
    assert len(find(elsewhere, "~/data/before", quoted).dataset) == 1


def test_captions_lie_beside_the_target(tmp_path: Path):
    save_both(tmp_path, ["a", "b", "c", "d"])
    after = tmp_path / "after"
    (after / "a.txt").write_bytes("\ufeff抛光\r\n".encode())
    (after / "b.txt").write_text("polish", encoding="utf-16")
    (after / "c.caption").write_text("kohya", encoding="utf-8")
    (tmp_path / "before" / "d.txt").write_text("not this one", encoding="utf-8")
    source = PairSource("before", "after", tmp_path, tmp_path)
    captions = {pair.stem: pair.caption for pair in find_pairs(source, " default ").dataset}
    assert captions == {"a": "抛光", "b": "polish", "c": "kohya", "d": "default"}


def test_captions_in_another_encoding_are_all_named(tmp_path: Path):
    save_both(tmp_path, ["a", "b", "c"])
    for name in ("a", "b"):
        (tmp_path / "after" / f"{name}.txt").write_bytes("首饰精修".encode("gb18030"))
    with pytest.raises(DatasetError, match=r"2 captions are not in UTF-8: a\.txt, b\.txt .* save"):
        find(tmp_path)


def test_all_unmatched_names_are_listed_on_both_sides(tmp_path: Path):
    save_both(tmp_path, ["a"])
    spare = [f"target_{i:02}" for i in range(30)]
    for name in spare:
        save(tmp_path / "after" / f"{name}.png")
    save(tmp_path / "before" / "alone.jpg")
    with pytest.raises(DatasetError) as error:
        find(tmp_path)
    message = str(error.value)
    assert "30 targets have no control" in message and "1 controls have no target" in message
    assert all(f"{name}.png" in message for name in spare) and "alone.jpg" in message
    assert str(tmp_path / "before") in message and "skip" in message
    loaded = find(tmp_path, skip_unmatched=True)
    assert list(files(loaded)) == ["a"]
    assert all(name in "\n".join(loaded.notes) for name in (*spare, "alone.jpg"))


def test_two_files_of_one_name(tmp_path: Path):
    save_both(tmp_path, ["a", "b"])
    save(tmp_path / "after" / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg and a\.png"):
        find(tmp_path, skip_unmatched=True)


def test_a_missing_folder_shows_what_is_there(tmp_path: Path):
    save_both(tmp_path, ["a"])
    with pytest.raises(DatasetError, match=r"no folder .*befor.*holds: after, before"):
        find(tmp_path, "befor")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path):
    save_both(tmp_path, ["a"])
    (tmp_path / "psd").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        find(tmp_path, "psd")
    (tmp_path / "psd" / "a.psd").write_bytes(b"8BPS")
    with pytest.raises(DatasetError, match=r"holds no pictures.*a\.psd"):
        find(tmp_path, "psd")


def test_zero_byte_pictures_are_named(tmp_path: Path):
    save_both(tmp_path, ["a", "b"])
    (tmp_path / "after" / "b.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"1 pictures .* empty \(0 bytes\): b\.png"):
        find(tmp_path)


def test_no_folder_chosen(tmp_path: Path):
    with pytest.raises(DatasetError, match="Choose a control folder"):
        find(tmp_path, "", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [("_start", "_end"), ("_before", "_after"), ("_control", "_target"), ("_R", "_T"),
     ("_r", "_g"), ("_in", "_out"), ("-before", "-after"), ("_修前", "_修后")],
)  # fmt: skip
def test_one_folder_with_endings(tmp_path: Path, before: str, after: str):
    for name in ("Ring_01", "项链"):
        save(tmp_path / f"{name}{before}.png")
        save(tmp_path / f"{name}{after}.jpg")
    (tmp_path / f"Ring_01{after}.txt").write_text("beside", encoding="utf-8")
    (tmp_path / "项链.txt").write_text("by name", encoding="utf-8")
    loaded = find(tmp_path, str(tmp_path), "")
    assert files(loaded)["Ring_01"] == ((f"Ring_01{before}.png",), f"Ring_01{after}.jpg")
    assert {pair.stem: pair.caption for pair in loaded.dataset}["项链"] == "by name"


def test_an_own_pattern_with_two_controls(tmp_path: Path):
    for name in ("line_a", "clay_a", "a", "line_b", "clay_b", "b"):
        save(tmp_path / f"{name}.png")
    loaded = find(tmp_path, str(tmp_path), "", pattern="line_{name} | clay_{name} | {name}")
    assert files(loaded) == {
        "a": (("line_a.png", "clay_a.png"), "a.png"),
        "b": (("line_b.png", "clay_b.png"), "b.png"),
    }


@pytest.mark.parametrize(
    "pattern", ["{name}", "old | new", "{name}{name} | {name}_b", "{name}|{name}"]
)
def test_a_pattern_that_cannot_work(tmp_path: Path, pattern: str):
    save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="{name}|the same name"):
        find(tmp_path, str(tmp_path), "", pattern=pattern)


def test_endings_that_pair_nothing(tmp_path: Path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    with pytest.raises(DatasetError, match=r"_before/_after.*a\.png, b\.png.*{name}_old"):
        find(tmp_path, str(tmp_path), "")


def test_an_ending_without_partner(tmp_path: Path):
    for name in ("a_in", "a_out", "b_in"):
        save(tmp_path / f"{name}.png")
    with pytest.raises(DatasetError, match=r"no partner .*b_in\.png"):
        find(tmp_path, str(tmp_path), "")


def test_repeat_folders(tmp_path: Path):
    for group, repeats in (("ring", 10), ("chain", 2)):
        save(tmp_path / "before" / f"1_{group}" / "001.png")
        save(tmp_path / "after" / f"{repeats}_{group}" / "001.png")
    save(tmp_path / "before" / "flat.png")  # kohya keeps all controls in one folder
    save(tmp_path / "after" / "5_flat" / "flat.png")
    loaded = find(tmp_path)
    repeats = {pair.stem: pair.repeats for pair in loaded.dataset}
    assert repeats == {"10_ring_001": 10, "2_chain_001": 2, "flat": 5}
    assert all(pair.controls[0].stem == pair.target.stem for pair in loaded.dataset)


def test_a_repeat_folder_itself(tmp_path: Path):
    save_both(tmp_path, ["a"])
    (tmp_path / "after").rename(tmp_path / "100_rings")
    (pair,) = find(tmp_path, target="100_rings").dataset
    assert pair.repeats == 100


def test_several_control_folders(tmp_path: Path):
    for folder in ("line", "clay", "after"):
        save(tmp_path / folder / "a.png")
        save(tmp_path / folder / "b.png")
    apart = find(tmp_path, "line | clay")
    assert sorted(files(apart)) == ["a_clay", "a_line", "b_clay", "b_line"]
    together = find(tmp_path, "line | clay", together=True)
    assert [[p.parent.name for p in pair.controls] for pair in together.dataset] == [
        ["line", "clay"],
        ["line", "clay"],
    ]
    (tmp_path / "clay" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 targets have no control.*b\.png.*clay"):
        find(tmp_path, "line | clay")


def test_pictures_without_controls_have_to_be_asked_for(tmp_path: Path):
    save_both(tmp_path, ["a"])
    (pair,) = find(tmp_path, "after", "", single=True).dataset
    assert pair.controls == ()
    for control in ("", " "):
        with pytest.raises(DatasetError, match=r"Choose a control folder.*Load Pictures"):
            find(tmp_path, control)


def test_a_folder_cannot_be_both_sides(tmp_path: Path):
    save_both(tmp_path, ["a"])
    for control, target in (
        ("before", "before"),
        ("before", "after/../before"),
        ("after|after", "before"),
    ):
        with pytest.raises(DatasetError, match="is chosen twice"):
            find(tmp_path, control, target)


@pytest.mark.parametrize(
    ("control", "target"),
    [("before", "after"), ("修前", "修后"), ("control_images", "images"), ("a_source", "b_target")],
)
def test_one_folder_with_two_inside(tmp_path: Path, control: str, target: str):
    save(tmp_path / "set" / control / "a.png")
    save(tmp_path / "set" / target / "a.png")
    (pair,) = find(tmp_path, "set", "").dataset
    assert (pair.controls[0].parent.name, pair.target.parent.name) == (control, target)


def test_two_inside_that_say_nothing(tmp_path: Path):
    save(tmp_path / "set" / "one" / "a.png")
    save(tmp_path / "set" / "two" / "a.png")
    with pytest.raises(DatasetError, match="one, two"):
        find(tmp_path, "set", "")


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters='/\\\0<>:"|?*',
                                      exclude_categories=("Cc", "Cs")), min_size=1, max_size=40),
                min_size=1, max_size=4, unique=True))  # fmt: skip
def test_any_name_pairs_with_itself(tmp_path_factory, names: list[str]):
    base = tmp_path_factory.mktemp("any")
    for side in ("before", "after"):
        (base / side).mkdir()
        for name in names:
            (base / side / f"n{name}.png").write_bytes(b"x")
    try:
        pairs = find(base).dataset
    except DatasetError as error:  # names that differ in case alone, or are one when composed
        assert "belong to several files" in str(error)
    else:
        assert sorted(pair.stem for pair in pairs) == sorted(f"n{name}" for name in names)
        assert all(pair.controls[0].name == pair.target.name for pair in pairs)


def test_a_broken_picture_is_named_when_hold_out_looks_at_it(tmp_path: Path):
    save_both(tmp_path, ["a", "b", "c"])
    (tmp_path / "after" / "b.png").write_bytes(b"\x89PNG broken")
    source = PairSource("before", "after", tmp_path, tmp_path)
    with pytest.raises(DatasetError, match=r"b\.png cannot be read"):
        load_pairs(source, "", 1, tmp_path / "hashes.json")


@pytest.mark.slow
def test_twenty_thousand_pairs(tmp_path: Path):
    """Bounds: 5 s and 100 MB, measured in a process of their own; the files are no pictures."""
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
        for i in range(20_000):
            (tmp_path / side / f"picture_{i:05}.png").write_bytes(b"x")
    root = Path(__file__).resolve().parents[2]
    script = f"""
import importlib, resource, sys, types
from pathlib import Path
pack = types.ModuleType("pack"); pack.__path__ = [{str(root)!r}]; sys.modules["pack"] = pack
load = importlib.import_module("pack.dataset.load")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
base = Path({str(tmp_path)!r})
found = load.load_pairs(load.PairSource("before", "after", base, base), "", 0.1, base / "h.json")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(found.dataset), len(found.dataset.holdout), grown // 1024)
"""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    seconds = time.perf_counter() - begun
    pairs, held, megabytes = map(int, done.stdout.split())
    assert (pairs, held) == (20_000, 2_000)
    assert megabytes < 100
    assert seconds < 5 + 2  # with the start of Python and NumPy


def test_captions_in_json_files_and_in_the_folders_table(tmp_path: Path):
    save_both(tmp_path, ["a", "b", "c", "d", "e"])
    after = tmp_path / "after"
    (after / "a.json").write_text('{"width": 5, "caption": "from json"}', "utf-8")
    (after / "b.json").write_text('{"tags": ["gold", "ring"]}', "utf-8")
    (after / "c.json").write_text('{"width": 5}', "utf-8")
    rows = [{"file_name": "d.png", "text": "from the table"}, {"file_name": "a.png", "text": "no"}]
    (after / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (after / "stray.txt").write_text("nobody's", "utf-8")
    loaded = find(tmp_path)
    captions = {pair.stem: pair.caption for pair in loaded.dataset}
    assert captions == {
        "a": "from json",
        "b": "gold, ring",
        "c": "",
        "d": "from the table",
        "e": "",
    }
    assert "1 captions from metadata.jsonl" in loaded.notes
    assert (
        "1 captions in metadata.jsonl differ from the text files, which were taken" in loaded.notes
    )
    assert any("No caption in c.json" in note for note in loaded.notes)
    assert "Texts without a picture: stray.txt" in loaded.notes


def test_captions_beside_the_control_only(tmp_path: Path):
    save_both(tmp_path, ["a", "b"])
    (tmp_path / "before" / "a.txt").write_text("shine", "utf-8")
    loaded = find(tmp_path)
    assert [pair.caption for pair in loaded.dataset] == ["shine", ""]
    assert "1 captions lie beside the control, none beside the target" in loaded.notes
    (tmp_path / "after" / "b.txt").write_text("polish", "utf-8")
    loaded = find(tmp_path)
    assert [pair.caption for pair in loaded.dataset] == ["", "polish"]
    assert "Captions beside the control are not read: a.txt" in loaded.notes


def test_several_references_by_number(tmp_path: Path):
    """musubi-tuner: image1_0.png, image1_1.png beside image1.png."""
    for name in ("ring_1", "ring_0", "ring_10", "chain", "watch_0", "watch"):
        save(tmp_path / "before" / f"{name}.png")
    for name in ("ring", "chain", "watch", "watch_0"):
        save(tmp_path / "after" / f"{name}.png")
    loaded = find(tmp_path)
    assert {stem: controls for stem, (controls, _) in files(loaded).items()} == {
        "ring": ("ring_0.png", "ring_1.png", "ring_10.png"),
        "chain": ("chain.png",),
        "watch": ("watch.png",),
        "watch_0": ("watch_0.png",),
    }
    assert "References × pairs: 1 × 3, 3 × 1" in loaded.notes


def test_references_by_endings(tmp_path: Path):
    """fal: ROOT_start, ROOT_start2 … and ROOT_end; Pruna: ROOT_input, ROOT_target."""
    for name in ("a_start", "a_start2", "a_end", "b_start", "b_end"):
        save(tmp_path / "fal" / f"{name}.png")
    assert files(find(tmp_path, "fal", "")) == {
        "a": (("a_start.png", "a_start2.png"), "a_end.png"),
        "b": (("b_start.png",), "b_end.png"),
    }
    for name in ("a_input", "a_target", "before_01", "after_01", "戒指前", "戒指后"):
        save(tmp_path / "mixed" / f"{name}.png")
    assert files(find(tmp_path, "mixed", "")) == {
        "a": (("a_input.png",), "a_target.png"),
        "01": (("before_01.png",), "after_01.png"),
        "戒指": (("戒指前.png",), "戒指后.png"),
    }
    for name in ("a_before_1", "a_after_1", "a_before_2", "a_after_2"):
        save(tmp_path / "numbers" / f"{name}.png")
    assert list(files(find(tmp_path, "numbers", ""))) == ["a_1", "a_2"]


def test_pictures_that_cannot_be_opened_are_named(tmp_path: Path):
    save_both(tmp_path, ["a"])
    for side in ("before", "after"):
        save(tmp_path / side / "c.jfif")
        (tmp_path / side / "b.cr2").write_bytes(b"raw")
        (tmp_path / side / "a.psd").write_bytes(b"8BPS")  # what a.png was made from
    with pytest.raises(
        DatasetError, match=r"1 pictures in .*before .*cannot be opened.*b\.cr2. Exp"
    ):
        find(tmp_path)
    loaded = find(tmp_path, skip_unmatched=True)
    assert sorted(files(loaded)) == ["a", "c"]
    assert sum("b.cr2" in note and note.startswith("Skipped") for note in loaded.notes) == 2


def test_a_link_that_leads_nowhere(tmp_path: Path):
    save_both(tmp_path, ["a"])
    (tmp_path / "after" / "a.png").unlink()
    (tmp_path / "after" / "a.png").symlink_to(tmp_path / "moved.png")
    with pytest.raises(DatasetError, match=r"a\.png is a link to .*moved\.png.*Copy"):
        find(tmp_path)


def test_sizes_in_folder_names_are_no_repeats(tmp_path: Path):
    save(tmp_path / "set" / "512_before" / "a.png")
    save(tmp_path / "set" / "512_after" / "a.png")
    for control, target in (("set", ""), ("set/512_before", "set/512_after")):
        loaded = find(tmp_path, control, target)
        assert [pair.repeats for pair in loaded.dataset] == [1]
        assert any("512_after: the number is read as a size" in note for note in loaded.notes)
    (tmp_path / "set" / "512_after").rename(tmp_path / "set" / "40_after")
    assert [pair.repeats for pair in find(tmp_path, "set", "").dataset] == [40]


def test_a_picture_of_several_sources_is_held_out_of_all(tmp_path: Path):
    for name, seeds in (("one", range(8)), ("two", range(4, 12))):
        for seed in seeds:
            save(tmp_path / name / "before" / f"{seed}.png", 2 * seed)
            save(tmp_path / name / "after" / f"{name}{seed}.png", 2 * seed + 1)
        for path in (tmp_path / name / "after").iterdir():
            path.rename(path.with_name(path.name.removeprefix(name)))
    sources = [
        SourcePairs(find(tmp_path / name).dataset.pairs, share)
        for name, share in (("one", 3), ("two", 4))
    ]
    pairs, _ = split_pairs(sources, tmp_path / "hashes.json")
    splits: dict[str, set[str]] = {}
    for pair in pairs:
        splits.setdefault(pair.target.name, set()).add(pair.split)
    assert all(len(split) == 1 for split in splits.values())
    assert len({pair.stem for pair in pairs}) == 16
    held = [pair.target.parts[-3] for pair in pairs if pair.split == "holdout"]
    assert held.count("one") == 3 and held.count("two") <= 4
