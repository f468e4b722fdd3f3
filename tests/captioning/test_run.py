"""A captioning run over a folder: what is asked, saved, kept, skipped and reported."""

import os
import re
import sys

import pytest
from kontext import language
from kontext.captioning.captioner import CaptionError
from kontext.captioning.describe import Side
from kontext.captioning.journal import Journal
from kontext.captioning.presets import WHAT_CHANGED
from kontext.captioning.recipe import Existing, Recipe
from kontext.captioning.run import Options, caption_pairs
from kontext.captioning.sidecars import restore_captions
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from PIL import Image

from proofs.reliability.trap import Trap, kill, trapped

COLOURS = {"blue": "a blue ring", "green": "", "red": "a red ring"}  # picture -> what is on disk


class Namer:
    """Names the colour of a picture; says nothing about black ones, and chokes on wide ones."""

    batch_size = 1
    sees_several = False

    def __init__(self):
        self.calls = []
        self.released = 0

    def key(self):
        return "namer"

    def describe(self, samples):
        self.calls.append(len(samples))
        for sample in samples:
            if sample[0].width > 100:
                raise ValueError("absolute aspect ratio must be smaller than 200")
        return ["/".join(self.colour(picture) for picture in sample) for sample in samples]

    @staticmethod
    def colour(picture):
        channels = picture.getpixel((0, 0))
        return "" if sum(channels) == 0 else ("red", "green", "blue")[channels.index(max(channels))]

    def release(self):
        self.released += 1


class PairNamer(Namer):
    sees_several = True


@pytest.fixture
def pairs(tmp_path):
    made = []
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
    for colour, caption in COLOURS.items():
        for side, shade in (("before", "#300000"), ("after", colour)):
            Image.new("RGB", (16, 16), shade).save(tmp_path / side / f"{colour}.png")
        if caption:
            (tmp_path / "after" / f"{colour}.txt").write_text(caption, encoding="utf-8")
        control, target = (tmp_path / side / f"{colour}.png" for side in ("before", "after"))
        made.append(Pair(colour, (control,), target, caption))
    return PairedDataset(tuple(made))


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "user" / "descriptions.jsonl")


def texts(pairs):
    files = sorted(pairs.pairs[0].target.parent.glob("*.txt"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def run(pairs, journal, source=None, existing=Existing.REPLACE, progress=None, **options):
    recipe = Recipe(instruction="Polish it.", existing=existing)
    quiet = progress or (lambda *_: None)
    captioned, report = caption_pairs(pairs, recipe, source, Options(**options), journal, quiet)
    return {pair.stem: pair.caption for pair in captioned}, report


ALL = {"blue": "Polish it. blue", "green": "Polish it. green", "red": "Polish it. red"}


def test_every_pair_is_described_by_one_call_each(pairs, journal):
    namer = Namer()
    captions, report = run(pairs, journal, namer)
    assert captions == ALL
    assert namer.calls == [1, 1, 1] and namer.released == 1
    assert "3 pairs: 3 described" in report


def test_a_chinese_user_reads_the_report_in_chinese(pairs, journal, monkeypatch):
    monkeypatch.setattr(language, "_source", lambda: "zh")
    Image.new("RGB", (16, 16), "black").save(pairs.pairs[1].target)
    _, report = run(pairs, journal, Namer(), skip_failed=True, save=True)
    names = {"green", "png", "red", "blue", "token", "T5", "caption_backup"}
    assert set(re.findall(r"[A-Za-z]\w*", report)) <= names
    assert report.startswith("3 对：新描述 2 对、失败 1 对\n⚠ green：打标模型对 green.png")


def test_batches(pairs, journal):
    namer = Namer()
    namer.batch_size = 2
    assert run(pairs, journal, namer)[0] == ALL
    assert namer.calls == [2, 1]


@pytest.mark.parametrize(
    ("existing", "red", "asked"),
    [
        (Existing.KEEP, "Polish it. a red ring", 1),
        (Existing.REPLACE, "Polish it. red", 3),
        (Existing.MISSING, "a red ring", 1),
    ],
)
def test_existing_captions(pairs, journal, existing, red, asked):
    namer = Namer()
    captions, _ = run(pairs, journal, namer, existing)
    assert captions["red"] == red and captions["green"] == "Polish it. green"
    assert len(namer.calls) == asked


@pytest.mark.parametrize(
    ("side", "caption"), [(Side.CONTROL, "red"), (Side.TARGET, "blue"), (Side.BOTH, "red/blue")]
)
def test_the_side_described(pairs, journal, side, caption):
    assert run(pairs, journal, PairNamer(), side=side)[0]["blue"] == f"Polish it. {caption}"


@pytest.mark.parametrize("side", [Side.BOTH, Side.CHANGED])
def test_both_sides_need_a_captioner_for_several_pictures(pairs, journal, side):
    with pytest.raises(CaptionError, match="one picture at a time"):
        run(pairs, journal, Namer(), side=side)


def test_what_changed_is_asked_of_both_pictures_instead_of_the_own_question(pairs, journal):
    class Answerer(PairNamer):
        prompt = "Describe it."

        def key(self):
            return self.prompt

        def describe(self, samples):
            return [f"{len(sample)} pictures: {self.prompt}" for sample in samples]

    captioner = Answerer()
    changed = run(pairs, journal, captioner, side=Side.CHANGED)[0]["blue"]
    assert changed == f"Polish it. 2 pictures: {WHAT_CHANGED}"
    assert captioner.prompt == "Describe it."
    assert run(pairs, journal, captioner, side=Side.BOTH)[0]["blue"].endswith("Describe it.")


def test_captions_are_saved_beside_the_targets_and_the_old_ones_kept(pairs, journal):
    before = texts(pairs)
    _, report = run(pairs, journal, Namer(), save=True)
    assert texts(pairs) == ALL
    assert "3 caption files written" in report
    assert restore_captions(pairs, "latest") == COLOURS
    assert texts(pairs) == before


def test_undo_keeps_what_was_written_by_hand_since(pairs, journal):
    before = texts(pairs)
    run(pairs, journal, Namer(), save=True)
    for pair in pairs:
        pair.target.with_suffix(".txt").write_text(f"by hand: {pair.stem}", "utf-8")
    by_hand = texts(pairs)
    for _ in range(2):  # as when the node runs again
        restore_captions(pairs, "latest")
        assert texts(pairs) == before
    (undone,) = pairs.pairs[0].target.parent.glob("caption_backup/*-undone")
    restore_captions(pairs, undone.name)
    assert texts(pairs) == by_hand


def test_saving_the_same_again_writes_nothing(pairs, journal):
    run(pairs, journal, Namer(), save=True)
    backups = list((pairs.pairs[0].target.parent / "caption_backup").iterdir())
    _, report = run(pairs, journal, Namer(), save=True)
    assert "nothing written" in report
    assert list((pairs.pairs[0].target.parent / "caption_backup").iterdir()) == backups


def test_cancel_keeps_what_is_done_and_a_second_run_goes_on(pairs, journal, tmp_path):
    class Cancelled(BaseException):
        """ComfyUI's interrupt is a BaseException too."""

    def cancel_after_two(done, text, picture):
        if done == 2:
            raise Cancelled

    first = Namer()
    with pytest.raises(Cancelled) as caught:
        run(pairs, journal, first, progress=cancel_after_two, save=True)
    assert first.released == 1 and caught  # while the exception is still on its way
    assert texts(pairs) == {"blue": ALL["blue"], "green": ALL["green"], "red": "a red ring"}
    second = Namer()
    captions, report = run(pairs, Journal(journal.lines.path), second)  # as after a restart
    assert captions == ALL
    assert second.calls == [1]
    assert "1 described, 2 from an earlier run" in report


def test_a_changed_picture_is_asked_about_again(pairs, journal):
    run(pairs, journal, Namer())
    Image.new("RGB", (16, 17), "red").save(pairs.pairs[0].target)
    assert run(pairs, journal, Namer())[0]["blue"] == "Polish it. red"


def test_a_cut_off_journal_line_is_ignored(pairs, journal):
    run(pairs, journal, Namer())
    content = journal.lines.path.read_bytes()
    journal.lines.path.write_bytes(content[:-20])
    namer = Namer()
    assert run(pairs, Journal(journal.lines.path), namer)[0] == ALL
    assert namer.calls == [1]


def _break(pairs, how):
    target = pairs.pairs[1].target
    if how == "damaged":
        target.write_bytes(b"not a picture")
    elif how == "silent":
        Image.new("RGB", (16, 16), "black").save(target)
    else:
        Image.new("RGB", (200, 16), "green").save(target)


PROBLEMS = {
    "damaged": "green.png cannot be read as a picture",
    "silent": "said nothing about green.png",
    "refused": "green.png could not be described: absolute aspect ratio",
}


@pytest.mark.parametrize(("how", "problem"), PROBLEMS.items())
@pytest.mark.parametrize("batch", [1, 3])
def test_a_failed_picture_is_skipped_and_reported(pairs, journal, how, problem, batch):
    _break(pairs, how)
    namer = Namer()
    namer.batch_size = batch
    captions, report = run(pairs, journal, namer, save=True, skip_failed=True)
    assert captions == ALL | {"green": ""}
    assert set(texts(pairs)) == {"blue", "red"}
    assert problem in report and "1 failed" in report


@pytest.mark.parametrize(("how", "problem"), PROBLEMS.items())
def test_or_it_stops_the_run(pairs, journal, how, problem):
    _break(pairs, how)
    with pytest.raises(ValueError, match=problem):
        run(pairs, journal, Namer(), save=True)
    assert texts(pairs) == {"blue": ALL["blue"], "red": "a red ring"}


def test_a_run_in_which_everything_fails_says_so(pairs, journal):
    for pair in pairs:
        pair.target.write_bytes(b"")
    with pytest.raises(CaptionError, match="None of the 3.*blue.png is empty"):
        run(pairs, journal, Namer(), skip_failed=True)


def test_a_full_or_read_only_folder_is_named(pairs, journal, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DatasetError, match="blue.txt could not be written: No space left"):
        run(pairs, journal, Namer(), save=True)
    assert texts(pairs) == {"blue": "a blue ring", "red": "a red ring"}
    assert not list(pairs.pairs[0].target.parent.glob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork and SIGKILL")
@pytest.mark.parametrize("moment", range(1, 13))
def test_a_backup_is_whole_wherever_the_process_was_killed(pairs, journal, monkeypatch, moment):
    """And captioned again within the same second, so that the backup has the same name."""
    monkeypatch.setattr("kontext.captioning.run.moment", lambda: "20260101-120000")
    folder = pairs.pairs[0].target.parent
    child = os.fork()
    if child == 0:
        try:
            with trapped(Trap(folder, moment, kill)):
                run(pairs, journal, Namer(), save=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    run(pairs, journal, Namer(), save=True)
    assert texts(pairs) == ALL
    restore_captions(pairs, "latest")
    assert texts(pairs) == {"blue": "a blue ring", "red": "a red ring"}


def test_exported_tables_load_as_the_same_pairs(pairs, journal):
    from kontext.dataset.table import read_table

    run(pairs, journal, Namer(), tables=True)
    folder = pairs.pairs[0].target.parent
    for name in ("metadata.csv", "metadata.jsonl"):
        read = {pair.stem: pair for pair in read_table(folder / name).pairs}
        assert {stem: pair.caption for stem, pair in read.items()} == ALL
        control = read["red"].controls[0].resolve()
        assert control == pairs.pairs[2].controls[0].resolve()


def test_thoughts_are_not_part_of_the_answer(pairs, journal):
    class Thinker(Namer):
        def describe(self, samples):
            return ["<think>\nWhat is it?\n</think>\n\nA ring,\non a table." for _ in samples]

    assert run(pairs, journal, Thinker())[0]["red"] == "Polish it. A ring, on a table."


def test_an_unknown_backup_names_those_there_are(pairs, journal):
    run(pairs, journal, Namer(), save=True)
    with pytest.raises(DatasetError, match="no caption backup '1999'.*There are: 20"):
        restore_captions(pairs, "1999")
