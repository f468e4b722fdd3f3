"""Captions on disk while somebody writes them: never over another's, and always taken back."""

from pathlib import Path

import pytest
from kontext.captioning.bulk import Bulk
from kontext.captioning.captioner import CaptionError
from kontext.captioning.desk import ConflictError, Desk
from kontext.dataset.choices import read_choices
from kontext.dataset.load import PairSource, find_pairs
from kontext.dataset.pair import DatasetError
from PIL import Image

NAMES = ["a", "b", "c"]
TEXTS = {"a": "Clean it. a red ring, gold", "b": "Clean it. a blue ring", "c": ""}


@pytest.fixture
def source(tmp_path: Path) -> PairSource:
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
        for name in NAMES:
            Image.new("RGB", (8, 8), side == "after" and "red" or "blue").save(
                tmp_path / side / f"{name}.png"
            )
    for name, text in TEXTS.items():
        if text:
            (tmp_path / "after" / f"{name}.txt").write_text(text, "utf-8")
    return PairSource("before", "after", tmp_path, tmp_path / "scratch")


@pytest.fixture
def desk(source) -> Desk:
    made = Desk(source)
    made.apply(made.preview_shared(range(3), "Clean it.", "sharp"), ("Clean it.", "sharp"))
    return made


def on_disk(source) -> dict[str, bytes]:
    folder = source.base / "after"
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.txt"))}


def loaded(source) -> dict[str, str]:
    return {pair.stem: pair.caption for pair in find_pairs(source).dataset}


def test_what_all_share_stands_around_each_description(desk, source):
    assert on_disk(source) == {
        "a": b"Clean it. a red ring, gold, sharp",
        "b": b"Clean it. a blue ring, sharp",
        "c": b"Clean it. sharp",
    }
    assert read_choices(source.base / "after").instruction == "Clean it."
    assert [desk.description(number) for number in range(3)] == [
        "a red ring, gold",
        "a blue ring",
        "",
    ]
    again = Desk(source)
    assert again.captions == desk.captions and again.description(0) == "a red ring, gold"


def test_another_instruction_takes_the_place_of_the_old_one(desk, source):
    changes = desk.preview_shared(range(3), "p0lish, Polish it:", "")
    desk.apply(changes, ("p0lish, Polish it:", ""))
    assert loaded(source)["a"] == "p0lish, Polish it: a red ring, gold"
    assert loaded(source)["c"] == "p0lish, Polish it:"


def test_a_description_is_saved_and_typing_on_is_one_step(desk, source):
    steps = len(desk.steps)
    for text in ("a g", "a green", "a green ring"):
        desk.write(1, desk.opened.keys[1], desk.captions[1], text)
    assert on_disk(source)["b"] == b"Clean it. a green ring, sharp"
    assert len(desk.steps) == steps + 1
    desk.undo()
    assert on_disk(source)["b"] == b"Clean it. a blue ring, sharp"
    desk.undo()
    assert {name: text.decode() for name, text in on_disk(source).items()} == TEXTS
    assert read_choices(source.base / "after").instruction == ""
    with pytest.raises(DatasetError, match="nothing to undo"):
        desk.undo()


def test_the_first_state_is_kept(desk, source):
    desk.write(0, desk.opened.keys[0], desk.captions[0], "other")
    (backup,) = (source.base / "after" / "caption_backup").iterdir()
    assert (backup / "a.txt").read_text("utf-8") == TEXTS["a"]
    assert (backup / "c.txt.none").exists()
    assert not any("caption_backup" in note for note in find_pairs(source).notes)


def test_a_file_that_something_else_changed_is_not_overwritten(desk, source):
    file = source.base / "after" / "a.txt"
    file.write_text("by an editor", "utf-8")
    with pytest.raises(ConflictError) as conflict:
        desk.write(0, desk.opened.keys[0], "Clean it. a red ring, gold, sharp", "mine")
    assert conflict.value.found == {0: "by an editor"}
    assert file.read_text("utf-8") == "by an editor"
    desk.write(0, desk.opened.keys[0], "by an editor", "mine")  # seen, and decided
    assert file.read_text("utf-8") == "Clean it. mine, sharp"


def test_undo_does_not_overwrite_either(desk, source):
    file = source.base / "after" / "a.txt"
    desk.write(0, desk.opened.keys[0], desk.captions[0], "mine")
    file.write_text("by an editor", "utf-8")
    with pytest.raises(ConflictError):
        desk.undo()
    assert file.read_text("utf-8") == "by an editor"


def test_of_many_captions_only_the_changed_one_is_left_alone(desk, source):
    changes = desk.preview(range(3), Bulk("replace", "ring", "band"))
    assert [change.number for change in changes] == [0, 1]
    (source.base / "after" / "b.txt").write_text("by an editor", "utf-8")
    assert desk.apply(changes) == {1: "by an editor"}
    assert loaded(source)["a"] == "Clean it. a red band, gold, sharp"
    assert loaded(source)["b"] == "by an editor"


@pytest.mark.parametrize(
    "bulk, expected",
    [
        (Bulk("replace", r"(red|blue) (\w+)", r"\2 in \1", regex=True), "a ring in red, gold"),
        (Bulk("add", "photo"), "photo, a red ring, gold"),
        (Bulk("add", "Gold", at_end=True), "a red ring, gold"),
        (Bulk("add", "photo", at_end=True), "a red ring, gold, photo"),
        (Bulk("remove", "red"), "a ring, gold"),
        (Bulk("untag", "gold"), "a red ring"),
        (Bulk("untag", "ring"), "a red ring, gold"),
        (Bulk("replace", "Clean", "Spoil"), "a red ring, gold"),  # the instruction stays
    ],
)
def test_bulk_edits(desk, bulk, expected):
    after = {change.number: change.after for change in desk.preview([0], bulk)}
    assert after.get(0, desk.captions[0]) == f"Clean it. {expected}, sharp"


@pytest.mark.parametrize("find", ["(a+)+$", "(", "(?P<x>a)(?P=y)"])
def test_expressions_that_never_end_or_are_none_are_refused(source, find):
    (source.base / "after" / "a.txt").write_text("a" * 10_000 + "!", "utf-8")
    with pytest.raises(CaptionError):
        Desk(source).preview(range(3), Bulk("replace", find, "x", regex=True))


def test_captions_beside_controls_are_not_lost_by_the_first_one_beside_a_target(source):
    for name, text in TEXTS.items():
        (source.base / "after" / f"{name}.txt").unlink(missing_ok=True)
        (source.base / "before" / f"{name}.txt").write_text(text or "see", "utf-8")
    desk = Desk(source)
    desk.write(1, desk.opened.keys[1], TEXTS["b"], "mine")
    assert loaded(source) == {"a": TEXTS["a"], "b": "mine", "c": "see"}


def test_a_swapped_pair_has_its_caption_beside_the_new_target(desk, source):
    desk.choose([0], "swapped", True)
    desk.write(0, desk.opened.keys[0], desk.captions[0], "turned")
    assert (source.base / "before" / "a.txt").read_text("utf-8") == "Clean it. turned, sharp"
    assert loaded(source)["a"] == "Clean it. turned, sharp"
    desk.undo()
    desk.undo()
    assert loaded(source)["a"] == "Clean it. a red ring, gold, sharp"


def test_pairs_of_one_target_share_its_caption(source):
    (source.base / "clay").mkdir()
    for name in NAMES:
        Image.new("RGB", (8, 8), "grey").save(source.base / "clay" / f"{name}.png")
    desk = Desk(PairSource("before|clay", "after", source.base, source.scratch))
    number = next(n for n, pair in enumerate(desk.pairs) if pair.stem == "b_clay")
    desk.write(number, desk.opened.keys[number], TEXTS["b"], "both")
    assert sorted(desk.captions).count("both") == 2


def test_a_table_is_decided_on_but_its_captions_are_not_written(source):
    rows = "".join(f"before/{name}.png,after/{name}.png,{name} text\n" for name in NAMES)
    (source.base / "metadata.csv").write_text(f"control,target,caption\n{rows}", "utf-8")
    desk = Desk(PairSource("metadata.csv", "", source.base, source.scratch))
    assert "metadata.csv" in desk.unwritable
    with pytest.raises(DatasetError, match=r"metadata\.csv"):
        desk.write(0, desk.opened.keys[0], "a text", "mine")
    desk.choose([0], "excluded", True)
    assert len(find_pairs(desk.source).dataset) == 2
    desk.undo()
    assert len(find_pairs(desk.source).dataset) == 3


def put_first(source) -> None:
    """A new pair, which stands before all others."""
    for side in ("before", "after"):
        Image.new("RGB", (8, 8), "green").save(source.base / side / "0.png")


def test_undo_and_answers_follow_a_pair_to_another_number(desk, source):
    desk.write(1, desk.opened.keys[1], desk.captions[1], "a green ring")
    desk.answer(desk.opened.keys[2], "an old print", "")
    desk.answer(desk.opened.keys[0], "", "too dark")
    put_first(source)
    desk.look_again()
    desk.answer(desk.opened.keys[1], "a red ring", "")  # asked before, said now
    assert desk.asking.texts == {3: "an old print", 1: "a red ring"}
    assert desk.asking.problems == {1: "too dark"}
    desk.undo()
    assert on_disk(source)["b"] == b"Clean it. a blue ring, sharp"
    assert desk.captions[2] == "Clean it. a blue ring, sharp"


def test_the_captions_of_pairs_that_are_gone_are_not_undone_elsewhere(desk, source):
    desk.write(2, desk.opened.keys[2], desk.captions[2], "mine")
    desk.write(1, desk.opened.keys[1], desk.captions[1], "mine")
    for side in ("before", "after"):
        (source.base / side / "c.png").unlink()
    desk.look_again()
    desk.undo()
    assert loaded(source)["b"] == "Clean it. a blue ring, sharp"
    desk.undo()  # the instruction, of those that are left
    assert loaded(source) == {"a": TEXTS["a"], "b": TEXTS["b"]}


def test_what_is_written_is_what_is_read_back(desk):
    for text in ("a\0b", "half \ud83d", "\ufeffring", '"quoted"\n👩‍🎨 ring'):
        desk.write(1, desk.opened.keys[1], desk.captions[1], text)
        desk.look_again()
        desk.write(1, desk.opened.keys[1], desk.captions[1], "ring")


def test_a_number_of_another_listing_is_refused(desk, source):
    key = desk.opened.keys[1]
    for side in ("before", "after"):
        (source.base / side / "a.png").unlink()
    desk.look_again()
    with pytest.raises(DatasetError, match="Reload"):
        desk.write(1, key, desk.captions[1], "mine")
