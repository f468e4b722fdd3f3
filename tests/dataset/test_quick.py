"""The cheap checks: what is surely wrong stops, what is doubtful is said."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from folders import save
from kontext.dataset.finding import ERROR, WARNING
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.dataset.quick import NO_CAPTION, doubts, quick_findings, require_sound
from PIL import Image


def pairs_in(
    base: Path, control: str, target: str, names=("{}.png", "{}.png"), seed: int = 0
) -> list[Pair]:
    return [
        Pair(
            str(number),
            (save(base / control / names[0].format(number), seed + 2 * number),),
            save(base / target / names[1].format(number), seed + 2 * number + 1),
            "polish the ring",
        )
        for number in range(6)
    ]


def severities(pairs: list[Pair]) -> dict[str, str]:
    return {finding.kind: finding.severity for finding in quick_findings(pairs)}


@pytest.mark.parametrize(
    ("control", "target", "severity"),
    [
        ("after", "before", ERROR),
        ("修后", "修前", ERROR),
        ("neutral", "before", ERROR),
        ("neutral", "修图前", ERROR),
        ("neutral", "处理前", ERROR),
        ("after", "neutral", ERROR),
        ("pictures", "input", WARNING),  # may be ComfyUI's own folder
        ("output", "pictures", WARNING),
        ("before", "after", None),
        ("before", "input", None),
        ("修图前", "修图后", None),
        ("one", "two", None),
        ("control_images", "images", None),
        # one level up, beside a number, in brackets, in capitals
        ("after/10_ring", "before/10_ring", ERROR),
        ("after/ring", "before/ring", ERROR),
        ("修图后/戒指", "修图前/戒指", ERROR),
        ("AFTER/10_ring", "BEFORE/10_ring", ERROR),
        ("10_after", "10_before", ERROR),
        ("ring_after", "ring_before", ERROR),
        ("2-after", "1-before", ERROR),
        ("After (edited)", "Before (raw)", ERROR),
        ("成品", "原图", ERROR),
        ("neutral/10_ring", "before/10_ring", ERROR),
        ("before/after", "before/before", ERROR),
        ("raw/ring", "shot before christmas/ring", WARNING),
        ("before/10_ring", "after/10_ring", None),
        ("before/images", "after/images", None),
        ("ring/output/a", "ring/input/b", None),  # ComfyUI's own
        # part of another word, of a name for both, or of the folder that both lie in
        ("beforehand", "afternoon", None),
        ("afternoon", "beforehand", None),
        ("皇后", "门前", None),
        ("修图前后", "清晰", None),
        ("before_after", "sharp", None),
        ("after/line art", "after/clay", None),
    ],
)
def test_folder_names_say_which_side_is_which(tmp_path: Path, control, target, severity):
    pairs = pairs_in(tmp_path, control, target)
    assert severities(pairs).get("swapped") == severity
    if severity == ERROR:
        with pytest.raises(DatasetError, match="swapped.*Exchange the two folders"):
            require_sound(pairs)
    else:
        require_sound(pairs)


def test_file_names_say_it_too(tmp_path: Path):
    assert severities(pairs_in(tmp_path, "a", "b", ("{}_after.png", "{}_before.png"))) == {
        "swapped": ERROR
    }
    assert severities(pairs_in(tmp_path, "c", "c", ("{}_before.png", "{}_after.png"))) == {}


def test_captions_beside_the_control_are_doubtful(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    (tmp_path / "one" / "0.txt").write_text("polish", encoding="utf-8")
    assert severities(pairs) == {"swapped": WARNING}


def test_the_same_file_on_both_sides(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    same = [replace(pair, controls=(pair.target,)) for pair in pairs]
    assert severities(same) == {"identical": ERROR}
    copy = tmp_path / "one" / "copy.png"
    copy.write_bytes(pairs[0].target.read_bytes())
    assert severities([replace(pairs[0], controls=(copy,)), *pairs[1:]]) == {"identical": WARNING}


@pytest.mark.parametrize(
    ("suffix", "options", "severity"),
    [(".webp", {"lossless": True}, ERROR), (".bmp", {}, ERROR), (".jpg", {"quality": 95}, WARNING)],
)
def test_pictures_exported_without_the_edit(tmp_path: Path, suffix, options, severity):
    """Saved again in another format, all of them: the three that are opened show it."""
    pairs = pairs_in(tmp_path, "one", "two")
    for number, pair in enumerate(pairs):
        again = pair.target.with_suffix(suffix)
        Image.open(pair.target).resize((640, 480)).save(pair.target)
        Image.open(pair.target).save(again, **options)
        pairs[number] = replace(pair, controls=(again,))
    assert severities(pairs) == {"identical": severity}
    edited = save(tmp_path / "edited.png", 100, (640, 480))
    assert severities([*pairs[:-1], replace(pairs[-1], target=edited)]) == {}


def test_copies_of_a_pair(tmp_path: Path):
    """The same file elsewhere counts; the same pictures with another caption are no mistake."""
    pairs = pairs_in(tmp_path, "one", "two")
    copy = [tmp_path / side / "copy.png" for side in ("one", "two")]
    for path, whole in zip(copy, pairs[0].files, strict=True):
        path.write_bytes(whole.read_bytes())
    again = replace(pairs[0], stem="copy", controls=(copy[0],), target=copy[1])
    assert severities([*pairs, again]) == {"duplicate": WARNING}
    assert severities([*pairs, replace(again, caption="another")]) == {}
    assert severities([*pairs, replace(again, split="holdout")]) == {"leak": WARNING}


def test_one_target_for_many_controls(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    for pair in pairs[:4]:
        pair.target.write_bytes(pairs[0].target.read_bytes())
    assert severities(pairs) == {"one target": WARNING}
    assert severities(pairs[1:4]) == {}, "too few to say"
    assert severities(pairs[2:]) == {}, "half"
    sides = []
    for number, side in product((3, 4), ("clay", "line")):
        control = save(tmp_path / side / f"{number}.png", 50 + len(sides))
        sides.append(replace(pairs[number], stem=f"{number}_{side}", controls=(control,)))
    assert severities(sides) == {}, "several controls of two targets"


def test_sizes_that_do_not_fit(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    save(pairs[0].target, 1, (48, 32))
    save(pairs[1].controls[0], 2, (96, 96))
    found = {each.kind: each for each in quick_findings(pairs)}
    assert found.keys() == {"aspect", "size"}
    assert "in 1 of 6 pairs: 0 (32×32 → 48×32)" in found["aspect"].message
    assert "in 1 of 6 pairs: 1 (96×96 → 32×32)" in found["size"].message
    save(pairs[0].target, 1, (64, 64))
    save(pairs[1].controls[0], 2, (64, 64))  # a quarter of the pixels
    assert severities(pairs) == {}


def test_all_damaged_pictures_are_named_at_once(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    for pair in pairs[:3]:
        pair.target.write_bytes(b"no picture")
    with pytest.raises(DatasetError) as error:
        require_sound(pairs)
    assert all(str(pair.target) in str(error.value) for pair in pairs[:3])
    assert len(str(error.value).splitlines()) == 3


def test_a_set_is_of_pairs_or_of_pictures(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    bare = [replace(pair, controls=()) for pair in pairs]
    assert require_sound(bare) == []
    with pytest.raises(DatasetError, match="1 of 6 pairs have no control.*: 0. Add it"):
        require_sound([bare[0], *pairs[1:]])


def test_half_of_the_pairs_held_out(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two") + [
        replace(pair, stem=f"{pair.stem}b")
        for pair in pairs_in(tmp_path, "three", "four", seed=100)
    ]

    def held(count: int) -> list[Pair]:
        return [replace(p, split="holdout" if i < count else "train") for i, p in enumerate(pairs)]

    assert severities(held(6)) == {"hold-out": WARNING}
    assert severities(held(4)) == {}
    for count, said in ((8, True), (9, True), (10, False)):  # four, as the guide has it
        assert ("hold-out" in severities(held(4)[:count])) is said
    leaking = [replace(pairs[0], stem="again", split="holdout"), *pairs]
    assert severities(leaking) == {"leak": WARNING}


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("专业珠宝精修，提升光泽", True),
        ("отполировать кольцо", True),
        ("ring_x, 抛光", False),
        ("Größe, café crème", False),
        ("polish “ring”, no marks", False),
    ],
)
def test_letters_that_t5_does_not_know(tmp_path: Path, caption: str, found: bool):
    """Reference: ComfyUI's T5 tokenizer, whose token 2 is the unknown one."""
    from comfy.text_encoders.flux import FluxTokenizer

    pairs = [replace(pair, caption=caption) for pair in pairs_in(tmp_path, "one", "two")]
    assert severities(pairs) == ({"letters": WARNING} if found else {})
    (tokens,) = FluxTokenizer().tokenize_with_weights(caption)["t5xxl"]
    unknown = sum(token == 2 for token, _ in tokens)
    assert bool(unknown) == (found or "抛光" in caption)


def test_captions_that_are_missing_are_counted(tmp_path: Path):
    pairs = pairs_in(tmp_path, "one", "two")
    (finding,) = quick_findings([replace(pairs[0], caption=" "), *pairs[1:]])
    assert finding.message == "1 of 6 pairs have no caption: 0."
    (finding,) = quick_findings([replace(pair, caption="") for pair in pairs])
    assert finding.message == "No pair has a caption yet."


def test_a_node_that_may_be_followed_by_captions_does_not_miss_them(tmp_path: Path):
    dataset = PairedDataset(tuple(replace(p, caption="") for p in pairs_in(tmp_path, "one", "two")))
    (missed,) = doubts(dataset)
    assert missed.startswith("No pair has a caption yet.")
    assert doubts(dataset, without={NO_CAPTION}) == []
