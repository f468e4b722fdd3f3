"""What the pack writes it can read, whatever letters captions and names consist of."""

import csv
import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from folders import save, save_both
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kontext.captioning.sidecars import restore_captions, write_caption, write_tables
from kontext.dataset.load import PairSource, find_pairs
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.dataset.records import json_lines, pair_rows, read_records
from kontext.dataset.table import read_table
from kontext.dataset.text import caption_of
from kontext.files import moment

ANYTHING = st.text(st.characters(), max_size=30)  # all of Unicode, halves of letters too
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20
)
FEW = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FEW
@given(ANYTHING, NAMES)
@example("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\r\nh", "ring")
@example("\ufeff polish \ufeff", "~root")
@example('"quoted", \\n \\', "a\\b")
@example("\ud83d and \ude00", " a ")
@example("sep=;", '"a"')
def test_a_caption_comes_back_from_every_file(tmp_path_factory, text: str, name: str):
    base = tmp_path_factory.mktemp("any")
    names = f"{name}.png", f"{name}2.png"
    try:
        for side in ("before", "after"):
            for picture in names:
                save(base / side / picture)
    except (OSError, ValueError):
        return  # no name on this system
    controls, targets = ([base / side / n for n in names] for side in ("before", "after"))
    pairs = PairedDataset(
        tuple(
            Pair(t.stem, (c,), t, caption_of(text)) for c, t in zip(controls, targets, strict=True)
        )
    )
    rows, folder = pair_rows(pairs)
    (base / "dataset.jsonl").write_bytes(json_lines(rows))
    assert read_records(base / "dataset.jsonl", Path(folder)) == pairs.pairs
    for table in write_tables(pairs):
        read = read_table(table).pairs
        assert [pair.caption for pair in read] == [pair.caption for pair in pairs], table
        files = [[os.path.abspath(path) for path in pair.files] for pair in read]
        assert files == [[str(path) for path in pair.files] for pair in pairs], table
    write_caption(targets[0], pairs.pairs[0].caption, "backup")
    (base / "after" / "metadata.jsonl").unlink()
    (base / "after" / "metadata.csv").unlink()
    if name[0] != ".":
        found = find_pairs(PairSource("before", "after", base, base)).dataset
        assert [p.caption for p in found if p.target == targets[0]] == [pairs.pairs[0].caption]


def test_a_byte_order_mark_is_no_damage(tmp_path: Path):
    save_both(tmp_path, ["a"])
    found = find_pairs(PairSource("before", "after", tmp_path, tmp_path)).dataset
    rows, folder = pair_rows(found)
    path = tmp_path / "dataset.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json_lines(rows).replace(b"\n", b"\r\n\r\n") + b"\0\0")
    assert read_records(path, Path(folder)) == found.pairs
    for damage in (b"{", b"[]", b'{"stem": 1}', b"[" * 100_000, b"null"):
        path.write_bytes(json_lines(rows) + damage)
        with pytest.raises(DatasetError, match=r"dataset\.jsonl, line 2 is damaged"):
            read_records(path, Path(folder))


def test_the_users_own_table_keeps_what_is_not_ours(tmp_path: Path):
    """Other columns, masks, rows of other pictures; and the table as it was lies beside it."""
    save_both(tmp_path, ["a", "b"])
    save(tmp_path / "after" / "c.png")
    table = tmp_path / "after" / "metadata.csv"
    table.write_text(
        "file_name;prompt;mask;width;stars\r\n"
        "a.png;old;../m.png;1024;5\r\n"
        "c.png;not in the set;;512;3\r\n",
        encoding="utf-8-sig",
        newline="",
    )
    before = table.read_bytes()
    pairs = find_pairs(
        PairSource("before", "after", tmp_path, tmp_path, skip_unmatched=True)
    ).dataset.with_captions({"a": "new; shine", "b": "second"})
    write_tables(pairs)
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = {row["file_name"]: row for row in csv.DictReader(file, delimiter=";")}
    assert rows["a.png"]["prompt"] == "new; shine" and rows["a.png"]["mask"] == "../m.png"
    assert (rows["a.png"]["width"], rows["a.png"]["stars"]) == ("1024", "5")
    assert rows["c.png"]["prompt"] == "not in the set" and rows["b.png"]["prompt"] == "second"
    (kept,) = (tmp_path / "after" / "caption_backup").glob("*/metadata.csv")
    assert kept.read_bytes() == before
    once = table.read_bytes()
    write_tables(pairs)
    assert table.read_bytes() == once, "writing again changes nothing"


def test_rows_in_another_tools_words_are_brought_up_to_date(tmp_path: Path):
    save_both(tmp_path, ["a"])
    table = tmp_path / "after" / "metadata.jsonl"
    row = {"image": "a.png", "kontext_images": "../before/a.png", "prompt": "old", "id": 7}
    table.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (pair,) = find_pairs(PairSource("before", "after", tmp_path, tmp_path)).dataset
    write_tables(PairedDataset((replace(pair, caption="new"),)))
    (written,) = map(json.loads, table.read_text(encoding="utf-8").splitlines())
    assert written == {**row, "prompt": "new", "split": "train", "repeats": "1"}


def test_a_table_that_cannot_be_read_is_left_alone(tmp_path: Path):
    save_both(tmp_path, ["a"])
    table = tmp_path / "after" / "metadata.csv"
    table.write_bytes("file_name,text\na.png,抛光\n".encode("gbk"))
    before = table.read_bytes()
    pair = Pair("a", (), tmp_path / "after" / "a.png", "x")
    with pytest.raises(DatasetError, match=r"metadata\.csv is not in UTF-8"):
        write_tables(PairedDataset((pair,)))
    assert table.read_bytes() == before


@pytest.fixture
def frozen(monkeypatch):
    """A clock that stands still, as for two actions within one tick."""
    monkeypatch.setattr("kontext.files.now", lambda: datetime(2026, 1, 1))


def test_every_action_has_a_backup_of_its_own(tmp_path: Path, frozen):
    """Also two within the same second: each keeps what it replaced."""
    save_both(tmp_path, ["a"])
    folder = tmp_path / "after"
    (folder / "metadata.csv").write_text("file_name,text,stars\na.png,by hand,5\n", "utf-8")
    (folder / "a.txt").write_text("by hand", "utf-8")
    pair = Pair("a", (tmp_path / "before" / "a.png",), folder / "a.png", "")
    for caption in ("one", "two", "three"):
        write_tables(PairedDataset((replace(pair, caption=caption),)))
        write_caption(pair.target, caption, moment())
    backups = folder / "caption_backup"
    tables = [path.read_text("utf-8") for path in sorted(backups.glob("*/metadata.csv"))]
    assert [text.split("a.png,")[1].split(",")[0] for text in tables] == ["by hand", "one", "two"]
    texts = [path.read_text("utf-8") for path in sorted(backups.glob("*/a.txt"))]
    assert texts == ["by hand", "one", "two"]

    for _ in range(2):  # and so have two restorings
        (folder / "a.txt").write_text("by hand again", "utf-8")
        assert restore_captions(PairedDataset((pair,)), "latest") == {"a": "two"}
    undone = sorted(backups.glob("*-undone/a.txt"))
    assert [path.read_text("utf-8") for path in undone] == ["by hand again"] * 2


def test_later_backups_sort_behind_even_if_the_clock_is_set_back(monkeypatch):
    days = iter([datetime(2026, 1, 2), datetime(2026, 1, 1), datetime(2026, 1, 3)])
    monkeypatch.setattr("kontext.files.now", lambda: next(days))
    names = [moment() for _ in range(3)]
    assert names == sorted(set(names))
