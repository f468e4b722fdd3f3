"""pairs.yaml: read by the loader, written whole, and no picture is touched by it."""

from pathlib import Path

import pytest
from folders import save_both
from kontext.dataset.choices import FILE, Choices, read_choices, write_choices
from kontext.dataset.load import PairSource, find_pairs, load_pairs
from kontext.dataset.pair import DatasetError

NAMES = ["01", "no", "戒指 3", "d", "e", "f"]


@pytest.fixture
def source(tmp_path: Path) -> PairSource:
    save_both(tmp_path, NAMES)
    return PairSource("before", "after", tmp_path, tmp_path / "scratch")


def test_what_is_written_by_hand_is_read(source):
    text = "excluded: [01, no]\nheld_out:\n- 戒指 3\nrepeats: {d: 3}\nswapped: [e]\n"
    (source.base / "after" / FILE).write_text(text, "utf-8")
    found = find_pairs(source)
    pairs = {pair.stem: pair for pair in found.dataset}
    assert list(pairs) == ["d", "e", "f", "戒指 3"]
    assert pairs["戒指 3"].split == "holdout" and pairs["d"].split == "train"
    assert [pairs[stem].repeats for stem in "def"] == [3, 1, 1]
    assert pairs["e"].target == source.base / "before" / "e.png"
    assert pairs["e"].controls == (source.base / "after" / "e.png",)
    assert "pairs.yaml: 2 left out, 1 held out, 1 swapped, 1 with repeats" in found.notes
    (doubt,) = found.dataset.doubts
    assert doubt.startswith("pairs.yaml leaves out 2 of 6 pairs. If this is not meant")
    write_choices(source.base / "after", Choices(excluded=frozenset({"d"})))
    assert find_pairs(source).dataset.doubts == ()


def test_the_hold_out_of_the_file_is_the_only_one(source):
    write_choices(source.base / "after", Choices(held_out=frozenset({"d", "e"})))
    loaded = load_pairs(source, "", 0.5, source.base / "hashes.json")
    assert {pair.stem for pair in loaded.dataset.holdout} == {"d", "e"}
    assert any("pairs.yaml names" in note for note in loaded.notes)


def test_what_is_written_is_read_again(tmp_path):
    choices = Choices(
        excluded=frozenset({"01", "no", "a: b", "戒指", "~", "é"}),
        repeats={"true": 2},
        instruction="oldprint, clean it: all of it.\nreally",
        ending="# keep",
    )
    write_choices(tmp_path, choices)
    assert read_choices(tmp_path) == choices
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    write_choices(tmp_path, Choices())
    assert read_choices(tmp_path) == Choices() == read_choices(tmp_path / "none")


def test_the_caption_of_a_swapped_pair_lies_beside_its_new_target(source):
    write_choices(source.base / "after", Choices(swapped=frozenset({"d"})))
    (source.base / "after" / "d.txt").write_text("old", "utf-8")
    assert {p.stem: p.caption for p in find_pairs(source).dataset}["d"] == "old"
    (source.base / "before" / "d.txt").write_text("new", "utf-8")
    assert {p.stem: p.caption for p in find_pairs(source).dataset}["d"] == "new"


def test_names_of_no_pair_are_told(source):
    write_choices(source.base / "after", Choices(held_out=frozenset({"d", "gone"})))
    assert any(note.endswith(": gone") for note in find_pairs(source).notes)


@pytest.mark.parametrize(
    "text",
    ["- a", "excluded: a", "excluded: {a: b}", "excluded: [[a]]", "excludd: [a]", "repeats: [a]",
     "repeats: {a: 0}", "repeats: {a: 1001}", "repeats: {a: x}", "repeats: {[a]: 1}", "a: [", "\0",
     "instruction: [a]", "&a [*a]", "[" * 5000, "repeats: {a: " + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_wrong_file_is_named_and_not_passed_over(source, text):
    (source.base / "after" / FILE).write_text(text, "utf-8")
    with pytest.raises(DatasetError, match=r"pairs\.yaml cannot be understood"):
        find_pairs(source)


def test_leaving_out_all_pairs_is_refused(source):
    write_choices(source.base / "after", Choices(excluded=frozenset(NAMES)))
    with pytest.raises(DatasetError, match="leaves out all pairs"):
        find_pairs(source)


def test_tables_and_one_folder_of_endings_have_it_too(tmp_path):
    save_both(tmp_path, ["a", "b", "c"])
    (tmp_path / "metadata.csv").write_text(
        "control,target\n" + "".join(f"before/{n}.png,after/{n}.png\n" for n in "abc"), "utf-8"
    )
    write_choices(tmp_path, Choices(excluded=frozenset({"b"})))
    found = find_pairs(PairSource("metadata.csv", "", tmp_path, tmp_path / "scratch"))
    assert [pair.stem for pair in found.dataset] == ["a", "c"]


@pytest.mark.parametrize("name", ["excluded", "repeats", "instruction"])
def test_aliases_that_would_fill_the_memory_are_refused_at_once(tmp_path, name):
    """Each level names the one before it nine times: written out, 9 to the power of 30 words."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    text = f"{name}: {{x: {{l0: &l0 [a, a], {', '.join(levels)}}}}}"
    (tmp_path / "pairs.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match="pairs.yaml"):
        read_choices(tmp_path)
