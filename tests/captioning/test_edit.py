"""What each edit makes of a caption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kontext.captioning.captioner import CaptionError
from kontext.captioning.edit import (
    Case,
    Edits,
    Order,
    Where,
    applies,
    changes,
    edit_caption,
    split_tags,
    words_of,
)
from kontext.dataset.pair import Pair

TAGS = "sks, 1girl, long hair, red hair, smile, 1girl, ^_^, white background"


@pytest.mark.parametrize(
    ("edits", "caption"),
    [
        ({}, TAGS),
        (
            {"find": "hair", "replace": "fur"},
            "sks, 1girl, long fur, red fur, smile, 1girl, ^_^, white background",
        ),
        ({"find": r"(\d)girl", "replace": r"\1 girl", "regex": True}, TAGS.replace("1g", "1 g")),
        ({"remove_tags": "1girl, *hair"}, "sks, smile, ^_^, white background"),
        ({"remove_tags": "hair"}, TAGS),
        (
            {"remove_phrases": "hair， WHITE"},
            "sks, 1girl, long, red, smile, 1girl, ^_^, background",
        ),
        ({"keep_only": "sks\nsmile\nlong*"}, "sks, long hair, smile"),
        (
            {"deduplicate": True},
            "sks, 1girl, long hair, red hair, smile, ^_^, white background",
        ),
        (
            {"deduplicate": True, "keep_first": 2},
            "sks, 1girl, long hair, red hair, smile, ^_^, white background",
        ),
        (
            {"order": Order.SORTED, "keep_first": 1},
            "sks, 1girl, 1girl, ^_^, long hair, red hair, smile, white background",
        ),
        ({"max_tags": 3}, "sks, 1girl, long hair"),
        ({"max_tags": 2, "keep_first": 1, "remove_tags": "1girl, sks"}, "sks, long hair"),
        ({"case": Case.UPPER}, TAGS.upper()),
        ({"case": Case.SENTENCE}, "S" + TAGS[1:]),
        ({"prefix": "photo,", "suffix": "4k"}, f"photo, {TAGS}, 4k"),
    ],
)
def test_one_edit(edits, caption):
    assert edit_caption(TAGS, "stem", Edits(**edits)) == caption


@pytest.mark.parametrize(
    ("caption", "removed", "left"),
    [
        ("Polish it. a gold ring, soft light.", "soft light", "Polish it. a gold ring"),
        ("精修珠宝。一枚戒指，白色背景，柔光", "白色背景", "精修珠宝。一枚戒指，柔光"),
        ("一枚戒指，白色背景", "一枚戒指", "白色背景"),
        ("2.5 carat, v1.0 ring", "2.5 carat", "v1.0 ring"),
        ("!?, smile, ;d", "smile", "!?, ;d"),
    ],
)
def test_tags_in_sentences_and_in_chinese(caption, removed, left):
    assert edit_caption(caption, "", Edits(remove_tags=removed)) == left


def test_shuffling_is_fixed_by_seed_and_differs_between_captions():
    edits = Edits(order=Order.SHUFFLED, keep_first=1, seed=3)
    once = edit_caption(TAGS, "a", edits)
    assert once == edit_caption(TAGS, "a", edits)
    assert once != edit_caption(TAGS, "b", edits)
    assert once.startswith("sks, ") and sorted(once.split(", ")) == sorted(TAGS.split(", "))


@given(st.text("ab ,.，。\n^_!", max_size=40))
def test_no_edit_changes_nothing(text):
    assert edit_caption(text, "", Edits()) == text


@given(st.lists(st.text("abc ", min_size=1, max_size=5).map(str.strip).filter(bool), max_size=8))
def test_tags_survive_splitting_and_sorting(tags):
    ordered = edit_caption(", ".join(tags), "", Edits(order=Order.SORTED))
    assert [words_of(tag) for tag in split_tags(ordered)] == sorted(tags)


@pytest.mark.parametrize(
    ("where", "text", "selected"),
    [
        (Where.ALL, "", True),
        (Where.CONTAINS, "GOLD", True),
        (Where.CONTAINS, "silver", False),
        (Where.LACKS, "silver", True),
        (Where.NAME, "ring_*", True),
        (Where.NAME, "*_08", False),
    ],
)
def test_filters(where, text, selected):
    assert applies(Pair("Ring_07", (), "t.png", "a gold ring"), where, text) is selected


@pytest.mark.parametrize(("find", "replace"), [("(", ""), ("a", r"\2")])
def test_a_wrong_regex_is_explained(find, replace):
    with pytest.raises(CaptionError, match="is not a regular expression"):
        edit_caption("a", "", Edits(find=find, replace=replace, regex=True))


def test_before_and_after():
    shown = changes({"a": "old", "b": "same"}, {"a": "new", "b": "same"})
    assert shown == "1 of 2 captions changed\n\na\n− old\n+ new"
