"""Every way in leads to the same pairs; every mistake is told with its file and its remedy."""

import subprocess
import sys
from pathlib import Path

import pytest
from folders import save, save_both
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kontext.dataset.load import LoadedPairs, PairSource, find_pairs, load_pairs
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
    with pytest.raises(DatasetError, match="{name}|one name"):
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


def test_twenty_thousand_pairs(tmp_path: Path):
    """Bounds: 5 s and 100 MB, measured in a process of their own; the files are no pictures."""
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
        for i in range(20_000):
            (tmp_path / side / f"picture_{i:05}.png").write_bytes(b"x")
    root = Path(__file__).resolve().parents[2]
    script = f"""
import importlib, resource, sys, time, types
from pathlib import Path
pack = types.ModuleType("pack"); pack.__path__ = [{str(root)!r}]; sys.modules["pack"] = pack
load = importlib.import_module("pack.dataset.load")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
base = Path({str(tmp_path)!r})
found = load.load_pairs(load.PairSource("before", "after", base, base), "", 0.1, base / "h.json")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(found.dataset), len(found.dataset.holdout), grown // 1024, time.process_time())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    pairs, held, megabytes, seconds = map(float, done.stdout.split())
    assert (pairs, held) == (20_000, 2_000)
    assert megabytes < 100
    assert seconds < 5 + 2  # of the processor, with the start of Python and NumPy
