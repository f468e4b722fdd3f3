"""Frequencies over captions that were counted by hand."""

from kontext.captioning.stats import caption_stats, chart, table
from kontext.dataset.pair import Pair, PairedDataset

CAPTIONS = {
    "a": "sks, polish it, gold ring, white background, Gold Ring",
    "b": "sks, polish it, silver ring, white background",
    "c": "polish it, 一枚戒指",
    "d": " ",
}


def stats(trigger="sks,"):
    pairs = tuple(Pair(stem, (), f"{stem}.png", text) for stem, text in CAPTIONS.items())
    return caption_stats(PairedDataset(pairs), trigger)


def test_tags_are_counted_once_per_caption():
    counts = {entry.text: entry.count for entry in stats().tags}
    assert counts == {
        "polish it": 3,
        "sks": 2,
        "white background": 2,
        "gold ring": 1,
        "silver ring": 1,
        "一枚戒指": 1,
    }


def test_what_binds_what_is_rare_and_what_is_missing():
    found = stats()
    assert found.in_every(found.tags) == ["polish it"]
    assert found.rare(found.tags) == ["gold ring", "silver ring", "一枚戒指"]
    assert found.missing == ("d",) and found.without_trigger == ("c",)
    assert found.lengths == {"a": 9, "b": 7, "c": 6}


def test_words_leave_out_the_commonest():
    counts = {entry.text: entry.count for entry in stats().words}
    assert "it" not in counts
    assert counts["polish"] == 3 and counts["ring"] == 2 and counts["一枚戒指"] == 1


def test_no_trigger_misses_nothing():
    assert stats("").without_trigger == ()


def test_table_and_chart():
    found = stats()
    lines = table(found, found.tags, 2).splitlines()
    assert lines[0] == "3 of 4 pairs have a caption"
    assert lines[-2:] == ["| polish it | 3 | 100% |", "| sks | 2 | 67% |"]
    picture = chart(found, found.tags, 6)
    binding = [y for y in range(picture.height) if picture.getpixel((335, y)) == (181, 84, 42)]
    assert binding and max(binding) < 3 * 26  # the first row only


def test_a_dataset_without_captions():
    empty = caption_stats(PairedDataset((Pair("a", (), "a.png", ""),)))
    assert table(empty, empty.tags, 5).startswith("0 of 1 pairs have a caption")
    assert chart(empty, empty.tags, 5).width == 900
