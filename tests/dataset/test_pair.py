import os
from pathlib import Path

import pytest
from kontext.dataset.pair import DatasetError, Pair, PairedDataset


@pytest.fixture
def dataset(tmp_path: Path) -> PairedDataset:
    for name in ("a", "a_before", "b", "b_before"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    return PairedDataset(
        (
            Pair("a", (tmp_path / "a_before.png",), tmp_path / "a.png", "clean the ring"),
            Pair("b", (tmp_path / "b_before.png",), tmp_path / "b.png", "", split="holdout"),
        )
    )


def test_split_divides_the_pairs(dataset: PairedDataset):
    assert [pair.stem for pair in dataset.train] == ["a"]
    assert [pair.stem for pair in dataset.holdout] == ["b"]
    assert len(dataset) == 2


def test_captions_replace_only_the_named_pairs(dataset: PairedDataset):
    captions = [pair.caption for pair in dataset.with_captions({"b": "擦亮戒指"})]
    assert captions == ["clean the ring", "擦亮戒指"]
    assert dataset.pairs[1].caption == ""


def test_a_caption_for_no_pair_is_an_error(dataset: PairedDataset):
    with pytest.raises(DatasetError, match="c"):
        dataset.with_captions({"c": "text"})


def test_a_name_may_occur_once(dataset: PairedDataset):
    with pytest.raises(DatasetError, match="more than once: a"):
        PairedDataset((*dataset.pairs, dataset.pairs[0]))


def test_digest_sees_every_change_and_nothing_else(dataset: PairedDataset):
    before = dataset.digest()
    assert PairedDataset(dataset.pairs).digest() == before
    assert dataset.with_captions({"a": "polish"}).digest() != before
    control = dataset.pairs[0].controls[0]
    status = control.stat()
    os.utime(control, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert dataset.digest() != before
