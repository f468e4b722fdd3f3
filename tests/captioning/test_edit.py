"""What each edit makes of a caption."""

import threading
import time
from pathlib import Path

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


def test_a_list_of_too_many_patterns_is_refused():
    many = ", ".join(f"*{number}*" for number in range(501))
    with pytest.raises(CaptionError, match="501 entries with \\*; at most 500"):
        edit_caption("a, b", "", Edits(remove_tags=many))


@pytest.mark.parametrize(
    ("find", "replace"),
    [
        ("(", ""),
        ("a", r"\2"),
        ("(" * 1500, ""),  # nested too deeply for the parser
        ("a" * 3000, ""),
        ("(((((a?){30}){30}){30}){30}){30}", ""),  # the library would take 24 GB for it
        ("((((a|b){30}c){30}d){30}e){30}", ""),
    ],
)
def test_a_wrong_regex_is_explained(find, replace):
    with pytest.raises(CaptionError, match="is not a regular expression"):
        edit_caption("a", "", Edits(find=find, replace=replace, regex=True))


def test_before_and_after():
    shown = changes({"a": "old", "b": "same"}, {"a": "new", "b": "same"})
    assert shown == "1 of 2 captions changed\n\na\n− old\n+ new"


HOSTILE = [
    (Edits(remove_tags="*a*a*a*a*a*a*a*a*a*a*b"), "a" * 20_000),
    (Edits(keep_only="*a" * 500 + "b"), "a" * 20_000),
    (Edits(remove_phrases="x"), " " * 20_000 + "y"),
    (Edits(remove_phrases="x", deduplicate=True), "tag, " * 10_000 + "." * 20_000),
    (Edits(find=r"(a|aa)*b", replace="", regex=True), "ab" * 10_000),
    (Edits(remove_tags=", ".join(f"t{i}" for i in range(20_000))), ", t1" * 20_000),
    (Edits(keep_only="！" * 60_000), "！" * 60_000),
    (Edits(remove_tags="*a" * 30_000), "ab, " * 20_000),
    (Edits(order=Order.SORTED, max_tags=3), "9" * 20_000 + ", {" * 20_000),
]


@pytest.mark.parametrize("edits, caption", HOSTILE, ids=range(len(HOSTILE)))
def test_no_pattern_freezes_the_server(edits, caption):
    started = time.perf_counter()
    edit_caption(caption, "ring", edits)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("find", [r"(a+)+$", r"(a|aa)+$", r"(.*a){20}$", r"(?:a?){40}a{40}b"])
def test_a_search_without_end_is_ended(find):
    with pytest.raises(CaptionError, match="more than 1.0 s"):
        edit_caption("a" * 20_000 + "!", "ring", Edits(find=find, regex=True))


def test_others_work_meanwhile():
    """The rest of the server has its turn while a search goes on."""
    turns, searching = [], threading.Event()

    def rest():
        searching.wait()
        while not done.is_set():
            turns.append(1)
            time.sleep(0.01)

    done, thread = threading.Event(), threading.Thread(target=rest)
    thread.start()
    searching.set()
    try:
        with pytest.raises(CaptionError):
            edit_caption("a" * 20_000 + "!", "ring", Edits(find="(a+)+$", regex=True))
    finally:
        done.set()
        thread.join()
    assert len(turns) > 10


@pytest.mark.parametrize(
    "pattern, words, fits",
    [
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*hair", "blue hair", True),
        ("*hair", "hairy", False),
        ("b*e*r", "blue hair", True),
        ("b**r", "blue hair", True),
        ("[a]", "a", False),
        ("a\nb*", "a\nbc", True),
    ],
)
def test_a_star_stands_for_any_letters(pattern, words, fits):
    assert applies(Pair(words, (), Path("a.png"), ""), Where.NAME, pattern) is fits
