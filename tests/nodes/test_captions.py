"""Caption Pairs: the captions that leave the node for the captions that enter it."""

import pytest
from kontext.captioning.captioner import CaptionError
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.nodes.captions import CaptionPairs


def dataset(*captions: str) -> PairedDataset:
    return PairedDataset(
        tuple(
            Pair(f"ring_{i}", (), f"{i}.png", caption, "holdout" if i == 2 else "train")
            for i, caption in enumerate(captions)
        )
    )


WIDGETS = {
    "instruction": "Polish the ring",
    "trigger": "sks,",
    "suffix": "",
    "existing": "keep",
    "template": "",
    "instruction_preset": "own text",
    "describe": "target",
    "limit": 0,
    "limit_unit": "words",
    "save_txt": False,
    "save_tables": False,
    "failed_pictures": "stop",
}


def run(pairs: PairedDataset, **inputs):
    """Run the node as the executor does: every value in a list."""
    node = CaptionPairs.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    values = {"pairs": pairs} | WIDGETS | inputs
    lists = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
    return node.execute(**lists).result


def caption(pairs: PairedDataset, **inputs) -> list[str]:
    return [pair.caption for pair in run(pairs, **inputs)[0]]


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
    assert [pair.stem for pair in run(pairs)[0].holdout] == ["ring_2"]


def test_a_preset_serves_where_no_instruction_is_written():
    preset = {"instruction_preset": "relight (English)", "trigger": ""}
    assert caption(dataset(""), instruction="", **preset)[0].startswith("Relight the scene")
    assert caption(dataset(""), instruction="Mine", **preset) == ["Mine"]


def test_the_limit_is_for_the_description():
    pairs = dataset("a gold ring on a table, soft light")
    assert caption(pairs, limit=6) == ["sks, Polish the ring, a gold ring on a table"]


def test_two_sources_are_refused():
    with pytest.raises(CaptionError, match="either a captioner or descriptions"):
        run(dataset(""), captioner=["x"], descriptions=["y"])
