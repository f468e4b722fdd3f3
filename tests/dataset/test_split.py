"""Which pairs are held out."""

from pathlib import Path

import pytest
from folders import picture, save_both
from hypothesis import given
from hypothesis import strategies as st
from kontext.dataset.alike import HashStore, source_groups
from kontext.dataset.load import PairSource, load_pairs
from kontext.dataset.pair import DatasetError, Pair
from kontext.dataset.split import hold_out

stems = st.lists(st.text(min_size=1, max_size=8), min_size=12, max_size=60, unique=True)


def pairs_of(names) -> list[Pair]:
    return [Pair(name, (), Path(name), "") for name in names]


def held(names, holdout: float, groups=None) -> set[str]:
    pairs, _ = hold_out(pairs_of(names), holdout, groups or {name: name for name in names})
    return {pair.stem for pair in pairs if pair.split == "holdout"}


@given(stems, st.floats(0.05, 0.5))
def test_a_fraction_holds_out_that_many_but_at_least_four(names, fraction):
    assert len(held(names, fraction)) == max(4, round(fraction * len(names)))


@given(stems, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(names, random):
    shuffled = random.sample(names, len(names))
    assert held(names, 5) == held(shuffled, 5)


@given(stems, st.lists(st.text("xyz", min_size=9), max_size=5, unique=True))
def test_each_added_pair_changes_at_most_one_place(names, added):
    before, after = held(names, 5), held(names + added, 5)
    assert len(before - after) <= len(added)


@given(stems)
def test_a_group_is_never_divided(names):
    groups = {name: names[i - i % 3] for i, name in enumerate(names)}
    chosen = held(names, 6, groups)
    for group in set(groups.values()):
        members = {name for name in names if groups[name] == group}
        assert members <= chosen or not members & chosen


@pytest.mark.parametrize(("holdout", "few"), [(3, True), (4, False), (0.1, False)])
def test_fewer_than_four_is_said(holdout: float, few: bool):
    names = [f"p{i}" for i in range(20)]
    _, warnings = hold_out(pairs_of(names), holdout, {name: name for name in names})
    assert any("Only 3 pairs" in warning for warning in warnings) == few


def test_holding_out_everything_is_refused():
    with pytest.raises(DatasetError, match="Holding out 5 of 5"):
        held("abcde", 5)


def test_versions_of_one_picture_stay_together(tmp_path: Path):
    """A re-saved and a resized copy of the same photograph are one source."""
    save_both(tmp_path, [f"p{i}" for i in range(6)])
    for side, seed in (("before", 0), ("after", 1)):
        picture(seed).save(tmp_path / side / "copy.jpg", quality=70)
        picture(seed, (48, 48)).save(tmp_path / side / "larger.png")
    source = PairSource("before", "after", tmp_path, tmp_path)
    pairs = load_pairs(source, "", 0, tmp_path / "h.json").dataset.pairs
    groups = source_groups(pairs, HashStore(tmp_path / "h.json"))
    assert groups["copy"] == groups["larger"] == groups["p0"]
    assert len(set(groups.values())) == 6


def test_pairs_with_one_target_stay_together(tmp_path: Path):
    save_both(tmp_path, ["a", "b", "c", "d"])
    (tmp_path / "before").rename(tmp_path / "clay")
    save_both(tmp_path, ["a", "b", "c", "d"])
    source = PairSource("before | clay", "after", tmp_path, tmp_path)
    dataset = load_pairs(source, "", 4, tmp_path / "h.json").dataset
    targets = {pair.target for pair in dataset.holdout}
    assert len(dataset.holdout) == 4 and len(targets) == 2


def test_a_picture_is_decoded_once(tmp_path: Path, monkeypatch):
    save_both(tmp_path, [f"p{i}" for i in range(6)])
    source = PairSource("before", "after", tmp_path, tmp_path)
    first = load_pairs(source, "", 2, tmp_path / "h.json").dataset
    monkeypatch.setattr("kontext.dataset.alike.thumbnail", None)
    assert load_pairs(source, "", 2, tmp_path / "h.json").dataset == first
