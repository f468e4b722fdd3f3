"""Training at several resolutions: every pair at each of them, as often."""

from dataclasses import replace

import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.data import prefetch
from kontext.trainer.data.cache import Cache
from kontext.trainer.data.sizes import too_small
from kontext.trainer.loss import holdout

from ..short_runs import SHORT


@pytest.mark.parametrize(
    "text, sides",
    [
        (512, (512,)),
        ("768", (768,)),
        ([512, 768], (512, 768)),
        ("512, 768", (512, 768)),
        (" 1024 ，768; 1024 ", (1024, 768)),
    ],
)
def test_sides_are_read_from_text(text, sides):
    assert TrainConfig(resolution=text).sides == sides


@pytest.mark.parametrize(
    "text", ["512 x 768", "32", "512, big", "4096", "-512", "512.5", "", "9" * 99]
)
def test_other_text_is_refused(text):
    with pytest.raises(ConfigError, match="resolution is .*512, 768"):
        TrainConfig(resolution=text)


def test_a_pair_is_encoded_at_each_and_never_enlarged(base, make_pairs, tmp_path):
    (pair,) = make_pairs(tmp_path, 1, size=(192, 128))
    config = TrainConfig(resolution="96, 128, 1024")
    cache = Cache(tmp_path / "cache", base, config)
    with torch.inference_mode():
        encoded = {side: cache.encode(pair, False, side) for side in config.sides}
        assert cache.encode(pair) == encoded[96]
    shapes = {side: each.shape[0][2:] for side, each in encoded.items()}
    assert shapes == {96: (10, 14), 128: (12, 18), 1024: (16, 24)}
    assert len({each.text for each in encoded.values()}) == 1


@pytest.mark.slow
def test_an_epoch_has_every_pair_at_every_side(run_training, make_pairs, monkeypatch, tmp_path):
    """In an order that follows from the seed: the same when it is run again."""
    seen = []
    real = prefetch.load_batch

    def load(pairs, *rest):
        batch = real(pairs, *rest)
        seen.append((pairs[0].stem, tuple(batch.target.shape[2:])))
        return batch

    monkeypatch.setattr(prefetch, "load_batch", load)
    config = SHORT.replace(resolution="96, 64", steps=12, save_every=12)
    pairs = make_pairs(tmp_path / "large", 3, size=(96, 96))
    run_training(config, pairs=pairs)
    run_training(config, pairs=pairs, name="again")
    expected = [(f"{i:03}", shape) for i in range(3) for shape in ((8, 8), (12, 12))]
    assert sorted(seen[:6]) == sorted(seen[6:12]) == sorted(expected)
    assert seen[:12] == seen[12:]


def test_held_out_pairs_are_measured_at_the_first(run_training, make_pairs, monkeypatch, tmp_path):
    shapes = set()
    real = holdout.load_batch

    def load(pairs, *rest):
        shapes.add(pairs[0].shape[0][2:])
        return real(pairs, *rest)

    monkeypatch.setattr(holdout, "load_batch", load)
    first, *rest = make_pairs(tmp_path / "held", 3, size=(96, 96))
    pairs = PairedDataset((replace(first, split="holdout"), *rest))
    run_training(SHORT.replace(resolution="64, 96", steps=2), pairs=pairs)
    assert shapes == {(8, 8)}


def test_targets_much_smaller_than_the_resolution(make_pairs, tmp_path):
    pairs = make_pairs(tmp_path, 3, size=(192, 128)).pairs
    (doubt,) = too_small(pairs, TrainConfig(resolution="512, 768"))
    assert doubt.startswith(
        "3 of 3 targets are much smaller than the resolution 512: 000 has 192 ×"
    )
    assert too_small(pairs, TrainConfig(resolution=313)) == [], "just half of it"
    assert too_small(pairs, TrainConfig(resolution="96, 1024")) == [], "they have the first"
