"""Caption Pairs: the captions that leave the node for the captions that enter it."""

import pytest
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.nodes.captions import CaptionPairs


def dataset(*captions: str) -> PairedDataset:
    return PairedDataset(
        tuple(
            Pair(f"ring_{i}", (), f"{i}.png", caption, "holdout" if i == 2 else "train")
            for i, caption in enumerate(captions)
        )
    )


def caption(pairs: PairedDataset, **widgets) -> list[str]:
    """Run the node as the executor does: every value in a list."""
    values = {
        "instruction": "Polish the ring",
        "trigger": "sks,",
        "suffix": "",
        "existing": "keep",
        "template": "",
    } | widgets
    inputs = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
    return [pair.caption for pair in CaptionPairs.execute(pairs=[pairs], **inputs).result[0]]


def test_existing_text_becomes_the_description():
    assert caption(dataset("a gold ring", "")) == [
        "sks, Polish the ring, a gold ring",
        "sks, Polish the ring",
    ]


def test_captioning_twice_changes_nothing():
    once = dataset(*caption(dataset("a gold ring", "")))
    assert caption(once) == [pair.caption for pair in once]


def test_texts_of_another_node_fill_what_is_missing():
    texts = {"descriptions": ["silver", "brass", "tin"]}
    pairs = dataset("a gold ring", "", "")
    assert caption(pairs, **texts) == [
        "sks, Polish the ring, a gold ring",
        "sks, Polish the ring, brass",
        "sks, Polish the ring, tin",
    ]
    assert caption(pairs, existing="only missing", **texts)[0] == "a gold ring"
    assert caption(pairs, existing="replace", **texts)[0] == "sks, Polish the ring, silver"


def test_replace_without_descriptions_leaves_the_instruction():
    assert caption(dataset("old"), existing="replace", trigger="") == ["Polish the ring"]


def test_one_text_serves_all_pairs():
    assert (
        caption(dataset("", ""), descriptions=["一枚戒指"], instruction="精修珠宝。", trigger="")
        == ["精修珠宝。一枚戒指"] * 2
    )


def test_a_list_of_another_length_is_refused():
    with pytest.raises(DatasetError, match="2 descriptions for 3 pairs.*ring_0"):
        caption(dataset("", "", ""), descriptions=["a", "b"])


def test_the_split_survives():
    pairs = dataset("", "", "")
    inputs = {k: [""] for k in ("instruction", "trigger", "suffix", "template")}
    out = CaptionPairs.execute(pairs=[pairs], existing=["keep"], **inputs)
    assert [pair.stem for pair in out.result[0].holdout] == ["ring_2"]
