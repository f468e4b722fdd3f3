"""What a mask is to the loss: the place to learn, in the target's own geometry."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kontext.dataset.geometry import crop_alike
from kontext.dataset.pair import DatasetError, PairedDataset
from kontext.trainer.batch import load_batch
from kontext.trainer.config import TrainConfig
from kontext.trainer.data.cache import Cache
from kontext.trainer.loss.flow import velocity_loss
from kontext.trainer.loss.objective import place_weights
from PIL import Image, ImageOps

from ..short_runs import SHORT, assert_same, last_lora

CPU = torch.device("cpu")


def with_masks(pairs, stems, paint):
    """The pairs, those of `stems` with a mask that `paint` makes of the target."""
    made = []
    for pair in pairs:
        path = pair.target.with_name(f"{pair.stem}_mask.png")
        if pair.stem in stems:
            paint(Image.open(pair.target)).save(path)
        made.append(replace(pair, mask=path) if pair.stem in stems else pair)
    return PairedDataset(tuple(made))


def left_half(target):
    mask = Image.new("L", target.size)
    mask.paste(255, (0, 0, target.width // 2, target.height))
    return mask


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("change", [{}, {"aspect": "square"}, {"resolution": 96}])
def test_a_mask_is_cut_as_its_target_is(base, make_pairs, tmp_path, change, flip):
    """Reference: the target through crop_alike, averaged over each latent's 8 × 8 pixels."""
    pairs = make_pairs(tmp_path, 1, size=(192, 112))
    (pair,) = with_masks(pairs, ["000"], lambda target: target.convert("L"))
    cache = Cache(tmp_path / "cache", base, TrainConfig(**change))
    with torch.inference_mode():
        batch = load_batch([cache.encode(pair, flip)], None, CPU)
    (cut,) = crop_alike([Image.open(pair.target)], [cache.sizes(pair)[0]])
    grey = torch.from_numpy(np.array((ImageOps.mirror(cut) if flip else cut).convert("L")))
    expected = torch.nn.functional.avg_pool2d(grey[None, None].float() / 255, 8)
    assert batch.mask.shape == (1, 1, *batch.target.shape[2:])
    torch.testing.assert_close(batch.mask, expected, rtol=0, atol=3 / 255)


def test_weights_inside_and_outside(make_batch):
    """Closed forms: the ratio is the setting, the mean is 1, and a pair without mask is even."""
    mask = torch.zeros(2, 1, 8, 12)
    mask[0, ..., :3] = 1
    mask[1] = 1
    batch = replace(make_batch(2), mask=mask)
    for outside in (0.0, 0.1, 0.5):
        weight = place_weights(batch, TrainConfig(outside_mask=outside))
        torch.testing.assert_close(weight.mean(dim=(1, 2, 3)), torch.ones(2))
        torch.testing.assert_close(
            weight[0, ..., 3:], (outside * weight[0, ..., :1]).expand(1, 8, 9)
        )
        torch.testing.assert_close(weight[1], torch.ones(1, 8, 12))
    assert place_weights(batch, TrainConfig(outside_mask=1.0)) is None


def test_errors_outside_do_not_count_at_zero(make_batch):
    batch = make_batch(1)
    mask = torch.zeros(1, 1, 8, 12)
    mask[..., :6] = 1
    weight = place_weights(replace(batch, mask=mask), TrainConfig(outside_mask=0.0))
    noise = torch.zeros_like(batch.target)
    wrong = -batch.target.clone()
    wrong[..., 6:] += 100
    assert velocity_loss(wrong, noise, batch.target, TrainConfig(), weight).item() == 0


def test_masked_and_other_pairs_share_a_batch(base, pairs, tmp_path):
    mixed = with_masks(pairs, ["001"], left_half)
    cache = Cache(tmp_path / "cache", base, TrainConfig())
    with torch.inference_mode():
        batch = load_batch([cache.encode(pair) for pair in mixed], None, CPU)
        bare = load_batch([cache.encode(pair) for pair in pairs], None, CPU)
    assert bare.mask is None
    assert batch.mask[[0, 2, 3]].min() == 1
    assert batch.mask[1, ..., :3].min() == 1 and batch.mask[1, ..., 5:].max() == 0


def test_a_black_mask_is_refused_before_anything_is_encoded(base, pairs, tmp_path):
    black = with_masks(pairs, ["000"], lambda target: Image.new("L", target.size))
    cache = Cache(tmp_path / "cache", base, TrainConfig())
    with pytest.raises(DatasetError, match="black all over"):
        cache.encode_images(black.pairs[0])
    assert not [*cache.folder.iterdir()]


def test_masks_steer_what_is_learnt(run_training, pairs):
    """With `outside_mask` 1 a mask is as good as none, bit for bit; below, another LoRA comes."""
    masked = with_masks(pairs, ["000", "002"], left_half)
    config = SHORT.replace(steps=3, save_every=3)
    plain = last_lora(run_training(config, name="plain"))
    even = run_training(config.replace(outside_mask=1.0), name="even", pairs=masked)
    assert_same(last_lora(even), plain)
    steered = last_lora(run_training(config, name="steered", pairs=masked))
    assert any(not torch.equal(steered[name], plain[name]) for name in plain)
